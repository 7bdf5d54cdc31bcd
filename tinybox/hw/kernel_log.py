"""What the kernel's log says of cards, drives and the host: the lines of the last ten minutes that matter."""

import contextlib
import os
import re
from collections import deque

from tinybox.core.errors import HardwareError
from tinybox.core.snapshot import Fault, KernelLine
from tinybox.hw.figures import positive
from tinybox.hw.host import Host

KEPT_S = 600.0
MOST_LINES = 300  # the newest: a storm says the same a thousand times
MOST_CHARACTERS = 500
MATTERS = re.compile(
    r"NVRM|amdgpu|\[drm|\bi915\b|\bxe \d|GPU HANG|fallen off the bus|device lost|"
    r"nvme|md/raid|\bmd\d+:|EXT4-fs|XFS \(|BTRFS|Remounting filesystem|I/O error|superblock|"
    r"pcieport|\bAER\b|insufficient power|Hardware Error|\bmce:|EDAC|Machine check|"
    r"oom-kill|Out of memory|soft lockup|hard LOCKUP|hung_task|blocked for more than|self-detected stall|"
    r"Kernel panic|Oops|BUG:|general protection fault|Unable to handle kernel|file-max limit",
    re.IGNORECASE,
)


class KernelLog:
    """Follows the log of one host."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._kmsg = host.kmsg()
        self._lines: deque[KernelLine] = deque(maxlen=MOST_LINES)

    def read(self) -> tuple[tuple[KernelLine, ...], tuple[Fault, ...]]:
        """Lines, oldest first. A log that only root may read is no fault to anybody else."""
        try:
            records, is_void = self._kmsg.read()
        except FileNotFoundError:
            return (), ()
        except OSError as error:
            self._kmsg.close()
            is_ours = os.geteuid() == 0
            reason = f"the kernel's log is unreadable: {(error.strerror or str(error)).lower()}"
            return (), ((Fault("kernel", reason),) if is_ours else ())
        if is_void:
            self._lines.clear()
        for record in records:
            if MATTERS.search(record.text):
                self._lines.append(KernelLine(record.time_us / 1e6, record.level, record.text[:MOST_CHARACTERS]))
        now_s = self._uptime_s()
        while self._lines and now_s is not None and self._lines[0].time_s < now_s - KEPT_S:
            self._lines.popleft()
        return tuple(self._lines), ()

    def close(self) -> None:
        """Let the log go; a later look begins at its oldest record."""
        self._kmsg.close()

    def _uptime_s(self) -> float | None:
        with contextlib.suppress(HardwareError):
            return positive(self._host.read_text("proc/uptime"))
        return None
