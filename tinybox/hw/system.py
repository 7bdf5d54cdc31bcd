"""The operating system, and what the host remembers of its own troubles (docs/protocol/system.md).

Files are read every round, what takes a process twice a minute.
"""

import contextlib
import json
from dataclasses import replace

from tinybox.core.errors import HardwareError
from tinybox.core.snapshot import Fault, Filesystem, System
from tinybox.hw.figures import positive, whole
from tinybox.hw.host import AbsentError, Host
from tinybox.hw.mounts import read_mounts

PSTORE = ("sys/fs/pstore", "var/lib/systemd/pstore")
EDAC = "sys/devices/system/edac/mc"
TIMEOUT_S = 5.0
COMMANDS_PERIOD_S = 30.0
CLOCK = ("timedatectl", "show", "--property=NTPSynchronized", "--value")
FAILED = ("systemctl", "list-units", "--state=failed", "--plain", "--no-legend", "--no-pager")
# systemd, sd-messages.h: the journal was started, the journal was stopped
JOURNAL_START, JOURNAL_STOP = "f77379a8490b408bbe5f6940505a777b", "d93fb3c9c24d451a97cea615ce59c00b"
BOOTS = (
    *("journalctl", "--since=-2days", "--output=json", "--output-fields=MESSAGE_ID", "--no-pager", "--quiet"),
    *(f"MESSAGE_ID={JOURNAL_START}", f"MESSAGE_ID={JOURNAL_STOP}"),
)
MOUNTS_WATCHED = ("/", "/boot", "/boot/efi", "/efi")


class SystemDriver:
    """Reads the host's own state; `mounts` are watched besides those of the system."""

    def __init__(self, host: Host, mounts: tuple[str, ...] = ()) -> None:
        self._host = host
        self._mounts = (*MOUNTS_WATCHED, *mounts)
        self._kept = System()
        self._faults: dict[str, Fault] = {}
        self._due_s = float("-inf")

    def read(self, now_s: float) -> tuple[System, tuple[Fault, ...]]:
        """All of it; what could not be read is None, with a fault where that is no matter of course."""
        if now_s >= self._due_s:
            self._due_s = now_s + COMMANDS_PERIOD_S
            self._kept = System(
                is_clock_synced=self._clock(), failed_units=self._failed_units(), unclean_boots=self._unclean_boots()
            )
        corrected, uncorrected = self._memory_errors()
        system = replace(
            self._kept,
            uptime_s=self._uptime_s(),
            crash_records=tuple(sorted({name for folder in PSTORE for name in self._host.list_dir(folder)})),
            memory_corrected=corrected,
            memory_uncorrected=uncorrected,
            filesystems=self._filesystems(),
        )
        return system, tuple(self._faults.values())

    def _uptime_s(self) -> float | None:
        return positive(self._text("proc/uptime"))

    def _memory_errors(self) -> tuple[int | None, int | None]:
        """What ECC counted, over all controllers; None without a driver for them."""
        counts = []
        for name in ("ce_count", "ue_count"):
            told = [whole(self._text(f"{EDAC}/{controller}/{name}")) for controller in self._host.list_dir(EDAC)]
            found = [count for count in told if count is not None]
            counts.append(sum(found) if found else None)
        return counts[0], counts[1]

    def _filesystems(self) -> tuple[Filesystem, ...] | None:
        """Those that are mounted of the watched ones."""
        try:
            mounts = {mount.place: mount for mount in read_mounts(self._host) if mount.place in self._mounts}
        except HardwareError:
            return None
        found = []
        for mount in mounts.values():
            size_bytes, free_bytes = self._host.space(mount.place)
            if size_bytes and free_bytes is not None:
                found.append(Filesystem(mount.place, size_bytes, free_bytes, mount.is_read_only))
        return tuple(found)

    def _clock(self) -> bool | None:
        text = self._run(CLOCK)
        return None if text is None else text.strip() == "yes"

    def _failed_units(self) -> tuple[str, ...] | None:
        text = self._run(FAILED)
        return None if text is None else tuple(line.split()[0] for line in text.splitlines() if line.split())

    def _unclean_boots(self) -> int | None:
        """Boots of the last two days, but for this one, whose journal began and was not stopped at the end."""
        text = self._run(BOOTS)
        if text is None:
            return None
        last: dict[str, str] = {}
        for line in text.splitlines():
            with contextlib.suppress(ValueError, KeyError, TypeError):
                entry = json.loads(line)
                last.pop(boot := str(entry["_BOOT_ID"]), None)
                last[boot] = str(entry["MESSAGE_ID"])
        this_boot = next(reversed(last), None)  # its journal is the newest to have begun
        return sum(message == JOURNAL_START for boot, message in last.items() if boot != this_boot)

    def _run(self, argv: tuple[str, ...]) -> str | None:
        """A command's output; a machine without the command is no fault."""
        self._faults.pop(argv[0], None)
        try:
            return self._host.run(argv, timeout_s=TIMEOUT_S)
        except AbsentError:
            return None
        except HardwareError as error:
            self._faults[argv[0]] = Fault("host", str(error))
            return None

    def _text(self, path: str) -> str:
        with contextlib.suppress(HardwareError):
            return self._host.read_text(path)
        return ""
