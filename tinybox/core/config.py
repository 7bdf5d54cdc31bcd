"""The owner's settings: `/etc/tinybox/config.toml`, then `config.d/*.toml` beside it in name order."""

import dataclasses
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tinybox.core.errors import TinyboxError
from tinybox.core.quiet import NoiseConfig, minutes_of, parse_quiet
from tinybox.core.table import read_table

ANY_CERTIFICATE = "any"
FAILSAFE_LIST = "failsafe.list"  # in the run folder


@dataclass(frozen=True, slots=True)
class CircuitConfig:
    """The circuit the box is plugged into; unset values come from the box."""

    outlet: str | None = None  # "120V/15A" and the like
    volts: float | None = None
    amps: float | None = None
    continuous_fraction: float | None = None
    other_load_a: float = 0.0  # amps that something else draws from the same breaker
    panel_c: float = 40.0  # the warmest the breaker's panel gets


@dataclass(frozen=True, slots=True)
class BmcConfig:
    """How to reach the baseboard controller: `open` is /dev/ipmi0, `lanplus` and `redfish` the network."""

    interface: str = "open"
    host: str = "127.0.0.1"
    port: int | None = None  # 623 for lanplus, 443 for redfish
    cipher_suite: int = 17  # named, because ipmitool's own search for one takes ten seconds
    user: str = ""
    password_file: str = ""
    certificate: str = ""  # for redfish: a PEM file, or "any"; empty: as the system's authorities vouch for it


@dataclass(frozen=True, slots=True)
class DaemonConfig:
    """The loop. `period_s` while cards work, `idle_period_s` while none does."""

    period_s: float = 0.1
    idle_period_s: float = 1.0


@dataclass(frozen=True, slots=True)
class PowerConfig:
    """The governor. `guarantee`: `auto` is `bounded` once the box was measured, `strict` until then.

    The switches forbid an automatic step; the circuit's promise itself has none.
    """

    guarantee: str = "auto"
    may_freeze: bool = True
    may_end: bool = True
    may_power_off: bool = True
    cpu_limit_w: float | None = None

    def guarantee_of(self, *, is_commissioned: bool) -> str:
        """`strict` or `bounded`: what was chosen, or what a box is given that was or was not measured."""
        if self.guarantee != "auto":
            return self.guarantee
        return "bounded" if is_commissioned else "strict"


@dataclass(frozen=True, slots=True)
class ThermalConfig:
    """Heat. `room_max_c` is the most that the air at the box's inlet may have; unset, the room is no limit."""

    room_max_c: float | None = None


@dataclass(frozen=True, slots=True)
class GpuConfig:
    """One card's own settings: who goes first (higher) when watts are short, and the most board watts it may have."""

    id: str
    priority: int = 0
    limit_w: float | None = None


@dataclass(frozen=True, slots=True)
class MetricsConfig:
    """Where Prometheus may ask besides the Unix socket: `listen` is address and port, empty is nowhere."""

    listen: str = ""

    @property
    def address(self) -> tuple[str, int] | None:
        """Address and port; None where nothing listens. Raises ValueError for what is neither."""
        if not self.listen:
            return None
        import ipaddress  # for the few who set it: the command line reads settings too

        host, _, port = self.listen.rpartition(":")
        bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
        if ipaddress.ip_address(bare).version != (4 if bare == host else 6):
            raise ValueError("IPv6 wants brackets, IPv4 has none")
        if not re.fullmatch(r"[1-9]\d{0,4}", port, re.ASCII) or int(port) > 65535:
            raise ValueError("no port")
        return bare, int(port)


@dataclass(frozen=True, slots=True)
class AlertsConfig:
    """Who is told besides the journal: an address that gets JSON, a program that gets it as input. `user` runs it."""

    webhook: str = ""
    command: tuple[str, ...] = ()
    user: str = ""
    timeout_s: float = 20.0

    @property
    def is_webhook_meant(self) -> bool:
        """Whether the address can be one."""
        if not self.webhook:
            return True
        from urllib.parse import urlsplit  # for the few who set it

        try:
            parts = urlsplit(self.webhook)
            _ = parts.port
        except ValueError:
            return False
        return parts.scheme in ("http", "https") and bool(parts.hostname) and self.webhook.isprintable()


@dataclass(frozen=True, slots=True)
class Config:
    """Every setting, effective."""

    box: str = "red"
    circuit: CircuitConfig = field(default_factory=CircuitConfig)
    bmc: BmcConfig = field(default_factory=BmcConfig)
    daemon: DaemonConfig = field(default_factory=DaemonConfig)
    power: PowerConfig = field(default_factory=PowerConfig)
    thermal: ThermalConfig = field(default_factory=ThermalConfig)
    noise: NoiseConfig = field(default_factory=NoiseConfig)
    metrics: MetricsConfig = field(default_factory=MetricsConfig)
    alerts: AlertsConfig = field(default_factory=AlertsConfig)
    gpus: tuple[GpuConfig, ...] = ()


@dataclass(frozen=True, slots=True)
class Folders:
    """Where a running suite keeps its things."""

    config: Path
    run: Path
    state: Path

    @property
    def boxes(self) -> Path:
        """The owner's own kinds of box."""
        return self.config.parent / "boxes"

    @property
    def socket(self) -> Path:
        """The daemon's API."""
        return self.run / "tinyboxd.sock"

    @property
    def failsafe_list(self) -> Path:
        """What the failsafe writes when the daemon falls silent."""
        return self.run / FAILSAFE_LIST

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> "Folders":
        """`TINYBOX_CONFIG`, `TINYBOX_RUN_DIR` and `TINYBOX_STATE_DIR`, else the places of an installed box."""
        return cls(
            config=Path(environment.get("TINYBOX_CONFIG", "/etc/tinybox/config.toml")),
            run=Path(environment.get("TINYBOX_RUN_DIR", "/run/tinybox")),
            state=Path(environment.get("TINYBOX_STATE_DIR", "/var/lib/tinybox")),
        )


@dataclass(frozen=True, slots=True)
class Setting:
    """One effective value and the file it came from (`default` when no file sets it)."""

    key: str
    value: str | int | float | bool | None
    origin: str


def config_files(path: Path) -> tuple[Path, ...]:
    """The main file if it exists, then the drop-ins of `config.d` beside it."""
    drop_ins = sorted((path.parent / "config.d").glob("*.toml"))
    return (*([path] if path.exists() else []), *drop_ins)


def load_config(path: Path) -> Config:
    """The effective settings. Raises TinyboxError naming file and key for anything it does not know or cannot mean."""
    merged: dict[str, Any] = {}
    for file in config_files(path):
        table = _load_file(file)
        check_config(read_table(Config, table, where=str(file)), where=str(file))
        _merge(merged, table)
    config = read_table(Config, merged, where=str(path))
    check_config(config, where=str(path))
    return config


def effective_settings(path: Path) -> tuple[Setting, ...]:
    """Every key with its value and origin, in declaration order."""
    config = load_config(path)
    origins: dict[str, str] = {}
    for file in config_files(path):
        for key in _leaves(_load_file(file)):
            origins[key] = str(file)
    values = _leaves(dataclasses.asdict(config))
    return tuple(Setting(key, value, origins.get(key, "default")) for key, value in values.items())


def _load_file(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text())
    except OSError as error:
        raise TinyboxError(f"cannot read {file}: {error.strerror}", hint="check the file's permissions") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise TinyboxError(f"{file}: not valid TOML: {error}", hint="mend the file at that line") from None


def _merge(into: dict[str, Any], table: Mapping[str, Any]) -> None:
    for key, value in table.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = value


def _leaves(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, dict):
            found |= _leaves(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found


# (key, least, most): a circuit outside these is a typing mistake, not a house.
RANGES = (
    ("circuit.volts", 90.0, 260.0),
    ("circuit.amps", 5.0, 100.0),
    ("circuit.continuous_fraction", 0.1, 1.0),
    ("circuit.other_load_a", 0.0, 80.0),
    ("circuit.panel_c", 0.0, 70.0),
    ("power.cpu_limit_w", 30.0, 1000.0),
    ("thermal.room_max_c", 15.0, 60.0),
    ("daemon.period_s", 0.02, 5.0),
    ("daemon.idle_period_s", 0.02, 10.0),
    ("alerts.timeout_s", 1.0, 300.0),
    ("bmc.port", 1, 65535),
    ("bmc.cipher_suite", 0, 17),
)


def check_config(config: Config, *, where: str) -> None:
    """Refuse values that are well-typed and still cannot be meant."""
    for key, least, most in RANGES:
        section, name = key.split(".")
        value = getattr(getattr(config, section), name)
        if value is not None and not least <= value <= most:
            raise TinyboxError(f"{where}: '{key}' is {value:g}", hint=f"it must lie between {least:g} and {most:g}")
    for key, value, known in (
        ("bmc.interface", config.bmc.interface, ("open", "lanplus", "redfish", "none")),
        ("power.guarantee", config.power.guarantee, ("auto", "strict", "bounded")),
    ):
        if value not in known:
            raise TinyboxError(f"{where}: '{key}' is '{value}'", hint=f"it is one of: {', '.join(known)}")
    try:
        _ = config.metrics.address
    except ValueError:
        hint = "an address of this machine and a port: '127.0.0.1:9469' or '[::1]:9469'; '' is nowhere"
        raise TinyboxError(f"{where}: 'metrics.listen' is '{config.metrics.listen}'", hint=hint) from None
    _check_noise(config.noise, where=where)
    _check_alerts(config.alerts, where=where)
    seen: set[str] = set()
    for gpu in config.gpus:
        if not re.fullmatch(r"gpu/\d+", gpu.id) or gpu.id in seen:
            raise TinyboxError(f"{where}: 'gpus' names '{gpu.id}'", hint="each card once, as 'gpu/0', 'gpu/1' …")
        seen.add(gpu.id)
        if gpu.limit_w is not None and not 20.0 <= gpu.limit_w <= 1500.0:
            raise TinyboxError(f"{where}: limit_w of {gpu.id} is {gpu.limit_w:g}", hint="board watts, 20 to 1500")
        if not -9 <= gpu.priority <= 9:
            raise TinyboxError(f"{where}: priority of {gpu.id} is {gpu.priority}", hint="-9 to 9, 0 is normal")


def _check_noise(noise: NoiseConfig, *, where: str) -> None:
    for key, text in (("profile", noise.profile), ("night_profile", noise.night_profile)):
        if text or key == "profile":
            parse_quiet(text, where=f"{where}: 'noise.{key}': ")
    for key, text in (("night_from", noise.night_from), ("night_to", noise.night_to)):
        if minutes_of(text) is None:
            raise TinyboxError(f"{where}: 'noise.{key}' is '{text}'", hint="a time of day as '22:00'")


def _check_alerts(alerts: AlertsConfig, *, where: str) -> None:
    if not alerts.is_webhook_meant:  # it may hold a secret: it is not repeated
        hint = "an address as 'https://host/path'; '' is nobody"
        raise TinyboxError(f"{where}: 'alerts.webhook' is no address of the web", hint=hint)
    if alerts.command and not alerts.command[0].startswith("/"):
        hint = "the program by its whole path, then its arguments, each a string of its own"
        raise TinyboxError(f"{where}: 'alerts.command' begins with '{alerts.command[0]}'", hint=hint)
