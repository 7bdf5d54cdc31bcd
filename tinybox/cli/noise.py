"""`tinybox noise`: how loud the box is where its owner sits, fan by fan; `calibrate` fits that to a sound meter."""

import json
import re
import sys
import time
from dataclasses import replace
from typing import Any

import click

from tinybox.cli.ask import require_person
from tinybox.cli.status import look
from tinybox.core.acoustics import Calibration, Reading, load_calibration, save_calibration
from tinybox.core.box import Box, load_box
from tinybox.core.config import Folders, load_config
from tinybox.core.errors import TinyboxError
from tinybox.policy.noise import Speeds, contradiction, fitted, is_likely, level_of, wanted

TYPED = re.compile(r"(\d{1,3}(?:[.,]\d{1,3})?)\s*(?:dB\s*\(?A?\)?)?", re.IGNORECASE)
METER_DBA = (15.0, 110.0)  # what a meter can show in a room


@click.group(
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Examples: 'tinybox noise', 'tinybox noise --json | jq .noise.dba', 'tinybox noise calibrate 38.5'",
)
@click.option("--json", "as_json", is_flag=True, help="Level, ± and every source, for scripts (docs/noise.md).")
@click.pass_context
def noise(context: click.Context, as_json: bool) -> None:
    """Show how loud the box is where you sit: A-weighted, every fan by its speed.

    The ± holds nine times of ten. 'estimated' means that nobody held a sound meter to this box: 'tinybox noise
    calibrate' does that.
    """
    if context.invoked_subcommand is not None:
        return
    document = _status()
    level = document.get("noise")
    if as_json:
        sys.stdout.write(json.dumps({"source": document["source"], "noise": level}, indent=2) + "\n")
        return
    if level is None:
        hint = "'tinybox health' says why"
        raise TinyboxError("how loud the box is is not known: some fan's speed is not", hint=hint)
    sys.stdout.write(_page(level, _speeds_by_id(document)))


@noise.command(epilog="Examples: 'tinybox noise calibrate' (asks), 'tinybox noise calibrate 38.5', '... --clear'")
@click.argument("dba", required=False)
@click.option("--clear", is_flag=True, help="Forget every reading: the level is an estimate again.")
def calibrate(dba: str | None, clear: bool) -> None:
    """Note what a sound meter, or a phone as one, shows where you sit (A-weighted, slow).

    Fans at two speeds are enough: read once while the box rests, once under load, for the chassis fans and for the
    cards. Without a reading it asks, again and again, until Enter alone.
    """
    folders = Folders.from_environment()
    box = load_box(load_config(folders.config).box, folders.boxes)
    if clear:
        save_calibration(folders.state, Calibration(box.name))
        click.echo("every reading is forgotten: the level is estimated again")
    elif dba is not None:
        click.echo(_note(dba, folders, box))
    else:
        require_person(hint="say the reading: '… 38.5'")
        _ask(folders, box)


def _ask(folders: Folders, box: Box) -> None:
    while True:
        speeds = _speeds(_status())
        click.echo(f"Now {_words(speeds)}. Hold the meter where you sit, A-weighted and slow.")
        answer = click.prompt("What does it show, in dBA (Enter ends)", default="", show_default=False)
        if not answer.strip():
            return
        try:
            click.echo(_note(answer, folders, box))
        except TinyboxError as error:
            click.echo(f"{error.message}\n  {error.hint}", err=True)


def _note(text: str, folders: Folders, box: Box) -> str:
    """Keep a reading, and say what is known now. Raises TinyboxError for one that cannot be."""
    shown_dba = _read(text)
    speeds = _speeds(_status())
    known = load_calibration(folders.state, box.name)
    reading = Reading(
        round(time.time(), 3), shown_dba, *(tuple(rpm for _, rpm in group) for group in (speeds.chassis, speeds.cards))
    )
    if (pair := contradiction(reading, known.readings)) is not None:
        raise TinyboxError(
            f"{pair[0].dba:g} dBA while the fans turned slower, {pair[1].dba:g} dBA while faster: it is not kept",
            hint="was the room louder, or were the two typed in the wrong order? 'tinybox noise calibrate --clear'",
        )
    before = level_of(speeds, box.noise, fitted(box.noise, known.readings))
    if not is_likely(shown_dba, before):
        raise TinyboxError(
            f"{shown_dba:g} dBA, where {before.dba:.0f} ±{before.plus_minus_db:.0f} dBA is expected: it is not kept",
            hint="A-weighted, slow, where you sit, nothing else running? 'tinybox noise calibrate --clear' begins anew",
        )
    readings = (*known.readings, reading)
    save_calibration(folders.state, replace(known, readings=readings))
    after = level_of(speeds, box.noise, fitted(box.noise, readings))
    count = f"{len(readings)} reading{'s' if len(readings) > 1 else ''}"
    lines = [f"{shown_dba:g} dBA noted: {after.dba:.1f} ±{after.plus_minus_db:.1f} dBA now, by {count}"]
    lines += [f"  still wanted: {words}" for words in wanted(readings)]
    return "\n".join(lines)


def _read(text: str) -> float:
    """Decibels as people type them. Raises TinyboxError."""
    match = TYPED.fullmatch(text.strip())
    dba = float(match[1].replace(",", ".")) if match else 0.0
    if not METER_DBA[0] <= dba <= METER_DBA[1]:
        hint = f"a number from {METER_DBA[0]:g} to {METER_DBA[1]:g}, such as 38.5"
        raise TinyboxError(f"'{text.strip()}' is no level in dBA", hint=hint)
    return dba


def _status() -> dict[str, Any]:
    loaded = json.loads(look(as_json=True))
    if not isinstance(loaded, dict):
        raise TinyboxError("tinyboxd answers nonsense", hint="restart it: 'systemctl restart tinyboxd'")
    return loaded


def _speeds_by_id(document: dict[str, Any]) -> dict[str, float | None]:
    cards = {gpu["id"]: gpu["fan_rpm"] for gpu in document["gpus"] if gpu["state"] not in ("asleep", "gone")}
    return {fan["id"]: fan["rpm"] for fan in document["fans"]} | cards


def _speeds(document: dict[str, Any]) -> Speeds:
    """Every fan's speed. Raises TinyboxError while one is unknown."""
    found = _speeds_by_id(document)
    if unknown := sorted(name for name, rpm in found.items() if rpm is None):
        raise TinyboxError(f"the speed of {', '.join(unknown)} is not known", hint="'tinybox health' says why")
    groups = (
        tuple((n, float(r)) for n, r in found.items() if r is not None and n.startswith(p)) for p in ("fan/", "gpu/")
    )
    chassis, cards = groups
    if not chassis:
        raise TinyboxError("no chassis fan tells its speed", hint="'tinybox health' says why")
    return Speeds(chassis, cards)


def _words(speeds: Speeds) -> str:
    said = []
    for name, group in (("chassis fans", speeds.chassis), ("cards", speeds.cards)):
        turning = [rpm for _, rpm in group if rpm > 0]
        said.append(f"{name} turn at {sum(turning) / len(turning):.0f} rpm" if turning else f"{name} stand")
    return ", ".join(said)


def _page(level: dict[str, Any], rpm: dict[str, float | None]) -> str:
    word = ", estimated: 'tinybox noise calibrate' takes a sound meter's word" if level["is_estimated"] else ""
    lines = [f"{level['dba']:.0f} ±{level['plus_minus_db']:.0f} dBA where you sit{word}"]
    for source in level["sources"]:
        speed = f"{rpm[source['id']]:5.0f} rpm" if rpm.get(source["id"]) is not None else ""
        lines.append(f"  {source['id']:<14} {source['dba']:5.1f} dBA {speed}".rstrip())
    standing = [name for name, turns in rpm.items() if turns == 0]
    if standing:
        lines.append(f"  stand still    {', '.join(standing)}")
    return "\n".join(lines) + "\n"
