"""Links of cards: the whole path counts, a sleeping card is not asked, and errors are counted at both ends."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tinybox.core.box import load_box
from tinybox.core.snapshot import Aer, PcieLink
from tinybox.hw.host import Host
from tinybox.hw.pcie import graphics_cards, read_links
from tinybox.twin.constants import load_plant
from tinybox.twin.faults.known import begin_fault
from tinybox.twin.plant import Plant
from tinybox.twin.tree import build_tree

RED = load_box("red")
CARD = "0000:03:00.0"
PORT, BRIDGE = "0000:00:01.1", "0000:01:00.0"
COUNTS = "RxErr 0\nBadTLP 7\nTOTAL_ERR_COR 7"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A card behind a switch of its own, as RDNA3 has it, behind a root port."""
    folder, devices = tmp_path / "sys/devices/pci0000:00", tmp_path / "sys/bus/pci/devices"
    devices.mkdir(parents=True)
    for address, width, gts in ((PORT, 16, 16.0), (BRIDGE, 16, 16.0), (CARD, 16, 32.0)):
        folder = folder / address
        (folder / "power").mkdir(parents=True)
        (devices / address).symlink_to(folder)
        for which in ("current", "max"):
            (folder / f"{which}_link_width").write_text(f"{width}\n")
            (folder / f"{which}_link_speed").write_text(f"{gts} GT/s PCIe\n")
    (folder / "power/runtime_status").write_text("active\n")
    bars = ["0x28000000000 0x287ffffffff 0x14220c", "0x0 0x0 0x0", "0x28800000000 0x288001fffff 0x14220c"]
    (folder / "resource").write_text("\n".join([*bars, *["0x0 0x0 0x0"] * 3, "0x0 0xffffffffffff 0x200"]))
    (folder / "pcie_replay_count").write_text("3\n")
    return tmp_path


def put(root: Path, address: str, name: str, text: str) -> None:
    (root / "sys/bus/pci/devices" / address / name).write_text(text)


def test_the_narrowest_and_the_slowest_part_of_the_path_is_the_link(root: Path) -> None:
    put(root, BRIDGE, "current_link_width", "8\n")
    put(root, PORT, "current_link_speed", "8.0 GT/s PCIe\n")
    (link,) = read_links(Host(root), {"gpu/0": CARD}, {})
    assert (link.width, link.gts, link.width_max, link.gts_max) == (8, 8.0, 16, 16.0)
    assert (link.port, link.bar_bytes, link.replays) == (PORT, 32 * 2**30, 3)


def test_errors_of_the_card_and_of_the_port_are_told_apart(root: Path) -> None:
    put(root, PORT, "aer_dev_correctable", COUNTS)
    put(root, PORT, "aer_rootport_total_err_fatal", "2\n")
    put(root, PORT, "aer_dev_fatal", "DLP 1\nTOTAL_ERR_FATAL 1\n")
    (link,) = read_links(Host(root), {"gpu/0": CARD}, {})
    assert link.aer is None
    assert link.port_aer == Aer(7, 0, 2)


def test_a_sleeping_card_is_asked_nothing_more(root: Path) -> None:
    put(root, CARD, "power/runtime_status", "suspended\n")
    assert read_links(Host(root), {"gpu/0": CARD}, {}) == (PcieLink("gpu/0", CARD),)


def test_what_is_not_on_the_bus_has_no_link(root: Path) -> None:
    assert read_links(Host(root), {"gpu/1": "0000:23:00.0"}, {}) == ()


FILES = ["current_link_width", "max_link_speed", "resource", "aer_dev_correctable", "pcie_replay_count"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100)
@given(st.sampled_from(FILES), st.binary(max_size=40))
def test_nonsense_never_becomes_a_figure(root: Path, name: str, data: bytes) -> None:
    (root / "sys/bus/pci/devices" / CARD / name).write_bytes(data)
    (link,) = read_links(Host(root), {"gpu/0": CARD}, {})
    figures = (link.width, link.gts, link.width_max, link.gts_max, link.bar_bytes, link.replays)
    assert all(figure is None or figure >= 0 for figure in figures)


def test_the_twin_counts_at_the_port_what_the_card_sends_damaged(tmp_path: Path) -> None:
    plant = Plant.of(RED, load_plant(RED))
    tree = build_tree(plant, real_storage=False)
    begin_fault(plant, "gpu/2:aer-correctable")
    begin_fault(plant, "gpu/2:link-narrow")
    begin_fault(plant, "gpu/2:small-bar")
    plant.time_s += 20.0
    for path, file in tree.files.items():
        if (
            path.startswith("/sys/devices/pci")
            and "/hwmon/" not in path
            and "/net/" not in path
            and not path.endswith("config")
        ):
            place = tmp_path / path.lstrip("/")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(file.read().encode(errors="surrogateescape"))
    for path, target in tree.links.items():
        if path.startswith("/sys/bus/pci/devices/"):
            place = tmp_path / path.lstrip("/")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(target)
    links = read_links(Host(tmp_path), {f"gpu/{i}": slot for i, slot in enumerate(RED.slots)}, {})
    assert len(links) == 6 and all(link.port_aer is not None and link.aer == Aer() for link in links)
    assert [link.port_aer.correctable for link in links if link.port_aer] == [0, 0, 40, 0, 0, 0]
    assert [link.width for link in links] == [16, 16, 8, 16, 16, 16]
    assert [link.bar_bytes for link in links] == [2**35, 2**35, 2**28, 2**35, 2**35, 2**35]


def test_cards_are_known_by_their_class_with_and_without_a_screen(tmp_path: Path) -> None:
    shown = {
        "0000:03:00.0": "0x030000",
        "0000:04:00.0": "0x030200",
        "0000:05:00.0": "0x038000",
        "0000:06:00.0": "0x040300",
    }
    for address, code in shown.items():
        folder = tmp_path / "sys/bus/pci/devices" / address
        folder.mkdir(parents=True)
        for name, text in (("class", code), ("vendor", "0x10de"), ("device", "0x2330")):
            (folder / name).write_text(f"{text}\n")
    found = graphics_cards(Host(tmp_path), {})
    assert [card.address for card in found] == ["0000:03:00.0", "0000:04:00.0", "0000:05:00.0"]
