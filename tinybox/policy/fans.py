"""Who turns how fast: chassis fans that follow the cards, a ceiling for each card's own fan, and a level to keep.

Once every four seconds. Heat goes before quiet: a card that gets too hot, a temperature that is not told or stands
still, and every fan is let go. Where even the warmest that cards may get is too loud, the box gets fewer watts. Speeds
change in small steps, sooner up than down, and a wish that is nearly what is in force changes nothing.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from tinybox.core.actions import Action, LimitGpuFan, ReleaseFans, SetFanDuty
from tinybox.core.box import Box, GpuKind
from tinybox.core.decision import Alert, PowerView, QuietView
from tinybox.core.quiet import Quiet
from tinybox.core.snapshot import Gpu, GpuState, Severity, Snapshot
from tinybox.policy.air import DUTY_LEAST_PCT, Air, Scene, Sensor, Source, hottest, over_sink, sensors_of
from tinybox.policy.card_fans import COOL_C, FIGHTS, PEACE_S, ROUND_S, CardFan, next_limits
from tinybox.policy.checks.past import CardPast, board_w, follow
from tinybox.policy.checks.physics import chassis_rpm
from tinybox.policy.envelope import table_envelope
from tinybox.policy.lag import toward
from tinybox.policy.noise import Acoustics, dba_at

SLACK_DB = 0.5  # below the level: what the steps of speeds may be off
CASE_TAU_S = 240.0
FIT_TAU_S, FIT_RANGE, WARM_W = 120.0, (0.5, 2.5), 60.0
ROOM_C = 28.0  # where no controller tells the air
# Chassis fans: percent of duty, and seconds.
NEAR_UP, NEAR_DOWN, STEP_UP, STEP_DOWN, CALM_S = 3.0, 4.0, 4.0, 2.0, 30.0
AUTOMATIC_PCT = 28.0  # what controllers begin with
CPU_WARM_K = 20.0  # below its limit the processor begins to ask for air
DRIVE_WARM_K = 8.0
UNKNOWN_PCT = 60.0  # for what never told how warm it is: a card that a program drives itself, or one in a guest
STILL_S = 45.0  # as the health check has it
COOL_AGAIN_S = 30.0
STALE_S = 60.0  # since the controller last told the fans' speeds: a slow one takes its time for a round
FORGIVEN_S = 600.0
SHARE_PER_S, SHARE_BACK_PER_S, SHARE_LEAST, SHARE_NEAR = 0.02, 0.001, 0.3, 0.03
WARMTH_BACK = 0.85  # cooler than that, watts are given back
COST_EVERY_S = 20.0


@dataclass(frozen=True, slots=True)
class FansMemory:
    """Carried from round to round. `duty_pct`: what the chassis fans were told; None: they are their controller's."""

    time_s: float | None = None
    due_s: float = -math.inf
    cards: dict[str, CardFan] = field(default_factory=dict)
    dc_w: float | None = None
    cpu_told: bool = False  # its temperature
    duty_pct: float | None = None
    told_s: float = -math.inf
    low_s: float | None = None  # since when less would do
    fights: int = 0
    left_until_s: float = -math.inf
    share: float = 1.0
    cost: tuple[float, float] | None = None
    cost_s: float = -math.inf
    alerts: tuple[Alert, ...] = ()
    view: QuietView | None = None


@dataclass(frozen=True, slots=True)
class FansTurn:
    """What to write, and what to show."""

    actions: tuple[Action, ...] = ()
    alerts: tuple[Alert, ...] = ()
    view: QuietView | None = None


def keep_quiet(
    now: Snapshot, box: Box, quiet: Quiet | None, acoustics: Acoustics, power: PowerView, memory: FansMemory
) -> tuple[FansTurn, FansMemory]:
    """Tell the fans what the wish and the heat ask for; without a wish give back what was taken."""
    if quiet is None:
        return FansTurn(tuple(_given_back(memory))), FansMemory()
    if now.time_s < memory.due_s:
        return FansTurn((), memory.alerts, memory.view), memory
    memory = _felt(now, box, power.wall_w, memory)
    scene = _scene(now, box, acoustics, memory)
    blind = [*_blind(now, memory)]
    hot, memory = _too_hot(now, scene, memory)
    limit_dba = _reachable(scene, quiet)
    most_dba = None if limit_dba is None else limit_dba - SLACK_DB
    duty_now = _duty_now(now, box, memory)
    wanted_pct = 100.0 if blind or _is_over(scene) else scene.best(most_dba).duty_pct
    actions, memory = _chassis(now, box, max(wanted_pct, duty_now if hot else 0.0), memory, is_urgent=bool(blind))
    in_force = scene.held_at(_duty_now(now, box, memory), most_dba)
    lets_go = bool(blind) or limit_dba is None or not _is_told(now)
    more, cards = next_limits(now, None if lets_go else in_force, memory.cards)
    memory = replace(memory, cards=cards)
    if most_dba is not None:
        used_share = (power.mean_a or 0.0) / max(power.budget_a, 0.1)
        memory = _with_share(now, _worked(scene, memory), most_dba, used_share, memory)
    else:
        memory = replace(memory, share=1.0, cost=None)
    alerts = (*blind, *hot, *_alerts(now, quiet, limit_dba, memory))
    view = _view(scene, quiet, memory, is_broken=bool(blind or hot))
    memory = replace(memory, time_s=now.time_s, due_s=now.time_s + ROUND_S, alerts=alerts, view=view)
    return FansTurn((*actions, *more), alerts, view), memory


def _given_back(memory: FansMemory) -> Iterator[Action]:
    if memory.duty_pct is not None:
        yield ReleaseFans()
    for device, card in memory.cards.items():
        if card.told_rpm is not None:
            yield LimitGpuFan(device, None)


def _felt(now: Snapshot, box: Box, wall_w: float | None, memory: FansMemory) -> FansMemory:
    """Every card's heat, brought up to now."""
    elapsed_s = ROUND_S if memory.time_s is None else min(max(now.time_s - memory.time_s, 0.0), 10 * ROUND_S)
    dc_w = box.psu.efficiency_nominal * wall_w if wall_w is not None else memory.dc_w or box.rest.power_max_w
    cards = dict(memory.cards)
    for gpu in now.gpus:
        card, kind = cards.get(gpu.id, CardFan()), box.kind_of(gpu.id)
        if gpu.state is not GpuState.AWAKE:
            cards[gpu.id] = replace(card, past=None, told_rpm=None)
            continue
        past = follow(gpu, card.past, kind, now.time_s)
        factor = _fitted(gpu, kind, past, _inlet_c(now), card.factor, elapsed_s)
        over = over_sink(gpu, board_w(gpu, kind), kind.thermal.die_k_per_w)
        kept = {name: toward(card.over.get(name, k), k, elapsed_s, FIT_TAU_S) for name, k in over.items()}
        told = card.has_told or _tells(gpu)
        cards[gpu.id] = replace(card, past=past, has_told=told, factor=factor, over=card.over | kept)
    lagged_w = dc_w if memory.dc_w is None else toward(memory.dc_w, dc_w, elapsed_s, CASE_TAU_S)
    return replace(memory, cards=cards, dc_w=lagged_w, cpu_told=memory.cpu_told or _cpu_c(now) is not None)


def _tells(gpu: Gpu) -> bool:
    return gpu.edge_c is not None or gpu.junction_c is not None


def _cpu_c(now: Snapshot) -> float | None:
    return now.cpu.temp_c if now.cpu.temp_c is not None else now.bmc.cpu_c


def _inlet_c(now: Snapshot) -> float:
    return now.bmc.inlet_c if now.bmc.inlet_c is not None else ROOM_C


def _fitted(gpu: Gpu, kind: GpuKind, past: CardPast, inlet_c: float, factor: float, elapsed_s: float) -> float:
    """How much worse than its kind it sheds heat; dust, a neighbour and its place in the case are all in it."""
    if gpu.edge_c is None or gpu.fan_rpm is None or past.settled_w < WARM_W or gpu.power_w is None:
        return factor
    expected_k = past.settled_w * kind.thermal.k_per_w(gpu.fan_rpm)
    rise_k = gpu.edge_c - inlet_c - (board_w(gpu, kind) or 0.0) * kind.thermal.die_k_per_w
    seen = min(max(rise_k / expected_k, FIT_RANGE[0]), FIT_RANGE[1])
    return toward(factor, seen, elapsed_s, FIT_TAU_S)


def _scene(now: Snapshot, box: Box, acoustics: Acoustics, memory: FansMemory) -> Scene:
    seen_rpm = chassis_rpm(now)
    rpm = AUTOMATIC_PCT / 100 * box.fans.max_rpm if seen_rpm is None else seen_rpm
    air = Air(box.fans, _inlet_c(now), memory.dc_w or 0.0, rpm)
    cards = tuple(
        _source(gpu, box.kind_of(gpu.id), memory.cards[gpu.id], air.inlet_c) for gpu in now.gpus if _turns(gpu)
    )
    fixed = None if _is_ours(now, memory) else min(100.0, 100 * rpm / box.fans.max_rpm)
    return Scene(box, acoustics, air, cards, _least_duty(now, box), fixed)


def _turns(gpu: Gpu) -> bool:
    return gpu.state is GpuState.AWAKE


def _source(gpu: Gpu, kind: GpuKind, card: CardFan, air_c: float) -> Source:
    assert card.past is not None
    limits = {
        "junction_c": gpu.junction_crit_c or kind.junction_crit_c,
        "edge_c": gpu.edge_crit_c or kind.edge_crit_c,
        "memory_c": gpu.memory_crit_c or kind.memory_crit_c,
    }
    rests = gpu.fan_rpm == 0 and (gpu.edge_c or 0.0) < COOL_C and card.past.watts < WARM_W
    is_let_go = gpu.fan_lever is None or card.hot_s > -math.inf or card.left_until_s > card.past.time_s
    watts = max(card.past.settled_w, (card.past.settled_w + card.past.watts) / 2)  # ahead of a heat sink that warms
    firmware_rpm = 0.0 if rests else (gpu.fan_rpm or 0.0) if is_let_go else None
    return Source(
        id=gpu.id,
        thermal=kind.thermal,
        watts=watts,
        k_per_w=kind.thermal.edge_k_per_w * card.factor,
        sensors=sensors_of(gpu, limits, {name: k * watts for name, k in card.over.items()}),
        least_rpm=gpu.fan_limit_min_rpm or 0.2 * kind.fan_max_rpm,
        most_rpm=kind.fan_max_rpm,
        air_c=air_c,
        firmware_rpm=firmware_rpm,
    )


def _least_duty(now: Snapshot, box: Box) -> float:
    """Air that others than the cards ask for."""
    asked = [float(DUTY_LEAST_PCT)]
    if (cpu_c := _cpu_c(now)) is not None:
        asked.append(_asked(cpu_c, box.cpu.temp_crit_c - CPU_WARM_K, box.cpu.temp_crit_c))
    for drive in now.drives:
        if drive.temp_c is not None and drive.warn_c is not None:
            asked.append(_asked(drive.temp_c, drive.warn_c - DRIVE_WARM_K, drive.warn_c))
    is_unknown = any(gpu.state is GpuState.USERSPACE or (_turns(gpu) and not _tells(gpu)) for gpu in now.gpus)
    if is_unknown or cpu_c is None:
        asked.append(UNKNOWN_PCT)
    return max(asked)


def _asked(temp_c: float, warm_c: float, limit_c: float) -> float:
    share = (temp_c - warm_c) / (limit_c - warm_c)
    return 0.0 if share <= 0 else min(100.0, AUTOMATIC_PCT + share * (100 - AUTOMATIC_PCT))


def _is_told(now: Snapshot) -> bool:
    """Whether the controller still tells the chassis fans' speeds."""
    is_fresh = now.slow_time_s is not None and now.time_s - now.slow_time_s <= STALE_S
    return is_fresh and any(fan.rpm is not None for fan in now.fans)


def _is_ours(now: Snapshot, memory: FansMemory) -> bool:
    """Whether we may tell the chassis fans: the controller knows how, and nobody else does."""
    if not _is_told(now) or now.time_s < memory.left_until_s:
        return False
    can_be_told = any(fan.duty_pct is not None for fan in now.fans)
    return can_be_told and (memory.duty_pct is not None or now.bmc.fan_control != "other")


def _blind(now: Snapshot, memory: FansMemory) -> Iterator[Alert]:
    """Temperatures that nobody tells, or that stand still while the watts move: what they hide may be heat."""
    for gpu in now.gpus:
        past = memory.cards[gpu.id].past
        if past is None:
            continue
        if memory.cards[gpu.id].has_told and not _tells(gpu):
            yield Alert(gpu.id, Severity.WARNING, "its temperature is not told: all fans turn as heat may need them")
        for name, still in past.stills:
            if still.is_stuck and now.time_s - still.since_s > STILL_S:
                words = f"its {name.removesuffix('_c')} temperature stands at {still.value:.0f} °C while watts move"
                yield Alert(gpu.id, Severity.WARNING, f"{words}: all fans turn as heat may need them")
                break
    if memory.cpu_told and _cpu_c(now) is None:
        yield Alert("cpu", Severity.WARNING, "its temperature is not told: all fans turn as heat may need them")


def _too_hot(now: Snapshot, scene: Scene, memory: FansMemory) -> tuple[list[Alert], FansMemory]:
    """Cards that were too hot, until they have been clearly cooler for a while."""
    found = []
    cards = dict(memory.cards)
    for card in scene.cards:
        past = cards[card.id]
        over = max(card.sensors, key=lambda sensor: sensor.now_c - sensor.hard_c, default=None)
        if over is None:
            continue
        is_cooling = now.time_s - past.hot_s < COOL_AGAIN_S or (past.hot_s > -math.inf and over.now_c > over.soft_c)
        if over.now_c >= over.hard_c:
            cards[card.id] = replace(past, hot_s=now.time_s)
        elif not is_cooling:
            cards[card.id] = replace(past, hot_s=-math.inf)
            continue
        words = f"{over.name.removesuffix('_c')} at {over.now_c:.0f} °C: heat goes before quiet until it is cooler"
        found.append(Alert(card.id, Severity.WARNING, words))
    return found, replace(memory, cards=cards)


def _is_over(scene: Scene) -> bool:
    return any(sensor.now_c >= sensor.hard_c for card in scene.cards for sensor in card.sensors)


def _worked(scene: Scene, memory: FansMemory) -> Scene:
    """The same as it will be if the work of the last seconds goes on: heat sinks are slow to show it."""
    pasts = {name: card.past for name, card in memory.cards.items()}
    cards = (replace(card, watts=past.watts) for card in scene.cards if (past := pasts[card.id]) is not None)
    return replace(scene, cards=tuple(cards))


def _reachable(scene: Scene, quiet: Quiet) -> float | None:
    """The level to hold: what was asked, or what the room and fans at their slowest leave."""
    if quiet.dba is None:
        return None
    slowest = [
        card.least_rpm if card.firmware_rpm is None else min(card.firmware_rpm, card.least_rpm) for card in scene.cards
    ]
    fans = scene.box.fans
    chassis = [fans.rpm_at(scene.duties[0])] * fans.count
    return max(quiet.dba, dba_at(chassis, slowest, scene.box.noise, scene.acoustics) + SLACK_DB)


def _duty_now(now: Snapshot, box: Box, memory: FansMemory) -> float:
    """What the chassis fans are at, told or seen."""
    if memory.duty_pct is not None:
        return memory.duty_pct
    rpm = chassis_rpm(now)
    return AUTOMATIC_PCT if rpm is None else min(100.0, 100 * rpm / box.fans.max_rpm)


def _chassis(
    now: Snapshot, box: Box, wanted_pct: float, memory: FansMemory, *, is_urgent: bool
) -> tuple[list[Action], FansMemory]:
    """The next step of the chassis fans' duty."""
    now_s, control = now.time_s, now.bmc.fan_control
    if not _is_ours(now, memory):
        return [], memory
    is_answered = now.slow_time_s is not None and now.slow_time_s > memory.told_s
    if memory.duty_pct is not None and is_answered:
        if any(fault.device == "fans" for fault in now.faults):  # they do not follow; they were given back
            return [], replace(memory, duty_pct=None, left_until_s=now_s + PEACE_S)
        if control in ("other", "automatic"):
            if memory.fights + 1 >= FIGHTS:
                return [], replace(memory, duty_pct=None, fights=0, left_until_s=now_s + PEACE_S)
            return [SetFanDuty(memory.duty_pct)], replace(memory, fights=memory.fights + 1, told_s=now_s)
        if memory.fights and now_s - memory.told_s > FORGIVEN_S:
            memory = replace(memory, fights=0)
    duty, low_s = _stepped(_duty_now(now, box, memory), wanted_pct, memory.low_s, now_s, is_urgent=is_urgent)
    memory = replace(memory, low_s=low_s)
    if memory.duty_pct is not None and duty == memory.duty_pct:
        return [], memory
    return [SetFanDuty(duty)], replace(memory, duty_pct=duty, told_s=now_s)


def _stepped(
    duty: float, wanted: float, low_s: float | None, now_s: float, *, is_urgent: bool
) -> tuple[float, float | None]:
    """Up at once in steps, or all the way where it is urgent; down after it has been too much for a while."""
    if is_urgent:
        return wanted, None
    if wanted >= duty + NEAR_UP or wanted >= 100.0 > duty:
        return float(round(min(wanted, duty + STEP_UP))), None
    if wanted > duty - NEAR_DOWN:
        return float(round(duty)), None
    if low_s is None or now_s - low_s < CALM_S:
        return float(round(duty)), now_s if low_s is None else low_s
    return float(round(max(wanted, duty - STEP_DOWN))), low_s


def _with_share(now: Snapshot, scene: Scene, most_dba: float, used_share: float, memory: FansMemory) -> FansMemory:
    """Fewer watts while the level cannot be held by fans alone; back once it easily can."""
    share, holds = memory.share, scene.holds(most_dba)
    if not holds and used_share > SHARE_LEAST / 2:
        if share > used_share + 2 * SHARE_NEAR:  # what is not used need not be taken back step by step
            share = used_share + SHARE_NEAR
        share = max(SHARE_LEAST, share - SHARE_PER_S * ROUND_S * (1.0 - min(1.0, scene.scale(most_dba))))
    elif holds and share < 1.0 and scene.best(most_dba).warmth < WARMTH_BACK:
        share = min(1.0, share + SHARE_BACK_PER_S * ROUND_S)
    memory = replace(memory, share=share)
    if now.time_s < memory.cost_s + COST_EVERY_S:
        return memory
    return replace(memory, cost=_cost(scene, most_dba, share), cost_s=now.time_s)


def _cost(scene: Scene, most_dba: float, share: float) -> tuple[float, float]:
    """Percent of the watts, and of the work at most, that one decibel less would take."""
    wanted = 1.0 / share  # of the present watts, that work would take without a limit
    here, there = (min(wanted, scene.scale(most_dba - less_db)) for less_db in (0.0, 1.0))
    watts_pct = 100 * max(0.0, 1.0 - there / here)
    clocks = []
    for card in scene.cards:
        envelope = table_envelope(scene.box.kind_of(card.id))
        clocks.append([envelope.clock_for_w(card.watts * scale * envelope.margin) for scale in (here, there)])
    before, after = (sum(column) for column in zip(*clocks, strict=True)) if clocks else (1, 1)
    return watts_pct, 100 * max(0.0, 1.0 - after / before)


def _alerts(now: Snapshot, quiet: Quiet, limit_dba: float | None, memory: FansMemory) -> Iterator[Alert]:
    if limit_dba is not None and quiet.dba is not None and limit_dba > quiet.dba + 0.05:
        words = f"{quiet.dba:g} dBA cannot be reached: room and slowest fans make {limit_dba:.0f} dBA, which is held"
        yield Alert("noise", Severity.INFO, words)
    if memory.share < 0.995:
        yield Alert("noise", Severity.INFO, f"{quiet.name}: the circuit's promise is used to {memory.share:.0%} for it")
    if now.bmc.fan_control == "other" and (memory.duty_pct is None or now.time_s < memory.left_until_s):
        yield Alert("fans", Severity.WARNING, "another program drives the chassis fans: they are left to it")
    for device, card in memory.cards.items():
        if now.time_s < card.left_until_s:
            yield Alert(device, Severity.WARNING, "another program drives its fan: it is left to it")


def _view(scene: Scene, quiet: Quiet, memory: FansMemory, *, is_broken: bool) -> QuietView:
    found: tuple[str, Sensor] | None = hottest(scene.cards)
    return QuietView(
        profile=quiet.name,
        limit_dba=quiet.dba,
        duty_pct=memory.duty_pct,
        share=memory.share,
        hottest=found[0] if found else None,
        hottest_c=found[1].now_c if found else None,
        hottest_soft_c=found[1].soft_c if found else None,
        is_broken=is_broken,
        next_db_watts_pct=memory.cost[0] if memory.cost else None,
        next_db_work_pct=memory.cost[1] if memory.cost else None,
    )
