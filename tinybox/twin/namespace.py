"""A foreign program inside the twin: in private namespaces, /sys is the real one with the twin's devices merged in.

Nothing is mounted over /sys itself, since lm-sensors wants sysfs's own magic there, and sysfs lets nobody make a
folder: folders that both have are covered by a tmpfs, in which the entries of both are bound or linked. The namespaces
live as long as their processes, so the kernel cleans up, however they end.
"""

import contextlib
import ctypes
import fcntl
import json
import os
import socket
import struct
from pathlib import Path

from tinybox.core.errors import TinyboxError
from tinybox.twin.place import Place, loader_first
from tinybox.twin.uevents import open_wire

# <linux/sched.h>, <linux/mount.h>, <linux/sockios.h>, <linux/if.h>
CLONE_NEWNS, CLONE_NEWUSER, CLONE_NEWNET = 0x00020000, 0x10000000, 0x40000000
MS_BIND, MS_REC, MS_SLAVE = 1 << 12, 1 << 14, 1 << 19
MNT_DETACH = 2
SIOCSIFFLAGS, IFF_UP = 0x8914, 0x1
SYS, DEV = Path("/sys"), Path("/dev")
UDEV = Path("/run/udev/control")
TIMEOUT_S = 10.0


def enter(place: Place, *, host_network: bool) -> None:
    """Move this process into the twin's machine. Raises TinyboxError without a twin or where the kernel refuses."""
    _refuse_absent(place)
    try:
        _unshare(CLONE_NEWNS | (0 if host_network else CLONE_NEWNET))
        # A slave: what the host mounts or unmounts later is seen in here too, and nothing of ours is seen there.
        _mount(None, Path("/"), flags=MS_REC | MS_SLAVE)
        if not host_network:
            _raise_loopback()
        for entry in _entries(place.root / "sys"):
            if (SYS / entry.name).is_dir():
                _merge(SYS / entry.name, Path(entry))
        if place.devices.is_dir():
            _merge(DEV, place.devices)
            _mend_terminals()
        if not UDEV.exists():
            _merge(Path("/run"), place.root / "run")
        if not host_network:
            _pass_wire(place)
        with contextlib.suppress(FileNotFoundError):  # the folder we are in was removed
            os.chdir(Path.cwd())  # or covered just now
    except OSError as error:
        what = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
        hint = "it takes root, or a kernel that lets users make namespaces: 'unshare -Urmn true' tries it"
        raise TinyboxError(f"cannot make the twin's namespaces: {what}", hint=hint) from None


def environment(place: Place, *, host_network: bool) -> dict[str, str]:
    """What the program gets besides its own environment: our programs find the twin, libudev believes the tree."""
    twins = place.environment()
    # In a network of its own the news of devices is the twin's.
    live = twins["TINYBOX_LIVE"] if host_network else f"{twins['TINYBOX_LIVE']},udev"
    loader = loader_first(place.libraries, place.graphics)
    return {**twins, **loader, "TINYBOX_LIVE": live, "SYSTEMD_DEVICE_VERIFY_SYSFS": "0"}


def _pass_wire(place: Place) -> None:
    """Give the twin a way to tell this namespace what happens to its devices, for as long as this process lives."""
    with open_wire() as wire, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as control:
        control.settimeout(TIMEOUT_S)
        control.connect(str(place.control))
        socket.send_fds(control, [json.dumps({"do": "hear", "pid": os.getpid()}).encode() + b"\n"], [wire.fileno()])
        control.recv(4096)  # it has it


def _refuse_absent(place: Place) -> None:
    with contextlib.suppress(OSError):  # mounted, but its server is dead
        if (place.root / "sys").is_dir():
            return
    raise TinyboxError(f"no twin runs in {place.folder}", hint="'tinybox twin up --box red' starts one")


def _unshare(flags: int) -> None:
    """New namespaces, below a user namespace in which we stay who we are where we may not make them as we are."""
    uid, gid = os.geteuid(), os.getegid()
    try:
        _call("unshare", ctypes.c_int(flags))
    except PermissionError:
        _call("unshare", ctypes.c_int(flags | CLONE_NEWUSER))
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
        Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")


def _merge(folder: Path, twin: Path) -> None:
    """Cover a folder by its own entries and the twin's; where both have a name, the twin's is seen."""
    handle = os.open(folder, os.O_PATH | os.O_DIRECTORY)  # reaches what the tmpfs covers
    own = {entry.name: Path(entry) for entry in os.scandir(f"/proc/self/fd/{handle}")}
    theirs = {entry.name: Path(entry) for entry in _entries(twin)}
    _mount("tmpfs", folder, kind="tmpfs", data="mode=755")
    for name, source in (own | theirs).items():
        # A device of the twin stands whole: two devices of one address are not mixed.
        is_mixed = name in own and name in theirs and _is_folder(own[name]) and _is_folder(theirs[name])
        if is_mixed and not (theirs[name] / "uevent").exists():
            _show(own[name], folder / name)
            _merge(folder / name, theirs[name])
        else:
            _show(source, folder / name)
    os.close(handle)


def _entries(twin: Path) -> list[os.DirEntry[str]]:
    """What the twin has in a folder. A link out of its tree means this machine's own, which is there anyway."""
    with os.scandir(twin) as entries:
        return [entry for entry in entries if not (entry.is_symlink() and Path(entry).readlink().is_absolute())]


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _show(source: Path, target: Path) -> None:
    if source.is_symlink():
        target.symlink_to(source.readlink())
        return
    if source.is_dir():
        target.mkdir()
    else:
        target.touch()
    with contextlib.suppress(FileNotFoundError):  # unplugged since the folder was listed
        _mount(str(source), target, flags=MS_BIND | MS_REC)


def _mend_terminals() -> None:
    """New terminals: the kernel looks for their file system beside /dev/ptmx, and not beside one that is bound."""
    multiplexer, terminals = DEV / "ptmx", DEV / "pts"
    if multiplexer.is_symlink() or not terminals.is_dir():
        return
    if not os.access(terminals / "ptmx", os.R_OK | os.W_OK):  # some machines leave that one to root
        _mount("devpts", terminals, kind="devpts", data="ptmxmode=0666,mode=620")
    _call("umount2", os.fsencode(multiplexer), MNT_DETACH)
    multiplexer.unlink()
    multiplexer.symlink_to("pts/ptmx")


def _raise_loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh22x", b"lo", IFF_UP))


def _mount(source: str | None, target: Path, *, kind: str = "", flags: int = 0, data: str = "") -> None:
    name = None if source is None else os.fsencode(source)
    try:
        _call("mount", name, os.fsencode(target), kind.encode(), ctypes.c_ulong(flags), data.encode())
    except OSError as error:
        error.filename = str(target)
        raise


def _call(function: str, *arguments: object) -> None:
    """A call into the C library: `os` has no mount, and unshare only since Python 3.12. Raises OSError."""
    library = ctypes.CDLL(None, use_errno=True)
    if getattr(library, function)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
