"""More than anybody can do who keeps the continuous promise, whatever is banked within its window.

The promise: the mean amps of every 10 s are at most those promised. The run is cut into blocks of 10 s; a policy that
keeps the promise spends at most the promise's amp-seconds in each (in a shorter block at either end, what the window
leaves beside an idle box). Everything else is made easier than it is:

- Amps are replaced by a line that lies below them: watts before the supplies by a line below their curve (which a lag
  leaves true), power factor by its highest, the line's sag by a tangent.
- A card's frontier becomes its concave hull over all clocks: they change at once and at no cost, and there are no caps.
- The supplies' hold-up may carry amp-seconds over an edge between blocks, at the blocks' own prices.
- A task is done at any time from its earliest start on, with any others, on its card's most thrifty hull edge.

Then each block is a linear programme: maximise work over hull edges, filled by slope. The slope of the last edge is the
block's price λ (work per amp-second), and the bound is the dual's value at these prices,

    Σ blocks [λ·amp-seconds + Σ edges max(0, work − λ·amp-seconds of the edge)] + Σ tasks max(0, work − λ·theirs)

with the least λ from a task's earliest start on. By weak duality it holds at any prices, so several are tried, with
several cuts and lines, and the least value is returned; `RIPPLE` is added for the plant's line volts, which follow its
amps a sub-step later. A box that is on draws idle watts at least; one that was switched off does no more work.
"""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

from tinybox.replay.demand import Ask, asks_of
from tinybox.replay.frontier import hull
from tinybox.replay.supply import Promise, Supply
from tinybox.replay.trace import Trace, earliest_starts
from tinybox.twin.gpu import Curve, Silicon
from tinybox.twin.plant import power_factor

WINDOW_S = 10.0
CUTS_S = (0.0, 2.5, 5.0, 7.5)
LINES = (0.75, 0.999, 1.001, 1.3)  # where they touch, in shares of the promise's watts
EDGES = 24  # of a hull, at most
RIPPLE = 1e-3
STEP_W = 5.0
ALLOWANCE_W = 0.01  # what a supply's curve may bend between two steps

Want = tuple[str, tuple[tuple[int, float], ...]]
Edges = tuple[tuple[float, float], ...]  # (watts, rate), by falling slope


@dataclass(frozen=True, slots=True)
class Hull:
    """The fewest watts for each rate, time-sharing allowed: straight between points, from nothing up."""

    watts: tuple[float, ...]
    rate: tuple[float, ...]

    @classmethod
    def of(cls, curve: Curve) -> "Hull":
        """From outside: some of the hull's own edges, prolonged to where they meet."""
        watts, rate = (0.0, *curve.active_w), (0.0, *curve.speed)
        top = bisect_left(rate, max(rate))
        kept = hull(watts[: top + 1], rate[: top + 1])
        edges = list(pairwise(kept))
        every = max(1, math.ceil(len(edges) / EDGES))
        chosen = [*edges[:-1:every], edges[-1]]
        lines = [(watts[a], rate[a], (rate[b] - rate[a]) / (watts[b] - watts[a])) for a, b in chosen]
        points = [(0.0, 0.0)]
        for (w, r, slope), (w2, r2, slope2) in pairwise(lines):
            if slope - slope2 > 1e-12:
                at_w = (r2 - r + slope * w - slope2 * w2) / (slope - slope2)
                points.append((at_w, r + slope * (at_w - w)))
        points.append((watts[top], rate[top]))
        return cls(tuple(w for w, _ in points), tuple(r for _, r in points))

    def least_w(self, rate: float) -> float:
        """Watts for a rate that the card can reach."""
        i = min(max(bisect_left(self.rate, rate), 1), len(self.rate) - 1)
        share = (rate - self.rate[i - 1]) / (self.rate[i] - self.rate[i - 1])
        return self.watts[i - 1] + share * (self.watts[i] - self.watts[i - 1])


class Hulls:
    """Hull edges of rows and synchronous jobs, made once for each distinct one."""

    def __init__(self, supply: Supply) -> None:
        self._silicon = [Silicon.of(one, card) for one, card in zip(supply.kind.gpus, supply.box.kinds, strict=True)]
        self._hulls: dict[tuple[int, str], Hull] = {}
        self._edges: dict[Want, Edges] = {}
        self.most_w = supply.idle_w + sum(max(c.active_w[-1] for c in one.curves.values()) for one in self._silicon)

    def hull(self, gpu: int, kind: str) -> Hull:
        """One card at one kind of work."""
        if (gpu, kind) not in self._hulls:
            self._hulls[gpu, kind] = Hull.of(self._silicon[gpu].curves[kind])
        return self._hulls[gpu, kind]

    def edges(self, want: Want) -> Edges:
        """All that want asks for, by falling rate per watt; members of a job advance together."""
        if want not in self._edges:
            kind, members = want
            parts = [(self.hull(gpu, kind), load) for gpu, load in members]
            most = min(1.0, *(one.rate[-1] / load for one, load in parts))
            marks = sorted({min(most, rate / load) for one, load in parts for rate in one.rate} | {most})
            whole = sum(load for _, load in members)
            points = [(sum(one.least_w(load * mark) for one, load in parts), whole * mark) for mark in marks]
            self._edges[want] = tuple((w2 - w, r2 - r) for (w, r), (w2, r2) in pairwise(points) if r2 - r > 1e-12)
        return self._edges[want]


@dataclass(slots=True)
class Block:
    """A stretch of at most 10 s: for how long each row or job asks under each promise, and until when tasks may."""

    from_s: float
    to_s: float
    asked_s: dict[tuple[int, Want], float] = field(default_factory=dict)
    tasks: dict[tuple[int, Want], float] = field(default_factory=dict)  # in their earliest time: a guess, for prices


@dataclass(frozen=True, slots=True)
class Line:
    """Amps are at least `idle_a` and `per_w` for every watt above idle."""

    idle_a: float
    per_w: float


def bound(trace: Trace, supply: Supply, promises: Sequence[Promise]) -> float:
    """Full-speed GPU-seconds that no policy which keeps the promise can exceed."""
    hulls = Hulls(supply)
    idle_a = [supply.amps(supply.idle_w, one.line_scale, one.other_a) for one in promises]
    # Below the amps of an idle box no promise can be kept: it is taken for one that leaves the cards nothing.
    promises = [replace(one, amps=max(one.amps, least_a)) for one, least_a in zip(promises, idle_a, strict=True)]
    least = trace.work_s
    for cut_s in CUTS_S:
        blocks = _blocks(trace, promises, cut_s)
        for share in LINES:
            lines = [_line(supply, promise, share, hulls.most_w) for promise in promises]
            least = min(least, _Dual(trace, supply, promises, hulls, lines).value(blocks) * (1 + RIPPLE))
    return least


def _line(supply: Supply, promise: Promise, share: float, most_w: float) -> Line:
    """A line below the amps of all watts from idle to `most_w`, close to them at a share of the promise's."""
    at_w = supply.dc_w(promise.amps, promise.line_scale, promise.other_a) * share
    steps = [supply.idle_w + STEP_W * i for i in range(max(2, math.ceil((most_w - supply.idle_w) / STEP_W) + 1))]
    drawn = [-supply.in_w(dc_w) for dc_w in steps]
    kept = hull(steps, drawn)
    i = min(max(bisect_right([steps[k] for k in kept], at_w), 1), len(kept) - 1)
    a, b = kept[i - 1], kept[i]
    slope = (drawn[a] - drawn[b]) / (steps[b] - steps[a])
    best = power_factor(1.0)
    idle_va = (-drawn[a] - slope * (steps[a] - supply.idle_w) - ALLOWANCE_W) / best
    at_va = max(0.0, idle_va + slope / best * (at_w - supply.idle_w))
    amps, per_va = supply.tangent(at_va, promise.line_scale, promise.other_a)
    return Line(amps + per_va * (idle_va - at_va), per_va * slope / best)


def _blocks(trace: Trace, promises: Sequence[Promise], cut_s: float) -> list[Block]:
    """The run in blocks, the first one `cut_s` long (0: whole), with what asks in each."""
    marks = [0.0] if cut_s <= 0 or cut_s >= trace.end_s else [0.0, cut_s]
    while marks[-1] + WINDOW_S < trace.end_s - 1e-9:
        marks.append(marks[-1] + WINDOW_S)
    blocks = [Block(a, b) for a, b in pairwise((*marks, trace.end_s))]
    edges = sorted({*marks, *(one.from_s for one in promises if one.from_s > 0)})

    def add(want: Want, from_s: float, to_s: float, *, is_task: bool) -> None:
        i = bisect_right(edges, from_s) - 1
        while i < len(edges) and edges[i] < to_s:
            end_s = edges[i + 1] if i + 1 < len(edges) else math.inf
            block = blocks[bisect_right(marks, edges[i]) - 1]
            piece = max(bisect_right([one.from_s for one in promises], edges[i]) - 1, 0)
            table = block.tasks if is_task else block.asked_s
            asked_s = min(to_s, end_s) - max(from_s, edges[i])
            table[piece, want] = table.get((piece, want), 0.0) + asked_s
            i += 1

    for ask in asks_of(trace):
        add(_want(ask), ask.start_s, ask.end_s, is_task=False)
    for row, start_s, is_task in zip(trace.rows, earliest_starts(trace), trace.is_task, strict=True):
        if is_task:
            add((row.kind, ((row.gpu, row.load),)), start_s, start_s + row.duration_s, is_task=True)
    return blocks


def _want(ask: Ask) -> Want:
    return ask.kind, tuple((gpu, load) for gpu, _, load in ask.members)


@dataclass(frozen=True, slots=True)
class _Dual:
    """The bound at one set of lines."""

    trace: Trace
    supply: Supply
    promises: Sequence[Promise]
    hulls: Hulls
    lines: Sequence[Line]

    def value(self, blocks: Sequence[Block]) -> float:
        """The least over the prices tried."""
        spare = [self._spare(block) for block in blocks]
        edges = [self._edges(block.asked_s) for block in blocks]
        own = [_price(sorted(e + self._edges(b.tasks)), s) for e, b, s in zip(edges, blocks, spare, strict=True)]
        tried = [own]
        if any(self.trace.is_task):
            tried += [[price] * len(own) for price in {0.0, sum(own) / len(own), max(own)}]
        return min(self._at(prices, blocks, spare, edges) for prices in tried)

    def _at(
        self,
        prices: Sequence[float],
        blocks: Sequence[Block],
        spare: Sequence[float],
        edges: Sequence[list[tuple[float, float, float]]],
    ) -> float:
        total = self._carried(prices)
        for price, left, block_edges in zip(prices, spare, edges, strict=True):
            total += price * left
            total += sum([work - price * amp_s for _, amp_s, work in block_edges if work > price * amp_s])
        return total + (self._task_work(prices, blocks) if any(self.trace.is_task) else 0.0)

    def _task_work(self, prices: Sequence[float], blocks: Sequence[Block]) -> float:
        least = list(prices)
        for i in range(len(least) - 2, -1, -1):
            least[i] = min(least[i], least[i + 1])
        starts, per_w = [block.from_s for block in blocks], min(line.per_w for line in self.lines)
        total = 0.0
        for row, start_s, is_task in zip(self.trace.rows, earliest_starts(self.trace), self.trace.is_task, strict=True):
            if is_task:
                one = self.hulls.hull(row.gpu, row.kind)
                price = least[bisect_right(starts, start_s) - 1] * per_w
                total += row.work_s * max(0.0, 1 - price * one.watts[1] / one.rate[1])
        return total

    def _carried(self, prices: Sequence[float]) -> float:
        """What the supplies' lag is worth at most: amp-seconds carried from a cheap block into a dear one."""
        promise = max(self.promises, key=lambda one: self.supply.amps(self.hulls.most_w, one.line_scale, one.other_a))
        most_a = self.supply.amps(self.hulls.most_w, promise.line_scale, promise.other_a)
        least_a = min(self.supply.amps(self.supply.idle_w, one.line_scale, one.other_a) for one in self.promises)
        if not math.isfinite(most_a):
            most_a = self.supply.kind.line.volts * promise.line_scale / (2 * self.supply.kind.line.ohm)
        worth = prices[-1] * most_a - prices[0] * least_a
        for before, after in pairwise(prices):
            worth += (before - after) * (most_a if before > after else least_a)
        return worth * self.supply.kind.psu.load_tau_s

    def _edges(self, asked_s: dict[tuple[int, Want], float]) -> list[tuple[float, float, float]]:
        """(falling slope, amp-seconds, work) of every hull edge that asks in a block."""
        found = []
        for (piece, want), time_s in asked_s.items():
            per_w, amp_s = self.lines[piece].per_w, self.lines[piece].per_w * time_s
            for watts, rate in self.hulls.edges(want):
                found.append((-rate / (watts * per_w), watts * amp_s, rate * time_s))
        return found

    def _spare(self, block: Block) -> float:
        """Amp-seconds that the window leaves a block above idle."""
        is_head = block.from_s <= 0 and self.trace.end_s >= WINDOW_S
        from_s = 0.0 if is_head else block.to_s - WINDOW_S
        to_s = from_s + WINDOW_S
        spare = 0.0
        for i, one in enumerate(self.promises):
            start_s = one.from_s if i > 0 else -math.inf
            end_s = self.promises[i + 1].from_s if i + 1 < len(self.promises) else math.inf
            inside_s = _overlap(start_s, end_s, block.from_s, block.to_s)
            spare += one.amps * _overlap(start_s, end_s, from_s, to_s) - self.lines[i].idle_a * inside_s
            idle_a = self.supply.amps(self.supply.idle_w, one.line_scale, one.other_a)
            spare -= idle_a * (_overlap(start_s, end_s, from_s, to_s) - inside_s)
        return max(0.0, spare)


def _overlap(a_s: float, b_s: float, from_s: float, to_s: float) -> float:
    return max(0.0, min(b_s, to_s) - max(a_s, from_s))


def _price(edges: Sequence[tuple[float, float, float]], spare: float) -> float:
    """The slope of the edge at which amp-seconds run out; 0 if they do not."""
    for slope, amp_s, _ in edges:
        spare -= amp_s
        if spare < 0:
            return -slope
    return 0.0
