"""The box as physics: cards, processor, fans, supplies, the line and its breaker. No I/O, no clock.

Every lag is an exact exponential, so a step may be as long as a slow machine makes it without going unstable. The
electrical side moves by sub-steps of 10 ms; heat, fans and air, which take seconds, by ten of them. What is faster
than four sub-steps is carried as a mean (`GpuPart.duty`) and a peak (`peak_w`).
"""

import math
from collections import deque
from dataclasses import dataclass, field

from tinybox.core.box import Box
from tinybox.twin.breaker import Breaker
from tinybox.twin.broken import Broken
from tinybox.twin.constants import PlantKind
from tinybox.twin.faults.heat import COOLER
from tinybox.twin.gpu import GpuPart, toward
from tinybox.twin.kernel import KernelRing

SUBSTEP_S = 0.01
HEAT_STEP_S = 0.1
LONGEST_STEP_S = 0.2
MEAN_OVER_S = 1.0
MEAN_EVERY_S = 0.05
CPU_TAU_S = 0.05
SLOW_FAN = 0.5
STILL_RPM = 250.0  # what cards and heat move of the case's air by themselves
HOT_ROOM_K = 18.0  # a closed room that 1.4 kW have heated
ROOM_TAU_S = 3.0  # quicker than any room, so that a test need not wait an hour
PSU_TRIP = 1.26  # of its rating: a 1,600 W supply gave up at 2,024 W (tomshardware, Seasonic TX-1600)


def efficiency(load_fraction: float) -> float:
    """AC to DC of a Platinum supply at a share of its rating."""
    x = load_fraction
    return 0.925 - 0.06 * max(0.0, 0.4 - x) / 0.4 - 0.035 * max(0.0, x - 0.5) / 0.5


def power_factor(load_fraction: float) -> float:
    """Real over apparent power of a supply at a share of its rating."""
    if load_fraction >= 0.4:
        return 0.99
    if load_fraction >= 0.2:
        return 0.97 + (load_fraction - 0.2) / 0.2 * 0.02
    return 0.95 + max(0.0, load_fraction - 0.1) / 0.1 * 0.02


@dataclass(slots=True)
class Plant:
    """A running box. `step` advances it; everything else is read or set between steps."""

    box: Box
    kind: PlantKind
    breaker: Breaker
    gpus: list[GpuPart] = field(default_factory=list)
    time_s: float = 0.0
    cpu_load: float = 0.0
    other_a: float = 0.0  # what something else draws from the same breaker
    line_scale: float = 1.0  # of the unloaded volts: the utility's own sag
    ambient_c: float = 25.0
    is_off: bool = False
    broken: Broken = field(default_factory=Broken)
    kernel: KernelRing = field(default_factory=KernelRing)

    cpu_w: float = 0.0
    cpu_cap_w: float = math.inf
    cpu_c: float = 35.0
    cpu_energy_uj: float = 0.0
    case_k: float = 0.0
    room_k: float = 0.0  # that somebody has heated the room
    warmth_k: float = 0.0  # that the box has
    fan_share: float = 0.28  # of the chassis fans' full speed, as they are told
    chassis_rpm: list[float] = field(default_factory=list)
    chassis_duty: float | None = None  # set by whoever took the fans from the BMC; None: automatic
    psu_in_w: list[float] = field(default_factory=lambda: [0.0, 0.0])
    psu_out_w: list[float] = field(default_factory=lambda: [0.0, 0.0])
    psu_meter_w: list[float] = field(default_factory=lambda: [0.0, 0.0])
    line_v: float = 0.0
    line_a: float = 0.0  # of the box alone
    _fans_w: float = 0.0
    _smooth_w: float = 0.0  # what the supplies deliver, without what their capacitors hold
    _energy_j: float = 0.0
    _volt_s: float = 0.0
    _past: deque[tuple[float, float, float]] = field(default_factory=deque)
    _since_heat_s: float = 0.0
    _noted_s: float = -1.0

    @classmethod
    def of(cls, box: Box, kind: PlantKind, *, rating_a: float | None = None, volts: float | None = None) -> "Plant":
        """A box that has been idle for a while, every limit at its default; on another outlet than the box's own."""
        line = kind.line
        breaker = Breaker.of(kind.breaker, rating_a or box.circuit.amps, line.ambient_c)
        plant = cls(box, kind, breaker, ambient_c=line.ambient_c, line_scale=(volts or box.circuit.volts) / 120.0)
        plant.line_v = line.volts * plant.line_scale
        plant.gpus = [GpuPart.of(one, card, line.ambient_c) for one, card in zip(kind.gpus, box.kinds, strict=True)]
        plant.chassis_rpm = [box.fans.min_rpm * 1.4] * box.fans.count
        plant.cpu_w, plant.cpu_c = kind.cpu.idle_w, line.ambient_c + kind.cpu.idle_w * kind.cpu.k_per_w
        for _ in range(int(3 / SUBSTEP_S)):
            plant.step(SUBSTEP_S)
        plant.time_s = 0.0
        plant._past.clear()
        plant._energy_j = plant._volt_s = 0.0
        plant._noted_s = -1.0
        plant._note()
        return plant

    @property
    def is_tripped(self) -> bool:
        """Whether the breaker is open."""
        return self.breaker.is_tripped

    @is_tripped.setter
    def is_tripped(self, value: bool) -> None:
        self.breaker.is_tripped = value

    @property
    def has_power(self) -> bool:
        """Whether anything runs."""
        return not (self.breaker.is_tripped or self.is_off) and (self.has_input(0) or self.has_input(1))

    def has_input(self, psu: int) -> bool:
        """Whether this supply has its cord in a live outlet."""
        return f"psu/{psu}:lost" not in self.broken

    @property
    def wall_w(self) -> float:
        """Real power drawn from the outlet now."""
        return self.psu_in_w[0] + self.psu_in_w[1]

    @property
    def inlet_c(self) -> float:
        """Air at the box's sensor, before the cards."""
        return self.ambient_c + self.room_k + self.warmth_k + self.case_k

    @property
    def breaker_heat(self) -> float:
        """Modelled heat as a share of what trips."""
        return self.breaker.share

    @property
    def volt_reading(self) -> float:
        """Line volts as the supplies' meters tell them."""
        return self.line_v * self.kind.psu.volt_gain

    def psu_volt_reading(self, psu: int) -> float:
        """The same, of one supply."""
        return self.volt_reading if self.has_input(psu) else 0.0

    def broken_s(self, fault_id: str) -> float:
        """How long this fault has been there in all, until now."""
        return self.broken.total_s(fault_id, self.time_s)

    def bmc_reading_w(self) -> float:
        """Wall watts as the controller tells them: a mean of a second."""
        return self.mean_wall_w() * self.kind.psu.bmc_gain

    def mean_wall_w(self) -> float:
        """Mean wall power over the last second of plant time."""
        then_s, energy_j, _ = self._past[0]
        return (self._energy_j - energy_j) / (self.time_s - then_s) if self.time_s > then_s else self.wall_w

    def mean_line_v(self) -> float:
        """Mean line voltage over the last second of plant time."""
        then_s, _, volt_s = self._past[0]
        return (self._volt_s - volt_s) / (self.time_s - then_s) if self.time_s > then_s else self.line_v

    def noise_dba(self) -> float:
        """Level at the listener: the room, the chassis fans and the cards' fans as energies."""
        noise, kind = self.kind.noise, self.box.noise
        energy = 10 ** (noise.floor_dba / 10)
        for rpm in self.chassis_rpm:
            energy += _fan_energy(rpm, noise.chassis_ref_dba, kind.chassis_ref_rpm, noise.chassis_slope_db)
        for gpu in self.gpus:
            energy += _fan_energy(gpu.fan_rpm, noise.gpu_ref_dba, kind.gpu_ref_rpm, noise.gpu_slope_db)
        return 10 * math.log10(energy)

    def advance(self, elapsed_s: float) -> None:
        """Catch up by `elapsed_s`: in sub-steps of 10 ms, in longer ones where that is too much to catch up with."""
        steps = math.ceil(elapsed_s / SUBSTEP_S)
        if steps > 50:
            steps = math.ceil(elapsed_s / LONGEST_STEP_S)
        for _ in range(steps):
            self.step(elapsed_s / steps)

    def step(self, dt_s: float) -> None:
        """One step of everything."""
        self.time_s += dt_s
        has_power = self.has_power
        for gpu in self.gpus:
            gpu.step(dt_s, has_power=has_power)
        self._step_cpu(dt_s)
        self._step_line(dt_s)
        self._since_heat_s += dt_s
        if self._since_heat_s >= HEAT_STEP_S - 1e-9:
            self._step_heat(self._since_heat_s)
            self._since_heat_s = 0.0
        self._energy_j += self.wall_w * dt_s
        self._volt_s += self.line_v * dt_s
        if self.time_s - self._noted_s >= MEAN_EVERY_S - 1e-9:
            self._note()

    def power_off(self) -> None:
        """Somebody shut the machine down: nothing draws until it is switched on by hand."""
        self.is_off = True

    def reset_breaker(self) -> None:
        """Someone walked to the panel."""
        self.breaker.reset()
        self.is_off = False
        for gpu in self.gpus:
            gpu.factory_limits()  # nothing that was written survives a power cycle
        self.line_v = self.kind.line.volts * self.line_scale

    def _note(self) -> None:
        self._noted_s = self.time_s
        self._past.append((self.time_s, self._energy_j, self._volt_s))
        while len(self._past) > 2 and self._past[1][0] <= self.time_s - MEAN_OVER_S:
            self._past.popleft()

    def _step_cpu(self, dt_s: float) -> None:
        kind = self.kind.cpu
        target = kind.idle_w + self.cpu_load * (kind.busy_w - kind.idle_w) if self.has_power else 0.0
        target = min(target, max(self.cpu_cap_w, kind.idle_w))
        self.cpu_w = toward(self.cpu_w, target, dt_s, CPU_TAU_S)
        self.cpu_energy_uj = (self.cpu_energy_uj + self.cpu_w * dt_s * 1e6) % (kind.energy_range_uj + 1)

    def _step_heat(self, dt_s: float) -> None:
        """Chassis fans follow the processor's temperature unless somebody drives them; the case warms slowly."""
        fans, kind = self.box.fans, self.kind
        stuffiness = self._stuffiness()
        beside = [gpu.board_w for gpu in self.gpus]
        for i, gpu in enumerate(self.gpus):
            gpu.suffer(self.broken.of(f"gpu/{i}"))
            neighbours_w = sum(beside[max(0, i - 1) : i + 2]) - beside[i]
            gpu.step_heat(
                dt_s,
                inlet_c=self.inlet_c + neighbours_w * kind.air.neighbour_k_per_w * stuffiness,
                has_power=self.has_power,
                ref_rpm=self.box.noise.gpu_ref_rpm,
                air=kind.air,
            )
        cooler = COOLER if "cpu:cooler" in self.broken else 1.0
        warm_c = self.inlet_c + self.cpu_w * kind.cpu.k_per_w * cooler
        self.cpu_c = toward(self.cpu_c, warm_c, dt_s, kind.cpu.tau_s)
        share = self.chassis_duty
        if share is None:
            share = min(1.0, 0.28 + max(0.0, self.cpu_c - 45.0) / 60.0)
        if abs(share - self.fan_share) > kind.air.dead_share:
            self.fan_share = share
        target = 0.0
        if self.has_power and self.fan_share > kind.air.stall_share:
            target = max(fans.min_rpm, self.fan_share * fans.max_rpm)
        healths = [self._fan_health(i) for i in range(len(self.chassis_rpm))]
        self.chassis_rpm = [
            toward(rpm, target * health, dt_s, 2.0) for rpm, health in zip(self.chassis_rpm, healths, strict=True)
        ]
        room_k = HOT_ROOM_K if "room:hot" in self.broken else 0.0
        self.room_k = toward(self.room_k, room_k, dt_s, ROOM_TAU_S)
        self._fans_w = sum(kind.rest.fan_full_w * (rpm / fans.max_rpm) ** 3 for rpm in self.chassis_rpm)
        warm_k = self.dc_w() * kind.rest.case_k_per_w * stuffiness
        self.case_k = toward(self.case_k, warm_k, dt_s, kind.rest.case_tau_s)
        self.warmth_k = toward(self.warmth_k, self.wall_w * kind.air.room_k_per_w, dt_s, kind.air.room_tau_s)

    def _stuffiness(self) -> float:
        """How much warmer the case gets than with its fans at their reference speed; some air moves without any."""
        rpm = max(STILL_RPM, sum(self.chassis_rpm) / len(self.chassis_rpm))
        return float((self.box.fans.case_ref_rpm / rpm) ** self.kind.air.flow_exponent)

    def _fan_health(self, fan: int) -> float:
        """Share of the speed it should have: worn bearings slow a fan, a cable in its blades stops it."""
        if f"fan/chassis{fan + 1}:stalled" in self.broken:
            return 0.0
        return SLOW_FAN if f"fan/chassis{fan + 1}:slow" in self.broken else 1.0

    def _shares(self) -> tuple[float, float]:
        """How the supplies share the load: one without input leaves it to the other."""
        share = self.kind.psu.share
        if not self.has_input(0):
            return 0.0, 1.0
        return (share, 1 - share) if self.has_input(1) else (1.0, 0.0)

    def dc_w(self) -> float:
        """All that the supplies deliver."""
        if not self.has_power:
            return 0.0
        return sum([gpu.board_w for gpu in self.gpus]) + self.cpu_w + self.kind.rest.board_w + self._fans_w

    def dc_peak_w(self) -> float:
        """The same with every card at its excursion of milliseconds at once: what the supplies' own protection sees."""
        return self.dc_w() + sum(gpu.peak_w - gpu.board_w for gpu in self.gpus)

    def _step_line(self, dt_s: float) -> None:
        kind, rated_w = self.kind.psu, self.box.psu.rated_w
        dc_w, has_power = self.dc_w(), self.has_power
        # The bulk capacitors hold what is faster, so efficiency and power factor are of the smoothed load.
        self._smooth_w = toward(self._smooth_w, dc_w, dt_s, kind.load_tau_s) if has_power else 0.0
        meter_stay = math.exp(-dt_s / kind.meter_tau_s)
        volt_amps = 0.0
        for i, share in enumerate(self._shares()):
            load = self._smooth_w * share / rated_w
            self.psu_out_w[i] = dc_w * share
            in_w = self._smooth_w * share / (efficiency(load) * kind.efficiency_gain)
            self.psu_in_w[i] = in_w
            reading_w = in_w * kind.meter_gain
            self.psu_meter_w[i] = reading_w + (self.psu_meter_w[i] - reading_w) * meter_stay
            volt_amps += in_w / power_factor(load)
        self.line_a = volt_amps / self.line_v if has_power and self.line_v > 0 else 0.0
        if self.breaker.is_tripped:
            self.line_v = self.line_a = 0.0
            return
        self.line_v = max(
            1.0, self.kind.line.volts * self.line_scale - self.kind.line.ohm * (self.line_a + self.other_a)
        )
        self.breaker.step(self.line_a + self.other_a, dt_s)


def _fan_energy(rpm: float, ref_dba: float, ref_rpm: float, slope_db: float) -> float:
    return 10 ** ((ref_dba + slope_db * math.log10(rpm / ref_rpm)) / 10) if rpm > 0 else 0.0
