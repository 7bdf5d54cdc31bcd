"""Which cards a machine is found to have, that a virtual machine with a card handed to it included."""

from pathlib import Path

from tinybox.core.config import BmcConfig
from tinybox.hw.host import Host
from tinybox.hw.survey import survey


def test_graphics_inside_the_processor_are_no_card_and_a_card_on_the_root_bus_is(tmp_path: Path) -> None:
    shown = {"0000:00:02.0": "8086:a780", "0000:00:06.0": "10de:2330", "0000:03:00.0": "8086:56a0"}
    for address, pci_id in shown.items():
        folder = tmp_path / "sys/bus/pci/devices" / address
        folder.mkdir(parents=True)
        vendor, device = pci_id.split(":")
        for name, text in (("class", "0x030200"), ("vendor", f"0x{vendor}"), ("device", f"0x{device}")):
            (folder / name).write_text(f"{text}\n")
    found = survey(Host(tmp_path), BmcConfig(interface="none"))
    assert [(card.address, card.vendor) for card in found.cards] == [
        ("0000:00:06.0", "nvidia"),
        ("0000:03:00.0", "intel"),
    ]
