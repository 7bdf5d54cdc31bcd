"""Where an artefact's bytes come from: a file, or a web server that knows ranges. Neither is believed: hashes judge."""

import http.client
import os
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from tinybox.core.errors import TinyboxError

ANSWER_S = 30.0  # a server that says nothing for so long is asked again
TRIES = 4


class Source(Protocol):
    """Bytes by offset. `size_bytes` is None where the holder does not tell."""

    @property
    def name(self) -> str: ...

    @property
    def size_bytes(self) -> int | None: ...

    def read(self, offset: int, length: int) -> bytes:
        """So many bytes, fewer only at the end. Reading on is cheap, going back is allowed. Raises TinyboxError."""

    def close(self) -> None: ...


class FileSource:
    """A file."""

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        try:
            self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            self.size_bytes: int | None = os.lseek(self._file, 0, os.SEEK_END)
        except OSError as error:
            raise TinyboxError(f"cannot read {path}: {error.strerror}", hint="is that the artefact?") from None

    def read(self, offset: int, length: int) -> bytes:
        """See Source."""
        pieces = []
        try:
            while length > 0 and (piece := os.pread(self._file, length, offset)):
                pieces.append(piece)
                offset, length = offset + len(piece), length - len(piece)
        except OSError as error:
            raise TinyboxError(f"cannot read {self.name} at byte {offset:,}: {error.strerror}") from None
        return b"".join(pieces)

    def close(self) -> None:
        """No more reading."""
        os.close(self._file)


class HttpSource:
    """A file on a web server, read as one stream; a stream that breaks goes on where it broke."""

    def __init__(self, url: str, *, answer_s: float = ANSWER_S) -> None:
        self.name = url
        self._answer_s = answer_s
        self._stream: http.client.HTTPResponse | None = None
        self._at = 0
        self.size_bytes: int | None = None
        self._again(lambda: self._open(0))

    def read(self, offset: int, length: int) -> bytes:
        """See Source."""
        got = bytearray()

        def go_on() -> None:
            if self._stream is None or self._at != offset + len(got):
                self._open(offset + len(got))
            while len(got) < length and self._stream is not None:
                piece = self._stream.read(min(2**20, length - len(got)))
                if not piece:
                    if self.size_bytes is not None and self._at < self.size_bytes:
                        raise http.client.IncompleteRead(b"")
                    return
                got.extend(piece)
                self._at += len(piece)

        self._again(go_on)
        return bytes(got)

    def _again(self, step: Callable[[], None]) -> None:
        """Do it, up to so many times; each try goes on where the last one broke."""
        for attempt in range(1, TRIES + 1):
            try:
                step()
                return
            except urllib.error.HTTPError as error:
                if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                    raise TinyboxError(f"{self.name} is cut off: nothing from byte {self._at:,} on") from None
                if error.code < 500 or attempt == TRIES:
                    why = f"{error.code} {error.reason}"
                    raise TinyboxError(f"cannot fetch {self.name}: {why}", hint="is the address right?") from None
            except (OSError, http.client.HTTPException) as error:
                if attempt == TRIES:
                    hint = "is the server up? what was written stays: run it again and it goes on"
                    raise TinyboxError(f"cannot fetch {self.name}: {_words(error)}", hint=hint) from None
            except ValueError as error:  # what is no address
                raise TinyboxError(f"cannot fetch {self.name}: {error}") from None
            self.close()

    def _open(self, offset: int) -> None:
        """A stream from `offset` on."""
        self.close()
        self._at = offset
        request = urllib.request.Request(
            self.name, headers={"Range": f"bytes={offset}-", "Accept-Encoding": "identity"}
        )
        stream = urllib.request.urlopen(request, timeout=self._answer_s)
        if not isinstance(stream, http.client.HTTPResponse):
            raise ValueError("only http and https are fetched")
        if stream.status == http.HTTPStatus.PARTIAL_CONTENT:
            begins, total = _range(stream.headers.get("Content-Range", ""))
            if begins != offset:
                raise http.client.HTTPException(f"it answered from byte {begins}, asked for {offset}")
        else:
            begins, length = 0, stream.headers.get("Content-Length", "")
            total = int(length) if length.isdigit() else None
        if self.size_bytes is not None and total not in (None, self.size_bytes):
            raise TinyboxError(f"{self.name} changed on the server while it was read", hint="run it again")
        self.size_bytes = total if total is not None else self.size_bytes
        while begins < offset:  # a server that knows no ranges starts anew
            skipped = len(stream.read(min(2**20, offset - begins)))
            if skipped == 0:
                raise http.client.IncompleteRead(b"")
            begins += skipped
        self._stream = stream

    def close(self) -> None:
        """No more of this stream."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None


def _range(header: str) -> tuple[int, int | None]:
    """(first byte, size of the whole) from a Content-Range (RFC 9110, 14.4)."""
    span, _, total = header.removeprefix("bytes ").partition("/")
    first = span.partition("-")[0]
    if not first.isdigit():
        raise http.client.HTTPException(f"Content-Range is '{header}'")
    return int(first), int(total) if total.isdigit() else None


def _words(error: BaseException) -> str:
    reason = getattr(error, "reason", error)
    if isinstance(reason, TimeoutError):
        return "no answer in time"
    if isinstance(reason, http.client.IncompleteRead):
        return "the connection ended early"
    return str(getattr(reason, "strerror", None) or reason or type(error).__name__)


def open_source(where: str) -> Source:
    """A path, or an address that begins with http. Raises TinyboxError."""
    if where.startswith(("http://", "https://")):
        return HttpSource(where)
    return FileSource(Path(where))
