"""The recorded red box, and a copy of it that may be written to."""

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tinybox.hw.host import Host

RECORDED = Path(__file__).parent.parent / "recordings/red"
# What a driver may do only to the machine it was given: files, folders, processes, sockets, libraries.
TOUCHES = {"open", "os.listdir", "os.scandir", "subprocess.Popen", "socket.connect", "ctypes.dlopen", "os.system"}
_watch: list[str] | None = None


def _audit(event: str, arguments: tuple[object, ...]) -> None:
    if _watch is not None and event in TOUCHES:
        _watch.append(f"{event} {arguments[0]}")


sys.addaudithook(_audit)


@contextmanager
def watching() -> Iterator[list[str]]:
    """Everything that is opened, listed, started or connected meanwhile, by this process."""
    global _watch
    _watch = []
    try:
        yield _watch
    finally:
        _watch = None


@pytest.fixture
def recorded() -> Host:
    """The recorded red box: six cards under work, as they were on that day."""
    return Host(RECORDED)


@pytest.fixture
def copy(tmp_path: Path) -> Host:
    """The recorded box as files of the test's own, which it may change and write to."""
    shutil.copytree(RECORDED, tmp_path / "box", symlinks=True)
    for folder, _, names in os.walk(tmp_path / "box"):
        for name in names:
            path = Path(folder) / name
            if not path.is_symlink():
                path.chmod(0o644)
    return Host(tmp_path / "box")
