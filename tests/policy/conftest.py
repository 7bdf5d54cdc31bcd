"""Machines for policies: snapshots made by hand, and a card that obeys, refuses or sleeps as told."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest

from tinybox.core.actions import Action, SetCap, SetClockLimit, SetCpuCap
from tinybox.core.box import Box, load_box
from tinybox.core.circuit import Circuit, circuit_of
from tinybox.core.config import Config
from tinybox.core.decision import Decision
from tinybox.core.snapshot import Bmc, Cpu, Drive, Fan, Gpu, GpuState, Psu, Raid, Snapshot
from tinybox.policy.decide import Memory, decide, fresh_memory

Obey = Callable[[Gpu, Action], Gpu]


@pytest.fixture(scope="session")
def red() -> Box:
    return load_box("red")


@pytest.fixture(scope="session")
def circuit(red: Box) -> Circuit:
    return circuit_of(red, Config())


def card(index: int, box: Box, **changes: object) -> Gpu:
    """A stock card at idle, every figure told."""
    gpu = Gpu(
        id=f"gpu/{index}",
        state=GpuState.AWAKE,
        pci=box.gpu.slots[index],
        name=box.gpu.name,
        power_w=15.0,
        cap_w=box.gpu.cap_default_w,
        cap_min_w=box.gpu.cap_min_w,
        cap_max_w=box.gpu.cap_max_w,
        cap_default_w=box.gpu.cap_default_w,
        has_clock_lever=True,
        clock_limit_mhz=box.gpu.clock_max_mhz,
        clock_limit_min_mhz=box.gpu.clock_min_mhz,
        clock_mhz=500,
        edge_c=40.0,
        junction_c=45.0,
        memory_c=50.0,
        fan_rpm=800.0,
        busy_pct=0.0,
        vram_used_bytes=10,
        vram_total_bytes=box.gpu.vram_bytes,
        link_width=16,
        link_gts=16.0,
    )
    return replace(gpu, **changes)  # type: ignore[arg-type]


def machine(box: Box, time_s: float = 0.0, **changes: object) -> Snapshot:
    """A whole healthy box at idle."""
    drive = Drive("drive/nvme0", "model", "serial", 10**12, 40.0, 1.0, 0, 0, 4, 16.0)
    snapshot = Snapshot(
        time_s=time_s,
        unix_s=1.7e9 + time_s,
        gpus=tuple(card(i, box) for i in range(len(box.gpu.slots))),
        cpu=Cpu("cpu", 2.0, 60.0, 45.0, 32, 10**9, box.cpu.memory_bytes),
        fans=tuple(Fan(f"fan/chassis{i + 1}", 900.0) for i in range(box.fans.count)),
        psus=(Psu("psu/0", 120.0, 120.0, 1.0, 110.0, 40.0), Psu("psu/1", 120.0, 120.0, 1.0, 110.0, 40.0)),
        bmc=Bmc("bmc", 240.0, 120.0, 25.0, 45.0),
        drives=(drive,),
        raid=Raid("raid0", "clean", "/raid", ("nvme0n1",), 10**12, 10**12),
        slow_time_s=time_s,
    )
    return replace(snapshot, **changes)  # type: ignore[arg-type]


def obey(gpu: Gpu, action: Action) -> Gpu:
    """A card that takes its limits."""
    if isinstance(action, SetCap):
        return replace(gpu, cap_w=action.cap_w)
    assert isinstance(action, SetClockLimit), action
    return replace(gpu, clock_limit_mhz=action.clock_mhz)


def refuse(gpu: Gpu, action: Action) -> Gpu:
    """A card that does not."""
    del action
    return gpu


@dataclass(slots=True)
class Governed:
    """A machine made by hand under the policy, and all that was written to it, in order."""

    box: Box
    snapshot: Snapshot
    config: Config = field(default_factory=Config)
    memory: Memory = field(init=False)
    decision: Decision = field(init=False)
    written: list[Action] = field(default_factory=list)
    obedience: dict[str, Obey] = field(default_factory=dict)
    period_s: float = 0.1

    def __post_init__(self) -> None:
        self.memory = fresh_memory(self.config)

    def turn(self) -> Decision:
        """One look, one answer, and the cards' answer to it."""
        self.decision, self.memory = decide(self.snapshot, self.box, self.config, self.memory)
        for action in self.decision.actions:
            self.apply(action)
        self.snapshot = replace(self.snapshot, time_s=self.snapshot.time_s + self.period_s)
        return self.decision

    def apply(self, action: Action) -> None:
        """Write one limit."""
        self.written.append(action)
        if isinstance(action, SetCpuCap):
            self.snapshot = replace(self.snapshot, cpu=replace(self.snapshot.cpu, cap_w=action.cap_w))
            return
        answer = self.obedience.get(action.device, obey)
        gpus = tuple(answer(gpu, action) if gpu.id == action.device else gpu for gpu in self.snapshot.gpus)
        self.snapshot = replace(self.snapshot, gpus=gpus)

    def run(self, seconds: float) -> "Governed":
        """Some turns; itself."""
        for _ in range(round(seconds / self.period_s)):
            self.turn()
        return self

    def change(self, index: int, **changes: object) -> None:
        """Something about one card is different from now on."""
        gpus = list(self.snapshot.gpus)
        gpus[index] = replace(gpus[index], **changes)  # type: ignore[arg-type]
        self.snapshot = replace(self.snapshot, gpus=tuple(gpus))
