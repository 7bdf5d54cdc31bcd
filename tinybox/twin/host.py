"""What kernel and systemd tell of the host itself: uptime, ECC, crash records, units, file systems, network ports."""

import errno
import json

from tinybox.core.box import Box
from tinybox.twin.files import Tree, add_function
from tinybox.twin.kernel import BOOTED_S
from tinybox.twin.link import Link, add_link
from tinybox.twin.pci import Function
from tinybox.twin.plant import Plant

GIB = 2**30
SYSTEM_BYTES = 900 * GIB
ARRAY_BYTES = 4 * 931 * GIB
CORRECTED_PER_S = 1.5  # of a memory that goes bad
PORT_ERRORS_PER_S = 3.0
COMMANDS = {
    "clock": "/commands/timedatectl_show_--property=NTPSynchronized_--value",
    "units": "/commands/systemctl_list-units_--state=failed_--plain_--no-legend_--no-pager",
    "boots": "/commands/journalctl_--since=-2days_--output=json_--output-fields=MESSAGE_ID_--no-pager_--quiet"
    "_MESSAGE_ID=f77379a8490b408bbe5f6940505a777b_MESSAGE_ID=d93fb3c9c24d451a97cea615ce59c00b",
}
STARTED, STOPPED = "f77379a8490b408bbe5f6940505a777b", "d93fb3c9c24d451a97cea615ce59c00b"


def port_names(box: Box) -> tuple[str, ...]:
    """The network ports, as the kernel names them."""
    return tuple(f"enp225s0f{i}" for i in range(box.nic.count))


def add_host(tree: Tree, plant: Plant) -> None:
    """Everything but cards, processor, supplies, drives."""
    tree.add("/proc/uptime", lambda: f"{BOOTED_S + plant.time_s:.2f} 0.00")
    tree.add("/dev/kmsg", plant.kernel.text)
    memory = "/sys/devices/system/edac/mc/mc0"
    tree.add(f"{memory}/mc_name", "F17h")
    tree.add(f"{memory}/ce_count", lambda: str(int(plant.broken_s("host:memory-corrected") * CORRECTED_PER_S)))
    tree.add(f"{memory}/ue_count", lambda: str(int(plant.broken_s("host:memory-uncorrected") > 0)))
    tree.add("/sys/fs/pstore/dmesg-efi-174000000001001", "Oops", fault="host:crash-record")
    tree.add(COMMANDS["clock"], lambda: "no" if "host:clock-unsynced" in plant.broken else "yes")
    tree.add(COMMANDS["units"], lambda: _failed_unit(plant))
    tree.add(COMMANDS["boots"], lambda: _boots(plant))
    for index in range(plant.box.nic.count):
        _add_port(tree, plant, index)
    tree.add(
        "/library/addresses.json",
        lambda: json.dumps({name: [f"192.0.2.{10 + i}"] for i, name in enumerate(port_names(plant.box))}),
    )


def add_file_systems(tree: Tree, plant: Plant) -> None:
    """Mounts and the room on them."""
    storage = plant.box.storage

    def mounts() -> str:
        flag = "ro" if "fs:read-only" in plant.broken else "rw"
        system = (
            f"25 1 0:21 /@gen/0001 / rw,relatime shared:1 - btrfs /dev/nvme0n1p2 {flag}\n"
            "31 25 259:1 / /efi rw,relatime shared:2 - vfat /dev/nvme0n1p1 rw\n"
        )
        if storage.data_drives == 0 or "raid:unmounted" in plant.broken:
            return system
        return f"{system}40 25 9:127 / {storage.mount} rw,noatime shared:3 - {storage.filesystem} /dev/md127 rw\n"

    def space() -> str:
        free = SYSTEM_BYTES // 100 if "fs:full" in plant.broken else SYSTEM_BYTES // 2
        found = {"/": [SYSTEM_BYTES, free], "/efi": [GIB, GIB // 2], storage.mount: [ARRAY_BYTES, ARRAY_BYTES // 2]}
        return json.dumps(found)

    tree.add("/proc/mountinfo", mounts)
    tree.add("/library/space.json", space)


def _failed_unit(plant: Plant) -> str:
    if "host:unit-failed" not in plant.broken:
        return ""
    return "jupyter.service loaded failed failed The owner's own notebook server\n"


def _boots(plant: Plant) -> str:
    """The journal's beginnings and ends: two boots, the first one of them stopped, or three that were cut."""
    boots = 3 if "host:unclean-boots" in plant.broken else 1
    entries = []
    for boot in range(boots):
        entries.append((boot, STARTED))
        if boots == 1:
            entries.append((boot, STOPPED))
    entries.append((boots, STARTED))
    return "".join(
        json.dumps({"_BOOT_ID": f"{boot + 1:032x}", "MESSAGE_ID": message}) + "\n" for boot, message in entries
    )


def _add_port(tree: Tree, plant: Plant, index: int) -> None:
    kind, name = plant.box.nic, port_names(plant.box)[index]
    nic = f"nic/{name}"
    address = f"0000:e1:00.{index}"
    device = add_function(tree, Function(address, "8086:1563", "020000", "ixgbe"))
    # Both functions are one device on one link.
    add_link(tree, plant, Link(f"nic/{port_names(plant.box)[0]}", address, kind.link_width, kind.link_gts))
    folder = f"{device}/net/{name}"
    tree.link(f"/sys/class/net/{name}", folder)
    tree.link(f"{folder}/device", device)

    def is_up() -> bool:
        return index == 0 and f"{nic}:down" not in plant.broken  # nothing is plugged into the other

    def speed() -> str:
        if not is_up():
            raise OSError(errno.EINVAL, "no link, no speed")
        return str(kind.speed_mbps // 10 if f"{nic}:slow" in plant.broken else kind.speed_mbps)

    tree.add(f"{folder}/address", f"02:00:00:00:00:{0x10 + index:02x}")
    tree.add(f"{folder}/carrier", lambda: str(int(is_up())))
    tree.add(f"{folder}/speed", speed)
    tree.add(f"{folder}/statistics/rx_errors", lambda: str(int(plant.broken_s(f"{nic}:errors") * PORT_ERRORS_PER_S)))
    tree.add(f"{folder}/statistics/tx_errors", 0)
