"""A boot drive and the data drives, assembled and mounted, as `nvme`, `mdadm` and the kernel tell of them."""

import json

from tinybox.twin.files import Counter, Tree, add_function, folder_of
from tinybox.twin.host import add_file_systems
from tinybox.twin.link import Link, add_link
from tinybox.twin.pci import Function
from tinybox.twin.plant import Plant

DRIVE_BYTES = 1_000_204_886_016
KELVIN_AT_0_C = 273
WARN_C, CRIT_C, HOT_C = 82, 85, 83
SPARE_LEAST_PCT = 10
MEDIA_ERRORS_PER_S = 0.5  # of a drive that goes bad


def drive_address(index: int) -> str:
    """Where the drive `nvme<index>` sits; the boot drive is the first."""
    return f"0000:{0xC1 + index:02x}:00.0"


def drive_folder(index: int) -> str:
    """Where it lies in the tree."""
    return folder_of(drive_address(index))


def add_storage(tree: Tree, plant: Plant, hwmon: Counter) -> None:
    """All drives and the array."""
    names = [f"nvme{i}" for i in range(plant.box.storage.data_drives + 1)]
    for i, name in enumerate(names):
        _add_drive(tree, plant, i, name, hwmon.next())
    _add_array(tree, plant, names[1:])
    add_file_systems(tree, plant)


def _add_drive(tree: Tree, plant: Plant, index: int, name: str, number: int) -> None:
    storage, drive = plant.box.storage, f"drive/{name}"
    device = add_function(tree, Function(drive_address(index), "1b36:0010", "010802", "nvme"))
    folder = f"{device}/nvme/{name}"
    tree.link(f"/sys/class/nvme/{name}", folder)
    tree.link(f"{folder}/device", device)
    tree.add(f"{folder}/model", "TWIN NVME 1TB")
    tree.add(f"{folder}/serial", f"TWIN{index:04d}")
    tree.add(f"{folder}/firmware_rev", "1.0")
    tree.add(f"{folder}/{name}n1/size", DRIVE_BYTES // 512)
    add_link(tree, plant, Link(drive, drive_address(index), storage.link_width, storage.link_gts))
    chip = f"{folder}/hwmon{number}"
    tree.add(f"{chip}/name", "nvme")
    tree.add(f"{chip}/uevent", "")
    tree.link(f"{chip}/device", folder)
    tree.link(f"{chip}/subsystem", "/sys/class/hwmon")
    tree.link(f"/sys/class/hwmon/hwmon{number}", chip)
    tree.add(f"{chip}/temp1_input", lambda: f"{_temp_c(plant, drive) * 1000}\n")
    tree.add(f"{chip}/temp1_label", "Composite")
    tree.add(f"{chip}/temp1_max", WARN_C * 1000)
    tree.add(f"{chip}/temp1_crit", CRIT_C * 1000)
    tree.add(f"/commands/nvme_smart-log_dev_{name}_-o_json", lambda: _smart_log(plant, drive))


def _add_array(tree: Tree, plant: Plant, members: list[str]) -> None:
    storage = plant.box.storage
    size_kib = storage.data_drives * 976_630_000
    listed = " ".join(f"{name}n1[{i}]" for i, name in enumerate(members))
    tree.add(
        "/proc/mdstat",
        f"Personalities : [{storage.level}]\nmd127 : active {storage.level} {listed}\n"
        f"      {size_kib} blocks super 1.2 {storage.chunk_kib}k chunks\n\nunused devices: <none>",
    )

    def state() -> str:
        is_broken = any(f"drive/{name}:gone" in plant.broken for name in members)
        return "broken\n" if is_broken else "clean\n"

    tree.add("/sys/block/md127/md/array_state", state)
    tree.add("/sys/block/md127/md/raid_disks", len(members))


def _temp_c(plant: Plant, drive: str) -> int:
    return HOT_C if f"{drive}:hot" in plant.broken else round(plant.inlet_c + 12)


def _smart_log(plant: Plant, drive: str) -> str:
    """What `nvme smart-log -o json` prints (nvme-cli 2)."""
    broken = plant.broken
    is_spent, is_read_only = f"{drive}:spare-low" in broken, f"{drive}:read-only" in broken
    hot_minutes = int(plant.broken_s(f"{drive}:hot") / 60)
    return json.dumps(
        {
            "critical_warning": is_spent * 0b1 | (f"{drive}:hot" in broken) * 0b10 | is_read_only * 0b1000,
            "temperature": KELVIN_AT_0_C + _temp_c(plant, drive),
            "avail_spare": SPARE_LEAST_PCT - 1 if is_spent else 100,
            "spare_thresh": SPARE_LEAST_PCT,
            "percent_used": 93 if f"{drive}:worn" in broken else 1,
            "warning_temp_time": hot_minutes,
            "critical_comp_time": 0,
            "media_errors": int(plant.broken_s(f"{drive}:media-errors") * MEDIA_ERRORS_PER_S),
            "num_err_log_entries": 0,
        }
    )
