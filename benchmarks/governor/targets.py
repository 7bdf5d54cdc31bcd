"""The targets of the governor beside what was measured: worst and median over plants, and whether it passes."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean, median

from benchmarks.governor.matrix import Cell
from benchmarks.governor.series import Reaction
from benchmarks.governor.workloads import DRYER_FROM_S, Tag, workload

DWELL_MEAN, DWELL_WORST, ARRIVAL_WORST, FAST_WORST, STRICT_WORST = 0.96, 0.92, 0.97, 0.78, 0.95
FREEZE_WITHIN_S = 8.0


@dataclass(frozen=True, slots=True)
class Target:
    """A row. `passes` is None where nothing is asked, or where nothing was measured."""

    what: str
    asked: str
    measured: str
    passes: bool | None
    where: str = ""


@dataclass(frozen=True, slots=True)
class Speed:
    """How quick the policy is, on one box, measured with nothing of ours beside it."""

    box: str
    reactions: tuple[Reaction, ...]
    decision_us_p50: float
    decision_us_p99: float


@dataclass(frozen=True, slots=True)
class Figures:
    """Cells of one policy with one tag, as a figure each."""

    cells: tuple[Cell, ...]
    value: Callable[[Cell], float | None]

    @property
    def known(self) -> list[tuple[float, Cell]]:
        """Figures that there are, with their cells."""
        return [(found, cell) for cell in self.cells if (found := self.value(cell)) is not None]

    def low(self) -> tuple[float, Cell]:
        """The least."""
        return min(self.known, key=lambda one: one[0])

    def high(self) -> tuple[float, Cell]:
        """The most."""
        return max(self.known, key=lambda one: one[0])

    def middle(self) -> float:
        """The median."""
        return median(one for one, _ in self.known)


def place_of(cell: Cell) -> str:
    """Where to look again."""
    return f"{cell.workload}, seed {cell.seed}"


def chosen(
    cells: Iterable[Cell], policy: str, tag: Tag | None = None, *, without: tuple[Tag, ...] = ()
) -> tuple[Cell, ...]:
    """The cells of a policy whose workload has a tag, and none of others."""
    kept = []
    for cell in cells:
        tags = workload(cell.workload).tags
        if cell.policy == policy and (tag is None or tag in tags) and not tags.intersection(without):
            kept.append(cell)
    return tuple(kept)


def targets_of(cells: Sequence[Cell], speed: Speed) -> list[Target]:
    """Every row for one box; rows without cells are left out."""
    rows = [*_work_rows(cells), *_fixed_rows(cells), *_promise_rows(cells), *_dryer_rows(cells)]
    return [*rows, *_limit_rows(cells), *_speed_rows(speed)]


def at_least(
    what: str, least: float | None, cells: Sequence[Cell], value: Callable[[Cell], float | None]
) -> list[Target]:
    """A ratio that may not be less."""
    figures = Figures(tuple(cells), value)
    if not figures.known:
        return []
    worst, cell = figures.low()
    asked = "" if least is None else f"≥ {100 * least:.0f} %"
    measured = f"worst {100 * worst:.1f} %, median {100 * figures.middle():.1f} %"
    return [Target(what, asked, measured, None if least is None else worst >= least, place_of(cell))]


def at_most(
    what: str, most: float, cells: Sequence[Cell], value: Callable[[Cell], float | None], *, unit: str = ""
) -> list[Target]:
    """A figure that may not be more."""
    figures = Figures(tuple(cells), value)
    if not figures.known:
        return []
    worst, cell = figures.high()
    where = place_of(cell) if worst > 0 else ""
    measured = f"worst {worst:.3g}{unit}, median {figures.middle():.3g}{unit}"
    return [Target(what, f"≤ {most:g}{unit}" if most else "0", measured, worst <= most, where)]


def _work_rows(cells: Sequence[Cell]) -> list[Target]:
    dwell = chosen(cells, "bounded", Tag.DWELL, without=(Tag.FAULT,))
    rows: list[Target] = []
    if dwell:
        mean, capped = fmean(c.vs_steady for c in dwell), fmean(min(1.0, c.vs_steady) for c in dwell)
        measured = f"mean {100 * mean:.1f} %; {100 * capped:.1f} % if what is above 100 % counts as 100 %"
        rows.append(Target("work vs steady, loads that dwell ≥ 1 s, mean", "≥ 96 %", measured, mean >= DWELL_MEAN))
    rows += at_least("the same, each workload and plant", DWELL_WORST, dwell, lambda c: c.vs_steady)
    faulty = chosen(cells, "bounded", Tag.FAULT)
    rows += at_least("the same with a fault in the middle", None, faulty, lambda c: c.vs_steady)
    arrivals = chosen(cells, "bounded", Tag.ARRIVAL)
    rows += at_least("the same, each arrival trace", ARRIVAL_WORST, arrivals, lambda c: c.vs_steady)
    fast = chosen(cells, "bounded", Tag.FAST)
    rows += at_least("the same, loads that change within 1 s", FAST_WORST, fast, lambda c: c.vs_steady)
    ours = chosen(cells, "bounded", without=(Tag.DRYER,))
    rows += at_least("work vs the bound for anybody", None, ours, lambda c: c.vs_bound)
    rows += _above_bound(cells)
    strict = chosen(cells, "strict", without=(Tag.DRYER, Tag.FAULT))
    rows += at_least("strict vs the optimum under its invariant", STRICT_WORST, strict, lambda c: c.vs_strict)
    slow = chosen(cells, "strict", Tag.DWELL, without=(Tag.FAULT,))
    return rows + at_least("the same, loads that dwell ≥ 1 s", None, slow, lambda c: c.vs_strict)


def _above_bound(cells: Sequence[Cell]) -> list[Target]:
    """A policy that keeps the promise and beats the bound would show a fault of the plant or of the bound."""
    kept = [cell for cell in cells if not cell.promise_broken_s and Tag.DRYER not in workload(cell.workload).tags]
    above = [cell for cell in kept if cell.vs_bound > 1]
    where = f"{above[0].policy}, {place_of(above[0])}" if above else ""
    return [Target("runs above the bound, of those that keep the promises", "0", f"{len(above)}", not above, where)]


def _fixed_rows(cells: Sequence[Cell]) -> list[Target]:
    ours = chosen(cells, "bounded", without=(Tag.DRYER,))
    rows = at_least("work vs the highest fixed limit that keeps the promises", 1.0, ours, lambda c: c.vs_highest)
    rows += at_least("work vs power-limit 150", None, ours, lambda c: c.vs_fixed150)
    fixed = Figures(chosen(cells, "fixed150", without=(Tag.DRYER,)), lambda c: c.amps_10s_max)
    if fixed.known:
        most_a, cell = fixed.high()
        broken = sum(c.promise_broken_s > 0 for c in fixed.cells)
        measured = f"{most_a:.2f} A at most on the mean of 10 s, {broken} of {len(fixed.cells)} runs break a promise"
        rows.append(Target("what power-limit 150 draws", "", measured, None, place_of(cell)))
    return rows


def _promise_rows(cells: Sequence[Cell]) -> list[Target]:
    rows: list[Target] = []
    for policy in ("bounded", "strict"):
        ours, calm = chosen(cells, policy), chosen(cells, policy, without=(Tag.DRYER,))
        rows += at_most(f"{policy}: breaker trips", 0, ours, lambda c: c.trips)
        rows += at_most(f"{policy}: promises broken", 0, calm, lambda c: c.promise_broken_s, unit=" s")
        rows += at_most(f"{policy}: needless interventions", 0, ours, lambda c: c.needless)
    return rows


def _dryer_rows(cells: Sequence[Cell]) -> list[Target]:
    rows: list[Target] = []
    for policy in ("bounded", "strict"):
        dryer = chosen(cells, policy, Tag.DRYER)
        what = f"{policy}: a hair dryer unannounced"
        rows += at_most(f"{what}: heat of the fastest breaker", 0.8, dryer, lambda c: c.breaker_heat_max)
        late = [cell for cell in dryer if cell.first_freeze_s is None]
        if late:
            measured = f"never in {len(late)} of {len(dryer)} runs"
            rows.append(Target(f"{what}: frozen after", f"≤ {FREEZE_WITHIN_S:g} s", measured, False, place_of(late[0])))
        else:
            rows += at_most(f"{what}: frozen after", FREEZE_WITHIN_S, dryer, _freeze_after_s, unit=" s")
    return rows


def _freeze_after_s(cell: Cell) -> float | None:
    return None if cell.first_freeze_s is None else cell.first_freeze_s - DRYER_FROM_S


def _limit_rows(cells: Sequence[Cell]) -> list[Target]:
    ours = chosen(cells, "bounded")
    lasting, arrivals = chosen(cells, "bounded", Tag.LASTING), chosen(cells, "bounded", Tag.ARRIVAL)
    rows = at_least("use of the continuous budget under lasting demand", 0.97, lasting, lambda c: c.use)
    rows += at_most("added time to the first token, p99", 50, arrivals, _ttft_ms, unit=" ms")
    return [*rows, *at_most("writes per card and minute", 60, ours, lambda c: c.writes_per_min)]


def _ttft_ms(cell: Cell) -> float | None:
    return None if cell.ttft_p99_s is None else 1e3 * cell.ttft_p99_s


def _speed_rows(speed: Speed) -> list[Target]:
    rows = []
    for reaction in speed.reactions:
        worst = reaction.worst
        seen = sorted(one for one in reaction.periods if one is not None)
        measured = f"worst {worst:.2g}, median {median(seen):.2g}" if worst is not None else "not always with a write"
        what = f"reaction to a step from {reaction.from_load} to six, in control periods"
        rows.append(Target(what, "≤ 2", measured, None if worst is None else worst <= 2 + 1e-9))
    for name, took_us, most_us in (("p50", speed.decision_us_p50, 300), ("p99", speed.decision_us_p99, 600)):
        measured = f"{took_us:.0f} µs"
        rows.append(Target(f"one decision for six cards, {name}", f"≤ {most_us} µs", measured, took_us <= most_us))
    return rows
