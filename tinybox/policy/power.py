"""The governor: amps measured, promises kept, watts shared, and what to write for it. Board watts, outlet amps."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from tinybox.core.actions import Action, LimitGpuFan, SetCap, SetClockLimit, SetCpuCap
from tinybox.core.box import Box
from tinybox.core.circuit import SUSTAINED_SHARE, Circuit
from tinybox.core.commission import Commission
from tinybox.core.config import Config
from tinybox.core.decision import Alert, Grant, Guarantee, PowerView, WallSource
from tinybox.core.snapshot import Gpu, GpuState, Severity, Snapshot
from tinybox.policy.bounded import GUARANTEE_S, LINE_LOW, Draw, clocks, guarantee_amps
from tinybox.policy.breaker import heat_after, share_of_trip
from tinybox.policy.cards import Card, CardsMemory, observe, refuses
from tinybox.policy.envelope import Known, floor_clock_mhz, floor_limits, known_of
from tinybox.policy.ladder import FREEZE_AT, Heat, Hopes, LadderMemory, climb
from tinybox.policy.ledger import WINDOW_S, Ledger, note, spent_as
from tinybox.policy.neighbour import SURE_OF_NEIGHBOUR, WARY_OF_NEIGHBOUR, NeighbourMemory, watch
from tinybox.policy.room import room_alerts, room_share
from tinybox.policy.strict import is_stuck, share_strict
from tinybox.policy.wall import LINE_SAG, PARTS_FRACTION, Parts, WallMemory, WallReading, read_wall
from tinybox.policy.writes import bounded_writes, is_raise, written

LINE_RISE_V_PER_S = 0.02  # the budget follows a falling line at once, a rising one slowly
TRIM_LEAST = 0.5
TRIM_DOWN_PER_S = 0.1
TRIM_UP_PER_S = 0.005
TRIM_RELEASE = 0.97  # of the budget: below it a trim is given back
OBEYS_S = 0.6  # after a write
AT_FLOOR = 1.05  # of the lowest clock
TIGHT = 0.93  # of the promise: nearer than that every change is made at once
DRAWS = 1.8  # times its idle watts: a card that still works
FAILSAFE_LATE_S = 1.0  # an answer older than this: nobody would end a jump


@dataclass(frozen=True, slots=True)
class PowerMemory:
    """Carried from tick to tick. `trim` scales the strict pool where the wall says that the table lied."""

    known: dict[str, Known] = field(default_factory=dict)
    cards: CardsMemory = field(default_factory=CardsMemory)
    wall: WallMemory = field(default_factory=WallMemory)
    neighbour: NeighbourMemory = field(default_factory=NeighbourMemory)
    ladder: LadderMemory = field(default_factory=LadderMemory)
    ledger: Ledger = ()
    heat: float | None = None
    sure_heat: float | None = None
    line_v: float | None = None
    time_s: float | None = None
    trim: float = 1.0
    room: float = 1.0  # share of the promise that the room leaves
    quiet: float = 1.0  # and the level to be kept


@dataclass(frozen=True, slots=True)
class PowerPlan:
    """One tick of sharing."""

    actions: tuple[Action, ...]
    alerts: tuple[Alert, ...]
    reason: str | None
    view: PowerView
    is_unexplained: bool  # the meters see more than the parts: work that our looks miss


@dataclass(frozen=True, slots=True)
class _State:
    """Everything measured in this turn."""

    snapshot: Snapshot
    box: Box
    circuit: Circuit
    config: Config
    cards: tuple[Card, ...]
    wall: WallReading
    ledger: Ledger
    heat: float
    sure_heat: float
    other_a: float
    line_v: float
    budget_w: float
    pool_w: float
    period_s: float
    cpu_grant_w: float
    cpu_w: float


def share_power(
    snapshot: Snapshot, box: Box, config: Config, circuit: Circuit, commission: Commission | None, memory: PowerMemory
) -> tuple[PowerPlan, PowerMemory]:
    """Divide the outlet among the cards and say which limits to write."""
    state, alerts, memory = _measure(snapshot, box, config, circuit, commission, memory)
    guarantee = guarantee_of(snapshot, config, commission, alerts)
    inlet_c, room_max_c = snapshot.bmc.inlet_c, config.thermal.room_max_c
    room = room_share(inlet_c, room_max_c, memory.room, state.period_s)
    trim = _trim(state.wall.mean_w, state.budget_w, memory.trim, state.period_s)
    if guarantee is Guarantee.BOUNDED:
        actions, cards, reason = _share_bounded(state, min(room, memory.quiet))
    else:
        is_hot = share_of_trip(state.heat, circuit) >= FREEZE_AT  # the floor first: it may help
        actions, cards, reason = share_strict(
            state.cards,
            pool_w=state.pool_w,
            trim=0.0 if is_hot else trim * min(room, memory.quiet),
            budget_w=state.budget_w,
            now_s=snapshot.time_s,
        )
    resort, more, ladder_reason, ladder = climb(snapshot, _heat(state), _hopes(state), config.power, memory.ladder)
    if not snapshot.is_armed:  # nothing of this is done: nothing of it may be remembered
        cards, ladder, trim, room, more = state.cards, memory.ladder, 1.0, 1.0, []
    alerts += [*more, *_alerts(state, cards, guarantee, trim), *room_alerts(inlet_c, room_max_c, room)]
    actions = (*resort, *actions, *_cpu_actions(snapshot, config))
    view = _view(state, cards, guarantee, commission)
    kept = replace(
        memory,
        cards=CardsMemory({card.gpu.id: card.memory for card in cards}, snapshot.time_s),
        ladder=ladder,
        time_s=snapshot.time_s,
        trim=trim,
        room=room,
    )
    unexplained = state.wall.excess > PARTS_FRACTION
    return PowerPlan(actions, tuple(alerts), ladder_reason or reason, view, unexplained), kept


def guarantee_of(snapshot: Snapshot, config: Config, commission: Commission | None, alerts: list[Alert]) -> Guarantee:
    """The guarantee in force: bounded only while the failsafe answers."""
    if config.power.guarantee_of(is_commissioned=commission is not None) == "strict":
        return Guarantee.STRICT
    if snapshot.failsafe_age_s is None or snapshot.failsafe_age_s > FAILSAFE_LATE_S:
        reason = "the failsafe does not answer: limits are strict until it does ('systemctl status tinybox-failsafe')"
        alerts.append(Alert("failsafe", Severity.WARNING, reason))
        return Guarantee.STRICT
    return Guarantee.BOUNDED


def gpu_pool_w(budget_w: float, box: Box, cpu_grant_w: float | None = None) -> float:
    """Board watts left for all cards once everything else draws its worst and the supplies are at their worst."""
    cpu_w = box.cpu.power_max_w if cpu_grant_w is None else cpu_grant_w
    return max(0.0, budget_w * box.psu.efficiency_min - cpu_w - box.rest.power_max_w)


def failsafe_actions(gpus: Iterable[Gpu], box: Box) -> tuple[Action, ...]:
    """The lowest limits every awake card accepts, clock first: it reaches lower."""
    actions: list[Action] = []
    for gpu in gpus:
        if gpu.state is GpuState.AWAKE:
            limits = floor_limits(gpu, box.kind_of(gpu.id))
            if limits.clock_mhz is not None:
                actions.append(SetClockLimit(gpu.id, limits.clock_mhz))
            actions.append(SetCap(gpu.id, limits.cap_w))
            if gpu.fan_lever is not None:  # a fan that was held down, or at one speed, is its firmware's again
                actions.append(LimitGpuFan(gpu.id, None))
    return tuple(actions)


def _measure(
    snapshot: Snapshot, box: Box, config: Config, circuit: Circuit, commission: Commission | None, memory: PowerMemory
) -> tuple[_State, list[Alert], PowerMemory]:
    elapsed_s = max(0.0, snapshot.time_s - memory.time_s) if memory.time_s is not None else 0.0
    known = memory.known or known_of(box, commission)
    cards, alerts = observe(snapshot, box, config, known, memory.cards)
    cpu_grant_w = _cpu_grant_w(snapshot, box)
    cpu_w = snapshot.cpu.power_w
    if cpu_w is None or not 0 <= cpu_w <= 2 * box.cpu.power_max_w:
        cpu_w = None
    rest_w = (box.rest.power_idle_w + box.rest.power_max_w) / 2
    parts = Parts(
        sum(card.watts for card in cards) + (cpu_grant_w if cpu_w is None else cpu_w) + rest_w,
        is_known=cpu_w is not None and all(card.is_known for card in cards),
    )
    wall, wall_memory = read_wall(snapshot, box, circuit, parts, memory.wall)
    alerts += wall.alerts
    neighbour = watch(snapshot.time_s, wall.line_v, wall.amps, circuit, memory.neighbour)
    other_a = neighbour.other_a()
    heat = memory.heat if memory.heat is not None else (circuit.carried_a / circuit.rating_a) ** 2
    own_a, seconds = wall.amps + config.circuit.other_load_a, min(elapsed_s, 60.0)
    sure_heat = heat_after(memory.sure_heat or heat, own_a + other_a * SURE_OF_NEIGHBOUR, seconds, circuit)
    heat = heat_after(heat, own_a + other_a * WARY_OF_NEIGHBOUR, seconds, circuit)
    line_v = _held_line_v(_loaded_line_v(wall, neighbour, circuit), memory.line_v, elapsed_s)
    budget_w = max(0.0, circuit.promised_a - other_a) * line_v * circuit.power_factor
    ledger = note(memory.ledger, snapshot.time_s, wall.amps)
    state = _State(
        snapshot=snapshot,
        box=box,
        circuit=circuit,
        config=config,
        cards=cards,
        wall=wall,
        ledger=ledger,
        heat=heat,
        sure_heat=sure_heat,
        other_a=other_a,
        line_v=line_v,
        budget_w=budget_w,
        pool_w=gpu_pool_w(budget_w, box, cpu_grant_w),
        period_s=elapsed_s,
        cpu_grant_w=cpu_grant_w,
        cpu_w=cpu_grant_w if cpu_w is None else cpu_w,
    )
    kept = replace(
        memory,
        known=known,
        wall=wall_memory,
        neighbour=neighbour,
        ledger=ledger,
        heat=heat,
        sure_heat=sure_heat,
        line_v=line_v,
    )
    return state, alerts, kept


def _cpu_grant_w(snapshot: Snapshot, box: Box) -> float:
    """The most the processor may draw: its RAPL limit where it has one; none holds it below idle."""
    cap_w = snapshot.cpu.cap_w
    if cap_w is None or cap_w <= 0:
        return box.cpu.power_max_w
    return min(max(cap_w, box.cpu.power_idle_w), box.cpu.power_max_w)


def _cpu_actions(snapshot: Snapshot, config: Config) -> tuple[Action, ...]:
    """The owner's own limit of the processor, where it has a limit at all."""
    wanted_w, cap_w = config.power.cpu_limit_w, snapshot.cpu.cap_w
    if wanted_w is None or cap_w is None or abs(cap_w - wanted_w) < 1.0:
        return ()
    return (SetCpuCap(wanted_w),)


def _share_bounded(state: _State, room: float) -> tuple[tuple[Action, ...], tuple[Card, ...], str | None]:
    """One clock for all, as high as the promises allow, of which the room leaves a share."""
    box, circuit = state.box, replace(state.circuit, promised_a=room * state.circuit.promised_a)
    per_w = 1 / (box.psu.efficiency_nominal * min(state.line_v, circuit.volts * (1 + LINE_SAG)) * circuit.power_factor)
    margin = PARTS_FRACTION / 2 if state.wall.source is WallSource.ESTIMATE else box.psu.meter_tolerance
    margin += box.psu.volt_tolerance
    if state.wall.source is WallSource.BMC:
        margin += 0.03  # seconds late, and 8 bits of it
    draw = Draw(
        amps=state.wall.amps,
        per_w=per_w,
        cpu_jump_a=max(0.0, state.cpu_grant_w - state.cpu_w) * per_w,
        other_a=state.other_a,
        heat=state.heat,
        period_s=max(state.period_s, state.config.daemon.period_s),
        rest_worst_w=state.cpu_grant_w + box.rest.power_max_w,
        margin=margin,
    )
    found = clocks(state.cards, box, circuit, state.ledger, draw, state.snapshot.time_s)
    actions: list[Action] = []
    cards = []
    now_s, promised_a = state.snapshot.time_s, max(0.0, circuit.promised_a - state.other_a)
    mean_a = spent_as(state.ledger, WINDOW_S) / WINDOW_S
    is_tight = mean_a > TIGHT * promised_a
    for card in state.cards:
        clock_mhz = found.by_card.get(card.gpu.id, found.most_mhz)
        if state.snapshot.is_work_frozen:
            clock_mhz = card.kind.clock_min_mhz  # it thaws all at once: six cards' jump is not what a hot breaker needs
        since_s = now_s - card.memory.wrote_s
        writes = bounded_writes(card, clock_mhz, since_s=since_s, is_tight=is_tight) if card.is_awake else []
        cards.append(written(card, writes, state.snapshot.time_s))
        actions += writes
    reason = None
    if actions:
        words = f"{found.amps:.1f} A expected, {mean_a:.1f} A on the mean of ten seconds, {promised_a:.1f} A promised"
        reason = f"clocks up to {found.most_mhz:,} MHz: {words}"
    # Lowerings first: they make room.
    actions.sort(key=lambda action: is_raise(action, state.snapshot))
    return tuple(actions), tuple(cards), reason


def _loaded_line_v(wall: WallReading, neighbour: NeighbourMemory, circuit: Circuit) -> float:
    """Line volts as they will be once the whole promise is drawn: the wiring takes its share of them.

    Unmeasured, the lowest that a utility may deliver. Never above nominal +5 %: a lying voltmeter buys no watts.
    """
    if wall.line_v is None:
        return circuit.volts * (1 - LINE_SAG)
    drop_v = neighbour.drop_v(circuit.promised_a - wall.amps, circuit)
    return min(wall.line_v - drop_v, circuit.volts * (1 + LINE_SAG))


def _held_line_v(loaded_v: float, held_v: float | None, elapsed_s: float) -> float:
    """Line volts the budget counts on: falling at once, rising slowly, so that it does not follow every load."""
    return loaded_v if held_v is None else min(loaded_v, held_v + LINE_RISE_V_PER_S * elapsed_s)


def _trim(wall_w: float, budget_w: float, trim: float, elapsed_s: float) -> float:
    """Shares shrink while the wall is over budget whatever the table says, and come back slowly."""
    if wall_w > budget_w:
        return max(TRIM_LEAST, trim - TRIM_DOWN_PER_S * elapsed_s)
    return min(1.0, trim + TRIM_UP_PER_S * elapsed_s) if wall_w < TRIM_RELEASE * budget_w else trim


def _heat(state: _State) -> Heat:
    return Heat(share_of_trip(state.heat, state.circuit), share_of_trip(state.sure_heat, state.circuit))


def _hopes(state: _State) -> Hopes:
    """What the last resorts could change, beside whoever else is on the circuit."""
    box, circuit = state.box, state.circuit
    floors_w = sum(_floor_w(card) for card in state.cards if card.watts > 0)
    dc_w = floors_w + box.cpu.power_idle_w + box.rest.power_max_w
    amps = dc_w / (box.psu.efficiency_nominal * state.line_v * circuit.power_factor)
    return Hopes(
        floors_fit=amps + state.other_a <= circuit.promised_a,
        floor_is_too_hot=_is_heating(state)
        and all(_at_floor(card, state.snapshot.time_s) for card in state.cards if card.is_awake),
        still_draws=any(card.watts > DRAWS * card.idle_w for card in state.cards),
    )


def _floor_w(card: Card) -> float:
    """What the card draws at its lowest clock; who drives it from user space lowers nothing for us."""
    if card.gpu.state is GpuState.USERSPACE:
        return card.grant_w
    return card.envelope.nominal_w(card.kind.clock_min_mhz)


def _is_heating(state: _State) -> bool:
    """Whether what is drawn now keeps the breaker from cooling below where work may be frozen."""
    amps = state.wall.amps + state.other_a + state.config.circuit.other_load_a
    return share_of_trip((amps / state.circuit.rating_a) ** 2, state.circuit) >= SUSTAINED_SHARE


def _at_floor(card: Card, now_s: float) -> bool:
    """Whether its clock limit can go no lower: it is there, there is none, or the card does not take it."""
    limit_mhz = card.gpu.clock_limit_mhz
    is_low = limit_mhz is not None and limit_mhz <= AT_FLOOR * floor_clock_mhz(card.gpu, card.kind)
    if is_low and now_s - card.memory.wrote_s < OBEYS_S:
        return False  # it was just told
    return is_low or not card.gpu.has_clock_lever or card.memory.is_deaf or refuses(card, now_s)


def _alerts(state: _State, cards: tuple[Card, ...], guarantee: Guarantee, trim: float) -> Iterable[Alert]:
    wall_w, budget_w, now_s = state.wall.mean_w, state.budget_w, state.snapshot.time_s
    if state.other_a > 0:
        reason = f"something else draws about {state.other_a:.0f} A from this circuit since the line dropped"
        yield Alert("circuit", Severity.WARNING, reason)
    if guarantee is Guarantee.BOUNDED:
        mean_a = spent_as(state.ledger, WINDOW_S) / WINDOW_S
        if mean_a > max(0.1, state.circuit.promised_a - state.other_a) * 1.01:
            reason = (
                f"{mean_a:.1f} A on the mean of ten seconds, {state.circuit.promised_a - state.other_a:.1f} A promised"
            )
            yield Alert("power", Severity.CRITICAL, reason)
        return
    if wall_w > budget_w:
        yield Alert("power", Severity.CRITICAL, f"{wall_w:.0f} W at the wall, {budget_w:.0f} W promised: shares shrink")
    elif trim < 1.0:
        yield Alert("power", Severity.WARNING, f"shares held at {trim:.0%}: the wall was over its budget")
    granted_w = sum(card.grant_w for card in cards)
    if granted_w > state.pool_w:
        reason = f"limits in force allow the cards {granted_w:.0f} W, the circuit leaves them {state.pool_w:.0f} W"
        yield Alert("power", Severity.CRITICAL, reason)
    for card in cards:
        if card.is_awake and is_stuck(card, now_s):
            yield Alert(card.gpu.id, Severity.CRITICAL, _refusal(card))


def _refusal(card: Card) -> str:
    words = f"its limits still allow {card.grant_w:.0f} W: the other cards give way"
    if card.gpu.has_clock_lever:
        return words
    return f"{words}; it has no clock lever (boot with amdgpu.ppfeaturemask=0xffffffff)"


def _view(state: _State, cards: tuple[Card, ...], guarantee: Guarantee, commission: Commission | None) -> PowerView:
    box, circuit = state.box, state.circuit
    granted_w = sum(card.grant_w for card in cards)
    worst_dc_w = granted_w + state.cpu_grant_w + box.rest.power_max_w
    low_v = circuit.volts * LINE_LOW if guarantee is Guarantee.BOUNDED else state.line_v
    worst_a = guarantee_amps(worst_dc_w, box, circuit, low_v) + state.other_a
    line_v = state.wall.line_v
    return PowerView(
        wall_w=state.wall.mean_w,
        wall_source=state.wall.source,
        budget_w=state.budget_w
        if line_v is None
        else max(0.0, circuit.promised_a - state.other_a) * line_v * circuit.power_factor,
        budget_a=circuit.promised_a,
        line_v=line_v,
        gpu_pool_w=state.pool_w,
        grants=tuple(Grant(card.gpu.id, card.grant_w) for card in cards),
        guarantee=guarantee,
        is_commissioned=commission is not None,
        amps=state.wall.amps,
        mean_a=spent_as(state.ledger, WINDOW_S) / WINDOW_S,
        other_a=state.other_a,
        breaker_heat=share_of_trip(state.heat, circuit),
        worst_a=worst_a,
        worst_heat=share_of_trip(heat_after(state.heat, worst_a, GUARANTEE_S, circuit), circuit),
        failsafe_s=GUARANTEE_S,
    )
