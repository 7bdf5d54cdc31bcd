"""A card against the others of its kind: what one box has six of need no limit from anybody."""

from collections.abc import Iterator
from statistics import median

from tinybox.core.snapshot import Gpu, Severity
from tinybox.policy.checks.check import Answer, Check, Look, crit, good, warn

EQUAL = 0.15  # share by which watts may differ and count as equal
LEAST_W = 60.0  # of the board: idle cards are as warm as their neighbours make them
OTHERS = 2
WARN_K, CRIT_K = 10.0, 18.0
IDLE_FACTOR = 2.0
IDLE_AFTER_S = 10.0


def outlier(look: Look) -> Iterator[Answer]:
    """Junction (else edge) and memory above the median of cards at equal watts."""
    for gpu in look.awake():
        others = [one for one in look.awake() if one.id != gpu.id and _is_equal(gpu, one, look)]
        if len(others) < OTHERS:
            yield good(gpu.id, "no siblings at equal watts")
            continue
        found = [_compare(gpu, others, name) for name in ("junction_c", "edge_c", "memory_c")]
        told = [one for one in found if one is not None]
        if not told:
            yield look.absent(gpu.id)
            continue
        above_k, words = max(told)
        limit = f"{WARN_K:.0f} / {CRIT_K:.0f} K above {len(others)} siblings at {look.cards[gpu.id].settled_w:.0f} W"
        judge = crit if above_k > CRIT_K else warn if above_k > WARN_K else None
        yield good(gpu.id, words) if judge is None else judge(gpu.id, words, limit=limit)


def _is_equal(gpu: Gpu, other: Gpu, look: Look) -> bool:
    """Same kind, and the same watts now and over the last minutes."""
    if look.box.kind_of(gpu.id) is not look.box.kind_of(other.id):
        return False
    mine, its = look.cards[gpu.id], look.cards[other.id]
    if min(mine.settled_w, its.settled_w) < LEAST_W:
        return False
    return all(abs(a - b) <= EQUAL * max(a, b) for a, b in ((mine.settled_w, its.settled_w), (mine.watts, its.watts)))


def _compare(gpu: Gpu, others: list[Gpu], name: str) -> tuple[float, str] | None:
    value = getattr(gpu, name)
    theirs = [its for one in others if (its := getattr(one, name)) is not None]
    if value is None or len(theirs) < OTHERS:
        return None
    above_k = value - median(theirs)
    words = f"{name.removesuffix('_c')} at {value:.0f} °C, {abs(above_k):.0f} K {'above' if above_k > 0 else 'below'}"
    return above_k, f"{words} its siblings"


def idle_power(look: Look) -> Iterator[Answer]:
    """Watts of a card without work against its siblings without work, else against its kind's."""
    for gpu in look.awake():
        past, kind = look.cards[gpu.id], look.box.kind_of(gpu.id)
        if gpu.power_w is None or gpu.busy_pct is None:
            yield look.absent(gpu.id)
            continue
        if past.idle_since_s is None or look.now.time_s - past.idle_since_s < IDLE_AFTER_S:
            yield good(gpu.id, "at work" if past.idle_since_s is None else "idle since a moment")
            continue
        usual_w = kind.board_power_idle_w * kind.socket_to_board
        theirs = [w for one in look.awake() if (w := _idle_w(one, gpu, look)) is not None]
        if len(theirs) >= OTHERS:
            usual_w = max(median(theirs), usual_w / 2)
        said = f"{gpu.power_w:.0f} W without work"
        if gpu.power_w > IDLE_FACTOR * usual_w:
            yield warn(gpu.id, said, limit=f"{IDLE_FACTOR:.0f} × {usual_w:.0f} W")
        else:
            yield good(gpu.id, said)


def _idle_w(other: Gpu, gpu: Gpu, look: Look) -> float | None:
    past = look.cards[other.id]
    if other.id == gpu.id or look.box.kind_of(other.id) is not look.box.kind_of(gpu.id):
        return None
    if past.idle_since_s is None or look.now.time_s - past.idle_since_s < IDLE_AFTER_S:
        return None
    return other.power_w


CHECKS = (
    Check("gpu.temp.outlier", "a card against the median of its siblings at equal watts", "10 K / 18 K above",
          "the box itself", "look for a blocked slot, a dead fan, dust or bad pads in this one", outlier,
          Severity.CRITICAL, after_s=20.0),
    Check("gpu.power.idle", "watts of a card that has no work",
          "twice the median of its idle siblings, else its kind's", "the box itself, else its constants",
          "look for a program left on it ('tinybox status'); reset it", idle_power, after_s=5.0),
)  # fmt: skip
