"""`tinybox quiet`: how loud the box may be where its owner sits, and what that costs."""

import json
import sys
from typing import Any

import click

from tinybox.cli.status import look
from tinybox.core.config import Folders, load_config
from tinybox.core.quiet import NoiseConfig, load_choice, parse_quiet, save_choice

AUTO = "auto"


@click.command(
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Examples: 'tinybox quiet', 'tinybox quiet 40', 'tinybox quiet silent', 'tinybox quiet auto'",
)
@click.argument("level", required=False)
@click.option("--json", "as_json", is_flag=True, help="What holds now, for scripts (docs/noise.md).")
def quiet(level: str | None, as_json: bool) -> None:
    """Show how loud the box may be, or say it: a level in dBA, or a profile.

    silent (40 dBA), balanced (45), full (as cool as the fans make it), off (the firmware decides about every fan), auto
    (what the settings say, by day and by night). What is said holds from now on, also after a reboot. Heat goes before
    quiet: a card that gets too hot is cooled, however loud that is.
    """
    folders = Folders.from_environment()
    if level is not None:
        choice = level.strip().lower()
        said = None if choice == AUTO else parse_quiet(choice)
        save_choice(folders.state, None if choice == AUTO else choice)
        if not as_json:
            click.echo(_confirmed(choice, None if said is None else said.dba, load_config(folders.config).noise))
            return
    document = json.loads(look(as_json=True))
    choice_now = load_choice(folders.state)
    if as_json:
        found = {"source": document["source"], "choice": choice_now, "quiet": document["quiet"]}
        sys.stdout.write(json.dumps(found, indent=2) + "\n")
        return
    click.echo(_page(document, choice_now, load_config(folders.config).noise))


def _confirmed(choice: str, dba: float | None, config: NoiseConfig) -> str:
    if choice == AUTO:
        return f"by the settings again: {_settings(config)}"
    if choice == "off":
        return "off: the firmware of every fan decides, from now on; 'tinybox quiet auto' goes back to the settings"
    words = "no limit: as cool as the fans make it" if dba is None else f"{dba:g} dBA at most where you sit"
    return f"{words}, from now on; 'tinybox quiet auto' goes back to the settings"


def _settings(config: NoiseConfig) -> str:
    night = f", {config.night_profile} from {config.night_from} to {config.night_to}" if config.night_profile else ""
    return f"{config.profile}{night}"


def _page(document: dict[str, Any], choice: str | None, config: NoiseConfig) -> str:
    view, level = document["quiet"], document["noise"]
    now = (
        "how loud it is now is not known" if level is None else f"{level['dba']:.0f} ±{level['plus_minus_db']:.0f} dBA"
    )
    estimated = ", estimated" if level is not None and level["is_estimated"] else ""
    whose = f"by the settings: {_settings(config)}" if choice is None else f"as you said: {choice}"
    if view is None:
        why = "the box is not armed" if not document.get("is_armed", True) else "off"
        if document["source"] != "daemon":
            why = "tinyboxd is not running"
        return f"{why}: the firmware of every fan decides; {now}{estimated}\n  {whose}"
    limit = "no limit" if view["limit_dba"] is None else f"{view['limit_dba']:g} dBA at most"
    name = "" if view["profile"].endswith("dBA") else f" ({view['profile']})"
    lines = [f"{limit} where you sit{name}; now {now}{estimated}"]
    duty = "their controller's" if view["duty_pct"] is None else f"at {view['duty_pct']:.0f} %"
    lines.append(f"  chassis fans {duty}, the cards' own as each needs")
    if view["hottest"] is not None:
        lines.append(f"  hottest is {view['hottest']} at {view['hottest_c']:.0f} °C; quiet may take it to "
                     f"{view['hottest_soft_c']:.0f} °C")  # fmt: skip
    if view["is_broken"]:
        lines.append("  heat, or a temperature that is not told, goes before quiet now: 'tinybox status' says why")
    if view["share"] < 0.995:
        lines.append(f"  {view['share']:.0%} of the circuit's promise is used, so that fans may turn slower")
    if view["next_db_watts_pct"] is not None:
        cost = (
            f"{view['next_db_watts_pct']:.0f} % of the watts, and at most {view['next_db_work_pct']:.0f} % of the work"
        )
        lines.append(f"  one decibel less would cost {cost if view['next_db_watts_pct'] >= 0.5 else 'nothing'}")
    return "\n".join([*lines, f"  {whose}"])
