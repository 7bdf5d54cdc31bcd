"""The seed: what makes one box different from another, and nothing that could harm it."""

import pytest

from tinybox.core.errors import TinyboxError
from tinybox.core.seed import Seed, parse_seed, seed_text

KEY = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ4x me@laptop, "the old one"'


def test_what_is_written_is_read_back() -> None:
    seed = Seed("kitchen-box", "ada", (KEY,))
    assert parse_seed(seed_text(seed), where="seed") == seed


def test_an_empty_seed_is_the_default_box_that_nobody_logs_in_to() -> None:
    assert parse_seed("", where="seed") == Seed("tinybox", "tiny", ())


BAD = [
    ("password = 'secret'", "unknown key 'password'"),
    ("hostname = 'Kitchen Box'", "'hostname' is 'Kitchen Box'"),
    ("hostname = '-box'", "'hostname' is '-box'"),
    ("user = 'root'", "'user' is 'root'"),
    ("user = 'x; rm -rf /'", "'user' is"),
    ("ssh_authorized_keys = ['hello']", "'ssh_authorized_keys[0]' is no public key"),
    (f"ssh_authorized_keys = ['{KEY}', 'command=\"x\" {KEY}']", "'ssh_authorized_keys[1]' is no public key"),
    ("ssh_authorized_keys = ['''" + KEY + "\n" + KEY + "''']", "'ssh_authorized_keys[0]' is no public key"),
    ("ssh_authorized_keys = 'x'", "'ssh_authorized_keys' is 'x'"),
    ("hostname = ", "not valid TOML"),
]


@pytest.mark.parametrize(("text", "words"), BAD)
def test_a_bad_seed_is_refused_whole_with_place_and_key(text: str, words: str) -> None:
    with pytest.raises(TinyboxError) as caught:
        parse_seed(text, where="/efi/seed")
    assert words in caught.value.message
    assert caught.value.message.startswith("/efi/seed: ")
    assert caught.value.hint
