"""`tinybox config`: every effective setting and where it came from; and whether it can be right."""

import json
import sys

import click

from tinybox.core.box import load_box
from tinybox.core.circuit import circuit_of
from tinybox.core.config import Folders, Setting, config_files, effective_settings, load_config
from tinybox.core.errors import TinyboxError


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def config() -> None:
    """Show and check the settings."""


@config.command(epilog="Example: 'tinybox config show --json | jq .circuit'")
@click.option("--json", "as_json", is_flag=True, help="One object per key: value and origin.")
def show(as_json: bool) -> None:
    """Print each effective value and the file it came from."""
    settings = effective_settings(Folders.from_environment().config)
    if as_json:
        click.echo(json.dumps({s.key: {"value": s.value, "origin": s.origin} for s in settings}, indent=2))
        return
    width = max(len(s.key) for s in settings)
    values = [_shown(s) for s in settings]
    value_width = max(map(len, values))
    for setting, value in zip(settings, values, strict=True):
        click.echo(f"{setting.key:{width}}  {value:{value_width}}  {setting.origin}")


def _shown(setting: Setting) -> str:
    return "(the box's)" if setting.value is None else json.dumps(setting.value, ensure_ascii=False)


@config.command(epilog="Example: 'tinybox config check && systemctl restart tinyboxd'")
def check() -> None:
    """Read the settings as the daemon would, and compare the box with this machine. Changes nothing."""
    folders = Folders.from_environment()
    loaded = load_config(folders.config)
    box = load_box(loaded.box, folders.boxes)
    circuit = circuit_of(box, loaded)
    from tinybox.cli.offline import machine_mismatch

    problems = machine_mismatch(folders)
    for device, reason in problems:
        click.echo(f"{device}: {reason}", err=True)
    if problems:
        raise TinyboxError(
            f"this machine does not match box '{box.name}'", hint="set box to the right kind, or mend what is missing"
        )
    files = ", ".join(map(str, config_files(folders.config))) or "no file: all defaults"
    click.echo(f"fine: box {box.name}, {circuit.promised_a:g} A promised on {circuit.volts:g} V ({files})")
    sys.stdout.flush()
