"""`tinybox-governor-replay`: a trace through a simulated box under a policy, judged against clairvoyants."""

import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import quantiles

import click

from tinybox.core.box import Box, load_box
from tinybox.core.circuit import OUTLETS, circuit_of
from tinybox.core.config import CircuitConfig, Config
from tinybox.core.errors import TinyboxError
from tinybox.replay.commission import commission
from tinybox.replay.optimum import bound, steady
from tinybox.replay.policies import NAMES, policy_of
from tinybox.replay.run import Outcome, Scenario, run, start_plant
from tinybox.replay.supply import Supply, promises_of
from tinybox.replay.trace import Trace, read_trace
from tinybox.twin.constants import PlantKind, load_plant


@dataclass(frozen=True, slots=True)
class Report:
    """One replay. Ratios are of work done; heat is of the fastest breaker's trip; watts are means of 0.1 s."""

    policy: str
    box: str
    seed: int | None
    work_s: float
    demand_s: float
    work_vs_optimum: float
    work_vs_bound: float
    work_vs_fixed150: float
    trips: int
    promise_broken_s: float
    needless_interventions: int
    interventions: int
    wall_w_mean: float
    wall_w_p99: float
    wall_w_max: float
    amps_mean: float
    amps_10s_max: float
    breaker_heat_max: float
    writes_per_min: float
    decision_us_p50: float | None
    decision_us_p99: float | None


@click.command(
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Examples: 'tinybox-governor-replay day.csv --box red', '… --policy fixed150 --seed 7 --json'. "
    "docs/governor.md says what a trace is and what the figures mean.",
)
@click.argument("trace_path", metavar="TRACE.csv", type=click.Path(path_type=Path))
@click.option("--box", "box_name", required=True, help="red, green, green-3090 or blue.")
@click.option("--policy", "policy_name", type=click.Choice(NAMES), default="governor", show_default=True)
@click.option("--seed", type=int, help="Draw the plant's true parameters from their bands.  [default: nominal]")
@click.option("--outlet", type=click.Choice(tuple(OUTLETS)), help="Another outlet than the box's own.")
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
def replay(
    trace_path: Path, box_name: str, policy_name: str, seed: int | None, outlet: str | None, as_json: bool
) -> None:
    """Run TRACE.csv on a simulated box and say how much work was done, and which promises held.

    A trace has columns time_s,gpu,kind,load_pct,duration_s and may have id,after.
    """
    box = load_box(box_name)
    trace = read_trace(trace_path, gpus=len(box.slots))
    kind = load_plant(box, seed)
    config = Config(box=box.name, circuit=CircuitConfig(outlet=outlet))
    report = report_of(trace, box, kind, config, policy_name, seed=seed)
    if as_json:
        click.echo(json.dumps(asdict(report), indent=2))
    else:
        click.echo(text_of(report))


def report_of(trace: Trace, box: Box, kind: PlantKind, config: Config, policy_name: str, *, seed: int | None) -> Report:
    """Run the trace, the fixed limit beside it, and both clairvoyants."""
    measured = commission(box, kind)

    def done(name: str) -> Outcome:
        policy = policy_of(name, box, config, measured)
        return run(Scenario(trace), box, kind, config, policy, is_strict=name == "strict")

    outcome = done(policy_name)
    fixed = outcome if policy_name == "fixed150" else done("fixed150")
    circuit = circuit_of(box, config)
    plant = start_plant(box, kind, circuit)
    rest_w = plant.dc_w() - plant.cpu_w - sum(gpu.board_w for gpu in plant.gpus)
    supply = Supply(box, kind, plant.cpu_w, rest_w)
    promises = promises_of(circuit.promised_a, line_scale=circuit.volts / 120.0)
    best = steady(trace, supply, promises).work_s
    return _report(outcome, fixed, (best, bound(trace, supply, promises)), trace, (policy_name, box.name, seed))


def _report(
    outcome: Outcome, fixed: Outcome, best: tuple[float, float], trace: Trace, named: tuple[str, str, int | None]
) -> Report:
    referee, work_s = outcome.referee, outcome.demand.work_s
    watts = sorted(referee.wall_w) or [0.0]
    took_us = [seconds * 1e6 for seconds in outcome.took_s]
    cuts = quantiles(took_us, n=100) if len(took_us) > 1 else None
    return Report(
        policy=named[0],
        box=named[1],
        seed=named[2],
        work_s=round(work_s, 3),
        demand_s=round(trace.work_s, 3),
        work_vs_optimum=_ratio(work_s, best[0]),
        work_vs_bound=_ratio(work_s, best[1]),
        work_vs_fixed150=_ratio(work_s, fixed.demand.work_s),
        trips=outcome.trips,
        promise_broken_s=round(referee.promise_broken_s, 3),
        needless_interventions=outcome.needless,
        interventions=outcome.interventions,
        wall_w_mean=round(sum(watts) / len(watts), 1),
        wall_w_p99=round(watts[min(len(watts) - 1, int(0.99 * len(watts)))], 1),
        wall_w_max=round(watts[-1], 1),
        amps_mean=round(referee.amp_s / max(outcome.seconds, 1e-9), 3),
        amps_10s_max=round(referee.mean_a_max, 3),
        breaker_heat_max=round(referee.heat_max, 4),
        writes_per_min=round(outcome.writes_per_min, 2),
        decision_us_p50=round(cuts[49], 1) if cuts else None,
        decision_us_p99=round(cuts[98], 1) if cuts else None,
    )


def _ratio(work_s: float, other_s: float) -> float:
    """Of work; nothing over nothing is all there was."""
    return round(work_s / other_s, 4) if other_s > 0 else 1.0


def text_of(report: Report) -> str:
    """The report for people."""
    drawn = "nominal plant" if report.seed is None else f"plant {report.seed}"
    kept = "every promise kept" if report.promise_broken_s == 0 else f"promises broken for {report.promise_broken_s} s"
    tripped = "no trip" if report.trips == 0 else "THE BREAKER TRIPPED"
    lines = [
        f"{report.policy} on {report.box}, {drawn}: {kept}, {tripped}",
        f"work       {report.work_s:,.1f} of {report.demand_s:,.1f} full-speed GPU-seconds asked for",
        f"           {report.work_vs_optimum:.1%} of the best without banking, {report.work_vs_bound:.1%} of the bound "
        f"for anybody, {report.work_vs_fixed150:.2f} × power-limit 150",
        f"wall       {report.wall_w_mean:,.0f} W mean, {report.wall_w_p99:,.0f} p99, {report.wall_w_max:,.0f} most; "
        f"{report.amps_10s_max:.2f} A at most on the mean of 10 s",
        f"breaker    at most {report.breaker_heat_max:.0%} of the way to a trip, were it the fastest",
        f"writes     {report.writes_per_min:.0f} a minute to the card that got most",
        f"resorts    {report.interventions}, of which needless {report.needless_interventions}",
    ]
    if report.decision_us_p50 is not None:
        lines.append(f"decision   {report.decision_us_p50:.0f} µs median, {report.decision_us_p99:.0f} µs p99")
    return "\n".join(lines)


def guarded(command: click.Command, name: str) -> None:
    """Run a command; what its user can mend is two lines and exit 1."""
    try:
        command.main(prog_name=name, standalone_mode=True)
    except TinyboxError as error:
        sys.stderr.write(f"{name}: {error.message}\n" + (f"  {error.hint}\n" if error.hint else ""))
        sys.exit(1)


def main() -> None:
    """The console script."""
    guarded(replay, "tinybox-governor-replay")
