"""The files of the data array: what there is, and copied to another disk, whatever cannot be read."""

import os
import re
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tinybox.core.contents import Entry
from tinybox.core.errors import HardwareError, TinyboxError

DEPTH = 2  # folders below this are counted as part of the one above
PERCENT = re.compile(r"\s(\d{1,3})%\s")
# rsync(1): some files could not be transferred, or vanished meanwhile: the others were.
PARTIAL = (23, 24)
LOST = re.compile(
    r'rsync: \[\w+\] (?:read errors mapping|open|readlink\w*|opendir|send_files failed to open) "([^"]+)"'
)
ROOM = 1.01  # of what is to be copied: file systems differ in what a file takes


def measure(root: Path) -> tuple[Entry, ...]:
    """What lies below `root`, two levels deep, the largest first. Links are not followed, other mounts not entered."""
    try:
        device = root.stat().st_dev
    except OSError as error:
        raise TinyboxError(f"cannot look at {root}: {error.strerror}", hint="is the array mounted?") from None
    found: dict[str, tuple[int, int]] = {}
    for path, size_bytes in _files(str(root), device):
        name = "/".join(Path(path).relative_to(root).parts[:DEPTH])
        before_bytes, files = found.get(name, (0, 0))
        found[name] = (before_bytes + size_bytes, files + 1)
    entries = [Entry(path, size_bytes, files) for path, (size_bytes, files) in found.items()]
    return tuple(sorted(entries, key=lambda entry: (-entry.size_bytes, entry.path)))


def _files(folder: str, device: int) -> Iterator[tuple[str, int]]:
    """Every file that is no folder, with what it takes on the disk; what cannot be listed is left out."""
    folders = [folder]
    while folders:
        try:
            entries = list(os.scandir(folders.pop()))
        except OSError:
            continue
        for entry in entries:
            try:
                about = entry.stat(follow_symlinks=False)
            except OSError:
                continue
            if entry.is_dir(follow_symlinks=False):
                if about.st_dev == device:
                    folders.append(entry.path)
            else:
                yield entry.path, about.st_blocks * 512


def check_destination(source: Path, dest: Path) -> None:
    """Raises TinyboxError where a copy cannot go there: no folder, on the same disks, or too little room."""
    if not dest.is_dir():
        raise TinyboxError(f"{dest} is no folder", hint="make it, on a disk that is not part of the array")
    if not os.access(dest, os.W_OK):
        raise TinyboxError(f"cannot write to {dest}", hint="run it as root, or name a folder of yours")
    if dest.stat().st_dev == source.stat().st_dev:
        raise TinyboxError(f"{dest} lies on the array itself", hint="name a folder on another disk")
    there, used_bytes = os.statvfs(dest), sum(entry.size_bytes for entry in measure(source))
    copied_bytes = sum(entry.size_bytes for entry in measure(dest))  # an evacuation that goes on
    free_bytes = there.f_bavail * there.f_frsize + copied_bytes
    if used_bytes * ROOM > free_bytes:
        raise TinyboxError(
            f"{dest} has room for {free_bytes / 1e9:,.1f} GB, the array holds {used_bytes / 1e9:,.1f} GB",
            hint="name a larger disk, or delete what you can fetch again",
        )


@dataclass(frozen=True, slots=True)
class Copied:
    """How a copy ended: files, relative to the array, that could not be read or differ."""

    failed: tuple[str, ...]


def evacuate(source: Path, dest: Path, progress: Callable[[float], None], *, is_verified: bool) -> Copied:
    """Copy everything from one folder into the other, going on where an earlier copy ended; then compare.

    `progress` gets a share, 0 to 1. Files that cannot be read are left out and named. With `is_verified` every byte
    is compared, otherwise sizes and times. Raises HardwareError where the copy as a whole failed.
    """
    options = ("--archive", "--hard-links", "--acls", "--xattrs", "--numeric-ids", "--one-file-system", "--partial")
    failed = _rsync((*options, "--info=progress2", "--no-inc-recursive"), source, dest, progress)[1]
    progress(1.0)
    compare = ("--dry-run", "--itemize-changes", *(("--checksum",) if is_verified else ()))
    differing, unread = _rsync((*options, *compare), source, dest, lambda _: None)
    return Copied(tuple(sorted({*failed, *differing, *unread})))


def _rsync(
    options: tuple[str, ...], source: Path, dest: Path, progress: Callable[[float], None]
) -> tuple[set[str], set[str]]:
    """Run it; the files that it lists as different, and those that it could not read."""
    argv = ["rsync", *options, f"{source}/", f"{dest}/"]
    try:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            env={**os.environ, "LC_ALL": "C"},
        )
    except FileNotFoundError:
        raise TinyboxError("rsync is not installed", hint="'apt install rsync', then run it again") from None
    assert process.stdout is not None and process.stderr is not None
    # Its errors are few and short beside a pipe's 64 KiB unless a disk is nearly dead: read both as they come.
    listed, said = _read_both(process, progress)
    code = process.wait()
    lost = {os.path.relpath(name, source) for name in LOST.findall(said)}
    if code not in (0, *PARTIAL):
        reason = said.strip().splitlines()[0] if said.strip() else f"it ended with {code}"
        raise HardwareError(f"rsync to {dest}: {reason}")
    return {line.split(" ", 1)[1] for line in listed if line[:2] in (">f", "cd", "cL", "hf") and " " in line}, lost


def _read_both(process: "subprocess.Popen[str]", progress: Callable[[float], None]) -> tuple[list[str], str]:
    import threading

    said: list[str] = []
    assert process.stdout is not None and process.stderr is not None
    errors = process.stderr
    reader = threading.Thread(target=lambda: said.extend(errors), daemon=True)
    reader.start()
    listed: list[str] = []
    for line in _lines(process):
        if match := PERCENT.search(line):
            progress(int(match[1]) / 100)
        elif line.strip():
            listed.append(line)
    reader.join()
    return listed, "".join(said)


def _lines(process: "subprocess.Popen[str]") -> Iterator[str]:
    """Lines as they come; progress is written over itself, each time after a carriage return."""
    assert process.stdout is not None
    line = ""
    while char := process.stdout.read(1):
        if char in "\r\n":
            yield line
            line = ""
        else:
            line += char
    yield line
