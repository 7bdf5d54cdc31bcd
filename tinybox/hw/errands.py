"""Work that may block for ever, done in a thread: whoever asks waits no longer than it likes."""

import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any


class Errand:
    """One piece of work, and what came of it."""

    def __init__(self, work: Callable[[], Any]) -> None:
        self._work = work
        self._is_done = threading.Event()
        self._lock = threading.Lock()
        self._has_begun = self._is_off = False
        self._result: Any = None
        self._error: Exception | None = None

    def run(self) -> None:
        """Do it, unless it was called off."""
        with self._lock:
            self._has_begun = True
            if self._is_off:
                return
        try:
            self._result = self._work()
        except Exception as error:  # noqa: BLE001 - handed to whoever asked
            self._error = error
        self._is_done.set()

    def wait(self, wait_s: float) -> bool:
        """Whether it is done by then."""
        return self._is_done.wait(wait_s)

    def call_off(self) -> bool:
        """Do not begin it any more; whether that was in time."""
        with self._lock:
            self._is_off = True
            return not self._has_begun

    def result(self) -> Any:
        """What it returned, once done; what it raised is raised here."""
        if self._error is not None:
            raise self._error
        return self._result


class Runner:
    """A thread that does errands in turn. It begins with the first, and holds up no program's end."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._queue: SimpleQueue[Errand | None] | None = None

    def send(self, work: Callable[[], Any]) -> Errand:
        """Have this done."""
        errand = Errand(work)
        if self._queue is None:
            self._queue = SimpleQueue()
            threading.Thread(target=_serve, args=(self._queue,), name=self._name, daemon=True).start()
        self._queue.put(errand)
        return errand

    def close(self) -> None:
        """Let the thread end when it comes back from what it is at."""
        if self._queue is not None:
            self._queue.put(None)
            self._queue = None


def _serve(queue: "SimpleQueue[Errand | None]") -> None:
    while (errand := queue.get()) is not None:
        errand.run()
