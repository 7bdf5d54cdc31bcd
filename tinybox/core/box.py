"""A kind of box: one TOML under `tinybox/boxes/`, as frozen data. A fact about hardware is written there, once."""

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinybox.core.errors import TinyboxError
from tinybox.core.table import read_table

CASE_EXPONENT = 0.9  # of the chassis fans' speed: what leaks is not moved
CASE_STILL = 0.25  # of the reference speed
BOXES = Path(__file__).parent.parent / "boxes"


@dataclass(frozen=True, slots=True)
class ClockPoint:
    """With the core clock limited to `clock_mhz`, a board draws at most `board_power_max_w`."""

    clock_mhz: int
    board_power_max_w: float


@dataclass(frozen=True, slots=True)
class ThermalKind:
    """Priors of how a card of this kind sheds heat; each card's own is fitted to it (policy/checks/physics.py).

    Edge above inlet per board watt at `ref_rpm`, which goes with the fan's speed to the power of `rpm_exponent`;
    a fan that stands cools as one at `still_rpm`.
    """

    edge_k_per_w: float = 0.13
    die_k_per_w: float = 0.0  # what a sensor inside the die shows at once, over the heat sink
    ref_rpm: float = 1450.0
    still_rpm: float = 350.0
    rpm_exponent: float = -0.8
    sink_tau_s: float = 85.0

    def k_per_w(self, rpm: float) -> float:
        """Edge above inlet per board watt with its fan at this speed."""
        return float(self.edge_k_per_w * (max(rpm, self.still_rpm) / self.ref_rpm) ** self.rpm_exponent)


@dataclass(frozen=True, slots=True)
class GpuKind:
    """Cards of one kind and where they sit: PCI addresses in slot order."""

    name: str
    vendor: str
    pci_id: str
    slots: tuple[str, ...]
    link_width: int
    link_gts: float
    vram_bytes: int
    board_power_max_w: float
    board_power_idle_w: float
    socket_to_board: float
    socket_to_board_min: float
    cap_default_w: float
    cap_min_w: float
    cap_max_w: float
    clock_min_mhz: int
    clock_max_mhz: int
    overdrive: bool
    edge_crit_c: float
    junction_crit_c: float
    memory_crit_c: float
    fan_max_rpm: float
    clock_table_margin: float
    clock_table: tuple[ClockPoint, ...]
    thermal: ThermalKind = ThermalKind()


@dataclass(frozen=True, slots=True)
class CpuKind:
    """The processor; `power_max_w` is its worst case with boost."""

    name: str
    cores: int
    power_max_w: float
    power_idle_w: float
    temp_crit_c: float
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class RestKind:
    """All that is neither GPU nor CPU (board, memory, drives, fans): DC watts, idle and worst."""

    power_idle_w: float
    power_max_w: float


@dataclass(frozen=True, slots=True)
class PsuKind:
    """The supplies. `efficiency_min` is the worst between 20 % and full load; `power_factor` under load.

    `meter_tolerance` and `volt_tolerance` are the shares by which their own meters of watts and volts may be off.
    """

    count: int
    rated_w: float
    efficiency_min: float
    efficiency_nominal: float
    meter_tolerance: float
    volt_tolerance: float
    power_factor: float


@dataclass(frozen=True, slots=True)
class StorageKind:
    """The data drives and what they become."""

    data_drives: int
    level: str
    filesystem: str
    mount: str
    chunk_kib: int
    link_width: int
    link_gts: float


@dataclass(frozen=True, slots=True)
class NicKind:
    """The network ports that the box was built with, and how each is connected inside."""

    count: int = 0
    speed_mbps: int = 0
    link_width: int = 0
    link_gts: float = 0.0


@dataclass(frozen=True, slots=True)
class FanKind:
    """The chassis fans, as the BMC names them; the air that reaches the cards is warmer than the room.

    By `case_k_per_w` for each watt inside with the fans at `case_ref_rpm`, by as much less as they turn faster; at a
    card it is warmer still by `neighbour_k_per_w` for each watt of the cards beside it.
    """

    count: int
    max_rpm: float
    min_rpm: float
    case_ref_rpm: float = 1000.0
    case_k_per_w: float = 0.006
    neighbour_k_per_w: float = 0.012

    def rpm_at(self, duty_pct: float) -> float:
        """How fast they turn at a duty."""
        return max(self.min_rpm, duty_pct / 100 * self.max_rpm)

    def stuffiness(self, rpm: float) -> float:
        """How much warmer the case gets at this speed than at the reference; some air moves without any fan."""
        return float((self.case_ref_rpm / max(rpm, CASE_STILL * self.case_ref_rpm)) ** CASE_EXPONENT)


@dataclass(frozen=True, slots=True)
class NoiseKind:
    """Level of one fan of each group at a reference speed, at the listener; `slope_db` per decade of speed."""

    slope_db: float
    floor_dba: float
    chassis_ref_dba: float
    chassis_ref_rpm: float
    gpu_ref_dba: float
    gpu_ref_rpm: float


@dataclass(frozen=True, slots=True)
class CircuitKind:
    """The outlet the box is sold for, and the fastest breaker that may be behind it (see policy/breaker.py)."""

    volts: float
    amps: float
    continuous_fraction: float
    breaker_trip_heat: float
    breaker_tau_s: float
    breaker_calibrated_c: float
    breaker_derate_per_k: float


@dataclass(frozen=True, slots=True)
class Box:
    """One kind of box, whole. Slot i of `slots`, all kinds of cards in turn, is `gpu/i`."""

    name: str
    title: str
    circuit: CircuitKind
    gpus: tuple[GpuKind, ...]
    cpu: CpuKind
    rest: RestKind
    psu: PsuKind
    fans: FanKind
    storage: StorageKind
    noise: NoiseKind
    nic: NicKind = NicKind()

    @property
    def gpu(self) -> GpuKind:
        """The first kind of card: the only one, unless the box is mixed."""
        return self.gpus[0]

    @property
    def slots(self) -> tuple[str, ...]:
        """PCI addresses of all cards, in order of their ids."""
        return tuple(slot for kind in self.gpus for slot in kind.slots)

    @property
    def is_mixed(self) -> bool:
        """Whether it has cards of several kinds."""
        return len(self.gpus) > 1

    @property
    def kinds(self) -> tuple[GpuKind, ...]:
        """The kind of each card, in order of their ids."""
        return tuple(kind for kind in self.gpus for _ in kind.slots)

    def kind_of(self, gpu_id: str) -> GpuKind:
        """The kind of the card `gpu/i`. Raises IndexError or ValueError for a card that the box does not have."""
        index = int(gpu_id.partition("/")[2])
        for kind in self.gpus:
            if index < len(kind.slots):
                return kind
            index -= len(kind.slots)
        raise IndexError(f"no {gpu_id} in this box")


def known_boxes(own: Path | None = None) -> tuple[str, ...]:
    """Names of the kinds of box: the suite's, and those in the owner's folder `own`."""
    return tuple(sorted({path.stem for folder in (BOXES, own) if folder for path in folder.glob("*.toml")}))


def load_table(name: str, own: Path | None = None) -> tuple[Path, dict[str, Any]]:
    """The file of a kind of box and its whole table, laid over that of the box it `extends`.

    Raises TinyboxError for an unknown name or bad TOML.
    """
    path = next((p for folder in (own, BOXES) if folder and (p := folder / f"{name}.toml").exists()), None)
    if path is None:
        raise TinyboxError(f"no box is called '{name}'", hint=f"known boxes: {', '.join(known_boxes(own))}")
    try:
        return path, _parsed(path.read_text(), name, where=str(path))
    except OSError as error:
        raise TinyboxError(f"cannot read {path}: {error.strerror}", hint="mend its permissions") from None
    except UnicodeDecodeError as error:
        raise TinyboxError(f"{path}: not valid TOML: {error}", hint="mend the file at that line") from None


def _parsed(text: str, name: str, *, where: str) -> dict[str, Any]:
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise TinyboxError(f"{where}: not valid TOML: {error}", hint="mend the file at that line") from None
    base = table.pop("extends", None)
    if base is None:
        return table
    if base == name or not isinstance(base, str):
        raise TinyboxError(f"{where}: 'extends' is {base!r}", hint="name another box")
    return _laid_over(load_table(base)[1], table)


def _laid_over(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """`above` wins key by key, table by table."""
    both = dict(below)
    for key, value in above.items():
        under = both.get(key)
        both[key] = _laid_over(under, value) if isinstance(under, dict) and isinstance(value, dict) else value
    return both


def load_box(name: str, own: Path | None = None) -> Box:
    """Read `<name>.toml`: the owner's in the folder `own`, else the suite's.

    Raises TinyboxError for an unknown name, bad TOML, a missing or unknown key.
    """
    path, table = load_table(name, own)
    return _box_of(name, table, where=str(path), own=own)


def parse_box(name: str, text: str, *, where: str) -> Box:
    """The kind of box that a file of this name and text would be. Raises TinyboxError as `load_box`."""
    return _box_of(name, _parsed(text, name, where=where), where=where)


def card_tables(table: dict[str, Any], part: str, *, where: str, own: Path | None = None) -> list[dict[str, Any]]:
    """The tables of the box's kinds of card: one `[gpu]`, or `[[gpus]]`, each of them whole or naming another box.

    `part` is "gpu", or "plant" for the physics of the same cards. Raises TinyboxError for a box that is mixed wrongly.
    """
    plain = (table if part == "gpu" else table.get(part, {})).get("gpu")
    if "gpus" not in table:
        return [plain] if plain is not None else []
    found: list[dict[str, Any]] = []
    for entry in table["gpus"] if isinstance(table["gpus"], list) else [table["gpus"]]:
        if isinstance(entry, dict) and "of" not in entry:
            found.append(entry if part == "gpu" else plain or {})
            continue
        if not isinstance(entry, dict) or set(entry) != {"of", "slots"}:
            raise TinyboxError(f"{where}: 'gpus' has {entry!r}", hint="write of = another box's name, slots = [...]")
        other = load_table(str(entry["of"]), own)[1]
        of = card_tables(other, part, where=where, own=own)
        if len(of) != 1:
            raise TinyboxError(f"{where}: box '{entry['of']}' has no one kind of card", hint="name one that has")
        found.append({**of[0], "slots": entry["slots"]} if part == "gpu" else of[0])
    return found


def _box_of(name: str, table: dict[str, Any], *, where: str, own: Path | None = None) -> Box:
    kinds = [
        read_table(GpuKind, one, where=where, path="gpu.") for one in card_tables(table, "gpu", where=where, own=own)
    ]
    table = {key: value for key, value in table.items() if key not in ("plant", "gpu", "gpus")}
    box = read_table(Box, {"name": name, **({"gpus": kinds} if kinds else {}), **table}, where=where)
    if (wrong := _senseless(box)) is not None:
        raise TinyboxError(f"{where}: {wrong}", hint="compare it with a box of the suite")
    return box


def _senseless(box: Box) -> str | None:
    """What cannot be meant, where every key is of the right type."""
    for kind in box.gpus:
        if (wrong := _senseless_cards(kind)) is not None:
            return wrong
    if not (0 < box.psu.efficiency_min <= 1 and 0 < box.psu.power_factor <= 1):
        return "'efficiency_min' and 'power_factor' are shares above 0 and at most 1"
    if len(set(box.slots)) < len(box.slots):
        return "'gpu.slots' names a slot twice"
    return None


def _senseless_cards(kind: GpuKind) -> str | None:
    points = [(point.clock_mhz, point.board_power_max_w) for point in kind.clock_table]
    if len(points) < 2 or points != sorted(points) or len({clock for clock, _ in points}) < len(points):
        return "'gpu.clock_table' wants at least two points, clocks and watts both rising"
    if not 0 < kind.socket_to_board_min <= 1:
        return "'socket_to_board_min' is a share above 0 and at most 1"
    if kind.clock_table_margin < 1 or not 0 < kind.cap_min_w <= kind.cap_max_w:
        return "'clock_table_margin' is at least 1, 'cap_min_w' above 0 and at most 'cap_max_w'"
    return "'gpu.slots' names no slot" if not kind.slots else None
