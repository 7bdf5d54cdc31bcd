"""The machine as the loop sees it: fast sensors on demand, slow ones from a thread that may take its time."""

import logging
import threading
import time
from dataclasses import replace

from tinybox.core.actions import Action
from tinybox.core.errors import HardwareError
from tinybox.core.snapshot import Fault, Gpu, GpuState, Snapshot
from tinybox.daemon.arming import Arming
from tinybox.daemon.heartbeat import Heartbeat
from tinybox.hw.hardware import Hardware, SlowReading, assemble
from tinybox.policy.power import failsafe_actions

SLOW_PERIOD_S = 2.0
SLOW_SHARE = 10.0  # the slow thread rests this many times as long as it worked: BMC and drives cost processes
LIST_PERIOD_S = 1.0  # the failsafe's list is made afresh so often, and at once when a card goes, comes or wakes
LONGEST_REST_S = 10.0  # but a tool that hung until its time-out is asked again soon

log = logging.getLogger("tinyboxd")


class Machine:
    """Snapshots out, actions in. Faults of a write belong to the next snapshot.

    One that does not `govern` writes nothing, nor lets the failsafe; `faults` are in each of its snapshots.
    """

    def __init__(
        self, hardware: Hardware, heartbeat: Heartbeat, arming: Arming, *, governs: bool, faults: tuple[Fault, ...] = ()
    ) -> None:
        self._hardware = hardware
        self._heartbeat = heartbeat
        self._arming = arming
        self._governs = governs
        self._faults = faults
        self._floor = failsafe_actions(hardware.assumed_gpus(), hardware.box.gpu)
        self._list_due_s = float("-inf")
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
        if self._governs:
            self._arming.record(self._hardware, fast.gpus)
            self._prepare_failsafe(fast.gpus, now_s)
        snapshot = assemble(fast, self._slow, now_s, unix_s, (*self._faults, *self._write_faults))
        is_armed = self._governs and self._arming.is_armed
        return replace(snapshot, failsafe_age_s=self._heartbeat.age_s(now_s), is_armed=is_armed)

    def apply(self, actions: tuple[Action, ...]) -> None:
        """Every action, one by one: a card that refuses does not keep the others from being limited."""
        if not actions:
            self._write_faults = ()
            return
        faults = []
        with self._arming.permit() as is_permitted:
            for action in actions if self._governs and is_permitted else ():
                try:
                    self._hardware.apply(action)
                except HardwareError as error:
                    faults.append(Fault(action.device, str(error)))
        self._write_faults = tuple(faults)

    def _prepare_failsafe(self, gpus: tuple[Gpu, ...], now_s: float) -> None:
        """List every card's floor; a sleeping card's, as last known, is there for when it wakes while we are silent."""
        asleep = {gpu.id for gpu in gpus if gpu.state is GpuState.ASLEEP}
        kept = (action for action in self._floor if action.device in asleep)
        floor = (*failsafe_actions(gpus, self._hardware.box.gpu), *kept)
        if floor != self._floor or now_s >= self._list_due_s:
            self._floor, self._list_due_s = floor, now_s + LIST_PERIOD_S
            with self._arming.permit() as is_permitted:
                if is_permitted:
                    self._heartbeat.prepare(self._hardware.failsafe_writes(floor))

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
