"""`tinybox arm` and `tinybox disarm`: who governs this box, and every card's own limits given back afterwards."""

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace

import click

from tinybox.cli.ask import confirm
from tinybox.client import DaemonAbsent, fetch
from tinybox.core.actions import Action, FreezeWork, SetCpuCap
from tinybox.core.armed import Armed, CardLimits, arming_lock, load_armed, save_armed
from tinybox.core.box import Box, load_box
from tinybox.core.circuit import Circuit, circuit_of
from tinybox.core.commission import load_commission
from tinybox.core.config import Config, Folders, load_config
from tinybox.core.errors import HardwareError, TinyboxError
from tinybox.core.snapshot import GpuState, Severity
from tinybox.hw.cpu import CAP_TOLERANCE_W
from tinybox.hw.hardware import DRIVERS, Hardware
from tinybox.hw.host import Host
from tinybox.hw.pcie import VENDORS, graphics_cards

LOCK_S = 10.0
FOLLOWS_S = 30.0  # a daemon that is between two sessions may be waiting for a slow tool
FAILSAFE_ROUND_S = 0.6  # a failsafe that read its list before it was taken away has written all of it by then


@dataclass(frozen=True, slots=True)
class Plan:
    """What arming would let the daemon do, and the limits in force now."""

    box: Box
    circuit: Circuit
    guarantee: str
    cards: tuple[CardLimits, ...]
    others: tuple[str, ...]  # cards whose limits cannot be read now


@click.command(epilog="Examples: 'tinybox arm', 'tinybox arm --yes --json'")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
def arm(yes: bool, as_json: bool) -> None:
    """Let tinyboxd govern this box: it limits the cards so that the outlet's promise holds.

    Every card's limits are noted first; 'tinybox disarm' gives them back.
    """
    folders, host = Folders.from_environment(), Host.from_environment()
    before = load_armed(folders.state)
    if before is not None and before.is_armed:
        _answer({"is_armed": True}, "armed already: nothing to do", as_json=as_json)
        return
    plan, hardware = _planned(folders, host)
    click.echo(_plan_text(plan), err=as_json)
    confirm("Let tinyboxd govern these cards?", yes=yes)
    kept = before.cards if before is not None else ()
    with _switching(folders, "arm this box"):
        known = {card.pci for card in kept}  # of a disarming that did not reach them: older, and so the owner's own
        fresh = (card for card in plan.cards if card.pci not in known)
        cpu_cap_w = before.cpu_cap_w if before is not None and before.cpu_cap_w is not None else hardware.cpu_cap_w()
        save_armed(folders.state, Armed(True, round(time.time(), 3), cpu_cap_w, (*kept, *fresh)))
    hardware.release()
    follows = _daemon_follows(folders, is_armed=True)
    if follows is None:
        click.echo("tinyboxd does not run: nothing governs until it does ('systemctl start tinyboxd')", err=True)
    elif not follows:
        hint = "see 'journalctl -u tinyboxd'; 'tinybox disarm' takes it back"
        raise TinyboxError(f"armed, but tinyboxd did not begin to govern within {FOLLOWS_S:g} s", hint=hint)
    _answer(_plan_document(plan), f"armed: {plan.circuit.promised_a:.1f} A promised", as_json=as_json)


@click.command(epilog="Examples: 'tinybox disarm', 'tinybox disarm --yes --json'")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
def disarm(yes: bool, as_json: bool) -> None:
    """Stop governing, and give every card the limits back that it had before it was armed.

    What cannot be given back stays noted: run it again. Sleeping cards are woken for it.
    """
    folders, host = Folders.from_environment(), Host.from_environment()
    armed = _recorded(folders, host)
    if armed is None:
        _answer({"is_armed": False, "restored": [], "failed": {}}, "not armed: nothing to do", as_json=as_json)
        return
    if armed.is_armed:
        click.echo("from then on nothing keeps this box inside its outlet", err=True)
        confirm(f"Give {len(armed.cards)} cards their own limits back?", yes=yes)
    armed = _stop_governing(folders, host, armed)
    failed = _give_back(_some_hardware(folders, host), armed)
    _keep(folders, armed, failed)
    _daemon_follows(folders, is_armed=False)
    restored = [card.pci for card in armed.cards if card.pci not in failed]
    document = {"is_armed": False, "restored": restored, "failed": failed}
    words = f"disarmed: {len(restored)} cards have their own limits back; the outlet is no longer protected"
    if not failed:
        _answer(document, words, as_json=as_json)
        return
    if as_json:
        click.echo(json.dumps(document, indent=2))
    for device, reason in failed.items():
        click.echo(f"{device}: {reason}", err=True)
    sys.stdout.flush()
    hint = "nothing governs them any more, their limits stay noted: mend that and run 'tinybox disarm' again"
    raise TinyboxError(f"disarmed, but not all of it has its own limits back: {', '.join(failed)}", hint=hint)


def _planned(folders: Folders, host: Host) -> tuple[Plan, Hardware]:
    """What would be governed. Raises TinyboxError where it cannot or must not be."""
    config = load_config(folders.config)
    box = load_box(config.box, folders.boxes)
    circuit = circuit_of(box, config)
    if unknown := {kind.vendor for kind in box.gpus} - set(DRIVERS):
        hint = f"tinyboxd goes on observing them; there are drivers for: {', '.join(DRIVERS)}"
        raise TinyboxError(
            f"cards of box '{box.name}' are {' and '.join(sorted(unknown))}: nobody governs them", hint=hint
        )
    hardware = Hardware(host, box, config, folders.run)
    for fault in hardware.mismatch():
        if fault.severity is Severity.CRITICAL:
            hint = "'tinybox init' finds out what this machine is"
            raise TinyboxError(f"this machine is not a '{box.name}' box: {fault.reason}", hint=hint)
    gpus = [gpu for gpu in hardware.read_fast(time.monotonic()).gpus if gpu.state is not GpuState.GONE]
    if not gpus:
        hint = "is its driver loaded, is a card seated? 'tinybox status' shows what is seen"
        raise TinyboxError(f"no card of box '{box.name}' is there: nothing to govern", hint=hint)
    cards = hardware.limits(gpus)
    guarantee = config.power.guarantee_of(is_commissioned=load_commission(folders.state, box) is not None)
    told = {card.pci for card in cards}
    return Plan(box, circuit, guarantee, cards, tuple(g.pci for g in gpus if g.pci not in told)), hardware


def _plan_text(plan: Plan) -> str:
    circuit = plan.circuit
    lines = [
        f"box        {plan.box.name} ({plan.box.title})",
        f"circuit    {circuit.volts:g} V, {circuit.rating_a:g} A: {circuit.promised_a:.1f} A promised",
        f"guarantee  {plan.guarantee}",
    ]
    for card in plan.cards:
        cap = f"cap {card.cap_w:.0f} W" if card.cap_w is not None else "cap unreadable"
        clock = f"clock limit {card.clock_limit_mhz} MHz" if card.clock_limit_mhz is not None else f"level {card.level}"
        lines.append(f"card       {card.pci}  now: {cap}, {clock}")
    lines += [f"card       {address}  asleep or without its driver: noted when it shows" for address in plan.others]
    return "\n".join(lines)


def _plan_document(plan: Plan) -> dict[str, object]:
    circuit = plan.circuit
    return {
        "is_armed": True,
        "box": plan.box.name,
        "volts": circuit.volts,
        "rating_a": circuit.rating_a,
        "promised_a": round(circuit.promised_a, 3),
        "guarantee": plan.guarantee,
        "cards": [asdict(card) for card in plan.cards],
    }


def _recorded(folders: Folders, host: Host) -> Armed | None:
    """The record; from a broken file, the factory's limits for every card that we have a driver for."""
    try:
        return load_armed(folders.state)
    except TinyboxError as error:
        click.echo(f"{error.message}: every card gets the factory's limits", err=True)
        found = (card.address for card in graphics_cards(host, {}) if VENDORS.get(card.pci_id[:4]) in DRIVERS)
        return Armed(True, cards=tuple(CardLimits(address) for address in found))


def _stop_governing(folders: Folders, host: Host, armed: Armed) -> Armed:
    """No more writes by anybody of ours when this returns. The record as it is then."""
    with _switching(folders, "disarm this box"):
        had_list = folders.failsafe_list.exists()
        folders.failsafe_list.unlink(missing_ok=True)
        with suppress(TinyboxError):  # the daemon may have added a card while a person was asked
            armed = load_armed(folders.state) or armed
        try:
            save_armed(folders.state, replace(armed, is_armed=False))
        except OSError as error:
            # A full disk keeps nobody from disarming: then this process alone remembers the record.
            click.echo(f"cannot keep the record ({error.strerror}): what fails now stays as it is", err=True)
            save_armed(folders.state, None)
    if had_list:
        time.sleep(FAILSAFE_ROUND_S)
    return armed


def _give_back(hardware: Hardware, armed: Armed) -> dict[str, str]:
    """Every card its limits, the processor its own, stopped work its life; what failed, by device."""
    failed: dict[str, str] = {}
    for card in armed.cards:
        try:
            hardware.restore(card)
        except HardwareError as error:
            failed[card.pci] = str(error)
    actions: list[Action] = [FreezeWork(is_frozen=False)]
    cap_w = hardware.cpu_cap_w()
    if armed.cpu_cap_w is not None and cap_w is not None and abs(cap_w - armed.cpu_cap_w) > CAP_TOLERANCE_W:
        actions.append(SetCpuCap(armed.cpu_cap_w))
    failed |= {fault.device: fault.reason for fault in hardware.failsafe(actions)}
    hardware.release()
    return failed


def _keep(folders: Folders, armed: Armed, failed: dict[str, str]) -> None:
    """The record of what is still owed; none where nothing is."""
    cards = tuple(card for card in armed.cards if card.pci in failed)
    rest = Armed(False, armed.since_unix_s, armed.cpu_cap_w if "cpu" in failed else None, cards)
    with _switching(folders, "tidy the record up"):
        now = load_armed(folders.state)
        if now is None or not now.is_armed:
            save_armed(folders.state, rest if cards or rest.cpu_cap_w is not None else None)


def _some_hardware(folders: Folders, host: Host) -> Hardware:
    """The machine, also where its settings are broken: addresses say which card is meant."""
    try:
        config = load_config(folders.config)
        return Hardware(host, load_box(config.box, folders.boxes), config, folders.run)
    except TinyboxError:
        return Hardware(host, load_box("red"), Config(), folders.run)


@contextmanager
def _switching(folders: Folders, what: str) -> Iterator[None]:
    """Alone with the switch: no program of ours writes a limit meanwhile. Raises TinyboxError."""
    try:
        with arming_lock(folders, is_shared=False, timeout_s=LOCK_S):
            yield
    except TimeoutError as error:
        hint = "tinyboxd hangs in a write: 'systemctl stop tinyboxd', then run this again"
        raise TinyboxError(f"cannot {what}: {error}", hint=hint) from None
    except OSError as error:
        hint = "run it as root and see that there is room; a twin's owner needs 'tinybox twin env'"
        where = error.filename or folders.state
        raise TinyboxError(f"cannot {what}: {where}: {(error.strerror or '').lower()}", hint=hint) from None


def _daemon_follows(folders: Folders, *, is_armed: bool) -> bool | None:
    """Whether the running daemon says so too, within its time; None: none runs."""
    deadline_s = time.monotonic() + FOLLOWS_S
    while time.monotonic() < deadline_s:
        try:
            if json.loads(fetch(str(folders.socket), "/status", timeout_s=2.0)).get("is_armed") is is_armed:
                return True
        except DaemonAbsent:
            return None
        except TinyboxError:
            pass  # it is starting, or slow
        time.sleep(0.1)
    return False


def _answer(document: dict[str, object], words: str, *, as_json: bool) -> None:
    click.echo(json.dumps(document, indent=2) if as_json else words)
    sys.stdout.flush()
