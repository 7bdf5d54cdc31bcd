"""The outlet as a promise: how many amps the box may draw, and what that is in watts."""

import math
from dataclasses import dataclass

from tinybox.core.box import Box
from tinybox.core.config import Config
from tinybox.core.errors import TinyboxError

# The outlets people have: volts and amps of the breaker behind them.
OUTLETS: dict[str, tuple[float, float]] = {
    "120V/15A": (120.0, 15.0),
    "120V/20A": (120.0, 20.0),
    "240V/30A": (240.0, 30.0),
    "240V/50A": (240.0, 50.0),  # a car charger's
}
BREAKER_SHARE = 0.8  # modelled heat over the fastest breaker's trip that is never passed
SUSTAINED_SHARE = 0.58  # heat at which a load may stay for ever: below the first step of the ladder


@dataclass(frozen=True, slots=True)
class Circuit:
    """What the box promised to stay under: `promised_a` amps at `power_factor`, on a line of nominally `volts`.

    `trip_heat` and `tau_s` are those of the fastest breaker that may be behind the outlet, warm as its panel may be.
    """

    volts: float
    promised_a: float
    power_factor: float
    rating_a: float
    trip_heat: float
    tau_s: float
    other_a: float = 0.0  # of somebody else, as the owner says

    @property
    def carried_a(self) -> float:
        """What the circuit may carry for good: ours and what else is said to be on it."""
        return self.promised_a + self.other_a

    def budget_w(self, line_v: float | None) -> float:
        """Watts at the wall that `promised_a` amount to at `line_v` (nominal volts where nobody measures them)."""
        return self.promised_a * (line_v if line_v is not None else self.volts) * self.power_factor


def circuit_of(box: Box, config: Config) -> Circuit:
    """The owner's circuit over the box's default. Raises TinyboxError when nothing is left for the box."""
    own, kind = config.circuit, box.circuit
    if own.outlet is not None and own.outlet not in OUTLETS:
        raise TinyboxError(f"circuit.outlet is '{own.outlet}'", hint=f"it is one of: {', '.join(OUTLETS)}")
    volts, amps = OUTLETS[own.outlet] if own.outlet is not None else (kind.volts, kind.amps)
    volts = own.volts if own.volts is not None else volts
    amps = own.amps if own.amps is not None else amps
    fraction = own.continuous_fraction if own.continuous_fraction is not None else kind.continuous_fraction
    derating = 1 - kind.breaker_derate_per_k * max(0.0, own.panel_c - kind.breaker_calibrated_c)
    trip_heat = kind.breaker_trip_heat * derating
    # A load that lasts must not heat the breaker to where the ladder of last resorts begins.
    sustained_a = amps * math.sqrt(SUSTAINED_SHARE * trip_heat)
    promised_a = min(amps * fraction, sustained_a) - own.other_load_a
    if promised_a <= 0:
        raise TinyboxError(
            f"circuit: {amps:g} A × {fraction:g} leaves nothing beside another load of {own.other_load_a:g} A",
            hint="correct circuit.amps or circuit.other_load_a",
        )
    return Circuit(volts, promised_a, box.psu.power_factor, amps, trip_heat, kind.breaker_tau_s, own.other_load_a)
