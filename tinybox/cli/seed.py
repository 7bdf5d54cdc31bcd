"""`tinybox seed`: read the seed file once, at boot; without one let the owner in by a password made here."""

import os
from pathlib import Path

import click

from tinybox.core.box import load_box
from tinybox.core.circuit import circuit_of
from tinybox.core.config import Config, Folders, load_config
from tinybox.core.errors import HardwareError, TinyboxError
from tinybox.core.seed import FILE_NAME, Seed, parse_seed
from tinybox.hw.host import Host
from tinybox.hw.notices import clear_notice, leave_notice, one_line
from tinybox.hw.owner import apply_seed, read_accounts, show_on_console, welcome

DEFAULT = Path("/efi") / FILE_NAME


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def seed() -> None:
    """Apply what makes this box different from others."""


@seed.command(epilog="Example: 'tinybox seed check --file ./tinybox-seed.toml'")
@click.option("--file", "path", type=click.Path(path_type=Path), default=DEFAULT, show_default=True)
def check(path: Path) -> None:
    """Read a seed and say whether it is good. Changes nothing."""
    click.echo(f"fine: {_words(read_seed(path, Host.from_environment()))}")


@seed.command(epilog="Example: 'tinybox seed apply --file ./tinybox-seed.toml'")
@click.option("--file", "path", type=click.Path(path_type=Path), default=DEFAULT, show_default=True)
def apply(path: Path) -> None:
    """Name the box, make its user, let the seed's keys log in, set network and circuit. The file stays."""
    host = Host.from_environment()
    found = read_seed(path, host)
    _apply(host, found)
    click.echo(f"seed applied: {_words(found)}")


@seed.command(epilog="Example: 'systemctl restart tinybox-seed', which runs it")
def boot() -> None:
    """What the box does at every boot: read the seed, then remove it; where nobody has a key, let a password in.

    A seed with a mistake stays where it is, and changes nothing.
    """
    host, run = Host.from_environment(), Folders.from_environment().run
    path = Path(host.path(str(DEFAULT)))
    trouble: TinyboxError | None = None
    try:
        if path.exists():
            found = read_seed(path, host)
            _apply(host, found)
            _remove(path)
            click.echo(f"seed applied and removed: {_words(found)}")
    except TinyboxError as error:
        trouble = error
    words = _welcome(host)
    if trouble is None:
        clear_notice(run, "seed")
        show_on_console(host, words)
        return
    leave_notice(run, "seed", trouble)
    told = one_line(trouble).replace("\\", "\\\\")  # what agetty(8) would take for an escape
    show_on_console(host, f"Seed: {told}\n\n{words}")
    raise trouble


def read_seed(path: Path, host: Host) -> Seed:
    """The seed in a file. Raises TinyboxError, also where this machine could not have such a user or circuit."""
    try:
        found = parse_seed(path.read_text(), where=str(path))
    except OSError as error:
        raise TinyboxError(f"cannot read {path}: {error.strerror}", hint="see docs/seed.md") from None
    except UnicodeDecodeError:
        raise TinyboxError(f"cannot read {path}: it is not UTF-8 text", hint="save it as UTF-8") from None
    if any(account.name == found.user and not account.is_person for account in read_accounts(host)):
        raise TinyboxError(f"{path}: '{found.user}' is an account of the system", hint="name another user")
    folders = Folders.from_environment()
    try:
        circuit_of(load_box(load_config(folders.config).box, folders.boxes), Config(circuit=found.circuit))
    except TinyboxError as error:
        raise TinyboxError(f"{path}: {error.message}", hint=error.hint) from None
    return found


def _apply(host: Host, found: Seed) -> None:
    try:
        apply_seed(host, found)
    except (HardwareError, OSError) as error:
        raise TinyboxError(f"cannot apply the seed: {error}", hint="mend that and run it again") from None


def _remove(path: Path) -> None:
    """Only once what it said is on the disk."""
    os.sync()
    try:
        path.unlink()
    except OSError as error:
        hint = "it is read again at the next boot: remove it"
        raise TinyboxError(f"cannot remove {path}: {error.strerror}", hint=hint) from None
    os.sync()


def _welcome(host: Host) -> str:
    try:
        return welcome(host)
    except (HardwareError, OSError) as error:
        words = f"Nobody can log in, and no one-time password could be made: {error}\n"
        click.echo(words, err=True, nl=False)
        return words


def _words(found: Seed) -> str:
    network = found.network.address or "DHCP"
    circuit = found.circuit.outlet or "the box's circuit"
    return f"host {found.hostname}, user {found.user}, {len(found.ssh_authorized_keys)} keys, {network}, {circuit}"
