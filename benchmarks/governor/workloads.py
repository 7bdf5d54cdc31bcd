"""The workloads: what is asked of the cards, and what else happens to the box meanwhile. A minute each, a few longer.

The policy is tuned on `TUNING` and `TUNING_SEEDS`, the tables are made from `REPORT` and `REPORT_SEEDS`. A seed draws
both the plant and what is random in a workload.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from random import Random

from benchmarks.governor import faults, shapes
from benchmarks.governor.faults import Distort
from benchmarks.governor.shapes import GPUS, LENGTH_S
from tinybox.core.errors import TinyboxError
from tinybox.replay.run import Event, Scenario
from tinybox.replay.trace import Row, Trace
from tinybox.twin.plant import Plant

TUNING_SEEDS = tuple(range(100))
REPORT_SEEDS = tuple(range(1000, 1200))
ALL = tuple(range(GPUS))
PERIODS_S = tuple(0.02 * 3000 ** (i / 11) for i in range(12))
TUNING_PERIODS_S = (0.03, 0.25, 1.1, 5.0, 20.0)
DRYER_A, DRYER_FROM_S, DRYER_TO_S, DRYER_LENGTH_S = 12.5, 20.0, 80.0, 90.0
TAP = 0.006  # of the line's volts: one step of a utility's regulator


class Tag(StrEnum):
    """What a workload counts for. `fast`: loads change within a second; `lasting`: they could use the whole outlet."""

    DWELL = "dwell"
    ARRIVAL = "arrival"
    FAST = "fast"
    LASTING = "lasting"
    DRYER = "dryer"
    FAULT = "fault"


@dataclass(frozen=True, slots=True)
class Mains:
    """From `from_s` on: the utility's own share of the volts, and what else the circuit carries."""

    from_s: float = 0.0
    line_scale: float = 1.0
    other_a: float = 0.0


@dataclass(frozen=True, slots=True)
class Workload:
    """`rows` draws what is asked; `distort` makes a fresh distortion for each run."""

    name: str
    about: str
    tags: frozenset[Tag]
    rows: Callable[[Random], list[Row]]
    mains: tuple[Mains, ...] = (Mains(),)
    events: tuple[Event, ...] = ()
    distort: Callable[[], Distort] | None = None
    refuses: frozenset[str] = frozenset()

    def trace(self, seed: int) -> Trace:
        """The same trace for the same seed."""
        return Trace.of(self.rows(Random(f"{self.name}/{seed}")))

    def scenario(self, trace: Trace, more: tuple[Event, ...] = ()) -> Scenario:
        """The trace with all that happens meanwhile, and `more`."""
        distort = self.distort() if self.distort is not None else None
        mains = tuple(
            _mains_event(before, now) for before, now in zip((Mains(), *self.mains), self.mains, strict=False)
        )
        return Scenario(trace, (*mains, *self.events, *more), distort, self.refuses)


def _mains_event(before: Mains, now: Mains) -> Event:
    def change(plant: Plant) -> None:
        plant.line_scale *= now.line_scale / before.line_scale  # the outlet's own volts are in it
        plant.other_a = now.other_a

    return Event(now.from_s, change)


def _of(name: str, about: str, tags: tuple[Tag, ...], rows: Callable[[Random], list[Row]]) -> Workload:
    return Workload(name, about, frozenset(tags), rows)


def _train(_: Random) -> list[Row]:
    return shapes.steps(ALL, 5.0)


def _steady_ones() -> list[Workload]:
    return [
        _of("train-six", "all-reduce training on six, steps of 5 s", (Tag.DWELL, Tag.LASTING), _train),
        _of("finetune-one", "a fine-tune on one card", (Tag.DWELL,), lambda _: shapes.steps((0,), 5.0)),
        _of(
            "decode-six",
            "six servers, each decodes requests of 2–6 s back to back",
            (Tag.DWELL, Tag.LASTING),
            lambda source: shapes.requests(source, ALL, 2, 6, "decode"),
        ),
        _of(
            "layer-split", "a model over six cards, 24 ms on each in turn", (Tag.FAST,), lambda _: shapes.layers(0.024)
        ),
        _of(
            "step-all",
            "all idle for 20 s, then all full in one tick",
            (Tag.DWELL,),
            lambda _: shapes.steps(ALL, 5.0, from_s=20.0),
        ),
        _of("swing", "300 ms compute, 100 ms communication, together", (Tag.FAST,), lambda _: shapes.swing(0.3, 0.1)),
    ]


def _arrivals() -> list[Workload]:
    def of(name: str, about: str, times: Callable[[Random], list[float]]) -> Workload:
        return _of(name, about, (Tag.ARRIVAL,), lambda source: shapes.served(source, times(source)))

    return [
        of("arrivals-quiet", "requests at random, one in 4 s", lambda source: shapes.poisson(source, 0.25)),
        of("arrivals-busy", "requests at random, seven in 10 s", lambda source: shapes.poisson(source, 0.7)),
        of("arrivals-bursty", "3–8 requests at once, every 9 s", lambda source: shapes.bursts(source, 9.0, (3, 8))),
        of("arrivals-waves", "requests that ebb and flow", lambda source: shapes.poisson(source, 0.6, wave_s=20.0)),
    ]


def _square(period_s: float, name: str) -> Workload:
    number, unit = (f"{period_s * 1e3:.0f}", "ms") if period_s < 1 else (f"{period_s:.2g}", "s")
    tag = Tag.DWELL if period_s >= 2 else Tag.FAST
    length_s = max(LENGTH_S, 2 * period_s)
    about = f"six full and idle in turn, {number} {unit} a period"
    return _of(f"{name}-{number}{unit}", about, (tag,), lambda _: shapes.square(period_s, length_s=length_s))


def _random_ones() -> list[Workload]:
    return [
        _of("random-slow", "cards on and off at random, 1–5 s", (Tag.DWELL,), lambda s: shapes.on_off(s, 1, 5)),
        _of("random-fast", "cards on and off at random, 0.1–0.5 s", (Tag.FAST,), lambda s: shapes.on_off(s, 0.1, 0.5)),
        _of("partial-mix", "mixed kinds at 20–80 % of full speed", (Tag.DWELL,), shapes.partial),
    ]


def _surroundings() -> list[Workload]:
    lasting = frozenset((Tag.DWELL, Tag.LASTING))
    taps = tuple(Mains(6.0 * i, max(0.95, 1 - TAP * i)) for i in range(10))
    dryer = (Mains(), Mains(DRYER_FROM_S, other_a=DRYER_A), Mains(DRYER_TO_S))
    return [
        Workload("hot-room", "training on six at 40 °C", lasting, _train, events=faults.room_at(40.0)),
        Workload("line-sag", "training on six, the line steps down by 5 %", lasting, _train, mains=taps),
        Workload(
            "hair-dryer",
            "training on six, 12.5 A join the circuit for a minute",
            frozenset((Tag.DRYER,)),
            lambda _: shapes.steps(ALL, 5.0, to_s=DRYER_LENGTH_S),
            mains=dryer,
        ),
    ]


def _six_one_six(_: Random) -> list[Row]:
    """Faults begin while one card works: the worst moment to be shown an old reading is before the others join."""
    rows = [*shapes.steps(ALL, 6.0, to_s=18.0), *shapes.steps((0,), 6.0, from_s=18.0, to_s=24.0)]
    return [*rows, *shapes.steps(ALL, 6.0, from_s=24.0)]


def _without_a_card(source: Random) -> list[Row]:
    rows = shapes.requests(source, ALL, 2, 6, "mixed")
    away = (faults.FROM_S, faults.TO_S)
    kept = [row for row in rows if row.gpu != faults.CARD or row.end_s <= away[0] or row.time_s >= away[1]]
    return shapes.sorted_rows(kept)


def _faults() -> list[Workload]:
    tags = frozenset((Tag.DWELL, Tag.FAULT))
    sensors: tuple[tuple[str, str, Callable[[], Distort]], ...] = (
        ("fault-card-unreadable", "one card's power unreadable", faults.card_unreadable),
        ("fault-card-frozen", "one card's power frozen at idle", faults.card_frozen),
        ("fault-psus-stuck", "both supplies' meters stuck", faults.psus_stuck),
        ("fault-psu-tenfold", "a supply's meter tells ten times its watts", faults.psu_tenfold),
        ("fault-bmc-only", "supplies gone, the BMC answers", faults.bmc_only),
        ("fault-no-meter", "supplies and BMC gone", faults.no_meter),
        ("fault-no-volts", "line voltage unreadable", faults.no_volts),
        ("fault-no-cpu-power", "processor's power unreadable", faults.no_cpu_power),
    )
    found = [
        Workload(name, f"six, one, six cards train; {about} from 20 to 45 s", tags, _six_one_six, distort=distort)
        for name, about, distort in sensors
    ]
    leaving = faults.card_leaves()
    return [
        *found,
        Workload("card-gone", "a card falls off the bus and returns", tags, _without_a_card, events=leaving),
        Workload(
            "card-refuses", "one card accepts no limit", tags, _six_one_six, refuses=frozenset({f"gpu/{faults.CARD}"})
        ),
    ]


def _tuning() -> list[Workload]:
    lasting = (Tag.DWELL, Tag.LASTING)
    arrivals = [
        _of("tune-arrivals", "requests at random", (Tag.ARRIVAL,), lambda s: shapes.served(s, shapes.poisson(s, 0.5))),
        _of("tune-bursts", "bursts", (Tag.ARRIVAL,), lambda s: shapes.served(s, shapes.bursts(s, 14.0, (5, 10)))),
    ]
    return [
        _of("tune-train", "training on six, steps of 7.5 s", lasting, lambda _: shapes.steps(ALL, 7.5)),
        _of("tune-train-four", "training on four", (Tag.DWELL,), lambda _: shapes.steps((0, 1, 2, 3), 5.0)),
        _of("tune-prefill", "prefill on six", lasting, lambda s: shapes.requests(s, ALL, 1, 4, "prefill")),
        _of("tune-layers", "a model over six cards, 40 ms each", (Tag.FAST,), lambda _: shapes.layers(0.04)),
        _of("tune-swing", "500 ms compute, 200 ms communication", (Tag.FAST,), lambda _: shapes.swing(0.5, 0.2)),
        _of("tune-slow", "cards on and off, 2–8 s", (Tag.DWELL,), lambda s: shapes.on_off(s, 2, 8)),
        _of("tune-fast", "cards on and off, 0.2–0.8 s", (Tag.FAST,), lambda s: shapes.on_off(s, 0.2, 0.8)),
        *arrivals,
        *(_square(period_s, "tune-square") for period_s in TUNING_PERIODS_S),
    ]


REPORT = (
    *_steady_ones(),
    *_arrivals(),
    *(_square(period_s, "square") for period_s in PERIODS_S),
    *_random_ones(),
    *_surroundings(),
    *_faults(),
)
TUNING = tuple(_tuning())
_KNOWN = {one.name: one for one in (*REPORT, *TUNING)}


def workload(name: str) -> Workload:
    """By name. Raises TinyboxError."""
    if name not in _KNOWN:
        raise TinyboxError(f"no workload is called '{name}'", hint=f"known: {', '.join(_KNOWN)}")
    return _KNOWN[name]


def full_load(length_s: float = LENGTH_S) -> Workload:
    """What a fixed limit has to bear: every card trains and the processor is busy."""

    def busy(plant: Plant) -> None:
        plant.cpu_load = 1.0

    rows = _of("full-load", "everything", (), lambda _: shapes.steps(ALL, 5.0, to_s=length_s))
    return replace(rows, events=(Event(0.0, busy),))
