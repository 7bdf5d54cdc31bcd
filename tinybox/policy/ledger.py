"""Amp-seconds spent in the window of the continuous promise: what was used, and what is left for the next seconds.

The ledger is a tuple of (time_s, charge_as): charge counted up to that time. Its oldest entry is at least a window old.
"""

import math
from bisect import bisect_right

WINDOW_S = 10.0
ENTRY_S = 0.09  # closer ones replace each other: ten periods a second for ten seconds are a hundred entries

Ledger = tuple[tuple[float, float], ...]


def note(ledger: Ledger, now_s: float, amps: float) -> Ledger:
    """The ledger with `amps` drawn since its last entry; what nobody saw counts as a window full of them.

    A clock that jumped back took no time: what was spent stays spent.
    """
    last_s, charge_as = ledger[-1] if ledger else (-math.inf, 0.0)
    if now_s - last_s > WINDOW_S:
        return ((now_s - WINDOW_S, charge_as), (now_s, charge_as + WINDOW_S * amps))
    if now_s < last_s:
        return tuple((then_s + (now_s - last_s), then_as) for then_s, then_as in ledger)
    charge_as += amps * (now_s - last_s)
    kept = ledger[:-1] if len(ledger) > 1 and now_s - ledger[-2][0] < ENTRY_S else ledger
    first = 0
    while len(kept) - first > 2 and kept[first + 1][0] <= now_s - WINDOW_S:
        first += 1
    return (*kept[first:], (now_s, charge_as))


def spent_as(ledger: Ledger, seconds: float) -> float:
    """Amp-seconds of the last so many seconds; before its beginning the box drew nothing."""
    now_s, charge_as = ledger[-1]
    since_s = now_s - seconds
    i = bisect_right(ledger, (since_s, float("inf")))
    if i == 0:
        return charge_as - ledger[0][1]
    if i == len(ledger):
        return 0.0
    (before_s, before_as), (after_s, after_as) = ledger[i - 1], ledger[i]
    there_as = before_as + (after_as - before_as) * (since_s - before_s) / (after_s - before_s)
    return charge_as - there_as
