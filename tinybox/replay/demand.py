"""What a trace asks of a plant, sub-step by sub-step, and what of it was served.

A plain row is served in its own time or lost. A task runs from its turn until its work is done: it waits for its
predecessor, for its own time, and on a card that also has a plain row, for that row. The cards' speeds hold still for
a sub-step; within it, rows start and end and tasks hand over at their own instants.
"""

import math
from collections.abc import Collection
from dataclasses import dataclass, field
from heapq import heappop, heappush

from tinybox.replay.trace import Trace, tasks_after
from tinybox.twin.gpu import GpuPart
from tinybox.twin.plant import Plant

ROUNDING_S = 1e-9


@dataclass(frozen=True, slots=True)
class Ask:
    """A plain row, or the rows of one synchronous job: (GPU, row, load) of each member."""

    members: tuple[tuple[int, int, float], ...]
    kind: str
    start_s: float
    end_s: float

    def __deepcopy__(self, memo: object) -> "Ask":
        return self


@dataclass(slots=True)
class Share:
    """What one card was asked for within a sub-step."""

    time_s: float = 0.0
    work_s: float = 0.0
    load: float = -1.0
    is_even: bool = True
    kinds: dict[str, float] = field(default_factory=dict)

    def add(self, kind: str, load: float, rate: float, dt_s: float) -> None:
        """Asked for `load` of `kind` for a while, served at `rate`."""
        self.is_even = self.is_even and self.load in (-1.0, load)
        self.load = load
        self.time_s += dt_s
        self.work_s += rate * dt_s
        self.kinds[kind] = self.kinds.get(kind, 0.0) + dt_s

    def set(self, gpu: GpuPart, dt_s: float) -> None:
        """Ask the card for it. Where loads differ, their mean is of what was served of them."""
        if self.time_s <= 0:
            gpu.load = gpu.duty = 0.0
            return
        gpu.load = self.load if self.is_even else self.work_s / self.time_s
        gpu.duty = min(1.0, self.time_s / dt_s)
        gpu.work_kind = max(self.kinds, key=lambda kind: self.kinds[kind])


def asks_of(trace: Trace) -> list[Ask]:
    """Plain rows and synchronous jobs in order of time."""
    grouped = {row for members in trace.groups for row in members}
    units = [(row,) for row in range(len(trace.rows)) if not (row in grouped or trace.is_task[row])]
    asks = []
    for unit in (*units, *trace.groups):
        first = trace.rows[unit[0]]
        if first.duration_s > 0:
            members = tuple((trace.rows[row].gpu, row, trace.rows[row].load) for row in unit)
            asks.append(Ask(members, first.kind, first.time_s, first.end_s))
    return sorted(asks, key=lambda ask: (ask.start_s, ask.members[0][1]))


class Agenda:
    """What a trace wants now: `active` plain rows and `tasks` (GPU, row, load), until `next_s` or until a task is done.

    `left_s[i]` is what is to be done of row i, `started_s[i]` and `finished_s[i]` are when it began and when a task was
    done (inf: not yet); `refused` are the rows that were to begin on a parked card.
    """

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        self.left_s = [row.work_s for row in trace.rows]
        self.started_s = [math.inf] * len(trace.rows)
        self.finished_s = [math.inf] * len(trace.rows)
        self.refused: set[int] = set()
        self.active: list[Ask] = []
        self.tasks: list[tuple[int, int, float]] = []
        self.next_s = 0.0
        self.is_held = False  # a task is ready on a parked card
        self.count = 1 + max(row.gpu for row in trace.rows)
        self._asks = asks_of(trace)
        self._asked = 0  # of `_asks`, those whose time has come
        self._after = tasks_after(trace)
        self._coming: list[tuple[float, int]] = []  # tasks that wait for their own time only
        self._ready: list[list[int]] = [[] for _ in range(self.count)]
        self._running = [-1] * self.count
        for row, is_task in enumerate(trace.is_task):
            if is_task and trace.after[row] < 0:
                heappush(self._coming, (trace.rows[row].time_s, row))

    def turn(self, now_s: float, parked: Collection[int] = ()) -> None:
        """Let end what is over, and begin what may."""
        soon_s = now_s + ROUNDING_S
        for _, row, _ in self.tasks:
            if self.left_s[row] <= ROUNDING_S:
                self._complete(row, now_s)
        if soon_s >= self.trace.end_s:
            self.active, self.tasks = [], []
            self.is_held, self.next_s = False, math.inf
            return
        self.active = [ask for ask in self.active if ask.end_s > soon_s]
        while self._asked < len(self._asks) and self._asks[self._asked].start_s <= soon_s:
            self._begin(self._asks[self._asked], now_s, parked)
            self._asked += 1
        while self._coming and self._coming[0][0] <= soon_s:
            _, row = heappop(self._coming)
            heappush(self._ready[self.trace.rows[row].gpu], row)
        self._take_tasks(now_s, parked)
        self.next_s = self.trace.end_s
        for ask in self.active:
            self.next_s = min(self.next_s, ask.end_s)
        if self._coming:
            self.next_s = min(self.next_s, self._coming[0][0])
        if self._asked < len(self._asks):
            self.next_s = min(self.next_s, self._asks[self._asked].start_s)

    def _begin(self, ask: Ask, now_s: float, parked: Collection[int]) -> None:
        """A plain row, or a synchronous job, starts: unless one of its cards takes no new work."""
        rows = [row for _, row, _ in ask.members]
        if any(index in parked for index, _, _ in ask.members):
            self.refused.update(rows)
        elif ask.end_s > now_s + ROUNDING_S:
            self.active.append(ask)
            for row in rows:
                self.started_s[row] = now_s

    def _take_tasks(self, now_s: float, parked: Collection[int]) -> None:
        """Which task runs on each card: one at a time, none beside a plain row."""
        taken = {index for ask in self.active for index, _, _ in ask.members}
        self.is_held, self.tasks = False, []
        for index, ready in enumerate(self._ready):
            if index in taken:
                continue
            if self._running[index] < 0 and ready:
                if index in parked:
                    self.is_held = True
                else:
                    self._running[index] = heappop(ready)
                    self.started_s[self._running[index]] = now_s
            if (row := self._running[index]) >= 0:
                self.tasks.append((index, row, self.trace.rows[row].load))

    def _complete(self, row: int, now_s: float) -> None:
        self.finished_s[row] = now_s
        self._running[self.trace.rows[row].gpu] = -1
        for after in self._after.get(row, ()):
            heappush(self._coming, (max(now_s, self.trace.rows[after].time_s), after))


class Demand:
    """A trace on its way through a plant. Call `apply` before each `plant.step`; `served_s[i]` is what row i got."""

    def __init__(self, trace: Trace) -> None:
        self.agenda = Agenda(trace)
        self.served_s = [0.0] * len(trace.rows)
        self._gpu_work_s = [0.0] * self.agenda.count
        self._is_settled = False
        self._single: list[tuple[int, int, float]] = []  # (GPU, row, load)
        self._joint: list[Ask] = []

    @property
    def work_s(self) -> float:
        """Full-speed GPU-seconds served so far."""
        return math.fsum(self._gpu_work_s)

    def work_of(self, gpu: int) -> float:
        """The same of one GPU."""
        return self._gpu_work_s[gpu] if gpu < len(self._gpu_work_s) else 0.0

    def apply(self, plant: Plant, t0_s: float, dt_s: float) -> None:
        """Ask the plant's cards for what the trace wants between `t0_s` and `t0_s + dt_s`, and count what they do."""
        agenda = self.agenda
        if not self._is_settled or t0_s + dt_s > agenda.next_s + ROUNDING_S or self._completes(plant, dt_s):
            self._resolve(plant, t0_s, t0_s + dt_s)
            return
        if not plant.has_power:
            return
        gpus, served_s, work_s = plant.gpus, self.served_s, self._gpu_work_s
        for index, row, load in self._single:
            gpu = gpus[index]
            if gpu.is_present and not gpu.is_frozen:
                speed = gpu.speed()
                done_s = (load if load < speed else speed) * dt_s
                served_s[row] += done_s
                work_s[index] += done_s
        for ask in self._joint:
            progress = _progress(plant, ask)
            for index, row, load in ask.members:
                gpus[index].load = load * progress
                self._serve(index, row, load * progress * dt_s)
        for index, row, load in agenda.tasks:
            self._serve(index, row, _rate(plant, index, load) * dt_s)

    def _completes(self, plant: Plant, dt_s: float) -> bool:
        """Whether a running task will be done within the sub-step."""
        left_s = self.agenda.left_s
        return any(left_s[row] <= _rate(plant, index, load) * dt_s for index, row, load in self.agenda.tasks)

    def _serve(self, gpu: int, row: int, work_s: float) -> None:
        self.served_s[row] += work_s
        self._gpu_work_s[gpu] += work_s
        self.agenda.left_s[row] -= work_s

    def _resolve(self, plant: Plant, t0_s: float, end_s: float) -> None:
        """A sub-step in which something changes, piece by piece."""
        agenda = self.agenda
        parked = [index for index, gpu in enumerate(plant.gpus) if gpu.is_parked]
        shares = [Share() for _ in plant.gpus]
        now_s, pieces = t0_s, 0
        while now_s < end_s - ROUNDING_S:
            agenda.turn(now_s, parked)
            until_s = agenda.next_s if agenda.next_s < end_s - ROUNDING_S else end_s
            for index, row, load in agenda.tasks:
                plant.gpus[index].work_kind = agenda.trace.rows[row].kind
                if (rate := _rate(plant, index, load)) > 0:
                    until_s = min(until_s, now_s + agenda.left_s[row] / rate)
            self._flow(plant, until_s - now_s, shares)
            now_s, pieces = until_s, pieces + 1
        for gpu, share in zip(plant.gpus, shares, strict=True):
            share.set(gpu, end_s - t0_s)
        self._single = [ask.members[0] for ask in agenda.active if len(ask.members) == 1]
        self._joint = [ask for ask in agenda.active if len(ask.members) > 1]
        self._is_settled = pieces == 1 and not agenda.is_held

    def _flow(self, plant: Plant, dt_s: float, shares: list[Share]) -> None:
        """Everything that is active, for a while in which nothing changes."""
        for ask in self.agenda.active:
            for index, _, _ in ask.members:
                plant.gpus[index].work_kind = ask.kind
            progress = _progress(plant, ask) if len(ask.members) > 1 else 1.0
            for index, row, load in ask.members:
                rate = load * progress if len(ask.members) > 1 else _rate(plant, index, load)
                self._serve(index, row, rate * dt_s)
                shares[index].add(ask.kind, load * progress, rate, dt_s)
        for index, row, load in self.agenda.tasks:
            kind = self.agenda.trace.rows[row].kind
            plant.gpus[index].work_kind = kind
            rate = _rate(plant, index, load)
            self._serve(index, row, rate * dt_s)
            shares[index].add(kind, load, rate, dt_s)


def _rate(plant: Plant, index: int, load: float) -> float:
    """Full-speed seconds per second of a card that is asked for `load`."""
    gpu = plant.gpus[index]
    if not gpu.is_present or gpu.is_frozen or not plant.has_power:
        return 0.0
    return min(load, gpu.speed())


def _progress(plant: Plant, ask: Ask) -> float:
    """Of a synchronous job: what its slowest member achieves of what it is asked for."""
    return min(_rate(plant, index, load) / load for index, _, load in ask.members)
