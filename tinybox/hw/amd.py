"""AMD cards through amdgpu's sysfs and hwmon (docs/protocol/amdgpu.md has every attribute with its unit).

Descriptors stay open. What a policy needs every turn is read every turn; the rest once a second, the cards taking
turns, and every turn for a while after a write, so that limits are read back at once.
"""

import contextlib
import re
from dataclasses import dataclass, replace

from tinybox.core.actions import SetCap, SetClockLimit
from tinybox.core.armed import CardLimits
from tinybox.core.box import GpuKind
from tinybox.core.errors import HardwareError
from tinybox.core.snapshot import Fault, Gpu, GpuState
from tinybox.hw.host import AbsentError, Attribute, Host
from tinybox.hw.pcie import DEVICES, link_gts

CALM_PERIOD_S = 1.0
AFTER_WRITE_S = 2.0
CAP_TOLERANCE_W = 1.0
SUSPENDED = ("suspended", "suspending")
SANE_POWER_W = (0.0, 2000.0)
SANE_TEMP_C = (-50.0, 200.0)
SANE_RPM = (0.0, 20000.0)
OD_FILE = "pp_od_clk_voltage"
LEVEL_FILE = "power_dpm_force_performance_level"
FACTORY_LEVEL = "auto"
OD_RESET = ("r\n", "c\n")  # amdgpu: back to the defaults, and in force


@dataclass(frozen=True, slots=True)
class Sensor:
    """One figure: field of Gpu, attribute, divisor to our unit, the range that can be true, words for people."""

    field: str
    attribute: str
    per_unit: float
    least: float
    most: float
    words: str


FAST = (
    Sensor("power_w", "{hwmon}/power1_average", 1e6, *SANE_POWER_W, "power"),
    Sensor("busy_pct", "gpu_busy_percent", 1, 0, 100, "load"),
    Sensor("junction_c", "{hwmon}/temp2_input", 1e3, *SANE_TEMP_C, "junction temperature"),
)
CALM = (
    Sensor("edge_c", "{hwmon}/temp1_input", 1e3, *SANE_TEMP_C, "edge temperature"),
    Sensor("memory_c", "{hwmon}/temp3_input", 1e3, *SANE_TEMP_C, "memory temperature"),
    Sensor("fan_rpm", "{hwmon}/fan1_input", 1, *SANE_RPM, "fan speed"),
    Sensor("clock_mhz", "{hwmon}/freq1_input", 1e6, 0, 10000, "clock"),
    Sensor("vram_used_bytes", "mem_info_vram_used", 1, 0, 1e15, "VRAM in use"),
    Sensor("cap_w", "{hwmon}/power1_cap", 1e6, *SANE_POWER_W, "power cap"),
    Sensor("link_width", "current_link_width", 1, 0, 32, "link width"),
)
ONCE = (
    Sensor("cap_min_w", "{hwmon}/power1_cap_min", 1e6, *SANE_POWER_W, "lowest cap"),
    Sensor("cap_max_w", "{hwmon}/power1_cap_max", 1e6, *SANE_POWER_W, "highest cap"),
    Sensor("cap_default_w", "{hwmon}/power1_cap_default", 1e6, *SANE_POWER_W, "default cap"),
    Sensor("vram_total_bytes", "mem_info_vram_total", 1, 0, 1e15, "VRAM size"),
)
WHOLE = {"clock_mhz", "vram_used_bytes", "vram_total_bytes", "link_width"}


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


class AmdCard:
    """One slot. `read` never raises: what cannot be read is None, with a fault that says why."""

    def __init__(self, host: Host, kind: GpuKind, gpu_id: str, address: str) -> None:
        self._host = host
        self._kind = kind
        self.id = gpu_id
        self.address = address
        self._folder = f"{DEVICES}/{address}"
        self._attributes: dict[str, Attribute] = {}
        self._hwmon: str | None = None
        self._calm = Gpu(gpu_id, GpuState.GONE, address, kind.vendor)
        self._calm_faults: tuple[Fault, ...] = ()
        # Cards take turns: the slot number spreads their calm readings over the second.
        self._calm_due_s = 0.0
        self._turn_s = CALM_PERIOD_S * (int(gpu_id.split("/")[1]) % 10) / 10
        self._hasty_until_s = 0.0

    def read(self, now_s: float) -> tuple[Gpu, tuple[Fault, ...]]:
        """The card now."""
        try:
            if self._text("power/runtime_status") in SUSPENDED:
                self.close()
                return Gpu(self.id, GpuState.ASLEEP, self.address, self._kind.vendor, self._kind.name), ()
        except AbsentError:
            if not self._host.exists(f"{self._folder}/vendor"):
                self.close()
                return Gpu(self.id, GpuState.GONE, self.address, self._kind.vendor), ()
        except HardwareError:
            pass  # a card that cannot tell its runtime state is treated as awake
        if self._hwmon is None and not self._find(now_s):
            gpu = Gpu(self.id, GpuState.AWAKE, self.address, self._kind.vendor, self._kind.name)
            reason = "no amdgpu sensors: the driver is not bound ('modprobe amdgpu', or see who owns the card)"
            return gpu, (Fault(self.id, reason),)
        if now_s >= self._calm_due_s or now_s < self._hasty_until_s:
            self._read_calm(now_s)
        faults = list(self._calm_faults)
        gpu = self._sense(self._calm, FAST, faults)
        return gpu, tuple(faults)

    def apply(self, action: SetCap | SetClockLimit, now_s: float) -> None:
        """Write a limit and read it back. Raises HardwareError when it is not in force afterwards."""
        if self._hwmon is None:
            raise HardwareError(f"cannot limit {self.address}: its driver offers no limits")
        self._hasty_until_s = now_s + AFTER_WRITE_S
        writes = self.writes(action)
        for name, text in writes:
            self._host.write_text(name, text)
        name, text = writes[-1]
        held = self._host.read_text(name)
        if isinstance(action, SetCap):
            self._confirm_cap(held, action.cap_w)
        elif name.endswith(LEVEL_FILE):
            self._confirm(held == text, f"level '{text}'")
        else:
            limit_mhz = table.limit_mhz if (table := parse_od_table(held)) else None
            self._confirm(limit_mhz == action.clock_mhz, f"clock limit {action.clock_mhz} MHz")

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

    def restore(self, limits: CardLimits, now_s: float) -> None:
        """Put limits back, the factory's where none is known. Wakes the card. Raises HardwareError at the end."""
        if self._hwmon is None and not self._find(now_s):
            raise HardwareError(f"cannot reach the limits of {self.address}: its driver offers none")
        troubles = []
        for put in (self._restore_cap, self._restore_clock):
            try:
                put(limits, now_s)
            except (HardwareError, ValueError) as error:
                troubles.append(str(error))
        if troubles:
            raise HardwareError("; ".join(troubles))

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
            self._confirm(self._host.read_text(level_file) == level, f"level '{level}'")
        elif limits.clock_limit_mhz is not None:
            self.apply(SetClockLimit(self.id, limits.clock_limit_mhz), now_s)
        else:
            for text in OD_RESET:
                self._host.write_text(table, text)

    def writes(self, action: SetCap | SetClockLimit) -> tuple[tuple[str, str], ...]:
        """What puts a limit in force, as (path, text), found without waking the card; none without a driver."""
        if (hwmon := self._hwmon or self._find_hwmon()) is None:
            return ()
        if isinstance(action, SetCap):
            return ((f"{self._folder}/{hwmon}/power1_cap", f"{round(action.cap_w * 1e6)}"),)
        if not self._host.exists(f"{self._folder}/{OD_FILE}"):
            level = "auto" if action.clock_mhz >= self._kind.clock_max_mhz else "low"
            return ((f"{self._folder}/{LEVEL_FILE}", level),)
        table = f"{self._folder}/{OD_FILE}"
        return ((table, f"s 1 {action.clock_mhz}\n"), (table, "c\n"))

    def close(self) -> None:
        """Let go of every descriptor; the card is looked at afresh when it is read again."""
        for attribute in self._attributes.values():
            attribute.close()
        self._attributes.clear()
        self._hwmon = None

    def _find(self, now_s: float) -> bool:
        """Find the card's hwmon folder and read what never changes."""
        self._hwmon = self._find_hwmon()
        if self._hwmon is None:
            return False
        self._calm = Gpu(self.id, GpuState.AWAKE, self.address, self._kind.vendor, self._kind.name)
        self._calm = self._sense(self._calm, ONCE, [])
        self._calm_due_s = now_s
        return True

    def _find_hwmon(self) -> str | None:
        names = self._host.list_dir(f"{self._folder}/hwmon")
        return next((f"hwmon/{name}" for name in names if name.startswith("hwmon")), None)

    def _read_calm(self, now_s: float) -> None:
        first = self._calm_due_s == now_s
        if now_s >= self._calm_due_s:
            self._calm_due_s = now_s + CALM_PERIOD_S + (self._turn_s if first else 0.0)
        faults: list[Fault] = []
        gpu = self._sense(self._calm, CALM, faults)
        try:
            gpu = replace(gpu, link_gts=link_gts(self._text("current_link_speed")))
        except HardwareError:
            gpu = replace(gpu, link_gts=None)
        self._calm = self._sense_clock_limit(gpu, faults)
        self._calm_faults = tuple(faults)

    def _sense(self, gpu: Gpu, sensors: tuple[Sensor, ...], faults: list[Fault]) -> Gpu:
        figures: dict[str, float | int | None] = {}
        for sensor in sensors:
            try:
                value = float(self._text(sensor.attribute.format(hwmon=self._hwmon))) / sensor.per_unit
                if not sensor.least <= value <= sensor.most:
                    raise HardwareError(f"{value:g} cannot be true")
                figures[sensor.field] = int(value) if sensor.field in WHOLE else value
            except (HardwareError, ValueError) as error:
                figures[sensor.field] = None
                faults.append(Fault(self.id, f"{sensor.words} unreadable: {error}"))
        return replace(gpu, **figures)  # type: ignore[arg-type]

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

    @staticmethod
    def _confirm_cap(held: str, cap_w: float) -> None:
        try:
            held_w = float(held) / 1e6
        except ValueError as error:
            raise HardwareError(f"the card's cap reads back as no number: {error}") from None
        if abs(held_w - cap_w) > CAP_TOLERANCE_W:
            raise HardwareError(f"the card holds a cap of {held_w:.0f} W after {cap_w:.0f} W was written")

    @staticmethod
    def _confirm(holds: bool, what: str) -> None:
        if not holds:
            raise HardwareError(f"the {what} does not read back: the driver ignored it")

    def _text(self, name: str) -> str:
        attribute = self._attributes.get(name)
        if attribute is None:
            attribute = self._attributes[name] = self._host.attribute(f"{self._folder}/{name}")
        return attribute.read()
