"""Amps at the outlet for watts inside, both ways: the supplies, their power factor and the line, all settled."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tinybox.core.box import Box
from tinybox.twin.constants import PlantKind
from tinybox.twin.plant import efficiency, power_factor


@dataclass(frozen=True, slots=True)
class Promise:
    """From `from_s` on, the box itself draws at most `amps`; `other_a` is what else the circuit carries.

    `line_scale` is of the unloaded volts, as the plant has it.
    """

    from_s: float
    amps: float
    line_scale: float = 1.0
    other_a: float = 0.0


@dataclass(frozen=True, slots=True)
class Supply:
    """A box's way to the outlet, with the watts of the processor and of all that is no card."""

    box: Box
    kind: PlantKind
    cpu_w: float
    rest_w: float

    @property
    def idle_w(self) -> float:
        """Watts inside with every card idle."""
        return self.cpu_w + self.rest_w + sum(gpu.idle_w for gpu in self.kind.gpus)

    def amps(self, dc_w: float, line_scale: float = 1.0, other_a: float = 0.0) -> float:
        """The box's own amps for `dc_w` inside; inf where the line cannot carry them."""
        return self._line_a(self._volt_amps(dc_w), line_scale, other_a)

    def dc_w(self, amps: float, line_scale: float = 1.0, other_a: float = 0.0) -> float:
        """The watts inside that draw `amps`."""
        low_w, high_w = 0.0, 2 * self.kind.line.volts * line_scale * max(amps, 0.0)
        for _ in range(60):
            middle_w = (low_w + high_w) / 2
            if self.amps(middle_w, line_scale, other_a) > amps:
                high_w = middle_w
            else:
                low_w = middle_w
        return low_w

    def spare_w(self, promise: Promise) -> float:
        """What a promise leaves the cards above idle."""
        return self.dc_w(promise.amps, promise.line_scale, promise.other_a) - self.idle_w

    def in_w(self, dc_w: float) -> float:
        """Watts before the supplies for `dc_w` behind them."""
        return sum(watts for watts, _ in self._inputs(dc_w))

    def tangent(self, volt_amps: float, line_scale: float = 1.0, other_a: float = 0.0) -> tuple[float, float]:
        """Amps for so many volt-amperes, and amps for each one more: a tangent from below."""
        amps = self._line_a(volt_amps, line_scale, other_a)
        line = self.kind.line
        return amps, 1 / (line.volts * line_scale - line.ohm * (other_a + 2 * amps))

    def _line_a(self, volt_amps: float, line_scale: float, other_a: float) -> float:
        line = self.kind.line
        volts = line.volts * line_scale - line.ohm * other_a
        root = volts * volts - 4 * line.ohm * volt_amps
        return (volts - math.sqrt(root)) / (2 * line.ohm) if root >= 0 else math.inf

    def _volt_amps(self, dc_w: float) -> float:
        return sum(watts / power_factor(load) for watts, load in self._inputs(dc_w))

    def _inputs(self, dc_w: float) -> list[tuple[float, float]]:
        """Of each supply: watts before it, and its load as a share of its rating."""
        psu = self.kind.psu
        loads = [(dc_w * share, dc_w * share / self.box.psu.rated_w) for share in (psu.share, 1 - psu.share)]
        return [(out_w / (efficiency(load) * psu.efficiency_gain), load) for out_w, load in loads]


def promises_of(
    limit_a: float, *, other: Sequence[tuple[float, float]] = ((0.0, 0.0),), line_scale: float = 1.0
) -> tuple[Promise, ...]:
    """A circuit's continuous amps less what else is on it, `other` being (from_s, amps)."""
    return tuple(Promise(from_s, max(0.0, limit_a - amps), line_scale, amps) for from_s, amps in other)
