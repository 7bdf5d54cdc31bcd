"""The baseboard controller and what it sees: its log, chassis fans, supplies, the air that goes in."""

import math
import re
from collections.abc import Iterator
from statistics import median

from tinybox.core.snapshot import SelEntry, Severity
from tinybox.policy.checks.check import Answer, Check, Look, above, crit, good, warn
from tinybox.policy.checks.past import Window

LOG_FULL_PCT = 90.0
# What a controller logs when something broke; crossings of thresholds are bmc.sensors' to say while they last.
BAD_EVENTS = re.compile(
    r"AC lost|input lost|Power Supply.*fail|Failure detected|Uncorrectable|Bus Fatal|PCI SERR|Throttled|"
    r"BIOS corruption|Memory.*limit reached|Processor.*(?:IERR|Thermal Trip)|Predictive failure",
    re.IGNORECASE,
)
STUCK_W = 50.0
SUPPLY, THRESHOLDS = re.compile(r"PSU|Power Supply|PS\d", re.IGNORECASE), ("nc", "cr", "nr", "stale")
FAN_MIN_RPM = 100.0
FAN_OF_DUTY, FAN_OF_OTHERS = 0.75 * 0.75, 0.6  # tachometers may be off by a quarter
INLET_C = 40.0  # where the owner sets no limit: ASHRAE's class A3
DEAD_V, DEAD_W, LIVE_W = 60.0, 3.0, 30.0


def has_controller(look: Look) -> bool:
    """Whether the owner has not said that there is none."""
    return look.config.bmc.interface != "none"


def reach(look: Look) -> Iterator[Answer]:
    """The controller answers."""
    if has_controller(look):
        reasons = look.reasons("bmc")
        yield warn("bmc", reasons[0]) if reasons else good("bmc", "answers")


def sensors(look: Look) -> Iterator[Answer]:
    """What the controller itself finds at fault, and readings of it that stand still."""
    if not has_controller(look):
        return
    bmc = look.now.bmc
    if look.reasons("bmc"):
        yield look.absent("bmc")
        return
    for one in bmc.troubled:
        if SUPPLY.search(one.name) and one.state not in THRESHOLDS:
            continue  # psu.redundancy's to say
        judge = crit if one.state in ("cr", "nr") else warn
        yield judge(one.name, f"{one.reading or 'reads'} is {one.state}" if one.reading else f"is {one.state}")
    yield good("bmc", "no sensor at fault")


def log_entries(look: Look) -> Iterator[Answer]:
    """Troubles in the controller's log that no later entry ends, newer than the first look at this machine."""
    bmc = look.now.bmc
    if not has_controller(look):
        return
    if bmc.events is None:
        yield look.absent("bmc")
        return
    newest = max((event.number for event in bmc.events), default=0)
    seen = look.baseline.setdefault("sel", newest)
    if newest < seen:  # it was cleared: its numbers start anew
        seen = look.baseline["sel"] = 0
    open_events: dict[tuple[str, str], SelEntry] = {}
    for event in sorted(bmc.events, key=lambda one: one.number):
        if event.is_asserted and event.number > seen and BAD_EVENTS.search(f"{event.sensor} {event.event}"):
            open_events[event.sensor, event.event] = event
        elif not event.is_asserted:
            open_events.pop((event.sensor, event.event), None)
    for event in open_events.values():
        yield crit(event.sensor, f"{event.event} ({event.when})")
    if (bmc.log_used_pct or 0.0) >= LOG_FULL_PCT:
        yield warn("bmc", f"its log is {bmc.log_used_pct:.0f} % full", limit=f"{LOG_FULL_PCT:.0f} %",
                   advice="save it ('ipmitool sel elist'), then clear it ('ipmitool sel clear')")  # fmt: skip
    yield good("bmc", f"{len(bmc.events)} entries, nothing open")


def case_fans(look: Look) -> Iterator[Answer]:
    """Chassis fans turn, as fast as they were told, or as the others do."""
    told = [fan.rpm for fan in look.now.fans if fan.rpm is not None]
    usual = median(told) if len(told) >= 3 else None
    for fan in look.now.fans:
        if fan.rpm is None:
            yield look.absent("bmc" if look.reasons("bmc") else fan.id)
            continue
        said = f"{fan.rpm:.0f} rpm"
        if fan.rpm < FAN_MIN_RPM and fan.duty_pct != 0:
            yield crit(fan.id, f"{said}: it stands")
        elif fan.duty_pct is not None and fan.rpm < FAN_OF_DUTY * fan.duty_pct / 100 * look.box.fans.max_rpm:
            yield warn(fan.id, f"{said} at {fan.duty_pct:.0f} % duty")
        elif usual is not None and fan.rpm < FAN_OF_OTHERS * usual:
            yield warn(fan.id, f"{said}, the others turn at {usual:.0f}")
        else:
            yield good(fan.id, said)


def authority(look: Look) -> Iterator[Answer]:
    """Nobody else drives the chassis fans."""
    control = look.now.bmc.fan_control
    if control is None:
        yield look.absent("bmc")
    elif control == "other":
        yield warn("fans", "another program has told the controller their duty")
    else:
        yield good("fans", "ours" if control == "ours" else "the controller's own")


def supplies(look: Look) -> Iterator[Answer]:
    """Every supply carries its share."""
    for one in look.now.bmc.troubled:
        if SUPPLY.search(one.name) and one.state not in THRESHOLDS:
            yield crit(one.name, one.state)
    for psu in look.now.psus:
        others = [one.in_w for one in look.now.psus if one.id != psu.id and one.in_w is not None]
        if psu.in_v is not None and psu.in_v < DEAD_V:
            yield crit(psu.id, f"{psu.in_v:.0f} V at its inlet")
        elif psu.in_w is None:
            yield look.absent(psu.id)
        elif psu.in_w < DEAD_W and any(watts > LIVE_W for watts in others):
            yield crit(psu.id, f"delivers nothing ({psu.in_w:.0f} W)")
        elif psu.in_w > look.box.psu.rated_w:
            yield warn(psu.id, f"{psu.in_w:.0f} W", limit=f"{look.box.psu.rated_w:.0f} W")
        else:
            yield good(psu.id, f"{psu.in_w:.0f} W")


def supply_read(look: Look) -> Iterator[Answer]:
    """The meters that the outlet's promise rests on: each answers, and moves when the others do."""
    for psu in look.now.psus:
        reasons = look.reasons(psu.id)
        others = [one.in_w for one in look.now.psus if one.id != psu.id and one.in_w is not None]
        if reasons:
            yield warn(psu.id, reasons[0])
        elif (
            psu.in_w is not None and others and (moved_w := _moved_alone(psu.id, psu.in_w, sum(others), look)) > STUCK_W
        ):
            yield warn(psu.id, f"stands at {psu.in_w:.0f} W while the others moved by {moved_w:.0f} W")
        else:
            yield good(psu.id, "all sensors answer")


def _moved_alone(device: str, watts: float, others_w: float, look: Look) -> float:
    """By how much the others have moved since this one's reading last changed."""
    key = f"psu.still:{device}"
    past = look.windows.get(key)
    if past is None or past.samples[0][1] != watts or len(past.samples) < 2:
        look.windows[key] = Window(math.inf, ((look.now.time_s, watts), (look.now.time_s, others_w)))
        return 0.0
    return abs(others_w - past.samples[1][1])


def inlet(look: Look) -> Iterator[Answer]:
    """1.4 kW heats a room."""
    inlet_c = look.now.bmc.inlet_c
    if inlet_c is None:
        yield look.absent("bmc")
        return
    most_c = look.config.thermal.room_max_c or INLET_C
    yield above("room", inlet_c, warn_at=most_c, crit_at=most_c + 5, unit=" °C")


CHECKS = (
    Check("bmc.reach", "whether the controller answers", "it does", "ipmitool",
          "'ipmitool mc reset cold'; cut the power for a minute where that does not help", reach, is_slow=True,
          is_told=False),
    Check("bmc.sensors", "sensors that the controller finds at fault; readings that stand still",
          "none; non-critical / critical", "the controller's own thresholds",
          "see the part; 'ipmitool mc reset cold' where readings stand still", sensors, Severity.CRITICAL,
          after_s=3.0, is_slow=True),
    Check("bmc.sel", "the controller's event log", "nothing open since the first look; 90 % full",
          "gcm's list of events", "see the part; then save the log and clear it ('ipmitool sel clear')", log_entries,
          Severity.CRITICAL, after_s=0.0, is_slow=True),
    Check("case.fan", "chassis fans against their duty and each other", "0.56 of its duty's speed / it stands",
          "tachometers may be off by a quarter", "clean or replace the fan", case_fans, Severity.CRITICAL, after_s=4.0,
          is_slow=True),
    Check("fan.authority", "who drives the chassis fans", "the controller or we", "the controller's read-back",
          "stop the other tool, or give the fans back to the controller", authority, after_s=5.0, is_slow=True),
    Check("psu.redundancy", "watts and volts of every supply", "over its rating / one delivers nothing", "the box",
          "see its cable and its fuse, then replace it", supplies, Severity.CRITICAL, after_s=3.0),
    Check("psu.read", "the supplies' own meters", "each answers, and moves with the others (50 W)", "its driver",
          "reseat the supply; the outlet's promise holds by the controller's meter meanwhile", supply_read, after_s=3.0,
          is_told=False),
    Check("room.inlet", "air that goes in", "thermal.room_max_c / 5 K more", "configuration, else 40 °C (ASHRAE A3)",
          "let the room's heat out: the box is an electric heater", inlet, Severity.CRITICAL, after_s=10.0,
          is_slow=True),
)  # fmt: skip
