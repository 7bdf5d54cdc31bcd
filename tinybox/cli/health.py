"""`tinybox health`: every check of the machine, what is wrong and what to do, and what came and went."""

import getpass
import json
import os
import sys
import time
from dataclasses import dataclass
from typing import Any

import click

from tinybox.cli.health_alert import test_alert
from tinybox.cli.health_crash import last_crash
from tinybox.client import DaemonAbsent, fetch
from tinybox.core.config import Folders
from tinybox.core.errors import TinyboxError
from tinybox.core.health import Ack, HealthEvent, Status, health_document, moment
from tinybox.core.healthfile import load_acks, load_history, save_acks

MARKS = {"crit": "!!", "warn": "! ", "unknown": "? ", "ok": "ok", "n/a": "- "}
COLOURS = {"crit": "red", "warn": "yellow", "unknown": "magenta", "ok": "green", "n/a": None}
ORDER = ("crit", "warn", "unknown", "ok", "n/a")
SHOWN_EVENTS = 20
SHORT = 160  # of what nobody has to act on
STARTING_S = 5.0  # a daemon that begins has read nothing slow yet


@click.group(
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Examples: 'tinybox health', 'tinybox health --all', "
    '\'tinybox health --json | jq ".checks[] | select(.status != \\"ok\\")"\', '
    "'tinybox health ack nvme.wear \"replacement ordered\"'. "
    "Exit codes: 0 fine, 1 something is critical, 2 wrong call.",
)
@click.option("--all", "show_all", is_flag=True, help="Also what is fine, and what this machine has none of.")
@click.option("--json", "as_json", is_flag=True, help="Every check, for scripts (docs/health.md).")
@click.pass_context
def health(context: click.Context, show_all: bool, as_json: bool) -> None:
    """Judge every part of the machine, and say what to do.

    Asks tinyboxd; without it the machine is looked at once, and what needs time to be judged is left out.
    """
    if context.invoked_subcommand is not None:
        return
    document = _document()
    sys.stdout.write(
        json.dumps(document, indent=2, ensure_ascii=False) + "\n" if as_json else _page(document, show_all)
    )
    if document["is_failed"]:
        sys.stdout.flush()
        sys.exit(1)


def _document() -> dict[str, Any]:
    """Every check, from the daemon if it answers."""
    folders = Folders.from_environment()
    deadline_s = time.monotonic() + STARTING_S
    try:
        while True:
            loaded = json.loads(fetch(str(folders.socket), "/health"))
            if not isinstance(loaded, dict):
                raise TinyboxError("tinyboxd answers nonsense", hint="restart it: 'systemctl restart tinyboxd'")
            if not _is_starting(loaded) or time.monotonic() > deadline_s:
                return loaded
            time.sleep(0.2)
    except DaemonAbsent as absent:
        from tinybox.cli.offline import offline_health

        click.echo(f"tinybox: {absent}: looking at the machine once", err=True)
        findings, box = offline_health(folders)
        return health_document(findings, source="offline", box=box, unix_s=time.time())


def _is_starting(document: dict[str, Any]) -> bool:
    return not document["checks"] or any(check["evidence"] == "box: not read yet" for check in document["checks"])


def _page(document: dict[str, Any], show_all: bool) -> str:
    """One line for each check that has something to say, worst first, with what to do below it."""
    checks = sorted(document["checks"], key=lambda check: ORDER.index(check["status"]))
    is_coloured = sys.stdout.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"
    lines = []
    for check in checks:
        if check["status"] in ("ok", "n/a") and not show_all:
            continue
        lines.append(_line(check, is_coloured=is_coloured))
    counts = {status: sum(check["status"] == status for check in checks) for status in ORDER}
    told = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
    return "\n".join([*lines, f"{len(checks)} checks: {told}"]) + "\n"


def _line(check: dict[str, Any], *, is_coloured: bool) -> str:
    status = str(check["status"])
    head = f"{MARKS[status]} {check['id']}"
    if is_coloured:
        head = click.style(head, fg=COLOURS[status], bold=status == "crit")
    line = f"{head}  {check['evidence']}"
    if status not in ("warn", "crit"):
        return line if len(line) <= SHORT else f"{line[: SHORT - 2]} …"
    line += f"\n     since {check['since']}, limit: {check['limit']}\n     {check['advice']}"
    if (ack := check["ack"]) is not None:
        line += f"\n     acknowledged by {ack['who']} at {ack['since']}: {ack['why']}"
    return line


health.add_command(last_crash)
health.add_command(test_alert)


@health.command(epilog="Examples: 'tinybox health history', 'tinybox health history --last 100 --json'")
@click.option("--last", "count", type=click.IntRange(1, 2000), default=SHOWN_EVENTS, show_default=True,
              help="How many of the newest.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
def history(count: int, as_json: bool) -> None:
    """Show what was raised, got worse and was cleared, newest last."""
    events = load_history(Folders.from_environment().state)[-count:]
    if as_json:
        sys.stdout.write(json.dumps({"events": [_event(event) for event in events]}, indent=2) + "\n")
        return
    for event in events:
        click.echo(f"{moment(event.unix_s)}  {event.what:<7}  {event.status:<4}  {event.id}  {event.evidence}")
    if not events:
        click.echo("nothing was ever raised")


def _event(event: HealthEvent) -> dict[str, Any]:
    return {
        "time": moment(event.unix_s),
        "what": event.what,
        "id": event.id,
        "status": event.status,
        "devices": list(event.devices),
        "evidence": event.evidence,
    }


@health.command(
    epilog="Examples: 'tinybox health ack nvme.wear \"replacement ordered\"', 'tinybox health ack nvme.wear --clear'"
)
@click.argument("check_id", metavar="ID")
@click.argument("reason", required=False, default="")
@click.option("--clear", is_flag=True, help="Take it back.")
def ack(check_id: str, reason: str, clear: bool) -> None:
    """Acknowledge what a check raises, with a reason.

    It holds for the devices that raise it now, at no worse than now: another device, or a warning that becomes
    critical, is raised anew. What is acknowledged still shows and counts, and raises no alert.
    """
    folders = Folders.from_environment()
    others = tuple(one for one in load_acks(folders.state) if one.id != check_id)
    if clear:
        save_acks(folders.state, others)
        click.echo(f"{check_id} is no longer acknowledged")
        return
    if not reason.strip():
        raise click.UsageError("say why: tinybox health ack ID REASON")
    raised = _raised(check_id)
    given = Ack(check_id, raised.devices, raised.status, _who(), time.time(), reason.strip())
    save_acks(folders.state, (*others, given))
    click.echo(f"{check_id} acknowledged for {', '.join(raised.devices)}: {reason.strip()}")


@dataclass(frozen=True, slots=True)
class _Raised:
    devices: tuple[str, ...]
    status: Status


def _raised(check_id: str) -> _Raised:
    """What the check raises now. Raises TinyboxError where it raises nothing, or there is no such check."""
    checks = {str(check["id"]): check for check in _document()["checks"]}
    if (check := checks.get(check_id)) is None:
        raise TinyboxError(f"no check is called '{check_id}'", hint="'tinybox health --all' names them")
    if check["status"] not in ("warn", "crit"):
        raise TinyboxError(
            f"{check_id} is {check['status']}: there is nothing to acknowledge", hint="see 'tinybox health'"
        )
    return _Raised(tuple(check["devices"]), Status(check["status"]))


def _who() -> str:
    """The person at the keyboard, also behind sudo."""
    if name := os.environ.get("SUDO_USER"):
        return name
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"user {os.getuid()}"
