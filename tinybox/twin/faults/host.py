"""Faults of the host: memory, the operating system, its file systems, the network."""

from tinybox.core.box import Box
from tinybox.twin.faults.kinds import FaultKind
from tinybox.twin.host import port_names

SELDOM_S = 45.0  # what takes a command is looked at twice a minute


def host_faults(box: Box) -> tuple[FaultKind, ...]:
    """All kinds that this box's host can have."""
    host, fs, ports = ("host",), ("fs",), tuple(f"nic/{name}" for name in port_names(box))
    found = [
        FaultKind("memory-corrected", host, "a memory module needs correcting all the time", ("cpu.mce",)),
        FaultKind("memory-uncorrected", host, "memory was read wrong, and could not be corrected", ("cpu.mce",)),
        FaultKind("memory-lost", host, "a memory module of eight is gone", ("mem.size",)),
        FaultKind("crash-record", host, "the firmware kept a record of a kernel crash", ("host.pstore",)),
        FaultKind("unclean-boots", host, "the power went twice", ("host.boots",), shows_within_s=SELDOM_S),
        FaultKind("clock-unsynced", host, "no time server answers", ("host.clock",), shows_within_s=360.0),
        FaultKind(
            *("machine-check", host, "the processor reports an error that it corrected not", ("cpu.mce",)),
            kernel_lines=(
                "{{1}}[Hardware Error]: event severity: recoverable",
                "{{1}}[Hardware Error]:  Error 0, type: recoverable, memory error",
            ),
        ),
        FaultKind(
            *("out-of-memory", host, "the kernel ended a program for want of memory", ("host.kmsg",)),
            kernel_lines=("Out of memory: Killed process 4711 (python3) total-vm:180000000kB, anon-rss:130000000kB",),
        ),
        FaultKind(
            *("lockup", host, "a core hangs in the kernel", ("host.kmsg",)),
            kernel_lines=("watchdog: BUG: soft lockup - CPU#7 stuck for 26s! [python3:4711]",),
        ),
        FaultKind("unit-failed", host, "a service has failed", ("host.services",), shows_within_s=SELDOM_S),
        FaultKind("full", fs, "the system's drive is nearly full", ("fs.space",)),
        FaultKind("read-only", fs, "the kernel made the system's file system read-only", ("fs.ro",)),
    ]
    if ports:  # a cable is in the first only
        found += [
            FaultKind("down", ports[:1], "the cable is out", ("nic.link",)),
            FaultKind("slow", ports[:1], "the link came up at a tenth of its speed", ("nic.link",)),
            FaultKind("errors", ports, "packets arrive damaged", ("nic.errors",)),
            FaultKind("aer-correctable", ports[:1], "packets on its PCIe link arrive damaged", ("pcie.aer.cor",)),
            FaultKind("aer-fatal", ports[:1], "a fatal error on its PCIe link", ("pcie.aer.unc",)),
        ]
    return tuple(found)
