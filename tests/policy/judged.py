"""Machines by hand, judged: once, or once a second."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from tests.policy.conftest import machine
from tinybox.core.box import Box, load_box
from tinybox.core.config import Config
from tinybox.core.health import Finding, Status
from tinybox.core.snapshot import (
    Snapshot,
)
from tinybox.policy.checks.check import Asked
from tinybox.policy.checks.registry import CHECKS
from tinybox.policy.health import HealthMemory, judge

RED = load_box("red")
GREEN = load_box("green")
IDS = {check.id for check in CHECKS}


def whole(box: Box = RED, **changes: object) -> Snapshot:
    """A healthy box with all of its drives."""
    plain = machine(box)
    drives = tuple(
        replace(plain.drives[0], id=f"drive/nvme{i}", serial=f"S{i}", spare_pct=100.0, spare_least_pct=10.0)
        for i in range(box.storage.data_drives)
    )
    gpus = tuple(replace(gpu, vendor=box.kind_of(gpu.id).vendor) for gpu in plain.gpus)
    return replace(plain, drives=drives, gpus=gpus, **changes)  # type: ignore[arg-type]


def with_card(index: int, box: Box = RED, **changes: object) -> Snapshot:
    plain = whole(box)
    gpus = list(plain.gpus)
    gpus[index] = replace(gpus[index], **changes)  # type: ignore[arg-type]
    return replace(plain, gpus=tuple(gpus))


def with_drive(**changes: object) -> Snapshot:
    plain = whole()
    return replace(plain, drives=(replace(plain.drives[0], **changes), *plain.drives[1:]))  # type: ignore[arg-type]


@dataclass(slots=True)
class Judged:
    """A machine judged once a second."""

    box: Box = RED
    config: Config = field(default_factory=Config)
    memory: HealthMemory = field(default_factory=HealthMemory)
    findings: tuple[Finding, ...] = ()
    time_s: float = 0.0
    asked: dict[str, Asked] = field(default_factory=dict)

    def run(
        self, snapshot: Snapshot, seconds: int, change: Callable[[Snapshot, int], Snapshot] | None = None
    ) -> "Judged":
        """Look at it for so long; `change` is given the second that it is."""
        for second in range(seconds):
            self.time_s += 1.0
            seen = replace(snapshot, time_s=self.time_s, unix_s=1.7e9 + self.time_s, slow_time_s=self.time_s)
            seen = seen if change is None else change(seen, second)
            self.findings, self.memory = judge(seen, self.box, self.config, self.memory, asked=self.asked)
        return self

    def status(self, check_id: str) -> Status:
        return self.finding(check_id).status

    def finding(self, check_id: str) -> Finding:
        return next(finding for finding in self.findings if finding.id == check_id)

    def raised(self) -> dict[str, Status]:
        return {finding.id: finding.status for finding in self.findings if finding.is_raised}


def look(snapshot: Snapshot, box: Box = RED, config: Config | None = None) -> dict[str, Finding]:
    """One look, with no time to wait."""
    seen = replace(snapshot, slow_time_s=snapshot.time_s)
    findings, _ = judge(seen, box, config or Config(), HealthMemory(), is_only=True)
    return {finding.id: finding for finding in findings}


def raised(snapshot: Snapshot, box: Box = RED, config: Config | None = None) -> dict[str, str]:
    return {name: finding.status.value for name, finding in look(snapshot, box, config).items() if finding.is_raised}
