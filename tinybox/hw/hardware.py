"""The seam between the machine and everything that thinks: readings out, actions in. Never decides."""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tinybox.core.actions import Action, SetCap, SetClockLimit, SetCpuCap
from tinybox.core.armed import CardLimits
from tinybox.core.box import Box
from tinybox.core.config import Config
from tinybox.core.errors import HardwareError
from tinybox.core.snapshot import Bmc, Cpu, Drive, Fan, Fault, Gpu, GpuState, Psu, Raid, Severity, Snapshot
from tinybox.hw.amd import AmdCard
from tinybox.hw.bmc import BmcDriver
from tinybox.hw.cpu import CpuDriver
from tinybox.hw.host import Host
from tinybox.hw.notices import read_notices
from tinybox.hw.nvme import read_drives
from tinybox.hw.pcie import DEVICES, PciCard, graphics_cards
from tinybox.hw.psu import PsuDriver
from tinybox.hw.raid import read_raid
from tinybox.hw.work import WorkDriver

RESCAN_S = 2.0


@dataclass(frozen=True, slots=True)
class FastReading:
    """What is read every turn."""

    gpus: tuple[Gpu, ...]
    cpu: Cpu
    psus: tuple[Psu, ...]
    faults: tuple[Fault, ...]
    is_work_frozen: bool = False


@dataclass(frozen=True, slots=True)
class SlowReading:
    """What takes processes to read; `time_s` is when the round began."""

    time_s: float
    bmc: Bmc
    fans: tuple[Fan, ...]
    drives: tuple[Drive, ...]
    raid: Raid | None
    faults: tuple[Fault, ...]


class Hardware:
    """One machine, read against the box it should be. `run` is where what must outlive the daemon is noted."""

    def __init__(self, host: Host, box: Box, config: Config, run: Path | None = None) -> None:
        self.box = box
        self._host = host
        self._run = run
        self._known: dict[str, PciCard | None] = {}
        self._cards = {i: AmdCard(host, box.gpu, f"gpu/{i}", slot) for i, slot in enumerate(box.gpu.slots)}
        self._cpu = CpuDriver(host)
        self._psus = PsuDriver(host, box.psu.count)
        self._bmc = BmcDriver(host, config.bmc, box.fans.count)
        self._work = WorkDriver(host, run / "frozen" if run else None)
        self._rescan_s = float("-inf")

    def read_fast(self, now_s: float) -> FastReading:
        """Cards, processor and supplies. Every device fails alone."""
        faults: list[Fault] = []
        if now_s >= self._rescan_s:
            self._rescan_s = now_s + RESCAN_S
            self._assign_slots()
        gpus = []
        for card in self._cards.values():
            gpu, found = card.read(now_s)
            gpus.append(gpu)
            faults += found
        cpu, cpu_faults = self._cpu.read(now_s)
        psus, psu_faults = self._psus.read(now_s)
        return FastReading(tuple(gpus), cpu, psus, (*faults, *cpu_faults, *psu_faults), self._work.is_frozen)

    def read_slow(self, now_s: float) -> SlowReading:
        """BMC, drives and array: processes that take as long as they take."""
        bmc, fans, bmc_faults = self._bmc.read()
        drives, drive_faults = read_drives(self._host)
        raid, raid_faults = read_raid(self._host, self.box.storage)
        notices = read_notices(self._run) if self._run else ()
        return SlowReading(now_s, bmc, fans, drives, raid, (*notices, *bmc_faults, *drive_faults, *raid_faults))

    def apply(self, action: Action) -> None:
        """Write one limit and read it back, or do it to the work. Raises HardwareError naming the trouble."""
        match action:
            case SetCap() | SetClockLimit():
                self._apply_to_card(action)
            case SetCpuCap():
                self._cpu.apply(action)
            case _:
                self._work.apply(action)

    def _apply_to_card(self, action: SetCap | SetClockLimit) -> None:
        card = next((card for card in self._cards.values() if card.id == action.device), None)
        if card is None:
            raise HardwareError(f"there is no {action.device}")
        card.apply(action, time.monotonic())

    def failsafe_writes(self, actions: Iterable[Action]) -> tuple[tuple[str, str], ...]:
        """The actions as (absolute path, text) to write, for a program that knows no cards; no card is woken."""
        cards = {card.id: card for card in self._cards.values()}
        found: list[tuple[str, str]] = []
        for action in actions:
            if isinstance(action, SetCap | SetClockLimit) and action.device in cards:
                found += cards[action.device].writes(action)
        return tuple((self._host.path(name), text) for name, text in found)

    def failsafe(self, actions: Iterable[Action]) -> tuple[Fault, ...]:
        """Every action, whatever some answer; the answers."""
        faults = []
        for action in actions:
            try:
                self.apply(action)
            except Exception as error:  # noqa: BLE001 - the last resort: no surprise of one card may spare the next
                faults.append(Fault(action.device, str(error), Severity.CRITICAL))
        return tuple(faults)

    def assumed_gpus(self) -> tuple[Gpu, ...]:
        """Every card of the box as if it were awake, with the levers of its kind: for when reading fails."""
        has_lever = self.box.gpu.overdrive
        return tuple(Gpu(c.id, GpuState.AWAKE, c.address, has_clock_lever=has_lever) for c in self._cards.values())

    def limits(self, gpus: Iterable[Gpu]) -> tuple[CardLimits, ...]:
        """What is in force on those of these cards that are awake; one without a driver has no limits to write."""
        cards = {card.id: card for card in self._cards.values()}
        found = [cards[gpu.id].limits() for gpu in gpus if gpu.state is GpuState.AWAKE and gpu.id in cards]
        return tuple(limits for limits in found if limits is not None)

    def cpu_cap_w(self) -> float | None:
        """The processor's sustained limit in force; None where it has none."""
        return self._cpu.cap_w()

    def restore(self, limits: CardLimits) -> None:
        """Give the card at this address its limits back, whatever slot it has now. Raises HardwareError."""
        if not self._host.exists(f"{DEVICES}/{limits.pci}/vendor"):
            raise HardwareError("it is gone from the bus")
        card = AmdCard(self._host, self.box.gpu, "gpu/0", limits.pci)
        try:
            card.restore(limits, time.monotonic())
        finally:
            card.close()

    def mismatch(self) -> tuple[Fault, ...]:
        """How this machine differs from the box: critical where the box's figures would not be true of it."""
        cards = graphics_cards(self._host, self._known)
        kind = self.box.gpu
        right = [card for card in cards if card.pci_id == kind.pci_id]
        found = []
        for card in cards:
            if card.pci_id != kind.pci_id:
                severity = Severity.WARNING if right else Severity.CRITICAL
                reason = f"graphics card {card.pci_id} at {card.address}, the box has {kind.pci_id}"
                found.append(Fault("box", reason, severity))
        if len(right) > len(kind.slots):
            reason = f"{len(right)} cards {kind.pci_id} found, the box has {len(kind.slots)}"
            found.append(Fault("box", reason, Severity.CRITICAL))
        if len(right) < len(kind.slots):
            reason = f"{len(right)} of the box's {len(kind.slots)} cards {kind.pci_id} found"
            found.append(Fault("box", reason, Severity.WARNING))
        return tuple(found)

    def release(self) -> None:
        """Let go of everything held open; limits stay as they are."""
        for card in self._cards.values():
            card.close()
        self._cpu.close()
        self._psus.close()

    def _assign_slots(self) -> None:
        """Cards at addresses the box does not list take the empty slots in order of address, and keep them."""
        present = [c.address for c in graphics_cards(self._host, self._known) if c.pci_id == self.box.gpu.pci_id]
        seated = {card.address for card in self._cards.values()}
        empty = [i for i, card in self._cards.items() if card.address not in present]
        for address in present:
            if address not in seated and empty:
                index = empty.pop(0)
                self._cards[index].close()
                self._cards[index] = AmdCard(self._host, self.box.gpu, f"gpu/{index}", address)


def assemble(
    fast: FastReading, slow: SlowReading | None, time_s: float, unix_s: float, faults: tuple[Fault, ...] = ()
) -> Snapshot:
    """One snapshot of both kinds of reading, and the `faults` of the writes before it."""
    return Snapshot(
        time_s=time_s,
        unix_s=unix_s,
        gpus=fast.gpus,
        cpu=fast.cpu,
        fans=slow.fans if slow else (),
        psus=fast.psus,
        bmc=slow.bmc if slow else Bmc(),
        drives=slow.drives if slow else (),
        raid=slow.raid if slow else None,
        faults=(*fast.faults, *(slow.faults if slow else ()), *faults),
        slow_time_s=slow.time_s if slow else None,
        is_work_frozen=fast.is_work_frozen,
    )
