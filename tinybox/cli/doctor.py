"""`tinybox doctor`: which lever is missing, why it matters, and what brings it."""

import json
import sys
import time
from dataclasses import asdict

import click

from tinybox.core.box import load_box
from tinybox.core.config import Folders, load_config
from tinybox.hw.hardware import Hardware, assemble
from tinybox.hw.host import Host
from tinybox.hw.levers import Have, Lever, find_levers

MARKS = {Have.OK: ("✓", "green"), Have.STATE: ("·", None), Have.MISSING: ("!", "yellow"), Have.NEEDED: ("✗", "red")}
LOOKS, BETWEEN_S = 3, 0.3  # what counts joules knows watts after the second; a library takes its time to open


@click.command(
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Examples: 'tinybox doctor', 'tinybox doctor --json | jq .levers[].remedy'. "
    "Exit codes: 0, also with advice; 1 where something that was promised cannot be kept.",
)
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
def doctor(as_json: bool) -> None:
    """Say which levers this machine has, and the kernel parameter or command that brings the others. Reads only."""
    folders, host = Folders.from_environment(), Host.from_environment()
    config = load_config(folders.config)
    box = load_box(config.box, folders.boxes)
    hardware = Hardware(host, box, config, folders.run)
    slow = hardware.read_slow(time.monotonic(), is_brief=True)
    for _ in range(LOOKS):
        hardware.read_fast(time.monotonic())
        time.sleep(BETWEEN_S)
    snapshot = assemble(hardware.read_fast(time.monotonic()), slow, time.monotonic(), time.time())
    hardware.release()
    levers = find_levers(host, box, config, snapshot)
    if as_json:
        click.echo(json.dumps({"box": box.name, "levers": [asdict(lever) for lever in levers]}, indent=2))
    else:
        for line in lines_of(levers):
            click.echo(line)
    sys.exit(any(lever.have is Have.NEEDED for lever in levers))


def lines_of(levers: tuple[Lever, ...]) -> list[str]:
    """For people: what is missing with its remedy, then one line for all that is there."""
    lines = []
    alike: dict[tuple[str, Have, str, str], list[str]] = {}
    for lever in levers:
        alike.setdefault((lever.name, lever.have, lever.words, lever.remedy), []).append(lever.device)
    for (name, have, words, remedy), devices in sorted(alike.items(), key=lambda item: -list(Have).index(item[0][1])):
        mark, colour = MARKS[have]
        who = devices[0] if len(devices) == 1 else f"{devices[0]} and {len(devices) - 1} more"
        lines.append(f"{click.style(mark, fg=colour)} {who:18} {name:7} {words}")
        if remedy:
            lines.append(f"{'':28} {remedy}")
    return lines
