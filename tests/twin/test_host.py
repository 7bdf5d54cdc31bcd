"""The twin's host: healthy on any machine, and its faults as the drivers read them."""

from dataclasses import replace

from tinybox.core.box import load_box
from tinybox.twin.constants import load_plant
from tinybox.twin.faults.host import host_faults
from tinybox.twin.faults.known import begin_fault, end_fault
from tinybox.twin.host import COMMANDS, port_names
from tinybox.twin.plant import Plant
from tinybox.twin.tree import build_tree

RED = load_box("red")


def test_every_command_that_the_driver_asks_is_recorded_in_the_twin() -> None:
    from tinybox.hw.host import command_slug
    from tinybox.hw.system import BOOTS, CLOCK, FAILED

    assert set(COMMANDS.values()) == {f"/commands/{command_slug(argv)}" for argv in (BOOTS, CLOCK, FAILED)}


def test_every_fault_of_the_host_changes_what_some_file_says() -> None:
    plant = Plant.of(RED, load_plant(RED))
    tree = build_tree(plant, real_storage=False)

    def told() -> dict[str, str]:
        texts = {}
        for path, file in tree.files.items():
            if (
                path.startswith(("/sys/devices/system", "/commands", "/dev/kmsg", "/proc/mountinfo", "/library"))
                or "/net/" in path
                or "/aer_dev_" in path
            ):
                try:
                    texts[path] = file.read()
                except OSError as error:
                    texts[path] = str(error)
        return texts | {path: "there" for path, fault in tree.brought.items() if fault in plant.broken}

    healthy = told()
    for kind in host_faults(RED):
        begin_fault(plant, kind.id)
        plant.time_s += 10.0
        assert told() != healthy, kind.id
        end_fault(plant, kind.id)
        healthy = told()  # what was counted stays counted


def test_boxes_without_ports_have_no_faults_of_ports() -> None:
    bare = replace(RED, nic=replace(RED.nic, count=0))
    assert port_names(bare) == ()
    assert all(not device.startswith("nic/") for kind in host_faults(bare) for device in kind.devices)
