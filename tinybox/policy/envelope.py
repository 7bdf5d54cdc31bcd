"""What a card can draw under its limits, and which limits hold it under a given share. Board watts throughout."""

import itertools
from bisect import bisect_right
from dataclasses import dataclass
from functools import lru_cache

from tinybox.core.box import Box, ClockPoint, GpuKind
from tinybox.core.commission import Commission
from tinybox.core.snapshot import Gpu

CLOCK_STEP_MHZ = 10
EXCURSION = 1.2  # of its share, that a card held by its cap may draw for a moment: six of them stay below the rating
CAP_LEAST_W = 100.0  # no card was ever seen to obey less; and to amdgpu a cap of 0 means "keep the one you have"


@dataclass(frozen=True, slots=True)
class Limits:
    """The pair of limits to write: `clock_mhz` is None where the card has no clock lever."""

    cap_w: float
    clock_mhz: int | None


@dataclass(frozen=True, slots=True)
class Envelope:
    """Watts of a board by clock limit: what it draws at full load (`nominal_w`), and the most it may (`most_w`)."""

    clocks_mhz: tuple[int, ...]
    watts: tuple[float, ...]
    margin: float
    ceiling_w: float
    by_step_w: tuple[float, ...]  # nominal watts at every whole step from 0 MHz: looked up hundreds of times a turn

    def nominal_w(self, clock_mhz: float) -> float:
        """Full load at a clock, without the margin."""
        return self.by_step_w[min(int(clock_mhz) // CLOCK_STEP_MHZ, len(self.by_step_w) - 1)]

    def most_w(self, clock_mhz: float) -> float:
        """The most a board may draw at a clock limit."""
        if clock_mhz > self.clocks_mhz[-1]:
            return self.ceiling_w
        # The step above: a table looked up by whole steps must not fall short.
        index = min(-(-int(clock_mhz) // CLOCK_STEP_MHZ), len(self.by_step_w) - 1)
        return min(self.by_step_w[index] * self.margin, self.ceiling_w)

    def clock_for_w(self, most_w: float) -> int:
        """The highest clock, in whole steps, at which the board may draw at most so much; the first point at least."""
        wanted_w = most_w / self.margin
        clock = float(self.clocks_mhz[0])
        for (low, low_w), (high, high_w) in itertools.pairwise(zip(self.clocks_mhz, self.watts, strict=True)):
            if wanted_w < low_w:
                break
            clock = low + min((wanted_w - low_w) / max(high_w - low_w, 1e-9), 1.0) * (high - low)
        return int(clock // CLOCK_STEP_MHZ) * CLOCK_STEP_MHZ


@lru_cache(maxsize=64)
def _envelope(table: tuple[ClockPoint, ...], margin: float, ceiling_w: float) -> Envelope:
    clocks = tuple(point.clock_mhz for point in table)
    watts = tuple(point.board_power_max_w for point in table)
    steps = tuple(_between(clocks, watts, i * CLOCK_STEP_MHZ) for i in range(clocks[-1] // CLOCK_STEP_MHZ + 2))
    return Envelope(clocks, watts, margin, ceiling_w, steps)


def _between(clocks: tuple[int, ...], watts: tuple[float, ...], clock_mhz: float) -> float:
    """Linear between the points, flat outside them."""
    if clock_mhz <= clocks[0]:
        return watts[0]
    if clock_mhz >= clocks[-1]:
        return watts[-1]
    i = bisect_right(clocks, clock_mhz)
    fraction = (clock_mhz - clocks[i - 1]) / (clocks[i] - clocks[i - 1])
    return watts[i - 1] + fraction * (watts[i] - watts[i - 1])


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of one card: its envelope, and its own sensor's watts over its board's."""

    envelope: Envelope
    sensor_to_board: float


def known_of(box: Box, commission: Commission | None) -> dict[str, Known]:
    """Every card's own measured envelope by id, else its kind's estimate."""
    known = {f"gpu/{i}": Known(table_envelope(kind), kind.socket_to_board) for i, kind in enumerate(box.kinds)}
    if commission is not None:
        for card in commission.cards:
            envelope = _envelope(card.clock_table, commission.margin, box.kind_of(card.gpu).board_power_max_w)
            known[card.gpu] = Known(envelope, card.sensor_to_board)
    return known


def table_envelope(kind: GpuKind) -> Envelope:
    """The kind's own estimate."""
    return _envelope(kind.clock_table, kind.clock_table_margin, kind.board_power_max_w)


def board_max_w(gpu: Gpu, kind: GpuKind, envelope: Envelope | None = None) -> float:
    """The most this card can draw under the limits read back from it; a limit nobody could read does not count."""
    most_w = kind.board_power_max_w
    if gpu.cap_w is not None:
        most_w = min(most_w, max(gpu.cap_w, CAP_LEAST_W) / kind.socket_to_board_min)
    if gpu.clock_limit_mhz is not None:
        most_w = min(most_w, (envelope or table_envelope(kind)).most_w(gpu.clock_limit_mhz))
    return most_w


def userspace_max_w(gpu: Gpu, kind: GpuKind) -> float:
    """The most that a card driven from user space can draw: what its program set itself, else all that it can."""
    if gpu.user_limit_w is None:
        return kind.board_power_max_w
    return min(kind.board_power_max_w, max(gpu.user_limit_w, CAP_LEAST_W) / kind.socket_to_board_min)


def limits_for(share_w: float, gpu: Gpu, kind: GpuKind, envelope: Envelope | None = None) -> Limits:
    """Limits that hold the card under `share_w`: the cap where it reaches so low, else the clock.

    A cap obeys its mean only after tenths of a second: a clock bounds what a card that wakes draws until then. The cap
    is clamped to what the driver accepts; the result may still exceed the share where no lever reaches it.
    """
    least, most = cap_range_w(gpu, kind)
    wanted = float(int(share_w * kind.socket_to_board_min))
    cap_w = min(max(wanted, least), most)
    if not gpu.has_clock_lever:
        return Limits(cap_w, None)
    cap_holds = cap_w <= share_w * kind.socket_to_board_min
    floor_mhz = floor_clock_mhz(gpu, kind)
    if gpu.clock_lever_is_coarse:
        return Limits(cap_w, kind.clock_max_mhz if cap_holds else floor_mhz)
    envelope = envelope or table_envelope(kind)
    clock_mhz = envelope.clock_for_w(EXCURSION * share_w * envelope.margin if cap_holds else share_w)
    return Limits(cap_w, min(max(clock_mhz, floor_mhz), kind.clock_max_mhz))


def cap_range_w(gpu: Gpu, kind: GpuKind) -> tuple[float, float]:
    """The caps that the card takes, lowest and highest."""
    least = max(gpu.cap_min_w if gpu.cap_min_w is not None else kind.cap_min_w, CAP_LEAST_W)
    return least, gpu.cap_max_w if gpu.cap_max_w is not None else kind.cap_max_w


def floor_clock_mhz(gpu: Gpu, kind: GpuKind) -> int:
    """The lowest clock limit the card takes."""
    return gpu.clock_limit_min_mhz if gpu.clock_limit_min_mhz is not None else kind.clock_min_mhz


def floor_limits(gpu: Gpu, kind: GpuKind) -> Limits:
    """The lowest limits the card accepts, by every lever it has."""
    return limits_for(0.0, gpu, kind)  # no cap reaches 0 W, so the clock is at its lowest too
