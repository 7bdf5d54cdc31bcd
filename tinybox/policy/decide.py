"""One tick: snapshot in, decision and memory out. Nothing here knows the time except from the snapshot."""

import math
from dataclasses import dataclass, field, replace

from tinybox.core.box import Box
from tinybox.core.circuit import circuit_of
from tinybox.core.commission import Commission
from tinybox.core.config import Config
from tinybox.core.decision import Alert, Decision
from tinybox.core.quiet import Quiet
from tinybox.core.snapshot import Severity, Snapshot
from tinybox.policy.fans import FansMemory, keep_quiet
from tinybox.policy.noise import Acoustics, level_now, prior_of
from tinybox.policy.notices import notices
from tinybox.policy.pace import PaceMemory, next_pace, start_pace
from tinybox.policy.power import PowerMemory, share_power

NOT_ARMED = "observing: not armed; 'tinybox arm' lets it govern"


@dataclass(frozen=True, slots=True)
class Memory:
    """All that is carried between ticks."""

    pace: PaceMemory
    power: PowerMemory = field(default_factory=PowerMemory)
    commission: Commission | None = None
    reason: str = "starting: every card is held at its lowest limits"
    time_s: float = -math.inf
    acoustics: Acoustics | None = None  # None: what its kind's TOML says
    quiet: Quiet | None = None  # None: the firmware alone decides about fans
    fans: FansMemory = field(default_factory=FansMemory)
    ahead_s: float = 0.0  # of the snapshots' clock: it jumped back by so much since we began


def fresh_memory(
    config: Config,
    commission: Commission | None = None,
    acoustics: Acoustics | None = None,
    quiet: Quiet | None = None,
) -> Memory:
    """What a daemon that just started remembers; `commission` and `acoustics` are what was measured of this box."""
    return Memory(pace=start_pace(config.daemon), commission=commission, acoustics=acoustics, quiet=quiet)


def decide(snapshot: Snapshot, box: Box, config: Config, memory: Memory) -> tuple[Decision, Memory]:
    """What to do now, why, and what to show."""
    circuit, share = circuit_of(box, config), memory.fans.share
    # A clock that jumped back took no time: what was spent, since when a limit is in force: all of it stays true.
    ahead_s = memory.ahead_s + max(0.0, memory.time_s - memory.ahead_s - snapshot.time_s)
    now = snapshot if ahead_s == 0 else replace(snapshot, time_s=snapshot.time_s + ahead_s)
    before = memory.power if memory.power.quiet == share else replace(memory.power, quiet=share)
    plan, power = share_power(now, box, config, circuit, memory.commission, before)
    pace, pace_memory = next_pace(now, config.daemon, memory.pace, is_unexplained=plan.is_unexplained)
    noise = level_now(snapshot, box, memory.acoustics)
    quiet = memory.quiet if snapshot.is_armed else None
    fans, fans_memory = keep_quiet(now, box, quiet, memory.acoustics or prior_of(box.noise), plan.view, memory.fans)
    alerts = [*notices(snapshot), *plan.alerts, *fans.alerts]
    if noise is None:
        alerts.append(Alert("noise", Severity.INFO, "unknown while a fan's speed is"))
    if pace.slow_reason is not None:
        alerts.append(Alert("loop", Severity.INFO, pace.slow_reason))
    reason = plan.reason or memory.reason
    if not snapshot.is_armed:
        reason = f"{NOT_ARMED}; armed, it would say: {plan.reason or 'nothing to change'}"
    actions = (*plan.actions, *fans.actions) if snapshot.is_armed else ()
    decision = Decision(actions, tuple(alerts), reason, plan.view, noise, pace.period_s, fans.view)
    kept = replace(
        memory, pace=pace_memory, power=power, fans=fans_memory, reason=reason, time_s=now.time_s, ahead_s=ahead_s
    )
    return decision, kept
