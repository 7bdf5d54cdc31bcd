"""The seed: what makes one box different from another, and nothing that could harm it."""

import pytest

from tinybox.core.config import CircuitConfig
from tinybox.core.errors import TinyboxError
from tinybox.core.seed import Network, Seed, circuit_text, network_text, parse_seed, seed_text

KEY = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ4x me@laptop, "the old one"'


def test_what_is_written_is_read_back() -> None:
    seed = Seed("kitchen-box", "ada", (KEY,))
    assert parse_seed(seed_text(seed), where="seed") == seed


def test_network_and_circuit_are_written_and_read_back_too() -> None:
    network = Network("192.168.1.20/24", "192.168.1.1", ("192.168.1.1", "fd00::53"), "9c:6b:00:12:34:56")
    seed = Seed(network=network, circuit=CircuitConfig(outlet="120V/20A", other_load_a=1.5))
    assert parse_seed(seed_text(seed), where="seed") == seed


def test_an_address_becomes_a_file_of_networkd_and_dhcp_none() -> None:
    assert network_text(Network()) == ""
    text = network_text(Network("192.168.1.20/24", "192.168.1.1", ("9.9.9.9",)))
    assert "[Match]\nType=ether\nKind=!*\n" in text  # one end of a container's network is not the box's wire
    assert text.endswith("[Network]\nAddress=192.168.1.20/24\nGateway=192.168.1.1\nDNS=9.9.9.9\n")
    assert "[Match]\nMACAddress=9c:6b:00:12:34:56\n" in network_text(Network("fd00::2/64", mac="9c:6b:00:12:34:56"))


def test_a_circuit_becomes_settings_of_its_own_words_only() -> None:
    assert circuit_text(CircuitConfig()) == ""
    assert circuit_text(CircuitConfig(outlet="240V/30A")).strip() == '[circuit]\noutlet = "240V/30A"'


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
    ("network.address = '192.168.1.20'", "'network.address' is '192.168.1.20'"),
    ("network.address = '192.168.1.0/24'", "'network.address' is '192.168.1.0/24'"),
    ("network.address = '192.168.1.255/24'", "'network.address' is '192.168.1.255/24'"),
    ("network.address = '127.0.0.1/8'", "'network.address' is '127.0.0.1/8'"),
    ("network.address = 'home'", "'network.address' is 'home'"),
    ("network = {address = '10.0.0.2/24', gateway = '10.0.1.1'}", "'network.gateway' is '10.0.1.1'"),
    ("network = {address = '10.0.0.2/24', gateway = '10.0.0.2'}", "'network.gateway' is '10.0.0.2'"),
    ("network = {address = '10.0.0.2/24', gateway = 'fd00::1'}", "'network.gateway' is 'fd00::1'"),
    ("network = {address = '10.0.0.2/24', dns = ['10.0.0.1', 'router']}", "'network.dns[1]' is 'router'"),
    ("network = {address = '10.0.0.2/24', mac = 'eth0'}", "'network.mac' is 'eth0'"),
    ("network.gateway = '10.0.0.1'", "'network.gateway' without 'network.address'"),
    ("network.netmask = '255.255.255.0'", "unknown key 'network.netmask'"),
    ("circuit.outlet = '110V'", "'circuit.outlet' is '110V'"),
    ("circuit.amps = 1500", "'circuit.amps' is 1500"),
]


@pytest.mark.parametrize(("text", "words"), BAD)
def test_a_bad_seed_is_refused_whole_with_place_and_key(text: str, words: str) -> None:
    with pytest.raises(TinyboxError) as caught:
        parse_seed(text, where="/efi/seed")
    assert words in caught.value.message
    assert caught.value.message.startswith("/efi/seed: ")
    assert caught.value.hint
