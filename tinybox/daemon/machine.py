"""The machine as the loop sees it: fast sensors on demand, slow ones from a thread that may take its time."""

import logging
import threading
import time

from tinybox.core.actions import Action
from tinybox.core.errors import HardwareError
from tinybox.core.snapshot import Fault, Snapshot
from tinybox.hw.hardware import Hardware, SlowReading, assemble

SLOW_PERIOD_S = 2.0
SLOW_SHARE = 10.0  # the slow thread rests this many times as long as it worked: BMC and drives cost processes
LONGEST_REST_S = 10.0  # but a tool that hung until its time-out is asked again soon

log = logging.getLogger("tinyboxd")


class Machine:
    """Snapshots out, actions in. Faults of a write belong to the next snapshot."""

    def __init__(self, hardware: Hardware) -> None:
        self._hardware = hardware
        self._slow: SlowReading | None = None
        self._bug: Exception | None = None
        self._write_faults: tuple[Fault, ...] = ()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._poll_slowly, name="slow-sensors", daemon=True)

    def start(self) -> None:
        """Begin to poll the slow sensors."""
        self._thread.start()

    def stop(self) -> None:
        """End the polling; waits for a tool that is still running, within that tool's own time-out."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=15.0)

    def read(self) -> Snapshot:
        """Everything as of now; the slow parts as of their last round. What ended their thread is raised here."""
        if self._bug is not None:
            raise self._bug
        now_s, unix_s = time.monotonic(), time.time()
        fast = self._hardware.read_fast(now_s)
        return assemble(fast, self._slow, now_s, unix_s, self._write_faults)

    def apply(self, actions: tuple[Action, ...]) -> None:
        """Every action, one by one: a card that refuses does not keep the others from being limited."""
        if not actions:
            self._write_faults = ()
            return
        faults = []
        for action in actions:
            try:
                self._hardware.apply(action)
            except HardwareError as error:
                faults.append(Fault(action.gpu, str(error)))
        self._write_faults = tuple(faults)

    def _poll_slowly(self) -> None:
        while not self._stop.is_set():
            began_s = time.monotonic()
            try:
                self._slow = self._hardware.read_slow(began_s)
            except Exception as error:  # noqa: BLE001 - the loop goes to failsafe with it, as with its own
                self._bug = error
                return
            took_s = time.monotonic() - began_s
            self._stop.wait(max(SLOW_PERIOD_S - took_s, min(SLOW_SHARE * took_s, LONGEST_REST_S)))
