"""Unpack the wheels of requirements.lock into one folder that serves every Python of the package.

usage: .venv/bin/python packaging/wheels.py FOLDER

Each Python's set is fetched and checked by hash by pip; the sets are laid over each other. Compiled files carry the
ABI in their names, so they lie side by side; whatever code has one name has to have one content.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from packaging.requirements import Requirement

REPO = Path(__file__).resolve().parent.parent
# Debian 12, Ubuntu 24.04, Debian 13; control says the same to apt.
PYTHONS = ("3.11", "3.12", "3.13")
# The oldest C library among them is 2.36.
PLATFORMS = ("any", "manylinux_2_34_x86_64", "manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")
# RECORD names files by the folder they were unpacked in, WHEEL one of several Pythons: nobody reads them any more.
UNPACKING_NOTES = ("RECORD", "WHEEL")


def main() -> None:
    """Fetch, merge, strip."""
    target = Path(sys.argv[1])
    target.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as work:
        for python in PYTHONS:
            fresh = Path(work, python)
            fetch(python, fresh)
            merge(fresh, target)
    strip(target)


def requirements_for(python: str, lock: str) -> str:
    """The lock as one Python on Linux reads it: pip would ask the markers about the Python it runs on."""
    environment = {"python_version": python, "python_full_version": f"{python}.0", "implementation_name": "cpython"}
    environment |= {
        "sys_platform": "linux",
        "platform_system": "Linux",
        "platform_machine": "x86_64",
        "os_name": "posix",
    }
    kept = []
    for line in re.sub(r"\\\n", "", re.sub(r"^#.*\n", "", lock, flags=re.MULTILINE)).splitlines():
        words, *hashes = line.split("--hash=")
        requirement = Requirement(words.strip())
        if requirement.marker is None or requirement.marker.evaluate(environment):
            pin = f"{requirement.name}{requirement.specifier}"
            kept.append(" ".join([pin, *(f"--hash={value.strip()}" for value in hashes)]))
    return "\n".join(kept) + "\n"


def fetch(python: str, fresh: Path) -> None:
    """One Python's set, unpacked. pip takes nothing whose hash is not in the lock."""
    requirements = fresh.with_suffix(".txt")
    requirements.write_text(requirements_for(python, (REPO / "requirements.lock").read_text()))
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-compile", "--require-hashes"]
    command += ["--only-binary=:all:", f"--python-version={python}", "--implementation=cp"]
    command += [f"--abi={abi}" for abi in (f"cp{python.replace('.', '')}", "abi3", "none")]
    command += [f"--platform={platform}" for platform in PLATFORMS]
    command += [f"--target={fresh}", f"--requirement={requirements}"]
    subprocess.run(command, check=True, timeout=600, stdout=sys.stderr)
    shutil.rmtree(fresh / "bin", ignore_errors=True)
    for notes in fresh.glob("*.dist-info/*"):
        if notes.name in UNPACKING_NOTES:
            notes.unlink()


def merge(fresh: Path, target: Path) -> None:
    """Lay one set over the others; ends the program where two contents want one name."""
    for path in sorted(fresh.rglob("*")):
        there = target / path.relative_to(fresh)
        if path.is_dir():
            there.mkdir(parents=True, exist_ok=True)
        elif not there.exists():
            shutil.copy(path, there)
        elif there.read_bytes() != path.read_bytes() and not is_note(path):
            sys.exit(f"wheels: {path.relative_to(fresh)} differs between Pythons\n  one folder cannot serve them all")


def is_note(path: Path) -> bool:
    """Whether a file is about a wheel (its bill of materials, say), not of its code: the first will do."""
    return any(folder.suffix == ".dist-info" for folder in path.parents)


def strip(target: Path) -> None:
    """Without debug symbols, which some wheels carry twelve times their code of."""
    compiled = sorted(path for path in target.rglob("*.so*") if path.is_file())
    if shutil.which("strip") is None:
        print("no strip (binutils): the package will be larger", file=sys.stderr)
        return
    subprocess.run(["strip", "--strip-debug", *compiled], check=True, timeout=120, env={**os.environ, "LC_ALL": "C"})


if __name__ == "__main__":
    main()
