"""A plant in fast time under the real drivers, the real governor and the real judge."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from tests.matrix.host import PlantHost
from tinybox.core.actions import SetCap
from tinybox.core.box import Box, load_box
from tinybox.core.commission import Commission
from tinybox.core.config import Config
from tinybox.core.errors import HardwareError
from tinybox.core.health import Finding
from tinybox.core.snapshot import Fault
from tinybox.hw.hardware import Hardware, SlowReading, assemble
from tinybox.policy.checks.check import Asked
from tinybox.policy.decide import Memory, decide, fresh_memory
from tinybox.policy.health import HealthMemory, judge
from tinybox.replay.commission import commission
from tinybox.twin.constants import load_plant
from tinybox.twin.fusefs import FaultySysfs
from tinybox.twin.plant import Plant
from tinybox.twin.tree import build_tree

START_UNIX_S = 1.75e9
PLANT_STEP_S = 0.05
SLOW_EVERY_S = 2.0


@dataclass(slots=True)
class Fast:
    """One plant, looked at and governed once a second."""

    plant: Plant
    files: FaultySysfs
    hardware: Hardware
    box: Box
    config: Config
    memory: Memory
    health: HealthMemory = field(default_factory=HealthMemory)
    findings: tuple[Finding, ...] = ()
    refused: tuple[Fault, ...] = ()
    asked: dict[str, Asked] = field(default_factory=dict)
    slow: SlowReading | None = None

    def run(self, seconds: float) -> Iterator[float]:
        """Second by second; yields the plant's time after each."""
        for _ in range(round(seconds)):
            for _ in range(round(1.0 / PLANT_STEP_S)):
                self.plant.step(PLANT_STEP_S)
            self._look()
            yield self.plant.time_s

    def load(self, share: float) -> None:
        """Every card and the processor at this share of full speed."""
        for gpu in self.plant.gpus:
            gpu.load = share
        self.plant.cpu_load = share

    def raised(self) -> dict[str, str]:
        """Checks that warn or worse, with their evidence."""
        return {finding.id: finding.evidence for finding in self.findings if finding.is_raised}

    def _look(self) -> None:
        now_s = self.plant.time_s
        if self.slow is None or now_s - self.slow.time_s >= SLOW_EVERY_S - 0.01:
            self.slow = self.hardware.read_slow(now_s)
        snapshot = assemble(self.hardware.read_fast(now_s), self.slow, now_s, START_UNIX_S + now_s, self.refused)
        snapshot = replace(snapshot, failsafe_age_s=0.1)
        decision, self.memory = decide(snapshot, self.box, self.config, self.memory)
        refused = []
        for action in decision.actions:
            try:
                self.hardware.apply(action)
            except HardwareError as error:
                refused.append(Fault(action.device, str(error), is_refusal=True))
                continue
            if isinstance(action, SetCap):
                self.asked[action.device] = Asked(action.cap_w)
        self.refused = tuple(refused)
        self.findings, self.health = judge(snapshot, self.box, self.config, self.health, asked=self.asked)


@contextmanager
def fast(name: str, *, seed: int | None = None) -> Iterator[Fast]:
    """A box that has been running for a while."""
    box = load_box(name)
    kind = load_plant(box, seed)
    plant = Plant.of(box, kind)
    files = FaultySysfs(build_tree(plant, real_storage=False), plant)
    config = Config(box=name)
    measured: Commission = commission(box, kind)
    hardware = Hardware(PlantHost(files, plant), box, config)
    try:
        yield Fast(plant, files, hardware, box, config, fresh_memory(config, measured))
    finally:
        hardware.release()
