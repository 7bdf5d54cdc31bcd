"""Tells the owner what changed: a queue and a thread for each way out, so that a deaf one delays nobody."""

import logging
import socket
import threading
from collections import Counter, deque

from tinybox.core.config import AlertsConfig
from tinybox.core.notice import Event, Notice
from tinybox.daemon.loop import Tick
from tinybox.outlets import Outlet, OutletError, outlets_of
from tinybox.policy.telling import Change, TellingMemory, changes, tellable

QUEUE = 100  # messages; then the oldest is given up
RETRIES_S = (2.0, 10.0, 60.0, 300.0, 900.0, 1800.0)  # after so long, the message is given up
STOP_S = 1.0

log = logging.getLogger("tinyboxd")


class Sender:
    """One way out. `counts` says what became of its messages: `sent`, `failed` (given up), `retried`, `dropped`."""

    def __init__(self, outlet: Outlet, retries_s: tuple[float, ...] = RETRIES_S) -> None:
        self.name = outlet.name
        self.counts = Counter(sent=0, retried=0, failed=0, dropped=0)
        self._outlet = outlet
        self._retries_s = retries_s
        self._queue: deque[Notice] = deque()
        self._filled = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._send_always, name=f"alerts-{outlet.name}", daemon=True)
        self._thread.start()

    def put(self, notice: Notice) -> None:
        """Send it when it is its turn. Never waits."""
        if len(self._queue) >= QUEUE:
            self._queue.popleft()
            self.counts["dropped"] += 1
        self._queue.append(notice)
        self._filled.set()

    def stop(self) -> None:
        """Give a message on its way a moment; what waits for another try is given up."""
        self._stop.set()
        self._filled.set()
        self._thread.join(timeout=STOP_S)

    def _send_always(self) -> None:
        while True:
            self._filled.wait()
            self._filled.clear()
            while self._queue:
                self._send(self._queue.popleft())
            if self._stop.is_set():
                return

    def _send(self, notice: Notice) -> None:
        for rest_s in (*self._retries_s, None):
            try:
                self._outlet.send(notice)
            except OutletError as error:
                is_over = error.is_final or rest_s is None or self._stop.is_set()
                log.warning("alert of %s not sent by %s: %s", notice.id, self.name, error)
            else:
                self.counts["sent"] += 1
                return
            if is_over or self._stop.wait(rest_s):
                self.counts["failed"] += 1
                return
            self.counts["retried"] += 1


class Teller:
    """Follows the alerts of every turn: the journal hears each change, the owner's ways out as well."""

    def __init__(self, config: AlertsConfig, box: str) -> None:
        self._box = box
        self._memory: TellingMemory = {}
        self.senders = tuple(Sender(outlet) for outlet in outlets_of(config))

    def note(self, tick: Tick) -> None:
        """Tell what is new in this tick."""
        if not (tick.decision.alerts or self._memory or any(finding.is_raised for finding in tick.findings)):
            return
        told = tellable(tick.decision.alerts, tick.findings)
        found, self._memory = changes(told, tick.snapshot.time_s, self._memory)
        for change in found:
            self._tell(change, tick.snapshot.unix_s)

    def stop(self) -> None:
        """No more messages."""
        for sender in self.senders:
            sender.stop()

    def _tell(self, change: Change, unix_s: float) -> None:
        event = Event.RAISED if change.is_raised else Event.CLEARED
        log.warning("%s %s: %s", change.severity if change.is_raised else "over:", change.id, change.reason)
        host = socket.gethostname()
        notice = Notice(event, change.id, change.severity, change.reason, self._box, host, round(unix_s, 3))
        for sender in self.senders:
            sender.put(notice)
