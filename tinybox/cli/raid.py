"""`tinybox raid`: the data array at /raid, made once on blank drives and assembled ever after."""

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import click

from tinybox.core.box import StorageKind, load_box
from tinybox.core.config import Folders, load_config
from tinybox.core.contents import Contents, Evacuation, load_contents, save_contents
from tinybox.core.errors import HardwareError, TinyboxError
from tinybox.hw.contents import check_destination, measure
from tinybox.hw.contents import evacuate as copy_all
from tinybox.hw.host import Host
from tinybox.hw.notices import clear_notice, leave_notice
from tinybox.hw.replacement import check_is_ours, plan_replacement, replace_drives
from tinybox.hw.storage import Plan, Step, carry_out, inspect_drives, plan_array

SHOWN = 20


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


@raid.command(epilog="Examples: 'tinybox raid contents', 'tinybox raid contents --json'")
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
def contents(as_json: bool) -> None:
    """List what lies on the array, and remember it for the day a drive is lost.

    Where the array is not mounted, what was last remembered. A timer runs this every day.
    """
    folders = Folders.from_environment()
    kept, mount = load_contents(folders.state), Path(_kind(folders).mount)
    if mount.is_mount():
        kept = Contents(str(mount), round(time.time()), measure(mount), kept.evacuation if kept else None)
        _keep(folders, kept)
    if kept is None:
        raise TinyboxError(f"nothing is mounted at {mount}, and nothing is remembered", hint="'tinybox raid assemble'")
    if as_json:
        click.echo(json.dumps(asdict(kept), indent=2))
        return
    click.echo(_list_of(kept))


@raid.command(epilog="Examples: 'tinybox raid evacuate /mnt/usb', 'tinybox raid evacuate /mnt/usb --verify'")
@click.argument("dest", type=click.Path(path_type=Path))
@click.option("--verify", is_flag=True, help="Compare every byte afterwards, not only sizes and times.")
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
def evacuate(dest: Path, verify: bool, as_json: bool) -> None:
    """Copy everything from the array to DEST, a folder on another disk.

    Run again it goes on where it ended. A file that cannot be read is named and left out; then the exit status is 1.
    """
    folders = Folders.from_environment()
    mount = Path(_kind(folders).mount)
    if not mount.is_mount():
        raise TinyboxError(f"nothing is mounted at {mount}", hint="'tinybox raid assemble' says why")
    check_destination(mount, dest)
    entries = measure(mount)
    try:
        with _progress(f"copying to {dest}") as advance:
            copied = copy_all(mount, dest, advance, is_verified=verify)
    except HardwareError as error:
        raise TinyboxError(str(error), hint="mend that and run it again: it goes on") from None
    done = Evacuation(str(dest.resolve()), round(time.time()), copied.failed)
    _keep(folders, Contents(str(mount), round(time.time()), entries, done))
    if as_json:
        click.echo(json.dumps({**asdict(done), "size_bytes": sum(entry.size_bytes for entry in entries)}))
    else:
        click.echo(f"{sum(entry.files for entry in entries) - len(copied.failed):,} files are in {dest}")
    if copied.failed:
        for name in copied.failed[:SHOWN]:
            click.echo(f"not copied: {name}", err=True)
        hint = "a drive that cannot read is near its end: fetch them again elsewhere, then 'tinybox raid replace'"
        raise TinyboxError(f"{len(copied.failed):,} files could not be copied", hint=hint)


@raid.command("replace", epilog="Examples: 'tinybox raid replace /dev/nvme3n1', with --yes from a script")
@click.argument("drives", nargs=-1, required=True, metavar="DRIVE...")
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
@click.option("--yes", is_flag=True, help="Do not ask before the old drives are erased.")
def replace_(drives: tuple[str, ...], as_json: bool, yes: bool) -> None:
    """Make the array anew after a drive was changed; DRIVE is the new one, and blank.

    What is left on the other drives is erased: a RAID 0 cannot be read without the drive that is gone. Then it lists
    what lay on the array, and what of it has to be fetched again.
    """
    folders, host = Folders.from_environment(), Host.from_environment()
    kind = _kind(folders)
    try:
        planned = plan_replacement(*inspect_drives(host), kind, drives)
        check_is_ours(host, planned)
        question = f"All that is left on {', '.join(planned.old)} will be erased, to make an array with {drives[0]}"
        if not yes:
            click.confirm(f"{question}. Go on?", abort=True, err=True)
        plan = replace_drives(host, planned, kind)
    except (HardwareError, OSError) as error:
        raise TinyboxError(
            f"the array is not ready: {error}", hint="mend that; 'tinybox raid plan' says how it stands"
        ) from None
    clear_notice(folders.run, "raid")
    lost = load_contents(folders.state)
    if as_json:
        click.echo(json.dumps({"reason": plan.words, "drives": plan.drives, "lost": asdict(lost) if lost else None}))
        return
    click.echo(f"{plan.words} ({', '.join(plan.drives)})")
    click.echo(_list_of(lost) if lost else "nothing is remembered of what lay on it")


def _list_of(kept: Contents) -> str:
    """What lies or lay on the array, for people, and where a copy of it is."""
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(kept.unix_s))
    lines = [f"{kept.mount} on {when}:"]
    lines += [
        f"{entry.size_bytes / 1e9:10,.1f} GB  {entry.files:9,} files  {entry.path}" for entry in kept.entries[:SHOWN]
    ]
    if len(kept.entries) > SHOWN:
        lines.append(f"and {len(kept.entries) - SHOWN:,} smaller ('--json' has them all)")
    copy = kept.evacuation
    if copy is None:
        return "\n".join([*lines, "there is no copy that this box knows of: all of it would have to be fetched again"])
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(copy.unix_s))
    lines.append(f"copied to {copy.dest} on {when}: 'rsync -aHAX {copy.dest}/ {kept.mount}/' brings it back")
    lines += [f"not in that copy: {name}" for name in copy.failed[:SHOWN]]
    return "\n".join(lines)


def _keep(folders: Folders, kept: Contents) -> None:
    try:
        save_contents(folders.state, kept)
    except OSError as error:
        click.echo(f"cannot remember it in {folders.state}: {(error.strerror or '').lower()}", err=True)


@contextlib.contextmanager
def _progress(words: str) -> Iterator[Callable[[float], None]]:
    """A bar on stderr, for people; nothing where stderr is a file."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:3.0f} %"),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    ) as bar:
        task = bar.add_task(words, total=1.0)
        yield lambda share: bar.update(task, completed=share)


def _kind(folders: Folders) -> StorageKind:
    return load_box(load_config(folders.config).box, folders.boxes).storage


def _planned(host: Host) -> tuple[Plan, StorageKind]:
    kind = _kind(Folders.from_environment())
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
