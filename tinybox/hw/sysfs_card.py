"""What all cards have in common that a kernel driver shows in sysfs and hwmon.

Descriptors stay open. What a policy needs every turn is read every turn; the rest once a second, the cards taking
turns, and every turn for a while after a write, so that limits are read back at once.
"""

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

from tinybox.core.actions import CardAction
from tinybox.core.armed import CardLimits
from tinybox.core.box import GpuKind
from tinybox.core.errors import HardwareError
from tinybox.core.snapshot import Fault, Gpu, GpuState
from tinybox.hw.host import AbsentError, Attribute, Host
from tinybox.hw.pcie import DEVICES, SUSPENDED, link_gts

FIELDS = tuple(field.name for field in fields(Gpu))
CALM_PERIOD_S = 1.0
AFTER_WRITE_S = 2.0
CAP_TOLERANCE_W = 1.0
SANE_POWER_W = (0.0, 2000.0)
SANE_TEMP_C = (-50.0, 200.0)
SANE_RPM = (0.0, 20000.0)
SANE_MHZ = (0.0, 10000.0)
WHOLE = {"clock_mhz", "clock_limit_mhz", "clock_limit_min_mhz", "vram_used_bytes", "vram_total_bytes", "link_width"}


@dataclass(frozen=True, slots=True)
class Sensor:
    """One figure: field of Gpu, attribute, divisor to our unit, the range that can be true, words for people."""

    field: str
    attribute: str
    per_unit: float
    least: float
    most: float
    words: str
    is_optional: bool = False  # some cards lack it


class SysfsCard:
    """One slot. `read` never raises: what cannot be read is None, with a fault that says why."""

    drivers = ""  # in words, of whoever shows these sensors
    fast: tuple[Sensor, ...] = ()
    calm: tuple[Sensor, ...] = ()
    once: tuple[Sensor, ...] = ()

    def __init__(self, host: Host, kind: GpuKind, gpu_id: str, address: str) -> None:
        self._host = host
        self._kind = kind
        self.id = gpu_id
        self.address = address
        self._folder = f"{DEVICES}/{address}"
        self._attributes: dict[str, Attribute] = {}
        self._names: dict[str, str] = {}  # what stands in braces in an attribute's name
        self._hwmon: str | None = None
        self._calm = Gpu(gpu_id, GpuState.GONE, address, kind.vendor)
        self._calm_faults: tuple[Fault, ...] = ()
        self._whole: Gpu | None = None  # whose fields these are
        self._fields: dict[str, Any] = {}
        # Cards take turns: the slot number spreads their calm readings over the second.
        self._calm_due_s = 0.0
        self._turn_s = CALM_PERIOD_S * (int(gpu_id.split("/")[1]) % 10) / 10
        self._hasty_until_s = 0.0

    def read(self, now_s: float) -> tuple[Gpu, tuple[Fault, ...]]:
        """The card now."""
        offset_s = now_s - time.monotonic()
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
            reason = f"no {self.drivers} sensors: the driver is not bound (see 'tinybox health')"
            return gpu, (Fault(self.id, reason),)
        if now_s >= self._calm_due_s or now_s < self._hasty_until_s:
            self._read_calm(now_s)
        faults = list(self._calm_faults)
        if self._whole is not self._calm:  # replace() would ask for every field, every turn
            self._whole = self._calm
            self._fields = {name: getattr(self._calm, name) for name in FIELDS}
        gpu = Gpu(**(self._fields | self._figures(self.fast, faults)))
        gpu = self._more_fast(gpu, time.monotonic() + offset_s, faults)
        return gpu, tuple(faults)

    def apply(self, action: CardAction, now_s: float) -> None:
        """Write a limit and read it back. Raises HardwareError when it is not in force afterwards."""
        if self._hwmon is None:
            raise HardwareError(f"cannot limit {self.address}: its driver offers no limits")
        self._hasty_until_s = now_s + AFTER_WRITE_S
        writes = self.writes(action)
        if not writes:
            raise HardwareError(f"its driver offers no lever for {type(action).__name__}")
        for name, text in writes:
            self._host.write_text(name, text)
        self._confirm(action, writes[-1])

    def writes(self, action: CardAction) -> tuple[tuple[str, str], ...]:
        """What puts a limit in force, as (path, text), found without waking the card; none without a driver."""
        raise NotImplementedError

    def restore(self, limits: CardLimits, now_s: float) -> None:
        """Put limits back, the factory's where none is known. Wakes the card. Raises HardwareError at the end."""
        if self._hwmon is None and not self._find(now_s):
            raise HardwareError(f"cannot reach the limits of {self.address}: its driver offers none")
        troubles = []
        for put in self._restorers():
            try:
                put(limits, now_s)
            except (HardwareError, ValueError) as error:
                troubles.append(str(error))
        if troubles:
            raise HardwareError("; ".join(troubles))

    def close(self) -> None:
        """Let go of every descriptor; the card is looked at afresh when it is read again."""
        for attribute in self._attributes.values():
            attribute.close()
        self._attributes.clear()
        self._hwmon = None

    def _confirm(self, action: CardAction, last: tuple[str, str]) -> None:
        """Read back what was written `last`. Raises HardwareError when it is not in force."""
        raise NotImplementedError

    def _restorers(self) -> tuple[Callable[[CardLimits, float], None], ...]:
        raise NotImplementedError

    def _more_once(self, gpu: Gpu) -> Gpu:
        """What else never changes."""
        return gpu

    def _more_fast(self, gpu: Gpu, now_s: float, faults: list[Fault]) -> Gpu:
        """What else is read every turn."""
        return gpu

    def _more_calm(self, gpu: Gpu, faults: list[Fault]) -> Gpu:
        """What else is read once a second."""
        return gpu

    def _find(self, now_s: float) -> bool:
        """Find the card's hwmon folder and read what never changes."""
        self._hwmon = self._find_hwmon()
        if self._hwmon is None:
            return False
        self._names = {"hwmon": self._hwmon}
        self._calm = Gpu(self.id, GpuState.AWAKE, self.address, self._kind.vendor, self._kind.name)
        self._calm = self._more_once(
            replace(
                self._sense(self._calm, self.once, []),
                driver=self._host.link(f"{self._folder}/driver").rpartition("/")[2] or None,
                subsystem_id=self._subsystem_id(),
            )
        )
        self._calm_due_s = now_s
        return True

    def _fact(self, name: str) -> str | None:
        """A file that never changes; it is not kept open."""
        with contextlib.suppress(HardwareError):
            return self._host.read_text(f"{self._folder}/{name}") or None
        return None

    def _subsystem_id(self) -> str | None:
        parts = [self._fact("subsystem_vendor"), self._fact("subsystem_device")]
        return ":".join(part.removeprefix("0x") for part in parts if part) if all(parts) else None

    def _find_hwmon(self) -> str | None:
        names = self._host.list_dir(f"{self._folder}/hwmon")
        return next((f"hwmon/{name}" for name in names if name.startswith("hwmon")), None)

    def _read_calm(self, now_s: float) -> None:
        first = self._calm_due_s == now_s
        if now_s >= self._calm_due_s:
            self._calm_due_s = now_s + CALM_PERIOD_S + (self._turn_s if first else 0.0)
        faults: list[Fault] = []
        gpu = self._sense(self._calm, self.calm, faults)
        try:
            gpu = replace(gpu, link_gts=link_gts(self._text("current_link_speed")))
        except HardwareError:
            gpu = replace(gpu, link_gts=None)
        self._calm = self._more_calm(gpu, faults)
        self._calm_faults = tuple(faults)

    def _sense(self, gpu: Gpu, sensors: tuple[Sensor, ...], faults: list[Fault]) -> Gpu:
        return replace(gpu, **self._figures(sensors, faults))

    def _figures(self, sensors: tuple[Sensor, ...], faults: list[Fault]) -> dict[str, Any]:
        figures: dict[str, float | int | None] = {}
        for sensor in sensors:
            try:
                value = self._figure(sensor.attribute) / sensor.per_unit
                if not sensor.least <= value <= sensor.most:
                    raise HardwareError(f"{value:g} cannot be true")
                figures[sensor.field] = int(value) if sensor.field in WHOLE else value
            except (HardwareError, ValueError) as error:
                figures[sensor.field] = None
                if isinstance(error, AbsentError) and sensor.is_optional:
                    continue
                faults.append(Fault(self.id, f"{sensor.words} unreadable: {error}"))
        return figures

    def _figure(self, attribute: str) -> float:
        """One number. Raises HardwareError or ValueError."""
        return float(self._text(attribute.format(**self._names)))

    def _text(self, name: str) -> str:
        return self._attribute(name).read()

    def _attribute(self, name: str) -> Attribute:
        attribute = self._attributes.get(name)
        if attribute is None:
            attribute = self._attributes[name] = self._host.attribute(f"{self._folder}/{name}")
        return attribute


def confirm_cap(held: str, cap_w: float) -> None:
    """Raises HardwareError where a cap in microwatts does not read back as the one written."""
    try:
        held_w = float(held) / 1e6
    except ValueError as error:
        raise HardwareError(f"the card's cap reads back as no number: {error}") from None
    if abs(held_w - cap_w) > CAP_TOLERANCE_W:
        raise HardwareError(f"the card holds a cap of {held_w:.0f} W after {cap_w:.0f} W was written")
