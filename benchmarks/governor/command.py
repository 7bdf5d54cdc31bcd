"""`python -m benchmarks governor`: measure, print, and write the report into build/."""

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path

import click

from benchmarks.governor import report
from benchmarks.governor.matrix import (
    OTHERS,
    OURS,
    Cell,
    Job,
    Search,
    Workers,
    cells_of,
    highest_fixed_mhz,
)
from benchmarks.governor.page import page
from benchmarks.governor.report import Results
from benchmarks.governor.series import Series, Watch, decision_us, reaction_of, series_of
from benchmarks.governor.targets import Speed
from benchmarks.governor.workloads import REPORT, REPORT_SEEDS, TUNING, TUNING_SEEDS, Workload, workload
from tinybox.core.box import load_box
from tinybox.core.errors import TinyboxError

BOXES = ("red", "green-3090")
PLANTS, PLANTS_LONG = (2, 1), (200, 10)  # for ours, for the others
WATCHED = ("train-six", "step-all", "layer-split", "arrivals-bursty", "square-3.3s", "random-slow", "hair-dryer")
ROOT = Path(__file__).parent.parent.parent
DOCUMENT, PROOF, BUILD = ROOT / "docs" / "governor.md", ROOT / "docs" / "proof", ROOT / "build"


@dataclass(frozen=True, slots=True)
class Order:
    """What to measure."""

    boxes: tuple[str, ...]
    workloads: tuple[Workload, ...]
    plants: tuple[int, int]
    seeds: tuple[int, ...]
    command: str

    def jobs(self, highest_mhz: dict[str, int]) -> list[Job]:
        """Plant by plant: what is made once for a plant is used for all of its workloads."""
        ours, others = self.plants
        found = []
        for box in self.boxes:
            for i, seed in enumerate(self.seeds[: max(ours, others)]):
                names = (*(OURS if i < ours else ()), *(OTHERS if i < others else ()))
                found += [Job(box, work.name, seed, names, highest_mhz[box]) for work in self.workloads]
        return found


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--long", "is_long", is_flag=True, help="200 plants for ours, 10 for the others: hours.")
@click.option("--plants", type=click.IntRange(1, len(REPORT_SEEDS)), help="So many plants for every policy.")
@click.option(
    "--box",
    "boxes",
    multiple=True,
    help="Only this box; may be given twice.  [default: red; with --long or --write also green-3090]",
)
@click.option("--workload", "names", multiple=True, help="Only this workload; may be given twice.")
@click.option("--tuning", is_flag=True, help="The workloads and seeds that the policy is tuned on.")
@click.option("--write", "writes_table", is_flag=True, help="Put the tables into docs/governor.md.")
@click.option("--write-proof", is_flag=True, help="Write the dated result into docs/proof/.")
def governor(  # noqa: PLR0913
    *,
    is_long: bool,
    plants: int | None,
    boxes: tuple[str, ...],
    names: tuple[str, ...],
    tuning: bool,
    writes_table: bool,
    write_proof: bool,
) -> None:
    """Policies × workloads on drawn plants, against what clairvoyants reach."""
    if tuning and (writes_table or write_proof):
        raise TinyboxError("figures of what the policy is tuned on prove nothing", hint="leave out --tuning")
    counts = PLANTS_LONG if is_long else PLANTS
    usual = BOXES if is_long or writes_table or write_proof else BOXES[:1]
    order = Order(
        boxes=tuple(load_box(name).name for name in boxes or usual),
        workloads=tuple(workload(name) for name in names) or (TUNING if tuning else REPORT),
        plants=(plants, plants) if plants is not None else counts,
        seeds=TUNING_SEEDS if tuning else REPORT_SEEDS,
        command=" ".join(["python -m benchmarks governor", *sys.argv[2:]]),
    )
    results, series = measured(order, Workers())
    click.echo(report.console(results))
    click.echo(f"report: {written(results, series).relative_to(ROOT)}")
    if writes_table:
        report.write_between(DOCUMENT, report.tables(results))
    if write_proof:
        click.echo(f"proof: {report.write_proof(PROOF, results).relative_to(ROOT)}")


def measured(order: Order, workers: Workers) -> tuple[Results, list[Series]]:
    """Everything: the fixed clock first, since runs need it; what is timed last, with nothing beside it."""
    began_s = time.monotonic()
    most = max(order.plants)
    searches = [Search(box, order.seeds[:most]) for box in order.boxes]
    highest_mhz = dict(zip(order.boxes, workers.map(highest_fixed_mhz, searches), strict=True))
    jobs = order.jobs(highest_mhz)
    cells: list[Cell] = []
    for done, found in enumerate(workers.map(cells_of, jobs), 1):
        cells += found
        _tell(done, len(jobs), began_s)
    chosen = {work.name for work in order.workloads}
    shown = [name for name in WATCHED if name in chosen] or sorted(chosen)[:3]
    watches = [
        Watch(box, name, policy, order.seeds[0], highest_mhz[box])
        for box in order.boxes
        for name in shown
        for policy in ("bounded", "strict")
    ]
    series = list(workers.map(series_of, watches))
    speeds = tuple(Speed(box, reaction_of(box), *decision_us(box)) for box in order.boxes)
    results = Results(
        cells=tuple(cells),
        speeds=speeds,
        workloads=order.workloads,
        highest_mhz=highest_mhz,
        plants=order.plants,
        seeds=f"seeds from {order.seeds[0]}",
        command=order.command,
        day=date.today(),
        took_s=time.monotonic() - began_s,
    )
    return results, series


def _tell(done: int, count: int, began_s: float) -> None:
    """How far it is, on stderr, at every twentieth part."""
    if done * 20 // count > (done - 1) * 20 // count:
        spent_s = time.monotonic() - began_s
        left_s = spent_s / done * (count - done)
        sys.stderr.write(f"governor: {done} of {count}, {spent_s:.0f} s, about {left_s:.0f} s left\n")


def written(results: Results, series: Sequence[Series], folder: Path = BUILD) -> Path:
    """The report and every cell, under build/."""
    folder.mkdir(exist_ok=True)
    (folder / "governor.json").write_text(json.dumps([asdict(cell) for cell in results.cells], indent=1))
    path = folder / "governor.html"
    path.write_text(page(results, series), encoding="utf-8")
    return path


def measure(words: Sequence[str] = ()) -> None:
    """The benchmark with its options."""
    try:
        governor.main(args=list(words), prog_name="python -m benchmarks governor", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except TinyboxError as error:
        sys.stderr.write(f"benchmarks: {error.message}\n" + (f"  {error.hint}\n" if error.hint else ""))
        sys.exit(1)
