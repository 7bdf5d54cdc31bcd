"""`tinybox-provision`: build the image, run it as a box, make it an artefact, flash it."""

import os
import sys
from pathlib import Path

import click

from provisioning.artefact.cli import inspect, keygen, pack, verify
from provisioning.flash.cli import flash
from provisioning.image import REPO, build_image, say_on_stderr
from tinybox import __version__
from tinybox.core.errors import TinyboxError

HELP = {"help_option_names": ["-h", "--help"]}


@click.group(context_settings=HELP, epilog="Example: 'tinybox-provision image build --profile sim'")
@click.version_option(__version__, prog_name="tinybox-provision")
def provision() -> None:
    """Build a box's image, run it in a virtual machine, sign it, flash it."""


@provision.group(context_settings=HELP)
def image() -> None:
    """The operating system as an image."""


@image.command(epilog="Examples: 'tinybox-provision image build', 'DISTRIBUTION=debian tinybox-provision image build'")
@click.option("--profile", default="sim", show_default=True, help="One of image/mkosi.profiles.")
@click.option("--distribution", type=click.Choice(["ubuntu", "debian"]), help="Ubuntu where its archive answers.")
@click.option("--out", type=click.Path(path_type=Path), default=REPO / "build/image", help="Where images go.")
def build(profile: str, distribution: str | None, out: Path) -> None:
    """Build the image of a profile, unless it is up to date; prints the disk's path."""
    click.echo(build_image(profile, distribution=distribution, out=out.absolute(), say=say_on_stderr).disk)


@provision.command(epilog="Example: 'tinybox-provision release --profile red --key tinybox'")
@click.option("--profile", default="sim", show_default=True, help="One of image/mkosi.profiles.")
@click.option("--distribution", type=click.Choice(["ubuntu", "debian"]), help="Ubuntu where its archive answers.")
@click.option("--key", type=click.Path(path_type=Path), required=True, help="The secret key that 'keygen' made.")
@click.option("--out", type=click.Path(path_type=Path), default=REPO / "dist", help="Where the artefact goes.")
def release(profile: str, distribution: str | None, key: Path, out: Path) -> None:
    """Build the image of a profile and make it a signed artefact with its papers."""
    from provisioning.artefact.keys import load_secret

    load_secret(key)  # minutes before it is needed
    image = build_image(profile, distribution=distribution, out=REPO / "build/image", say=say_on_stderr)
    name = f"tinybox-{profile}-{image.distribution}-{__version__}.tbx"
    click.get_current_context().invoke(pack, image=image.disk, key=key, unsigned=False, out=out / name, frame_mib=4)


@provision.command()
def run() -> None:
    """Bake the sim image, boot it as a box, show its status, open a shell in it.

    Leaving the shell powers the machine off. ONESHOT=1, or no terminal: no shell, the status goes to
    build/run/status.json.
    """
    from provisioning.run import run as run_box

    is_interactive = sys.stdin.isatty() and sys.stdout.isatty() and os.environ.get("ONESHOT", "") in ("", "0")
    run_box(is_interactive=is_interactive)


@provision.command()
@click.option("--seconds", type=float, help="End after so long; without a terminal it ends after one look.")
def demo(seconds: float | None) -> None:
    """Show a twin, governed, live, on this machine: no virtual machine, nothing left behind."""
    from provisioning.demo import demo as show

    show(seconds)


for command in (keygen, pack, verify, inspect, flash):
    provision.add_command(command)


def main() -> None:
    """The console script. Exit 0 fine, 1 failed, 2 wrong call."""
    try:
        provision.main(prog_name="tinybox-provision")
    except TinyboxError as error:
        sys.stderr.write(f"tinybox-provision: {error.message}\n" + (f"  {error.hint}\n" if error.hint else ""))
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
