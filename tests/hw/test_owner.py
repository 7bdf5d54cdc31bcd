"""A box's owner, on a machine that is a folder: what a seed sets, and what lets an owner in without one."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from tinybox.core.config import CircuitConfig, load_config
from tinybox.core.seed import Network, Seed
from tinybox.hw.host import Host, command_slug
from tinybox.hw.owner import CIRCUIT, LETTERS, NETWORK, SSH_PASSWORDS, apply_seed, read_accounts, welcome

SYSTEM = "root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65534::/nonexistent:/usr/sbin/nologin\n+::::::\n"
OWN, LOCKED, EXPIRED = "$y$j9T$abc:20000", "!:20000", "$y$j9T$abc:0"
ADA = max(1000, os.getuid())  # a person, and one that whoever runs this may give files to
SEED = Seed(
    "kitchen-box",
    "ada",
    ("ssh-ed25519 AAAA ada@laptop",),
    Network("192.168.1.20/24", "192.168.1.1"),
    CircuitConfig(outlet="120V/20A"),
)


def machine(folder: Path, password: str | None = None, keys: str = "") -> Host:
    """A machine with a person called ada who has this password and these keys; None: nobody but the system."""
    (folder / "etc").mkdir()
    (folder / "commands").mkdir()
    for words in (("hostname", "kitchen-box"), ("chpasswd",), ("chage", "--lastday", "0", "ada")):
        (folder / "commands" / command_slug(words)).touch()
    person = f"ada:x:{ADA}:{os.getgid()}::/home/ada:/bin/bash\n"
    (folder / "etc/passwd").write_text(SYSTEM + (person if password is not None else ""))
    (folder / "etc/shadow").write_text(f"root:*:20000:::\nada:{password}:0:99999:7:::\n")
    (folder / "home/ada/.ssh").mkdir(parents=True)
    (folder / "home/ada/.ssh/authorized_keys").write_text(keys)
    return Host(folder)


@pytest.mark.parametrize(
    ("password", "keys", "has_own_password", "has_key"),
    [
        (LOCKED, "", False, False),
        (EXPIRED, "# mine:\n\n", False, False),
        (OWN, "", True, False),
        (":20000", "", False, False),
        ("*:20000", "# mine:\nssh-ed25519 AAAA ada@laptop\n", False, True),
    ],
)
def test_who_can_log_in_is_read_from_the_machines_own_files(
    tmp_path: Path, password: str, keys: str, has_own_password: bool, has_key: bool
) -> None:
    root, nobody, ada = read_accounts(machine(tmp_path, password, keys))
    assert not root.is_person and not nobody.is_person and ada.is_person
    assert (ada.has_own_password, ada.has_key) == (has_own_password, has_key)


def test_a_seed_sets_name_keys_network_and_circuit_and_again_to_the_same_effect(tmp_path: Path) -> None:
    host = machine(tmp_path, LOCKED)
    for _ in range(2):
        apply_seed(host, SEED)
        assert (tmp_path / "etc/hostname").read_text() == "kitchen-box\n"
        keys = tmp_path / "home/ada/.ssh/authorized_keys"
        assert (keys.read_text(), keys.stat().st_uid) == ("ssh-ed25519 AAAA ada@laptop\n", ADA)
        assert (tmp_path / "etc/sudoers.d/tinybox").stat().st_mode & 0o777 == 0o440
        assert "Address=192.168.1.20/24" in (tmp_path / NETWORK).read_text()
        assert load_config(tmp_path / "etc/tinybox/config.toml").circuit.outlet == "120V/20A"


def test_a_later_seed_without_them_returns_to_dhcp_and_the_boxs_circuit(tmp_path: Path) -> None:
    host = machine(tmp_path, LOCKED)
    apply_seed(host, SEED)
    apply_seed(host, replace(SEED, network=Network(), circuit=CircuitConfig()))
    assert not (tmp_path / NETWORK).exists()
    assert not (tmp_path / CIRCUIT).exists()


def test_whoever_has_a_key_lets_no_password_in(tmp_path: Path) -> None:
    host = machine(tmp_path, OWN, "ssh-ed25519 AAAA ada@laptop\n")
    (tmp_path / "run/tinybox").mkdir(parents=True)
    (tmp_path / SSH_PASSWORDS).write_text("left from before the key")
    assert welcome(host) == ""
    assert not (tmp_path / SSH_PASSWORDS).exists()


def test_a_password_that_its_owner_chose_stays_until_there_is_a_key(tmp_path: Path) -> None:
    assert welcome(machine(tmp_path, OWN)) == ""
    assert (tmp_path / SSH_PASSWORDS).read_text() == "Match User ada\n    KbdInteractiveAuthentication yes\n"


@pytest.mark.parametrize("password", [LOCKED, EXPIRED])
def test_without_a_key_and_a_password_each_boot_makes_another(tmp_path: Path, password: str) -> None:
    host = machine(tmp_path, password)
    told = [welcome(host), welcome(host)]
    made = [text.split("one-time password")[1].split()[0] for text in told]
    assert made[0] != made[1]
    assert all(len(word) == 19 and set(word) <= {*LETTERS, "-"} for word in made)
    assert "ssh ada@\\4" in told[0]  # agetty puts the address there
    assert (tmp_path / SSH_PASSWORDS).exists()
