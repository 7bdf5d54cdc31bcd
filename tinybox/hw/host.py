"""A machine as files below a root, commands, and library values: real, recorded or twin, the drivers cannot tell.

With root "/" everything is live. With another root commands and library values are replayed from files in the same
folder (`commands/`, `library/`), except for the commands named in `live`, which run for real. What could not be read
on the day of a recording is a folder there, with the reason in its file `.unreadable`.
"""

import errno
import json
import os
import re
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinybox.core.errors import HardwareError
from tinybox.hw.kmsg import Kmsg

COMMAND_TIMEOUT_S = 10.0
ATTRIBUTE_BYTES = 8192
UNREADABLE = ".unreadable"
GONE = (errno.ENOENT, errno.ENODEV, errno.ESTALE, errno.ENXIO, errno.EBADF, errno.ENOTCONN)


class AbsentError(HardwareError):
    """The file or device is not there at all, as opposed to not answering."""


@dataclass(frozen=True, slots=True)
class PsutilValues:
    """What psutil says of processor and memory."""

    cpu_percent: float
    cpu_count_logical: int
    cpu_count_physical: int
    memory_total_bytes: int
    memory_used_bytes: int


def command_slug(argv: Sequence[str]) -> str:
    """The file name under which a command's output is recorded."""
    return re.sub(r"[^A-Za-z0-9.=-]+", "_", "_".join(argv)).strip("_")


class Attribute:
    """One sysfs attribute, its descriptor kept open: reading it again is a single `pread`."""

    __slots__ = ("_descriptor", "_path")

    def __init__(self, path: str) -> None:
        self._path = path
        self._descriptor = -1

    def read(self) -> str:
        """Its text without surrounding white space. Raises AbsentError or HardwareError."""
        return self.read_bytes().decode("ascii", "replace").strip()

    def read_bytes(self) -> bytes:
        """What it says, as it is. Raises AbsentError or HardwareError."""
        try:
            if self._descriptor < 0:
                self._descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
            return os.pread(self._descriptor, ATTRIBUTE_BYTES, 0)
        except OSError as error:
            self.close()
            raise _as_hardware_error("read", self._path, error) from None

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Let the descriptor go; the next read opens a new one."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class Host:
    """The one way drivers reach a machine."""

    def __init__(self, root: Path = Path("/"), live: frozenset[str] = frozenset()) -> None:
        self.root = root
        self.live = live

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> "Host":
        """`TINYBOX_ROOT` and `TINYBOX_LIVE` (commands, comma-separated), else this machine."""
        live = frozenset(filter(None, environment.get("TINYBOX_LIVE", "").split(",")))
        return cls(Path(environment.get("TINYBOX_ROOT", "/")), live)

    @property
    def is_real(self) -> bool:
        """Whether this is the machine we run on, with nothing replayed."""
        return self.root == Path("/")

    @property
    def mounts_path(self) -> str:
        """The mounts of the process that looks; a recording keeps them under no process's name."""
        return "proc/self/mountinfo" if self.is_real else "proc/mountinfo"

    def path(self, relative: str) -> str:
        """Where a file of the machine lies in our own file system."""
        return os.path.join(self.root, relative.lstrip("/"))  # noqa: PTH118 - a string: made for every attribute

    def attribute(self, relative: str) -> Attribute:
        """A file to be read again and again."""
        return Attribute(self.path(relative))

    def exists(self, relative: str) -> bool:
        """Whether the file is there."""
        return os.path.exists(self.path(relative))  # noqa: PTH110

    def read_text(self, relative: str) -> str:
        """The file's text, stripped. Raises AbsentError or HardwareError."""
        path = self.path(relative)
        try:
            with open(path, "rb", buffering=0) as file:  # noqa: PTH123
                return file.read().decode("utf-8", "replace").strip()
        except OSError as error:
            raise _as_hardware_error("read", path, error) from None

    def write_text(self, relative: str, text: str) -> None:
        """Write to a file that exists, in one write. Raises AbsentError or HardwareError."""
        path = self.path(relative)
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_TRUNC)
            try:
                os.write(descriptor, text.encode())
            finally:
                os.close(descriptor)
        except OSError as error:
            raise _as_hardware_error(f"write {text.strip()!r} to", path, error) from None

    def kmsg(self) -> Kmsg:
        """A reader of the kernel's log."""
        return Kmsg(self.path("dev/kmsg"))

    def list_dir(self, relative: str) -> tuple[str, ...]:
        """Names in a folder, sorted; empty when it is not there or cannot be listed: then nothing is found in it."""
        try:
            return tuple(sorted(os.listdir(self.path(relative))))  # noqa: PTH208
        except OSError:
            return ()

    def resolve(self, relative: str) -> str:
        """The path with links followed, again relative to the root."""
        resolved = Path(self.path(relative)).resolve()
        root = self.root.resolve()
        return str(resolved.relative_to(root)) if resolved.is_relative_to(root) else str(resolved)

    def link(self, relative: str) -> str:
        """What a link says, not followed; empty where there is none, or none that we may read."""
        try:
            return os.readlink(self.path(relative))  # noqa: PTH115
        except OSError:
            return ""

    def is_writable(self, relative: str) -> bool:
        """Whether the file's mode lets anybody write: access(2) says yes to root whatever the driver takes."""
        try:
            return bool(os.stat(self.path(relative)).st_mode & 0o222)  # noqa: PTH116
        except OSError:
            return False

    def run(self, argv: Sequence[str], *, timeout_s: float = COMMAND_TIMEOUT_S, feed: str = "") -> str:
        """A command's standard output; `feed` is its input. Raises AbsentError if it is missing, else HardwareError."""
        if not self.is_real and argv[0] not in self.live:
            return self._replay(argv)
        words = " ".join(argv)
        try:
            done = subprocess.run(
                list(argv),
                input=feed,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=timeout_s,
                check=False,
                env={**os.environ, "LC_ALL": "C"},
            )
        except FileNotFoundError:
            raise AbsentError(f"cannot run '{words}': {argv[0]} is not installed") from None
        except subprocess.TimeoutExpired:
            raise HardwareError(f"'{words}' did not end within {timeout_s:g} s") from None
        except OSError as error:
            raise HardwareError(f"cannot run '{words}': {error.strerror}") from None
        if done.returncode != 0:
            said = (done.stderr.strip() or done.stdout.strip() or "it said nothing").splitlines()[0]
            raise HardwareError(f"'{words}' failed with {done.returncode}: {said}")
        return done.stdout

    def answer(self, argv: Sequence[str], ask: Callable[[], Any]) -> Any:
        """A service's answer as JSON: by asking, or recorded like a command's output. Raises HardwareError."""
        if self.is_real or argv[0] in self.live:
            return ask()
        try:
            return json.loads(self._replay(argv))
        except ValueError as error:
            raise HardwareError(f"the recorded answer of '{' '.join(argv)}' is not JSON: {error}") from None

    def psutil(self) -> PsutilValues:
        """Processor and memory as psutil counts them, live or recorded."""
        if not self.is_real:
            try:
                return PsutilValues(**self._library("psutil"))
            except TypeError as error:
                raise HardwareError(f"{self.path('library/psutil.json')}: {error}") from None
        import psutil

        memory = psutil.virtual_memory()
        return PsutilValues(
            cpu_percent=psutil.cpu_percent(interval=None),
            cpu_count_logical=psutil.cpu_count(logical=True) or 1,
            cpu_count_physical=psutil.cpu_count(logical=False) or 1,
            memory_total_bytes=memory.total,
            memory_used_bytes=memory.used,
        )

    def addresses(self) -> dict[str, tuple[str, ...]]:
        """IP addresses by network interface, live or recorded. Raises HardwareError."""
        if not self.is_real:
            recorded = self._library("addresses")
            return {str(name): tuple(map(str, found)) for name, found in recorded.items() if isinstance(found, list)}
        import socket

        import psutil

        families = (socket.AF_INET, socket.AF_INET6)
        return {
            name: tuple(one.address for one in found if one.family in families)
            for name, found in psutil.net_if_addrs().items()
        }

    def space(self, mount: str) -> tuple[int | None, int | None]:
        """Size and free bytes of what is mounted there, live or recorded; None where nobody knows."""
        if not self.is_real and not self._mounts_are_live():
            return self._recorded_space(mount)
        try:
            space = os.statvfs(mount)
        except OSError:
            return None, None
        return space.f_blocks * space.f_frsize, space.f_bavail * space.f_frsize

    def _mounts_are_live(self) -> bool:
        """Whether this root shows our own mounts: a twin in a machine with real storage does."""
        return self.resolve(self.mounts_path).startswith("/proc/")

    def _recorded_space(self, mount: str) -> tuple[int | None, int | None]:
        try:
            size_bytes, free_bytes = self._library("space")[mount]
        except (HardwareError, KeyError, TypeError, ValueError):
            return None, None
        return size_bytes, free_bytes

    def _replay(self, argv: Sequence[str]) -> str:
        path = f"commands/{command_slug(argv)}"
        try:
            return self.read_text(path)
        except AbsentError:
            raise AbsentError(f"'{' '.join(argv)}' is not recorded in {self.path(path)}") from None
        except HardwareError as error:
            raise HardwareError(_recorded_reason(self.path(path)) or str(error)) from None

    def _library(self, name: str) -> dict[str, Any]:
        path = f"library/{name}.json"
        try:
            loaded = json.loads(self.read_text(path))
        except (ValueError, RecursionError) as error:
            raise HardwareError(f"{self.path(path)}: not valid JSON: {error}") from None
        if not isinstance(loaded, dict):
            raise HardwareError(f"{self.path(path)}: not a JSON object")
        return loaded


def _as_hardware_error(verb: str, path: str, error: OSError) -> HardwareError:
    kind = AbsentError if error.errno in GONE else HardwareError
    reason = _recorded_reason(path) if error.errno == errno.EISDIR else None
    return kind(f"cannot {verb} {path}: {reason or (error.strerror or str(error)).lower()}")


def _recorded_reason(path: str) -> str | None:
    try:
        with open(f"{path}/{UNREADABLE}", encoding="utf-8", errors="replace") as file:  # noqa: PTH123
            return file.read().strip()
    except OSError:
        return None
