"""What watts buy, and how to share them: one card or job as a frontier of points, several by branch and bound.

A frontier is exact at its points. Between two points that are linked, everything on the straight line is possible (the
points lie so close that the line is within `THINNING` of the curve); between two that are not, nothing is.

`allocate` maximises the sum of rates under a sum of watts. Frontiers are not concave: a card costs watts before it does
anything, and the first ones buy the least. Concave hulls give a bound and at most one frontier in a gap of its hull;
that one is split there, and the best open case goes first, until the best allocation found is within `TOLERANCE` of
what any can reach.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import count, pairwise

THINNING = 1e-4  # of full speed
TOLERANCE = 1e-4  # of the rate
CASES_MAX = 2000  # far beyond what six cards take
PHASES = 48  # steps of a synchronous job's progress
TINY = 1e-9


@dataclass(frozen=True, slots=True, eq=False)
class Frontier:
    """Points of rising watts and rate, the first at no watts. `linked[i]`: points i and i+1 and all between."""

    watts: tuple[float, ...]
    rate: tuple[float, ...]
    linked: tuple[bool, ...]

    def below(self, watts: float) -> "Frontier":
        """The part at `watts` and less."""
        last = bisect_right(self.watts, watts + TINY) - 1
        cut, rates, linked = self.watts[: last + 1], self.rate[: last + 1], self.linked[:last]
        if last + 1 < len(self.watts) and self.linked[last] and watts > self.watts[last] + TINY:
            return Frontier((*cut, watts), (*rates, self._between(last, watts)), (*linked, True))
        return Frontier(cut, rates, linked)

    def above(self, watts: float) -> "Frontier | None":
        """The part at `watts` and more, if there is one."""
        first = bisect_left(self.watts, watts - TINY)
        if first == len(self.watts):
            return None
        cut, rates, linked = self.watts[first:], self.rate[first:], self.linked[first:]
        if first > 0 and self.linked[first - 1] and watts < self.watts[first] - TINY:
            return Frontier((watts, *cut), (self._between(first - 1, watts), *rates), (True, *linked))
        return Frontier(cut, rates, linked)

    def rate_at(self, watts: float) -> float:
        """What `watts` buy at most."""
        i = bisect_right(self.watts, watts + TINY) - 1
        if i + 1 < len(self.watts) and self.linked[i]:
            return self._between(i, max(watts, self.watts[i]))
        return self.rate[i]

    def _between(self, i: int, watts: float) -> float:
        share = (watts - self.watts[i]) / (self.watts[i + 1] - self.watts[i])
        return self.rate[i] + share * (self.rate[i + 1] - self.rate[i])


def hull(watts: Sequence[float], rate: Sequence[float]) -> list[int]:
    """Indices of the upper concave hull of points of rising watts."""
    kept: list[int] = []
    for i in range(len(watts)):
        while len(kept) > 1:
            a, b = kept[-2], kept[-1]
            if (rate[b] - rate[a]) * (watts[i] - watts[a]) > (rate[i] - rate[a]) * (watts[b] - watts[a]):
                break
            kept.pop()
        kept.append(i)
    return kept


def pareto(points: Sequence[tuple[float, float, bool]]) -> Frontier:
    """A frontier of (watts, rate, linked to the next) of rising rate, without the points that a cheaper one beats."""
    kept: list[tuple[float, float, bool]] = []
    for watts, rate, linked in points:
        while kept and kept[-1][0] >= watts - TINY:
            kept.pop()
            if kept:
                kept[-1] = (kept[-1][0], kept[-1][1], False)
        kept.append((watts, rate, linked))
    watts_, rates, links = zip(*kept, strict=True)
    return Frontier(watts_, rates, links[:-1])


@dataclass(frozen=True, slots=True)
class Card:
    """One card at one kind of work: what each speed costs, by clock level.

    `watts` are drawn at full duty; a card asked for less than its speed draws them only so long. With `is_grant` they
    are a grant above the floor's, held whatever the duty, and the lowest level costs nothing. Where it `can_rest` a
    card may also be left out altogether, at idle watts.
    """

    watts: tuple[float, ...]
    speed: tuple[float, ...]
    thrift: tuple[float, ...]  # the fewest watts per speed at this level or above
    is_grant: bool
    can_rest: bool

    @classmethod
    def of(
        cls, watts: Sequence[float], speed: Sequence[float], *, is_grant: bool = False, can_rest: bool = True
    ) -> "Card":
        """Levels thinned to what straight lines between them do not tell. Both rise, speed strictly."""
        kept = _thinned(watts, speed)
        thrift = [watts[i] / speed[i] for i in kept]
        for i in range(len(thrift) - 2, -1, -1):
            thrift[i] = min(thrift[i], thrift[i + 1])
        levels = tuple(watts[i] for i in kept), tuple(speed[i] for i in kept)
        return cls(*levels, tuple(thrift), is_grant, can_rest and not is_grant)

    def busy_w(self, rate: float) -> float:
        """Watts at the level whose speed is `rate`."""
        if rate <= self.speed[0]:
            return self.watts[0]
        i = min(bisect_left(self.speed, rate), len(self.speed) - 1)
        share = (rate - self.speed[i - 1]) / (self.speed[i] - self.speed[i - 1])
        return self.watts[i - 1] + min(1.0, share) * (self.watts[i] - self.watts[i - 1])

    def asked_w(self, rate: float) -> float:
        """Watts of a card asked for `rate`, at the level that takes the fewest."""
        i = min(bisect_left(self.speed, rate), len(self.speed) - 1)
        if self.is_grant:
            return self.busy_w(rate)
        thrifty_w = rate * self.thrift[i]
        return min(self.busy_w(rate), thrifty_w) if rate >= self.speed[0] else thrifty_w

    def frontier(self, load: float) -> Frontier:
        """A card asked for `load` by itself: any level, or none."""
        load = min(load, self.speed[-1])
        points = [(0.0, 0.0, False)] if self.can_rest else []
        last = bisect_left(self.speed, load - TINY)
        points += [(self.watts[i], self.speed[i], True) for i in range(last)]
        final_w = self.asked_w(load)
        if last and final_w < self.busy_w(load) - TINY:
            points[-1] = (*points[-1][:2], False)
        return pareto([*points, (final_w, load, False)])


def joint_frontier(members: Sequence[tuple[Card, float]]) -> Frontier:
    """A synchronous job of (card, load): all advance at one progress, at least one of them at the speed it has.

    The others may do their share at a thriftier level with pauses. Rate is that of all members together.
    """
    is_grant = members[0][0].is_grant
    whole = sum(load for _, load in members)
    most = min(1.0, *(card.speed[-1] / load for card, load in members))
    least = min(most, *(card.speed[0] / load for card, load in members))
    points = [(0.0, 0.0, False)] if members[0][0].can_rest else []
    for i in range(PHASES + 1):
        progress = least + (most - least) * i / PHASES
        asked_w = sum(card.asked_w(load * progress) for card, load in members)
        extra_w = 0.0 if is_grant else _slowest_extra_w(members, progress)
        if progress >= 1 - TINY and extra_w > TINY:  # all that is asked for is done: nobody has to be the slowest
            points[-1], extra_w = (*points[-1][:2], False), 0.0
        if not points or progress * whole > points[-1][1] + TINY:
            points.append((asked_w + extra_w, progress * whole, True))
    return pareto(points)


def _slowest_extra_w(members: Sequence[tuple[Card, float]], progress: float) -> float:
    """What it takes that one member has no pauses: the cheapest one. Nothing where all are faster at their lowest."""
    rates = [(card, load * progress) for card, load in members if load * progress >= card.speed[0] - TINY]
    return min((card.busy_w(rate) - card.asked_w(rate) for card, rate in rates), default=0.0)


def _thinned(watts: Sequence[float], speed: Sequence[float]) -> list[int]:
    """Indices of so many points that no straight line between them leaves the curve by more than `THINNING`."""
    kept, i = [0], 0
    while i < len(watts) - 1:
        j = i + 1
        while j + 1 < len(watts) and _is_straight(watts, speed, i, j + 1):
            j += 1
        kept.append(j)
        i = j
    return kept


def _is_straight(watts: Sequence[float], speed: Sequence[float], i: int, j: int) -> bool:
    slope = (speed[j] - speed[i]) / (watts[j] - watts[i])
    return all(abs(speed[i] + slope * (watts[k] - watts[i]) - speed[k]) <= THINNING for k in range(i + 1, j))


@dataclass(frozen=True, slots=True)
class Case:
    """Frontiers narrowed by branching, and the best that their hulls promise."""

    frontiers: tuple[Frontier, ...]
    bound: float
    watts: tuple[float, ...]
    split: int  # which one lies in a gap of its hull (-1: none)


def allocate(frontiers: Sequence[Frontier], budget_w: float) -> tuple[float, ...]:
    """The rate of each under a budget, within `TOLERANCE` of the best sum; nobody gets anything from less than none."""
    order = sorted(range(len(frontiers)), key=lambda i: id(frontiers[i]))  # equal ones side by side
    whole = tuple(frontiers[i] for i in order)
    number = count()
    best, best_w = -1.0, tuple(one.watts[0] for one in whole)
    open_cases: list[tuple[float, int, Case]] = []
    if (case := _case(whole, budget_w)) is not None:
        heappush(open_cases, (-case.bound, next(number), case))
    while open_cases and next(number) < CASES_MAX:
        _, _, case = heappop(open_cases)
        if case.bound <= best + TOLERANCE * abs(best):
            break
        true = sum(one.rate_at(watts) for one, watts in zip(case.frontiers, case.watts, strict=True))
        if true > best:
            best, best_w = true, case.watts
        if case.split >= 0:
            for child in _children(case, whole, budget_w):
                heappush(open_cases, (-child.bound, next(number), child))
    rates = [0.0] * len(whole)
    for place, one, watts in zip(order, whole, best_w, strict=True):
        rates[place] = one.rate_at(watts)
    return tuple(rates)


def _children(case: Case, whole: Sequence[Frontier], budget_w: float) -> list[Case]:
    """The two halves of a case. Equal frontiers are interchangeable: the first of them is never behind the next."""
    at, watts = case.split, case.watts[case.split]
    same = [i for i, one in enumerate(whole) if one is whole[at]]
    lower, upper = list(case.frontiers), list(case.frontiers)
    is_upper = True
    for i in same:
        if i >= at:
            lower[i] = lower[i].below(watts)
        if i <= at:
            above = upper[i].above(watts)
            is_upper = is_upper and above is not None
            upper[i] = above or upper[i]
    found = [_case(tuple(lower), budget_w), _case(tuple(upper), budget_w) if is_upper else None]
    return [child for child in found if child is not None]


def _case(frontiers: tuple[Frontier, ...], budget_w: float) -> Case | None:
    """The relaxation: hulls filled by slope. None where even the least does not fit."""
    watts = [one.watts[0] for one in frontiers]
    left_w = budget_w - sum(watts)
    if left_w < -TINY:
        return None
    bound = sum(one.rate[0] for one in frontiers)
    edges: list[tuple[float, int, int, int]] = []
    for i, one in enumerate(frontiers):
        kept = hull(one.watts, one.rate)
        for a, b in pairwise(kept):
            edges.append((-(one.rate[b] - one.rate[a]) / (one.watts[b] - one.watts[a]), i, a, b))
    edges.sort()
    split = -1
    for slope, i, a, b in edges:
        one = frontiers[i]
        step_w = one.watts[b] - one.watts[a]
        if step_w > left_w + TINY:
            watts[i] += left_w
            bound -= slope * left_w
            split = -1 if left_w <= TINY or (b == a + 1 and one.linked[a]) else i
            break
        watts[i] = one.watts[b]
        bound -= slope * step_w
        left_w -= step_w
    return Case(frontiers, bound, tuple(watts), split)
