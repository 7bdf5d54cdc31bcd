"""What a box's controller measures, and the records by which it describes that (IPMI 2.0, chapter 43)."""

from collections.abc import Callable
from dataclasses import dataclass

from tinybox.twin.plant import Plant

TEMPERATURE, VOLTAGE, FAN, SUPPLY, POWER = 0x01, 0x02, 0x04, 0x08, 0x0B  # IPMI sensor types
DEGREES, VOLTS, WATTS, RPM = 1, 4, 6, 18  # IPMI units
BY_THRESHOLD, BY_TYPE = 0x01, 0x6F  # event and reading types
BOARD, SUPPLIES = 7, 10  # entities
RPM_STEP, WATT_STEP = 20, 8  # a reading has 8 bits
PRESENT, AC_LOST = 1 << 0, 1 << 3  # states of a supply
LEAST_RPM, LOW_RPM = 0.5, 0.6  # of the slowest speed of the box's fans: critical, and worth a note
# Which thresholds a kind of sensor has (lowest bit first: lower non-critical, critical, non-recoverable, then upper)
# and which of their events it logs: even bits for a lower one going low, odd bits for an upper one going high.
MASKS = {FAN: ("000011", "000000000000101"), TEMPERATURE: ("011000", "000001010000000")}
NO_MASK = ("000000", "000000000000000")


@dataclass(frozen=True, slots=True)
class Sensor:
    """One sensor: `step` units to a count. `limits` are the two thresholds of its kind, the milder first."""

    number: int
    name: str
    kind: int
    unit: int
    step: int
    value: Callable[[], float]
    limits: tuple[float, float] = (0.0, 0.0)
    entity: tuple[int, int] = (BOARD, 1)

    @property
    def is_discrete(self) -> bool:
        """Whether it has states in place of a figure."""
        return self.kind == SUPPLY

    def commands(self, file: str) -> list[str]:
        """What tells ipmi_sim of it."""
        where, step = f"0x20 0 {self.number}", "" if self.is_discrete else f" div={self.step}"
        reading = BY_TYPE if self.is_discrete else BY_THRESHOLD
        lines = [f'sensor_add {where} 0x{self.kind:02x} 0x{reading:02x} poll 1000 file "{file}"{step}']
        thresholds, events = MASKS.get(self.kind, NO_MASK)
        if self.is_discrete:
            events = "000000000001110"  # all but presence, which is no news
        else:
            mild, bad = (round(limit / self.step) for limit in self.limits)
            values = f"0 0 0 0 {bad} {mild}" if self.kind == FAN else f"0 {bad} {mild} 0 0 0"
            lines.append(f"sensor_set_threshold {where} readable {thresholds} {values}")
        # Without any event support ipmi_sim calls a sensor disabled.
        lines.append(f"sensor_set_event_support {where} enable scanning per-state {' '.join([events] * 4)}")
        lines.append(f"main_sdr_add 0x20 {' '.join(f'0x{byte:02x}' for byte in self.record())}")
        return lines

    def record(self) -> bytes:
        """Its sensor data record."""
        name = self.name.encode("ascii")
        body = self._compact_body() if self.is_discrete else self._full_body()
        body[-1] = 0xC0 | len(name)
        kind = 0x02 if self.is_discrete else 0x01
        return bytes((0, 0, 0x51, kind, len(body) + len(name))) + bytes(body) + name

    def _full_body(self) -> bytearray:
        """Linear, unsigned, no offset, readable thresholds (table 43-1)."""
        body = bytearray(43)
        body[0:5] = bytes((0x20, 0x00, self.number, self.entity[0], self.number))
        body[5:9] = bytes((0x7F, 0x68, self.kind, BY_THRESHOLD))
        readable = int(MASKS.get(self.kind, NO_MASK)[0], 2)
        body[13:15] = bytes((readable, readable))
        body[16] = self.unit
        body[19] = self.step  # M
        return body

    def _compact_body(self) -> bytearray:
        """States of its type (table 43-2)."""
        body = bytearray(27)
        body[0:5] = bytes((0x20, 0x00, self.number, *self.entity))
        body[5:9] = bytes((0x67, 0x40, self.kind, BY_TYPE))
        for mask in (9, 11, 13):
            body[mask] = 0x0F
        body[15] = 0xC0
        return body


def sensors_of(plant: Plant) -> tuple[Sensor, ...]:
    """What the box's controller measures."""
    fans, psus = plant.box.fans.count, plant.box.psu.count
    fan_limits = (LOW_RPM * plant.box.fans.min_rpm, LEAST_RPM * plant.box.fans.min_rpm)

    def fan(i: int) -> Sensor:
        return Sensor(i + 1, f"FAN{i + 1}", FAN, RPM, RPM_STEP, lambda: plant.chassis_rpm[i], fan_limits)

    def watts(i: int, number: int) -> Sensor:
        return Sensor(
            number, f"PSU{i + 1} PIN", POWER, WATTS, WATT_STEP, lambda: plant.psu_in_w[i] * plant.kind.psu.bmc_gain
        )

    def volts(i: int, number: int) -> Sensor:
        return Sensor(number, f"PSU{i + 1} VIN", VOLTAGE, VOLTS, 1, lambda: plant.psu_volt_reading(i))

    def state(i: int, number: int) -> Sensor:
        def states() -> int:
            return PRESENT if plant.has_input(i) else PRESENT | AC_LOST

        return Sensor(number, f"PSU{i + 1} Status", SUPPLY, 0, 1, states, entity=(SUPPLIES, i + 1))

    first = fans + 1
    return (
        *(fan(i) for i in range(fans)),
        Sensor(first, "CPU TEMP", TEMPERATURE, DEGREES, 1, lambda: plant.cpu_c, (90.0, 95.0)),
        Sensor(first + 1, "INLET TEMP", TEMPERATURE, DEGREES, 1, lambda: plant.inlet_c, (48.0, 53.0)),
        volts(0, first + 2),
        *(watts(i, first + 3 + i) for i in range(psus)),
        *(state(i, first + 3 + psus + i) for i in range(psus)),
    )
