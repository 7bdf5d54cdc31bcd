"""NVIDIA cards through the driver's library (docs/protocol/nvml.md): read and limited in a thread for each card.

A call may block for seconds. The loop asks for a reading and takes the newest there is; one that is too old counts as
none, so that the card counts as its whole grant.
"""

import contextlib
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from tinybox.core.actions import CardAction, LimitGpuFan, SetCap, SetClockLimit
from tinybox.core.armed import CardLimits
from tinybox.core.box import GpuKind
from tinybox.core.errors import HardwareError
from tinybox.core.snapshot import Ecc, FanLever, Fault, Gpu, GpuState, Severity
from tinybox.hw.errands import Errand, Runner
from tinybox.hw.host import AbsentError, Host
from tinybox.hw.nvml import LostError, NvmlCard
from tinybox.hw.pcie import DEVICES, SUSPENDED

FIRST_WAIT_S = 1.0  # the library is opened meanwhile
TURN_WAIT_S = 0.02  # a reading takes 1 ms or two
WRITE_WAIT_S = 0.2
STALE_S = 2.0
DISPROOF_MHZ = 50  # so far above its limit no clock may be
DISPROOF_S = 1.0  # for so long, until the limit counts as lost
TROUBLED_S = 2.0  # between attempts to reach a card that cannot be reached
RANGES = {  # what can be true
    "power_w": (0.0, 2000.0),
    "cap_w": (0.0, 2000.0),
    "cap_min_w": (0.0, 2000.0),
    "cap_max_w": (0.0, 2000.0),
    "cap_default_w": (0.0, 2000.0),
    "edge_c": (-50.0, 200.0),
    "edge_crit_c": (0.0, 200.0),
    "margin_c": (-150.0, 250.0),
    "busy_pct": (0.0, 100.0),
    "fan_pct": (0.0, 200.0),  # the driver may ask for more than all
    "fan_rpm": (0.0, 20000.0),
    "clock_mhz": (0, 10000),
    "vram_used_bytes": (0, 10**15),
    "vram_total_bytes": (0, 10**15),
    "link_width": (0, 32),
    "link_gts": (0.0, 256.0),
}
FAN_RANGES = {"fan_told_pct": (0.0, 100.0), "fan_least_pct": (0.0, 100.0)}  # of the library, not of a Gpu
WHOLE = ("clock_mhz", "vram_used_bytes", "vram_total_bytes", "link_width")


class NvidiaCard:
    """One slot. `read` never raises: what cannot be read is None, with a fault that says why."""

    def __init__(self, host: Host, kind: GpuKind, gpu_id: str, address: str, run: Path | None = None) -> None:
        self._host = host
        self._kind = kind
        self.id = gpu_id
        self.address = address
        self._folder = f"{DEVICES}/{address}"
        self._runtime = host.attribute(f"{self._folder}/power/runtime_status")
        self._nvml = NvmlCard(address)
        self._runner = Runner(f"nvml-{gpu_id}")
        self._errand: Errand | None = None
        self._answer: dict[str, Any] | HardwareError | None = None
        self._answered_s = float("-inf")
        self._asked_s = float("-inf")
        self._began_s: float | None = None
        # What we locked, as NVML does not tell: a daemon that comes after us, or a second look, must know it too.
        self._note = run / f"clock-{address}" if run else None
        self._limit_mhz = self._recall()
        self._disproved_s: float | None = None

    def read(self, now_s: float) -> tuple[Gpu, tuple[Fault, ...]]:
        """The card now, or a moment ago."""
        try:
            if self._runtime.read() in SUSPENDED:
                self.close()
                return self._bare(GpuState.ASLEEP), ()
        except AbsentError:
            if not self._host.exists(f"{self._folder}/vendor"):
                self.close()
                self._remember(None)
                return Gpu(self.id, GpuState.GONE, self.address, self._kind.vendor), ()
        except HardwareError:
            pass  # a card that cannot tell its runtime state is treated as awake
        self._look(now_s)
        if isinstance(self._answer, LostError):
            self._remember(None)
            gone = Gpu(self.id, GpuState.GONE, self.address, self._kind.vendor)
            return gone, (Fault(self.id, str(self._answer), Severity.CRITICAL),)
        if isinstance(self._answer, HardwareError):
            return self._bare(GpuState.AWAKE), (Fault(self.id, f"no sensors: {self._answer}"),)
        age_s = now_s - max(self._answered_s, now_s if self._began_s is None else self._began_s)
        if self._answer is None or age_s > STALE_S:
            reason = f"no sensors: NVIDIA's library has not answered for {max(age_s, 0):.0f} s"
            lever = replace(self._bare(GpuState.AWAKE), has_clock_lever=self._kind.overdrive)
            return lever, (Fault(self.id, reason),)
        return self._gpu(self._answer, now_s)

    def apply(self, action: CardAction, now_s: float) -> None:
        """Write a limit and see what can be seen of it. Raises HardwareError when it is not in force afterwards."""
        if isinstance(action, SetCap):
            self._write(partial(self._nvml.set_cap, action.cap_w), now_s)
            return
        if isinstance(action, LimitGpuFan):
            share_pct = None if action.rpm is None else min(100.0, 100 * action.rpm / self._kind.fan_max_rpm)
            work = self._nvml.free_fans if share_pct is None else partial(self._nvml.set_fans, share_pct)
            self._write(work, now_s)
            return
        self._remember(None)
        if action.clock_mhz >= self._kind.clock_max_mhz:
            self._write(self._nvml.free_clocks, now_s)
        else:
            least_mhz = min(self._kind.clock_min_mhz, action.clock_mhz)
            self._write(partial(self._nvml.lock_clocks, least_mhz, action.clock_mhz), now_s)
        self._remember(action.clock_mhz)

    def writes(self, action: CardAction) -> tuple[tuple[str, str], ...]:
        """What the failsafe is to ask of the library, without waking the card; none without NVIDIA's driver."""
        if self._host.link(f"{self._folder}/driver").rpartition("/")[2] != "nvidia":
            return ()
        if isinstance(action, SetCap):
            return ((f"nvml:{self._folder}", f"power {round(action.cap_w * 1e3)}"),)
        if isinstance(action, LimitGpuFan):  # only ever given back by others than us: nobody would mind the heat
            return ((f"nvml:{self._folder}", "fans"),) if action.rpm is None else ()
        if action.clock_mhz >= self._kind.clock_max_mhz:
            return ((f"nvml:{self._folder}", "free"),)
        least_mhz = min(self._kind.clock_min_mhz, action.clock_mhz)
        return ((f"nvml:{self._folder}", f"lock {least_mhz} {action.clock_mhz}"),)

    def limits(self) -> CardLimits | None:
        """What is in force; None without a driver."""
        now_s = time.monotonic()
        if not isinstance(self._answer, dict):
            self._look(now_s, FIRST_WAIT_S)
        if not isinstance(self._answer, dict):
            return None
        cap_w = self._answer.get("cap_w")
        return CardLimits(self.address, cap_w=cap_w if cap_w else None, clock_limit_mhz=self._limit_mhz)

    def restore(self, limits: CardLimits, now_s: float) -> None:
        """Put limits back, the factory's where none is known. Raises HardwareError at the end."""
        troubles = []
        cap_w, clock_mhz = limits.cap_w, limits.clock_limit_mhz
        if cap_w is None:
            self._look(now_s, FIRST_WAIT_S)
            told = self._answer if isinstance(self._answer, dict) else {}
            cap_w = told.get("cap_default_w") or self._kind.cap_default_w
        clock = SetClockLimit(self.id, self._kind.clock_max_mhz if clock_mhz is None else clock_mhz)
        for action in (SetCap(self.id, cap_w), clock):
            try:
                self.apply(action, now_s)
            except HardwareError as error:
                troubles.append(str(error))
        if troubles:
            raise HardwareError("; ".join(troubles))

    def close(self) -> None:
        """Let go of the thread and of all that was known of the card."""
        self._runner.close()
        self._runtime.close()
        self._nvml = NvmlCard(self.address)
        self._errand = self._answer = self._began_s = self._disproved_s = None
        self._limit_mhz = self._recall()
        self._answered_s = self._asked_s = float("-inf")

    def _bare(self, state: GpuState) -> Gpu:
        return Gpu(self.id, state, self.address, self._kind.vendor, self._kind.name)

    def _look(self, now_s: float, wait_s: float | None = None) -> None:
        """Take the reading that was asked for, and ask for the next; wait for it a little where it is the first."""
        if self._began_s is None:
            self._began_s, wait_s = now_s, FIRST_WAIT_S
        if self._errand is None:
            if isinstance(self._answer, HardwareError) and now_s - self._asked_s < TROUBLED_S:
                return
            ask = partial(self._host.answer, ("nvml", self.address), self._nvml.read)
            self._errand, self._asked_s = self._runner.send(ask), now_s
            wait_s = TURN_WAIT_S if wait_s is None else wait_s
        if not self._errand.wait(wait_s or 0.0):
            return
        try:
            found = self._errand.result()
            self._answer = found if isinstance(found, dict) else HardwareError("the reading is no object")
        except HardwareError as error:
            self._answer = error
        except Exception as error:  # noqa: BLE001 - whatever a driver made the binding stumble over
            self._answer = HardwareError(f"the library's answer made no sense: {error}")
        self._errand, self._answered_s = None, now_s

    def _write(self, work: Callable[[], None], now_s: float) -> None:
        if self._errand is not None and now_s - self._asked_s > WRITE_WAIT_S:
            raise HardwareError("NVIDIA's library does not answer: no limit can be written")
        errand = self._runner.send(work)
        wait_s = WRITE_WAIT_S if isinstance(self._answer, dict) else FIRST_WAIT_S
        if not errand.wait(wait_s):
            errand.call_off()
            raise HardwareError(f"NVIDIA's library did not write the limit within {wait_s:g} s")
        errand.result()

    def _gpu(self, told: dict[str, Any], now_s: float) -> tuple[Gpu, tuple[Fault, ...]]:
        faults = [Fault(self.id, str(trouble)) for trouble in _list_of(told.get("troubles"))]
        figures: dict[str, Any] = {}
        for name, (least, most) in (RANGES | FAN_RANGES).items():
            value = told.get(name)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
                words = "power" if name == "power_w" else name
                faults.append(Fault(self.id, f"{words} unreadable: {value!r:.40} cannot be true"))
                continue
            figures[name] = int(value) if name in WHOLE else float(value)
        told_pct, least_pct = figures.pop("fan_told_pct", None), figures.pop("fan_least_pct", None)
        if least_pct is not None:
            most_rpm = self._kind.fan_max_rpm
            figures["fan_lever"] = FanLever.SPEED
            figures["fan_limit_min_rpm"] = least_pct / 100 * most_rpm
            figures["fan_limit_rpm"] = None if told_pct is None else told_pct / 100 * most_rpm
        if (vbios := told.get("vbios")) is not None:
            figures["vbios"] = str(vbios)
        if isinstance(told.get("throttles"), list | tuple):
            figures["throttles"] = tuple(map(str, told["throttles"]))
        self._believe(figures.get("clock_mhz"), now_s)
        gpu = replace(
            self._bare(GpuState.AWAKE),
            driver="nvidia",
            fan_may_rest=True,
            has_clock_lever=self._kind.overdrive,
            clock_limit_mhz=self._limit_mhz,
            clock_limit_min_mhz=self._kind.clock_min_mhz,
            ecc=_ecc_of(told.get("ecc")),
            **figures,
        )
        return gpu, tuple(faults)

    def _believe(self, clock_mhz: int | None, now_s: float) -> None:
        """Forget a limit that the clock disproves: a reset, or somebody else, took it away."""
        if self._limit_mhz is None or clock_mhz is None or clock_mhz <= self._limit_mhz + DISPROOF_MHZ:
            self._disproved_s = None
        elif self._disproved_s is None:
            self._disproved_s = now_s
        elif now_s - self._disproved_s > DISPROOF_S:
            self._remember(None)

    def _recall(self) -> int | None:
        try:
            return int(self._note.read_text()) if self._note else None
        except (OSError, ValueError):
            return None

    def _remember(self, limit_mhz: int | None) -> None:
        self._disproved_s = None
        if limit_mhz == self._limit_mhz:
            return
        self._limit_mhz = limit_mhz
        if self._note is None:
            return
        with contextlib.suppress(OSError):  # then it is unknown to who comes after us: counted as no limit
            if limit_mhz is None:
                self._note.unlink(missing_ok=True)
            else:
                self._note.write_text(f"{limit_mhz}\n")


def _list_of(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else []


def _ecc_of(told: Any) -> Ecc | None:
    if not isinstance(told, dict):
        return None
    counts = [value if isinstance(value := told.get(key), int) else None for key in ("corrected", "uncorrected")]
    flags = [bool(v) if (v := told.get(key)) is not None else None for key in ("is_remap_pending", "has_remap_failed")]
    return Ecc(counts[0], counts[1], None, flags[0], flags[1])
