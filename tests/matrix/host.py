"""A twin's files without the file system between, and its controller without the network: for a plant in fast time.

The real drivers read it through the same faults as a mounted twin's.
"""

import errno
import math
import posixpath
from collections.abc import Sequence
from pathlib import Path

import mfusepy

from tinybox.core.errors import HardwareError
from tinybox.hw.host import AbsentError, Attribute, Host
from tinybox.hw.kmsg import Kmsg, Record, parse_record
from tinybox.twin.bmc import READING_NOISE_W
from tinybox.twin.fusefs import FaultySysfs
from tinybox.twin.plant import Plant
from tinybox.twin.sensors import FAN, RPM, WATTS, Sensor, sensors_of

UNITS = {1: "degrees C", 4: "Volts", WATTS: "Watts", RPM: "RPM"}
MOST_LINKS = 20


class PlantAttribute(Attribute):
    """One file, read again and again."""

    __slots__ = ("_host", "_name")

    def __init__(self, host: "PlantHost", name: str) -> None:
        super().__init__(name)
        self._host, self._name = host, name

    def read_bytes(self) -> bytes:
        return self._host.read_whole(self._name)


class PlantKmsg(Kmsg):
    """The kernel's log, whole each time."""

    def __init__(self, host: "PlantHost") -> None:
        super().__init__("dev/kmsg")
        self._host = host

    def read(self) -> tuple[list[Record], bool]:
        lines = self._host.read_text("dev/kmsg").splitlines()
        return [record for line in lines if (record := parse_record(line)) is not None], True


class PlantHost(Host):
    """What `Host` is to a mounted twin."""

    def __init__(self, files: FaultySysfs, plant: Plant) -> None:
        super().__init__(Path("/plant"))
        self._files, self._plant = files, plant
        self._sensors = sensors_of(plant)

    def attribute(self, relative: str) -> Attribute:
        return PlantAttribute(self, relative)

    def kmsg(self) -> Kmsg:
        return PlantKmsg(self)

    def exists(self, relative: str) -> bool:
        tree, path = self._files.shown, self._followed(relative)
        return path in tree.files or path in tree.folders

    def read_text(self, relative: str) -> str:
        return self.read_whole(relative).decode("utf-8", "replace").strip()

    def read_whole(self, relative: str) -> bytes:
        """A file as it is."""
        path = self._followed(relative)
        if path not in self._files.shown.files:
            raise AbsentError(f"cannot read {relative}: no such file or directory")
        try:
            return self._files.read(path, 1 << 20, 0, 0)
        except mfusepy.FuseOSError as error:
            kind = AbsentError if error.errno in (errno.ENOENT, errno.ENODEV) else HardwareError
            raise kind(f"cannot read {relative}: {error.strerror}") from None

    def write_text(self, relative: str, text: str) -> None:
        try:
            self._files.write(self._followed(relative), text.encode(), 0, 0)
        except mfusepy.FuseOSError as error:
            raise HardwareError(f"cannot write {text.strip()!r} to {relative}: {error.strerror}") from None

    def list_dir(self, relative: str) -> tuple[str, ...]:
        return tuple(sorted(self._files.shown.folders.get(self._followed(relative), ())))

    def resolve(self, relative: str) -> str:
        return self._followed(relative).lstrip("/")

    def link(self, relative: str) -> str:
        folder, name = posixpath.split("/" + relative.lstrip("/"))
        return self._files.shown.links.get(posixpath.join(self._followed(folder), name), "")

    def is_writable(self, relative: str) -> bool:
        file = self._files.shown.files.get(self._followed(relative))
        return file is not None and file.write is not None

    def run(self, argv: Sequence[str], *, timeout_s: float = 10.0, feed: str = "") -> str:
        if argv[0] != "ipmitool":
            return super().run(argv, timeout_s=timeout_s, feed=feed)
        if "bmc:dead" in self._plant.broken:
            raise HardwareError("'ipmitool' did not end in time")
        words = " ".join(argv)
        if words.endswith("mc info"):
            return "Manufacturer ID           : 0\n"
        if words.endswith("sdr list"):
            return "".join(_row(sensor) for sensor in self._sensors)
        if words.endswith("power reading"):
            watts = self._plant.bmc_reading_w() + READING_NOISE_W * math.sin(2.1 * self._plant.time_s)
            return f"    Instantaneous power reading:                 {max(0.0, watts):.0f} Watts\n"
        if words.endswith("sel info"):
            return "Entries          : 0\nPercent Used     : 0%\n"
        raise HardwareError(f"'{words}' is not answered")

    def _followed(self, relative: str) -> str:
        """The path with every link on its way followed."""
        links = self._files.shown.links
        rest, path = [part for part in relative.split("/") if part], "/"
        for _ in range(MOST_LINKS * 4):
            if not rest:
                break
            step = posixpath.join(path, rest.pop(0))
            if step in links:
                aimed = posixpath.normpath(posixpath.join(path, links[step]))
                rest, path = [*(part for part in aimed.split("/") if part), *rest], "/"
            else:
                path = step
        return path


def _row(sensor: Sensor) -> str:
    """As `ipmitool -c sdr list` prints it."""
    if sensor.is_discrete:
        return ""
    value = sensor.step * round(max(0.0, sensor.value()) / sensor.step)
    mild, bad = sensor.limits
    state = "ok"
    if sensor.kind == FAN and bad > 0:
        state = "cr" if value <= bad else "nc" if value <= mild else "ok"
    elif bad > 0:
        state = "cr" if value >= bad else "nc" if value >= mild else "ok"
    return f"{sensor.name},{value},{UNITS.get(sensor.unit, '')},{state}\n"
