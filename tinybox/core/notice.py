"""One message to the owner, as webhooks and commands get it (docs/alerts.md)."""

import dataclasses
import json
from dataclasses import dataclass
from enum import StrEnum

from tinybox.core.snapshot import Severity


class Event(StrEnum):
    """`test` is somebody trying whether messages arrive."""

    RAISED = "raised"
    CLEARED = "cleared"
    TEST = "test"


@dataclass(frozen=True, slots=True)
class Notice:
    """`severity` is how much it matters, or did; `id` what it is about; `reason` a sentence for people."""

    event: Event
    id: str
    severity: Severity
    reason: str
    box: str
    host: str
    time_unix_s: float

    @property
    def title(self) -> str:
        """One short line."""
        word = {Event.RAISED: self.severity, Event.CLEARED: "over", Event.TEST: "test"}[self.event]
        return f"{self.host}: {word}: {self.id}"

    def json(self) -> str:
        """The document."""
        return json.dumps({**dataclasses.asdict(self), "title": self.title}, ensure_ascii=False, allow_nan=False) + "\n"
