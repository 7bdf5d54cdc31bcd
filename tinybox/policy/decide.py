"""One tick: snapshot in, decision and memory out. Nothing here knows the time except from the snapshot."""

from dataclasses import dataclass, field

from tinybox.core.box import Box
from tinybox.core.circuit import circuit_of
from tinybox.core.config import Config
from tinybox.core.decision import Alert, Decision, PowerView
from tinybox.core.snapshot import Severity, Snapshot
from tinybox.policy.health import check_health
from tinybox.policy.noise import noise_dba
from tinybox.policy.pace import PaceMemory, next_pace, start_pace
from tinybox.policy.power import PowerMemory, share_power
from tinybox.policy.wall import Sample, read_wall


@dataclass(frozen=True, slots=True)
class Memory:
    """All that is carried between ticks."""

    pace: PaceMemory
    power: PowerMemory = field(default_factory=PowerMemory)
    wall: tuple[Sample, ...] = ()
    reason: str = "starting: every card is held at its lowest limits"


def fresh_memory(config: Config) -> Memory:
    """What a daemon that just started remembers."""
    return Memory(pace=start_pace(config.daemon))


def decide(snapshot: Snapshot, box: Box, config: Config, memory: Memory) -> tuple[Decision, Memory]:
    """What to do now, why, and what to show."""
    circuit = circuit_of(box, config)
    wall = read_wall(snapshot, box, circuit, memory.wall)
    plan, power = share_power(snapshot, box, circuit, wall, memory.power)
    pace, pace_memory = next_pace(snapshot, config.daemon, memory.pace)
    noise = noise_dba(snapshot, box)
    alerts = [*check_health(snapshot, box), *plan.alerts, *wall.alerts]
    if noise is None:
        alerts.append(Alert("noise", Severity.INFO, "unknown while a fan's speed is"))
    if pace.slow_reason is not None:
        alerts.append(Alert("loop", Severity.INFO, pace.slow_reason))
    reason = plan.reason or memory.reason
    decision = Decision(
        actions=plan.actions,
        alerts=tuple(alerts),
        reason=reason,
        power=PowerView(
            wall_w=wall.mean_w,
            wall_source=wall.source,
            budget_w=plan.budget_w if wall.line_v is None else circuit.budget_w(wall.line_v),
            budget_a=circuit.promised_a,
            line_v=wall.line_v,
            gpu_pool_w=plan.pool_w,
            grants=plan.grants,
        ),
        noise_dba=noise,
        period_s=pace.period_s,
    )
    return decision, Memory(pace_memory, power, wall.samples, reason)
