"""Who governs in a replay: ours, and what an owner would do instead."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from tinybox.core.actions import Action, SetCap, SetClockLimit
from tinybox.core.box import Box
from tinybox.core.circuit import circuit_of
from tinybox.core.commission import Commission
from tinybox.core.config import Config
from tinybox.core.decision import Decision
from tinybox.core.snapshot import Snapshot
from tinybox.policy.decide import Memory, decide, fresh_memory
from tinybox.policy.envelope import Envelope, table_envelope
from tinybox.policy.power import gpu_pool_w

NAMES = ("governor", "bounded", "strict", "fixed150", "static", "proportional", "none")
FIXED_W = 150.0
PERIOD_S = 0.1


@dataclass(slots=True)
class Governor:
    """The product's own policy, timed."""

    box: Box
    config: Config
    memory: Memory
    took_s: list[float] = field(default_factory=list)
    decision: Decision | None = None

    @classmethod
    def of(cls, box: Box, config: Config, commission: Commission | None) -> "Governor":
        """A daemon that just started."""
        return cls(box, config, fresh_memory(config, commission))

    def turn(self, snapshot: Snapshot) -> tuple[tuple[Action, ...], float]:
        """What to write, and seconds until the next look."""
        began_s = time.perf_counter()
        self.decision, self.memory = decide(snapshot, self.box, self.config, self.memory)
        self.took_s.append(time.perf_counter() - began_s)
        return self.decision.actions, self.decision.period_s


@dataclass(slots=True)
class Fixed:
    """Limits written once, then never looked at again; `make` says which."""

    make: Callable[[Snapshot], tuple[Action, ...]]
    is_done: bool = False
    took_s: list[float] = field(default_factory=list)

    def turn(self, snapshot: Snapshot) -> tuple[tuple[Action, ...], float]:
        """The limits, the first time."""
        if self.is_done:
            return (), 3600.0
        self.is_done = True
        return self.make(snapshot), 3600.0


@dataclass(slots=True)
class Proportional:
    """Each card gets board watts in proportion to how busy it is, ten times a second; no promise is looked at."""

    envelope: Envelope
    pool_w: float
    least_mhz: int
    took_s: list[float] = field(default_factory=list)

    def turn(self, snapshot: Snapshot) -> tuple[tuple[Action, ...], float]:
        """The new clocks, where they moved."""
        began_s = time.perf_counter()
        busy = [0.02 + (gpu.busy_pct or 0.0) / 100 for gpu in snapshot.gpus]
        actions: list[Action] = []
        for gpu, share in zip(snapshot.gpus, busy, strict=True):
            clock_mhz = self.envelope.clock_for_w(self.pool_w * share / sum(busy) * self.envelope.margin)
            clock_mhz = max(clock_mhz, self.least_mhz)
            if gpu.clock_limit_mhz is None or abs(clock_mhz - gpu.clock_limit_mhz) > 30:
                actions.append(SetClockLimit(gpu.id, clock_mhz))
        self.took_s.append(time.perf_counter() - began_s)
        return tuple(actions), PERIOD_S


Policy = Governor | Fixed | Proportional


def policy_of(name: str, box: Box, config: Config, commission: Commission) -> Policy:
    """One of NAMES on a box that was commissioned; `static` and `proportional` know only the kind's table."""
    circuit = circuit_of(box, config)
    table = table_envelope(box.gpu)
    pool_w = gpu_pool_w(circuit.budget_w(None), box)
    if name in ("governor", "bounded"):
        return Governor.of(box, _with_guarantee(config, "bounded"), commission)
    if name == "strict":
        return Governor.of(box, _with_guarantee(config, "strict"), commission)
    if name == "fixed150":
        return Fixed(lambda snapshot: tuple(SetCap(gpu.id, FIXED_W) for gpu in snapshot.gpus))
    if name == "static":
        clock_mhz = max(table.clock_for_w(pool_w / len(box.gpu.slots)), box.gpu.clock_min_mhz)
        return Fixed(lambda snapshot: tuple(SetClockLimit(gpu.id, clock_mhz) for gpu in snapshot.gpus))
    if name == "proportional":
        return Proportional(table, pool_w, box.gpu.clock_min_mhz)
    return Fixed(lambda _: ())


def fixed_clock(clock_mhz: int) -> Fixed:
    """One clock for ever."""
    return Fixed(lambda snapshot: tuple(SetClockLimit(gpu.id, clock_mhz) for gpu in snapshot.gpus))


def _with_guarantee(config: Config, guarantee: str) -> Config:
    from dataclasses import replace

    return replace(config, power=replace(config.power, guarantee=guarantee))
