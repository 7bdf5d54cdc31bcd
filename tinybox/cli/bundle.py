"""A folder or an archive, whole or not at all: made beside its place under another name, then renamed."""

import contextlib
import io
import signal
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FrameType

from tinybox.core.errors import TinyboxError

SUFFIX = ".tar.zst"
LEVEL = 10
ENDINGS = (signal.SIGTERM, signal.SIGHUP)


def refuse_taken(folder: Path | None, archive: Path | None) -> None:
    """Raises TinyboxError where something is in the way, before any work is done."""
    if folder is not None and folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise TinyboxError(f"{folder} is there and not empty", hint="name a folder that does not exist yet")
    if archive is not None and archive.exists():
        raise TinyboxError(f"{archive} is there already", hint="name a file that does not exist yet")
    for path in filter(None, (folder, archive)):
        if not path.absolute().parent.is_dir():
            raise TinyboxError(
                f"cannot write {path}: no such folder above it", hint="make that folder, or name another"
            )


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Whatever ends us ends us in good order: what is half made is taken away. Raises TinyboxError then."""

    def stop(number: int, _: FrameType | None) -> None:
        raise KeyboardInterrupt(number)

    before = {number: signal.signal(number, stop) for number in ENDINGS}
    try:
        yield
    except KeyboardInterrupt:
        raise TinyboxError("interrupted: nothing was written", hint="run it again") from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def staging(place: Path) -> Iterator[Path]:
    """A new folder beside `place`, gone at the end with what is left in it. Raises TinyboxError if writing fails."""
    try:
        with tempfile.TemporaryDirectory(prefix=f".{place.name}.", dir=place.absolute().parent) as folder:
            yield Path(folder)
    except BrokenPipeError:
        raise  # the reader of our words left; main knows
    except OSError as error:
        hint = "make room or name another place; a file system without links takes only --archive"
        raise TinyboxError(f"cannot write {place}: {(error.strerror or str(error)).lower()}", hint=hint) from None


def write_tree(folder: Path, files: Mapping[str, str], links: Mapping[str, str], folders: frozenset[str]) -> None:
    """Text files, links and folders below a new `folder`. Raises OSError."""
    folder.mkdir()
    for name in sorted(folders):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    for name, target in links.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(target)


def deliver(tree: Path, folder: Path | None, archive: Path | None) -> None:
    """Put what was staged in its places. Raises OSError or TinyboxError; then it is in neither."""
    is_packed = False
    try:
        if archive is not None:
            with staging(archive) as beside:
                _pack(tree, archive.name.removesuffix(SUFFIX), beside / "packed")
                (beside / "packed").rename(archive)
                is_packed = True
        if folder is not None:
            tree.rename(folder)
    except BaseException:  # an interruption too
        if archive is not None and is_packed:
            archive.unlink()
        raise


def _pack(tree: Path, name: str, path: Path) -> None:
    """The tree as an archive with one folder `name`: the same tree gives the same bytes."""
    try:
        import zstandard
    except ImportError:
        hint = "'pip install zstandard', or leave --archive away and pack the folder yourself"
        raise TinyboxError("cannot pack: Python's zstandard is not installed", hint=hint) from None
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for member in (tree, *sorted(tree.rglob("*"))):
            tar.add(member, arcname=str(name / member.relative_to(tree)), recursive=False, filter=_plain)
    path.write_bytes(zstandard.ZstdCompressor(level=LEVEL).compress(packed.getvalue()))


def _plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """Nobody's, and of no time."""
    member.uid = member.gid = member.mtime = 0
    member.uname = member.gname = ""
    member.mode = 0o755 if member.isdir() else 0o644
    return member
