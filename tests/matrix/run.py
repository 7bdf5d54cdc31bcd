"""Every fault in fast time: what it raises, when, and what it should."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.matrix.fast import Fast, fast
from tinybox.core.box import load_box
from tinybox.twin.faults.kinds import FaultKind
from tinybox.twin.faults.known import known_faults

SETTLED_S = 70.0  # an idle box that has been looked at for a while
AFTER_S = 5.0  # of looking on once everything has shown: nothing else may come
# What the fast plant has no part of: a controller with a log and fan commands of its own, and the daemon's news.
LIVE_ONLY = ("bmc:", ":lost", ":wedged", ":userspace")


@dataclass(slots=True)
class Row:
    """One fault: seconds from its beginning until each check was raised."""

    kind: FaultKind
    fault_id: str
    how: str = "replay"
    seen_s: dict[str, float] = field(default_factory=dict)
    evidence: dict[str, str] = field(default_factory=dict)

    @property
    def missing(self) -> set[str]:
        """Checks that it should raise and did not."""
        return set(self.kind.checks) - set(self.seen_s)

    @property
    def other_evidence(self) -> dict[str, str]:
        """The same, with the reason."""
        return {check: self.evidence.get(check, "") for check in self.other}

    @property
    def other(self) -> set[str]:
        """Checks that it raised and should not."""
        return set(self.seen_s) - set(self.kind.checks)


def replayed(name: str, kind: FaultKind, *, fault_id: str = "") -> Row:
    """The fault on an idle box, then under the load that it takes to show."""
    row = Row(kind, fault_id or kind.id)
    with fast(name) as one:
        for _ in one.run(SETTLED_S):
            pass
        if one.raised():
            raise AssertionError(f"a healthy box has {one.raised()}")
        began_s = one.plant.time_s
        one.files.add_fault(row.fault_id)
        one.load(kind.load_pct / 100)
        _watch(one, row, began_s)
    return row


def _watch(one: Fast, row: Row, began_s: float) -> None:
    done_s: float | None = None
    for now_s in one.run(max(row.kind.shows_within_s, AFTER_S)):
        for check, evidence in one.raised().items():
            row.seen_s.setdefault(check, now_s - began_s)
            row.evidence.setdefault(check, evidence)
        if row.kind.checks and not row.missing:
            done_s = now_s if done_s is None else done_s
            if now_s - done_s >= AFTER_S:
                return


def is_live_only(box: str, kind: FaultKind) -> bool:
    """Whether only a whole twin can show it; what NVIDIA's library tells is told by no file."""
    return load_box(box).gpu.vendor == "nvidia" or any(mark in kind.id for mark in LIVE_ONLY)


def replayable(name: str) -> Iterator[FaultKind]:
    """The kinds of fault that a plant in fast time can show."""
    return (kind for kind in known_faults(load_box(name)) if not is_live_only(name, kind))
