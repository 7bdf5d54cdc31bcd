"""One card as physics: watts and speed under clock, cap and work; heat and fan at their own, slower pace.

Everything a sub-step needs is looked up in tables of `CLOCK_STEP_MHZ`, made once for a card and a kind of work.
"""

import math
from bisect import bisect_right
from dataclasses import dataclass, field

from tinybox.core.box import GpuKind
from tinybox.twin.constants import KINDS, AirPlant, GpuPlant, WorkPlant
from tinybox.twin.faults.heat import DRIED, DUSTY, HUNTING_HIGH, HUNTING_S, LEAKED_BYTES, PADS_K, STUCK_W

CLOCK_STEP_MHZ = 5
LIMITED, UNLIMITED = "userspace", "userspace-unlimited"
USERSPACE = {LIMITED, UNLIMITED}  # a program drives the card itself, with a limit of its own or without
USER_LIMIT_W = 150.0
HALVING = {"power-brake", "thermal-throttle"}  # faults that cost a card half its clock
HOLD_LEAST, HOLD_PER_K, HOLD_CALM_K = 0.2, 0.002, 2.0  # of the clock, each tenth of a second
TAKES_OVER_K = 5.0  # below its limit the driver overrules a speed that somebody set (NVIDIA)
SHARPNESS = 6.0  # how abruptly the speed bends at its knee


def toward(value: float, target: float, dt_s: float, tau_s: float) -> float:
    """A first-order lag, exact for any step."""
    return target + (value - target) * math.exp(-dt_s / tau_s)


def core_fraction(clock_fraction: float, kind: GpuPlant) -> float:
    """Share of the core's full power at a share of its highest clock: f·V², with V rising with f."""
    volts = kind.voltage_least + (1 - kind.voltage_least) * clock_fraction**kind.voltage_exponent
    return float(clock_fraction * volts * volts)


def speed_of(watts_fraction: float, work: WorkPlant) -> float:
    """Speed at a share of the card's default watts, not yet scaled to 1 at full speed."""
    if watts_fraction <= 0:
        return 0.0
    x = (watts_fraction / work.knee) ** work.exponent
    speed = x / (1 + x**SHARPNESS) ** (1 / SHARPNESS)
    if watts_fraction < work.cliff:
        speed *= (watts_fraction / work.cliff) ** work.cliff_exponent
    return float(speed)


@dataclass(frozen=True, slots=True)
class Curve:
    """One kind of work on one card, by clock: board watts above idle when busy, and speed (1: stock limits)."""

    active_w: tuple[float, ...]
    speed: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Silicon:
    """One card's curves. `curves` has one for each kind of work."""

    kind: GpuPlant
    box: GpuKind
    curves: dict[str, Curve]

    @classmethod
    def of(cls, kind: GpuPlant, box: GpuKind) -> "Silicon":
        """Tables from the constants; the reference of every speed is the card at its default cap."""
        count = box.clock_max_mhz // CLOCK_STEP_MHZ + 2
        cores = [core_fraction(min(1.0, i * CLOCK_STEP_MHZ / box.clock_max_mhz), kind) for i in range(count)]
        reference_w = min(
            kind.idle_w + kind.silicon * (kind.static_w + kind.dynamic_w), box.cap_default_w / kind.socket_to_board
        )
        curves = {}
        for name in KINDS:
            work: WorkPlant = getattr(kind, name)
            active = [kind.silicon * (kind.static_w + work.core_share * kind.dynamic_w * core) for core in cores]
            raw = [speed_of((kind.idle_w + watts) / reference_w, work) for watts in active]
            stock = min(raw[-1], speed_of(1.0, work))
            # Whatever the watts say, a core that does not turn does nothing.
            ramp = [min(1.0, i * CLOCK_STEP_MHZ / box.clock_min_mhz) for i in range(count)]
            speeds = [min(1.0, one / stock) * share for one, share in zip(raw, ramp, strict=True)]
            curves[name] = Curve(tuple(active), tuple(speeds))
        return cls(kind, box, curves)

    def board_w(self, load: float, clock_mhz: float, work_kind: str = "train") -> float:
        """Watts of a board asked for `load` (0..1 of full speed) at a clock, once settled."""
        if load <= 0:
            return self.kind.idle_w
        index = int(min(clock_mhz, self.box.clock_max_mhz) / CLOCK_STEP_MHZ)
        curve = self.curves[work_kind]
        return self.kind.idle_w + curve.active_w[index] * min(1.0, load / max(curve.speed[index], 1e-9))


@dataclass(slots=True)
class GpuPart:
    """One card. The first group is set from outside, the rest follows.

    `load` is the share of full speed asked for while there is work, `duty` the share of the time that there is.
    """

    silicon: Silicon
    cap_w: float
    clock_limit_mhz: float
    load: float = 0.0
    duty: float = 1.0
    work_kind: str = "train"
    is_low: bool = False  # performance level "low": the lowest clock, whatever the work
    is_present: bool = True
    is_frozen: bool = False
    is_parked: bool = False
    may_rest: bool = True  # its fan, while it is cool
    fan_most_rpm: float = math.inf  # that its firmware may choose
    fan_share: float | None = None  # of its full speed, as somebody told it; None: its firmware decides

    clock_mhz: float = 0.0
    board_w: float = 0.0
    peak_w: float = 0.0  # of milliseconds
    sensor_w: float = 0.0
    busy: float = 0.0
    busy_sensor: float = 0.0
    stall: float = 1.0  # share of its cycles that a card runs whose cap is below what its lowest clock draws
    busy_mean: float = 0.0  # over the SMU's averaging: what the cap acts on
    idle_s: float = 0.0  # seconds without work so far
    sensor_j: float = 0.0  # joules by its own sensor
    work_s: float = 0.0  # full-speed seconds done so far
    sink_c: float = 30.0
    die_k: float = 0.0
    fan_rpm: float = 0.0
    vram_used_bytes: int = 0
    ails: frozenset[str] = frozenset()  # kinds of fault that the card itself has
    hunting_s: float = 0.0
    heat_hold: float = 1.0  # share of its clock that its firmware leaves it, too hot
    _energy_j: float = 0.0  # since the last slow step
    _decays: tuple[float, ...] = (0.0,) * 5
    _dt_s: float = field(default=-1.0)

    @classmethod
    def of(cls, kind: GpuPlant, box: GpuKind, ambient_c: float) -> "GpuPart":
        """A card that has been idle for a while, its limits those of the factory."""
        gpu = cls(Silicon.of(kind, box), box.cap_default_w, box.clock_max_mhz)
        gpu.vram_used_bytes = int(kind.vram_idle_bytes)
        gpu.clock_mhz = kind.clock_idle_mhz
        gpu.board_w = gpu.peak_w = kind.idle_w
        gpu.sensor_w = gpu.board_w * kind.socket_to_board * kind.sensor_gain
        gpu.sink_c = ambient_c + gpu.board_w * 0.3
        return gpu

    @property
    def edge_c(self) -> float:
        """Edge of the die."""
        return self.sink_c + 0.2 * self.die_k

    @property
    def junction_c(self) -> float:
        """The hottest point of the die."""
        return self.sink_c + 0.2 * self.die_k + self.die_k

    @property
    def memory_c(self) -> float:
        """The card's memory."""
        kind = self.silicon.kind
        return self.edge_c + (kind.memory_k if self.load > 0 else 2.0) + (PADS_K if "pads" in self.ails else 0.0)

    @property
    def vram_bytes(self) -> int:
        """What is in use of its memory, whoever holds it."""
        return self.vram_used_bytes + (LEAKED_BYTES if "vram-leak" in self.ails else 0)

    @property
    def idle_w(self) -> float:
        """The board without work."""
        return self.silicon.kind.idle_w + (STUCK_W if "idle-stuck" in self.ails else 0.0)

    def suffer(self, ails: frozenset[str]) -> None:
        """From now on it has these kinds of fault."""
        if (driven := USERSPACE & ails) != USERSPACE & self.ails:  # whoever takes it over begins with a reset
            self.factory_limits()
            if LIMITED in driven:
                self.cap_w = USER_LIMIT_W
        self.ails = ails
        if "cap-changed" in ails:
            self.cap_w = self.silicon.box.cap_max_w

    def speed(self) -> float:
        """Share of full speed that the present clock gives to the present kind of work."""
        return self.silicon.curves[self.work_kind].speed[int(self.clock_mhz / CLOCK_STEP_MHZ)] * self.stall

    def factory_limits(self) -> None:
        """What a reset or a return to the bus leaves."""
        self.cap_w, self.clock_limit_mhz = self.silicon.box.cap_default_w, self.silicon.box.clock_max_mhz
        self.is_low = False
        self.may_rest, self.fan_most_rpm, self.fan_share = True, math.inf, None

    def step(self, dt_s: float, *, has_power: bool) -> None:
        """The electrical side: speed and watts at the present clock, then the clock on its way to its target."""
        if dt_s != self._dt_s:
            kind = self.silicon.kind
            taus = (kind.clock_tau_s, kind.cap_tau_s, kind.clock_idle_tau_s, kind.sensor_tau_s, kind.busy_tau_s)
            self._dt_s, self._decays = dt_s, tuple(math.exp(-dt_s / tau) for tau in taus)
        kind, box = self.silicon.kind, self.silicon.box
        alive = has_power and self.is_present
        if self.load > 0 and self.duty > 0 and alive and not self.is_frozen:
            self._work(dt_s)
        else:
            self.busy = 0.0
            self.busy_mean *= self._decays[3]
            self.board_w = self.peak_w = self.idle_w if alive else 0.0
            idle_mhz = min(kind.clock_idle_mhz, self.clock_limit_mhz)
            self.clock_mhz = idle_mhz + (self.clock_mhz - idle_mhz) * self._decays[2]
        if self.clock_mhz > box.clock_max_mhz:
            self.clock_mhz = float(box.clock_max_mhz)
        reading_w = self.board_w * kind.socket_to_board * kind.sensor_gain
        self.sensor_w = reading_w + (self.sensor_w - reading_w) * self._decays[3]
        self.busy_sensor = self.busy + (self.busy_sensor - self.busy) * self._decays[4]
        self._energy_j += self.board_w * dt_s
        self.sensor_j += self.sensor_w * dt_s
        self.idle_s += (1.0 - self.busy) * dt_s

    def _work(self, dt_s: float) -> None:
        kind = self.silicon.kind
        curve = self.silicon.curves[self.work_kind]
        index = int(self.clock_mhz / CLOCK_STEP_MHZ)
        speed = curve.speed[index] * self.stall
        if self.load >= speed:
            done, self.busy = speed * self.duty, self.duty
        else:
            done = self.load * self.duty
            self.busy = done / speed
        self.work_s += done * dt_s
        self.busy_mean = self.busy + (self.busy_mean - self.busy) * self._decays[3]
        self._turn_clock(curve)
        # Watts are the mean over the step: those at its start would lag behind a clock that rises.
        before_w = curve.active_w[index] * self.stall
        after_w = curve.active_w[int(self.clock_mhz / CLOCK_STEP_MHZ)] * self.stall
        self.board_w = kind.idle_w + (before_w + after_w) / 2 * self.busy
        self.peak_w = kind.idle_w + max(before_w, after_w) * kind.excursion

    def _turn_clock(self, curve: Curve) -> None:
        """The clock on its way to its limit, or to where the SMU holds the mean of its own reading at the cap."""
        kind, box = self.silicon.kind, self.silicon.box
        limit_mhz = float(box.clock_min_mhz) if self.is_low else min(self.clock_limit_mhz, box.clock_max_mhz)
        if self.ails & HALVING:
            limit_mhz = max(limit_mhz / 2, float(box.clock_min_mhz))
        if self.heat_hold < 1.0:
            limit_mhz = max(limit_mhz * self.heat_hold, float(box.clock_min_mhz))
        target_mhz, stay, stall = limit_mhz, self._decays[0], 1.0
        cap_active_w = self.cap_w / (kind.socket_to_board * kind.sensor_gain) - kind.idle_w
        if curve.active_w[int(limit_mhz / CLOCK_STEP_MHZ)] * self.busy_mean > cap_active_w:
            under = bisect_right(curve.active_w, cap_active_w / self.busy_mean) - 1
            target_mhz = min(limit_mhz, max(under * CLOCK_STEP_MHZ, box.clock_min_mhz))
            if target_mhz < self.clock_mhz <= limit_mhz:
                stay = self._decays[1]
            least_w = curve.active_w[int(box.clock_min_mhz / CLOCK_STEP_MHZ)] * self.busy_mean
            stall = min(1.0, max(0.05, cap_active_w / least_w))
        if stall != self.stall:
            self.stall = stall + (self.stall - stall) * self._decays[1] if stall < self.stall else stall
        if self.duty >= 1:
            self.clock_mhz = target_mhz + (self.clock_mhz - target_mhz) * stay
            return
        # Work for a part of the step, in the middle of a pause: so the clock it starts at is about its mean at work.
        idle_mhz = min(kind.clock_idle_mhz, limit_mhz)
        linger = self._decays[2] ** ((1 - self.duty) / 2)
        clock_mhz = idle_mhz + (self.clock_mhz - idle_mhz) * linger
        clock_mhz = target_mhz + (clock_mhz - target_mhz) * stay**self.duty
        self.clock_mhz = idle_mhz + (clock_mhz - idle_mhz) * linger

    def step_heat(self, dt_s: float, *, inlet_c: float, has_power: bool, ref_rpm: float, air: AirPlant) -> None:
        """The thermal side, from the mean watts since it was last called."""
        kind = self.silicon.kind
        mean_w, self._energy_j = self._energy_j / dt_s, 0.0
        self.die_k = toward(self.die_k, mean_w * self._paste() * kind.junction_k_per_w, dt_s, kind.die_tau_s)
        resistance = kind.edge_k_per_w * (max(self.fan_rpm, 350.0) / ref_rpm) ** -0.8
        resistance *= air.dust * (DUSTY if "dust" in self.ails else 1.0)
        self.sink_c = toward(self.sink_c, inlet_c + mean_w * resistance, dt_s, kind.sink_tau_s)
        turns = has_power and self.is_present and "fan-stalled" not in self.ails
        self.hunting_s += dt_s
        target_rpm = self._fan_target() if turns else 0.0
        if abs(target_rpm - self.fan_rpm) > air.fan_dead_rpm or target_rpm == 0.0:
            self.fan_rpm = toward(self.fan_rpm, target_rpm, dt_s, kind.fan_tau_s)
        if self.fan_rpm < 1.0:
            self.fan_rpm = 0.0
        self._hold_back()

    def _hold_back(self) -> None:
        """Too hot, the firmware takes clock away until it is not; cool again, it gives it back."""
        over_k = self.limit_over_k()
        if over_k > 0:
            self.heat_hold = max(HOLD_LEAST, self.heat_hold - HOLD_PER_K * over_k)
        elif self.heat_hold < 1.0 and over_k < -HOLD_CALM_K:
            self.heat_hold = min(1.0, self.heat_hold + HOLD_PER_K)

    def limit_over_k(self) -> float:
        """By how much it is hotter than it may be."""
        box = self.silicon.box
        if box.vendor == "nvidia":  # what it slows down by is the temperature that it tells
            return self.edge_c - box.edge_crit_c
        return self.junction_c - box.junction_crit_c

    def _paste(self) -> float:
        return DRIED if "paste" in self.ails else 1.0

    def _fan_target(self) -> float:
        """The firmware's own curve: standing while cool, then straight up to full speed."""
        kind, hottest_c = self.silicon.kind, self.junction_c
        if "fan-hunting" in self.ails:
            return self.silicon.box.fan_max_rpm * (HUNTING_HIGH if self.hunting_s % HUNTING_S < HUNTING_S / 2 else 0.25)
        start_c = kind.fan_start_c - (6.0 if self.fan_rpm > 0.5 * kind.fan_least_rpm else 0.0)
        box = self.silicon.box
        if self.fan_share is not None and self.limit_over_k() < -TAKES_OVER_K:
            return self.fan_share * box.fan_max_rpm
        if hottest_c < start_c:
            return 0.0 if self.may_rest else kind.fan_least_rpm
        share = min(1.0, max(0.0, (hottest_c - kind.fan_start_c) / (kind.fan_full_c - kind.fan_start_c)))
        return min(kind.fan_least_rpm + share * (box.fan_max_rpm - kind.fan_least_rpm), self.fan_most_rpm)
