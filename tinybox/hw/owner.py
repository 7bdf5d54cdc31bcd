"""The box's name, its owner's account, and where it is plugged in: what a seed sets, and what stands in for one.

Accounts are read from the machine's own files: nothing else knows a person on a box.
"""

import os
import re
import secrets
from dataclasses import dataclass
from pathlib import Path

from tinybox.core.errors import HardwareError
from tinybox.core.seed import Seed, circuit_text, network_text
from tinybox.hw.host import Host

PEOPLE_UIDS = range(1000, 60000)  # the others are the system's own accounts (Debian policy 9.2.2)
SUDOERS = "etc/sudoers.d/tinybox"
NETWORK = "etc/systemd/network/10-tinybox-seed.network"  # before the image's own 20-wired.network
CIRCUIT = "etc/tinybox/config.d/10-seed.toml"
HOST_KEY = "etc/ssh/ssh_host_ed25519_key.pub"
# Both are gone after a boot. The image's /etc/issue.d and sshd configuration lead here.
ISSUE = "run/tinybox/console.issue"
SSH_PASSWORDS = "run/tinybox/sshd.conf"
PASSWD = re.compile(r"[^:]+:[^:]*:\d+:\d+:[^:]*:[^:]*:[^:]*")
# No letter that a person may take for another; 16 of them are 79 bits.
LETTERS = "abcdefghjkmnpqrstuvwxyz23456789"


@dataclass(frozen=True, slots=True)
class Account:
    """One account. `has_own_password`: one that can be used, and that its owner chose."""

    name: str
    uid: int
    gid: int
    home: str
    has_own_password: bool
    has_key: bool

    @property
    def is_person(self) -> bool:
        """Not one of the system's."""
        return self.uid in PEOPLE_UIDS


def read_accounts(host: Host) -> tuple[Account, ...]:
    """Every account of the machine; to whoever may not read passwords nobody has one. Raises HardwareError."""
    if not host.exists("etc/passwd"):
        return ()  # a twin: a machine without people
    passwords: dict[str, tuple[str, str]] = {}
    if os.access(host.path("etc/shadow"), os.R_OK):
        shadow = (line.split(":") for line in host.read_text("etc/shadow").splitlines())
        passwords = {fields[0]: (fields[1], fields[2]) for fields in shadow if len(fields) > 2}
    found = []
    for line in host.read_text("etc/passwd").splitlines():
        if not PASSWD.fullmatch(line):
            continue  # NIS's "+::::::" and the like are no accounts of this machine
        name, _, uid, gid, _, home, _ = line.split(":")
        password, last_change = passwords.get(name, ("!", ""))
        # Changed on day 0: passwd(5)'s word for one that has to be changed before anything else.
        is_own = password not in ("", "x") and password[0] not in "!*" and last_change != "0"
        found.append(Account(name, int(uid), int(gid), home, is_own, _has_key(host, home)))
    return tuple(found)


def _has_key(host: Host, home: str) -> bool:
    try:
        lines = host.read_text(f"{home}/.ssh/authorized_keys").splitlines()
    except HardwareError:
        return False
    return any(line.strip() and not line.strip().startswith("#") for line in lines)


def apply_seed(host: Host, seed: Seed) -> None:
    """All of it, to the same effect when done again. Raises HardwareError or OSError."""
    write_file(host, "etc/hostname", f"{seed.hostname}\n")
    host.run(("hostname", seed.hostname))
    make_owner(host, seed)
    write_file(host, CIRCUIT, circuit_text(seed.circuit))
    if write_file(host, NETWORK, network_text(seed.network)) and _is_networkd_up(host):
        host.run(("networkctl", "reload"))


def make_owner(host: Host, seed: Seed) -> None:
    """The owner's account: sudo without a password, and these keys."""
    if seed.user not in {account.name for account in read_accounts(host)}:
        host.run(("useradd", "--create-home", "--shell", "/bin/bash", "--groups", "sudo", seed.user))
    account = next(account for account in read_accounts(host) if account.name == seed.user)
    write_file(host, SUDOERS, f"{seed.user} ALL=(ALL) NOPASSWD: ALL\n", mode=0o440)
    keys = Path(host.path(f"{account.home}/.ssh/authorized_keys"))
    keys.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    keys.touch(mode=0o600)
    keys.write_text("".join(f"{key}\n" for key in seed.ssh_authorized_keys))
    for path in (keys.parent, keys):
        os.chown(path, account.uid, account.gid)


def welcome(host: Host) -> str:
    """While nobody has a key: a password lets in. The console's words for that; empty where there is a key.

    The password is made here and now, shown nowhere but on the console, and has to be changed at the first login. Until
    that has happened each boot makes another.
    """
    Path(host.path(SSH_PASSWORDS)).unlink(missing_ok=True)
    people = [account for account in read_accounts(host) if account.is_person]
    if any(account.has_key for account in people):
        return ""
    owner = next((account for account in people if account.has_own_password), None)
    if owner is not None:
        _let_passwords_in(host, owner.name)
        return ""
    if not people:
        make_owner(host, Seed())
    name = people[0].name if people else Seed().user
    password = "-".join("".join(secrets.choice(LETTERS) for _ in range(4)) for _ in range(4))
    host.run(("chpasswd",), feed=f"{name}:{password}\n")
    host.run(("chage", "--lastday", "0", name))
    _let_passwords_in(host, name)
    return (
        "This box has no owner yet. Log in, here or from another computer, and choose a password of your own.\n\n"
        f"    ssh {name}@\\4\n"
        f"    one-time password  {password}\n"
        f"    host key           {_fingerprint(host)}\n"
    )


def show_on_console(host: Host, words: str) -> None:
    """Above every login prompt of a screen or a serial line, until the next boot."""
    write_file(host, ISSUE, f"\n{words}\n" if words else "", mode=0o600)


def _let_passwords_in(host: Host, name: str) -> None:
    write_file(host, SSH_PASSWORDS, f"Match User {name}\n    KbdInteractiveAuthentication yes\n")


def _fingerprint(host: Host) -> str:
    try:
        return host.run(("ssh-keygen", "-l", "-f", f"/{HOST_KEY}")).split()[1]
    except (HardwareError, IndexError):
        return "not made yet"


def _is_networkd_up(host: Host) -> bool:
    """At boot it is not yet; asking it then would wait for what waits for us."""
    try:
        host.run(("systemctl", "is-active", "--quiet", "systemd-networkd"))
    except HardwareError:
        return False
    return True


def write_file(host: Host, relative: str, text: str, *, mode: int = 0o644) -> bool:
    """Make the file say this, or be away where there is nothing to say; whether that changed it. Raises OSError."""
    path = Path(host.path(relative))
    before = path.read_text() if path.exists() else ""
    if text:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=mode)
        path.write_text(text)
    else:
        path.unlink(missing_ok=True)
    return text != before
