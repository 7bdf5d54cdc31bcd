"""What is taken out of a recording: no planted secret survives, what a driver reads does, and equal stays equal."""

import re
from itertools import pairwise

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tinybox.core.config import BmcConfig, Config
from tinybox.core.redaction import KEY, SECRET, Known, Redactor

HEX = "0123456789abcdef"
LETTERS = "abcdefghijklmnopqrstuvwxyz"
hexes = st.text(HEX, min_size=2, max_size=2)
words = st.text(LETTERS + LETTERS.upper() + "0123456789", min_size=9, max_size=20)
# A secret of each kind that its looks betray, in any text.
LOOKS = {
    "mac": st.lists(hexes, min_size=6, max_size=6).map(":".join),
    "mac with dashes": st.lists(hexes, min_size=6, max_size=6).map("-".join),
    "infiniband": st.lists(hexes, min_size=8, max_size=8).map(":".join),
    "ipv4": st.ip_addresses(v=4).map(str),
    "ipv6": st.ip_addresses(v=6).map(str),
    "uuid": st.uuids().map(str),
    "array": st.lists(st.text(HEX, min_size=8, max_size=8), min_size=4, max_size=4).map(":".join),
    "machine id": st.text(HEX, min_size=32, max_size=32),
    "eui": st.text(HEX, min_size=16, max_size=16).map("eui.{}".format),
    "nqn": words.map("nqn.2014-08.org.nvmexpress:144d144d{}".format),
    "public key": st.text(LETTERS + "0123456789+/", min_size=40, max_size=60).map("ssh-ed25519 AAAAC3Nza{} ada".format),
    "private key": st.text(LETTERS + "+/\n", min_size=40, max_size=90).map(
        "-----BEGIN OPENSSH PRIVATE KEY-----\n{}\n-----END OPENSSH PRIVATE KEY-----".format
    ),
    "hash": words.map("$6$salt${}".format),
    "token": words.map("hf_0123456789{}".format),
}
PUBLIC = re.compile(
    r"127\..*|255\..*|0\.0\.0\.0|::1?|192\.0\.2\..*|198\.18\..*|2001:db8::.*|02:00:.*|0{8}.*|eui\.0{8}.*", re.I
)
# How a text may go on before and after a secret.
BEFORE = st.sampled_from(["", "inet ", "addr=", "src:", "(", '"', "[", "_", "-H ", "// ", "\t"])
AFTER = st.sampled_from(["", " up", ",", ":", ". Done", '"', "]", ")", "\n", "/24", ";"])
HOSTILE = ("red", "amdgpu", "gpu", "pin", "pci", "sys", "fan", "active", "package", "d", "0000", "hwmon", "raid")


@pytest.mark.parametrize("kind", LOOKS)
@given(data=st.data(), before=BEFORE, after=AFTER)
def test_no_secret_that_looks_like_one_survives(kind: str, data: st.DataObject, before: str, after: str) -> None:
    secret = data.draw(LOOKS[kind])
    assume(not PUBLIC.fullmatch(secret))
    for redact in (Redactor(Known()).fact, Redactor(Known()).prose):
        assert secret not in redact(f"{before}{secret}{after}")


SENTENCES = [
    ("password = {}", SECRET),
    ('{{"password": "{}", "next": 1}}', SECRET),
    ("BMC_PASSWORD='{}'", SECRET),
    ("wifi-psk: {}", SECRET),
    ("api_key={}", SECRET),
    ("one-time password for tiny: {}", SECRET),
    ("the passphrase is {}", SECRET),
    ("ipmitool -U x -P {} sdr", SECRET),
    ("curl --token {} x", SECRET),
    ("https://someone:{}@example.com/x", SECRET),
    ("Authorization: Bearer {}", SECRET),
    ("Serial Number: {}", "S0001"),
    ("serial={}", "S0001"),
    ("login by {}@laptop", "someone@example"),
    ("/home/{}/work", "user"),
    ("/run/media/{}/STICK", "user"),
]


@pytest.mark.parametrize(("sentence", "shown"), SENTENCES)
@given(secret=words)
def test_no_secret_that_its_sentence_betrays_survives(sentence: str, shown: str, secret: str) -> None:
    assume(secret not in sentence and secret not in shown)  # that word would stay
    said = Redactor(Known()).prose(sentence.format(secret))
    assert secret not in said
    assert shown in said


@given(host=words, user=words, serial=words, before=BEFORE, after=AFTER)
def test_no_name_and_no_serial_of_this_machine_survives(
    host: str, user: str, serial: str, before: str, after: str
) -> None:
    assume(len({host.lower(), user.lower(), serial.lower()}) == 3)
    redactor = Redactor(Known((f"{host}.lan", host), (user,), (serial,)))
    text = f"{before}{host}.lan{after} {before}{user}{after} {before}{serial}{after} {host.upper()} {user}_backup"
    said = redactor.prose(text)
    assert not re.search("|".join((host, user, serial)), said, re.IGNORECASE)
    assert "box" in said and "user" in said and "S0001" in said
    assert redactor.fact(f"/dev/md/{host}:0") == "/dev/md/box2:0"
    assert redactor.fact(serial, "serial") == "S0001"
    document = {"reason": f"asked by {user}", "drives": [{"serial": serial, "model": "gpu"}], "watts": 1.5}
    safe = {"reason": "asked by user", "drives": [{"serial": "S0001", "model": "gpu"}], "watts": 1.5}
    assert redactor.document(document) == safe


FACTS = [
    "0000:03:00.0",
    "../../../devices/pci0000:00/0000:a3:00.0",
    "sys/devices/pci0000:00/0000:00:03.1/0000:21:00.0/0000:23:00.0/hwmon/hwmon3/power1_average",
    "sys/devices/pci0000:e0/0000:e0:01.1/nvme/nvme0/nvme0c0n1",
    "sys/devices/platform/i2c-twin/i2c-0/0-0058/hwmon/hwmon7/name",
    "sys/devices/virtual/powercap/intel-rapl/intel-rapl:0/intel-rapl:0:0/energy_uj",
    "PSU1 PIN,416,Watts,ok\nFAN1,840,RPM,ok\nCPU TEMP,42,degrees C,ok",
    "OD_SCLK:\n0: 500Mhz\n1: 2965Mhz\nOD_RANGE:\nSCLK: 500Mhz 3200Mhz",
    "16.0 GT/s PCIe",
    "Samsung SSD 990 PRO 4TB",
    "md127 : active raid0 nvme2n1[1] nvme1n1[0]\n      3906520000 blocks super 1.2 128k chunks",
    '{"critical_warning": 0, "temperature": 310, "percent_used": 1, "media_errors": 0}',
    "/dev/md127 /raid xfs rw,noatime 0 0",
    "amdgpu",
]


@pytest.mark.parametrize("fact", FACTS)
def test_what_a_driver_reads_survives_whatever_people_and_machines_are_called(fact: str) -> None:
    redactor = Redactor(Known(HOSTILE, HOSTILE, ("416", "310", "3906520000")))
    assert redactor.fact(fact) == fact
    assert not redactor.counts


@given(number=st.integers(-(2**64), 2**64), per=st.integers(0, 12))
def test_a_number_survives(number: int, per: int) -> None:
    for text in (f"{number}", f"{number / 10**per}"):
        assert Redactor(Known()).fact(text) == text


@given(bus=hexes, device=st.integers(0, 31), function=st.integers(0, 7))
def test_a_pci_address_survives_in_any_text(bus: str, device: int, function: int) -> None:
    address = f"0000:{bus}:{device:02x}.{function}"
    text = f"amdgpu {address}: ring timeout; pcieport 0000:00:03.1: AER: from {address} ({bus}:{device:02x}.{function})"
    assert Redactor(Known(("kitchen",), ("ada",))).prose(text) == text


def test_the_same_secret_is_the_same_pseudonym_and_another_is_another() -> None:
    redactor = Redactor(Known())
    said = redactor.prose("aa:bb:cc:dd:ee:ff AA-BB-CC-DD-EE-FF 10.0.0.7 aa:bb:cc:dd:ee:00 10.0.0.7 10.0.0.8 fe80::1")
    assert said == ("02:00:00:00:00:01 02:00:00:00:00:01 192.0.2.1 02:00:00:00:00:02 192.0.2.1 192.0.2.2 2001:db8::3")
    assert redactor.counts == {"MAC address": 3, "IP address": 4}


def test_more_addresses_than_a_net_for_documents_has() -> None:
    redactor = Redactor(Known())
    found = {redactor.fact(f"10.0.{i // 256}.{i % 256}") for i in range(600)}
    assert len(found) == 600
    assert all(address.startswith(("192.0.2.", "198.18.")) for address in found)


@given(data=st.data())
def test_what_was_redacted_stays_as_it_is(data: st.DataObject) -> None:
    known = Known(("kitchen",), ("ada",), ("S6Z2NX0W1234",))
    secrets = [data.draw(strategy) for strategy in LOOKS.values()]
    once = Redactor(known).prose(" kitchen ada S6Z2NX0W1234 /home/eve, ".join(secrets))
    again = Redactor(known)
    assert again.prose(once) == once
    assert not again.counts


def test_what_everybody_has_is_no_secret() -> None:
    text = "127.0.0.1 ::1 0.0.0.0 255.255.255.0 getty@tty1.service root@tinyboxd.service tinybox root /home/tiny"
    assert Redactor(Known(("tinybox", "localhost"), ("root", "tiny"))).prose(text) == text


HOSTS = [("192.168.7.9", "192.0.2.1"), ("fe80::7", "2001:db8::1"), ("bmc.lan", "box"), ("127.0.0.1", "127.0.0.1")]


@pytest.mark.parametrize(("host", "shown"), HOSTS)
def test_settings_and_command_lines_stay_in_step(host: str, shown: str) -> None:
    redactor = Redactor(Known())
    config = Config(bmc=BmcConfig("lanplus", host, user="ada", password_file="/home/ada/bmc"))
    safe = redactor.config(config).bmc
    assert (safe.host, safe.user, safe.password_file) == (shown, "user", "/etc/tinybox/bmc-password")
    argv = ("ipmitool", "-I", "lanplus", "-H", host, "-p", "623", "-U", "ada", "-f", "/home/ada/bmc", "sdr", "list")
    redacted = redactor.argv(argv)
    values = dict(pairwise(redacted))
    assert (values["-H"], values["-U"], values["-f"]) == (safe.host, safe.user, safe.password_file)
    assert redacted[-2:] == ("sdr", "list")


def test_a_key_in_pieces_of_a_log_is_no_key_any_more() -> None:
    text = "x: -----BEGIN RSA PRIVATE KEY-----\nx: MIIEpAIBAAKCAQEA7\nand the journal ends here"
    assert Redactor(Known()).prose(text) == f"x: {KEY}"
