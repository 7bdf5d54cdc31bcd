"""PCI Express links as the kernel shows them: speed, width, errors, of a device and of the root port above it."""

from collections.abc import Callable
from dataclasses import dataclass

from tinybox.twin.files import Read, Tree, add_function, folder_of, port_of
from tinybox.twin.pci import Function
from tinybox.twin.plant import Plant

REST_GTS = 2.5
RESTING = 0.01  # of a card's load: below it the link goes slow
CORRECTED_PER_S, REPLAYS_PER_S = 2.0, 1.0  # of a riser that is not seated well
SMALL_BAR_BYTES = 256 * 2**20
BAR_FLAGS = 0x14220C  # 64 bits, prefetchable, memory
CORRECTABLE = ("RxErr", "BadTLP", "BadDLLP", "Rollover", "Timeout", "NonFatalErr", "CorrIntErr", "HeaderOF")
UNCORRECTABLE = (
    *("Undefined", "DLP", "SDES", "TLP", "FCP", "CmpltTO", "CmpltAbrt", "UnxCmplt", "RxOF", "MalfTLP", "ECRC"),
    *("UnsupReq", "ACSViol", "UncorrIntErr", "BlockedTLP", "AtomicOpBlocked", "TLPBlockedErr", "PoisonTLPBlocked"),
)
TABLES = (
    ("correctable", "COR", CORRECTABLE, "BadTLP"),
    ("nonfatal", "NONFATAL", UNCORRECTABLE, "CmpltTO"),
    ("fatal", "FATAL", UNCORRECTABLE, "DLP"),
)


@dataclass(frozen=True, slots=True)
class Link:
    """A device's link as it was built; `is_resting` says whether it goes slow now to save power."""

    device: str
    address: str
    width: int
    gts: float
    is_resting: Callable[[], bool] = lambda: False


def add_link(tree: Tree, plant: Plant, link: Link, *, tag: str = "") -> None:
    """The files of a link at both of its ends."""
    port = port_of(link.address)
    if f"/sys/bus/pci/devices/{port}" not in tree.links:
        add_function(tree, Function(port, "1022:1483", "060400", "pcieport"))
    for folder, is_port in ((folder_of(link.address), False), (folder_of(port), True)):
        tree.add(f"{folder}/max_link_width", link.width, tag=tag)
        tree.add(f"{folder}/max_link_speed", f"{link.gts:.1f} GT/s PCIe", tag=tag)
        tree.add(f"{folder}/current_link_width", lambda: f"{_width(plant, link)}\n", tag=tag)
        tree.add(f"{folder}/current_link_speed", lambda: f"{_gts(plant, link):.1f} GT/s PCIe\n", tag=tag)
        for kind, total, names, one in TABLES:
            # It is the receiver that counts: what the card sends damaged is seen at the port.
            read = _errors(plant, link.device, kind, is_port=is_port)
            tree.add(f"{folder}/aer_dev_{kind}", _table(names, one, f"TOTAL_ERR_{total}", read), tag=tag)


def add_window(tree: Tree, plant: Plant, device: str, address: str, size_bytes: int, *, tag: str = "") -> None:
    """The card's window into its memory: as large as all of it, or what a board without Resizable BAR gives."""
    whole = 1 << (size_bytes - 1).bit_length()
    start = 0x10000000000 + (int(address[5:7], 16) << 36)

    def resource() -> str:
        size = SMALL_BAR_BYTES if f"{device}:small-bar" in plant.broken else whole
        lines = [(start, start + size - 1, BAR_FLAGS), *((0, 0, 0),) * 12]
        return "".join(f"0x{a:016x} 0x{b:016x} 0x{flags:016x}\n" for a, b, flags in lines)

    tree.add(f"{folder_of(address)}/resource", resource, tag=tag)


def replay_count(plant: Plant, device: str) -> Read:
    """Packets that were sent again, as amdgpu counts them."""
    return lambda: f"{int(plant.broken_s(f'{device}:replays') * REPLAYS_PER_S)}\n"


def _width(plant: Plant, link: Link) -> int:
    return link.width // 2 if f"{link.device}:link-narrow" in plant.broken else link.width


def _gts(plant: Plant, link: Link) -> float:
    if link.is_resting():
        return REST_GTS
    return link.gts / 2 if f"{link.device}:link-slow" in plant.broken else link.gts


def _errors(plant: Plant, device: str, kind: str, *, is_port: bool) -> Callable[[], int]:
    def count() -> int:
        if not is_port:
            return 0
        seconds = plant.broken_s(f"{device}:aer-{kind}")
        return int(seconds * CORRECTED_PER_S) if kind == "correctable" else int(seconds > 0)

    return count


def _table(names: tuple[str, ...], one: str, total: str, count: Callable[[], int]) -> Read:
    """One file of AER statistics: every kind of error, and their sum."""

    def read() -> str:
        found = count()
        lines = [f"{name} {found if name == one else 0}\n" for name in names]
        return "".join([*lines, f"{total} {found}\n"])

    return read
