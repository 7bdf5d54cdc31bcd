"""Write a man page for every program and subcommand, and completions for bash, zsh and fish, from the programs' help.

usage: .venv/bin/python packaging/pages.py STAGE EPOCH_S
"""

import gzip
import importlib
import inspect
import re
import sys
import time
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import click
from click.shell_completion import get_completion_class

REPO = Path(__file__).resolve().parent.parent
# Where each program's help is written: a click command, or a module with a USAGE.
CLICK_PROGRAMS = {
    "tinybox": "tinybox.cli.commands:tinybox",
    "tinybox-governor-pipe": "tinybox.replay.pipe:pipe",
    "tinybox-governor-replay": "tinybox.replay.cli:replay",
    "tinybox-provision": "provisioning.cli:provision",
}
PLAIN_PROGRAMS = {"tinybox-failsafe": "tinybox.daemon.failsafe", "tinyboxd": "tinybox.daemon.main"}
COMPLETIONS = {
    "bash": "usr/share/bash-completion/completions/{name}",
    "zsh": "usr/share/zsh/vendor-completions/_{name}",
    "fish": "usr/share/fish/vendor_completions.d/{name}.fish",
}
EXIT_STATUS = "0 fine, 1 failed, 2 wrong call."


@dataclass(frozen=True, slots=True)
class Page:
    """A man page: its section of the manual, and (heading, roff) in order."""

    name: str
    section: int
    parts: tuple[tuple[str, str], ...]

    def roff(self, date: str, version: str) -> str:
        """The page in the man(7) macros."""
        head = f'.TH "{plain(self.name.upper())}" "{self.section}" "{date}" "tinybox {version}" "tinybox"\n'
        return head + "".join(f".SH {heading}\n{text}" for heading, text in self.parts if text)


def main() -> None:
    """Every page and every completion, into the stage."""
    stage, epoch_s = Path(sys.argv[1]), int(sys.argv[2])
    project = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]
    if strangers := project["scripts"].keys() - CLICK_PROGRAMS.keys() - PLAIN_PROGRAMS.keys():
        sys.exit(f"pages: no help is known for {', '.join(sorted(strangers))}\n  add it to the tables in pages.py")
    date = time.strftime("%Y-%m-%d", time.gmtime(epoch_s))
    for page in all_pages():
        path = stage / f"usr/share/man/man{page.section}/{page.name}.{page.section}.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(page.roff(date, project["version"]).encode(), mtime=0))
    for name, target in CLICK_PROGRAMS.items():
        write_completions(stage, name, load(target))


def load(target: str) -> click.Command:
    """A click command by module and name."""
    module, _, name = target.partition(":")
    command = getattr(importlib.import_module(module), name)
    if not isinstance(command, click.Command):
        raise TypeError(f"{target} is not a click command")
    return command


def all_pages() -> Iterator[Page]:
    """Programs in alphabetical order, each followed by its subcommands."""
    for name, target in CLICK_PROGRAMS.items():
        yield from click_pages(context_of(load(target), name))
    for name, module in PLAIN_PROGRAMS.items():
        yield plain_page(name, importlib.import_module(module).USAGE)


def context_of(command: click.Command, name: str, parent: click.Context | None = None) -> click.Context:
    """What click would make of a call, without parsing one: required arguments may be missing."""
    return click.Context(command, info_name=name, parent=parent, **command.context_settings)


def click_pages(context: click.Context) -> Iterator[Page]:
    """The page of a command and of everything below it."""
    command, path = context.command, context.command_path
    children = list(children_of(context))
    options = [parameter.get_help_record(context) for parameter in command.get_params(context)]
    listed = [(child.command_path, child.command.get_short_help_str(100)) for child in children]
    parts = (
        ("NAME", f"{plain(dashed(path))} \\- {plain(summary(command.get_short_help_str(100)))}\n"),
        ("SYNOPSIS", f".B {plain(path)}\n{plain(' '.join(command.collect_usage_pieces(context)))}\n"),
        ("DESCRIPTION", paragraphs(command.help or "")),
        ("OPTIONS", definitions(record for record in options if record)),
        ("COMMANDS", definitions(listed)),
        ("EXAMPLES", paragraphs(re.sub(r"^Examples?: ", "", command.epilog or ""))),
        ("EXIT STATUS", paragraphs(EXIT_STATUS)),
        ("SEE ALSO", references(context, children)),
    )
    yield Page(dashed(path), 1, parts)
    for child in children:
        yield from click_pages(child)


def children_of(context: click.Context) -> Iterator[click.Context]:
    """The subcommands that the help shows."""
    if isinstance(context.command, click.Group):
        for name in context.command.list_commands(context):
            child = context.command.get_command(context, name)
            if child is not None and not child.hidden:
                yield context_of(child, name, context)


def plain_page(name: str, usage: str) -> Page:
    """A program that parses by hand: its usage as it stands."""
    synopsis, _, rest = usage.partition("\n\n")
    first = re.split(r"[.:](?:\s|$)", rest, maxsplit=1)[0]
    parts = (
        ("NAME", f"{plain(name)} \\- {plain(summary(first))}\n"),
        ("SYNOPSIS", f".nf\n{plain(synopsis.removeprefix('usage: '))}\n.fi\n"),
        ("DESCRIPTION", f".nf\n{plain(rest.strip())}\n.fi\n"),
        ("EXIT STATUS", paragraphs(EXIT_STATUS)),
        ("SEE ALSO", ".BR tinybox (1)\n"),
    )
    return Page(name, 8, parts)


def plain(text: str) -> str:
    """Words as they are: no line of them is a macro, no hyphen a typographic one."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-")
    return re.sub(r"^(?=[.'])", r"\\&", escaped, flags=re.MULTILINE)


def summary(sentence: str) -> str:
    """A sentence as the manual's index has it: one line, small first letter, no full stop."""
    words = " ".join(sentence.split()).rstrip(".")
    return words[:1].lower() + words[1:]


def paragraphs(text: str) -> str:
    """Paragraphs; one that begins with click's mark for it keeps its lines."""
    written = []
    for paragraph in re.split(r"\n\s*\n", inspect.cleandoc(text.partition("\f")[0])):
        is_kept = paragraph.startswith("\b")
        body = plain(paragraph.removeprefix("\b").strip("\n"))
        written.append(f".nf\n{body}\n.fi\n" if is_kept else f"{body}\n")
    return ".PP\n".join(written) if text else ""


def definitions(pairs: Iterable[tuple[str, str]]) -> str:
    """A list of terms and what they mean."""
    return "".join(f".TP\n.B {plain(term)}\n{plain(' '.join(meaning.split()))}\n" for term, meaning in pairs)


def references(context: click.Context, children: list[click.Context]) -> str:
    """The pages above and below."""
    names = [dashed(context.parent.command_path)] if context.parent else []
    names += [dashed(child.command_path) for child in children] or ["tinyboxd"]
    lines = [f".BR {plain(name)} ({8 if name in PLAIN_PROGRAMS else 1})" for name in names]
    return " ,\n".join(lines) + "\n"


def dashed(path: str) -> str:
    """`tinybox twin up` has its page under `tinybox-twin-up`."""
    return path.replace(" ", "-")


def write_completions(stage: Path, name: str, command: click.Command) -> None:
    """Scripts in which a shell asks the program itself what could come next."""
    variable = f"_{name.replace('-', '_').upper()}_COMPLETE"
    for shell, place in COMPLETIONS.items():
        kind = get_completion_class(shell)
        if kind is None:
            raise LookupError(f"click knows no completion for {shell}")
        completion = kind(command, {}, name, variable)
        path = stage / place.format(name=name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text((completion.source_template % completion.source_vars()).lstrip())


if __name__ == "__main__":
    main()
