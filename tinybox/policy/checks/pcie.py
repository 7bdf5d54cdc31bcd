"""Links of cards: as fast and wide as they can under load, and free of errors."""

from collections.abc import Iterator

from tinybox.core.snapshot import Gpu, PcieLink, Severity
from tinybox.policy.checks.check import Answer, Check, Look, crit, good, warn

LOAD_PCT = 30.0
WAKES_S = 3.0
READ_EVERY_S = 8.0  # links, by the slow thread
MINUTE_S, HOUR_S, DAY_S = 60.0, 3600.0, 86400.0
BAR_SHARE = 0.95  # of a card's memory some is its own
COR_WARN, COR_CRIT = 10, 100
# A bit error rate of 1e-12 gives so many replays a minute and lane, by transfers a second (DCGM's limits).
REPLAYS_PER_LANE = ((32.0, 1.92), (16.0, 0.96), (8.0, 0.48), (5.0, 0.3), (0.0, 0.15))


def link(look: Look) -> Iterator[Answer]:
    """Width and speed of a card at work; at rest a link may go slower."""
    links = {one.id: one for one in look.now.links}
    for gpu in look.awake():
        if gpu.link_width is None or gpu.busy_pct is None:
            yield look.absent(gpu.id)
        elif gpu.busy_pct <= LOAD_PCT:
            yield good(gpu.id, f"x{gpu.link_width} at rest")
        elif not look.is_only and _worked_s(gpu, look) < WAKES_S:
            yield good(gpu.id, f"x{gpu.link_width}, at work since a moment")
        else:
            yield _judge_link(gpu, links.get(gpu.id), look)


def _worked_s(gpu: Gpu, look: Look) -> float:
    since_s = look.cards[gpu.id].work_since_s
    return 0.0 if since_s is None else look.now.time_s - since_s


def _judge_link(gpu: Gpu, found: PcieLink | None, look: Look) -> Answer:
    kind = look.box.kind_of(gpu.id)
    width, gts = kind.link_width, kind.link_gts
    slot = int(gpu.id.partition("/")[2]) + 1
    assert gpu.link_width is not None
    if gpu.link_width < width:
        return crit(gpu.id, f"runs at PCIe x{gpu.link_width} of x{width}", limit=f"x{width}",
                    advice=f"reseat the card in slot {slot} and its riser")  # fmt: skip
    now_gts = gpu.link_gts
    # What the slow thread read before the card began to work tells of a link at rest.
    age_s = look.now.time_s - (look.now.slow_time_s or 0.0) + READ_EVERY_S
    if now_gts is None and found is not None and (look.is_only or age_s + WAKES_S < _worked_s(gpu, look)):
        now_gts = found.gts
    if now_gts is not None and now_gts < gts:
        return warn(gpu.id, f"runs at {now_gts:g} of {gts:g} GT/s", limit=f"{gts:g} GT/s",
                    advice=f"reseat the card in slot {slot} and its riser")  # fmt: skip
    return good(gpu.id, f"x{gpu.link_width} at {now_gts or 0:g} GT/s")


def replay(look: Look) -> Iterator[Answer]:
    """Packets that were sent again within a minute."""
    for one in look.now.links:
        if not one.id.startswith("gpu/"):
            continue
        if one.replays is None:
            yield Answer(one.id, look.absent(one.id).status, "not counted")
            continue
        lane = next((rate for gts, rate in REPLAYS_PER_LANE if (one.gts or 16.0) >= gts), REPLAYS_PER_LANE[-1][1])
        limit = max(1.0, lane * (one.width or 16))
        a_minute = look.rise(f"replay:{one.id}", one.replays, MINUTE_S)
        said, limits = f"{a_minute:.0f} replays within a minute", f"{limit:.0f} / {10 * limit:.0f} a minute"
        judge = crit if a_minute > 10 * limit else warn if a_minute > limit else None
        yield good(one.id, said) if judge is None else judge(one.id, said, limit=limits)


def _links(look: Look) -> list[PcieLink]:
    """Every card's, and of drives and network ports those that count."""
    return [
        one for one in look.now.links if one.id.startswith("gpu/") or one.aer is not None or one.port_aer is not None
    ]


def correctable(look: Look) -> Iterator[Answer]:
    """Corrected errors within an hour, of the device and of the port above it: often only one of them counts."""
    for one in _links(look):
        counts = [aer.correctable for aer in (one.aer, one.port_aer) if aer is not None]
        if not counts:
            yield Answer(one.id, look.absent(one.id).status, "not counted")
            continue
        rises = [look.rise(f"aer.cor{i}:{one.id}", value, HOUR_S) for i, value in enumerate(counts)]
        said = f"{max(rises):.0f} corrected errors within the hour"
        judge = crit if max(rises) > COR_CRIT else warn if max(rises) > COR_WARN else None
        yield good(one.id, said) if judge is None else judge(one.id, said, limit=f"{COR_WARN} / {COR_CRIT} an hour")


def uncorrectable(look: Look) -> Iterator[Answer]:
    """Errors that were not corrected within an hour."""
    for one in _links(look):
        found = [aer for aer in (one.aer, one.port_aer) if aer is not None]
        if not found:
            yield Answer(one.id, look.absent(one.id).status, "not counted")
            continue
        fatal = max(look.rise(f"aer.fatal{i}:{one.id}", aer.fatal, HOUR_S) for i, aer in enumerate(found))
        nonfatal = max(look.rise(f"aer.nonfatal{i}:{one.id}", aer.nonfatal, HOUR_S) for i, aer in enumerate(found))
        if fatal > 0:
            yield crit(one.id, f"{fatal:.0f} fatal errors within the hour", limit="none")
        elif nonfatal > 0:
            yield warn(one.id, f"{nonfatal:.0f} uncorrected errors within the hour", limit="none")
        else:
            yield good(one.id, "none within the hour")


def rebar(look: Look) -> Iterator[Answer]:
    """The window into a card's memory shows all of it."""
    links = {one.id: one for one in look.now.links}
    for gpu in look.awake():
        found, vram_bytes = links.get(gpu.id), gpu.vram_total_bytes or look.box.kind_of(gpu.id).vram_bytes
        if found is None or found.bar_bytes is None:
            yield look.absent(gpu.id)
        elif found.bar_bytes < BAR_SHARE * vram_bytes:
            yield warn(gpu.id, f"its window shows {found.bar_bytes / 2**20:.0f} of {vram_bytes / 2**20:.0f} MiB")
        else:
            yield good(gpu.id, f"its window is {found.bar_bytes / 2**30:.0f} GiB")


CHECKS = (
    Check("pcie.link", "link of a card at more than 30 % load", "narrower is critical, slower a warning", "the box",
          "reseat the card and its riser", link, Severity.CRITICAL, after_s=5.0),
    Check("pcie.replay", "replays within a minute", "1 / 10 times what a bit error rate of 1e-12 gives (Gen4 x16: 15)",
          "DCGM's hardware limits", "reseat or swap the riser; set the slot to PCIe 3.0", replay, Severity.CRITICAL,
          is_slow=True),
    Check("pcie.aer.cor", "corrected errors of device and root port within an hour", "10 / 100 an hour", "kernel AER",
          "reseat or swap the riser; set the slot to PCIe 3.0", correctable, Severity.CRITICAL, is_slow=True),
    Check("pcie.aer.unc", "uncorrected errors of device and root port within an hour", "any / any fatal", "kernel AER",
          "reseat or swap the riser", uncorrectable, Severity.CRITICAL, is_slow=True),
    Check("pcie.rebar", "the card's largest BAR against its memory", "at least its memory", "the card",
          "turn on Above 4G Decoding and Resizable BAR in the board's set-up", rebar, is_slow=True),
)  # fmt: skip
