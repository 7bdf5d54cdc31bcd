"""What health answers: a finding for every check, what the owner has acknowledged, and what came and went.

Times are of the calendar, in seconds; `since` in a document is the same in words (UTC, ISO 8601).
"""

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from tinybox.core.snapshot import Severity

SCHEMA = 1


class Status(StrEnum):
    """The five answers. `unknown`: it could not be read; `n/a`: this machine has nothing of the kind."""

    OK = "ok"
    WARN = "warn"
    CRIT = "crit"
    UNKNOWN = "unknown"
    NA = "n/a"


WORST_FIRST = (Status.CRIT, Status.WARN, Status.UNKNOWN, Status.OK, Status.NA)
RAISED = (Status.WARN, Status.CRIT)


@dataclass(frozen=True, slots=True)
class Ack:
    """The owner knows: for these devices, at this status or a milder one. Whatever goes beyond is raised anew."""

    id: str
    devices: tuple[str, ...]
    status: Status
    who: str
    unix_s: float
    why: str


@dataclass(frozen=True, slots=True)
class Trouble:
    """What one device's answer was that raised a check."""

    device: str
    status: Status
    evidence: str
    advice: str


@dataclass(frozen=True, slots=True)
class Finding:
    """One check's answer for the whole box: that of its worst device. `severity` is the worst it can come to."""

    id: str
    status: Status
    severity: Severity
    evidence: str
    limit: str
    advice: str
    since_unix_s: float | None = None  # None: nothing is raised
    troubles: tuple[Trouble, ...] = ()
    ack: Ack | None = None

    @property
    def is_raised(self) -> bool:
        """Whether it is a warning or worse."""
        return self.status in RAISED

    @property
    def devices(self) -> tuple[str, ...]:
        """Those that raise it."""
        return tuple(trouble.device for trouble in self.troubles)


@dataclass(frozen=True, slots=True)
class HealthEvent:
    """A check that came, got worse, or went (`what`: raised, worse, cleared)."""

    unix_s: float
    what: str
    id: str
    status: Status
    devices: tuple[str, ...]
    evidence: str


def acknowledged(findings: tuple[Finding, ...], acks: tuple[Ack, ...]) -> tuple[Finding, ...]:
    """The findings, each with the word of the owner that covers it."""
    by_id = {ack.id: ack for ack in acks}
    return tuple(
        replace(finding, ack=_covering(finding, ack)) if (ack := by_id.get(finding.id)) or finding.ack else finding
        for finding in findings
    )


def _covering(finding: Finding, ack: Ack | None) -> Ack | None:
    if ack is None or not finding.is_raised or not set(finding.devices) <= set(ack.devices):
        return None
    return None if finding.status is Status.CRIT and ack.status is not Status.CRIT else ack


def is_failed(findings: tuple[Finding, ...]) -> bool:
    """Whether anything is critical, acknowledged or not."""
    return any(finding.status is Status.CRIT for finding in findings)


def changes(before: tuple[Finding, ...], now: tuple[Finding, ...], unix_s: float) -> tuple[HealthEvent, ...]:
    """What was raised, got worse or was cleared between two looks."""
    known = {finding.id: finding for finding in before}
    events = []
    for finding in now:
        old = known.get(finding.id)
        was, had = (old.is_raised, set(old.devices)) if old else (False, set())
        what = None
        if finding.is_raised and not (was and set(finding.devices) <= had):
            what = "raised"
        elif finding.is_raised and old is not None and finding.status is Status.CRIT and old.status is Status.WARN:
            what = "worse"
        elif was and not finding.is_raised:
            what = "cleared"
        if what is not None:
            shown = finding if finding.is_raised or old is None else old
            events.append(HealthEvent(unix_s, what, finding.id, shown.status, shown.devices, shown.evidence))
    return tuple(events)


def health_document(findings: tuple[Finding, ...], *, source: str, box: str, unix_s: float) -> dict[str, Any]:
    """All checks as JSON. `source` is `daemon` or `offline`."""
    return {
        "schema": SCHEMA,
        "source": source,
        "box": box,
        "time_unix_s": round(unix_s, 3),
        "is_failed": is_failed(findings),
        "checks": [_row(finding) for finding in findings],
    }


def _row(finding: Finding) -> dict[str, Any]:
    ack = finding.ack
    return {
        "id": finding.id,
        "status": finding.status,
        "severity": finding.severity,
        "evidence": finding.evidence,
        "limit": finding.limit,
        "advice": finding.advice,
        "since": None if finding.since_unix_s is None else moment(finding.since_unix_s),
        "devices": list(finding.devices),
        "ack": None if ack is None else {"who": ack.who, "since": moment(ack.unix_s), "why": ack.why},
    }


def moment(unix_s: float) -> str:
    """A time of the calendar as people and programs read it."""
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
