"""`tinybox twin`: a digital twin of a box on this machine, to learn on, to develop on, to break on purpose."""

import json
import os
import signal
import sys

import click

from tinybox.core.box import load_box
from tinybox.core.errors import TinyboxError
from tinybox.twin import control, namespace
from tinybox.twin.bmc import BOARDS
from tinybox.twin.constants import KINDS
from tinybox.twin.place import Place, default_folder
from tinybox.twin.tree import SHOWN

HELP = {"help_option_names": ["-h", "--help"]}


def here() -> Place:
    """The twin that TINYBOX_TWIN_DIR names."""
    return Place(default_folder())


@click.group(
    context_settings=HELP,
    epilog="""Example: 'tinybox twin up --box red' and 'eval "$(tinybox twin env)"', then 'tinyboxd &'.""",
)
def twin() -> None:
    """Run a digital twin of a box on this machine.

    The twin shows the real programs a real machine: sysfs, a BMC, supplies, drives, behind them a plant with power,
    heat, noise and a breaker. TINYBOX_TWIN_DIR names its folder; several twins run side by side in several folders.
    """


@twin.command()
@click.option("--box", default="red", show_default=True, help="Kind of box.")
@click.option("--foreground", is_flag=True, help="Stay; for service managers (speaks sd_notify).")
@click.option("--real-storage", is_flag=True, help="Drives and array are this machine's own; for a twin in a VM.")
@click.option("--bmc-serial", metavar="ADDRESS:PORT", help="Where QEMU's ipmi-bmc-extern reaches the BMC.")
@click.option("--run-dir", metavar="DIR", help="Where the daemon's socket goes.  [default: below the twin]")
@click.option("--state-dir", metavar="DIR", help="Where the daemon remembers things.  [default: below the twin]")
@click.option("--seed", type=int, metavar="N", help="Draw the plant's true parameters from their bands.")
@click.option("--board", type=click.Choice(list(BOARDS)), help="Whose controller.  [default: asrock-ast2500]")
def up(  # noqa: PLR0913, PLR0917 - click hands over options as arguments
    box: str,
    foreground: bool,
    real_storage: bool,
    bmc_serial: str | None,
    run_dir: str | None,
    state_dir: str | None,
    seed: int | None,
    board: str | None,
) -> None:
    """Start a twin; returns when it is ready."""
    place = here()
    if unshown := {kind.vendor for kind in load_box(box).gpus} - set(SHOWN):
        hint = f"'tinybox-governor-replay TRACE.csv --box {box}' simulates it without files"
        raise TinyboxError(
            f"the twin shows no {' or '.join(sorted(unshown))} cards yet, and box '{box}' has some", hint=hint
        )
    extra = ["--real-storage"] * real_storage
    extra += ["--bmc-serial", bmc_serial] if bmc_serial else []
    extra += ["--run-dir", run_dir] if run_dir else []
    extra += ["--state-dir", state_dir] if state_dir else []
    extra += ["--seed", str(seed)] if seed is not None else []
    extra += ["--board", board] if board else []
    if foreground:
        control.refuse_second(place)
        place.folder.mkdir(parents=True, exist_ok=True)
        command = control.server_command(place, box, tuple(extra))
        os.execve(command[0], command, {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))})
    control.start(place, box, tuple(extra))
    click.echo(f"twin of box {box} is up in {place.folder}", err=True)


@twin.command()
def env() -> None:
    """Print the shell lines that point our programs at the twin."""
    place = here()
    control.ask(place, {"do": "status"})
    click.echo(place.shell_lines(), nl=False)


@twin.command(
    "exec",
    context_settings={"allow_interspersed_args": False},
    epilog="Examples: 'tinybox twin exec -- sensors', 'tinybox twin exec -- bash'. "
    "Exit codes: COMMAND's own, 126 it cannot be run, 127 it was not found, 1 no twin, 2 wrong call.",
)
@click.option("--host-network", is_flag=True, help="Keep this machine's network; the twin's BMC is reached only so.")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED, metavar="-- COMMAND...")
def execute(host_network: bool, command: tuple[str, ...]) -> None:
    """Run any program as if this machine had the twin's devices.

    In mount and network namespaces of its own, its /sys is the real one with the twin's devices merged in; what it
    writes there reaches the plant. Its network is a loopback of its own. It takes this process's place: input, output,
    signals and exit status are its own.
    """
    place = here()
    namespace.enter(place, host_network=host_network)
    environment = {**os.environ, **namespace.environment(place, host_network=host_network)}
    for ignored in (signal.SIGPIPE, signal.SIGXFSZ):  # by Python, for itself
        signal.signal(ignored, signal.SIG_DFL)
    try:
        os.execvpe(command[0], command, environment)
    except OSError as error:
        click.echo(f"tinybox: cannot run '{command[0]}': {error.strerror}", err=True)
        sys.exit(127 if isinstance(error, FileNotFoundError) else 126)


@twin.command(epilog="Examples: 'tinybox twin load gpu/0 100', 'tinybox twin load gpu/all 50'")
@click.argument("device")
@click.argument("percent", type=float)
@click.option("--kind", type=click.Choice(KINDS), default="train", show_default=True, help="What a card works on.")
def load(device: str, percent: float, kind: str) -> None:
    """Give a device work: PERCENT of what it could do unlimited.

    A card's work is a process of its own, which may be stopped and ended like any other.
    """
    control.ask(here(), {"do": "load", "device": device, "percent": percent, "kind": kind})


@twin.command("other-load")
@click.argument("amps", type=float)
def other_load(amps: float) -> None:
    """Let something else draw AMPS from the same circuit."""
    control.ask(here(), {"do": "other-load", "amps": amps})


@twin.command()
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
def status(as_json: bool) -> None:
    """Print the plant's truth, which no sensor shows."""
    truth = control.ask(here(), {"do": "status"})
    if as_json:
        click.echo(json.dumps(truth, indent=2))
        return
    tripped = "TRIPPED" if truth["breaker_tripped"] else f"breaker at {truth['breaker_heat']:.0%} of its trip"
    click.echo(f"{truth['wall_w']:.1f} W at {truth['line_v']:.1f} V, {tripped}, {truth['noise_dba']:.1f} dBA")
    if truth["other_a"]:
        click.echo(f"something else on the circuit draws {truth['other_a']:.1f} A")
    for gpu in truth["gpus"]:
        state = "frozen" if gpu["is_frozen"] else "load"
        click.echo(
            f"{gpu['id']}  {state} {gpu['load_pct']:3.0f} %  board {gpu['board_w']:5.1f} W  {gpu['clock_mhz']:4d} MHz  "
            f"junction {gpu['junction_c']:5.1f} °C  fan {gpu['fan_rpm']:4d} rpm"
        )


@twin.group(context_settings=HELP)
def fault() -> None:
    """Break something on purpose, and mend it."""


@fault.command("list")
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
def list_faults(as_json: bool) -> None:
    """Print what can be broken, each kind with one device; what is broken now has a mark."""
    answer = control.ask(here(), {"do": "faults"})
    if as_json:
        click.echo(json.dumps(answer, indent=2))
        return
    for one in answer["faults"]:
        click.echo(f"{'*' if one['active'] else ' '} {one['id']:28} {one['words']}")


@fault.command()
@click.argument("fault_id", metavar="ID")
def add(fault_id: str) -> None:
    """Break DEVICE:KIND, such as gpu/3:gone."""
    control.ask(here(), {"do": "fault-add", "id": fault_id})


@fault.command()
@click.argument("fault_id", metavar="[ID]", required=False)
def clear(fault_id: str | None) -> None:
    """Mend one thing, or everything."""
    control.ask(here(), {"do": "fault-clear"} | ({"id": fault_id} if fault_id else {}))


@twin.command()
def down() -> None:
    """End the twin; nothing stays mounted or running."""
    control.stop(here())
