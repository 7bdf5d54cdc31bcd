"""The status without a daemon: one look at the hardware, judged by the same policies, nothing written.

The one place besides the daemon where `hw` and `policy` meet.
"""

import contextlib
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from tinybox.core.acoustics import Reading, load_calibration
from tinybox.core.armed import is_armed
from tinybox.core.box import Box, load_box
from tinybox.core.commission import load_commission
from tinybox.core.config import Config, Folders, load_config
from tinybox.core.decision import Decision
from tinybox.core.errors import TinyboxError
from tinybox.core.health import Finding, acknowledged
from tinybox.core.healthfile import load_acks, load_health
from tinybox.core.snapshot import Snapshot
from tinybox.core.wire import status_json
from tinybox.hw.hardware import Hardware, assemble
from tinybox.hw.host import Host
from tinybox.policy.decide import Memory, decide, fresh_memory
from tinybox.policy.health import HealthMemory, alerts_of, judge
from tinybox.policy.noise import fitted
from tinybox.screen import status_text

ENERGY_GAP_S = 0.25  # the CPU's watts are the difference of two energy readings


def offline_json(folders: Folders, host: Host | None = None) -> str:
    """The status document with `source` "offline", of the machine that the environment names or of this `host`."""
    snapshot, decision, box = _look(folders, host or Host.from_environment())
    return status_json(snapshot, decision, source="offline", box=box.name)


def offline_screen(folders: Folders, *, columns: int, colour: bool) -> str:
    """The status as a screen."""
    snapshot, decision, box = _look(folders, Host.from_environment())
    return status_text(snapshot, decision, source="offline", box=box.name, columns=columns, colour=colour)


def _look(folders: Folders, host: Host) -> tuple[Snapshot, Decision, Box]:
    config = load_config(folders.config)
    box = load_box(config.box, folders.boxes)
    hardware = Hardware(host, box, config, folders.run)
    hardware.read_fast(time.monotonic())
    with ThreadPoolExecutor() as beside:
        reading = beside.submit(hardware.read_slow, time.monotonic(), is_brief=True)
        time.sleep(ENERGY_GAP_S)
        slow = reading.result()
    now_s = time.monotonic()
    snapshot = assemble(hardware.read_fast(now_s), slow, now_s, time.time())
    snapshot = replace(snapshot, is_armed=is_armed(folders.state))
    hardware.release()
    decision, _ = decide(snapshot, box, config, _memory(folders, box, config))
    reason = f"nothing is changed without tinyboxd; it would say: {decision.reason}"
    alerts = (*decision.alerts, *alerts_of(_findings(folders, snapshot, box, config)))
    return snapshot, replace(decision, actions=(), reason=reason, alerts=alerts), box


def offline_health(folders: Folders, host: Host | None = None) -> tuple[tuple[Finding, ...], str]:
    """What one look can judge, and the kind of box."""
    snapshot, _, box = _look(folders, host or Host.from_environment())
    return _findings(folders, snapshot, box, load_config(folders.config)), box.name


def _memory(folders: Folders, box: Box, config: Config) -> Memory:
    readings: tuple[Reading, ...] = ()
    with contextlib.suppress(TinyboxError):  # a file that is none: the level is estimated, as it says
        readings = load_calibration(folders.state, box.name).readings
    return fresh_memory(config, load_commission(folders.state, box), fitted(box.noise, readings))


def _findings(folders: Folders, snapshot: Snapshot, box: Box, config: Config) -> tuple[Finding, ...]:
    saved = load_health(folders.state, box.name)
    memory = HealthMemory(baseline={figure.key: figure.value for figure in saved.baseline})
    found, _ = judge(snapshot, box, config, memory, is_only=True)
    return acknowledged(found, load_acks(folders.state))


def machine_mismatch(folders: Folders) -> tuple[tuple[str, str], ...]:
    """What differs between this machine and the configured box, as (device, reason)."""
    config = load_config(folders.config)
    hardware = Hardware(Host.from_environment(), load_box(config.box, folders.boxes), config)
    found = tuple((fault.device, fault.reason) for fault in hardware.mismatch())
    hardware.release()
    return found
