"""Temperatures and fans of cards against their own limits."""

from collections.abc import Iterator

from tinybox.core.snapshot import Gpu, Severity
from tinybox.policy.checks.check import Answer, Check, Look, above, crit, good, warn
from tinybox.policy.checks.past import board_w

LOADED_W = 100.0  # of the board: below, the die is hardly warmer than its edge
DELTA_AT_W = 250.0
DELTA_WARN_K, DELTA_CRIT_K = 30.0, 40.0
STOPPED_C = 60.0  # no firmware lets a fan stand at this edge temperature
SLOW_FAN = 0.6
TURNS = 0.3  # of its highest speed: below, of two cards alike one may rest and one may not yet


def core(look: Look) -> Iterator[Answer]:
    """The edge of the die; NVIDIA's own margin where it tells one."""
    for gpu in look.awake():
        if gpu.margin_c is not None:
            yield _margin(gpu.id, gpu.margin_c)
            continue
        if gpu.edge_c is None:
            yield look.absent(gpu.id)
            continue
        limit_c = gpu.edge_crit_c or look.box.kind_of(gpu.id).edge_crit_c
        # A GeForce holds itself at its limit: only there is it too hot. The others stay well below theirs.
        slack = (5.0, 0.0) if gpu.vendor == "nvidia" else (15.0, 5.0)
        yield above(gpu.id, gpu.edge_c, warn_at=limit_c - slack[0], crit_at=limit_c - slack[1], unit=" °C")


def _margin(device: str, margin_c: float) -> Answer:
    evidence, limit = f"{margin_c:.0f} K left until it slows down", "5 K / 0 K left"
    if margin_c <= 0:
        return crit(device, evidence, limit=limit)
    return warn(device, evidence, limit=limit) if margin_c <= 5 else good(device, evidence)


def junction(look: Look) -> Iterator[Answer]:
    """The hottest spot of the die."""
    for gpu in look.awake():
        if gpu.junction_c is None:
            yield look.absent(gpu.id)
            continue
        limit_c = gpu.junction_crit_c or look.box.kind_of(gpu.id).junction_crit_c
        answer = above(gpu.id, gpu.junction_c, warn_at=limit_c - 15, crit_at=limit_c - 5, unit=" °C")
        if gpu.junction_c >= limit_c - 5 and _fan_share(gpu, look) >= 0.9:
            answer = crit(gpu.id, f"{answer.evidence} with its fan at full speed", limit=answer.limit,
                          advice="the cooler is defect, not dirty: return the card")  # fmt: skip
        yield answer


def _fan_share(gpu: Gpu, look: Look) -> float:
    return 0.0 if gpu.fan_rpm is None else gpu.fan_rpm / look.box.kind_of(gpu.id).fan_max_rpm


def memory(look: Look) -> Iterator[Answer]:
    """The card's memory."""
    for gpu in look.awake():
        if gpu.memory_c is None:
            yield look.absent(gpu.id)
            continue
        limit_c = gpu.memory_crit_c or look.box.kind_of(gpu.id).memory_crit_c
        yield above(gpu.id, gpu.memory_c, warn_at=limit_c - 13, crit_at=limit_c - 5, unit=" °C")


def delta(look: Look) -> Iterator[Answer]:
    """Junction above edge; it grows with the watts, so do the limits, up to those of 250 W."""
    for gpu in look.awake():
        watts = board_w(gpu, look.box.kind_of(gpu.id))
        if gpu.edge_c is None or gpu.junction_c is None or watts is None:
            yield look.absent(gpu.id)
            continue
        if watts < LOADED_W or look.cards[gpu.id].watts < LOADED_W:
            yield good(gpu.id, "no load to judge by")
            continue
        share = min(1.0, watts / DELTA_AT_W)
        yield above(gpu.id, gpu.junction_c - gpu.edge_c, warn_at=DELTA_WARN_K * share, crit_at=DELTA_CRIT_K * share,
                    unit=" K")  # fmt: skip


def fan(look: Look) -> Iterator[Answer]:
    """A fan that stands while the card is hot, or turns far slower than those of cooler siblings."""
    for gpu in look.awake():
        if gpu.fan_rpm is None:
            yield look.absent(gpu.id)
            continue
        said = f"{gpu.fan_rpm:.0f} rpm"
        if gpu.fan_rpm < 1 and gpu.edge_c is not None and gpu.edge_c > STOPPED_C:
            yield crit(gpu.id, f"{said} at {gpu.edge_c:.0f} °C", limit=f"turns above {STOPPED_C:.0f} °C")
            continue
        least_rpm = TURNS * look.box.kind_of(gpu.id).fan_max_rpm
        others = [rpm for rpm in _cooler_siblings(gpu, look) if rpm > least_rpm]
        if len(others) >= 2:
            median = sorted(others)[len(others) // 2]
            if gpu.fan_rpm < SLOW_FAN * median:
                limit = f"{SLOW_FAN:.1f} × {median:.0f} rpm of cards that are no warmer"
                yield warn(gpu.id, said, limit=limit)
                continue
        yield good(gpu.id, said)


def _cooler_siblings(gpu: Gpu, look: Look) -> list[float]:
    """Speeds of the fans of cards of the same kind that are no warmer."""
    mine_c = gpu.junction_c if gpu.junction_c is not None else gpu.edge_c
    if mine_c is None:
        return []
    kind, found = look.box.kind_of(gpu.id), []
    for other in look.awake():
        its_c = other.junction_c if gpu.junction_c is not None else other.edge_c
        if other.id == gpu.id or its_c is None or other.fan_rpm is None or its_c > mine_c + 1:
            continue
        if look.box.kind_of(other.id) is kind:
            found.append(other.fan_rpm)
    return found


CHECKS = (
    Check("gpu.temp.core", "edge of the die; NVIDIA: degrees left until it slows down",
          "15 K / 5 K below the card's own limit (GeForce 5 K / at it); 5 / 0 K left",
          "the card's crit or T.Limit, else the box's", "clean its filter and fins, lower its power limit by a tenth",
          core, Severity.CRITICAL, after_s=5.0),
    Check("gpu.temp.junction", "hottest spot of the die", "15 K / 5 K below the card's own limit",
          "the card's crit (110 °C is normal on RDNA 3), else the box's", "clean its filter and fins, raise its fan",
          junction, Severity.CRITICAL, after_s=5.0),
    Check("gpu.temp.mem", "the card's memory", "13 K / 5 K below the card's own limit",
          "the card's crit, else the box's", "more air; where it stays, new thermal pads", memory, Severity.CRITICAL,
          after_s=5.0),
    Check("gpu.temp.delta", "junction above edge at 100 W and more", "30 / 40 K at 250 W, in proportion below",
          "healthy cards 15 to 25 K; the 7900 XTX vapour-chamber defect", "new paste, or return the card", delta,
          Severity.CRITICAL, after_s=15.0),
    Check("gpu.fan", "the card's fan, its edge, and fans of siblings that are no warmer",
          "standing above 60 °C is critical; below 0.6 of its siblings' speed",
          "amdgpu zero-rpm; the siblings", "clean it; replace it where it does not turn freely", fan,
          Severity.CRITICAL, after_s=15.0),
)  # fmt: skip
