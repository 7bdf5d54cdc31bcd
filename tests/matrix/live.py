"""Faults on a whole twin in its own time: the daemon, the command line, and everything between."""

import json
import time
from pathlib import Path
from typing import Any

from tests.conftest import Rig
from tests.matrix.run import Row
from tinybox.twin.faults.kinds import FaultKind

AFTER_S = 3.0
MARGIN_S = 30.0  # of a machine that is busy with other things
SLOW_START_S = 60.0
QUIET_S = 10.0  # what was mended before, such as fans that stood, takes a while to be over


def checks(rig: Rig) -> dict[str, dict[str, Any]]:
    """Every check by its id, as 'tinybox health --json' has it."""
    done = rig.run("health", "--json")
    return {check["id"]: check for check in json.loads(done.stdout)["checks"]}


def raised(rig: Rig) -> dict[str, str]:
    """Checks that warn or worse, with their evidence."""
    return {name: check["evidence"] for name, check in checks(rig).items() if check["status"] in ("warn", "crit")}


def fresh_daemon(rig: Rig) -> None:
    """A healthy box under a daemon that knows nothing from before."""
    rig.put_back()
    for path in Path(rig.environment["TINYBOX_STATE_DIR"]).glob("health*"):
        path.unlink()
    rig.start_daemon()
    quiet_s = time.monotonic()

    def is_quiet() -> bool:
        nonlocal quiet_s
        if raised(rig):
            quiet_s = time.monotonic()
        return time.monotonic() - quiet_s > QUIET_S

    rig.wait_for(is_quiet, seconds=SLOW_START_S)


def shown(rig: Rig, kind: FaultKind, *, fault_id: str = "") -> Row:
    """The fault on the twin: what it raises and when, in seconds of the clock on the wall."""
    fresh_daemon(rig)
    row = Row(kind, fault_id or kind.id, "twin")
    began_s = time.monotonic()
    rig.call("twin", "fault", "add", row.fault_id)
    if kind.load_pct:
        rig.call("twin", "load", "gpu/all", str(kind.load_pct))
        rig.call("twin", "load", "cpu", str(kind.load_pct))
    end_s = began_s + kind.shows_within_s + MARGIN_S
    while time.monotonic() < end_s:
        for check, evidence in raised(rig).items():
            row.seen_s.setdefault(check, time.monotonic() - began_s)
            row.evidence.setdefault(check, evidence)
        if not row.missing:
            end_s = min(end_s, time.monotonic() + AFTER_S)
        time.sleep(0.3)
    return row
