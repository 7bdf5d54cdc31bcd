"""What makes one box different from another: a small TOML on the ESP, read once."""

import dataclasses
import ipaddress
import json
import re
import tomllib
from dataclasses import dataclass, field
from typing import Any

from tinybox.core.circuit import OUTLETS
from tinybox.core.config import CircuitConfig, Config, check_config
from tinybox.core.errors import TinyboxError
from tinybox.core.table import read_table, table_text

FILE_NAME = "tinybox-seed.toml"
HOSTNAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
USER = re.compile(r"[a-z][a-z0-9_-]{0,30}")
KEY = re.compile(r"(ssh-ed25519|ssh-rsa|ecdsa-sha2-\S+|sk-\S+) [A-Za-z0-9+/=]+( .*)?")
MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Network:
    """An address of the box's own; without one DHCP gives it. `mac` names one of several wired interfaces."""

    address: str | None = None  # with its prefix: "192.168.1.20/24"
    gateway: str | None = None
    dns: tuple[str, ...] = ()
    mac: str | None = None


@dataclass(frozen=True, slots=True)
class Seed:
    """Name of the box, who may log in and with which keys, where it is in the network, what it is plugged into."""

    hostname: str = "tinybox"
    user: str = "tiny"
    ssh_authorized_keys: tuple[str, ...] = ()
    network: Network = field(default_factory=Network)
    circuit: CircuitConfig = field(default_factory=CircuitConfig)


def parse_seed(text: str, *, where: str) -> Seed:
    """Read and check a seed. Raises TinyboxError naming the key that cannot be meant."""
    try:
        seed = read_table(Seed, tomllib.loads(text), where=where)
    except tomllib.TOMLDecodeError as error:
        raise TinyboxError(f"{where}: not valid TOML: {error}", hint="mend the file at that line") from None
    for pattern, value, key in ((HOSTNAME, seed.hostname, "hostname"), (USER, seed.user, "user")):
        if not pattern.fullmatch(value):
            raise TinyboxError(f"{where}: '{key}' is {value!r}", hint="use small letters, digits and dashes")
    if seed.user == "root":
        raise TinyboxError(f"{where}: 'user' is 'root'", hint="name an ordinary user: it may use sudo")
    for number, key in enumerate(seed.ssh_authorized_keys):
        if not KEY.fullmatch(key):
            hint = "paste the one line of a .pub file"
            raise TinyboxError(f"{where}: 'ssh_authorized_keys[{number}]' is no public key", hint=hint)
    _check_network(seed.network, where=where)
    check_config(Config(circuit=seed.circuit), where=where)
    if seed.circuit.outlet not in (None, *OUTLETS):
        hint = f"it is one of: {', '.join(OUTLETS)}"
        raise TinyboxError(f"{where}: 'circuit.outlet' is {seed.circuit.outlet!r}", hint=hint)
    return seed


def _check_network(network: Network, *, where: str) -> None:
    """Addresses that a host can have, and a gateway that it can reach."""
    if network.address is None:
        given = [item.name for item in dataclasses.fields(network) if getattr(network, item.name)]
        if given:
            hint = "add the address, or leave the table out: DHCP then gives everything"
            raise TinyboxError(f"{where}: 'network.{given[0]}' without 'network.address'", hint=hint)
        return
    hint = "give a host's address and its prefix, as '192.168.1.20/24'"
    try:
        own = ipaddress.ip_interface(network.address)
    except ValueError:
        raise TinyboxError(f"{where}: 'network.address' is {network.address!r}", hint=hint) from None
    if "/" not in network.address or not _is_host(own.ip, own.network):
        raise TinyboxError(f"{where}: 'network.address' is {network.address!r}", hint=hint)
    if network.gateway is not None:
        gateway = _address(network.gateway, where=where, key="network.gateway")
        if gateway not in own.network or gateway == own.ip or not _is_host(gateway, own.network):
            hint = f"it is another host in {own.network}"
            raise TinyboxError(f"{where}: 'network.gateway' is {network.gateway!r}", hint=hint)
    for number, server in enumerate(network.dns):
        _address(server, where=where, key=f"network.dns[{number}]")
    if network.mac is not None and not MAC.fullmatch(network.mac):
        hint = "six bytes, as on the box's label: '9c:6b:00:12:34:56'"
        raise TinyboxError(f"{where}: 'network.mac' is {network.mac!r}", hint=hint)


IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IpNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network


def _address(text: str, *, where: str, key: str) -> IpAddress:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        raise TinyboxError(f"{where}: '{key}' is {text!r}", hint="give an address, as '192.168.1.1'") from None


def _is_host(address: IpAddress, network: IpNetwork) -> bool:
    """Not the network itself, its broadcast, or an address that no interface may have."""
    if address.is_multicast or address.is_loopback or address.is_unspecified:
        return False
    return network.num_addresses <= 2 or address not in (network.network_address, network.broadcast_address)


def seed_text(seed: Seed) -> str:
    """The seed as a file."""
    keys = "".join(f"    {json.dumps(key)},\n" for key in seed.ssh_authorized_keys)
    text = f'hostname = "{seed.hostname}"\nuser = "{seed.user}"\nssh_authorized_keys = [\n{keys}]\n'
    return text + _table("network", seed.network) + circuit_text(seed.circuit)


def circuit_text(circuit: CircuitConfig) -> str:
    """The circuit as a file of settings; empty when it says nothing of its own."""
    return _table("circuit", circuit)


def network_text(network: Network) -> str:
    """The address as systemd.network(5) wants it; empty for DHCP."""
    if network.address is None:
        return ""
    match = f"MACAddress={network.mac}" if network.mac is not None else "Type=ether\nKind=!*"
    lines = [f"Address={network.address}"]
    lines += [f"Gateway={network.gateway}"] if network.gateway is not None else []
    lines += [f"DNS={server}" for server in network.dns]
    return f"# From the box's seed.\n[Match]\n{match}\n\n[Network]\n" + "".join(f"{line}\n" for line in lines)


def _table(name: str, values: Any) -> str:
    """What differs from the defaults, as a TOML table."""
    given = ((item.name, getattr(values, item.name), item.default) for item in dataclasses.fields(values))
    told = {key: value for key, value, default in given if value not in (None, ()) and value != default}
    return table_text({name: told}) if told else ""
