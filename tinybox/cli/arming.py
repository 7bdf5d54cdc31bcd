"""`tinybox arm` and `tinybox disarm`: the owner's switch. Until it is on, the suite reads and writes nothing."""

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import click

from tinybox.core.arming import Arming, load_arming, save_arming
from tinybox.core.box import load_box
from tinybox.core.circuit import circuit_of
from tinybox.core.config import Folders, load_config
from tinybox.core.errors import TinyboxError

FOLLOWS_S = 20.0  # a daemon looks once a turn: ten seconds when it idles slowest, and writes six cards then
HELP = {"help_option_names": ["-h", "--help"]}


@click.command(context_settings=HELP, epilog="Examples: 'tinybox arm', 'sudo tinybox arm --yes'")
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
@click.option("--unchecked", is_flag=True, help="Also on a machine that is not this kind of box: held at its floor.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def arm(as_json: bool, unchecked: bool, yes: bool) -> None:
    """Let the daemon govern this machine.

    From then on it limits clocks and caps of every card so that the outlet's promise is kept, also after a reboot and
    over upgrades. The limits of now are kept, and 'tinybox disarm' gives them back.
    """
    folders = Folders.from_environment()
    config = load_config(folders.config)
    box = load_box(config.box, folders.boxes)
    circuit = circuit_of(box, config)
    if not unchecked:
        _refuse_another_box(folders, box.name)
    arming = load_arming(folders.state)
    if not arming.is_armed or arming.broken is not None:
        promise = f"{circuit.promised_a:g} A on {circuit.volts:g} V"
        _ask(f"Box '{box.name}': {len(box.gpu.slots)} cards are held within {promise}. Arm it?", yes=yes)
        # What a broken record knew is lost: those cards get the factory's limits back one day.
        save_arming(folders.state, Arming(is_armed=True, originals=arming.originals, cpu_cap_w=arming.cpu_cap_w))
    has_daemon = _follows(folders, is_armed=True)
    if as_json:
        click.echo(
            json.dumps({"is_armed": True, "box": box.name, "budget_a": circuit.promised_a, "daemon": has_daemon})
        )
        return
    click.echo(f"armed: {box.name}, {circuit.promised_a:g} A promised")
    if not has_daemon:
        click.echo("tinyboxd is not running, so nobody governs yet: 'systemctl start tinyboxd'", err=True)


@click.command(context_settings=HELP, epilog="Examples: 'tinybox disarm', 'sudo tinybox disarm --yes'")
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def disarm(as_json: bool, yes: bool) -> None:
    """Give every card the limits it had before it was armed; from then on the machine is only observed.

    Nobody protects the outlet then. What cannot be given back (a card that is away or refuses) is named, stays in the
    record, and is tried again by the next 'tinybox disarm'.
    """
    folders = Folders.from_environment()
    arming = load_arming(folders.state)
    if not arming.is_armed and not arming.originals and arming.cpu_cap_w is None:
        _done(folders, as_json=as_json, words="not armed: there is nothing to give back")
        return
    _ask("Nobody protects the outlet once the limits are gone. Disarm?", yes=yes)
    save_arming(folders.state, replace(arming, is_armed=False, broken=None))
    # A daemon that follows gives the limits back itself, in one of its turns: nobody lowers them again in between.
    if not (arming.is_armed and _follows(folders, is_armed=False)):
        _give_back()
    if left := [one.pci for one in load_arming(folders.state).originals]:
        hint = "'tinybox status' says what is wrong with them; then run 'tinybox disarm' again"
        raise TinyboxError(f"disarmed, but not given back to {', '.join(left)}", hint=hint)
    _done(folders, as_json=as_json, words="disarmed: every card has the limits of before")


def _refuse_another_box(folders: Folders, name: str) -> None:
    from tinybox.cli.offline import machine_mismatch

    found = [f"{device}: {reason}" for device, reason in machine_mismatch(folders, only_critical=True)]
    if found:
        hint = "'tinybox init' writes the settings for this machine"
        raise TinyboxError(f"this machine is not a '{name}' box: {'; '.join(found)}", hint=hint)


def _ask(question: str, *, yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise TinyboxError("nobody is there to be asked", hint="add --yes if it is meant")
    click.confirm(question, abort=True, err=True)


def _follows(folders: Folders, *, is_armed: bool) -> bool:
    """Whether a daemon runs; returns once it does as told. Raises TinyboxError when it does not."""
    from tinybox.client import DaemonAbsent, fetch

    deadline_s = time.monotonic() + FOLLOWS_S
    while time.monotonic() < deadline_s:
        try:
            if json.loads(fetch(str(folders.socket), "/status"))["is_armed"] == is_armed:
                return True
        except DaemonAbsent:
            return False
        time.sleep(0.1)
    raise TinyboxError(
        "tinyboxd does not follow", hint="'journalctl -u tinyboxd' says why; 'systemctl restart tinyboxd'"
    )


def _give_back() -> None:
    """By the daemon's own program, which knows the cards and refuses to meet itself."""
    program = Path(sys.argv[0]).absolute().with_name("tinyboxd")
    done = subprocess.run(
        [str(program), "--give-back"], env=os.environ, capture_output=True, text=True, timeout=60, check=False
    )
    if done.returncode != 0:
        said = done.stderr.strip().splitlines() or ["it said nothing"]
        raise TinyboxError(said[0].removeprefix("tinyboxd: "), hint=" ".join(said[1:]).strip())


def _done(folders: Folders, *, as_json: bool, words: str) -> None:
    click.echo(json.dumps({"is_armed": load_arming(folders.state).is_armed}) if as_json else words)
