"""The machine as the loop sees it: fast sensors on demand, slow ones from a thread that may take its time."""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace

from tinybox.core.actions import Action
from tinybox.core.errors import HardwareError
from tinybox.core.snapshot import Fault, Gpu, GpuState, Severity, Snapshot
from tinybox.daemon.arming import Arming
from tinybox.daemon.heartbeat import Heartbeat
from tinybox.hw.hardware import Hardware, SlowReading, assemble
from tinybox.hw.hotplug import Hotplug, LostDrive, News, wedged_of
from tinybox.policy.power import failsafe_actions

SLOW_PERIOD_S = 2.0
SLOW_SHARE = 10.0  # the slow thread rests this many times as long as it worked: BMC and drives cost processes
LIST_PERIOD_S = 1.0  # the failsafe's list is made afresh so often, and at once when a card goes, comes or wakes
LONGEST_REST_S = 10.0  # but a tool that hung until its time-out is asked again soon
LEAST_REST_S = 0.5  # whatever news there is of drives

log = logging.getLogger("tinyboxd")


class Machine:
    """Snapshots out, actions in. Faults of a write belong to the next snapshot.

    One that does not `govern` writes nothing, nor lets the failsafe; `faults` are in each of its snapshots.
    """

    def __init__(
        self,
        hardware: Hardware,
        heartbeat: Heartbeat,
        arming: Arming,
        hotplug: Hotplug,
        *,
        governs: bool,
        faults: tuple[Fault, ...] = (),
    ) -> None:
        self._hardware = hardware
        self._heartbeat = heartbeat
        self._arming = arming
        self._hotplug = hotplug
        self._governs = governs
        self._faults = faults
        self._floor = failsafe_actions(hardware.assumed_gpus(), hardware.box)
        self._list_due_s = float("-inf")
        self._states: tuple[GpuState, ...] = ()
        self._slow: SlowReading | None = None
        self._bug: Exception | None = None
        self._write_faults: tuple[Fault, ...] = ()
        self._stop = threading.Event()
        self._again = threading.Event()
        self._thread = threading.Thread(target=self._poll_slowly, name="slow-sensors", daemon=True)

    def start(self, wake: Callable[[], None] = lambda: None) -> None:
        """Begin to poll the slow sensors, and to listen; `wake` is called when there is news worth a look."""
        self._hardware.recall_fans()
        self._thread.start()
        self._hotplug.start(wake)

    def stop(self) -> None:
        """End the polling; waits for a tool that is still running, within that tool's own time-out."""
        self._hotplug.stop()
        self._stop.set()
        self._again.set()
        if self._thread.is_alive():
            self._thread.join(timeout=15.0)

    def read(self) -> Snapshot:
        """Everything as of now; the slow parts as of their last round. What ended their thread is raised here."""
        if self._bug is not None:
            raise self._bug
        now_s, unix_s = time.monotonic(), time.time()
        news = self._hotplug.take()
        if news.is_gpu:
            self._hardware.rescan()
        if news.is_drive:
            self._hardware.look_at_drives()
            self._again.set()
        fast = self._hardware.read_fast(now_s)
        if self._governs:
            self._arming.record(self._hardware, fast.gpus)
            self._prepare_failsafe(fast.gpus, now_s)
        snapshot = _told(assemble(fast, self._slow, now_s, unix_s, (*self._faults, *self._write_faults)), news)
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
                    faults.append(Fault(action.device, str(error), is_refusal=True))
        self._write_faults = tuple(faults)

    def _prepare_failsafe(self, gpus: tuple[Gpu, ...], now_s: float) -> None:
        """List every card's floor; a sleeping card's, as last known, is there for when it wakes while we are silent."""
        states = tuple(gpu.state for gpu in gpus)
        if states == self._states and now_s < self._list_due_s:
            return
        asleep = {gpu.id for gpu in gpus if gpu.state is GpuState.ASLEEP}
        kept = (action for action in self._floor if action.device in asleep)
        self._floor = (*failsafe_actions(gpus, self._hardware.box), *kept)
        self._states, self._list_due_s = states, now_s + LIST_PERIOD_S
        with self._arming.permit() as is_permitted:
            if is_permitted:
                self._heartbeat.prepare(self._hardware.failsafe_writes(self._floor))

    def _poll_slowly(self) -> None:
        while not self._stop.is_set():
            began_s = time.monotonic()
            try:
                self._slow = self._hardware.read_slow(began_s)
            except Exception as error:  # noqa: BLE001 - the loop goes to failsafe with it, as with its own
                self._bug = error
                return
            took_s = time.monotonic() - began_s
            rest_s = max(SLOW_PERIOD_S - took_s, min(SLOW_SHARE * took_s, LONGEST_REST_S))
            self._stop.wait(LEAST_REST_S)
            self._again.wait(rest_s - LEAST_REST_S)
            self._again.clear()


def _told(snapshot: Snapshot, news: News) -> Snapshot:
    """With what only the kernel's news tells: a drive that left is no reading any more, however old the slow ones."""
    wedged = wedged_of(news, snapshot.kernel, snapshot.time_s, snapshot.unix_s)
    if not news.lost and not wedged:
        return snapshot
    read_s = float("-inf") if snapshot.slow_time_s is None else snapshot.slow_time_s
    left = {drive.id for drive in news.lost if drive.time_s >= read_s}
    drives = tuple(drive for drive in snapshot.drives if drive.id not in left)
    faults = tuple(Fault(drive.id, _words(drive), Severity.CRITICAL) for drive in news.lost)
    return replace(snapshot, drives=drives, wedged=wedged, faults=(*snapshot.faults, *faults))


def _words(drive: LostDrive) -> str:
    place = f"{drive.address} (slot {drive.slot})" if drive.slot else drive.address
    return f"gone from the bus at {place}: power off and reseat the drive"
