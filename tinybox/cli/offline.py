"""The status without a daemon: one look at the hardware, judged by the same policies, nothing written.

The one place besides the daemon where `hw` and `policy` meet.
"""

import time
from dataclasses import replace

from tinybox.core.armed import is_armed
from tinybox.core.box import Box, load_box
from tinybox.core.commission import load_commission
from tinybox.core.config import Folders, load_config
from tinybox.core.decision import Decision
from tinybox.core.snapshot import Snapshot
from tinybox.core.wire import status_json
from tinybox.hw.hardware import Hardware, assemble
from tinybox.hw.host import Host
from tinybox.policy.decide import decide, fresh_memory
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
    slow = hardware.read_slow(time.monotonic())
    time.sleep(ENERGY_GAP_S)
    now_s = time.monotonic()
    snapshot = assemble(hardware.read_fast(now_s), slow, now_s, time.time())
    snapshot = replace(snapshot, is_armed=is_armed(folders.state))
    hardware.release()
    decision, _ = decide(snapshot, box, config, fresh_memory(config, load_commission(folders.state, box)))
    reason = f"nothing is changed without tinyboxd; it would say: {decision.reason}"
    return snapshot, replace(decision, actions=(), reason=reason), box


def machine_mismatch(folders: Folders) -> tuple[tuple[str, str], ...]:
    """What differs between this machine and the configured box, as (device, reason)."""
    config = load_config(folders.config)
    hardware = Hardware(Host.from_environment(), load_box(config.box, folders.boxes), config)
    found = tuple((fault.device, fault.reason) for fault in hardware.mismatch())
    hardware.release()
    return found
