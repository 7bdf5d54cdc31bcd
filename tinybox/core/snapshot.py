"""What the machine said at one moment: frozen readings, each with a stable id.

Units are in the names (SI, degrees Celsius, dBA). `None` is "could not be read": never 0, -1 or NaN.
"""

from dataclasses import dataclass
from enum import StrEnum


class GpuState(StrEnum):
    """`gone`: the box has the card, the bus does not. `asleep`: runtime-suspended, and left so.

    `userspace`: a program drives the card itself, without a kernel driver: no sensors, no limits.
    """

    AWAKE = "awake"
    ASLEEP = "asleep"
    USERSPACE = "userspace"
    GONE = "gone"


class FanLever(StrEnum):
    """What can be done about a card's fan. `limit`: its firmware goes no faster, whatever becomes of us.

    `speed`: it turns just so fast, and nobody but us watches its heat meanwhile.
    """

    LIMIT = "limit"
    SPEED = "speed"


class Severity(StrEnum):
    """How much an alert matters: `critical` means a promise is at stake."""

    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"


@dataclass(frozen=True, slots=True)
class Fault:
    """A device that could not be read, or refused a limit; `device` is its id, `reason` a whole sentence part."""

    device: str
    reason: str
    severity: Severity = Severity.WARNING
    is_refusal: bool = False


@dataclass(frozen=True, slots=True)
class Ecc:
    """What a card's memory protection has counted since boot; consumer cards have none."""

    corrected: int | None = None
    uncorrected: int | None = None
    retired_pages: int | None = None
    is_remap_pending: bool | None = None
    has_remap_failed: bool | None = None


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
    driver: str | None = None  # the kernel's, or the program that drives the card itself
    vbios: str | None = None
    subsystem_id: str | None = None
    edge_crit_c: float | None = None  # the card's own limits, where it tells them
    junction_crit_c: float | None = None
    memory_crit_c: float | None = None
    margin_c: float | None = None  # degrees left until it slows down (NVIDIA's T.Limit)
    fan_pct: float | None = None  # as intended by its firmware
    fan_may_rest: bool | None = None  # whether standing still is its plan while it is cool
    fan_lever: FanLever | None = None
    fan_limit_rpm: float | None = None  # in force; None: none, or its firmware decides
    fan_limit_min_rpm: float | None = None  # the least that is taken
    throttles: tuple[str, ...] | None = None  # thermal, power, power-brake, voltage, current: what holds it back now
    ecc: Ecc | None = None
    user_limit_w: float | None = None  # that the program which drives it has set itself


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
    """A chassis fan as the BMC sees it; `duty_pct` is what it was told to do."""

    id: str
    rpm: float | None
    duty_pct: float | None = None


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
class SelEntry:
    """One line of the controller's event log, decoded; `is_asserted` is false where a trouble ended."""

    number: int
    when: str  # as the controller's clock has it; not every one of them is set
    sensor: str
    event: str
    is_asserted: bool = True


@dataclass(frozen=True, slots=True)
class BmcSensor:
    """A sensor that the controller finds at fault: `state` is its word (`nc`, `cr`, `nr`, or a discrete state)."""

    name: str
    state: str
    reading: str = ""


@dataclass(frozen=True, slots=True)
class Bmc:
    """What the baseboard controller reports; `wall_w` by DCMI, else the sum of its PSU sensors (8 bits each)."""

    id: str = "bmc"
    wall_w: float | None = None
    line_v: float | None = None
    inlet_c: float | None = None
    cpu_c: float | None = None
    troubled: tuple[BmcSensor, ...] = ()
    events: tuple[SelEntry, ...] | None = None  # the newest; None: the log could not be read
    log_used_pct: float | None = None
    fan_control: str | None = None  # who drives the chassis fans: `automatic`, `ours`, `other`; None: it does not tell


@dataclass(frozen=True, slots=True)
class Aer:
    """PCIe errors that a function has counted since boot (Advanced Error Reporting)."""

    correctable: int = 0
    nonfatal: int = 0
    fatal: int = 0


@dataclass(frozen=True, slots=True)
class PcieLink:
    """A device's link (`id` is the device's): as it runs now, the most that its whole path allows, its errors."""

    id: str
    address: str
    width: int | None = None
    gts: float | None = None
    width_max: int | None = None
    gts_max: float | None = None
    bar_bytes: int | None = None  # the largest window into the device's memory
    replays: int | None = None
    aer: Aer | None = None
    port: str | None = None  # address of the root port above it
    port_aer: Aer | None = None


@dataclass(frozen=True, slots=True)
class Nic:
    """A network interface with hardware of its own; errors count since boot."""

    id: str
    pci: str | None = None
    driver: str | None = None
    mac: str | None = None
    addresses: tuple[str, ...] = ()
    is_up: bool | None = None
    speed_mbps: int | None = None
    rx_errors: int | None = None
    tx_errors: int | None = None
    link_width: int | None = None
    link_gts: float | None = None


@dataclass(frozen=True, slots=True)
class KernelLine:
    """A line of the kernel's log; `time_s` is seconds since boot, `level` as syslog's (3 is an error)."""

    time_s: float
    level: int
    text: str


@dataclass(frozen=True, slots=True)
class Wedged:
    """The kernel gave a card up, and says how it may come back: `none`, `rebind`, `bus-reset`, `vendor-specific`."""

    pci: str
    methods: tuple[str, ...]
    unix_s: float


@dataclass(frozen=True, slots=True)
class Holder:
    """A program that holds cards. `state` is the kernel's letter (D: waits in a driver, Z: dead, T: stopped)."""

    pid: int
    name: str
    state: str
    gpus: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Filesystem:
    """A file system that the box cannot do without."""

    mount: str
    size_bytes: int
    free_bytes: int
    is_read_only: bool


@dataclass(frozen=True, slots=True)
class System:
    """The operating system and what the host remembers of its own troubles."""

    uptime_s: float | None = None
    unclean_boots: int | None = None  # boots of the last two days that no shutdown came before
    crash_records: tuple[str, ...] = ()  # names of what pstore kept
    memory_corrected: int | None = None  # by ECC, since boot (EDAC)
    memory_uncorrected: int | None = None
    is_clock_synced: bool | None = None
    failed_units: tuple[str, ...] | None = None
    filesystems: tuple[Filesystem, ...] | None = None


@dataclass(frozen=True, slots=True)
class Drive:
    """One NVMe drive; `warn_c` and `crit_c` are its own limits (WCTEMP, CCTEMP), minutes are spent beyond them."""

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
    pci: str | None = None
    spare_pct: float | None = None
    spare_least_pct: float | None = None
    warn_c: float | None = None
    crit_c: float | None = None
    warn_minutes: int | None = None
    crit_minutes: int | None = None


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
    devices: int | None = None  # that it was made of
    sync_action: str | None = None
    mismatches: int | None = None


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
    slow_time_s: float | None = None  # of bmc, fans, drives, raid and all down to `wedged`; None: not yet
    links: tuple[PcieLink, ...] = ()
    nics: tuple[Nic, ...] = ()
    system: System = System()
    holders: tuple[Holder, ...] | None = None
    kernel: tuple[KernelLine, ...] = ()  # of the last ten minutes that matter to a card, a drive or the host
    wedged: tuple[Wedged, ...] = ()
    failsafe_age_s: float | None = None  # since the failsafe program last answered a heartbeat; None: it never did
    is_work_frozen: bool = False  # by us
    is_armed: bool = True  # whether what a policy asks for is done; else it is only said
