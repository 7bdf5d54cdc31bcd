"""The processor: load and memory by psutil, temperature by k10temp or coretemp, watts and their limit by RAPL or HSMP.

RAPL of an EPYC counts and has no limit to write; AMD's HSMP driver has one (docs/protocol/work.md).
"""

import posixpath
from dataclasses import dataclass, replace

from tinybox.core.actions import SetCpuCap
from tinybox.core.errors import HardwareError
from tinybox.core.snapshot import Cpu, Fault
from tinybox.hw.host import Attribute, Host

POWERCAP = "sys/class/powercap"
HWMON = "sys/class/hwmon"
TEMPERATURE_CHIPS = ("k10temp", "coretemp")
CALM_PERIOD_S = 1.0
LIMIT = "constraint_0_power_limit_uw"  # the sustained one
HSMP = "amd_hsmp_hwmon"  # Linux 6.16 and later: one chip for each socket, its limits in microwatts like RAPL's
CAP_TOLERANCE_W = 1.0  # RAPL counts in eighths of a watt


@dataclass(slots=True)
class EnergyCounter:
    """One RAPL package: joules that only grow, until they wrap at the range's end."""

    attribute: Attribute
    range_uj: int
    last_uj: int | None = None
    last_s: float = 0.0

    def power_w(self, now_s: float) -> float | None:
        """Mean watts since the last reading; None at the first. Raises HardwareError."""
        try:
            energy_uj = int(self.attribute.read())
        except ValueError as error:
            raise HardwareError(str(error)) from None
        last_uj, last_s = self.last_uj, self.last_s
        self.last_uj, self.last_s = energy_uj, now_s
        if last_uj is None or now_s <= last_s:
            return None
        return energy_gain_uj(last_uj, energy_uj, self.range_uj) / 1e6 / (now_s - last_s)


def energy_gain_uj(before_uj: int, after_uj: int, range_uj: int) -> int:
    """Microjoules between two readings of a counter that starts again after `range_uj`."""
    return after_uj - before_uj if after_uj >= before_uj else after_uj - before_uj + range_uj + 1


class CpuDriver:
    """The processor package (all packages of a board with several)."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._folders = self._find_folders()
        self._packages = self._find_packages()
        self._sockets = self._find_sockets()
        self._limits = self._find_limits()
        self._temperature = self._find_temperature()
        self._calm = Cpu()
        self._calm_faults: tuple[Fault, ...] = ()
        self._calm_due_s = float("-inf")
        self._power_w: float | None = None

    def read(self, now_s: float) -> tuple[Cpu, tuple[Fault, ...]]:
        """Watts of now, the rest of at most a second ago."""
        if now_s >= self._calm_due_s:
            self._calm_due_s = now_s + CALM_PERIOD_S
            self._read_calm()
        faults = list(self._calm_faults)
        if not self._packages and not self._sockets:
            faults.append(Fault("cpu", "no RAPL: its power is taken at its worst"))
        try:
            self._power_w = self._read_power(now_s)
        except HardwareError as error:
            self._power_w = None
            faults.append(Fault("cpu", f"power unreadable: {error}"))
        return replace(self._calm, power_w=self._power_w), tuple(faults)

    def _read_power(self, now_s: float) -> float | None:
        """By RAPL's counters, which are finer; by HSMP where there are none. Raises HardwareError."""
        if not self._packages:
            return (
                sum(self._microwatts(f"{socket}/power1_input") for socket in self._sockets) if self._sockets else None
            )
        powers = [package.power_w(now_s) for package in self._packages]
        known = [power for power in powers if power is not None]
        return sum(known) if known else self._power_w

    def apply(self, action: SetCpuCap) -> None:
        """Write the limit, an equal part to each package, and read it back. Raises HardwareError if not in force."""
        if not self._limits:
            raise HardwareError("the processor has no power limit that can be written")
        self._calm_due_s = float("-inf")
        part_uw = round(action.cap_w * 1e6 / len(self._limits))
        for limit in self._limits:
            self._host.write_text(limit, f"{part_uw}")
        held_w = self._read_cap() or 0.0
        if abs(held_w - action.cap_w) > CAP_TOLERANCE_W:
            raise HardwareError(f"the processor holds a limit of {held_w:.0f} W after {action.cap_w:.0f} W was written")

    def cap_w(self) -> float | None:
        """The sustained limit in force; None where there is none that can be written, or none that can be read."""
        try:
            return self._read_cap()
        except HardwareError:
            return None

    def close(self) -> None:
        """Let go of the descriptors."""
        for attribute in (*(package.attribute for package in self._packages), self._temperature):
            if attribute is not None:
                attribute.close()

    def _read_calm(self) -> None:
        faults: list[Fault] = []
        cpu = Cpu()
        try:
            values = self._host.psutil()
            cpu = Cpu(
                busy_pct=values.cpu_percent,
                cores=values.cpu_count_physical,
                memory_used_bytes=values.memory_used_bytes,
                memory_total_bytes=values.memory_total_bytes,
            )
        except HardwareError as error:
            faults.append(Fault("cpu", f"load and memory unreadable: {error}"))
        try:
            if self._temperature is None:
                raise HardwareError("no k10temp and no coretemp")
            cpu = replace(cpu, temp_c=int(self._temperature.read()) / 1e3)
        except (HardwareError, ValueError) as error:
            faults.append(Fault("cpu", f"temperature unreadable: {error}"))
        try:
            cpu = replace(cpu, cap_w=self._read_cap())
        except HardwareError as error:
            faults.append(Fault("cpu", f"power limit unreadable: {error}"))
        self._calm, self._calm_faults = cpu, tuple(faults)

    def _read_cap(self) -> float | None:
        """Watts that all packages together may draw for long; None: nothing limits them. Raises HardwareError."""
        for limit in self._limits:
            switch = f"{posixpath.dirname(limit)}/enabled"
            if self._host.exists(switch) and self._host.read_text(switch) == "0":
                raise HardwareError(f"the limit is switched off: write 1 to {self._host.path(switch)}")
        return sum(self._microwatts(limit) for limit in self._limits) if self._limits else None

    def _microwatts(self, path: str) -> float:
        """A file of microwatts, in watts. Raises HardwareError."""
        try:
            return int(self._host.read_text(path)) / 1e6
        except ValueError as error:
            raise HardwareError(f"{self._host.path(path)}: {error}") from None

    def _find_folders(self) -> tuple[str, ...]:
        """Each package's folder; `intel-rapl-mmio` is a second door to the same package."""
        found = []
        for name in self._host.list_dir(POWERCAP):
            try:
                is_package = self._host.read_text(f"{POWERCAP}/{name}/name").startswith("package")
            except HardwareError:
                continue  # a control type, no domain
            if is_package and "mmio" not in name:
                found.append(f"{POWERCAP}/{name}")
        return tuple(found)

    def _find_packages(self) -> tuple[EnergyCounter, ...]:
        found = []
        for folder in self._folders:
            try:
                range_uj = int(self._host.read_text(f"{folder}/max_energy_range_uj"))
                found.append(EnergyCounter(self._host.attribute(f"{folder}/energy_uj"), range_uj))
            except (HardwareError, ValueError):
                continue  # no energy counter
        return tuple(found)

    def _find_limits(self) -> tuple[str, ...]:
        """Each package's limit; none at all where one package cannot be limited."""
        for limits in (
            tuple(f"{folder}/{LIMIT}" for folder in self._folders),
            tuple(f"{socket}/power1_cap" for socket in self._sockets),
        ):
            if limits and all(self._host.is_writable(limit) for limit in limits):
                return limits
        return ()

    def _find_sockets(self) -> tuple[str, ...]:
        """HSMP's chips."""
        return tuple(folder for folder in self._chips() if self._name(folder) == HSMP)

    def _chips(self) -> tuple[str, ...]:
        return tuple(f"{HWMON}/{name}" for name in self._host.list_dir(HWMON))

    def _name(self, folder: str) -> str:
        try:
            return self._host.read_text(f"{folder}/name")
        except HardwareError:
            return ""

    def _find_temperature(self) -> Attribute | None:
        found = (folder for folder in self._chips() if self._name(folder) in TEMPERATURE_CHIPS)
        folder = next(found, None)
        return self._host.attribute(f"{folder}/temp1_input") if folder else None
