"""cloud-init's user-data as a seed: what is taken over, what is told, what is refused."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from provisioning.flash.cli import read_seeds
from provisioning.userdata import import_user_data
from tinybox.core.errors import TinyboxError
from tinybox.core.seed import Seed, parse_seed

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIE5nZXZlcnVzZWRhbnl3aGVyZWF0YWxsMDAwMDAwMDAw ada@laptop"
USUAL = f"""#cloud-config
hostname: kitchen.lan
users:
  - default
  - name: ada
    sudo: ALL=(ALL) NOPASSWD:ALL
    ssh_authorized_keys: ['{KEY}']
ssh_authorized_keys:
  - {KEY}
packages: [htop]
runcmd: [[reboot]]
"""


def test_what_a_seed_knows_is_taken_over_and_the_rest_is_named() -> None:
    seed, left = import_user_data(USUAL, where="it")
    assert seed == Seed("kitchen", "ada", (KEY,))
    assert left == ("packages", "runcmd", "users[0].sudo")


def test_an_empty_one_is_the_usual_seed() -> None:
    assert import_user_data("#cloud-config\n", where="it") == (Seed(), ())
    assert import_user_data("#cloud-config\nusers: [default]\n", where="it") == (Seed(), ())


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("#!/bin/sh\nreboot\n", "does not begin with"),
        ("#cloud-config\nhostname: [\n", "not valid YAML in line"),
        ("#cloud-config\n- a\n- b\n", "no table"),
        ("#cloud-config\nhostname: 12\n", "'hostname' is no word"),
        ("#cloud-config\nusers: ada\n", "no list"),
        ("#cloud-config\nusers: [[1]]\n", "no user"),
        ("#cloud-config\nssh_authorized_keys: text\n", "no list of keys"),
        ("#cloud-config\nhostname: !!python/object/apply:os.system ['true']\n", "not valid YAML"),
        ("#cloud-config\n" + "[" * 5000, "not valid YAML"),
    ],
)
def test_what_cannot_be_meant_is_refused(text: str, word: str) -> None:
    with pytest.raises(TinyboxError, match=word):
        import_user_data(text, where="it")


def test_the_seed_made_of_it_is_checked_like_any_other(tmp_path: Path) -> None:
    path = tmp_path / "user-data"
    path.write_text(USUAL)
    assert parse_seed(read_seeds(None, path) or "", where="it").user == "ada"
    path.write_text("#cloud-config\nhostname: Kitchen Box\n")
    with pytest.raises(TinyboxError, match="'hostname' is 'Kitchen Box'"):
        read_seeds(None, path)
    with pytest.raises(TinyboxError, match="there is a seed and a user-data file"):
        read_seeds(path, path)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=200))
def test_whatever_text_comes_it_is_a_seed_or_one_refusal(text: str) -> None:
    try:
        seed, _ = import_user_data(f"#cloud-config\n{text}", where="it")
    except TinyboxError:
        return
    assert isinstance(seed, Seed)
