"""Power supplies that speak PMBus, through the kernel's hwmon: watts, volts and amps on the AC side."""

import re
from dataclasses import dataclass

from tinybox.core.errors import HardwareError
from tinybox.core.snapshot import Fault, Psu
from tinybox.hw.host import Attribute, Host

HWMON = "sys/class/hwmon"
# PMBus label of hwmon's *_label files: (field of Psu, divisor to our unit)
LABELS = {"pin": ("in_w", 1e6), "vin": ("in_v", 1e3), "iin": ("in_a", 1e3), "pout1": ("out_w", 1e6)}
TEMPERATURE = ("temp1_input", "temp_c", 1e3)
INPUT = re.compile(r"(power|in|curr)\d+_label")
LOST_PERIOD_S = 5.0


@dataclass(frozen=True, slots=True)
class Figure:
    """One attribute of a supply."""

    field: str
    attribute: Attribute
    per_unit: float


@dataclass(frozen=True, slots=True)
class Supply:
    """One supply's chip."""

    id: str
    figures: tuple[Figure, ...]

    def read(self) -> tuple[Psu, tuple[Fault, ...]]:
        """What it says now."""
        values: dict[str, float] = {}
        faults = []
        for figure in self.figures:
            try:
                values[figure.field] = int(figure.attribute.read()) / figure.per_unit
            except (HardwareError, ValueError) as error:
                faults.append(Fault(self.id, f"{figure.field} unreadable: {error}"))
        return Psu(self.id, **values), tuple(faults)

    def close(self) -> None:
        """Let go of the descriptors."""
        for figure in self.figures:
            figure.attribute.close()


class PsuDriver:
    """All supplies of the box; looked for again every few seconds while one is missing."""

    def __init__(self, host: Host, expected: int) -> None:
        self._host = host
        self._expected = expected
        self._supplies: tuple[Supply, ...] = ()
        self._look_again_s = float("-inf")

    def read(self, now_s: float) -> tuple[tuple[Psu, ...], tuple[Fault, ...]]:
        """Every supply."""
        readings = [supply.read() for supply in self._supplies]
        talking = sum(psu.in_w is not None for psu, _ in readings)
        if talking < self._expected and now_s >= self._look_again_s:
            # Also when one went silent: its driver may be back under another hwmon number.
            self._look_again_s = now_s + LOST_PERIOD_S
            self.close()
            self._supplies = self._find()
            readings = [supply.read() for supply in self._supplies]
        faults = [fault for _, found in readings for fault in found]
        for index in range(len(self._supplies), self._expected):
            faults.append(Fault(f"psu/{index}", "no PMBus sensor: this supply's power is unknown"))
        return tuple(psu for psu, _ in readings), tuple(faults)

    def close(self) -> None:
        """Let go of the descriptors."""
        for supply in self._supplies:
            supply.close()
        self._supplies = ()

    def _find(self) -> tuple[Supply, ...]:
        """Chips with an input power, in the order of their devices' addresses."""
        chips = []
        for name in self._host.list_dir(HWMON):
            figures = self._figures(f"{HWMON}/{name}")
            if any(figure.field == "in_w" for figure in figures):
                chips.append((self._host.resolve(f"{HWMON}/{name}"), figures))
        return tuple(Supply(f"psu/{i}", figures) for i, (_, figures) in enumerate(sorted(chips, key=lambda c: c[0])))

    def _figures(self, folder: str) -> tuple[Figure, ...]:
        names = self._host.list_dir(folder)
        found = []
        for name in names:
            if not INPUT.fullmatch(name):
                continue
            try:
                label = self._host.read_text(f"{folder}/{name}")
            except HardwareError:
                continue
            if label in LABELS:
                field, per_unit = LABELS[label]
                attribute = self._host.attribute(f"{folder}/{name.removesuffix('_label')}_input")
                found.append(Figure(field, attribute, per_unit))
        if found and TEMPERATURE[0] in names:
            found.append(Figure(TEMPERATURE[1], self._host.attribute(f"{folder}/{TEMPERATURE[0]}"), TEMPERATURE[2]))
        return tuple(found)
