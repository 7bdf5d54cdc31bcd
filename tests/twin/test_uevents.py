"""The twin's news of devices as pyudev hears it inside, and nobody outside."""

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import BIN, PATIENCE_S, Rig
from tinybox.core.box import load_box
from tinybox.twin.files import place_of
from tinybox.twin.uevents import NETLINK_KOBJECT_UEVENT

pytestmark = pytest.mark.twin
SLOTS = load_box("red").gpu.slots
LISTEN = """
import pyudev, sys
monitor = pyudev.Monitor.from_netlink(pyudev.Context())
for name in sys.argv[1:]:
    monitor.filter_by(name)
monitor.start()
print("ready", flush=True)
for device in iter(lambda: monitor.poll(20), None):
    print(device.action, device.subsystem, device.device_path, device.properties.get("WEDGED", "-"), flush=True)
"""

STORM = """
import logging, sys, time
from tinybox.hw.host import Host
from tinybox.hw.hotplug import Hotplug
from tinybox.twin.uevents import Uevent, card_events, datagram, open_wire
logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(levelname)s")
woken = []
hotplug = Hotplug(Host(live=frozenset({"udev"})))
hotplug.start(lambda: woken.append(1))
wire, number = open_wire(), 0
def blow(events):
    global number
    for event in events:
        number += 1
        try:
            wire.sendto(datagram(event, number), (0, 2))
        except OSError:
            pass
while not woken:
    blow(card_events("0000:03:00.0", 0, is_back=False))
    time.sleep(0.05)
hotplug.take()
for _ in range(20000):
    blow([Uevent("remove", "/devices/pci0000:00/0000:23:00.0", "pci")])
while not hotplug.take().is_gpu:
    time.sleep(0.05)
print(len(woken))
"""


class Listener:
    """pyudev inside the twin, filtering as our own programs do."""

    def __init__(self, rig: Rig, *subsystems: str) -> None:
        words = [str(BIN / "tinybox"), "twin", "exec", "--", sys.executable, "-c", LISTEN, *subsystems]
        self.process = subprocess.Popen(words, env=rig.environment, stdout=subprocess.PIPE, text=True)
        assert self.line() == "ready"

    def line(self) -> str:
        """The next piece of news."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def end(self) -> None:
        """It heard enough."""
        self.process.kill()
        self.process.communicate(timeout=PATIENCE_S)


@pytest.fixture
def rig(shared_twin: Rig) -> Iterator[Rig]:
    try:
        yield shared_twin
    finally:
        shared_twin.put_back()


def test_pyudev_hears_a_card_go_and_return(rig: Rig) -> None:
    listener = Listener(rig, "pci")
    device = place_of(SLOTS[3])
    try:
        rig.call("twin", "fault", "add", "gpu/3:gone")
        assert listener.line() == f"remove pci {device} -"
        rig.call("twin", "fault", "add", "gpu/3:gone")  # what is gone already is no news
        rig.call("twin", "fault", "clear", "gpu/3:gone")
        assert [listener.line(), listener.line()] == [f"add pci {device} -", f"bind pci {device} -"]
    finally:
        listener.end()


def test_pyudev_hears_that_a_card_is_wedged_and_a_drive_gone(rig: Rig) -> None:
    listener = Listener(rig, "drm", "nvme", "block")
    try:
        rig.call("twin", "fault", "add", "gpu/1:wedged")
        assert listener.line() == f"change drm {place_of(SLOTS[1])}/drm/card1 rebind,bus-reset"
        rig.call("twin", "fault", "add", "drive/nvme2:gone")
        drive = f"{place_of('0000:c3:00.0')}/nvme/nvme2"
        assert listener.line() == f"remove block {drive}/nvme2n1 -"
        assert listener.line() == f"remove nvme {drive} -"
        listed = rig.call("twin", "exec", "--", "ls", "/sys/class/nvme")
        assert listed.split() == ["nvme0", "nvme1", "nvme3", "nvme4"]
        rig.call("twin", "fault", "clear")
        assert listener.line() == f"add nvme {drive} -"
    finally:
        listener.end()


def test_every_namespace_hears_and_this_machines_does_not(rig: Rig) -> None:
    inside = [Listener(rig, "drm"), Listener(rig, "drm")]
    control = Path("/run/udev/control").exists()
    outside = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, NETLINK_KOBJECT_UEVENT)
    outside.bind((0, 2))
    try:
        rig.call("twin", "fault", "add", "gpu/0:wedged")
        assert [listener.line().split()[0] for listener in inside] == ["change", "change"]
    finally:
        for listener in inside:
            listener.end()
        with outside, pytest.raises(BlockingIOError):
            outside.recv(4096)
    assert Path("/run/udev/control").exists() == control


def test_a_storm_is_heard_of_and_neither_shouted_on_nor_followed_one_by_one(rig: Rig) -> None:
    words = [str(BIN / "tinybox"), "twin", "exec", "--", sys.executable, "-c", STORM]
    done = subprocess.run(words, env=rig.environment, capture_output=True, text=True, timeout=90, check=False)
    assert done.returncode == 0, done.stderr
    *said, woken = done.stdout.split()
    assert 0 < int(woken) < 10_000
    assert 0 < len(said) < 60
