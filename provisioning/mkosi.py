"""mkosi, the program that turns the recipe into a disk: found here, or taken from Debian's own archive."""

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from provisioning.archive import unpack
from provisioning.mirror import cache_folder, debian_mirror
from tinybox.core.errors import TinyboxError

LEAST_VERSION = 25
SYSTEM_PYTHON = "/usr/bin/python3"


def mkosi_command() -> list[str]:
    """The words that run mkosi 25 or newer. Raises TinyboxError when there is no way to have it."""
    if (installed := shutil.which("mkosi")) is not None and _major(installed) >= LEAST_VERSION:
        return [installed]
    unpacked = cache_folder() / "mkosi"
    if not (unpacked / "usr/lib/python3/dist-packages/mkosi").exists():
        unpack(debian_mirror(), ("mkosi",), unpacked)
    return ["env", f"PYTHONPATH={unpacked}/usr/lib/python3/dist-packages", SYSTEM_PYTHON, "-m", "mkosi"]


def _major(program: str) -> int:
    done = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=30, check=False)
    words = done.stdout.split()
    return int(words[-1].split(".")[0]) if words and words[-1][0].isdigit() else 0


def run_mkosi(arguments: Sequence[str], *, folder: Path, log: Path | None, timeout_s: float = 3600) -> str:
    """Run mkosi on a recipe's folder; its output. Raises TinyboxError with the log's last words when it fails."""
    command = [*mkosi_command(), "--directory", str(folder), *arguments]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=timeout_s, check=False
    )
    if log is not None:
        log.write_text(done.stdout)
    if done.returncode != 0:
        said = [line for line in done.stdout.splitlines() if line.strip()][-3:]
        hint = f"the whole log is {log}" if log else "run it by hand to see more"
        raise TinyboxError(f"mkosi failed with {done.returncode}: {' / '.join(said)}", hint=hint)
    return done.stdout
