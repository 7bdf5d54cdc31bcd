"""`tinybox seed`: apply the seed file, again at every boot, to the same effect."""

import contextlib
import os
import pwd
from pathlib import Path

import click

from tinybox.core.errors import HardwareError, TinyboxError
from tinybox.core.seed import FILE_NAME, Seed, parse_seed
from tinybox.hw.host import Host

DEFAULT = Path("/efi") / FILE_NAME
PEOPLE_UIDS = range(1000, 60000)  # the others are the system's own accounts (Debian policy 9.2.2)
SUDOERS = Path("/etc/sudoers.d/tinybox")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def seed() -> None:
    """Apply what makes this box different from others."""


@seed.command(epilog="Example: 'tinybox seed check --file ./tinybox-seed.toml'")
@click.option("--file", "path", type=click.Path(path_type=Path), default=DEFAULT, show_default=True)
def check(path: Path) -> None:
    """Read a seed and say whether it is good. Changes nothing."""
    found = read_seed(path)
    click.echo(f"fine: host {found.hostname}, user {found.user}, {len(found.ssh_authorized_keys)} keys")


@seed.command(epilog="Example: 'tinybox seed apply'")
@click.option("--file", "path", type=click.Path(path_type=Path), default=DEFAULT, show_default=True)
@click.option("--if-present", is_flag=True, help="No seed is fine: say that nobody can log in.")
def apply(path: Path, if_present: bool) -> None:
    """Name the box, make its user, and let the seed's keys log in."""
    if if_present and not path.exists():
        click.echo(f"no seed at {path}: nobody can log in to this box until one is there", err=True)
        return
    found = read_seed(path)
    host = Host()
    try:
        set_hostname(host, found.hostname)
        make_user(host, found)
    except HardwareError as error:
        raise TinyboxError(f"the seed was not applied: {error}", hint="mend that and run it again") from None
    click.echo(f"seed applied: host {found.hostname}, user {found.user}, {len(found.ssh_authorized_keys)} keys")


def read_seed(path: Path) -> Seed:
    """The seed in a file. Raises TinyboxError, also where its user is an account of this machine's system."""
    try:
        found = parse_seed(path.read_text(), where=str(path))
    except OSError as error:
        raise TinyboxError(f"cannot read {path}: {error.strerror}", hint="see docs/seed.md") from None
    except UnicodeDecodeError:
        raise TinyboxError(f"cannot read {path}: it is not UTF-8 text", hint="save it as UTF-8") from None
    with contextlib.suppress(KeyError):  # not an account yet: it will be made
        if pwd.getpwnam(found.user).pw_uid not in PEOPLE_UIDS:
            raise TinyboxError(f"{path}: '{found.user}' is an account of the system", hint="name another user")
    return found


def set_hostname(host: Host, name: str) -> None:
    """Now and after the next boot."""
    Path("/etc/hostname").write_text(f"{name}\n")
    host.run(("hostname", name))


def make_user(host: Host, found: Seed) -> None:
    """The owner's account: no password, sudo without one, these keys."""
    try:
        account = pwd.getpwnam(found.user)
    except KeyError:
        host.run(("useradd", "--create-home", "--shell", "/bin/bash", "--groups", "sudo", found.user))
        account = pwd.getpwnam(found.user)
    SUDOERS.touch(mode=0o440)
    SUDOERS.write_text(f"{found.user} ALL=(ALL) NOPASSWD: ALL\n")
    folder = Path(account.pw_dir) / ".ssh"
    folder.mkdir(mode=0o700, exist_ok=True)
    keys = folder / "authorized_keys"
    keys.touch(mode=0o600)
    keys.write_text("".join(f"{key}\n" for key in found.ssh_authorized_keys))
    for path in (folder, keys):
        os.chown(path, account.pw_uid, account.pw_gid)
