"""The box as physics: cards under clock and cap, heat, fans, supplies, the line and its breaker. No I/O, no clock.

Every lag is an exact exponential, so a step may be as long as a slow machine makes it without going unstable.
"""

import math
from collections import deque
from dataclasses import dataclass, field
from functools import lru_cache

from tinybox.core.box import Box
from tinybox.twin.constants import GpuPlant, PlantKind

SUBSTEP_S = 0.01
LONGEST_STEP_S = 0.2
MEAN_OVER_S = 1.0
PSU_SHARES = (0.5, 0.5)


def toward(value: float, target: float, dt_s: float, tau_s: float) -> float:
    """A first-order lag, exact for any step."""
    return target + (value - target) * math.exp(-dt_s / tau_s)


@lru_cache(maxsize=4096)
def core_fraction(clock_fraction: float, kind: GpuPlant) -> float:
    """Share of the core's full power at a share of its highest clock: f·V², with V rising with f."""
    volts = kind.voltage_least + (1 - kind.voltage_least) * clock_fraction**kind.voltage_exponent
    return float(clock_fraction * volts * volts)


def board_w(load: float, clock_fraction: float, kind: GpuPlant) -> float:
    """Watts of a board at `load` (0..1) and a share of the highest clock."""
    if load <= 0:
        return kind.idle_w
    return kind.idle_w + load * (kind.static_w + kind.dynamic_w * core_fraction(round(clock_fraction, 4), kind))


@lru_cache(maxsize=4096)
def clock_under_cap(cap_board_w: float, load: float, least: float, kind: GpuPlant) -> float:
    """The share of the highest clock at which a board draws `cap_board_w`: 1 where it never does."""
    low, high = least, 1.0
    if board_w(load, high, kind) <= cap_board_w:
        return 1.0
    for _ in range(20):
        middle = (low + high) / 2
        low, high = (middle, high) if board_w(load, middle, kind) <= cap_board_w else (low, middle)
    return low


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
class GpuPart:
    """One card. The first three are set from outside, the rest follows."""

    cap_w: float
    clock_limit_mhz: float
    load: float = 0.0
    is_low: bool = False  # performance level "low": the lowest clock, whatever the work
    is_present: bool = True
    clock_mhz: float = 0.0
    board_w: float = 0.0
    sensor_w: float = 0.0
    sink_c: float = 30.0
    die_k: float = 0.0
    fan_rpm: float = 0.0
    vram_used_bytes: int = 0

    @property
    def edge_c(self) -> float:
        """Edge of the die."""
        return self.sink_c + 0.2 * self.die_k

    @property
    def junction_c(self) -> float:
        """The hottest point of the die."""
        return self.sink_c + 0.2 * self.die_k + self.die_k


@dataclass(slots=True)
class Plant:
    """A running box. `step` advances it; everything else is read or set between steps."""

    box: Box
    kind: PlantKind
    gpus: list[GpuPart] = field(default_factory=list)
    time_s: float = 0.0
    cpu_load: float = 0.0
    cpu_w: float = 0.0
    cpu_c: float = 35.0
    cpu_energy_uj: float = 0.0
    case_k: float = 0.0
    chassis_rpm: list[float] = field(default_factory=list)
    chassis_duty: float | None = None  # set by whoever took the fans from the BMC; None: automatic
    psu_in_w: list[float] = field(default_factory=lambda: [0.0, 0.0])
    psu_out_w: list[float] = field(default_factory=lambda: [0.0, 0.0])
    line_v: float = 0.0
    line_a: float = 0.0
    heat: float = 0.0
    is_tripped: bool = False
    _energy_j: float = 0.0
    _volt_s: float = 0.0
    _past: deque[tuple[float, float, float]] = field(default_factory=deque)

    @classmethod
    def of(cls, box: Box, kind: PlantKind) -> "Plant":
        """A box that has been idle for a while, every limit at its default."""
        plant = cls(box, kind, line_v=kind.line_v)
        for _ in box.gpu.slots:
            gpu = GpuPart(box.gpu.cap_default_w, box.gpu.clock_max_mhz, vram_used_bytes=kind.gpu.vram_idle_bytes)
            gpu.board_w = kind.gpu.idle_w
            gpu.sensor_w = gpu.board_w * kind.gpu.socket_to_board
            gpu.sink_c = kind.ambient_c + gpu.board_w * 0.3
            plant.gpus.append(gpu)
        plant.chassis_rpm = [box.fans.min_rpm * 1.4] * box.fans.count
        plant.cpu_w, plant.cpu_c = kind.cpu.idle_w, kind.ambient_c + kind.cpu.idle_w * kind.cpu.k_per_w
        for _ in range(int(2 / SUBSTEP_S)):
            plant.step(SUBSTEP_S)
        return plant

    @property
    def wall_w(self) -> float:
        """Real power drawn from the outlet now."""
        return sum(self.psu_in_w)

    @property
    def inlet_c(self) -> float:
        """Air at the cards' inlets."""
        return self.kind.ambient_c + self.case_k

    @property
    def breaker_heat(self) -> float:
        """Modelled heat as a share of what trips."""
        return self.heat / self.kind.breaker_trip_heat

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
        noise = self.box.noise
        energy = 10 ** (noise.floor_dba / 10)
        for rpm in self.chassis_rpm:
            energy += _fan_energy(rpm, noise.chassis_ref_dba, noise.chassis_ref_rpm, noise.slope_db)
        for gpu in self.gpus:
            energy += _fan_energy(gpu.fan_rpm, noise.gpu_ref_dba, noise.gpu_ref_rpm, noise.slope_db)
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
        for gpu in self.gpus:
            self._step_gpu(gpu, dt_s)
        self._step_cpu(dt_s)
        self._step_air(dt_s)
        self._step_line(dt_s)
        self._energy_j += self.wall_w * dt_s
        self._volt_s += self.line_v * dt_s
        self._past.append((self.time_s, self._energy_j, self._volt_s))
        while len(self._past) > 2 and self._past[1][0] <= self.time_s - MEAN_OVER_S:
            self._past.popleft()

    def reset_breaker(self) -> None:
        """Someone walked to the panel."""
        self.is_tripped, self.heat, self.line_v = False, 0.0, self.kind.line_v

    def _step_gpu(self, gpu: GpuPart, dt_s: float) -> None:
        kind, limits = self.kind.gpu, self.box.gpu
        alive = gpu.is_present and not self.is_tripped
        load = gpu.load if alive else 0.0
        least = limits.clock_min_mhz / limits.clock_max_mhz
        if load > 0:
            under_cap = clock_under_cap(round(gpu.cap_w / kind.socket_to_board, 1), round(load, 3), least, kind)
            limit = least if gpu.is_low else gpu.clock_limit_mhz / limits.clock_max_mhz
            target = min(under_cap, limit, 1.0)
            tau_s = kind.cap_tau_s if under_cap < limit else kind.clock_tau_s
            gpu.clock_mhz = toward(gpu.clock_mhz, target * limits.clock_max_mhz, dt_s, tau_s)
        else:
            gpu.clock_mhz = kind.clock_idle_mhz
        gpu.board_w = board_w(load, gpu.clock_mhz / limits.clock_max_mhz, kind) if alive else 0.0
        gpu.sensor_w = toward(gpu.sensor_w, gpu.board_w * kind.socket_to_board, dt_s, kind.sensor_tau_s)
        gpu.die_k = toward(gpu.die_k, gpu.board_w * kind.junction_k_per_w, dt_s, kind.die_tau_s)
        resistance = kind.edge_k_per_w * (max(gpu.fan_rpm, 350.0) / self.box.noise.gpu_ref_rpm) ** -0.8
        gpu.sink_c = toward(gpu.sink_c, self.inlet_c + gpu.board_w * resistance, dt_s, kind.sink_tau_s)
        gpu.fan_rpm = toward(gpu.fan_rpm, self._fan_target(gpu) if alive else 0.0, dt_s, kind.fan_tau_s)
        if gpu.fan_rpm < 1.0:
            gpu.fan_rpm = 0.0

    def _fan_target(self, gpu: GpuPart) -> float:
        """The firmware's own curve: standing while cool, then straight up to full speed."""
        kind, hottest = self.kind.gpu, gpu.junction_c
        start_c = kind.fan_start_c - (6.0 if gpu.fan_rpm > 0.5 * kind.fan_least_rpm else 0.0)
        if hottest < start_c:
            return 0.0
        share = min(1.0, max(0.0, (hottest - kind.fan_start_c) / (kind.fan_full_c - kind.fan_start_c)))
        return kind.fan_least_rpm + share * (self.box.gpu.fan_max_rpm - kind.fan_least_rpm)

    def _step_cpu(self, dt_s: float) -> None:
        kind = self.kind.cpu
        target = 0.0 if self.is_tripped else kind.idle_w + self.cpu_load * (kind.busy_w - kind.idle_w)
        self.cpu_w = toward(self.cpu_w, target, dt_s, 0.05)
        self.cpu_energy_uj = (self.cpu_energy_uj + self.cpu_w * dt_s * 1e6) % (kind.energy_range_uj + 1)
        self.cpu_c = toward(self.cpu_c, self.inlet_c + self.cpu_w * kind.k_per_w, dt_s, kind.tau_s)

    def _step_air(self, dt_s: float) -> None:
        """Chassis fans follow the processor's temperature unless somebody drives them; the case warms slowly."""
        fans = self.box.fans
        share = self.chassis_duty
        if share is None:
            share = min(1.0, 0.28 + max(0.0, self.cpu_c - 45.0) / 60.0)
        target = 0.0 if self.is_tripped else max(fans.min_rpm, share * fans.max_rpm)
        self.chassis_rpm = [toward(rpm, target, dt_s, 2.0) for rpm in self.chassis_rpm]
        self.case_k = toward(self.case_k, self.dc_w() * self.kind.rest.case_k_per_w, dt_s, self.kind.rest.case_tau_s)

    def dc_w(self) -> float:
        """All that the supplies deliver."""
        if self.is_tripped:
            return 0.0
        rest = self.kind.rest
        fans_w = sum(rest.fan_full_w * (rpm / self.box.fans.max_rpm) ** 3 for rpm in self.chassis_rpm)
        return sum(gpu.board_w for gpu in self.gpus) + self.cpu_w + rest.board_w + fans_w

    def _step_line(self, dt_s: float) -> None:
        kind, rated_w = self.kind, self.box.psu.rated_w
        dc_w, amps = self.dc_w(), 0.0
        for i, share in enumerate(PSU_SHARES):
            out_w = dc_w * share
            self.psu_out_w[i] = out_w
            target_w = 0.0 if self.is_tripped else out_w / efficiency(out_w / rated_w)
            self.psu_in_w[i] = 0.0 if self.is_tripped else toward(self.psu_in_w[i], target_w, dt_s, kind.psu_load_tau_s)
            if self.line_v > 0:
                amps += self.psu_in_w[i] / (self.line_v * power_factor(out_w / rated_w))
        self.line_a = amps
        self.line_v = 0.0 if self.is_tripped else kind.line_v - kind.line_ohm * amps
        self.heat = toward(self.heat, (amps / kind.breaker_rating_a) ** 2, dt_s, kind.breaker_tau_s)
        if self.heat >= kind.breaker_trip_heat:
            self.is_tripped = True


def _fan_energy(rpm: float, ref_dba: float, ref_rpm: float, slope_db: float) -> float:
    return 10 ** ((ref_dba + slope_db * math.log10(rpm / ref_rpm)) / 10) if rpm > 0 else 0.0
