"""Which alerts are worth a message: what lasts, what became worse, what is over; each seldom, however much it flaps.

Told is what the owner knows, and it follows what is true, late where it has to: whatever was told last holds in the
end.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from tinybox.core.decision import Alert
from tinybox.core.health import Finding
from tinybox.core.snapshot import Severity
from tinybox.policy.health import SEVERITIES, TOLD_BY_DRIVERS, alerts_of

LASTS_S = 2.0  # so long it has to be there, or to be worse
OVER_S = 30.0  # and so long it has to be gone, or better
EVERY_S = 300.0  # no oftener is the same told of the same id
RANK = {Severity.WARNING: 1, Severity.CRITICAL: 2}
MOST_IDS = 500


@dataclass(frozen=True, slots=True)
class Change:
    """What to tell. `severity` is that of the alert, or of the one that is over."""

    id: str
    is_raised: bool
    severity: Severity
    reason: str


@dataclass(frozen=True, slots=True)
class Known:
    """Of one id: what is so and since when, what was told of it and when."""

    now: Severity | None
    since_s: float
    told: Severity | None = None
    warned_s: float = -1e9
    alarmed_s: float = -1e9

    def last_told_s(self, severity: Severity) -> float:
        """When it was last told to be so bad, or worse."""
        return self.alarmed_s if severity is Severity.CRITICAL else max(self.warned_s, self.alarmed_s)


TellingMemory = dict[str, Known]


def tellable(alerts: Iterable[Alert], findings: tuple[Finding, ...]) -> list[Alert]:
    """A check of health under its own id, once for the whole box, unless its owner knows; all else as it is.

    `alerts` has what health raises device by device as well.
    """
    by_device = set(alerts_of(findings))
    raised = [
        Alert(finding.id, SEVERITIES[finding.status], f"{finding.evidence}: {finding.advice}")
        for finding in findings
        if finding.is_raised and finding.ack is None and finding.id not in TOLD_BY_DRIVERS
    ]
    return [*raised, *(alert for alert in alerts if alert not in by_device)]


def changes(alerts: Iterable[Alert], now_s: float, memory: TellingMemory) -> tuple[tuple[Change, ...], TellingMemory]:
    """What to tell now, and what to remember. Infos are for those who look, not worth a message."""
    worst: dict[str, Alert] = {}
    for alert in alerts:
        rank = RANK.get(alert.severity, 0)
        if rank and (alert.id not in worst or rank > RANK[worst[alert.id].severity]):
            worst[alert.id] = alert
    found: list[Change] = []
    kept: TellingMemory = {}
    for name in sorted({*worst, *memory}):
        alert_now = worst.get(name)
        if name not in memory and len(kept) >= MOST_IDS:
            continue
        change, known = _follow(name, alert_now, now_s, memory.get(name))
        if change is not None:
            found.append(change)
        if known is not None:
            kept[name] = known
    return tuple(found), kept


def _follow(name: str, alert: Alert | None, now_s: float, known: Known | None) -> tuple[Change | None, Known | None]:
    severity = None if alert is None else alert.severity
    if known is None:
        known = Known(severity, now_s)
    elif known.now is not severity:
        known = replace(known, now=severity, since_s=now_s)
    lasted_s = now_s - known.since_s
    if severity is known.told:
        is_forgotten = severity is None and lasted_s >= EVERY_S
        return None, None if is_forgotten else known
    if alert is None or _rank(alert.severity) < _rank(known.told):
        return _ease(name, alert, lasted_s, known)
    if lasted_s < LASTS_S or now_s - known.last_told_s(alert.severity) < EVERY_S:
        return None, known
    known = replace(known, told=alert.severity)
    is_alarm = alert.severity is Severity.CRITICAL
    told = replace(known, alarmed_s=now_s) if is_alarm else replace(known, warned_s=now_s)
    return Change(name, True, alert.severity, alert.reason), told


def _ease(name: str, alert: Alert | None, lasted_s: float, known: Known) -> tuple[Change | None, Known]:
    """It is over, or no longer so bad: then what is left of it is told."""
    if lasted_s < OVER_S or known.told is None:
        return None, known
    if alert is None:
        return Change(name, False, known.told, "over"), replace(known, told=None)
    return Change(name, True, alert.severity, alert.reason), replace(known, told=alert.severity)


def _rank(severity: Severity | None) -> int:
    return 0 if severity is None else RANK.get(severity, 0)
