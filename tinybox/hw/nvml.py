"""NVIDIA's management library about one card, through nvidia-ml-py (docs/protocol/nvml.md). Every call may block.

What a driver lacks is asked for once and then left out; what it fails to tell is among a reading's `troubles`.
"""

import contextlib
import threading
import time
from collections.abc import Callable
from typing import Any

from tinybox.core.errors import HardwareError
from tinybox.hw.host import AbsentError

CALM_PERIOD_S = 1.0
RETRY_S = 5.0  # until a library that could not be opened is looked for again
POWER_TOLERANCE_MW = 1000
HELD_BACK = (  # bits of the clock event reasons that cost speed, in our words
    (0x4, "power"),
    (0x8 | 0x20 | 0x40, "thermal"),
    (0x80, "power-brake"),
)
HW_SLOWDOWN, BRAKE, HEAT = 0x8, 0x80, 0x20 | 0x40
OF_FANS = ("nvmlDeviceGetFanSpeed", "nvmlDeviceGetFanSpeedRPM", "nvmlDeviceGetMinMaxFanSpeed")
GTS = {1: 2.5, 2: 5.0, 3: 8.0, 4: 16.0, 5: 32.0, 6: 64.0}  # of PCIe, by generation


class LostError(HardwareError):
    """The driver says that the card is not on the bus any more."""


class Library:
    """The loaded library, once for a process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._nvml: Any = None
        self._retry_s = float("-inf")
        self._trouble = ""

    def open(self) -> Any:
        """Its binding, ready to be called. Raises AbsentError when library or driver is not there."""
        with self._lock:
            if self._nvml is not None:
                return self._nvml
            if time.monotonic() < self._retry_s:
                raise AbsentError(self._trouble)
            import pynvml

            try:
                pynvml.nvmlInit()
            except pynvml.NVMLError as error:
                self._retry_s = time.monotonic() + RETRY_S
                self._trouble = f"NVIDIA's library does not open ({error}): is the driver loaded ('modprobe nvidia')?"
                raise AbsentError(self._trouble) from None
            self._nvml = pynvml
            return pynvml

    def close(self) -> None:
        """Open it afresh next time: its driver went away, or another one came."""
        with self._lock:
            if self._nvml is not None:
                with contextlib.suppress(Exception):
                    self._nvml.nvmlShutdown()
            self._nvml, self._retry_s = None, float("-inf")


LIBRARY = Library()


def throttles_of(bits: int) -> tuple[str, ...]:
    """What holds the clocks back. `HwSlowdown` is told along with its cause where the driver knows that."""
    if bits & (BRAKE | HEAT):
        bits &= ~HW_SLOWDOWN
    return tuple(word for mask, word in HELD_BACK if bits & mask)


def _decoded(value: Any) -> Any:
    """A text of the library; some versions of its binding tell bytes."""
    return value.decode(errors="replace") if isinstance(value, bytes) else value


class NvmlCard:
    """One card by PCI address. Not for two threads at once."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._handle: Any = None
        self._absent: set[str] = set()
        self._once: dict[str, Any] = {}
        self._calm: dict[str, Any] = {}
        self._calm_due_s = float("-inf")

    def read(self) -> dict[str, Any]:
        """All figures by the names of Gpu's fields, in its units, and `troubles`. Raises HardwareError for none."""
        found: dict[str, Any] = self._guarded(self._read)
        return found

    def describe(self) -> dict[str, Any]:
        """What a new box is told of it: `name`, `clock_max_mhz`. Raises HardwareError."""

        def ask(nvml: Any) -> dict[str, Any]:
            return {
                "name": _decoded(self._ask(nvml, "nvmlDeviceGetName", [], "")),
                "clock_max_mhz": self._ask(nvml, "nvmlDeviceGetMaxClockInfo", [], "", nvml.NVML_CLOCK_GRAPHICS),
            }

        described: dict[str, Any] = self._guarded(ask)
        return described

    def set_cap(self, cap_w: float) -> None:
        """Limit the card's power, and see that it holds. Raises HardwareError."""

        def write(nvml: Any) -> None:
            wanted_mw = round(cap_w * 1e3)
            nvml.nvmlDeviceSetPowerManagementLimit(self._handle, wanted_mw)
            held_mw = nvml.nvmlDeviceGetPowerManagementLimit(self._handle)
            if abs(held_mw - wanted_mw) > POWER_TOLERANCE_MW:
                raise HardwareError(f"the card holds a cap of {held_mw / 1e3:.0f} W after {cap_w:.0f} W was written")

        self._calm_due_s = float("-inf")
        self._guarded(write)

    def lock_clocks(self, least_mhz: int, most_mhz: int) -> None:
        """Keep the core's clock within these. No function tells whether it is in force. Raises HardwareError."""
        self._guarded(lambda nvml: nvml.nvmlDeviceSetGpuLockedClocks(self._handle, least_mhz, most_mhz))

    def free_clocks(self) -> None:
        """Let the core clock as it likes. Raises HardwareError."""
        self._guarded(lambda nvml: nvml.nvmlDeviceResetGpuLockedClocks(self._handle))

    def set_fans(self, share_pct: float) -> None:
        """Turn all its fans at this share of their speed: the caller minds its heat then. Raises HardwareError."""

        def write(nvml: Any) -> None:
            for fan in range(nvml.nvmlDeviceGetNumFans(self._handle)):
                nvml.nvmlDeviceSetFanSpeed_v2(self._handle, fan, round(share_pct))

        self._calm_due_s = float("-inf")
        self._guarded(write)

    def free_fans(self) -> None:
        """Let its firmware drive all its fans. Raises HardwareError."""

        def write(nvml: Any) -> None:
            for fan in range(nvml.nvmlDeviceGetNumFans(self._handle)):
                nvml.nvmlDeviceSetDefaultFanSpeed_v2(self._handle, fan)

        self._calm_due_s = float("-inf")
        self._guarded(write)

    def _guarded(self, work: Callable[[Any], Any]) -> Any:
        nvml = LIBRARY.open()
        try:
            if self._handle is None:
                self._handle = nvml.nvmlDeviceGetHandleByPciBusId(self._address.encode())
                self._absent.clear()
                self._once.clear()
            return work(nvml)
        except nvml.NVMLError as error:
            self._handle = None
            if error.value == nvml.NVML_ERROR_GPU_IS_LOST:
                raise LostError(
                    "fallen off the bus (NVML: GPU is lost): power-cycle the box, reseat the card"
                ) from None
            if error.value in (nvml.NVML_ERROR_UNINITIALIZED, nvml.NVML_ERROR_DRIVER_NOT_LOADED):
                LIBRARY.close()
            if error.value == nvml.NVML_ERROR_NOT_FOUND:
                raise AbsentError("NVIDIA's driver does not know the card: it is not bound to it") from None
            raise HardwareError(f"NVML: {str(error).lower()}") from None

    def _read(self, nvml: Any) -> dict[str, Any]:
        troubles: list[str] = []
        told = self._fast(nvml, troubles)
        if time.monotonic() >= self._calm_due_s:
            self._calm_due_s = time.monotonic() + CALM_PERIOD_S
            calm_troubles: list[str] = []
            self._calm = self._slow(nvml, calm_troubles) | {"troubles": calm_troubles}
        return {**self._calm, **told, "troubles": [*troubles, *self._calm["troubles"]]}

    def _ask(
        self, nvml: Any, name: str, troubles: list[str], words: str, *arguments: Any, form: str | None = None
    ) -> Any:
        """One function's answer; None where the driver or the card lacks it (this `form` of it), or fails."""
        asked = form or name
        if asked in self._absent:
            return None
        try:
            return getattr(nvml, name)(self._handle, *arguments)
        except (AttributeError, nvml.NVMLError) as error:
            code = getattr(error, "value", nvml.NVML_ERROR_FUNCTION_NOT_FOUND)
            if code == nvml.NVML_ERROR_GPU_IS_LOST:
                raise
            if code in (nvml.NVML_ERROR_FUNCTION_NOT_FOUND, nvml.NVML_ERROR_NOT_SUPPORTED):
                self._absent.add(asked)
            else:
                troubles.append(f"{words} unreadable: NVML: {str(error).lower()}")
            return None

    def _fields(self, nvml: Any, ids: tuple[int, ...]) -> list[int | None]:
        """Field values in one call; None for each that is lacking."""
        values = self._ask(nvml, "nvmlDeviceGetFieldValues", [], "", list(ids))
        if values is None:
            return [None] * len(ids)
        signed = nvml.NVML_VALUE_TYPE_SIGNED_INT
        return [
            None if one.nvmlReturn != 0 else one.value.siVal if one.valueType == signed else one.value.uiVal
            for one in values
        ]

    def _fast(self, nvml: Any, troubles: list[str]) -> dict[str, Any]:
        (instant_mw,) = self._fields(nvml, (nvml.NVML_FI_DEV_POWER_INSTANT,))
        if instant_mw is None:  # the mean of a second where the driver is older
            instant_mw = self._ask(nvml, "nvmlDeviceGetPowerUsage", troubles, "power")
            if instant_mw is None and "nvmlDeviceGetPowerUsage" in self._absent:
                troubles.append("power unreadable: the card has no meter")
        edge_c = self._ask(nvml, "nvmlDeviceGetTemperature", troubles, "edge temperature", nvml.NVML_TEMPERATURE_GPU)
        busy = self._ask(nvml, "nvmlDeviceGetUtilizationRates", troubles, "load")
        bits = self._ask(nvml, "nvmlDeviceGetCurrentClocksEventReasons", [], "")
        if bits is None:
            bits = self._ask(nvml, "nvmlDeviceGetCurrentClocksThrottleReasons", troubles, "clock event reasons")
        return {
            "power_w": None if instant_mw is None else instant_mw / 1e3,
            "edge_c": edge_c,
            "busy_pct": None if busy is None else busy.gpu,
            "clock_mhz": self._ask(nvml, "nvmlDeviceGetClockInfo", troubles, "clock", nvml.NVML_CLOCK_GRAPHICS),
            "throttles": None if bits is None else throttles_of(int(bits)),
        }

    def _slow(self, nvml: Any, troubles: list[str]) -> dict[str, Any]:
        if not self._once:
            self._once = self._facts(nvml, troubles)
        limit_mw = self._ask(nvml, "nvmlDeviceGetPowerManagementLimit", troubles, "power cap")
        memory = self._memory(nvml, troubles)
        generation = self._ask(nvml, "nvmlDeviceGetCurrPcieLinkGeneration", troubles, "link speed")
        return {
            **self._once,
            "cap_w": None if limit_mw is None else limit_mw / 1e3,
            "margin_c": self._ask(nvml, "nvmlDeviceGetMarginTemperature", troubles, "margin"),
            "vram_used_bytes": None if memory is None else memory.used,
            "vram_total_bytes": None if memory is None else memory.total,
            "fan_pct": self._ask(nvml, "nvmlDeviceGetFanSpeed", troubles, "fan"),
            "fan_rpm": self._ask(nvml, "nvmlDeviceGetFanSpeedRPM", troubles, "fan speed"),
            **self._fan_plan(nvml),
            "link_gts": GTS.get(generation),
            "link_width": self._ask(nvml, "nvmlDeviceGetCurrPcieLinkWidth", troubles, "link width"),
            "ecc": self._ecc(nvml),
        }

    def _memory(self, nvml: Any, troubles: list[str]) -> Any:
        """Without what the driver keeps for itself (500 MB of an H100), where it tells that apart: since 510."""
        name = "nvmlDeviceGetMemoryInfo"
        found = self._ask(nvml, name, [], "", nvml.nvmlMemory_v2, form="nvmlDeviceGetMemoryInfo_v2")
        return self._ask(nvml, name, troubles, "VRAM in use") if found is None else found

    def _fan_plan(self, nvml: Any) -> dict[str, Any]:
        """What its fans were told, percent, and the least that they take; nothing on drivers that do not tell."""
        range_pct = self._ask(nvml, "nvmlDeviceGetMinMaxFanSpeed", [], "")
        policy = self._ask(nvml, "nvmlDeviceGetFanControlPolicy_v2", [], "", 0)
        if range_pct is None or policy is None:
            return {}
        is_manual = policy == nvml.NVML_FAN_POLICY_MANUAL
        told_pct = self._ask(nvml, "nvmlDeviceGetTargetFanSpeed", [], "", 0) if is_manual else None
        return {"fan_told_pct": told_pct, "fan_least_pct": range_pct[0]}

    def _facts(self, nvml: Any, troubles: list[str]) -> dict[str, Any]:
        """What does not change while the driver is loaded. A card that others cool has no fan to ask for."""
        if self._ask(nvml, "nvmlDeviceGetNumFans", [], "") == 0:
            self._absent.update(OF_FANS)
        least_most = self._ask(nvml, "nvmlDeviceGetPowerManagementLimitConstraints", troubles, "range of caps")
        default_mw = self._ask(nvml, "nvmlDeviceGetPowerManagementDefaultLimit", troubles, "default cap")
        slowdown_c = self._ask(
            nvml, "nvmlDeviceGetTemperatureThreshold", [], "", nvml.NVML_TEMPERATURE_THRESHOLD_SLOWDOWN
        )
        return {
            "cap_min_w": least_most[0] / 1e3 if least_most else None,
            "cap_max_w": least_most[1] / 1e3 if least_most else None,
            "cap_default_w": None if default_mw is None else default_mw / 1e3,
            "edge_crit_c": slowdown_c,
            "vbios": _decoded(self._ask(nvml, "nvmlDeviceGetVbiosVersion", troubles, "VBIOS")),
        }

    def _ecc(self, nvml: Any) -> dict[str, Any] | None:
        """Counters of the memory's protection; None where it is off, or the card has none."""
        names = ("ECC_CURRENT", "ECC_SBE_VOL_TOTAL", "ECC_DBE_VOL_TOTAL", "REMAPPED_PENDING", "REMAPPED_FAILURE")
        told = self._fields(nvml, tuple(getattr(nvml, f"NVML_FI_DEV_{name}") for name in names))
        is_on, corrected, uncorrected, pending, failed = told
        if not is_on:
            return None
        return {
            "corrected": corrected,
            "uncorrected": uncorrected,
            "is_remap_pending": None if pending is None else bool(pending),
            "has_remap_failed": None if failed is None else bool(failed),
        }
