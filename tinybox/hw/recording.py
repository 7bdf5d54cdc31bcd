"""A host that notes what is read of it: what the drivers asked, and nothing else, becomes a recorded machine.

Links are noted as links, so that a recording has the kernel's own layout. What is there and cannot be read becomes a
folder of that name: reading it fails in a recording too, and not because it is absent.
"""

import contextlib
import json
import posixpath
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from tinybox.core.errors import HardwareError
from tinybox.core.redaction import Known, Redactor
from tinybox.hw.host import COMMAND_TIMEOUT_S, UNREADABLE, AbsentError, Attribute, Host, PsutilValues, command_slug
from tinybox.hw.kernel_log import MATTERS
from tinybox.hw.kmsg import Kmsg, Record
from tinybox.hw.nvme import NVME
from tinybox.hw.owner import PEOPLE_UIDS
from tinybox.hw.pcie import DEVICES

MOST_LINKS = 40
DMI = "sys/class/dmi/id"
UNITS = ("tinyboxd", "tinybox-failsafe", "tinybox-raid", "tinybox-safe-limits", "tinybox-seed")
JOURNAL = (
    *("journalctl", "--quiet", "--no-hostname", "-o", "short-iso", "-n", "500"),
    *(word for unit in UNITS for word in ("-u", unit)),
)
MESSAGES = ("dmesg",)
KMSG = "dev/kmsg"
NOT_NOTED = re.compile(r"(commands|library)/|/?proc/\d")  # replays are noted as what they replay; processes never
NAMES_TELL = re.compile(r"/(pstore|drm)$")  # crash records, nodes of cards
PCI_FACTS = ("class", "vendor", "device", "subsystem_vendor", "subsystem_device")
MOST_LINES = 500
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # what a terminal might obey
# What helps to understand a report and no driver reads: files and commands, all of them.
PROSE_FILES = ("proc/version", "proc/cmdline")
FACT_FILES = (
    "etc/os-release",
    *(f"{DMI}/{name}" for name in ("sys_vendor", "product_name", "board_vendor", "board_name", "bios_version")),
    *(f"sys/module/{name}/version" for name in ("amdgpu", "nvidia", "xe")),
)
# Of these only the lines that say something of our hardware; a mount's name may be anybody's business.
KEPT_LINES = {
    "proc/mountinfo": re.compile(r" - \S+ /dev/md|^(\S+ ){4}(/|/boot|/boot/efi|/efi) "),
    **dict.fromkeys((KMSG, command_slug(MESSAGES)), re.compile(rf"{MATTERS.pattern}|\bkfd\b|ipmi", re.IGNORECASE)),
}


@dataclass(frozen=True, slots=True)
class Unreadable:
    """It is there and does not answer."""

    reason: str


Outcome = str | Unreadable


@dataclass(slots=True)
class Notes:
    """What was read, by path below the root; a thing read twice says what it said last."""

    files: dict[str, Outcome] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    folders: set[str] = field(default_factory=set)
    commands: dict[tuple[str, ...], Outcome] = field(default_factory=dict)
    library: dict[str, dict[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Tree:
    """A recorded machine: text by path, links, and folders that may be empty. Nothing secret is left in it."""

    files: dict[str, str]
    links: dict[str, str]
    folders: frozenset[str]


class RecordingAttribute(Attribute):
    """An attribute whose every reading is noted."""

    __slots__ = ("_note",)

    def __init__(self, path: str, note: Callable[[Callable[[], str]], str]) -> None:
        super().__init__(path)
        self._note = note

    def read(self) -> str:
        """Its text. Raises AbsentError or HardwareError."""
        return self._note(super().read)


class RecordingKmsg(Kmsg):
    """A reader of the kernel's log that notes its records."""

    def __init__(self, path: str, notes: Notes) -> None:
        super().__init__(path)
        self._notes = notes

    def read(self) -> tuple[list[Record], bool]:
        """New records, noted. Raises OSError."""
        records, is_void = super().read()
        told = [f"{record.level},{i},{record.time_us},-;{record.text}\n" for i, record in enumerate(records)]
        self._notes.files[KMSG] = "".join(told)
        return records, is_void


class RecordingHost(Host):
    """A machine whose every reading is noted. Nothing can be written through it."""

    def __init__(self, root: Path = Path("/"), live: frozenset[str] = frozenset()) -> None:
        super().__init__(root, live)
        self.notes = Notes()

    def attribute(self, relative: str) -> Attribute:
        """A file to be read again and again, noted each time."""
        return RecordingAttribute(self.path(relative), partial(self._noted, relative))

    def read_text(self, relative: str) -> str:
        """The file's text, noted. Raises AbsentError or HardwareError."""
        return self._noted(relative, partial(super().read_text, relative))

    def write_text(self, relative: str, text: str) -> None:
        """Refused."""
        raise HardwareError(f"cannot write {text.strip()!r} to {self.path(relative)}: a recording only reads")

    def exists(self, relative: str) -> bool:
        """Whether it is there; noted if so."""
        return super().exists(relative) and self._note_presence(relative)

    def is_writable(self, relative: str) -> bool:
        """Whether anybody may write it; noted if so."""
        return super().is_writable(relative) and self._note_presence(relative)

    def list_dir(self, relative: str) -> tuple[str, ...]:
        """Names in a folder; those that are links are noted, and all where nothing but the name is read."""
        names = super().list_dir(relative)
        if names:
            self.notes.folders.add(self._way(relative))
        for name in names:
            if super().link(f"{relative}/{name}"):
                self._way(f"{relative}/{name}")
            elif NAMES_TELL.search(relative):
                self._note_presence(f"{relative}/{name}")
        return names

    def resolve(self, relative: str) -> str:
        """The path with links followed; the links are noted."""
        self._way(relative)
        return super().resolve(relative)

    def link(self, relative: str) -> str:
        """What a link says, noted."""
        self._way(relative)
        return super().link(relative)

    def run(self, argv: Sequence[str], *, timeout_s: float = COMMAND_TIMEOUT_S, feed: str = "") -> str:
        """A command's output, noted. Raises AbsentError or HardwareError."""
        try:
            text = super().run(argv, timeout_s=timeout_s, feed=feed)
        except AbsentError:
            raise
        except HardwareError as error:
            self.notes.commands[tuple(argv)] = Unreadable(str(error))
            raise
        self.notes.commands[tuple(argv)] = text
        return text

    def answer(self, argv: Sequence[str], ask: Callable[[], Any]) -> Any:
        """A service's answer, noted like a command's output. Raises AbsentError or HardwareError."""
        try:
            found = super().answer(argv, ask)
        except AbsentError:
            raise
        except HardwareError as error:
            self.notes.commands[tuple(argv)] = Unreadable(str(error))
            raise
        self.notes.commands[tuple(argv)] = json.dumps(found)
        return found

    def psutil(self) -> PsutilValues:
        """Processor and memory, noted."""
        values = super().psutil()
        self.notes.library["psutil"] = asdict(values)
        return values

    def kmsg(self) -> Kmsg:
        """The kernel's log; what is read of it is noted in the same form."""
        return RecordingKmsg(self.path("dev/kmsg"), self.notes)

    def addresses(self) -> dict[str, tuple[str, ...]]:
        """IP addresses by interface, noted. Raises HardwareError."""
        found = super().addresses()
        self.notes.library["addresses"] = {name: list(told) for name, told in found.items()}
        return found

    def space(self, mount: str) -> tuple[int | None, int | None]:
        """Size and free bytes of a mount, noted where known."""
        found = super().space(mount)
        if found[0] is not None:
            self.notes.library.setdefault("space", {})[mount] = found
        return found

    def _noted(self, relative: str, read: Callable[[], str]) -> str:
        if NOT_NOTED.match(relative):
            return read()
        way = self._way(relative)
        try:
            text = read()
        except AbsentError:
            self.notes.files.pop(way, None)
            raise
        except HardwareError as error:
            self.notes.files[way] = Unreadable(str(error).rpartition(": ")[2])
            raise
        self.notes.files[way] = text
        return text

    def _note_presence(self, relative: str) -> bool:
        way = self._way(relative)
        if Path(self.path(relative)).is_dir():
            self.notes.folders.add(way)
        else:
            self.notes.files.setdefault(way, "")
        return True

    def _way(self, relative: str) -> str:
        """Note every link on the way; where it ends, below the root.

        A link out of the root leads to the machine that we run on: the recording has what it shows in its own place.
        /proc is no tree to be noted: its links are of the process that looks.
        """
        path = relative.lstrip("/")
        if path.startswith("proc/"):
            return path.replace("proc/self/", "proc/", 1)
        base, done, left = self.root, "", path.split("/")
        links = 0
        while left and links < MOST_LINKS:
            here = posixpath.normpath(f"/{done}/{left.pop(0)}").lstrip("/")  # `done` has no links: '..' goes up
            target = Host(base).link(here)
            if not target:
                done = here
                continue
            links += 1
            if target.startswith("/"):
                base, done = Path("/"), ""
            if target.lstrip("/") != here:
                self.notes.links[here] = _relative(target, here)
            left = [*target.lstrip("/").split("/"), *left]
        return done


def _relative(target: str, link: str) -> str:
    return posixpath.relpath(target, posixpath.dirname(f"/{link}")) if target.startswith("/") else target


def redacted(notes: Notes, redactor: Redactor) -> Tree:
    """What was noted, without what is secret."""
    files: dict[str, str] = {}
    for path, outcome in sorted(notes.files.items()):
        _add(files, redactor.fact(path), outcome, redactor, is_prose=path in (*PROSE_FILES, KMSG))
    for argv, outcome in sorted(notes.commands.items()):
        slug = command_slug(redactor.argv(argv))
        _add(files, f"commands/{slug}", outcome, redactor, is_prose=argv in (JOURNAL, MESSAGES))
    for name, table in notes.library.items():
        files[f"library/{name}.json"] = (
            json.dumps({redactor.fact(key): redactor.document(value) for key, value in table.items()}) + "\n"
        )
    links = {redactor.fact(path): redactor.fact(target) for path, target in sorted(notes.links.items())}
    return Tree(files, links, frozenset(map(redactor.fact, notes.folders)))


def _add(files: dict[str, str], place: str, outcome: Outcome, redactor: Redactor, *, is_prose: bool) -> None:
    if isinstance(outcome, Unreadable):
        files[f"{place}/{UNREADABLE}"] = f"{redactor.prose(outcome.reason)}\n"
        return
    kept = KEPT_LINES.get(place.removeprefix("commands/"))
    whole = "\n".join(line for line in outcome.splitlines() if kept is None or kept.search(line))
    safe = redactor.prose(whole) if is_prose else redactor.fact(whole, posixpath.basename(place))
    text = "\n".join(CONTROL.sub("", safe).split("\n")[-MOST_LINES:])  # cut last: a secret may go over lines
    files[place] = f"{text}\n" if text else ""


def read_extras(host: Host) -> tuple[str, ...]:
    """Read what helps beyond the drivers; what this machine does not give, in words."""
    for path in (*PROSE_FILES, *FACT_FILES):
        with contextlib.suppress(HardwareError):
            host.read_text(path)
    missing = []
    for argv in (JOURNAL, MESSAGES):
        try:
            host.run(argv)
        except HardwareError as error:
            said = "there is none" if isinstance(error, AbsentError) else str(error).replace(" ".join(argv), argv[0])
            missing.append(f"{argv[0]}: {said}")
    return tuple(missing)


def pci_lines(host: Host) -> str:
    """Every PCI device: address, class, vendor:device, subsystem, driver. The kernel has them; no device is woken."""
    lines = []
    for address in host.list_dir(DEVICES):
        facts = [_pci_fact(host, address, name) for name in PCI_FACTS]
        kind, vendor, device, sub_vendor, sub_device = facts
        driver = posixpath.basename(host.link(f"{DEVICES}/{address}/driver")) or "none"
        lines.append(f"{address} {kind} {vendor}:{device} subsystem {sub_vendor}:{sub_device} driver {driver}")
    return "".join(f"{line}\n" for line in lines)


def _pci_fact(host: Host, address: str, name: str) -> str:
    try:
        return host.read_text(f"{DEVICES}/{address}/{name}").removeprefix("0x")
    except HardwareError:
        return "?"


def read_identity(host: Host) -> Known:
    """The machine's names and serial numbers: read to be recognised, never noted."""
    serials = [f"{NVME}/{name}/serial" for name in host.list_dir(NVME)]
    serials += [f"{DMI}/{name}" for name in ("board_serial", "product_serial", "chassis_serial")]
    names = (_words(host, path) for path in ("etc/hostname", "proc/sys/kernel/hostname"))
    people = [_person(line.split(":")) for line in _words(host, "etc/passwd").splitlines()]
    return Known(
        hosts=tuple(part for name in names if name for part in (name, name.split(".")[0])),
        users=(*host.list_dir("home"), *(name for person in people for name in person)),
        serials=tuple(filter(None, (_words(host, path) for path in serials))),
    )


def _words(host: Host, path: str) -> str:
    try:
        return host.read_text(path)
    except HardwareError:
        return ""


def _person(fields: list[str]) -> tuple[str, ...]:
    """Login and real names of one line of passwd(5); none for the system's own accounts."""
    if len(fields) < 5 or not fields[2].isdecimal() or int(fields[2]) not in PEOPLE_UIDS:
        return ()
    real = fields[4].split(",")[0]
    return (fields[0], *filter(None, (real, *(part for part in real.split() if len(part) > 2))))
