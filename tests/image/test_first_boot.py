"""A box with a mistake in its seed and somebody's drive in it: booted straight into the kernel, then taken over.

One machine for all tests, in their order. What it does about the mistake is what a box without a seed does.
"""

import hashlib
import json
import os
import re
import subprocess
import time
from collections.abc import Iterator

import pytest

from provisioning.image import REPO, Image
from provisioning.run import READY
from provisioning.vm import COLOUR, GUEST_ADDRESS, Machine, wait_until
from tinybox.core.config import CircuitConfig
from tinybox.core.seed import Network, Seed, seed_text

pytestmark = [pytest.mark.image, pytest.mark.timeout(1500)]
BOOT_S = 900.0
MISTAKE = "hostname = 'Kitchen Box'\n"
TROUBLE = "/efi/tinybox-seed.toml: 'hostname' is 'Kitchen Box'; use small letters, digits and dashes"
FOREIGN = 2
FOREIGN_BYTES = 256 * 2**20
# One program for all that ssh asks: the old password, the new one, the new one again.
ASKPASS = """#!/bin/sh
case "$1" in
    *[Nn]"ew password:"*) echo "my own words 17" ;;
    *) echo "$ONE_TIME" ;;
esac
"""


@pytest.fixture(scope="module")
def machine(image: Image) -> Iterator[Machine]:
    machine = Machine(REPO / "build/test-first-boot", image)
    machine.prepare(MISTAKE)
    drive = machine.data_drive(FOREIGN)
    os.truncate(drive, FOREIGN_BYTES)
    subprocess.run(["mkfs.ext4", "-q", "-L", "holidays", drive], check=True, timeout=60)
    (machine.folder / "foreign.sha256").write_text(digest(machine))
    machine.start(firmware=False)
    try:
        yield machine
    finally:
        machine.kill()


def digest(machine: Machine) -> str:
    return hashlib.sha256(machine.data_drive(FOREIGN).read_bytes()).hexdigest()


def console(machine: Machine) -> str:
    if not machine.serial_log.exists():  # QEMU takes a moment to make it
        return ""
    return COLOUR.sub("", machine.serial_log.read_bytes().decode("utf-8", "replace")).replace("\r", "")


@pytest.fixture(scope="module")
def welcome(machine: Machine) -> dict[str, str]:
    """What the console shows above its prompt, by the words in front of it."""
    pattern = re.compile(r"ssh tiny@(?P<address>\S+)\n +one-time password +(?P<password>\S+)\n +host key +(?P<key>\S+)")
    deadline_s = time.monotonic() + BOOT_S
    while (found := pattern.search(console(machine))) is None:
        assert machine.is_running and time.monotonic() < deadline_s, console(machine)[-3000:]
        time.sleep(1.0)
    return found.groupdict()


def knock(machine: Machine, password: str, script: str) -> subprocess.CompletedProcess[str]:
    """Log in as somebody who has no key."""
    askpass = machine.folder / "askpass"
    askpass.write_text(ASKPASS)
    askpass.chmod(0o755)
    options = ["-o", "PreferredAuthentications=keyboard-interactive", "-o", "StrictHostKeyChecking=accept-new"]
    options += ["-o", f"UserKnownHostsFile={machine.folder / 'known_hosts'}", "-o", "NumberOfPasswordPrompts=1"]
    command = ["ssh", *options, "-p", str(machine.ssh_port), "tiny@127.0.0.1", "bash", "-s"]
    environment = {**os.environ, "SSH_ASKPASS": str(askpass), "SSH_ASKPASS_REQUIRE": "force", "ONE_TIME": password}
    return subprocess.run(
        command, input=script, env=environment, capture_output=True, text=True, timeout=300, check=False
    )


def alerts(machine: Machine) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for alert in json.loads(machine.ssh("tinybox status --json"))["alerts"]:
        found.setdefault(alert["id"], []).append(alert["reason"])
    return found


def test_the_console_shows_the_mistake_in_one_line_and_how_to_get_in(machine: Machine, welcome: dict[str, str]) -> None:
    assert f"Seed: {TROUBLE}\n" in console(machine)
    assert welcome["address"] == GUEST_ADDRESS
    scan = ["ssh-keyscan", "-t", "ed25519", "-p", str(machine.ssh_port), "127.0.0.1"]
    key = subprocess.run(scan, capture_output=True, text=True, timeout=120, check=True).stdout
    told = subprocess.run(["ssh-keygen", "-lf", "-"], input=key, capture_output=True, text=True, timeout=30, check=True)
    assert told.stdout.split()[1] == welcome["key"]


def test_a_wrong_password_lets_nobody_in(machine: Machine) -> None:
    assert knock(machine, "tiny", "true").returncode != 0


def test_the_password_is_good_for_one_login_that_asks_for_another(machine: Machine, welcome: dict[str, str]) -> None:
    first = knock(
        machine, welcome["password"], f"umask 077; mkdir -p .ssh; echo '{machine.public_key}' >>.ssh/authorized_keys"
    )
    assert first.returncode == 0, first.stderr
    assert knock(machine, welcome["password"], "true").returncode != 0
    assert knock(machine, "my own words 17", "true").returncode == 0
    assert machine.ssh(f"sudo journalctl --boot --no-pager | grep -cF {welcome['password']} || true").strip() == "0"


def test_the_mistake_stays_to_be_mended_and_the_journal_and_the_status_say_so(machine: Machine) -> None:
    wait_until(machine, READY, seconds=BOOT_S, say=lambda *_: None, what="boot")
    assert machine.ssh("sudo cat /efi/tinybox-seed.toml") == MISTAKE
    assert machine.ssh("hostname").strip() == "tinybox"
    assert alerts(machine)["seed"] == [TROUBLE]
    assert TROUBLE.partition(";")[0] in machine.ssh("sudo journalctl --boot --output=cat --unit=tinybox-seed")
    failed = machine.ssh("systemctl --failed --no-legend --plain | cut -d' ' -f1").split()
    assert failed == ["tinybox-raid.service", "tinybox-seed.service"]


def test_somebodys_drive_is_left_alone_and_the_status_says_so_in_one_line(machine: Machine) -> None:
    (said,) = (line for line in alerts(machine)["raid"] if "carries" in line)
    assert re.search(r"no array made: /dev/nvme\dn1 carries signatures of ext4; nothing was touched", said)
    assert machine.ssh("cat /proc/mdstat | grep -c ^md || true").strip() == "0"
    assert machine.ssh("sudo blkid -o value -s LABEL /dev/nvme?n1 | grep -c holidays").strip() == "1"
    assert digest(machine) == (machine.folder / "foreign.sha256").read_text()
    others = [machine.data_drive(index) for index in range(4) if index != FOREIGN]
    assert [drive.name for drive in others if drive.stat().st_blocks] == [], "written to"


def test_once_there_is_a_key_ssh_takes_keys_only(machine: Machine) -> None:
    machine.ssh("sudo systemctl restart tinybox-seed ssh || true")
    assert "keyboard-interactive" not in knock(machine, "my own words 17", "true").stderr
    assert knock(machine, "my own words 17", "true").returncode != 0
    assert machine.ssh("sudo sshd -T -C user=tiny | grep -i interactive").strip() == "kbdinteractiveauthentication no"


def test_a_mended_seed_is_applied_and_removed(machine: Machine) -> None:
    network = Network(f"{GUEST_ADDRESS}/24", "10.0.2.2", ("10.0.2.3",))
    seed = Seed("kitchen-box", "tiny", (machine.public_key,), network, CircuitConfig(outlet="120V/20A"))
    machine.ssh(
        f"sudo tee /efi/tinybox-seed.toml >/dev/null <<'END'\n{seed_text(seed)}END\nsudo systemctl restart tinybox-seed"
    )
    assert machine.ssh("test ! -e /efi/tinybox-seed.toml && hostname").strip() == "kitchen-box"
    link = machine.ssh("networkctl status --all --no-pager --lines=0")
    assert "10-tinybox-seed.network" in link
    assert "DHCPv4" not in link
    assert machine.ssh("ip route").startswith("default via 10.0.2.2 ")
    settings = json.loads(machine.ssh("tinybox config show --json"))
    assert settings["circuit.outlet"] == {"value": "120V/20A", "origin": "/etc/tinybox/config.d/10-seed.toml"}
    assert machine.ssh("systemctl is-active tinybox-seed").strip() == "active"
    wait_until(
        machine, '! tinybox status --json | grep -q \'"id": "seed"\'', seconds=120, say=lambda *_: None, what="calm"
    )
