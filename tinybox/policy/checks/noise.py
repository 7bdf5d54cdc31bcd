"""Fans that cannot make up their mind: heard before they are seen."""

from collections.abc import Iterator

from tinybox.policy.checks.check import Answer, Check, Look, good, warn
from tinybox.policy.checks.past import Swing

SPAN_S = 600.0
TURNS = 10
SHARE = 0.15  # of its highest speed: less is not heard
STEADY = 0.25  # share by which a card's watts may differ from those of the last minutes


def hunting(look: Look) -> Iterator[Answer]:
    """Every fan's turns up and down; those of a card whose work comes and goes do not count."""
    fans = [(fan.id, fan.rpm, look.box.fans.max_rpm) for fan in look.now.fans]
    fans += [(gpu.id, gpu.fan_rpm, look.box.kind_of(gpu.id).fan_max_rpm) for gpu in look.awake()]
    for device, rpm, most_rpm in fans:
        past = look.cards.get(device)
        if rpm is None:
            yield look.absent(device)
            continue
        swing = look.swings.get(device, Swing(rpm))
        if past is None or abs(past.watts - past.settled_w) <= STEADY * past.settled_w:
            swing = swing.followed(look.now.time_s, rpm, SHARE * most_rpm, SPAN_S)
        look.swings[device] = swing
        said = f"{len(swing.turns_s)} turns within ten minutes"
        yield warn(device, said) if len(swing.turns_s) > TURNS else good(device, said)


CHECKS = (
    Check("noise.hunting", "turns of every fan up and down, by 15 % of its highest speed",
          f"{TURNS} within ten minutes", "LACT issue 1051: what owners complain of most",
          "steadier work, or a wider hysteresis of the fan's curve", hunting, is_slow=True),
)  # fmt: skip
