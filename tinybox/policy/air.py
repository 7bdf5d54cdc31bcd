"""Heat against noise: how fast every fan has to turn for the cards to stay where they should, and how loud that is.

A card's heat sink is warmer than the air before it by its watts times a resistance that falls with its fan's speed; the
air is warmer than the room by the box's watts, less the faster the chassis fans turn. So there is a best split: more
air from the chassis lets the cards' own fans turn slower. How warm the cards may get is one figure for all, `warmth`:
0 keeps each at its comfortable temperature, 1 at the highest it should have for the sake of quiet.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from tinybox.core.box import Box, FanKind, ThermalKind
from tinybox.core.snapshot import Gpu
from tinybox.policy.noise import Acoustics, dba_at

# Degrees below a sensor's own limit: comfortable, the most for quiet's sake, and where heat goes before quiet.
BELOW = {"junction_c": (30.0, 20.0, 15.0), "edge_c": (25.0, 15.0, 10.0), "memory_c": (25.0, 15.0, 10.0)}
WORKS_W = 60.0
LEAST_K = 3.0  # whatever a limit leaves, no fan cools closer to the air than that
DUTY_LEAST_PCT, DUTY_STEP_PCT = 20, 5  # boards take less from no one
FIRMWARE_SPAN_K = 60.0  # from a fan that begins to turn to its full speed, and what it cools meanwhile
HALVINGS = 6
SCALES = (0.3, 1.6)  # of the watts, within which one that fits is looked for
SCALE_HALVINGS = 8


@dataclass(frozen=True, slots=True)
class Sensor:
    """One temperature of a card: what it shows over the heat sink, and the three marks that it is held against."""

    name: str
    now_c: float
    over_sink_k: float
    comfort_c: float
    soft_c: float
    hard_c: float

    def mark_c(self, warmth: float) -> float:
        """How warm it may get."""
        return self.comfort_c + warmth * (self.soft_c - self.comfort_c)


@dataclass(frozen=True, slots=True)
class Source:
    """One card as heat and noise.

    `k_per_w` is of its heat sink at the reference speed, `air_c` the air before it now. One with a `firmware_rpm`
    cannot be told anything: that is what its firmware has chosen for now.
    """

    id: str
    thermal: ThermalKind
    watts: float
    k_per_w: float
    sensors: tuple[Sensor, ...]
    least_rpm: float
    most_rpm: float
    air_c: float
    firmware_rpm: float | None = None

    def rpm(self, warmth: float, air_c: float, scale: float = 1.0) -> tuple[float, bool]:
        """The speed that holds it at this warmth, and whether its fan can turn so fast."""
        if self.firmware_rpm is not None:
            return self._firmware_rpm(air_c, scale), True
        room_k = min((s.mark_c(warmth) - s.over_sink_k * scale for s in self.sensors), default=0.0) - air_c
        wanted_k_per_w = max(room_k, LEAST_K) / max(self.watts * scale, 1.0)
        rpm = self.thermal.ref_rpm * (wanted_k_per_w / self.k_per_w) ** (1 / self.thermal.rpm_exponent)
        return min(max(rpm, self.least_rpm), self.most_rpm), rpm <= self.most_rpm and room_k > LEAST_K

    def _firmware_rpm(self, air_c: float, scale: float) -> float:
        """What a firmware makes of other air and other watts: about so much more speed for every degree."""
        now_rpm = self.firmware_rpm or 0.0
        if now_rpm == 0:
            return 0.0
        rise_k = self.watts * self.k_per_w * (now_rpm / self.thermal.ref_rpm) ** self.thermal.rpm_exponent
        warmer_k = air_c - self.air_c + (scale - 1) * rise_k
        return float(min(max(now_rpm + self.most_rpm * warmer_k / FIRMWARE_SPAN_K, self.least_rpm), self.most_rpm))


@dataclass(frozen=True, slots=True)
class Air:
    """The case: air at the cards now, the watts that warm it, and how fast its fans turn."""

    fans: FanKind
    inlet_c: float
    dc_w: float
    rpm: float

    def at_c(self, rpm: float, scale: float = 1.0) -> float:
        """Air at the cards once the chassis fans turn so fast and the box draws `scale` of its watts."""
        return self.inlet_c - self._rise_k(self.rpm) + scale * self._rise_k(rpm)

    def _rise_k(self, rpm: float) -> float:
        return self.dc_w * self.fans.case_k_per_w * self.fans.stuffiness(rpm)


@dataclass(frozen=True, slots=True)
class Plan:
    """The chassis fans' duty, how warm the cards may get, how fast each may turn, and the level of it all."""

    duty_pct: float
    warmth: float
    rpm: dict[str, float]
    dba: float
    fits: bool  # inside the level, and no card's fan is too slow for it


@dataclass(frozen=True, slots=True)
class Scene:
    """All that a plan is made of. `fixed_duty_pct`: the chassis fans are not ours to tell."""

    box: Box
    acoustics: Acoustics
    air: Air
    cards: tuple[Source, ...]
    least_duty_pct: float = DUTY_LEAST_PCT
    fixed_duty_pct: float | None = None

    @property
    def duties(self) -> tuple[float, ...]:
        """What may be told."""
        if self.fixed_duty_pct is not None:
            return (self.fixed_duty_pct,)
        steps = (float(step) for step in range(DUTY_LEAST_PCT, 101, DUTY_STEP_PCT))
        return (self.least_duty_pct, *(step for step in steps if step > self.least_duty_pct))

    def at(self, duty_pct: float, warmth: float, scale: float = 1.0) -> Plan:
        """What it takes at this duty to hold the cards there."""
        fans = self.box.fans
        chassis_rpm = fans.rpm_at(duty_pct)
        air_c = self.air.at_c(chassis_rpm, scale)
        told = {card.id: card.rpm(warmth, air_c, scale) for card in self.cards}
        rpm = {name: speed for name, (speed, _) in told.items()}
        dba = dba_at([chassis_rpm] * fans.count, rpm.values(), self.box.noise, self.acoustics)
        return Plan(duty_pct, warmth, rpm, dba, all(is_enough for _, is_enough in told.values()))

    def held_at(self, duty_pct: float, most_dba: float | None, scale: float = 1.0) -> Plan:
        """The coolest plan at this duty that is no louder than that; the warmest where none is quiet enough."""
        cool = self.at(duty_pct, 0.0, scale)
        if most_dba is None or (cool.dba <= most_dba and cool.fits):
            return cool
        warm = self.at(duty_pct, 1.0, scale)
        if warm.dba > most_dba or not warm.fits:
            return replace(warm, fits=False)
        low, high = 0.0, 1.0
        for _ in range(HALVINGS):
            middle = self.at(duty_pct, (low + high) / 2, scale)
            if middle.dba <= most_dba and middle.fits:
                high, warm = middle.warmth, middle
            else:
                low = middle.warmth
        return warm

    def best(self, most_dba: float | None, scale: float = 1.0) -> Plan:
        """The quietest at the comfortable temperature where that is quiet enough, else the coolest that is.

        Where none is, the one that is least too loud, of those with the most air.
        """
        plans = [self.held_at(duty, most_dba, scale) for duty in self.duties]
        fitting = [plan for plan in plans if plan.fits]
        if fitting:
            return min(fitting, key=lambda plan: (plan.warmth, plan.dba))
        over = 0.0 if most_dba is None else most_dba
        return min(plans, key=lambda plan: (max(0.0, plan.dba - over), -plan.duty_pct))

    def scale(self, most_dba: float) -> float:
        """The share of the present watts with which the level holds, the cards as warm as they may get."""
        low, high = SCALES
        if not self.holds(most_dba, low):
            return low
        for _ in range(SCALE_HALVINGS):
            middle = (low + high) / 2
            low, high = (middle, high) if self.holds(most_dba, middle) else (low, middle)
        return low

    def holds(self, most_dba: float, scale: float = 1.0) -> bool:
        """Whether the level holds at all at this share of the present watts."""
        plans = (self.at(duty, 1.0, scale) for duty in self.duties)
        return any(plan.fits and plan.dba <= most_dba for plan in plans)


def over_sink(gpu: Gpu, watts: float | None, die_k_per_w: float) -> dict[str, float]:
    """For each watt of a card at work, what its sensors show over the heat sink: they follow its watts at once."""
    base_c = gpu.edge_c if gpu.edge_c is not None else gpu.junction_c
    if base_c is None or watts is None or watts < WORKS_W:
        return {}
    told = ((name, getattr(gpu, name)) for name in BELOW)
    return {name: die_k_per_w + (now_c - base_c) / watts for name, now_c in told if now_c is not None}


def sensors_of(gpu: Gpu, limits: dict[str, float], over_k: dict[str, float]) -> tuple[Sensor, ...]:
    """Those temperatures of a card that it tells."""
    told = ((name, getattr(gpu, name)) for name in BELOW)
    return tuple(
        Sensor(name, now_c, over_k.get(name, 0.0), *(limits[name] - below_k for below_k in BELOW[name]))
        for name, now_c in told
        if now_c is not None
    )


def hottest(cards: Sequence[Source]) -> tuple[str, Sensor] | None:
    """The card and its sensor that are nearest to where heat goes before quiet."""
    found = [(card.id, sensor) for card in cards for sensor in card.sensors]
    return min(found, key=lambda one: one[1].hard_c - one[1].now_c, default=None)
