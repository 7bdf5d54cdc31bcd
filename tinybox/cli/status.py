"""`tinybox status`: what the box does and why; live with --watch, for scripts with --json."""

import sys
import time
from urllib.parse import parse_qs, urlsplit

import click

from tinybox.cli.main import screen_target
from tinybox.client import DaemonAbsent, fetch
from tinybox.core.config import Folders

CLEAR_AND_HOME = "\x1b[H\x1b[2J"


@click.command(epilog="Examples: 'tinybox status --watch', 'tinybox status --json | jq .power.wall_w'")
@click.option("--json", "as_json", is_flag=True, help="The document of docs/api.md, for scripts.")
@click.option("--watch", is_flag=True, help="Keep showing it, until Ctrl-C.")
@click.option("--interval", "interval_s", type=click.FloatRange(0.1, 3600), default=1.0, show_default=True,
              help="Seconds between two looks of --watch.")  # fmt: skip
def status(as_json: bool, watch: bool, interval_s: float) -> None:
    """Show power against the outlet, every card, noise, drives and alerts.

    Asks tinyboxd; without it the machine is read directly, once, and nothing is changed.
    """
    if not watch:
        sys.stdout.write(look(as_json=as_json))
        return
    try:
        while True:
            picture = look(as_json=as_json)
            sys.stdout.write(CLEAR_AND_HOME + picture if sys.stdout.isatty() and not as_json else picture)
            sys.stdout.flush()
            time.sleep(interval_s)
    except KeyboardInterrupt:
        sys.stdout.write("\n")


def look(*, as_json: bool) -> str:
    """One picture, or the document, from the daemon if it answers."""
    target = "/status" if as_json else screen_target()
    folders = Folders.from_environment()
    try:
        return fetch(str(folders.socket), target).decode()
    except DaemonAbsent as absent:
        from tinybox.cli.offline import offline_json, offline_screen

        click.echo(f"tinybox: {absent}: reading the machine directly", err=True)
        if as_json:
            return offline_json(folders)
        asked = parse_qs(urlsplit(target).query)
        return offline_screen(folders, columns=int(asked["columns"][0]), colour=asked["colour"] == ["1"])
