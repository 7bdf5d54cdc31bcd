"""What a program of ours that runs at boot could not do: a line in a file, in every status until it is done."""

import contextlib
from pathlib import Path

from tinybox.core.errors import TinyboxError
from tinybox.core.snapshot import Fault
from tinybox.hw.host import Host


def one_line(error: TinyboxError) -> str:
    """The error for places that have one line, and no room for what a file's content may do to a terminal."""
    text = f"{error.message}; {error.hint}" if error.hint else error.message
    return "".join(c if c.isprintable() else "?" for c in text)


def leave_notice(run: Path, device: str, error: TinyboxError) -> None:
    """Keep the error for the status. Whoever may not write there has a terminal to read it on."""
    with contextlib.suppress(OSError):
        _folder(run).mkdir(parents=True, exist_ok=True)
        (_folder(run) / device).write_text(one_line(error) + "\n")


def clear_notice(run: Path, device: str) -> None:
    """It is done now."""
    with contextlib.suppress(OSError):
        (_folder(run) / device).unlink(missing_ok=True)


def read_notices(run: Path) -> tuple[Fault, ...]:
    """Every notice, as a fault of the device it is named after."""
    host = Host(_folder(run))
    return tuple(Fault(name, host.read_text(name)) for name in host.list_dir(""))


def _folder(run: Path) -> Path:
    return run / "notices"
