"""Network ports as the kernel shows them, and what cannot be a port or a figure."""

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tinybox.core.snapshot import Nic
from tinybox.hw.host import Host
from tinybox.hw.nic import read_nics


@pytest.fixture
def root(tmp_path: Path) -> Path:
    device = tmp_path / "sys/devices/pci0000:00/0000:e1:00.0"
    port = device / "net/eth0"
    (port / "statistics").mkdir(parents=True)
    (tmp_path / "sys/bus/pci/drivers/ixgbe").mkdir(parents=True)
    (tmp_path / "sys/bus/pci/devices").mkdir()
    (tmp_path / "sys/bus/pci/devices/0000:e1:00.0").symlink_to(device)
    (device / "driver").symlink_to(tmp_path / "sys/bus/pci/drivers/ixgbe")
    (port / "device").symlink_to(device)
    files = {"carrier": "1", "speed": "10000", "address": "02:00:00:00:00:10"}
    files |= {"statistics/rx_errors": "3", "statistics/tx_errors": "0"}
    for name, text in files.items():
        (port / name).write_text(f"{text}\n")
    (device / "current_link_width").write_text("4\n")
    (device / "current_link_speed").write_text("8.0 GT/s PCIe\n")
    net = tmp_path / "sys/class/net"
    net.mkdir(parents=True)
    (net / "eth0").symlink_to(port)
    (net / "br0").mkdir()
    (tmp_path / "library").mkdir()
    (tmp_path / "library/addresses.json").write_text(json.dumps({"eth0": ["192.0.2.5"], "br0": ["192.0.2.6"]}))
    return tmp_path


def test_a_port_is_read_whole_and_a_bridge_is_none(root: Path) -> None:
    nics, faults = read_nics(Host(root))
    assert faults == ()
    assert nics == (
        Nic("nic/eth0", "0000:e1:00.0", "ixgbe", "02:00:00:00:00:10", ("192.0.2.5",), True, 10000, 3, 0, 4, 8.0),
    )


def test_a_speed_of_minus_one_is_unknown(root: Path) -> None:
    (root / "sys/class/net/eth0/speed").write_text("-1\n")
    (root / "sys/class/net/eth0/carrier").write_text("0\n")
    (nic,) = read_nics(Host(root))[0]
    assert (nic.is_up, nic.speed_mbps) == (False, None)


def test_a_port_that_is_switched_off_is_not_up(root: Path) -> None:
    (root / "sys/class/net/eth0/carrier").unlink()
    (root / "sys/class/net/eth0/carrier").mkdir()  # reading it fails, as the kernel's EINVAL does
    (nic,) = read_nics(Host(root))[0]
    assert nic.is_up is False


def test_addresses_that_cannot_be_read_are_a_fault_and_the_ports_stay(root: Path) -> None:
    (root / "library/addresses.json").unlink()
    nics, faults = read_nics(Host(root))
    assert [nic.addresses for nic in nics] == [()]
    assert [fault.device for fault in faults] == ["nic"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(st.sampled_from(["speed", "carrier", "statistics/rx_errors", "address"]), st.binary(max_size=30))
def test_nonsense_never_becomes_a_figure_that_is_not_there(root: Path, name: str, data: bytes) -> None:
    (root / "sys/class/net/eth0" / name).write_bytes(data)
    (nic,) = read_nics(Host(root))[0]
    text = data.decode("utf-8", "replace").strip()
    if name == "speed" and not text.isdecimal():
        assert nic.speed_mbps is None
    if name == "statistics/rx_errors" and not text.lstrip("-").isdecimal():
        assert nic.rx_errors is None
