"""What a clairvoyant would have done with the same outlet: computed offline, from the plant's true constants.

A card at clock level l has speed s(l) and draws a(l) watts above idle when busy, by `twin.gpu.Silicon`. Asked for load
d it works min(d, s(l)) and draws a(l)·min(1, d / s(l)); left out, or with nothing to do, it draws idle watts. A
synchronous job has one progress φ: member i works φ·d_i, and at least one of them is at the speed that it has.
Supplies, power factor and line are those of `twin.plant`, settled; processor and rest are given.

`steady`: at each instant t, maximise Σ work rate over the levels and who is left out, subject to
amps(idle + Σ watts) ≤ promised(t). Solved by `frontier.allocate` for every distinct state, exact to 2e-4 of the rate
(1e-4 the search, 1e-4 a curve's thinning), and carried from event to event; the end of a task is one. It does not look
ahead: with tasks, the best at each instant need not be the best of the hour.

`strict_optimum`: the same where a card holds a grant, envelope(level), whatever it draws; a card that does not work
holds the floor's. Subject to Σ grants ≤ pool.

`bound`, in `replay.bound`, is what nobody can exceed who keeps the promise, also by banking amps within its window.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tinybox.core.box import Box
from tinybox.replay.bound import bound
from tinybox.replay.demand import Agenda, Ask
from tinybox.replay.frontier import Card, Frontier, allocate, joint_frontier
from tinybox.replay.supply import Promise, Supply
from tinybox.replay.trace import Trace
from tinybox.twin.constants import GpuPlant, PlantKind
from tinybox.twin.gpu import CLOCK_STEP_MHZ, Silicon

__all__ = ["Optimum", "bound", "steady", "strict_optimum"]

Members = tuple[tuple[int, float], ...]  # (GPU, load)
Want = tuple[str, Members]  # kind of work, and who does it
Envelope = Callable[[float], float]


@dataclass(frozen=True, slots=True)
class Optimum:
    """Full-speed GPU-seconds served, in all and of each row."""

    work_s: float
    served_s: tuple[float, ...]


class Cards:
    """The frontiers of a box's cards, made once for each kind of work, load and distinct card."""

    def __init__(
        self, box: Box, kind: PlantKind, envelopes: Sequence[Envelope] | None = None, *, can_rest: bool = True
    ) -> None:
        self._can_rest = can_rest
        self._silicon = [Silicon.of(one, card) for one, card in zip(kind.gpus, box.kinds, strict=True)]
        self._envelopes = envelopes
        self._cards: dict[tuple[object, str], Card] = {}
        self._frontiers: dict[tuple[object, ...], Frontier] = {}

    def card(self, gpu: int, work_kind: str) -> Card:
        """One card at one kind of work, its levels those that limits can be set to."""
        key = (self._name(gpu), work_kind)
        if key not in self._cards:
            envelope = self._envelopes[gpu] if self._envelopes is not None else None
            self._cards[key] = _card(self._silicon[gpu], work_kind, envelope, can_rest=self._can_rest)
        return self._cards[key]

    def frontier(self, want: Want) -> Frontier:
        """What watts buy of a row, or of a synchronous job. Cards with the same constants share theirs."""
        work_kind, members = want
        key = (work_kind, *sorted(((self._name(gpu), load) for gpu, load in members), key=repr))
        if key not in self._frontiers:
            cards = [(self.card(gpu, work_kind), load) for gpu, load in members]
            lone = len(cards) == 1
            self._frontiers[key] = cards[0][0].frontier(cards[0][1]) if lone else joint_frontier(cards)
        return self._frontiers[key]

    def _name(self, gpu: int) -> tuple[int, GpuPlant | None]:
        """The same for cards that have the same curves."""
        first = next(i for i, one in enumerate(self._silicon) if one.kind == self._silicon[gpu].kind)
        return (first, None) if self._envelopes is None else (gpu, None)


def _card(silicon: Silicon, work_kind: str, envelope: Envelope | None, *, can_rest: bool) -> Card:
    box, kind, curve = silicon.box, silicon.kind, silicon.curves[work_kind]
    cap_active_w = box.cap_default_w / kind.socket_to_board - kind.idle_w
    first, last = math.ceil(box.clock_min_mhz / CLOCK_STEP_MHZ), box.clock_max_mhz // CLOCK_STEP_MHZ
    floor_w = envelope(first * CLOCK_STEP_MHZ) if envelope else 0.0
    watts: list[float] = []
    speeds: list[float] = []
    for i in range(first, last + 1):
        if i > first and (curve.active_w[i] > cap_active_w or curve.speed[i] <= speeds[-1]):
            continue
        cost_w = envelope(i * CLOCK_STEP_MHZ) - floor_w if envelope else curve.active_w[i]
        if watts and cost_w <= watts[-1]:
            watts.pop()
            speeds.pop()
        watts.append(cost_w)
        speeds.append(curve.speed[i])
    return Card.of(watts, speeds, is_grant=envelope is not None, can_rest=can_rest)


def steady(trace: Trace, supply: Supply, promises: Sequence[Promise], *, can_rest: bool = True) -> Optimum:
    """The best allocation of the continuous promise at each instant.

    Unless they `can_rest`, cards with work run at their lowest clock at least: what clock limits alone can do.
    """
    cards = Cards(supply.box, supply.kind, can_rest=can_rest)
    return _carry(trace, cards, [(one.from_s, supply.spare_w(one)) for one in promises])


def strict_optimum(trace: Trace, box: Box, kind: PlantKind, *, envelopes: Sequence[Envelope], pool_w: float) -> Optimum:
    """The best allocation of grants, `pool_w` at most in all. A pool below the floors' sum buys the floors."""
    floor_mhz = math.ceil(box.gpu.clock_min_mhz / CLOCK_STEP_MHZ) * CLOCK_STEP_MHZ
    spare_w = pool_w - sum(envelope(floor_mhz) for envelope in envelopes)
    return _carry(trace, Cards(box, kind, envelopes), [(0.0, max(0.0, spare_w))])


def _carry(trace: Trace, cards: Cards, budgets: Sequence[tuple[float, float]]) -> Optimum:
    """From event to event. `budgets` are (from_s, watts to spend)."""
    agenda, served_s = Agenda(trace), [0.0] * len(trace.rows)
    known: dict[tuple[object, ...], tuple[float, ...]] = {}
    now_s, at = 0.0, 0
    while now_s < trace.end_s:
        agenda.turn(now_s)
        while at + 1 < len(budgets) and budgets[at + 1][0] <= now_s:
            at += 1
        until_s = min(agenda.next_s, trace.end_s, budgets[at + 1][0] if at + 1 < len(budgets) else math.inf)
        wants = [want_of(ask) for ask in agenda.active]
        wants += [(trace.rows[row].kind, ((gpu, load),)) for gpu, row, load in agenda.tasks]
        key = (budgets[at][1], *wants)
        if key not in known:
            known[key] = allocate([cards.frontier(want) for want in wants], budgets[at][1])
        rates = known[key]
        running = list(zip(agenda.tasks, rates[len(agenda.active) :], strict=True))
        for (_, row, _), rate in running:
            if rate > 0:
                until_s = min(until_s, now_s + agenda.left_s[row] / rate)
        for ask, rate in zip(agenda.active, rates, strict=False):
            whole = sum(load for _, _, load in ask.members)
            for _, row, load in ask.members:
                served_s[row] += rate * load / whole * (until_s - now_s)
        for (_, row, _), rate in running:
            served_s[row] += rate * (until_s - now_s)
            agenda.left_s[row] -= rate * (until_s - now_s)
        now_s = until_s
    return Optimum(math.fsum(served_s), tuple(served_s))


def want_of(ask: Ask) -> Want:
    """A plain row or a synchronous job, as what decides its frontier."""
    return ask.kind, tuple((gpu, load) for gpu, _, load in ask.members)
