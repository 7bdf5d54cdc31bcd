"""`tinybox raid`: the data array at /raid, made once on blank drives and assembled ever after."""

import json

import click

from tinybox.core.box import StorageKind, load_box
from tinybox.core.config import Folders, load_config
from tinybox.core.errors import HardwareError, TinyboxError
from tinybox.hw.host import Host
from tinybox.hw.notices import clear_notice, leave_notice
from tinybox.hw.storage import Plan, Step, carry_out, inspect_drives, plan_array


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def raid() -> None:
    """The data array: four drives as one, mounted at /raid."""


@raid.command(epilog="Examples: 'tinybox raid plan', 'tinybox raid plan --json'")
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
def plan(as_json: bool) -> None:
    """Say what 'assemble' would do. Touches nothing."""
    _show(_planned(Host.from_environment())[0], as_json=as_json)


@raid.command(epilog="Examples: 'tinybox raid assemble', 'tinybox raid assemble --yes'")
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
@click.option("--yes", is_flag=True, help="Do not ask before a new array is made.")
def assemble(as_json: bool, yes: bool) -> None:
    """Assemble and mount the array, or create it on blank drives.

    A drive that carries anything is never touched: not a file system, not a member of another array, not a single
    byte at its ends. Running it again changes nothing.
    """
    run = Folders.from_environment().run
    try:
        planned = _assemble(Host.from_environment(), is_sure=yes)
    except TinyboxError as error:
        leave_notice(run, "raid", error)
        raise
    clear_notice(run, "raid")
    _show(planned, as_json=as_json)


def _assemble(host: Host, *, is_sure: bool) -> Plan:
    planned, kind = _planned(host)
    if {Step.CREATE, Step.FORMAT} & set(planned.steps) and not is_sure:
        click.confirm(f"{planned.words} on {', '.join(planned.drives)}. Go on?", abort=True, err=True)
    try:
        carry_out(host, planned, kind)
    except HardwareError as error:
        raise TinyboxError(f"the array is not ready: {error}", hint="mend that and run it again: it goes on") from None
    return planned


def _planned(host: Host) -> tuple[Plan, StorageKind]:
    folders = Folders.from_environment()
    kind = load_box(load_config(folders.config).box, folders.boxes).storage
    try:
        drives, arrays = inspect_drives(host)
    except (HardwareError, OSError) as error:
        raise TinyboxError(f"cannot look at the drives: {error}", hint="run it as root") from None
    return plan_array(drives, arrays, kind), kind


def _show(planned: Plan, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({"steps": planned.steps, "drives": planned.drives, "reason": planned.words}))
    else:
        click.echo(f"{planned.words} ({', '.join(planned.drives)})")
