"""What a flash tells while it runs: bars on a terminal, lines in a pipe, JSON lines for a script."""

import dataclasses
import json
import sys
import threading
import time

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from provisioning.flash.job import Event

EVERY_S = 0.25
LINE_EVERY_S = 5.0
PHASES = {"look": "comparing", "write": "writing", "verify": "reading back", "personalise": "personalising"}


class JsonLines:
    """An event a line on standard output, with speed and the time that is left."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._began: dict[tuple[str, str], tuple[float, int]] = {}
        self._told_s: dict[tuple[str, str], float] = {}

    def __enter__(self) -> "JsonLines":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def say(self, event: Event) -> None:
        """From any thread."""
        with self._lock:
            now_s, key = time.monotonic(), (event.target, event.phase)
            table = {name: value for name, value in dataclasses.asdict(event).items() if value not in ("", 0)}
            if event.event == "progress":
                if now_s - self._told_s.get(key, 0.0) < EVERY_S and event.done_bytes < event.total_bytes:
                    return
                self._told_s[key] = now_s
                began_s, began_bytes = self._began.setdefault(key, (now_s, event.done_bytes))
                if now_s > began_s and event.done_bytes > began_bytes:
                    speed = (event.done_bytes - began_bytes) / (now_s - began_s)
                    table["bytes_per_s"] = round(speed)
                    table["eta_s"] = round((event.total_bytes - event.done_bytes) / speed, 1)
            sys.stdout.write(json.dumps(table) + "\n")
            sys.stdout.flush()


class Bars:
    """A bar for each target on a terminal; where there is none, a line now and then."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(binary_units=True))
        self._progress = Progress(*columns, TransferSpeedColumn(), TimeRemainingColumn(), console=self._console)
        self._tasks: dict[str, tuple[TaskID, str]] = {}
        self._told_s: dict[str, float] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> "Bars":
        if self._console.is_terminal:
            self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._console.is_terminal:
            self._progress.stop()

    def say(self, event: Event) -> None:
        """From any thread."""
        with self._lock:
            if event.event == "retry":
                self._console.print(f"{event.target}: byte {event.done_bytes:,} did not read back, writing it again")
            if event.event != "progress":
                return
            words = f"{event.target}  {PHASES.get(event.phase, event.phase)}"
            if not self._console.is_terminal:
                self._line(event, words)
                return
            task, phase = self._tasks.get(event.target, (None, ""))
            if task is None or phase != event.phase:
                if task is not None:
                    self._progress.remove_task(task)
                task = self._progress.add_task(words, total=event.total_bytes)
                self._tasks[event.target] = task, event.phase
            self._progress.update(task, completed=event.done_bytes)

    def _line(self, event: Event, words: str) -> None:
        now_s = time.monotonic()
        if now_s - self._told_s.setdefault(event.target, now_s) >= LINE_EVERY_S:
            self._told_s[event.target] = now_s
            self._console.print(f"{words}: {event.done_bytes / max(1, event.total_bytes):.0%}", markup=False)
