"""What the machine said at one moment: frozen readings, each with a stable id.

Units are in the names (SI, degrees Celsius, dBA). `None` is "could not be read": never 0, -1 or NaN.
"""

from dataclasses import dataclass
from enum import StrEnum


class GpuState(StrEnum):
    """`gone`: the box has the card, the bus does not. `asleep`: runtime-suspended, and left so."""

    AWAKE = "awake"
    ASLEEP = "asleep"
    GONE = "gone"


class Severity(StrEnum):
    """How much an alert matters: `critical` means a promise is at stake."""

    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"


@dataclass(frozen=True, slots=True)
class Fault:
    """A device that could not be read or written; `device` is its id, `reason` a whole sentence part."""

    device: str
    reason: str
    severity: Severity = Severity.WARNING


@dataclass(frozen=True, slots=True)
class Gpu:
    """One card. `power_w` and the caps are what the vendor's sensor covers (AMD: the socket, not the board)."""

    id: str
    state: GpuState
    pci: str
    vendor: str = "amd"
    name: str | None = None
    power_w: float | None = None
    cap_w: float | None = None
    cap_min_w: float | None = None
    cap_max_w: float | None = None
    cap_default_w: float | None = None
    has_clock_lever: bool = False
    clock_lever_is_coarse: bool = False  # it knows only its lowest clock and no limit
    clock_limit_mhz: int | None = None  # upper end in force; None: no limit, or it could not be read
    clock_limit_min_mhz: int | None = None  # lowest limit the lever accepts
    clock_mhz: int | None = None
    edge_c: float | None = None
    junction_c: float | None = None
    memory_c: float | None = None
    fan_rpm: float | None = None
    busy_pct: float | None = None
    vram_used_bytes: int | None = None
    vram_total_bytes: int | None = None
    link_width: int | None = None
    link_gts: float | None = None  # gigatransfers per second and lane: 16 is PCIe 4.0


@dataclass(frozen=True, slots=True)
class Cpu:
    """The processor package; `power_w` is the mean since the previous reading (RAPL counts joules)."""

    id: str = "cpu"
    busy_pct: float | None = None
    power_w: float | None = None
    temp_c: float | None = None
    cores: int | None = None
    memory_used_bytes: int | None = None
    memory_total_bytes: int | None = None
    cap_w: float | None = None  # sustained RAPL limit in force; None: it has none, or none that can be written


@dataclass(frozen=True, slots=True)
class Fan:
    """A chassis fan as the BMC sees it."""

    id: str
    rpm: float | None


@dataclass(frozen=True, slots=True)
class Psu:
    """One supply: watts, volts and amps on its AC side (`in`), watts delivered (`out`)."""

    id: str
    in_w: float | None = None
    in_v: float | None = None
    in_a: float | None = None
    out_w: float | None = None
    temp_c: float | None = None


@dataclass(frozen=True, slots=True)
class Bmc:
    """What the baseboard controller reports; `wall_w` by DCMI, else the sum of its PSU sensors (8 bits each)."""

    id: str = "bmc"
    wall_w: float | None = None
    line_v: float | None = None
    inlet_c: float | None = None
    cpu_c: float | None = None


@dataclass(frozen=True, slots=True)
class Drive:
    """One NVMe drive."""

    id: str
    model: str | None = None
    serial: str | None = None
    size_bytes: int | None = None
    temp_c: float | None = None
    used_pct: float | None = None
    media_errors: int | None = None
    critical_warning: int | None = None
    link_width: int | None = None
    link_gts: float | None = None


@dataclass(frozen=True, slots=True)
class Raid:
    """The data array. `state`: `clean`, `degraded`, `failed` or `absent`; `mount` only while mounted."""

    level: str | None
    state: str
    mount: str | None = None
    members: tuple[str, ...] = ()
    size_bytes: int | None = None
    free_bytes: int | None = None
    id: str = "raid"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything at one moment. `time_s` is monotonic, `unix_s` the calendar; slow parts may be older than both."""

    time_s: float
    unix_s: float
    gpus: tuple[Gpu, ...] = ()
    cpu: Cpu = Cpu()
    fans: tuple[Fan, ...] = ()
    psus: tuple[Psu, ...] = ()
    bmc: Bmc = Bmc()
    drives: tuple[Drive, ...] = ()
    raid: Raid | None = None
    faults: tuple[Fault, ...] = ()
    slow_time_s: float | None = None  # when bmc, fans, drives and raid were read; None: not yet
    failsafe_age_s: float | None = None  # since the failsafe program last answered a heartbeat; None: it never did
    is_work_frozen: bool = False  # by us
    is_armed: bool = True  # whether what a policy asks for is done; else it is only said
