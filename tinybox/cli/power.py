"""`tinybox power`: what the outlet is promised, and what would happen if the daemon died now."""

import json
import os
from typing import Any

import click

from tinybox.core.config import Folders

FIGURES = (
    *("guarantee", "is_commissioned", "budget_a", "amps", "mean_10s_a", "other_a"),
    *("breaker_heat", "worst_a", "worst_heat", "heat_limit", "failsafe_s"),
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def power() -> None:
    """The outlet, the guarantee, and the watts of each card."""


@power.command(epilog="Examples: 'tinybox power explain', 'tinybox power explain --json | jq .worst_heat'")
@click.option("--json", "as_json", is_flag=True, help="The figures alone, for scripts.")
def explain(as_json: bool) -> None:
    """Say which guarantee holds, and its numbers: time-out, worst amps, breaker heat, margin.

    Without a daemon the machine is read once; nothing holds the guarantee then.
    """
    document = _status()
    figures = figures_of(document)
    click.echo(json.dumps(figures, indent=2) if as_json else text_of(figures))


def figures_of(document: dict[str, Any]) -> dict[str, Any]:
    """What `explain` is about, from the status document. Heat is a share of the fastest breaker's trip."""
    watts = document["power"]
    figures = {key: watts[key] for key in FIGURES}
    return {
        "source": document["source"],
        "is_armed": document.get("is_armed", True),
        **figures,
        "margin": round(watts["heat_limit"] - watts["worst_heat"], 4),
        "grants_w": {gpu["id"]: gpu["grant_w"] for gpu in document["gpus"]},
        "reason": document["decision"]["reason"],
    }


def text_of(figures: dict[str, Any]) -> str:
    """The same for people."""
    granted_w = sum(watts for watts in figures["grants_w"].values() if watts is not None)
    is_strict = figures["guarantee"] == "strict"
    measured = "this box was measured" if figures["is_commissioned"] else "this box was not measured: its kind's table"
    lines = [
        f"guarantee   {figures['guarantee']} ({measured})",
        f"promise     {figures['budget_a']:.1f} A on the mean of ten seconds; "
        f"now {_amps(figures['amps'])}, mean {_amps(figures['mean_10s_a'])}",
        f"breaker     {figures['breaker_heat']:.0%} of the way to a trip, were it the fastest that may be there; "
        f"never above {figures['heat_limit']:.0%}",
        f"grants      {granted_w:,.0f} W of boards under the limits in force: at most {figures['worst_a']:.1f} A with "
        "everything else at its worst",
    ]
    if figures["other_a"]:
        lines.insert(2, f"neighbour   about {figures['other_a']:.0f} A of somebody else on this circuit")
    if not figures["is_armed"]:
        lines[0] = "guarantee   none: the box is not armed, the cards keep the limits that they have ('tinybox arm')"
    elif is_strict:
        lines.append("if tinyboxd died now, the cards could not draw more than the outlet gives: nobody need act")
    else:
        lines.append(
            f"if tinyboxd died now and every card jumped to its grant, the failsafe would have ended it within "
            f"{figures['failsafe_s']:.1f} s, the breaker at {figures['worst_heat']:.0%} of a trip: "
            f"{figures['margin']:.0%} of margin"
        )
    lines.append(f"why         {figures['reason']}")
    if figures["source"] != "daemon":
        lines.append("read once, directly: tinyboxd is not running, nobody holds any of this")
    return "\n".join(lines)


def _amps(value: float | None) -> str:
    return "? A" if value is None else f"{value:.1f} A"


def _status() -> dict[str, Any]:
    from tinybox.client import DaemonAbsent, fetch

    folders = Folders.from_environment(os.environ)
    try:
        body: bytes | str = fetch(str(folders.socket), "/status")
    except DaemonAbsent:
        from tinybox.cli.offline import offline_json

        body = offline_json(folders)
    loaded: dict[str, Any] = json.loads(body)
    return loaded
