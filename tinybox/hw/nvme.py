"""NVMe drives: identity, limits and link from sysfs, the rest from `nvme smart-log` (docs/protocol/nvme.md)."""

import json
import re
from typing import Any

from tinybox.core.errors import HardwareError
from tinybox.core.snapshot import Drive, Fault
from tinybox.hw.figures import whole
from tinybox.hw.host import Host
from tinybox.hw.pcie import ADDRESS, read_link

NVME = "sys/class/nvme"
CONTROLLER = re.compile(r"nvme\d+")
MOST = 2**128  # the widest counter of a smart-log
NAMESPACE = re.compile(r"nvme\d+n1")
SECTOR_BYTES = 512  # sysfs counts in these, whatever the drive's own block size
KELVIN_AT_0_C = 273
SANE_LIMIT_C = (1.0, 150.0)  # a drive without a limit tells 0 K, or the most that two bytes hold


def read_drives(host: Host) -> tuple[tuple[Drive, ...], tuple[Fault, ...]]:
    """Every drive on the bus, in order of its name."""
    readings = [_read_drive(host, name) for name in host.list_dir(NVME) if CONTROLLER.fullmatch(name)]
    return tuple(drive for drive, _ in readings), tuple(fault for _, faults in readings for fault in faults)


def parse_smart_log(text: str) -> dict[str, Any]:
    """The document of `nvme smart-log -o json`. Raises HardwareError when it is not one."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
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
    kelvin = _number(smart, "temperature") or None  # 0: it has no sensor
    warn_c, crit_c = _limits_c(host, folder)
    address = host.resolve(f"{folder}/device").rpartition("/")[2]
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
        pci=address if ADDRESS.fullmatch(address) else None,
        spare_pct=_number(smart, "avail_spare"),
        spare_least_pct=_number(smart, "spare_thresh"),
        warn_c=warn_c,
        crit_c=crit_c,
        warn_minutes=_number(smart, "warning_temp_time"),
        crit_minutes=_number(smart, "critical_comp_time"),
    )
    return drive, tuple(faults)


def _limits_c(host: Host, folder: str) -> tuple[float | None, float | None]:
    """The drive's own limits (WCTEMP, CCTEMP), as the kernel's hwmon tells them."""
    chip = next((name for name in host.list_dir(folder) if name.startswith("hwmon") and name != "hwmon"), None)
    found = []
    for name in ("temp1_max", "temp1_crit"):
        text = _text(host, f"{folder}/{chip}/{name}") if chip is not None else None
        value_c = (whole(text) or 0) / 1e3
        found.append(value_c if SANE_LIMIT_C[0] <= value_c <= SANE_LIMIT_C[1] else None)
    return found[0], found[1]


def _number(table: dict[str, Any], *names: str) -> int | None:
    """The first of these keys that carries a number; versions of nvme-cli differ in their names."""
    for name in names:
        value = table.get(name)
        if isinstance(value, dict):  # critical_warning, taken apart by newer versions
            value = value.get("value")
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < MOST:
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
                sectors = whole(host.read_text(f"{folder}/{name}/size"))
            except HardwareError:
                return None
            return sectors * SECTOR_BYTES if sectors else None
    return None
