"""The outlet as a promise: how many amps the box may draw, and what that is in watts."""

from dataclasses import dataclass

from tinybox.core.box import Box
from tinybox.core.config import Config
from tinybox.core.errors import TinyboxError


@dataclass(frozen=True, slots=True)
class Circuit:
    """What the box promised to stay under: `promised_a` amps at `power_factor`, on a line of nominally `volts`."""

    volts: float
    promised_a: float
    power_factor: float

    def budget_w(self, line_v: float | None) -> float:
        """Watts at the wall that `promised_a` amount to at `line_v` (nominal volts where nobody measures them)."""
        return self.promised_a * (line_v if line_v is not None else self.volts) * self.power_factor


def circuit_of(box: Box, config: Config) -> Circuit:
    """The owner's circuit over the box's default. Raises TinyboxError when nothing is left for the box."""
    own, kind = config.circuit, box.circuit
    volts = own.volts if own.volts is not None else kind.volts
    amps = own.amps if own.amps is not None else kind.amps
    fraction = own.continuous_fraction if own.continuous_fraction is not None else kind.continuous_fraction
    promised_a = amps * fraction - own.other_load_a
    if promised_a <= 0:
        raise TinyboxError(
            f"circuit: {amps:g} A × {fraction:g} leaves nothing beside another load of {own.other_load_a:g} A",
            hint="correct circuit.amps or circuit.other_load_a",
        )
    return Circuit(volts=volts, promised_a=promised_a, power_factor=box.psu.power_factor)
