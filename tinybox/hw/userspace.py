"""Cards that no kernel driver has, because a program drives them itself (docs/userspace-cards.md).

Nothing is written to such a card, nor is it asked anything: its registers are the program's.
"""

import os
from collections.abc import Iterable
from dataclasses import replace

from tinybox.core.snapshot import Fault, Gpu, GpuState
from tinybox.hw.holders import HolderDriver, Owner
from tinybox.hw.host import Host
from tinybox.hw.pcie import DEVICES
from tinybox.hw.work import look_up

LEND = ("vfio-pci", "uio_pci_generic", "igb_uio")  # drivers that only hand the device to a program


def lent_by(host: Host, address: str) -> str | None:
    """The driver that only lends the card to programs, "" where it has none at all; None: a driver of its own."""
    name = os.path.basename(host.link(f"{DEVICES}/{address}/driver"))  # noqa: PTH119
    return name if name in LEND or not name else None


class Userspace:
    """Tells cards that a program drives from cards that merely lack their driver."""

    def __init__(self, host: Host, holders: HolderDriver) -> None:
        self._host = host
        self._holders = holders

    def judge(self, gpu: Gpu, faults: tuple[Fault, ...]) -> tuple[Gpu, tuple[Fault, ...]]:
        """The card as its own driver read it, or as one that a program drives. Healthy cards cost nothing."""
        is_silent = gpu.state is GpuState.AWAKE and gpu.power_w is None and gpu.busy_pct is None
        if not is_silent and gpu.state is not GpuState.ASLEEP:
            return gpu, faults
        if (lender := lent_by(self._host, gpu.pci)) is None:
            return gpu, faults
        known = self._holders.owners
        owners = tuple(filter(self._lives, known.get(gpu.id, ()))) if known is not None else ()
        if not owners:
            self._holders.look_again()
            if gpu.state is GpuState.ASLEEP or known is not None:
                return gpu, faults
        return _driven(gpu, owners, lender), ()

    def _lives(self, owner: Owner) -> bool:
        found = look_up(self._host, owner.process.pid)
        return found is not None and found[0] == owner.process


def _driven(gpu: Gpu, owners: Iterable[Owner], lender: str) -> Gpu:
    """With what may be said of a card that tells nothing; of several limits the highest counts, no limit above all."""
    names = ", ".join(f"{owner.name} ({owner.process.pid})" for owner in owners)
    limits_w = [owner.limit_w for owner in owners]
    told_w = [limit_w for limit_w in limits_w if limit_w is not None]
    return replace(
        gpu,
        state=GpuState.USERSPACE,
        driver=names or lender or None,
        user_limit_w=max(told_w) if told_w and len(told_w) == len(limits_w) else None,
    )
