"""The operating system: what its kernel and its services complain of."""

import re
from collections.abc import Iterator

from tinybox.core.health import Status
from tinybox.core.snapshot import Severity
from tinybox.policy.checks.check import Answer, Check, Look, Step, crit, good, warn

PANIC = re.compile(r"Kernel panic|BUG: |Oops: |general protection fault|Unable to handle kernel", re.IGNORECASE)
TROUBLE = re.compile(
    r"soft lockup - CPU#|blocked for more than \d+ seconds|oom-kill:|Out of memory: Killed|"
    r"rcu_sched self-detected stall|Buffer I/O error|insufficient power on the PCIe slot",
    re.IGNORECASE,
)
BOOTS_A_DAY = 2


def kernel_log(look: Look) -> Iterator[Answer]:
    """Crashes and lock-ups of the last ten minutes."""
    for line in look.now.kernel:
        if PANIC.search(line.text):
            yield crit("kernel", line.text[:160], step=Step.REBOOT)
        elif TROUBLE.search(line.text):
            yield warn("kernel", line.text[:160])
    yield good("kernel", "nothing")


def crash_records(look: Look) -> Iterator[Answer]:
    """What the firmware kept of crashes, beyond what was there at the first look."""
    names = look.now.system.crash_records
    new = look.beyond("pstore", len(names))
    yield (
        warn("pstore", f"{len(names)} records, newest {names[-1]}")
        if names and new > 0
        else good("pstore", "no new one")
    )


def boots(look: Look) -> Iterator[Answer]:
    """Boots that no shutdown came before."""
    found = look.now.system.unclean_boots
    if found is None:
        yield look.absent("host")
    elif found >= BOOTS_A_DAY:
        yield warn("host", f"{found} of the last two days", limit=f"{BOOTS_A_DAY}")
    else:
        yield good("host", f"{found} of the last two days")


def clock(look: Look) -> Iterator[Answer]:
    """The calendar is right."""
    synced = look.now.system.is_clock_synced
    if synced is None:
        yield look.absent("host")
    else:
        yield good("clock", "synchronised") if synced else warn("clock", "not synchronised")


def services(look: Look) -> Iterator[Answer]:
    """No unit has failed."""
    failed = look.now.system.failed_units
    if failed is None:
        yield look.absent("host")
    elif failed:
        for unit in failed:
            yield warn(unit, "failed", advice=f"see 'journalctl -u {unit}', then 'systemctl restart {unit}'")
    else:
        yield Answer("host", Status.OK, "none has failed")


CHECKS = (
    Check("host.kmsg", "crashes, lock-ups and lack of memory in the kernel's log", "trouble / a crash",
          "node-problem-detector", "reboot after a crash; see which program asks for too much", kernel_log,
          Severity.CRITICAL, after_s=0.0, is_slow=True),
    Check("host.pstore", "crash records that the firmware kept", "none new", "systemd-pstore",
          "keep them for a report ('tinybox support'), then remove them: a full store keeps no more", crash_records,
          is_slow=True),
    Check("host.boots", "boots that no shutdown came before", "2 in two days", "the journal",
          "power was cut or a supply switched off: see 'tinybox health last-crash'", boots, is_slow=True),
    Check("host.clock", "synchronisation of the clock", "synchronised", "timedatectl",
          "see the network and 'timedatectl timesync-status'", clock, after_s=300.0, is_slow=True),
    Check("host.services", "units of systemd", "none failed", "systemctl", "see its journal and restart it", services,
          after_s=10.0, is_slow=True),
)  # fmt: skip
