"""Somebody else on the circuit: an appliance that nobody announced shows as a step in the line's volts.

The wiring drops volts with amps. What our own amps explain is taken off; a step that remains is a neighbour's amps over
the ohms that our own steps have taught. Slow changes are the utility's, and not a neighbour.
"""

from dataclasses import dataclass, replace

from tinybox.core.circuit import Circuit
from tinybox.policy.lag import toward

OHM_NOMINAL, OHM_LEAST, OHM_MOST = 0.2, 0.08, 0.5  # at 120 V; some 15 m of AWG 14 there and back
OWN_STEP_A = 2.5  # of our own: big enough to learn from
OWN_STILL_A = 1.5  # within so much the volts are not ours
STEP_SHARE, MEAN_STEP_SHARE = 0.011, 0.009  # of nominal volts: a utility's tap is 0.6 %
LEAST_A, MEAN_LEAST_A = 4.0, 5.0  # by one look while we are still, by the means while we are not
MID_TAU_S, TAPS_SHARE = 3.0, 0.6
MEAN_STILL_A = 3.0  # our own mean amps changed by no more
QUICK_S = 0.7  # an appliance is on within so long
REST_TAU_S = 20.0
# Of the amps that a step is taken for: at least so many, and at most. The ohms are known no better.
SURE_OF_NEIGHBOUR, WARY_OF_NEIGHBOUR = 0.7, 1.1
MOST_OF_RATING = 2.0  # one plug gives no more at once, however badly the ohms are known: the line itself fell
LEARN = 0.25
ENOUGH_LESSONS = 4
LINE_DROP = 0.03  # of the line, at the promised amps: what the NEC recommends a branch circuit not to exceed


@dataclass(frozen=True, slots=True)
class NeighbourMemory:
    """`rest_v` is what the line would have without us, slowly; `step_v` what the neighbour takes off it."""

    time_s: float | None = None
    rest_v: float | None = None
    amps: float = 0.0
    volts: float = 0.0
    ohm: float = OHM_NOMINAL
    lessons: int = 0  # steps of our own that taught the ohms
    step_v: float = 0.0
    fast_v: float = 0.0  # rest as of a moment ago
    fast_line_v: float = 0.0  # and the line itself
    slow_line_v: float = 0.0  # as slow as the rest
    mid_v: float = 0.0  # rest as of a few seconds ago: one step, and not several of the utility's

    def drop_v(self, more_a: float, circuit: Circuit) -> float:
        """Volts that so many more amps will take off the line: as learned, else what wiring may take at most."""
        ohm = self.ohm if self.lessons >= ENOUGH_LESSONS else LINE_DROP * circuit.volts / circuit.promised_a
        return ohm * max(0.0, more_a)

    def other_a(self) -> float:
        """Amps of the neighbour, 0 where there is none."""
        return self.step_v / self.ohm if self.step_v > 0 else 0.0


def watch(
    now_s: float, line_v: float | None, amps: float, circuit: Circuit, memory: NeighbourMemory
) -> NeighbourMemory:
    """What the line says now. Without a voltmeter nothing can be known."""
    if line_v is None:
        return replace(memory, time_s=None, rest_v=None)
    if memory.time_s is None or memory.rest_v is None or not 0 <= now_s - memory.time_s <= 5.0:
        return _afresh(now_s, line_v, amps, memory)
    elapsed_s = now_s - memory.time_s
    taught = _taught(line_v, amps, memory)
    step_v, rest_v = _step(memory.rest_v, line_v, amps, elapsed_s, circuit, taught)
    if step_v > MOST_OF_RATING * circuit.rating_a * taught.ohm:
        return _afresh(now_s, line_v, amps, taught)
    now_v, slow_line_v = line_v + taught.ohm * amps, memory.slow_line_v
    if step_v == 0:  # while a neighbour is there the volts without it are only remembered
        rest_v = toward(rest_v, now_v, elapsed_s, REST_TAU_S)
        slow_line_v = toward(slow_line_v, line_v, elapsed_s, REST_TAU_S)
    return NeighbourMemory(
        time_s=now_s,
        rest_v=rest_v,
        amps=amps,
        volts=line_v,
        ohm=taught.ohm,
        lessons=taught.lessons,
        step_v=step_v,
        fast_v=toward(memory.fast_v, now_v, elapsed_s, QUICK_S),
        fast_line_v=toward(memory.fast_line_v, line_v, elapsed_s, QUICK_S),
        slow_line_v=slow_line_v,
        mid_v=toward(memory.mid_v, now_v, elapsed_s, MID_TAU_S),
    )


def _step(
    rest_v: float, line_v: float, amps: float, elapsed_s: float, circuit: Circuit, memory: NeighbourMemory
) -> tuple[float, float]:
    """Volts that somebody else takes, and the resting volts that this is seen from."""
    ohm, step_v = memory.ohm, memory.step_v
    now_v = line_v + ohm * amps
    gap_v, mean_gap_v = rest_v - now_v, rest_v - memory.fast_v  # volts that are missing and not ours
    if step_v > 0:
        has_gone = gap_v < 0.5 * step_v and mean_gap_v < 0.5 * step_v
        return 0.0 if has_gone else max(step_v, gap_v), rest_v
    quick_v = memory.fast_v - now_v
    threshold_v = max(STEP_SHARE * circuit.volts, LEAST_A * ohm)
    # A stiff line (a UPS) does not rise as our amps fall: volts that stayed are nobody's step.
    own_fall_a = (memory.fast_v - memory.fast_line_v) / ohm - amps
    is_stiff = own_fall_a > OWN_STILL_A and memory.fast_line_v - line_v < 0.5 * threshold_v
    if abs(amps - memory.amps) <= OWN_STILL_A and not is_stiff:
        if gap_v >= threshold_v and quick_v >= 0.6 * threshold_v:
            return gap_v, rest_v
        # What was a moment ago was so for seconds, in looks close enough to know.
        is_calm = elapsed_s <= 0.5 * QUICK_S and abs(memory.mid_v - memory.fast_v) <= 0.5 * threshold_v
        if is_calm and abs(own_fall_a) <= OWN_STILL_A and quick_v >= threshold_v:
            return quick_v, memory.fast_v  # ohms that nobody has learned yet may have led the slow one astray
    return mean_gap_v if _is_step_of_means(mean_gap_v, threshold_v, circuit, memory) else 0.0, rest_v


def _is_step_of_means(mean_gap_v: float, threshold_v: float, circuit: Circuit, memory: NeighbourMemory) -> bool:
    """Under a load that swings we are never still: the means of a moment, in which swings cancel out, show a step."""
    line_fall_v = memory.slow_line_v - memory.fast_line_v
    mean_fall_a = (mean_gap_v - line_fall_v) / memory.ohm
    if abs(mean_fall_a) > MEAN_STILL_A and line_fall_v < 0.5 * threshold_v:
        return False
    least_v = max(MEAN_STEP_SHARE * circuit.volts, MEAN_LEAST_A * memory.ohm)
    return mean_gap_v >= least_v and memory.mid_v - memory.fast_v >= TAPS_SHARE * least_v


def _afresh(now_s: float, line_v: float, amps: float, memory: NeighbourMemory) -> NeighbourMemory:
    """Nobody is there, as far as this one look can tell; what was learned of the wiring stays."""
    rest_v = line_v + memory.ohm * amps
    return NeighbourMemory(now_s, rest_v, amps, line_v, memory.ohm, memory.lessons, 0.0, rest_v, line_v, line_v, rest_v)


def _taught(line_v: float, amps: float, memory: NeighbourMemory) -> NeighbourMemory:
    """The memory with its ohms after one more look: those with a step of our own teach, and nobody else's."""
    own_a, more_v = amps - memory.amps, line_v - memory.volts
    if abs(own_a) < OWN_STEP_A or memory.step_v > 0 or not OHM_LEAST <= -more_v / own_a <= OHM_MOST:
        return memory
    ohm = memory.ohm + (-more_v / own_a - memory.ohm) * max(LEARN, 1 / (memory.lessons + 1))
    return replace(memory, ohm=ohm, lessons=memory.lessons + 1)
