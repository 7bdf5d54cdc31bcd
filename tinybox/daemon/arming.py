"""The owner's switch as the daemon follows it: look at the record, keep what was in force, give it back."""

import logging
import time
from pathlib import Path

from tinybox.core.actions import Action, FreezeWork, SetCpuCap
from tinybox.core.arming import FILE_NAME, Arming, load_arming, save_arming, with_originals
from tinybox.core.config import Config
from tinybox.core.errors import HardwareError, TinyboxError
from tinybox.core.snapshot import GpuState
from tinybox.daemon.heartbeat import Heartbeat
from tinybox.hw.hardware import Hardware
from tinybox.policy.arming import originals_of, restoring_actions

log = logging.getLogger("tinyboxd")


class Switch:
    """Armed or observing, as the record says now; a change is acted on by whoever asks."""

    def __init__(self, state: Path, hardware: Hardware, config: Config, heartbeat: Heartbeat) -> None:
        self._state, self._hardware, self._config, self._heartbeat = state, hardware, config, heartbeat
        self._seen = self._stamp()
        self._arming = read_arming(state)

    @property
    def is_armed(self) -> bool:
        """As of the last look."""
        return self._arming.is_armed

    def look(self) -> bool:
        """Whether to govern, after doing what a change asks for."""
        if (stamp := self._stamp()) == self._seen:
            return self._arming.is_armed
        was, self._seen, self._arming = self._arming, stamp, read_arming(self._state)
        if self._arming.is_armed and not was.is_armed:
            log.info("armed: the box is governed from now on")
            keep_originals(self._state, self._hardware, self._config)
        elif was.is_armed and not self._arming.is_armed:
            log.info("disarmed: only observing from now on")
            for device, reason in give_back(self._state, self._hardware, self._heartbeat):
                log.warning("%s: %s", device, reason)
        self._seen = self._stamp()  # what was just kept is our own
        return self._arming.is_armed

    def _stamp(self) -> tuple[int, int] | None:
        try:
            found = (self._state / FILE_NAME).stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_ino


def read_arming(state: Path) -> Arming:
    """The record; one that is broken is said, and counts as armed."""
    arming = load_arming(state)
    if arming.broken is not None:
        log.warning("%s: the box counts as armed ('tinybox arm' or 'tinybox disarm' writes it anew)", arming.broken)
    return arming


def keep_originals(state: Path, hardware: Hardware, config: Config) -> None:
    """Before the first write: the limits that cards have which the record does not know. Never raises."""
    arming = load_arming(state)
    try:
        reading = hardware.read_fast(time.monotonic())
        cpu_w = reading.cpu.cap_w if config.power.cpu_limit_w is not None else None
        kept = with_originals(arming, originals_of(reading.gpus, hardware.box.gpu), cpu_w)
        if kept != arming and arming.broken is None:
            save_arming(state, kept)
    except TinyboxError as error:
        log.warning("%s: 'tinybox disarm' will give back the factory's limits", error.message)
    except Exception:
        log.exception("cannot read the limits in force: 'tinybox disarm' will give back the factory's")


def give_back(state: Path, hardware: Hardware, heartbeat: Heartbeat) -> tuple[tuple[str, str], ...]:
    """Every card the limits it had before; what could not be given back stays in the record, and is told."""
    heartbeat.prepare(())  # or the failsafe would take it all back
    arming, left, failed = load_arming(state), [], []
    reading = hardware.read_fast(time.monotonic())
    if reading.is_work_frozen:
        failed += _tried(hardware, "work", (FreezeWork(is_frozen=False),))
    for gpu in reading.gpus:
        if gpu.state is GpuState.AWAKE:
            found = _tried(hardware, gpu.id, restoring_actions(gpu, hardware.box.gpu, arming))
        elif arming.original(gpu.pci) is not None:
            found = [(gpu.id, f"it is {gpu.state}: run 'tinybox disarm' again once it is back")]
        else:
            found = []
        failed += found
        if found and (original := arming.original(gpu.pci)) is not None:
            left.append(original)
    cpu_w = arming.cpu_cap_w
    tried = _tried(hardware, "cpu", (SetCpuCap(cpu_w),)) if cpu_w is not None else []
    failed += tried
    try:
        save_arming(state, Arming(False, tuple(left), cpu_w if tried else None))
    except TinyboxError as error:
        failed.append(("arming", error.message))
    return tuple(failed)


def _tried(hardware: Hardware, device: str, actions: tuple[Action, ...]) -> list[tuple[str, str]]:
    found = []
    for action in actions:
        try:
            hardware.apply(action)
        except HardwareError as error:
            found.append((device, str(error)))
    return found
