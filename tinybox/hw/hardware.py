"""The seam between the machine and everything that thinks: readings out, actions in. Never decides."""

import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from tinybox.core.actions import (
    Action,
    CardAction,
    LimitGpuFan,
    ReleaseFans,
    SetCap,
    SetClockLimit,
    SetCpuCap,
    SetFanDuty,
)
from tinybox.core.armed import CardLimits
from tinybox.core.box import Box, GpuKind
from tinybox.core.config import Config
from tinybox.core.errors import HardwareError
from tinybox.core.snapshot import (
    Bmc,
    Cpu,
    Drive,
    Fan,
    Fault,
    Gpu,
    GpuState,
    Holder,
    KernelLine,
    Nic,
    PcieLink,
    Psu,
    Raid,
    Severity,
    Snapshot,
    System,
)
from tinybox.hw.amd import AmdCard
from tinybox.hw.bmc import BmcDriver
from tinybox.hw.card import Card
from tinybox.hw.cpu import CpuDriver
from tinybox.hw.holders import HolderDriver
from tinybox.hw.host import Host
from tinybox.hw.intel import IntelCard
from tinybox.hw.kernel_log import KernelLog
from tinybox.hw.nic import read_nics
from tinybox.hw.notices import read_notices
from tinybox.hw.nvidia import NvidiaCard
from tinybox.hw.nvme import read_drives
from tinybox.hw.pcie import DEVICES, PciCard, PciPath, graphics_cards, read_links
from tinybox.hw.psu import PsuDriver
from tinybox.hw.raid import read_raid
from tinybox.hw.system import SystemDriver
from tinybox.hw.userspace import Userspace
from tinybox.hw.work import WorkDriver

RESCAN_S = 2.0
CALM_S = 5.5  # every third round
DRIVERS: dict[str, Callable[[Host, GpuKind, str, str], Card]] = {
    "amd": AmdCard,
    "intel": IntelCard,
    "nvidia": NvidiaCard,
}


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
    links: tuple[PcieLink, ...]
    nics: tuple[Nic, ...]
    system: System
    kernel: tuple[KernelLine, ...]
    holders: tuple[Holder, ...] | None
    faults: tuple[Fault, ...]


@dataclass(frozen=True, slots=True)
class CalmReading:
    """What is read in some slow rounds only: much of it starts a program, and none of it changes quickly."""

    due_s: float
    drives: tuple[Drive, ...]
    raid: Raid | None
    links: tuple[PcieLink, ...]
    nics: tuple[Nic, ...]
    system: System
    faults: tuple[Fault, ...]


class Hardware:
    """One machine, read against the box it should be. `run` is where what must outlive the daemon is noted."""

    def __init__(self, host: Host, box: Box, config: Config, run: Path | None = None) -> None:
        self.box = box
        self._host = host
        self._run = run
        self._known: dict[str, PciCard | None] = {}
        self._paths: dict[str, PciPath] = {}
        self._cards = {i: self._card(box.kinds[i], i, slot) for i, slot in enumerate(box.slots)}
        self._cpu = CpuDriver(host)
        self._psus = PsuDriver(host, box.psu.count)
        self._bmc = BmcDriver(host, config.bmc, box.fans.count, run)
        self._meter_w: float | None = None
        self._calm: CalmReading | None = None
        self._is_news = False
        self._kernel = KernelLog(host)
        self._holders = HolderDriver(host)
        self._userspace = Userspace(host, self._holders)
        self._system = SystemDriver(host, (box.storage.mount,))
        self._work = WorkDriver(host, run / "frozen" if run else None)
        self._rescan_s = float("-inf")
        self._fans_told: set[str] = set()

    def rescan(self) -> None:
        """Look for cards in the next reading, whenever the last look was."""
        self._rescan_s = float("-inf")

    def read_fast(self, now_s: float) -> FastReading:
        """Cards, processor and supplies. Every device fails alone, and is told the moment at which it is read."""
        offset_s = now_s - time.monotonic()
        faults: list[Fault] = []
        if now_s >= self._rescan_s:
            self._rescan_s = now_s + RESCAN_S
            self._assign_slots()
        gpus = []
        for card in self._cards.values():
            gpu, found = self._userspace.judge(*card.read(time.monotonic() + offset_s))
            gpus.append(gpu)
            faults += found
        cpu, cpu_faults = self._cpu.read(time.monotonic() + offset_s)
        psus, psu_faults = self._psus.read(now_s)
        self._meter_w = self._metered(psus)
        return FastReading(tuple(gpus), cpu, psus, (*faults, *cpu_faults, *psu_faults), self._work.is_frozen)

    def read_slow(self, now_s: float, *, is_brief: bool = False) -> SlowReading:
        """BMC, drives and array: processes that take as long as they take; a `brief` reader waits for no dead BMC."""
        bmc, fans, bmc_faults = self._bmc.read(now_s, wall_w=self._meter_w, is_brief=is_brief)
        calm = self._calm
        if calm is None or self._is_news or now_s >= calm.due_s:
            self._is_news = False  # before the look: what comes meanwhile is for the next one
            calm = self._calm = self._read_calm(now_s)
        kernel, kernel_faults = self._kernel.read()
        holders = self._holders.read(now_s, {c.id: (c.address, self.box.kind_of(c.id).vendor) for c in self._seated()})
        notices = read_notices(self._run) if self._run else ()
        faults = (*notices, *bmc_faults, *calm.faults, *kernel_faults)
        return SlowReading(
            *(now_s, bmc, fans, calm.drives, calm.raid, calm.links, calm.nics, calm.system, kernel, holders, faults)
        )

    def look_at_drives(self) -> None:
        """Read drives and array in the next slow reading, whenever they were read last. For any thread."""
        self._is_news = True

    def _read_calm(self, now_s: float) -> CalmReading:
        drives, drive_faults = read_drives(self._host)
        raid, raid_faults = read_raid(self._host, self.box.storage)
        nics, nic_faults = read_nics(self._host)
        links = read_links(self._host, self._addresses(drives, nics), self._paths)
        system, system_faults = self._system.read(now_s)
        faults = (*drive_faults, *raid_faults, *nic_faults, *system_faults)
        return CalmReading(now_s + CALM_S, drives, raid, links, nics, system, faults)

    def _addresses(self, drives: tuple[Drive, ...], nics: tuple[Nic, ...]) -> dict[str, str]:
        """Where everything with a link of its own sits; what USB carries has none."""
        found = {card.id: card.address for card in self._seated()}
        found |= {drive.id: drive.pci for drive in drives if drive.pci is not None}
        return found | {nic.id: nic.pci for nic in nics if nic.pci is not None}

    def _seated(self) -> tuple[Card, ...]:
        """The cards as they are seated now: the fast readings may seat them anew meanwhile."""
        return tuple(self._cards.values())

    def _metered(self, psus: tuple[Psu, ...]) -> float | None:
        """The supplies' own watts, where all of them tell."""
        told_w = [psu.in_w for psu in psus if psu.in_w is not None]
        return sum(told_w) if len(told_w) == self.box.psu.count else None

    def apply(self, action: Action) -> None:
        """Write one limit and read it back, or do it to the work. Raises HardwareError naming the trouble.

        The fans' controller is slow: what is asked of it is done by the next slow reading, which has the trouble.
        """
        match action:
            case SetCap() | SetClockLimit() | LimitGpuFan():
                self._apply_to_card(action)
            case SetCpuCap():
                self._cpu.apply(action)
            case SetFanDuty() | ReleaseFans():
                self._bmc.want(action)
            case _:
                self._work.apply(action)

    def _apply_to_card(self, action: CardAction) -> None:
        card = next((card for card in self._cards.values() if card.id == action.device), None)
        if card is None:
            raise HardwareError(f"there is no {action.device}")
        if isinstance(action, LimitGpuFan):
            self._fans_told.add(card.id)
        card.apply(action, time.monotonic())
        if isinstance(action, LimitGpuFan) and action.rpm is None:
            self._fans_told.discard(card.id)

    def release_card_fans(self) -> tuple[Fault, ...]:
        """Give every card's fan that we told anything back to its firmware; the troubles."""
        return self.failsafe(LimitGpuFan(device, None) for device in sorted(self._fans_told))

    def failsafe_writes(self, actions: Iterable[Action]) -> tuple[tuple[str, str], ...]:
        """The actions as (absolute path, text) to write, for a program that knows no cards; no card is woken."""
        cards = {card.id: card for card in self._cards.values()}
        found: list[tuple[str, str]] = []
        for action in actions:
            if isinstance(action, CardAction) and action.device in cards:
                found += cards[action.device].writes(action)
        return tuple((self._absolute(name), text) for name, text in found)

    def _absolute(self, name: str) -> str:
        """Where a write goes; one for NVIDIA's library names the card's folder."""
        kind, colon, folder = name.partition("nvml:")
        return f"nvml:{self._host.path(folder)}" if colon and not kind else self._host.path(name)

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
        return tuple(
            Gpu(c.id, GpuState.AWAKE, c.address, has_clock_lever=kind.overdrive)
            for c, kind in zip(self._cards.values(), self.box.kinds, strict=True)
        )

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
        pci_id = next((c.pci_id for c in graphics_cards(self._host, self._known) if c.address == limits.pci), None)
        kind = next((kind for kind in self.box.gpus if kind.pci_id == pci_id), self.box.gpu)
        card = self._card(kind, 0, limits.pci)
        try:
            card.restore(limits, time.monotonic())
        finally:
            card.close()

    def mismatch(self) -> tuple[Fault, ...]:
        """How this machine differs from the box: critical where the box's figures would not be true of it."""
        cards = graphics_cards(self._host, self._known)
        count = Counter(card.pci_id for card in cards)
        ids = [kind.pci_id for kind in self.box.gpus]
        severity = Severity.WARNING if any(count[pci_id] for pci_id in ids) else Severity.CRITICAL
        found = [
            Fault("box", f"graphics card {c.pci_id} at {c.address}, the box has {' and '.join(ids)}", severity)
            for c in cards
            if c.pci_id not in ids
        ]
        for kind in self.box.gpus:
            there, wanted = count[kind.pci_id], len(kind.slots)
            if there > wanted:
                reason = f"{there} cards {kind.pci_id} found, the box has {wanted}"
                found.append(Fault("box", reason, Severity.CRITICAL))
            if there < wanted:
                reason = f"{there} of the box's {wanted} cards {kind.pci_id} found"
                found.append(Fault("box", reason, Severity.WARNING))
        return tuple(found)

    def release(self) -> None:
        """Let go of everything held open; limits stay as they are, fans go back to their controllers."""
        self.release_card_fans()
        for card in self._cards.values():
            card.close()
        self._cpu.close()
        self._psus.close()
        self._kernel.close()
        self._bmc.close()
        self._paths.clear()

    def recall_fans(self) -> None:
        """Let the next slow reading give back the fans that a daemon before us had taken when it was killed."""
        self._bmc.recall_fans()

    def _assign_slots(self) -> None:
        """Cards at addresses the box does not list take the empty slots in order of address, and keep them."""
        found = graphics_cards(self._host, self._known)
        seated = {card.address for card in self._cards.values()}
        for kind in self.box.gpus:
            present = [card.address for card in found if card.pci_id == kind.pci_id]
            empty = [i for i, c in self._cards.items() if self.box.kinds[i] is kind and c.address not in present]
            for address, index in zip([one for one in present if one not in seated], empty, strict=False):
                self._cards[index].close()
                self._cards[index] = self._card(kind, index, address)

    def _card(self, kind: GpuKind, index: int, address: str) -> Card:
        if kind.vendor == "nvidia":
            return NvidiaCard(self._host, kind, f"gpu/{index}", address, self._run)
        return DRIVERS.get(kind.vendor, AmdCard)(self._host, kind, f"gpu/{index}", address)


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
        links=slow.links if slow else (),
        nics=slow.nics if slow else (),
        system=slow.system if slow else System(),
        kernel=slow.kernel if slow else (),
        holders=slow.holders if slow else None,
        is_work_frozen=fast.is_work_frozen,
    )
