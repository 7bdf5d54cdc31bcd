"""`tinybox support`: this machine as a folder of text without what is secret; its owner sends it, or nobody does."""

import json
import os
import re
import socket
import time
from collections import Counter
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import click

from tinybox.cli.bundle import SUFFIX, deliver, interruptible, refuse_taken, staging, write_tree
from tinybox.cli.offline import offline_json
from tinybox.client import DaemonAbsent, fetch
from tinybox.core.box import Box, known_boxes, load_box
from tinybox.core.config import Config, Folders, effective_settings, load_config
from tinybox.core.errors import TinyboxError
from tinybox.core.redaction import Known, Redactor
from tinybox.core.table import table_text
from tinybox.hw.hardware import Hardware
from tinybox.hw.host import Host
from tinybox.hw.recording import RecordingHost, Tree, pci_lines, read_extras, read_identity, redacted

CONFIG = "etc/tinybox/config.toml"
EXPECTED = "expected.json"
READ_AT_S = 10.0  # a recording stands still: any time does
WORDS = {
    "commands": "what ipmitool, nvme, journalctl and dmesg said",
    "etc": "the settings in force",
    EXPECTED: "what the drivers make of it all, for a test to compare",
    "library": "processor and memory",
    "pci.txt": "every device on the bus",
    "proc": "array and mounts, kernel",
    "problem.txt": "why the settings cannot be read",
    "settings.json": "each setting and where it came from",
    "status.json": "the status by these readings",
    "sys": "what the drivers read of cards, supplies, drives",
    "tinyboxd.json": "the status as the daemon has it",
    "usr": "the release of the system",
}
MOST_BYTES = 5_000_000
FIRST_CUT, LEAST_CUT = 2**18, 2**12  # of one file


@dataclass(frozen=True, slots=True)
class Report:
    """What is to be written, how many secrets were replaced, and what this machine did not give."""

    tree: Tree
    counts: Counter[str]
    missing: tuple[str, ...]


@click.command(
    epilog="Examples: 'tinybox support', 'tinybox support --show', 'tinybox support --yes --archive report.tar.zst'"
)
@click.argument("folder", metavar="[DIR]", required=False, type=click.Path(path_type=Path))
@click.option("--archive", metavar="FILE.tar.zst", type=click.Path(path_type=Path), help="Pack it as one file.")
@click.option("--show", is_flag=True, help="Print every file's content first.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
def support(folder: Path | None, archive: Path | None, show: bool, yes: bool, as_json: bool) -> None:
    """Record this machine as a folder of text, to be sent along with a question.

    What the drivers read, the settings, the status, our own journal and the kernel's lines about the hardware; names,
    keys, serial numbers and addresses are replaced. Nothing is sent. No card is woken, nothing is changed. Without DIR
    and --archive it is a new folder here. DIR may be moved to tests/recordings/ as it is. See docs/support.md.
    """
    if archive is not None and not archive.name.endswith(SUFFIX):
        raise click.BadParameter(f"'{archive}' does not end in {SUFFIX}", param_hint="--archive")
    if folder is None and archive is None:
        folder = Path(time.strftime("tinybox-support-%Y%m%d-%H%M%S"))
    refuse_taken(folder, archive)
    say = partial(click.echo, err=as_json)
    with interruptible():
        report = gather(Folders.from_environment())
        with staging(folder or archive or Path()) as work:
            files = stage(report, work / "tree")
            say(summary(files, report))
            if show:
                say("".join(f"\n== {name}\n{text}" for name, text in sorted(files.items())))
            _ask(folder, archive, yes=yes)
            deliver(work / "tree", folder, archive)
    _conclude(folder, archive, files, report, as_json=as_json)


def _ask(folder: Path | None, archive: Path | None, *, yes: bool) -> None:
    places = " and ".join(str(path) for path in (folder, archive) if path is not None)
    try:
        is_wanted = yes or click.confirm(f"Write this to {places}?", err=True)
    except click.Abort:  # Ctrl-C, or nobody there to answer
        click.echo(err=True)
        is_wanted = False
    if not is_wanted:
        raise TinyboxError(
            "not confirmed: nothing was written", hint="look at it with --show, then say yes or add --yes"
        )


def _conclude(
    folder: Path | None, archive: Path | None, files: dict[str, str], report: Report, *, as_json: bool
) -> None:
    if as_json:
        document = {
            "folder": None if folder is None else str(folder.absolute()),
            "archive": None if archive is None else str(archive.absolute()),
            "bytes": _bytes(files),
            "files": {name: len(text.encode()) for name, text in sorted(files.items())},
            "redacted": dict(sorted(report.counts.items())),
            "missing": list(report.missing),
        }
        click.echo(json.dumps(document, indent=2))
        return
    for path in filter(None, (folder, archive)):
        click.echo(f"written to {path.absolute()}")
    click.echo("nothing was sent: look through it, then attach it to your report yourself", err=True)


def gather(folders: Folders) -> Report:
    """Read the machine through the drivers, and what else helps; everything redacted. Nothing is written."""
    plain = Host.from_environment()
    host = RecordingHost(plain.root, plain.live)
    config, box, problem = _settings(folders)
    redactor = Redactor(_known(plain, config))
    texts = {"problem.txt": redactor.prose(problem)} if problem else _settings_files(folders, config, box, redactor)
    documents, missing = _readings(folders, host, is_configured=not problem)
    for name, text in documents.items():
        document = redactor.document(json.loads(_below(text, host.root)))
        texts[name] = _json({**document, "box": _box_name(document["box"], redactor)})
    missing += read_extras(host)
    texts["pci.txt"] = redactor.fact(pci_lines(plain))
    tree = redacted(host.notes, redactor)
    return Report(replace(tree, files=_cut({**tree.files, **texts})), redactor.counts, missing)


def _settings(folders: Folders) -> tuple[Config, Box, str]:
    """Settings and box; where they cannot be read, the default's, and why: a report is wanted just then."""
    try:
        config = load_config(folders.config)
        return config, load_box(config.box, folders.boxes), ""
    except TinyboxError as error:
        return Config(), load_box(Config().box), f"{error.message}\n{error.hint}\n"


def _known(host: Host, config: Config) -> Known:
    """Who is who on this machine and, where another root is looked at, on the one we run on."""
    bmc = () if re.fullmatch(r"[\d.]*|.*:.*", config.bmc.host) else (config.bmc.host,)
    people = (os.environ.get(name, "") for name in ("USER", "LOGNAME", "SUDO_USER"))
    known = Known((*bmc, socket.gethostname()), (config.bmc.user, *people), (config.alerts.webhook,))
    return read_identity(host).merged(read_identity(Host())).merged(known)


def _settings_files(folders: Folders, config: Config, box: Box, redactor: Redactor) -> dict[str, str]:
    """The settings as they are in force, with the box's table where it is the owner's own."""
    safe = replace(redactor.config(config), box=_box_name(config.box, redactor))
    files = {}
    if (folders.boxes / f"{config.box}.toml").exists():
        table = {key: value for key, value in asdict(box).items() if key != "name"}
        table["title"] = redactor.prose(box.title)
        files[f"etc/tinybox/boxes/{safe.box}.toml"] = redactor.fact(table_text(table))
    values = {"box": safe.box}
    for part in ("bmc", "alerts"):
        values |= {f"{part}.{key}": value for key, value in asdict(getattr(safe, part)).items()}
    shown = {
        setting.key: {"value": values.get(setting.key, setting.value), "origin": redactor.prose(setting.origin)}
        for setting in effective_settings(folders.config)
    }
    return {**files, CONFIG: redactor.fact(table_text(asdict(safe))), "settings.json": _json(shown)}


def _box_name(name: str, redactor: Redactor) -> str:
    """A kind of box of the suite's tells nothing; one of the owner's may be called after them."""
    return name if name in known_boxes() else redactor.name(name)


def _readings(folders: Folders, host: RecordingHost, *, is_configured: bool) -> tuple[dict[str, str], tuple[str, ...]]:
    """The status by the very readings that are recorded, and what the daemon says if it runs."""
    documents: dict[str, str] = {}
    missing: tuple[str, ...] = ()
    if is_configured:
        documents["status.json"] = offline_json(folders, host)
    else:
        _look(host, load_box(Config().box), Config())
    try:
        documents["tinyboxd.json"] = fetch(str(folders.socket), "/status").decode()
    except DaemonAbsent as absent:
        missing = (str(absent),)
    except TinyboxError as error:
        missing = (error.message,)
    return documents, missing


def _look(host: Host, box: Box, config: Config) -> dict[str, Any]:
    """One reading by every driver."""
    hardware = Hardware(host, box, config)
    try:
        fast, slow = hardware.read_fast(READ_AT_S), hardware.read_slow(READ_AT_S)
    finally:
        hardware.release()
    return {"fast": asdict(fast), "slow": asdict(slow)}


def stage(report: Report, folder: Path) -> dict[str, str]:
    """Write the recording, and beside it what the drivers make of it: a test compares that. All its files."""
    write_tree(folder, report.tree.files, report.tree.links, report.tree.folders)
    config = load_config(folder / CONFIG)
    box = load_box(config.box, (folder / CONFIG).parent / "boxes")
    expected = _below(_json(_look(Host(folder), box, config)), folder)
    (folder / EXPECTED).write_text(expected)
    return {**report.tree.files, EXPECTED: expected}


def summary(files: dict[str, str], report: Report) -> str:
    """What is in it, by its folders, what was replaced how often, and what is not there."""
    sizes: dict[str, list[int]] = {}
    for name, text in files.items():
        sizes.setdefault(name.split("/")[0], []).append(len(text.encode()))
    lines = [f"{len(files)} files, {_bytes(files):,} bytes"]
    for name in sorted(sizes):
        count = f"{len(sizes[name])} files" if "/" in next(f for f in files if f.split("/")[0] == name) else ""
        lines.append(f"  {name:16} {count:>10} {sum(sizes[name]):>9,} bytes  {WORDS.get(name, '')}".rstrip())
    replaced = ", ".join(f"{kind} {count}" for kind, count in sorted(report.counts.items()))
    lines.append(f"replaced: {replaced or 'nothing'} (times)")
    return "\n".join((*lines, *(f"not there: {words}" for words in report.missing)))


def _cut(files: dict[str, str]) -> dict[str, str]:
    """The last part of what is long, so that the whole stays below its bound."""
    most = FIRST_CUT
    while True:
        shorter = {name: text[-most:] for name, text in files.items()}
        if _bytes(shorter) <= MOST_BYTES or most <= LEAST_CUT:
            return shorter
        most //= 2


def _bytes(files: dict[str, str]) -> int:
    return sum(len(text.encode()) for text in files.values())


def _below(text: str, root: Path) -> str:
    """Paths as the machine itself has them."""
    return text if root == Path("/") else text.replace(str(root), "")


def _json(value: Any) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"
