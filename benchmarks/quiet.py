"""Noise against work against heat: drawn boxes at full load under each profile, and beside the firmware's own fans."""

import math
import random
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median

from benchmarks.governor import svg
from benchmarks.noise import METER_DB, TWO_SPEEDS, reading, true_dba
from tinybox.core.box import Box, load_box
from tinybox.core.circuit import circuit_of
from tinybox.core.config import Config, DaemonConfig
from tinybox.core.decision import Decision
from tinybox.core.quiet import parse_quiet
from tinybox.core.snapshot import Snapshot
from tinybox.policy.decide import decide, fresh_memory
from tinybox.policy.noise import fitted
from tinybox.replay.commission import commission
from tinybox.replay.instruments import Instruments
from tinybox.replay.run import start_plant
from tinybox.twin.constants import load_plant
from tinybox.twin.plant import Plant

RED = load_box("red")
PERIOD_S = 0.5  # of the governor here: heat is slow, and 200 boxes are many
STEP_S = 0.1
CONFIG = Config(daemon=DaemonConfig(period_s=PERIOD_S))
WARM_S, WATCHED_S = 900.0, 600.0
JUNCTION_C, LEVEL_DBA, TURNS, WORK = 95.0, 45.0, 6, 0.85
SEEDS = 200
PROFILES = ("off", "full", "balanced", "42", "silent", "38", "36", "34")


@dataclass(slots=True)
class Turns:
    """How often something changed its direction, changes smaller than `least` not counted."""

    least: float
    count: int = 0
    extreme: float | None = None
    rises: bool | None = None

    def see(self, value: float) -> None:
        """One more value."""
        if self.extreme is None:
            self.extreme = value
        elif self.rises is None:
            if abs(value - self.extreme) >= self.least:
                self.rises, self.extreme = value > self.extreme, value
        elif (value > self.extreme) == self.rises:
            self.extreme = value
        elif abs(value - self.extreme) >= self.least:
            self.rises, self.extreme, self.count = not self.rises, value, self.count + 1


@dataclass(slots=True)
class Seen:
    """One box under one profile, over the last WATCHED_S."""

    dba: list[float] = field(default_factory=list)
    junction_c: float = 0.0
    work: float = 0.0  # full-speed seconds
    wall_w: list[float] = field(default_factory=list)
    turns: list[Turns] = field(default_factory=list)
    writes: int = 0

    @property
    def loud_dba(self) -> float:
        """Louder than that for one moment of twenty."""
        return sorted(self.dba)[int(0.95 * len(self.dba))]

    @property
    def most_turns(self) -> int:
        """Of any fan."""
        return max(turns.count for turns in self.turns)


class Room:
    """A drawn box in a room, the governor and the fans on; a meter was held to it before. Time passes when told to."""

    def __init__(self, seed: int | None, profile: str, *, box: Box = RED, ambient_c: float | None = 25.0) -> None:
        kind = load_plant(box, seed)
        if ambient_c is not None:
            kind = replace(kind, line=replace(kind.line, ambient_c=ambient_c))
        self.plant = start_plant(box, kind, circuit_of(box, CONFIG))
        source = random.Random(seed)
        readings = [reading(true_dba(kind.noise, at) + source.gauss(0, METER_DB), at) for at in TWO_SPEEDS]
        heard = fitted(box.noise, readings)
        self.memory = fresh_memory(CONFIG, commission(box, kind), heard, parse_quiet(profile))
        self.instruments = Instruments(self.plant)
        self.distort: Callable[[Snapshot], Snapshot] = lambda snapshot: snapshot
        self.decision: Decision | None = None
        self._due_s = 0.0

    def load(self, share: float, cpu: float = 0.3) -> None:
        """Every card asked for this share of its full speed."""
        for gpu in self.plant.gpus:
            gpu.load = share
        self.plant.cpu_load = cpu

    def advance(self, seconds: float) -> Iterator[Plant]:
        """The plant, once a second."""
        for step in range(1, round(seconds / STEP_S) + 1):
            if self.plant.time_s >= self._due_s - 1e-9:
                snapshot = self.distort(self.instruments.read())
                self.decision, self.memory = decide(snapshot, self.plant.box, CONFIG, self.memory)
                self.instruments.apply(self.decision.actions)
                self._due_s = self.plant.time_s + self.decision.period_s
            self.plant.step(STEP_S)
            if step % round(1 / STEP_S) == 0:
                yield self.plant


def run(seed: int | None, profile: str, *, box: Box = RED, ambient_c: float | None = 25.0) -> Seen:
    """Every card at full load for 25 minutes."""
    room, seen = Room(seed, profile, box=box, ambient_c=ambient_c), Seen()
    room.load(1.0)
    for plant in room.advance(WARM_S):
        seen.junction_c = max(seen.junction_c, *(gpu.junction_c for gpu in plant.gpus))
    before_s = sum(gpu.work_s for gpu in room.plant.gpus)
    for plant in room.advance(WATCHED_S):
        watch(plant, seen)
    seen.work = sum(gpu.work_s for gpu in room.plant.gpus) - before_s
    seen.writes = sum(room.instruments.fan_writes)
    return seen


def watch(plant: Plant, seen: Seen) -> None:
    """One second of it."""
    seen.dba.append(plant.noise_dba())
    seen.wall_w.append(plant.wall_w)
    seen.junction_c = max(seen.junction_c, *(gpu.junction_c for gpu in plant.gpus))
    rpm = [sum(plant.chassis_rpm) / len(plant.chassis_rpm), *(gpu.fan_rpm for gpu in plant.gpus)]
    if not seen.turns:
        most = [plant.box.fans.max_rpm, *(kind.fan_max_rpm for kind in plant.box.kinds)]
        seen.turns = [Turns(0.03 * one) for one in most]
    for turns, speed in zip(seen.turns, rpm, strict=True):
        turns.see(speed)


@dataclass(frozen=True, slots=True)
class Line:
    """One profile over all boxes: sorted figures; work is a share of the same box's under the usual profile."""

    name: str
    dba: list[float]
    work: list[float]
    junction_c: list[float]
    wall_w: float
    turns: int

    @classmethod
    def of(cls, name: str, boxes: Sequence[Seen], usual: Sequence[Seen]) -> "Line":
        """Out of what was seen."""
        return cls(
            name,
            sorted(box.loud_dba for box in boxes),
            sorted(box.work / other.work for box, other in zip(boxes, usual, strict=True)),
            sorted(box.junction_c for box in boxes),
            median(sum(box.wall_w) / len(box.wall_w) for box in boxes),
            max(box.most_turns for box in boxes),
        )

    def __str__(self) -> str:
        """A row of the table."""
        level = f"{median(self.dba):.1f} | {self.dba[-1]:.1f}"
        work = f"{median(self.work):.3f} | {self.work[0]:.3f}"
        heat = f"{median(self.junction_c):.0f} | {self.junction_c[-1]:.0f}"
        return f"| {self.name} | {level} | {work} | {heat} | {self.wall_w:.0f} | {self.turns} |"


STYLE = """<style>
svg{background:#fff;font:11px system-ui,sans-serif;fill:#222}.grid{stroke:#e2e2e2}.tick{fill:#666}
.panel{font-weight:600}.whisker{stroke:#2266aa;stroke-opacity:.45;stroke-width:2}.trend{stroke:#2266aa;fill:none}
.dots{stroke:#2266aa;stroke-width:8;stroke-linecap:round}.firmware{stroke:#cc5522;stroke-width:8;stroke-linecap:round}
</style>"""
X_LEAST, X_MOST = 32, 52
NAME_WIDTH, NAME_BELOW = 24, 22
PANELS = (
    ("work, share of balanced's", 0.4, 1.1, (0.4, 0.6, 0.8, 1.0)),
    ("hottest junction, °C", 60, 100, (60, 80, 100)),
)


def draw(lines: Sequence[Line]) -> str:
    """Level against work and against heat: medians as dots, all boxes as whiskers, the firmware's own fans in red."""
    parts = [STYLE]
    for index, (title, low, high, ticks) in enumerate(PANELS):
        frame = svg.Frame(640, 220, X_MOST - X_LEAST, high, low)
        inside = svg.grid(frame, ticks, title, x_ticks=())
        for tick in range(X_LEAST + 2, X_MOST, 4):
            x = frame.x(tick - X_LEAST)
            inside.append(svg.line((x, svg.TOP), (x, 198), "grid"))
            inside.append(svg.text(x, 214, f"{tick} dBA", "tick", anchor="middle"))
        ours = sorted((one for one in lines if one.name != "off"), key=lambda one: median(one.dba))
        way = "L".join(f"{x:.1f},{y:.1f}" for x, y in (_point(frame, one, index) for one in ours))
        inside.append(f'<path d="M{way}" class="trend"/>')
        last_x = -math.inf
        for one in sorted(lines, key=lambda one: median(one.dba)):
            figures = (one.work, one.junction_c)[index]
            (x, y), css = _point(frame, one, index), "firmware" if one.name == "off" else "dots"
            inside.append(svg.line((x, frame.y(figures[0])), (x, frame.y(figures[-1])), "whisker"))
            inside.append(svg.dots([(x, y)], css))
            below = NAME_BELOW if x - last_x < NAME_WIDTH else 0  # two names at one place hide each other
            inside.append(svg.text(x + 6, y - 6 + below, "firmware's own" if one.name == "off" else one.name, "tick"))
            last_x = x if not below else -math.inf
        parts.append(f'<g transform="translate(0 {index * 225})">{"".join(inside)}</g>')
    drawn = svg.svg(640, 450, parts, "noise against work and heat")
    return drawn.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1) + "\n"


def _point(frame: svg.Frame, one: Line, index: int) -> svg.Point:
    return frame.x(median(one.dba) - X_LEAST), frame.y(median((one.work, one.junction_c)[index]))


def measure(seeds: int = SEEDS, profiles: Sequence[str] = PROFILES) -> list[Line]:
    """Print the table."""
    lines = []
    print(f"\nSix busy cards on {seeds} drawn boxes in a room of 25 °C, a meter held to each at two speeds")
    print("| profile | median dBA | loudest | work, median | least | junction °C, median | hottest | wall W | turns |")
    print("|---|---|---|---|---|---|---|---|---|")
    usual = [run(seed, "balanced") for seed in range(seeds)]
    for name in profiles:
        boxes = usual if name == "balanced" else [run(seed, name) for seed in range(seeds)]
        lines.append(Line.of(name, boxes, usual))
        print(lines[-1], flush=True)
    wanted = f"balanced {LEVEL_DBA:.0f} dBA and {JUNCTION_C:.0f} °C, silent {WORK:.0%} of balanced's work"
    print(f"Targets: {wanted}, at most {TURNS} turns in ten minutes.")
    return lines


def main() -> None:
    """`python -m benchmarks.quiet BOXES [PICTURE]`: on so many drawn boxes, and the picture as SVG."""
    lines = measure(int(sys.argv[1]) if len(sys.argv) > 1 else SEEDS)
    if len(sys.argv) > 2:
        Path(sys.argv[2]).write_text(draw(lines))


if __name__ == "__main__":
    main()
