"""amdgpu's clock levers as a card shows them: the overdrive table and the performance level."""

import errno
import math

from tinybox.core.box import GpuKind
from tinybox.twin.gpu import GpuPart

HIGHEST_MHZ = 5000
LEVELS = ("auto", "low", "high", "manual")


class Overdrive:
    """One card's `pp_od_clk_voltage`: an edit is staged by `s`, put in force by `c`, taken back by `r`."""

    def __init__(self, gpu: GpuPart, kind: GpuKind) -> None:
        self._gpu = gpu
        self._kind = kind
        self._staged_mhz: int | None = None
        self._level = "auto"

    def table(self) -> str:
        """The table as RDNA3 prints it."""
        limit = round(self._gpu.clock_limit_mhz)
        return (
            f"OD_SCLK:\n0: {self._kind.clock_min_mhz}Mhz\n1: {limit}Mhz\nOD_MCLK:\n0: 97Mhz\n1: 1249MHz\n"
            f"OD_VDDGFX_OFFSET:\n0mV\nOD_RANGE:\nSCLK:     {self._kind.clock_min_mhz}Mhz       {HIGHEST_MHZ}Mhz\n"
            "MCLK:      97Mhz       1500Mhz\n"
        )

    def write(self, text: str) -> None:
        """One command. Raises OSError(EINVAL) as the driver does."""
        words = text.split()
        if words[:2] == ["s", "1"] and len(words) == 3 and words[2].isdecimal():
            clock_mhz = int(words[2])
            if not self._kind.clock_min_mhz <= clock_mhz <= HIGHEST_MHZ:
                raise OSError(errno.EINVAL, "outside OD_RANGE")
            self._staged_mhz = clock_mhz
        elif words == ["c"]:
            if self._staged_mhz is not None:
                self._gpu.clock_limit_mhz = self._staged_mhz
        elif words == ["r"]:
            self._staged_mhz, self._gpu.clock_limit_mhz = None, self._kind.clock_max_mhz
        else:
            raise OSError(errno.EINVAL, "not a command of this file")

    def level(self) -> str:
        """The performance level in force."""
        return f"{self._level}\n"

    def write_level(self, text: str) -> None:
        """Choose a performance level. Raises OSError(EINVAL) for one the driver has not."""
        if text.strip() not in LEVELS:
            raise OSError(errno.EINVAL, "not a performance level")
        self._level = text.strip()
        self._gpu.is_low = self._level == "low"

    def levels(self) -> str:
        """The core clock's levels, the current one starred."""
        clock_mhz = round(self._gpu.clock_mhz)
        return f"0: {self._kind.clock_min_mhz}Mhz\n1: {clock_mhz}Mhz *\n2: {self._kind.clock_max_mhz}Mhz\n"


class AcousticLimit:
    """`gpu_od/fan_ctrl/acoustic_limit_rpm_threshold`: rpm are staged, `c` puts them in force, `r` resets."""

    LEAST_RPM = 500

    def __init__(self, gpu: GpuPart, kind: GpuKind) -> None:
        self._gpu = gpu
        self._most_rpm = round(kind.fan_max_rpm)
        self._staged_rpm: float | None = None

    def table(self) -> str:
        """As the driver prints it."""
        limit_rpm = round(min(self._gpu.fan_most_rpm, self._most_rpm))
        return f"OD_ACOUSTIC_LIMIT:\n{limit_rpm}\nOD_RANGE:\nACOUSTIC_LIMIT: {self.LEAST_RPM} {self._most_rpm}\n"

    def write(self, text: str) -> None:
        """Stage, commit or reset. Raises OSError(EINVAL) as the driver does."""
        match text.strip():
            case "c":
                if self._staged_rpm is not None:
                    self._gpu.fan_most_rpm, self._staged_rpm = self._staged_rpm, None
            case "r":
                self._gpu.fan_most_rpm, self._staged_rpm = math.inf, None
            case value if value.isdecimal() and self.LEAST_RPM <= int(value) <= self._most_rpm:
                self._staged_rpm = float(value)
            case _:
                raise OSError(errno.EINVAL, "not a speed of this fan")


class ZeroRpm:
    """`gpu_od/fan_ctrl/fan_zero_rpm_enable`: a number is staged, `c` puts it in force, `r` resets."""

    def __init__(self, gpu: GpuPart) -> None:
        self._gpu = gpu
        self._staged: bool | None = None

    def table(self) -> str:
        """As the driver prints it."""
        return f"FAN_ZERO_RPM_ENABLE:\n{int(self._gpu.may_rest)}\nOD_RANGE:\nZERO_RPM_ENABLE: 0 1\n"

    def write(self, text: str) -> None:
        """Stage, commit or reset."""
        match text.strip():
            case "0" | "1" as value:
                self._staged = value == "1"
            case "c":
                if self._staged is not None:
                    self._gpu.may_rest, self._staged = self._staged, None
            case "r":
                self._gpu.may_rest, self._staged = True, None
            case _:
                raise OSError(errno.EINVAL, "not a plan")
