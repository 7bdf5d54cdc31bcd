"""The network."""

from collections.abc import Iterator

from tinybox.policy.checks.check import Answer, Check, Look, good, warn

WINDOW_S = 600.0
ERRORS = 10


def link(look: Look) -> Iterator[Answer]:
    """A port that had a link has it still, as fast as it was; and one has one at all."""
    known = [nic for nic in look.now.nics if nic.is_up is not None]
    for nic in known:
        speed = nic.speed_mbps or 0
        best = max(speed, look.windows[key].samples[-1][1] if (key := f"nic.link:{nic.id}") in look.windows else 0)
        if nic.is_up:
            look.rise(key, best, 1e9)
            if 0 < speed < best:
                yield warn(nic.id, f"{speed} Mbit/s, it had {best:.0f}")
            else:
                yield good(nic.id, f"{speed} Mbit/s" if speed else "up")
        elif key in look.windows:
            yield warn(nic.id, "lost its link")
        else:
            yield good(nic.id, "nothing plugged in")
    if known and not any(nic.is_up for nic in known) and not any(f"nic.link:{nic.id}" in look.windows for nic in known):
        yield warn("network", "no port has a link")


def errors(look: Look) -> Iterator[Answer]:
    """Packets lost to errors within ten minutes."""
    for nic in look.now.nics:
        if nic.rx_errors is None and nic.tx_errors is None:
            yield look.absent(nic.id)
            continue
        rise = look.rise(f"nic.errors:{nic.id}", (nic.rx_errors or 0) + (nic.tx_errors or 0), WINDOW_S)
        said = f"{rise:.0f} errors within ten minutes"
        yield warn(nic.id, said, limit=f"{ERRORS}") if rise > ERRORS else good(nic.id, said)


CHECKS = (
    Check("nic.link", "ports of the network", "each keeps the link and the speed that it had", "the box itself",
          "see the cable and the switch", link, after_s=5.0, is_slow=True),
    Check("nic.errors", "errors of received and sent packets", "10 within ten minutes", "the kernel's counters",
          "swap the cable, then the switch's port", errors, is_slow=True),
)  # fmt: skip
