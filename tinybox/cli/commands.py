"""The table of commands. A command is one file and one row here; its file is loaded only when it is called."""

import importlib

import click

from tinybox import __version__

# name: (where the click command lives, one line of help)
COMMANDS: dict[str, tuple[str, str]] = {
    "arm": ("tinybox.cli.arm:arm", "Let tinyboxd govern this box."),
    "config": ("tinybox.cli.config:config", "Show and check the settings."),
    "disarm": ("tinybox.cli.arm:disarm", "Stop governing, and give every card its own limits back."),
    "doctor": ("tinybox.cli.doctor:doctor", "Say which lever is missing, and what brings it."),
    "health": ("tinybox.cli.health:health", "Judge every part of the machine, and say what to do."),
    "init": ("tinybox.cli.init:init", "Find out what this machine is, and name its circuit."),
    "noise": ("tinybox.cli.noise:noise", "Show how loud the box is, and fit that to a sound meter."),
    "power": ("tinybox.cli.power:power", "Explain the outlet's promise and its guarantee."),
    "quiet": ("tinybox.cli.quiet:quiet", "Say how loud the box may be: 40, silent, balanced, full, off, auto."),
    "raid": ("tinybox.cli.raid:raid", "Assemble the data array, or create it on empty drives."),
    "seed": ("tinybox.cli.seed:seed", "Apply what makes this box different from others."),
    "status": ("tinybox.cli.status:status", "Show power, cards, noise, drives and alerts."),
    "support": ("tinybox.cli.support:support", "Record this machine for a report, without what is secret."),
    "twin": ("tinybox.cli.twin:twin", "Run a digital twin of a box on this machine."),
}


class LazyGroup(click.Group):
    """A group that knows its commands' names and help without importing them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names, sorted."""
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Load the file of one command."""
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name][0].partition(":")
        command = getattr(importlib.import_module(module), name)
        if not isinstance(command, click.Command):
            raise TypeError(f"{module}:{name} is not a click command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list in the help, from the table alone."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name][1]) for name in sorted(COMMANDS)])


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Examples: 'tinybox status', 'tinybox status --json', 'tinybox twin up --box red'. "
    "Exit codes: 0 fine, 1 failed, 2 wrong call.",
)
@click.version_option(__version__, prog_name="tinybox")
def tinybox() -> None:
    """Six GPUs, one outlet, one quiet box: see it and look after it."""
