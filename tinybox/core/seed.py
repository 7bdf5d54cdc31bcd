"""What makes one box different from another: a small TOML on the ESP, read at boot."""

import json
import re
import tomllib
from dataclasses import dataclass

from tinybox.core.errors import TinyboxError
from tinybox.core.table import read_table

FILE_NAME = "tinybox-seed.toml"
HOSTNAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
USER = re.compile(r"[a-z][a-z0-9_-]{0,30}")
KEY = re.compile(r"(ssh-ed25519|ssh-rsa|ecdsa-sha2-\S+|sk-\S+) [A-Za-z0-9+/=]+( .*)?")


@dataclass(frozen=True, slots=True)
class Seed:
    """Name of the box, and who may log in: by key only, there are no passwords."""

    hostname: str = "tinybox"
    user: str = "tiny"
    ssh_authorized_keys: tuple[str, ...] = ()


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
    return seed


def seed_text(seed: Seed) -> str:
    """The seed as a file."""
    keys = "".join(f"    {json.dumps(key)},\n" for key in seed.ssh_authorized_keys)
    return f'hostname = "{seed.hostname}"\nuser = "{seed.user}"\nssh_authorized_keys = [\n{keys}]\n'
