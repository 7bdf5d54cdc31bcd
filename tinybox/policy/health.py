"""The engine of health: asks every check once, lets troubles last before they are raised, and says what to do.

Pure: what it remembers goes in and comes out. `HealthMemory.baseline` and `raised` are what outlives a restart.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from tinybox.core.box import Box
from tinybox.core.config import Config
from tinybox.core.decision import Alert
from tinybox.core.health import RAISED, WORST_FIRST, Finding, Status, Trouble
from tinybox.core.snapshot import GpuState, Severity, Snapshot
from tinybox.policy.checks.check import STEP_WORDS, Answer, Asked, Check, Look, Step
from tinybox.policy.checks.past import CardPast, Swing, Window, follow
from tinybox.policy.checks.physics import air_at, estimate
from tinybox.policy.checks.registry import CHECKS

RANK = {status: rank for rank, status in enumerate(reversed(WORST_FIRST))}
DAY_S = 86400.0
SILENT_S = 6.0
TIMES_A_STEP = 2  # so many times within a day, and the advice goes one step further
SHOWN = 3  # devices whose evidence is told


@dataclass(frozen=True, slots=True)
class Raised:
    """One device's trouble: what is shown, and what it may become. `status` OK: nothing is shown yet."""

    status: Status
    since_unix_s: float
    answer: Answer
    other: Status | None = None  # what it has been answering lately, where that is not what is shown
    other_s: float = 0.0  # since when


@dataclass(frozen=True, slots=True)
class HealthMemory:
    """All that is carried between looks. Keys are `CHECK DEVICE` where not said otherwise."""

    windows: dict[str, Window] = field(default_factory=dict)
    cards: dict[str, CardPast] = field(default_factory=dict)
    raised: dict[str, Raised] = field(default_factory=dict)
    times: dict[str, tuple[float, ...]] = field(default_factory=dict)  # of the calendar: raised within a day
    baseline: dict[str, float] = field(default_factory=dict)  # by what it is of
    swings: dict[str, Swing] = field(default_factory=dict)  # by fan
    answered_s: dict[str, float] = field(default_factory=dict)  # when it last was anything but unknown


def judge(
    snapshot: Snapshot,
    box: Box,
    config: Config,
    memory: HealthMemory,
    *,
    asked: dict[str, Asked] | None = None,
    is_only: bool = False,
) -> tuple[tuple[Finding, ...], HealthMemory]:
    """A finding for every check. `asked` is what we wrote to cards; `is_only`: one look, with no time to wait."""
    look = Look(
        *(snapshot, box, config, dict(memory.windows), {}, dict(memory.baseline), asked or {}, dict(memory.swings)),
        is_only=is_only,
    )
    look.cards = _followed(look, memory)
    raised: dict[str, Raised] = {}
    times, answered_s = dict(memory.times), dict(memory.answered_s)
    findings = []
    for check in CHECKS:
        answers = [_heard(check, answer, answered_s, look) for answer in _asked(check, look)]
        shown = []
        for answer in answers:
            key = f"{check.id} {answer.device}"
            after = _settled(check, answer, memory.raised.get(key), look)
            if after is not None:
                raised[key] = after
                if after.status in RAISED and (key not in memory.raised or memory.raised[key].status not in RAISED):
                    recent = (at_s for at_s in times.get(key, ()) if at_s > snapshot.unix_s - DAY_S)
                    times[key] = (*recent, snapshot.unix_s)[-10:]
            shown.append(_told(answer, after))
        findings.append(_finding(check, shown, raised, times))
    if not look.is_slow_known:  # what was raised before a restart is not cleared by not having looked
        slow = tuple(f"{check.id} " for check in CHECKS if check.is_slow)
        raised |= {key: one for key, one in memory.raised.items() if key.startswith(slow) and key not in raised}
    after_memory = HealthMemory(look.windows, look.cards, raised, times, look.baseline, look.swings, answered_s)
    return tuple(findings), after_memory


def _followed(look: Look, memory: HealthMemory) -> dict[str, CardPast]:
    """Every awake card's past with this moment in it; what is known of the others is kept."""
    cards = dict(memory.cards)
    for gpu in look.now.gpus:
        if gpu.state is not GpuState.AWAKE:
            continue
        kind, before = look.box.kind_of(gpu.id), memory.cards.get(gpu.id)
        if before is None and (fitted := look.baseline.get(f"fitted:{gpu.pci}")) is not None:
            before = CardPast(look.now.time_s, fitted=fitted, fitted_s=look.baseline.get(f"fitted_s:{gpu.pci}", 0.0))
        past = follow(gpu, before, kind, look.now.time_s)
        dt_s = look.now.time_s - before.time_s if before is not None else 0.0
        past = estimate(gpu, past, kind, air_at(gpu, look.now, look.box), min(max(dt_s, 0.0), 30.0))
        if past.fitted_s > 0:
            look.baseline[f"fitted:{gpu.pci}"] = round(past.fitted, 4)
            look.baseline[f"fitted_s:{gpu.pci}"] = round(past.fitted_s, 0)
        cards[gpu.id] = past
    return cards


def _asked(check: Check, look: Look) -> list[Answer]:
    """The check's answers, one a device at most: the worst."""
    if check.is_slow and not look.is_slow_known:
        return [Answer("box", Status.UNKNOWN, "not read yet")]
    found: dict[str, Answer] = {}
    for answer in check.judge(look):
        before = found.get(answer.device)
        if before is None or RANK[answer.status] > RANK[before.status]:
            found[answer.device] = answer
    return list(found.values())


def _heard(check: Check, answer: Answer, answered_s: dict[str, float], look: Look) -> Answer:
    """A silence of seconds is no news: a busy machine answers late."""
    key, now_s = f"{check.id} {answer.device}", look.now.time_s
    if answer.status is not Status.UNKNOWN:
        answered_s[key] = now_s
        return answer
    silent_s = now_s - answered_s.get(key, -math.inf)
    return (
        answer if not 0 <= silent_s < SILENT_S else replace(answer, status=Status.OK, evidence="silent since a moment")
    )


def _settled(check: Check, answer: Answer, before: Raised | None, look: Look) -> Raised | None:
    """What this device's trouble is now: it takes `after_s` to show, and `holds_s` to go."""
    is_bad = answer.status in RAISED
    if before is None:
        if not is_bad:
            return None
        shows = look.is_only or check.after_s <= 0
        status, other = (answer.status, None) if shows else (Status.OK, answer.status)
        return Raised(status, look.now.unix_s, answer, other, look.now.time_s)
    if answer.status is before.status:
        return replace(before, answer=answer, other=None)
    if is_bad or before.status in RAISED:
        return _turned(check, answer, before, look)
    return None  # it was about to show, and is over


def _turned(check: Check, answer: Answer, before: Raised, look: Look) -> Raised | None:
    """A trouble that is shown, or about to, answers otherwise now."""
    now_s, is_bad = look.now.time_s, answer.status in RAISED
    since_s = before.other_s if before.other is not None and before.other_s <= now_s else now_s
    is_worse = is_bad and RANK[answer.status] > RANK[before.status]
    if now_s - since_s < (check.after_s if is_worse else check.holds_s):
        kept = answer if is_bad else before.answer
        return replace(before, answer=kept, other=answer.status, other_s=since_s)
    if not is_bad:
        return None
    since_unix_s = before.since_unix_s if before.status in RAISED else look.now.unix_s
    return Raised(answer.status, since_unix_s, answer)


def _told(answer: Answer, after: Raised | None) -> Answer:
    """The device's answer as it is shown."""
    if after is None:
        return answer
    if after.status in RAISED:
        return replace(after.answer, status=after.status)
    return replace(answer, status=Status.OK, evidence=f"{answer.evidence}, since a moment")


def _finding(
    check: Check, shown: list[Answer], raised: dict[str, Raised], times: dict[str, tuple[float, ...]]
) -> Finding:
    """All devices' answers as one: the worst decides."""
    if not shown:
        return Finding(check.id, Status.NA, check.severity, "nothing of the kind here", check.limit, check.advice)
    status = max((answer.status for answer in shown), key=RANK.__getitem__)
    same = [answer for answer in shown if answer.status is status]
    if status not in RAISED:
        more = f" (and {len(same) - 1} more)" if len(same) > 1 else ""
        evidence = f"{same[0].device}: {same[0].evidence}{more}"
        return Finding(check.id, status, check.severity, evidence, same[0].limit or check.limit, check.advice)
    bad = sorted((answer for answer in shown if answer.status in RAISED), key=lambda one: -RANK[one.status])
    troubles = tuple(
        Trouble(one.device, one.status, one.evidence, _advice(check, one, times.get(f"{check.id} {one.device}", ())))
        for one in bad
    )
    more = f" (and {len(bad) - SHOWN} more)" if len(bad) > SHOWN else ""
    return Finding(
        check.id,
        status,
        check.severity,
        "; ".join(f"{one.device}: {one.evidence}" for one in bad[:SHOWN]) + more,
        bad[0].limit or check.limit,
        troubles[0].advice,
        min(raised[f"{check.id} {one.device}"].since_unix_s for one in bad),
        troubles,
    )


def _advice(check: Check, answer: Answer, times: tuple[float, ...]) -> str:
    """What to do about it; what comes back within a day goes up the ladder."""
    words = answer.advice or check.advice
    if answer.step is None:
        return words
    further = max(0, (len(times) - 1) // TIMES_A_STEP)
    step = Step(min(answer.step + further, Step.REPLACE))
    again = f" (raised {len(times)} times within a day)" if further else ""
    return f"{STEP_WORDS[step]}{again}" + ("" if answer.advice == "" else f"; {words}")


SEVERITIES = {Status.WARN: Severity.WARNING, Status.CRIT: Severity.CRITICAL}
TOLD_BY_DRIVERS = frozenset(check.id for check in CHECKS if not check.is_told)


def alerts_of(findings: Iterable[Finding]) -> tuple[Alert, ...]:
    """What is raised, device by device, as the status shows it; what a driver's fault already says is not repeated."""
    return tuple(
        Alert(trouble.device, SEVERITIES[trouble.status], f"{trouble.evidence}: {trouble.advice}")
        for finding in findings
        if finding.id not in TOLD_BY_DRIVERS
        for trouble in finding.troubles
    )
