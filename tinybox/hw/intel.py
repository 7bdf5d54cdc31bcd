"""Intel's Arc cards through i915 or xe: sysfs and hwmon (docs/protocol/intel.md has every attribute with its unit).

There is no sensor of watts, only a counter of joules: power is what it gained since the turn before. Nor is there one
of load: a graphics engine that is not powered down counts as busy.
"""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, replace

from tinybox.core.actions import CardAction, SetCap, SetClockLimit
from tinybox.core.armed import CardLimits
from tinybox.core.errors import HardwareError
from tinybox.core.snapshot import Fault, Gpu
from tinybox.hw.figures import whole
from tinybox.hw.host import AbsentError
from tinybox.hw.sysfs_card import SANE_MHZ, SANE_POWER_W, SANE_RPM, SANE_TEMP_C, Sensor, SysfsCard

LEAST_S, LONGEST_S = (
    0.02,
    60.0,
)  # between two looks at a counter: nearer, its own steps would be seen; farther, xe's 32 bits may have come round
ROUNDED = 1.05  # the driver takes steps of 16 or 50 MHz
CAPS = (
    Sensor("cap_default_w", "{power}_rated_max", 1e6, *SANE_POWER_W, "rated power"),
    Sensor("cap_max_w", "{power}_rated_max", 1e6, *SANE_POWER_W, "rated power"),
)
CALM = (
    Sensor("fan_rpm", "{hwmon}/fan1_input", 1, *SANE_RPM, "fan speed"),
    Sensor("clock_mhz", "{clock}", 1, *SANE_MHZ, "clock"),
    Sensor("clock_limit_mhz", "{limit}", 1, 1, SANE_MHZ[1], "clock limit"),
    Sensor("link_width", "current_link_width", 1, 0, 32, "link width"),
)
REASONS = {
    **dict.fromkeys(("thermal", "prochot", "ratl", "vr_thermalert"), "thermal"),
    **dict.fromkeys(("pl1", "pl2", "pl4"), "power"),
    "vr_tdc": "current",
}


@dataclass(frozen=True, slots=True)
class Layout:
    """Where a driver keeps what: clocks in MHz, `idle` milliseconds without work, `reason` before a throttle's name."""

    clock: str
    limit: str
    floor: str
    least: str
    most: str
    idle: str
    reason: str
    core_temp: str
    memory_temp: str | None


# kernel: sysfs-driver-intel-i915-hwmon; drivers/gpu/drm/i915/gt/intel_gt_sysfs_pm.c. `{drm}` is the card's node.
I915 = Layout(
    clock="{drm}/gt/gt0/rps_act_freq_mhz",
    limit="{drm}/gt/gt0/rps_max_freq_mhz",
    floor="{drm}/gt/gt0/rps_min_freq_mhz",
    least="{drm}/gt/gt0/rps_RPn_freq_mhz",
    most="{drm}/gt/gt0/rps_RP0_freq_mhz",
    idle="{drm}/gt/gt0/rc6_residency_ms",
    reason="{drm}/gt/gt0/throttle_reason_",
    core_temp="{hwmon}/temp1_input",
    memory_temp=None,
)
# kernel: sysfs-driver-intel-xe-hwmon; drivers/gpu/drm/xe/xe_gt_freq.c, xe_gt_idle.c, xe_gt_throttle.c
XE = Layout(
    clock="tile0/gt0/freq0/act_freq",
    limit="tile0/gt0/freq0/max_freq",
    floor="tile0/gt0/freq0/min_freq",
    least="tile0/gt0/freq0/rpn_freq",
    most="tile0/gt0/freq0/rp0_freq",
    idle="tile0/gt0/gtidle/idle_residency_ms",
    reason="tile0/gt0/freq0/throttle/reason_",
    core_temp="{hwmon}/temp2_input",
    memory_temp="{hwmon}/temp3_input",
)


@dataclass(slots=True)
class Counter:
    """A counter that only grows, and when it was read: what it gained a second."""

    value: float | None = None
    time_s: float = 0.0
    rate: float | None = None

    def note(self, value: float, now_s: float) -> float | None:
        """The rate since the note before; the last one where that was a moment ago, None where it began anew."""
        if self.value is not None and now_s - self.time_s < LEAST_S:
            return self.rate
        gained, passed_s = None if self.value is None else value - self.value, now_s - self.time_s
        self.rate = None if gained is None or gained < 0 or passed_s > LONGEST_S else gained / passed_s
        self.value, self.time_s = value, now_s
        return self.rate


class IntelCard(SysfsCard):
    """One slot with an Intel card."""

    drivers = "i915 or xe"
    calm = CALM

    _layout = I915
    _joules: Counter
    _idle: Counter

    def _find(self, now_s: float) -> bool:
        if not super()._find(now_s) or self._hwmon is None:
            return False
        self._layout, self._names = self._layout_of(self._hwmon)
        self._joules, self._idle = Counter(), Counter()
        self._calm = self._sense(self._calm, CAPS, [])
        with contextlib.suppress(HardwareError, ValueError):
            self._calm = replace(self._calm, clock_limit_min_mhz=int(self._figure(self._layout.least)))
        return True

    def _layout_of(self, hwmon: str) -> tuple[Layout, dict[str, str]]:
        """Whose card it is, and what stands in braces in its attributes' names; found without waking it."""
        layout = XE if self._host.exists(f"{self._folder}/tile0/gt0/freq0") else I915
        nodes = self._host.list_dir(f"{self._folder}/drm")
        names = {"hwmon": hwmon, "drm": next((f"drm/{name}" for name in nodes if name.startswith("card")), "drm/none")}
        names |= {name: getattr(layout, name).format(**names) for name in ("clock", "limit", "floor")}
        # xe: 1 is the card, 2 the package; not every card has both.
        for name, last in (("power", "max"), ("energy", "input")):
            chosen = (
                f"{hwmon}/{name}{i}" for i in (1, 2) if self._host.exists(f"{self._folder}/{hwmon}/{name}{i}_{last}")
            )
            names[name] = next(chosen, f"{hwmon}/{name}1")
        return layout, names

    def _more_fast(self, gpu: Gpu, now_s: float, faults: list[Fault]) -> Gpu:
        watts = self._rate(self._joules, "{energy}_input", 1e6, now_s, "energy", faults)
        idle = self._rate(self._idle, self._layout.idle, 1e3, now_s, "idle time", faults)
        if watts is not None and not SANE_POWER_W[0] <= watts <= SANE_POWER_W[1]:
            faults.append(Fault(self.id, f"power unreadable: {watts:g} cannot be true"))
            watts = None
        busy_pct = None if idle is None else 100.0 * min(1.0, max(0.0, 1.0 - idle))
        return replace(gpu, power_w=watts, busy_pct=busy_pct)

    def _rate(
        self, counter: Counter, attribute: str, per_unit: float, now_s: float, words: str, faults: list[Fault]
    ) -> float | None:
        try:
            return counter.note(self._figure(attribute) / per_unit, now_s)
        except (HardwareError, ValueError) as error:
            counter.value = None
            faults.append(Fault(self.id, f"{words} unreadable: {error}"))
            return None

    def _more_calm(self, gpu: Gpu, faults: list[Fault]) -> Gpu:
        gpu = replace(gpu, cap_w=self._cap_w(faults), has_clock_lever=gpu.clock_limit_mhz is not None)
        temperatures = {"edge_c": self._layout.core_temp, "memory_c": self._layout.memory_temp}
        for field, attribute in temperatures.items():
            if attribute is None or not self._host.exists(f"{self._folder}/{attribute.format(**self._names)}"):
                continue  # older kernels tell no temperature
            gpu = self._sense(gpu, (Sensor(field, attribute, 1e3, *SANE_TEMP_C, "temperature"),), faults)
        return replace(gpu, throttles=self._throttles())

    def _cap_w(self, faults: list[Fault]) -> float | None:
        """The sustained limit (PL1); a 0 says that there is none."""
        try:
            cap_w = self._figure("{power}_max") / 1e6
        except (HardwareError, ValueError) as error:
            faults.append(Fault(self.id, f"power cap unreadable: {error}"))
            return None
        return cap_w if 0 < cap_w <= SANE_POWER_W[1] else None

    def _throttles(self) -> tuple[str, ...] | None:
        """What holds it back now; None where the driver does not tell."""
        found, is_told = set(), False
        for name, reason in REASONS.items():
            with contextlib.suppress(HardwareError):
                text = self._text(f"{self._layout.reason}{name}".format(**self._names))
                is_told = True
                if text == "1":
                    found.add(reason)
        return tuple(sorted(found)) if is_told else None

    def writes(self, action: CardAction) -> tuple[tuple[str, str], ...]:
        """What puts a limit in force, as (path, text), found without waking the card; none without a driver."""
        if (hwmon := self._hwmon or self._find_hwmon()) is None:
            return ()
        names = self._layout_of(hwmon)[1]
        if not isinstance(action, SetCap | SetClockLimit):
            return ()  # no driver of theirs lets anybody at the fans
        if isinstance(action, SetCap):
            return ((f"{self._folder}/{names['power']}_max", f"{round(action.cap_w * 1e6)}"),)
        floor, limit = (f"{self._folder}/{names[name]}" for name in ("floor", "limit"))
        # The driver refuses a limit below its own floor, which somebody may have raised.
        return (floor, f"{self._least_mhz()}"), (limit, f"{action.clock_mhz}")

    def _least_mhz(self) -> int:
        return self._calm.clock_limit_min_mhz or self._kind.clock_min_mhz

    def _confirm(self, action: CardAction, last: tuple[str, str]) -> None:
        held = self._host.read_text(last[0])
        if isinstance(action, SetCap):
            # The hardware has a least and a most of its own, and shows what it made of it: that is what holds.
            if not held.isdecimal() or int(held) == 0:
                raise HardwareError(f"the card holds no cap after {action.cap_w:.0f} W was written")
        elif isinstance(action, SetClockLimit) and not 0 < (whole(held) or 0) <= action.clock_mhz * ROUNDED:
            raise HardwareError(f"the card holds a clock limit of {held} MHz after {action.clock_mhz} MHz was written")

    def limits(self) -> CardLimits | None:
        """What is in force now, for who gives it back later; None without a driver. What it does not tell is None."""
        if self._hwmon is None and not self._find(0.0):
            return None
        cap_w = self._cap_w([])
        limit_mhz = None
        with contextlib.suppress(HardwareError, ValueError):
            limit_mhz = int(self._figure(self._layout.limit))
        return CardLimits(self.address, cap_w=cap_w, clock_limit_mhz=limit_mhz or None)

    def _restorers(self) -> tuple[Callable[[CardLimits, float], None], ...]:
        return self._restore_cap, self._restore_clock

    def _restore_cap(self, limits: CardLimits, now_s: float) -> None:
        cap_w = limits.cap_w or self._figure("{power}_rated_max") / 1e6
        self.apply(SetCap(self.id, cap_w), now_s)

    def _restore_clock(self, limits: CardLimits, now_s: float) -> None:
        with contextlib.suppress(AbsentError):
            clock_mhz = limits.clock_limit_mhz or int(self._figure(self._layout.most))
            self.apply(SetClockLimit(self.id, clock_mhz), now_s)
