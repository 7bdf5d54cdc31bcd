"""`tinybox init`: what this machine is, and the circuit it hangs on. Writes settings, never a limit."""

import difflib
import json
import re
import sys
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

import click

from tinybox.cli.ask import confirm, given_or_asked
from tinybox.core.box import Box, known_boxes, load_box, parse_box
from tinybox.core.circuit import OUTLETS, circuit_of
from tinybox.core.config import CircuitConfig, Config, Folders, load_config
from tinybox.core.durable import write_durably
from tinybox.core.errors import TinyboxError
from tinybox.core.newbox import CardFacts, NewBox, new_box_text
from tinybox.hw.hardware import DRIVERS
from tinybox.hw.host import Host
from tinybox.hw.survey import Found, FoundCard, survey

LIKE = {"amd": "red", "nvidia": "green", "intel": "blue"}  # the box that an unknown card is taken to be like
NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,30}")
OUTLET = re.compile(r"(\d+(?:\.\d+)?)\s*V\s*/\s*(\d+(?:\.\d+)?)\s*A", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Given:
    """What was said on the command line; the rest is found or asked."""

    yes: bool
    psu_count: float | None
    psu_watts: float | None
    cpu_watts: float | None
    gpu_watts: float | None
    other_watts: float | None


@click.command(epilog="Examples: 'tinybox init', 'tinybox init --outlet 120V/20A --yes', 'tinybox init --box red'")
@click.option("--yes", is_flag=True, help="Ask nothing; what is not found has to be said. Overwrites nothing.")
@click.option("--box", "known", metavar="NAME", help="It is this known kind of box: do not look.")
@click.option("--name", default="rig", show_default=True, help="What to call a kind of box that is not known.")
@click.option("--outlet", metavar="VOLTS/AMPS", help="Of the circuit's breaker: 120V/15A, 230V/16A …")
@click.option("--psu-count", type=click.IntRange(1, 8), help="Power supplies.")
@click.option("--psu-watts", type=click.FloatRange(100, 5000), help="What each of them is rated for.")
@click.option("--cpu-watts", type=click.FloatRange(10, 2000), help="The most the processors draw, boost included.")
@click.option("--gpu-watts", type=click.FloatRange(30, 1500), help="The most one card draws.")
@click.option("--other-watts", type=click.FloatRange(0, 5000), help="The most all cards draw that are not governed.")
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
def init(yes: bool, known: str | None, name: str, outlet: str | None, as_json: bool, **figures: float | None) -> None:
    """Find out what this machine is, name its circuit, and write both down.

    A known kind of box is recognised by its cards and supplies; for another one a TOML is written to
    /etc/tinybox/boxes. Asks for what the machine does not tell. Nothing is governed: 'tinybox arm' does that.
    """
    folders, host = Folders.from_environment(), Host.from_environment()
    _refuse_existing((folders.config,), yes=yes)
    found = survey(host, load_config(folders.config).bmc)  # settings may say already how the controller is reached
    for line in _found_lines(found):
        click.echo(line, err=True)
    box, files = _box(folders, found, Given(yes, **figures), known=known, name=name)
    circuit = given_or_asked(
        _outlet(outlet) if outlet is not None else None,
        "Which outlet is the box plugged into (120V/15A, 230V/16A …)",
        "--outlet",
        yes=yes,
        read=_outlet,
    )
    promised_a = circuit_of(box, Config(circuit=circuit)).promised_a
    files[folders.config] = _config_text(box, circuit, has_bmc=found.has_bmc or not files)
    _refuse_existing(tuple(files), yes=yes)
    _write(files)
    document = {
        "box": box.name,
        "is_known": len(files) == 1,
        "can_be_governed": box.gpu.vendor in DRIVERS,
        "promised_a": round(promised_a, 3),
        "written": [str(path) for path in files],
        "found": asdict(found),
    }
    words = f"box {box.name}, {promised_a:.1f} A promised: written to {', '.join(map(str, files))}"
    click.echo(json.dumps(document, indent=2) if as_json else words)
    sys.stdout.flush()
    click.echo("next: 'systemctl restart tinyboxd' and watch it observe; 'tinybox arm' lets it govern", err=True)


def _box(folders: Folders, found: Found, given: Given, *, known: str | None, name: str) -> tuple[Box, dict[Path, str]]:
    """The kind of box, and its file where it has to be written. Raises TinyboxError."""
    if known is not None:
        return load_box(known, folders.boxes), {}
    if not found.cards:
        hint = "is the card seated and powered ('lspci')? '--box NAME' takes a known kind of box all the same"
        raise TinyboxError("no graphics card on the PCI bus", hint=hint)
    if (recognised := _recognised(folders, found)) is not None:
        return recognised, {}
    if not NAME.fullmatch(name) or name in known_boxes():
        raise TinyboxError(f"a new kind of box cannot be called '{name}'", hint="small letters, digits and dashes")
    cards = _governed_cards(found.cards)
    base = _base(cards[0])
    path = folders.boxes / f"{name}.toml"
    text = new_box_text(_new_box(found, cards, base, given, name), base)
    return parse_box(name, text, where=str(path)), {path: text}


def _recognised(folders: Folders, found: Found) -> Box | None:
    """The known kind of box that has these cards, all of them, and these supplies; the owner's own first."""
    ids = Counter(card.pci_id for card in found.cards)
    own = {path.stem for path in folders.boxes.glob("*.toml")}
    for name in sorted(known_boxes(folders.boxes), key=lambda name: (name not in own, name)):
        try:
            box = load_box(name, folders.boxes)
        except TinyboxError as error:
            click.echo(f"{error.message}: it is not looked at", err=True)
            continue
        if ids == {kind.pci_id: len(kind.slots) for kind in box.gpus} and found.psu_count == box.psu.count:
            return box
    return None


def _governed_cards(cards: tuple[FoundCard, ...]) -> list[FoundCard]:
    """The cards of the box: the largest group of one kind, of those that can be governed."""
    counts = Counter(card.pci_id for card in cards)
    ranked = sorted(cards, key=lambda card: (card.vendor in DRIVERS, counts[card.pci_id], card.cap_max_w or 0.0))
    return [card for card in cards if card.pci_id == ranked[-1].pci_id]


def _base(card: FoundCard) -> Box:
    """The box of the suite with this very card and no other, else the one with its maker's."""
    boxes = [box for name in known_boxes() if not (box := load_box(name)).is_mixed]
    same = next((box for box in boxes if box.gpu.pci_id == card.pci_id), None)
    return same or load_box(LIKE.get(card.vendor, "red"))


def _new_box(found: Found, cards: list[FoundCard], base: Box, given: Given, name: str) -> NewBox:
    def asked(value: float | None, question: str, option: str) -> float:
        return given_or_asked(value, question, option, yes=given.yes, read=_watts)

    others = [card for card in found.cards if card not in cards]
    count = found.psu_count or (int(given.psu_count) if given.psu_count is not None else None)
    return NewBox(
        name=name,
        cards=_card_facts(cards, base, given),
        cpu_name=found.cpu_name or "unknown",
        cpu_cores=found.cpu_cores or base.cpu.cores,
        cpu_watts=asked(given.cpu_watts, "The most watts the processors draw, boost included", "--cpu-watts"),
        memory_bytes=found.memory_bytes or base.cpu.memory_bytes,
        psu_count=given_or_asked(count, "How many power supplies", "--psu-count", yes=given.yes, read=_count),
        psu_watts=asked(given.psu_watts, "The watts one power supply is rated for", "--psu-watts"),
        other_watts=asked(
            given.other_watts if others else 0.0,
            f"The most watts that the {len(others)} cards draw together that are not governed",
            "--other-watts",
        ),
        fan_count=found.fan_count,
    )


def _card_facts(cards: list[FoundCard], base: Box, given: Given) -> CardFacts:
    """The cards, by the one of them that tells most: some may sleep."""
    card = max(cards, key=lambda one: sum(value is not None for value in asdict(one).values()))
    slots = tuple(one.address for one in cards)
    if card.pci_id == base.gpu.pci_id:
        return CardFacts(base.gpu.name, card.pci_id, slots)
    told_w = round(card.cap_max_w / base.gpu.socket_to_board_min, 1) if card.cap_max_w is not None else None
    question = "The most watts one card draws (its data sheet's board power)"
    board_w = given_or_asked(given.gpu_watts or told_w, question, "--gpu-watts", yes=given.yes, read=_watts)
    cap_max_w = card.cap_max_w or round(board_w * base.gpu.socket_to_board, 1)
    return CardFacts(
        name=card.name or f"{card.vendor} graphics card {card.pci_id}",
        pci_id=card.pci_id,
        slots=slots,
        board_power_max_w=board_w,
        cap_min_w=card.cap_min_w or round(0.5 * cap_max_w, 1),
        cap_max_w=cap_max_w,
        cap_default_w=card.cap_default_w or cap_max_w,
        vram_bytes=card.vram_bytes,
        clock_min_mhz=card.clock_min_mhz,
        clock_max_mhz=card.clock_max_mhz,
        overdrive=card.has_overdrive,
        edge_crit_c=card.edge_crit_c,
        junction_crit_c=card.junction_crit_c,
        memory_crit_c=card.memory_crit_c,
        fan_max_rpm=card.fan_max_rpm,
        link_width=card.link_width,
        link_gts=card.link_gts,
    )


def _found_lines(found: Found) -> list[str]:
    """What there is, and what of it can be governed."""
    lines = []
    governed = _governed_cards(found.cards)
    for card in found.cards:
        words = "" if card in governed else ": of another kind, it is only watched and counts as load"
        if card.vendor not in DRIVERS:
            words = f": {card.vendor}, which nobody governs"
        called = f" {card.name}" if card.name else ""
        lines.append(f"card     {card.address}  {card.pci_id}{called}{words}")
    lines.append(f"supplies {found.psu_count} with a sensor" if found.psu_count else "supplies none has a sensor")
    bmc = f"BMC with {found.fan_count} fans" if found.has_bmc else "no BMC answers: its fans are not seen"
    lines += [f"board    {bmc}", f"drives   {', '.join(found.drives) or 'no NVMe'}"]
    return lines


def _config_text(box: Box, circuit: CircuitConfig, *, has_bmc: bool) -> str:
    lines = [f'box = "{box.name}"', "", "[circuit]"]
    if circuit.outlet is not None:
        lines.append(f'outlet = "{circuit.outlet}"')
    else:
        lines += [f"volts = {circuit.volts:.1f}", f"amps = {circuit.amps:.1f}"]
    if not has_bmc:
        lines += ["", "[bmc] # none answered when 'tinybox init' looked", 'interface = "none"']
    return "\n".join(lines) + "\n"


def _outlet(text: str) -> CircuitConfig:
    """`120V/15A`. Raises TinyboxError for what is no circuit of a house."""
    match = OUTLET.fullmatch(text.strip())
    if match is None or not (90 <= float(match[1]) <= 260 and 5 <= float(match[2]) <= 100):
        raise TinyboxError(f"'{text}' is no outlet", hint="volts and amps of its breaker, such as 120V/15A or 230V/16A")
    volts, amps = float(match[1]), float(match[2])
    name = next((name for name, pair in OUTLETS.items() if pair == (volts, amps)), None)
    return CircuitConfig(outlet=name) if name is not None else CircuitConfig(volts=volts, amps=amps)


def _watts(text: str) -> float:
    value = float(text.removesuffix("W").strip())
    if not 0 <= value <= 5000:
        raise ValueError(f"{value:g} W cannot be")
    return value


def _count(text: str) -> int:
    value = int(text)
    if not 1 <= value <= 8:
        raise ValueError(f"{value} cannot be")
    return value


def _refuse_existing(paths: tuple[Path, ...], *, yes: bool) -> None:
    for path in paths:
        if yes and path.exists():
            hint = "move it away, or run it without --yes: then it shows the difference and asks"
            raise TinyboxError(f"{path} exists, and --yes overwrites nothing", hint=hint)


def _write(files: dict[Path, str]) -> None:
    """All of them or none. Raises TinyboxError."""
    try:
        for path, text in files.items():
            if path.exists():
                old = path.read_text().splitlines(keepends=True)
                new = text.splitlines(keepends=True)
                click.echo("".join(difflib.unified_diff(old, new, str(path), "new")), err=True)
                confirm(f"Overwrite {path}?", yes=False)
        write_durably(files)
    except OSError as error:
        where = error.filename or ", ".join(map(str, files))
        hint = "nothing was written; run it as root, see that there is room, or point TINYBOX_CONFIG elsewhere"
        raise TinyboxError(f"cannot write {where}: {(error.strerror or str(error)).lower()}", hint=hint) from None
