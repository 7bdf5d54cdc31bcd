"""AMD cards through amdgpu's sysfs and hwmon (docs/protocol/amdgpu.md has every attribute with its unit)."""

import contextlib
import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from tinybox.core.actions import CardAction, LimitGpuFan, SetCap, SetClockLimit
from tinybox.core.armed import CardLimits
from tinybox.core.errors import HardwareError
from tinybox.core.snapshot import FanLever, Fault, Gpu
from tinybox.hw.amd_files import FAN_LIMIT_FILE, ZERO_RPM_FILE, parse_fan_limit, parse_throttles, parse_zero_rpm
from tinybox.hw.host import AbsentError
from tinybox.hw.sysfs_card import SANE_MHZ, SANE_POWER_W, SANE_RPM, SANE_TEMP_C, Sensor, SysfsCard, confirm_cap

SANE_LIMIT_C = (50.0, 150.0)
OD_FILE = "pp_od_clk_voltage"
LEVEL_FILE = "power_dpm_force_performance_level"
FACTORY_LEVEL = "auto"
OD_RESET = ("r\n", "c\n")  # amdgpu: back to the defaults, and in force


FAST = (
    Sensor("power_w", "{hwmon}/power1_average", 1e6, *SANE_POWER_W, "power"),
    Sensor("busy_pct", "gpu_busy_percent", 1, 0, 100, "load"),
    Sensor("junction_c", "{hwmon}/temp2_input", 1e3, *SANE_TEMP_C, "junction temperature"),
)
CALM = (
    Sensor("edge_c", "{hwmon}/temp1_input", 1e3, *SANE_TEMP_C, "edge temperature"),
    Sensor("memory_c", "{hwmon}/temp3_input", 1e3, *SANE_TEMP_C, "memory temperature"),
    Sensor("fan_rpm", "{hwmon}/fan1_input", 1, *SANE_RPM, "fan speed"),
    Sensor("fan_pct", "{hwmon}/pwm1", 2.55, 0, 100, "fan duty", is_optional=True),
    Sensor("clock_mhz", "{hwmon}/freq1_input", 1e6, *SANE_MHZ, "clock"),
    Sensor("vram_used_bytes", "mem_info_vram_used", 1, 0, 1e15, "VRAM in use"),
    Sensor("cap_w", "{hwmon}/power1_cap", 1e6, *SANE_POWER_W, "power cap"),
    Sensor("link_width", "current_link_width", 1, 0, 32, "link width"),
)
ONCE = (
    Sensor("cap_min_w", "{hwmon}/power1_cap_min", 1e6, *SANE_POWER_W, "lowest cap"),
    Sensor("cap_max_w", "{hwmon}/power1_cap_max", 1e6, *SANE_POWER_W, "highest cap"),
    Sensor("cap_default_w", "{hwmon}/power1_cap_default", 1e6, *SANE_POWER_W, "default cap"),
    Sensor("vram_total_bytes", "mem_info_vram_total", 1, 0, 1e15, "VRAM size"),
    Sensor("edge_crit_c", "{hwmon}/temp1_crit", 1e3, *SANE_LIMIT_C, "limit of the edge"),
    Sensor("junction_crit_c", "{hwmon}/temp2_crit", 1e3, *SANE_LIMIT_C, "limit of the junction"),
    Sensor("memory_crit_c", "{hwmon}/temp3_crit", 1e3, *SANE_LIMIT_C, "limit of the memory"),
)


@dataclass(frozen=True, slots=True)
class ClockTable:
    """What `pp_od_clk_voltage` says of the core: the upper end in force, and the least the driver takes."""

    limit_mhz: int
    least_mhz: int


def parse_od_table(text: str) -> ClockTable | None:
    """The core's part of the overdrive table; None where the text has none."""
    limit = re.search(r"OD_SCLK:\s*(?:0:\s*\d+\s*M[hH]z\s*)?1:\s*(\d+)\s*M[hH]z", text)
    least = re.search(r"OD_RANGE:.*?SCLK:\s*(\d+)\s*M[hH]z", text, re.DOTALL)
    return ClockTable(int(limit[1]), int(least[1])) if limit and least else None


class AmdCard(SysfsCard):
    """One slot with an AMD card."""

    drivers = "amdgpu"
    fast, calm, once = FAST, CALM, ONCE

    def limits(self) -> CardLimits | None:
        """What is in force now, for who gives it back later; None without a driver. What it does not tell is None."""
        if (hwmon := self._hwmon or self._find_hwmon()) is None:
            return None
        found = CardLimits(self.address)
        with contextlib.suppress(HardwareError, ValueError):
            cap_w = float(self._host.read_text(f"{self._folder}/{hwmon}/power1_cap")) / 1e6
            found = replace(found, cap_w=cap_w if cap_w > 0 else None)
        with contextlib.suppress(HardwareError):
            if not self._host.exists(f"{self._folder}/{OD_FILE}"):
                return replace(found, level=self._host.read_text(f"{self._folder}/{LEVEL_FILE}"))
            if (table := parse_od_table(self._host.read_text(f"{self._folder}/{OD_FILE}"))) is not None:
                return replace(found, clock_limit_mhz=table.limit_mhz)
        return found

    def _restorers(self) -> tuple[Callable[[CardLimits, float], None], ...]:
        return self._restore_cap, self._restore_clock

    def _restore_cap(self, limits: CardLimits, now_s: float) -> None:
        cap_w = limits.cap_w
        if cap_w is None:
            cap_w = float(self._host.read_text(f"{self._folder}/{self._hwmon}/power1_cap_default")) / 1e6
        self.apply(SetCap(self.id, cap_w), now_s)

    def _restore_clock(self, limits: CardLimits, now_s: float) -> None:
        table, level_file = f"{self._folder}/{OD_FILE}", f"{self._folder}/{LEVEL_FILE}"
        if not self._host.exists(table):
            if not self._host.exists(level_file):
                return
            level = limits.level or FACTORY_LEVEL
            self._host.write_text(level_file, level)
            _insist(self._host.read_text(level_file) == level, f"level '{level}'")
        elif limits.clock_limit_mhz is not None:
            self.apply(SetClockLimit(self.id, limits.clock_limit_mhz), now_s)
        else:
            for text in OD_RESET:
                self._host.write_text(table, text)

    def writes(self, action: CardAction) -> tuple[tuple[str, str], ...]:
        """What puts a limit in force, as (path, text), found without waking the card; none without a driver."""
        if (hwmon := self._hwmon or self._find_hwmon()) is None:
            return ()
        if isinstance(action, SetCap):
            return ((f"{self._folder}/{hwmon}/power1_cap", f"{round(action.cap_w * 1e6)}"),)
        if isinstance(action, LimitGpuFan):
            limit = f"{self._folder}/{FAN_LIMIT_FILE}"
            first = "r\n" if action.rpm is None else f"{round(action.rpm)}\n"
            return ((limit, first), (limit, "c\n")) if self._host.exists(limit) else ()
        if not self._host.exists(f"{self._folder}/{OD_FILE}"):
            level = "auto" if action.clock_mhz >= self._kind.clock_max_mhz else "low"
            return ((f"{self._folder}/{LEVEL_FILE}", level),)
        table = f"{self._folder}/{OD_FILE}"
        return ((table, f"s 1 {action.clock_mhz}\n"), (table, "c\n"))

    def _more_once(self, gpu: Gpu) -> Gpu:
        return replace(gpu, vbios=self._fact("vbios_version"))

    def _more_calm(self, gpu: Gpu, faults: list[Fault]) -> Gpu:
        return self._sense_clock_limit(self._sense_plans(gpu), faults)

    def _sense_plans(self, gpu: Gpu) -> Gpu:
        """What holds it back, and what its fan is meant to do; a card that does not tell is no fault."""
        throttles = may_rest = fan_limit = None
        with contextlib.suppress(HardwareError):
            throttles = parse_throttles(self._attribute("gpu_metrics").read_bytes())
        with contextlib.suppress(HardwareError):
            may_rest = parse_zero_rpm(self._text(ZERO_RPM_FILE))
        with contextlib.suppress(HardwareError):
            fan_limit = parse_fan_limit(self._text(FAN_LIMIT_FILE))
        limit_rpm, least_rpm = fan_limit or (None, None)
        return replace(
            gpu,
            throttles=throttles,
            fan_may_rest=may_rest,
            fan_lever=None if fan_limit is None else FanLever.LIMIT,
            fan_limit_rpm=limit_rpm,
            fan_limit_min_rpm=least_rpm,
        )

    def _sense_clock_limit(self, gpu: Gpu, faults: list[Fault]) -> Gpu:
        """The clock limit in force: fine by the overdrive table, coarse by the performance level."""
        try:
            table = parse_od_table(self._text(OD_FILE))
        except AbsentError:
            return self._sense_level(gpu, faults)
        except HardwareError as error:
            faults.append(Fault(self.id, f"clock limit unreadable: {error}"))
            return replace(gpu, has_clock_lever=True, clock_limit_mhz=None)
        if table is None:
            return self._sense_level(gpu, faults)
        return replace(
            gpu,
            has_clock_lever=True,
            clock_lever_is_coarse=False,
            clock_limit_mhz=table.limit_mhz,
            clock_limit_min_mhz=table.least_mhz,
        )

    def _sense_level(self, gpu: Gpu, faults: list[Fault]) -> Gpu:
        """Without overdrive the only clocks to choose from are the lowest and whatever the card likes."""
        try:
            lowest = re.search(r"0:\s*(\d+)\s*M[hH]z", self._text("pp_dpm_sclk"))
            is_low = self._text(LEVEL_FILE) == "low"
        except HardwareError as error:
            faults.append(Fault(self.id, f"clock limit unreadable: {error}"))
            return replace(gpu, has_clock_lever=False, clock_limit_mhz=None)
        if lowest is None:
            return replace(gpu, has_clock_lever=False, clock_limit_mhz=None)
        lowest_mhz = int(lowest[1])
        return replace(
            gpu,
            has_clock_lever=True,
            clock_lever_is_coarse=True,
            clock_limit_mhz=lowest_mhz if is_low else self._kind.clock_max_mhz,
            clock_limit_min_mhz=lowest_mhz,
        )

    def _confirm(self, action: CardAction, last: tuple[str, str]) -> None:
        name, text = last
        held = self._host.read_text(name)
        if isinstance(action, SetCap):
            confirm_cap(held, action.cap_w)
        elif isinstance(action, LimitGpuFan):
            limit = parse_fan_limit(held)
            _insist(action.rpm is None or (limit is not None and limit[0] == round(action.rpm)), "fan's limit")
        elif name.endswith(LEVEL_FILE):
            _insist(held == text, f"level '{text}'")
        else:
            limit_mhz = table.limit_mhz if (table := parse_od_table(held)) else None
            _insist(limit_mhz == action.clock_mhz, f"clock limit {action.clock_mhz} MHz")


def _insist(holds: bool, what: str) -> None:
    if not holds:
        raise HardwareError(f"the {what} does not read back: the driver ignored it")
