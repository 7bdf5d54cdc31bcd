"""The package in clean roots of both Debians: installed, at work, upgraded while it governs, purged without a trace."""

import json
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from provisioning.mirror import debian_mirror
from tests.conftest import PATIENCE_S
from tests.provisioning.roots import Root, base_of, opened
from tests.provisioning.test_package import build
from tinybox import __version__

SUITES = ("bookworm", "trixie")
NEXT = "99.0"
IMPORTS = """
import importlib, importlib.machinery, pathlib, sys
tree = pathlib.Path("/usr/lib/tinybox")
sys.path.insert(0, str(tree))
suffixes = tuple(importlib.machinery.EXTENSION_SUFFIXES[:2])
compiled = {path.relative_to(tree).parts[0] for path in tree.rglob("*.so") if path.name.endswith(suffixes)}
for name in compiled:
    importlib.import_module(name)
    assert any(getattr(module, "__file__", None) and module.__file__.startswith(f"{tree}/{name}/")
               and module.__file__.endswith(suffixes) for module in sys.modules.values()), name
print(*sorted(compiled))
"""


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package of this checkout, and the same with a higher version."""
    folder = tmp_path_factory.mktemp("packages")
    package = build(folder)
    package.rename(folder / "tinybox.deb")
    raise_version(folder / "tinybox.deb", tmp_path_factory.mktemp("next") / "tree", folder / "next.deb")
    return folder


def raise_version(package: Path, tree: Path, out: Path) -> None:
    subprocess.run(["dpkg-deb", "-R", package, tree], check=True, timeout=60)
    for name in ("DEBIAN/control", "usr/lib/tinybox/tinybox/__init__.py"):
        path = tree / name
        path.write_text(path.read_text().replace(__version__, NEXT))
    subprocess.run(["dpkg-deb", "-Znone", "-b", tree, out], check=True, timeout=60, stdout=subprocess.DEVNULL)


@pytest.fixture(params=SUITES)
def root(request: pytest.FixtureRequest, tmp_path: Path, packages: Path) -> Iterator[Root]:
    with opened(base_of(debian_mirror(request.param)), tmp_path, packages) as root:
        yield root


def install(root: Root, package: str) -> None:
    root.call("apt-get", "install", "--yes", "--quiet", f"/mnt/{package}")


def with_twin(root: Root) -> Root:
    """The same root, its programs pointed at a twin that now runs in it."""
    root.call("tinybox", "twin", "up")
    names = [line.split("=")[0].removeprefix("export ") for line in root.call("tinybox", "twin", "env").splitlines()]
    shown = root.call("sh", "-c", 'eval "$(tinybox twin env)" && env').splitlines()
    pairs = (line.partition("=") for line in shown)
    return replace(root, environment={key: value for key, _, value in pairs if key in names})


def governed(root: Root) -> dict[str, Any]:
    """The daemon's status, once it answers; all six cards have a grant of its making."""
    deadline_s = time.monotonic() + PATIENCE_S
    while (document := json.loads(root.call("tinybox", "status", "--json")))["source"] != "daemon":
        assert time.monotonic() < deadline_s, "the daemon did not come up"
        time.sleep(0.2)
    assert len(document["gpus"]) == 6
    assert all(gpu["grant_w"] is not None for gpu in document["gpus"])
    assert isinstance(document, dict)
    return document


@pytest.mark.twin
@pytest.mark.timeout(420)  # the first run builds the root
def test_it_installs_governs_is_upgraded_at_work_and_is_purged_without_a_trace(root: Root) -> None:
    before = root.listing()
    install(root, "tinybox.deb")
    assert root.call("tinybox", "--version") == f"tinybox, version {__version__}\n"
    twin = with_twin(root)
    daemon = twin.start("tinyboxd")
    governed(twin)
    caps = [cap.read_text() for cap in twin_caps(twin)]
    assert len(caps) == 6

    install(twin, "next.deb")
    assert root.call("tinybox", "--version") == f"tinybox, version {NEXT}\n"
    assert daemon.poll() is None
    governed(twin)
    assert [cap.read_text() for cap in twin_caps(twin)] == caps, "an upgrade lifts nothing"

    twin.call("sh", "-c", 'kill "$(cat "$TINYBOX_RUN_DIR/tinyboxd.lock")"')
    assert daemon.wait(timeout=PATIENCE_S) == 0
    twin.call("tinybox", "twin", "down")
    assert root.listing() - before, "nothing was installed: the comparison proves nothing"
    root.call("apt-get", "purge", "--yes", "--quiet", "tinybox")
    after = root.listing()
    assert sorted(after - before) == []
    assert sorted(before - after) == []


def twin_caps(twin: Root) -> list[Path]:
    return sorted(twin.path(twin.environment["TINYBOX_ROOT"]).glob("sys/class/drm/card?/device/hwmon/*/power1_cap"))


def test_every_compiled_dependency_loads_in_the_roots_own_python(root: Root) -> None:
    install(root, "tinybox.deb")
    assert root.call("python3", "-I", "-c", IMPORTS).split() == ["psutil", "pyamdgpuinfo", "zstandard"]


@pytest.mark.parametrize("root", ["trixie"], indirect=True)
@pytest.mark.parametrize(
    ("shell", "folder"), [("zsh", "zsh/vendor-completions"), ("fish", "fish/vendor_completions.d")]
)
def test_completions_are_sound_to_their_shell(root: Root, shell: str, folder: str) -> None:
    root.call("sh", "-c", "dpkg-deb -x /mnt/tinybox.deb /tmp/unpacked")
    scripts = root.call("find", f"/tmp/unpacked/usr/share/{folder}", "-type", "f").splitlines()
    assert len(scripts) >= 4
    for script in scripts:
        done = root.run(shell, "-n", script)
        assert (done.returncode, done.stdout + done.stderr) == (0, "")
