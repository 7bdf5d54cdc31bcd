"""Every fault that a plant in fast time can show raises its checks and nothing else; a healthy box raises none."""

import pytest

from tests.matrix.fast import fast
from tests.matrix.run import replayable, replayed
from tinybox.core.box import load_box
from tinybox.core.health import Status
from tinybox.policy.checks.registry import CHECKS
from tinybox.twin.faults.kinds import FaultKind
from tinybox.twin.faults.known import find_fault, known_faults

KINDS = [("red", kind) for kind in replayable("red")]
KINDS += [("blue", kind) for kind in replayable("blue") if kind.id.startswith("gpu/")]  # the host is the same
IDS = {check.id for check in CHECKS}


@pytest.mark.parametrize(("box", "kind"), KINDS, ids=lambda one: one if isinstance(one, str) else one.id)
def test_a_fault_raises_its_checks_and_nothing_else(box: str, kind: FaultKind) -> None:
    row = replayed(box, kind)
    assert (row.missing, row.other_evidence) == (set(), {})


@pytest.mark.parametrize("fault", ["drive/nvme2:aer-correctable", "drive/nvme2:aer-fatal"])
def test_errors_on_a_drives_link_are_seen_as_on_a_cards(fault: str) -> None:
    row = replayed("red", find_fault(fault, load_box("red")), fault_id=fault)
    assert (row.missing, row.other_evidence) == (set(), {})


@pytest.mark.parametrize("name", ["red", "blue"])
@pytest.mark.parametrize("seed", [None, 1, 2])
@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_a_healthy_box_raises_nothing_however_it_was_built(name: str, share: float, seed: int | None) -> None:
    seen: dict[str, str] = {}
    with fast(name, seed=seed) as one:
        for at_s in one.run(420):
            seen |= one.raised()
            seen |= {f.id: f.evidence for f in one.findings if f.status is Status.UNKNOWN}
            if round(at_s) == 20:
                one.load(share)
            if round(at_s) == 320:
                one.load(0.0)
    assert seen == {}


@pytest.mark.parametrize("name", ["red", "green", "green-3090", "blue", "mixed"])
def test_every_fault_names_checks_that_there_are(name: str) -> None:
    assert {check for kind in known_faults(load_box(name)) for check in kind.checks} <= IDS


def test_there_are_many_kinds_and_most_show_within_half_a_minute() -> None:
    kinds = [kind for kind in known_faults(load_box("red")) if kind.checks]
    assert len(kinds) >= 25
    assert sum(kind.shows_within_s <= 30 for kind in kinds) >= 15
