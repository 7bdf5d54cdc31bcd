"""How loud the box is at the listener: fans by speed, summed as energies, fitted to what a sound meter showed.

Five figures make the model: the room's floor, and for chassis fans and cards the level of one fan at a reference speed
and its decibels per decade of speed. What is known of them beforehand comes from the box, as a mean and a covariance;
each reading of a meter moves both (Gauss-Newton towards the most likely figures), and the covariance says how sure the
level is at speeds that were never measured.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from operator import le

from tinybox.core.acoustics import Level, Reading, Source
from tinybox.core.box import Box, NoiseKind
from tinybox.core.snapshot import GpuState, Snapshot

FLOOR, CHASSIS, CHASSIS_SLOPE, CARD, CARD_SLOPE = range(5)
# One standard deviation of what a box's TOML says, in dB. Where the box stands moves all its fans alike.
FLOOR_SIGMA, PLACE_SIGMA, FAN_SIGMA, SLOPE_SIGMA = 4.0, 2.5, 1.5, 5.0
METER_SIGMA = 0.7  # of one reading: a meter's or phone's own scatter
SURE = 1.64  # standard deviations in the ± that people see: it holds nine times of ten
ROUNDS = 6
CONTRADICTS_DB = 2.0  # a slower box is not louder by more than a meter scatters
UNLIKELY = 4.0  # standard deviations
APART = 1.5  # two speeds tell a slope when they lie so far apart
TURNS_RPM = 1.0  # slower, a fan stands
SLOPES = (20.0, 80.0)  # what a fan's decibels per decade can be

Vector = tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Acoustics:
    """What is known of the five figures: means, and their covariance in dB²."""

    means: Vector
    covariance: tuple[Vector, ...]
    readings: int = 0

    @property
    def is_estimated(self) -> bool:
        """Whether nobody held a meter to it."""
        return self.readings == 0


@dataclass(frozen=True, slots=True)
class Speeds:
    """Every fan that can turn, in rpm, by the id of its fan or card."""

    chassis: tuple[tuple[str, float], ...]
    cards: tuple[tuple[str, float], ...]


def fan_dba(rpm: float, *, ref_dba: float, ref_rpm: float, slope_db: float) -> float:
    """Level of one fan: `slope_db` per decade of speed from a reference point. A standing fan is silent (-inf)."""
    return ref_dba + slope_db * math.log10(rpm / ref_rpm) if rpm > 0 else -math.inf


def sum_dba(levels: Iterable[float]) -> float:
    """Levels of independent sources together: energies add."""
    energy = sum(10 ** (level / 10) for level in levels)
    return 10 * math.log10(energy) if energy > 0 else -math.inf


@cache
def prior_of(kind: NoiseKind) -> Acoustics:
    """What the box's TOML says, before anybody measured."""
    means = (kind.floor_dba, kind.chassis_ref_dba, kind.slope_db, kind.gpu_ref_dba, kind.slope_db)
    place, fan = PLACE_SIGMA**2, PLACE_SIGMA**2 + FAN_SIGMA**2
    slope = SLOPE_SIGMA**2
    covariance = (
        (FLOOR_SIGMA**2, 0.0, 0.0, 0.0, 0.0),
        (0.0, fan, 0.0, place, 0.0),
        (0.0, 0.0, slope, 0.0, 0.0),
        (0.0, place, 0.0, fan, 0.0),
        (0.0, 0.0, 0.0, 0.0, slope),
    )
    return Acoustics(means, covariance)


def fitted(kind: NoiseKind, readings: Sequence[Reading]) -> Acoustics:
    """The most likely figures after these readings, and how sure they are."""
    prior = prior_of(kind)
    means, covariance = prior.means, prior.covariance
    for _ in range(ROUNDS if readings else 0):
        about = _held(means)  # the model is taken as straight around the figures of the round before
        means, covariance = prior.means, prior.covariance
        for reading in readings:
            told = [*_energies(reading.chassis_rpm, reading.card_rpm, kind, about)]
            gradient = _gradient(told)
            expected = _total(told) + sum(g * (m - a) for g, m, a in zip(gradient, means, about, strict=True))
            means, covariance = _learned(means, covariance, gradient, reading.dba - expected)
    return Acoustics(_held(means), covariance, len(readings))


def speeds_of(snapshot: Snapshot) -> Speeds | None:
    """Every fan's speed; None while one is unknown. A card asleep or gone turns no fan."""
    cards = [gpu for gpu in snapshot.gpus if gpu.state not in (GpuState.ASLEEP, GpuState.GONE)]
    chassis = [(fan.id, fan.rpm) for fan in snapshot.fans if fan.rpm is not None]
    turning = [(gpu.id, gpu.fan_rpm) for gpu in cards if gpu.fan_rpm is not None]
    if not chassis or len(chassis) < len(snapshot.fans) or len(turning) < len(cards):
        return None
    return Speeds(tuple(chassis), tuple(turning))


@lru_cache(maxsize=4)  # speeds are read once a second, the level is asked for every turn
def level_of(speeds: Speeds, kind: NoiseKind, acoustics: Acoustics) -> Level:
    """How loud that is."""
    names = [name for name, rpm in (*speeds.chassis, *speeds.cards) if rpm >= TURNS_RPM]
    chassis, cards = ([rpm for _, rpm in group] for group in (speeds.chassis, speeds.cards))
    told = [*_energies(chassis, cards, kind, acoustics.means)]
    gradient = _gradient(told)
    rows = (sum(c * g for c, g in zip(row, gradient, strict=True)) for row in acoustics.covariance)
    variance = sum(g * r for g, r in zip(gradient, rows, strict=True))
    levels = (10 * math.log10(energy) for energy, _, _ in told)
    sources = tuple(map(Source, ("room", *names), levels))
    return Level(_total(told), SURE * math.sqrt(max(0.0, variance)), acoustics.is_estimated, sources)


def level_now(snapshot: Snapshot, box: Box, acoustics: Acoustics | None = None) -> Level | None:
    """How loud the box is now; None while any fan's speed is unknown."""
    speeds = speeds_of(snapshot)
    return None if speeds is None else level_of(speeds, box.noise, acoustics or prior_of(box.noise))


def dba_at(chassis_rpm: Iterable[float], card_rpm: Iterable[float], kind: NoiseKind, acoustics: Acoustics) -> float:
    """How loud fans at these speeds would be."""
    return _total([*_energies(chassis_rpm, card_rpm, kind, acoustics.means)])


def contradiction(reading: Reading, others: Sequence[Reading]) -> tuple[Reading, Reading] | None:
    """Two readings of which the one with the slower fans is clearly louder: the slower, and the faster."""
    for other in others:
        for slow, fast in ((reading, other), (other, reading)):
            if slow.dba > fast.dba + CONTRADICTS_DB and _turns_slower(slow, fast):
                return slow, fast
    return None


def _turns_slower(slow: Reading, fast: Reading) -> bool:
    """No fan faster; readings of which one has other fans than the other say nothing."""
    groups = ((slow.chassis_rpm, fast.chassis_rpm), (slow.card_rpm, fast.card_rpm))
    return all(len(a) == len(b) and all(map(le, a, b)) for a, b in groups)


def is_likely(dba: float, expected: Level) -> bool:
    """Whether a meter can have shown this where the level is expected to be that."""
    sigma = math.hypot(expected.plus_minus_db / SURE, METER_SIGMA)
    return abs(dba - expected.dba) <= UNLIKELY * sigma


def wanted(readings: Sequence[Reading]) -> list[str]:
    """What would make the level surer: each group of fans at two speeds."""
    found = []
    for name, how, speeds in (
        ("chassis fans", "while the processor works", [max(one.chassis_rpm, default=0.0) for one in readings]),
        ("cards", "while they work", [max(one.card_rpm, default=0.0) for one in readings]),
    ):
        turning = [rpm for rpm in speeds if rpm > 0]
        if not turning:
            found.append(f"a reading with the {name} turning ({how})")
        elif max(turning) < APART * min(turning):
            found.append(f"the {name} at another speed, {APART:g} times faster or slower than {turning[-1]:.0f} rpm")
    return found


def _energies(
    chassis_rpm: Iterable[float], card_rpm: Iterable[float], kind: NoiseKind, means: Vector
) -> Iterable[tuple[float, int, float]]:
    """Each source's energy, which of the five figures is its level, and its decades of speed above the reference."""
    yield 10 ** (means[FLOOR] / 10), FLOOR, 0.0
    groups = ((chassis_rpm, CHASSIS, kind.chassis_ref_rpm), (card_rpm, CARD, kind.gpu_ref_rpm))
    for group, figure, ref_rpm in groups:
        for rpm in group:
            if rpm >= TURNS_RPM:
                decades = math.log10(rpm / ref_rpm)
                yield 10 ** ((means[figure] + means[figure + 1] * decades) / 10), figure, decades


def _total(told: list[tuple[float, int, float]]) -> float:
    return 10 * math.log10(sum(energy for energy, _, _ in told))


def _gradient(told: list[tuple[float, int, float]]) -> list[float]:
    """By how much the level moves with each figure: a source counts by its share of the energy."""
    whole = sum(energy for energy, _, _ in told)
    gradient = [0.0] * 5
    for energy, figure, decades in told:
        gradient[figure] += energy / whole
        if figure != FLOOR:
            gradient[figure + 1] += energy / whole * decades
    return gradient


def _learned(
    means: Vector, covariance: tuple[Vector, ...], gradient: list[float], surprise: float
) -> tuple[Vector, tuple[Vector, ...]]:
    """One reading's worth: figures move in proportion to how unsure they are and how much of the level they make."""
    along = [sum(c * g for c, g in zip(row, gradient, strict=True)) for row in covariance]
    spread = sum(a * g for a, g in zip(along, gradient, strict=True)) + METER_SIGMA**2
    moved = tuple(m + a / spread * surprise for m, a in zip(means, along, strict=True))
    kept = tuple(
        tuple(c - a * b / spread for c, b in zip(row, along, strict=True))
        for row, a in zip(covariance, along, strict=True)
    )
    return moved, kept


def _held(means: Vector) -> Vector:
    low, high = SLOPES
    slopes = {i: min(high, max(low, means[i])) for i in (CHASSIS_SLOPE, CARD_SLOPE)}
    return tuple(slopes.get(i, mean) for i, mean in enumerate(means))
