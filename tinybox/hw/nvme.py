"""NVMe drives: identity and link from sysfs, wear and temperature from `nvme smart-log`."""

import json
import re
from typing import Any

from tinybox.core.errors import HardwareError
from tinybox.core.snapshot import Drive, Fault
from tinybox.hw.host import Host
from tinybox.hw.pcie import read_link

NVME = "sys/class/nvme"
CONTROLLER = re.compile(r"nvme\d+")
NAMESPACE = re.compile(r"nvme\d+n1")
SECTOR_BYTES = 512  # sysfs counts in these, whatever the drive's own block size
KELVIN_AT_0_C = 273


def read_drives(host: Host) -> tuple[tuple[Drive, ...], tuple[Fault, ...]]:
    """Every drive on the bus, in order of its name."""
    readings = [_read_drive(host, name) for name in host.list_dir(NVME) if CONTROLLER.fullmatch(name)]
    return tuple(drive for drive, _ in readings), tuple(fault for _, faults in readings for fault in faults)


def parse_smart_log(text: str) -> dict[str, Any]:
    """The document of `nvme smart-log -o json`. Raises HardwareError when it is not one."""
    try:
        document = json.loads(text)
    except ValueError as error:
        raise HardwareError(f"smart-log is not JSON: {error}") from None
    if not isinstance(document, dict):
        raise HardwareError("smart-log is not a JSON object")
    return document


def _read_drive(host: Host, name: str) -> tuple[Drive, tuple[Fault, ...]]:
    drive_id, folder = f"drive/{name}", f"{NVME}/{name}"
    faults: list[Fault] = []
    smart: dict[str, Any] = {}
    try:
        smart = parse_smart_log(host.run(("nvme", "smart-log", f"/dev/{name}", "-o", "json")))
    except HardwareError as error:
        faults.append(Fault(drive_id, f"smart-log unreadable: {error}"))
    try:
        width, gts = read_link(host, f"{folder}/device")
    except HardwareError as error:
        width, gts = None, None
        faults.append(Fault(drive_id, f"link unreadable: {error}"))
    kelvin = _number(smart, "temperature")
    drive = Drive(
        id=drive_id,
        model=_text(host, f"{folder}/model"),
        serial=_text(host, f"{folder}/serial"),
        size_bytes=_size_bytes(host, folder),
        temp_c=None if kelvin is None else kelvin - KELVIN_AT_0_C,
        used_pct=_number(smart, "percent_used", "percentage_used"),
        media_errors=_number(smart, "media_errors"),
        critical_warning=_number(smart, "critical_warning"),
        link_width=width,
        link_gts=gts,
    )
    return drive, tuple(faults)


def _number(table: dict[str, Any], *names: str) -> int | None:
    """The first of these keys that carries a number; versions of nvme-cli differ in their names."""
    for name in names:
        value = table.get(name)
        if isinstance(value, dict):  # critical_warning, taken apart by newer versions
            value = value.get("value")
        if isinstance(value, int | float):
            return int(value)
    return None


def _text(host: Host, path: str) -> str | None:
    try:
        return host.read_text(path)
    except HardwareError:
        return None


def _size_bytes(host: Host, folder: str) -> int | None:
    for name in host.list_dir(folder):
        if NAMESPACE.fullmatch(name):
            try:
                return int(host.read_text(f"{folder}/{name}/size")) * SECTOR_BYTES
            except (HardwareError, ValueError):
                return None
    return None
