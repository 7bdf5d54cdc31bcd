"""What is mounted where (proc_pid_mountinfo(5))."""

from typing import NamedTuple

from tinybox.hw.host import Host


class Mount(NamedTuple):
    """One mount. Read-only is the file system itself, whoever looks at it."""

    source: str
    place: str
    is_read_only: bool


def read_mounts(host: Host) -> tuple[Mount, ...]:
    """In the order in which they were made: a later one covers an earlier one at the same place.

    A mount's own `ro` tells nothing: a service under systemd's ProtectSystem= sees /boot so, whose file system is not.
    The options of the super block say what an error made of it. Raises HardwareError.
    """
    found = []
    for line in host.read_text(host.mounts_path).splitlines():
        mount, _, system = line.partition(" - ")
        places, words = mount.split(), system.split()
        if len(places) >= 5 and len(words) >= 3:
            found.append(Mount(words[1], places[4], "ro" in words[2].split(",")))
    return tuple(found)
