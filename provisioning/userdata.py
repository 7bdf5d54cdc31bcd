"""What a cloud-init user-data file says that a seed knows too. Pure."""

from collections.abc import Mapping
from typing import Any

import yaml

from tinybox.core.errors import TinyboxError
from tinybox.core.seed import Seed

FIRST_LINE = "#cloud-config"
KNOWN = ("hostname", "fqdn", "users", "ssh_authorized_keys", "user")
OF_A_USER = ("name", "ssh_authorized_keys", "ssh-authorized-keys")


def import_user_data(text: str, *, where: str) -> tuple[Seed, tuple[str, ...]]:
    """The seed, and the keys that a seed does not know. Raises TinyboxError for what is no cloud-config."""
    if not text.startswith(FIRST_LINE):
        raise TinyboxError(
            f"{where}: it does not begin with '{FIRST_LINE}'", hint="scripts and archives are not imported"
        )
    try:
        table = yaml.safe_load(text) or {}
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        line = getattr(getattr(error, "problem_mark", None), "line", None)
        place = "" if line is None else f" in line {line + 1}"
        raise TinyboxError(f"{where}: not valid YAML{place}", hint="mend the file") from None
    if not isinstance(table, dict):
        raise TinyboxError(f"{where}: it is no table of settings", hint=f"'{FIRST_LINE}', then 'key: value' lines")
    defaults = Seed()
    person, left = _person(table, where)
    keys = _keys(table.get("ssh_authorized_keys"), where) + _keys(_either(person), where)
    fqdn = table.get("hostname") or table.get("fqdn") or defaults.hostname
    seed = Seed(
        hostname=_word(fqdn, "hostname", where).partition(".")[0],
        user=_word(person.get("name", defaults.user), "users", where),
        ssh_authorized_keys=tuple(dict.fromkeys(keys)),
    )
    unknown = [str(key) for key in table if key not in KNOWN]
    return seed, (*unknown, *left)


def _person(table: Mapping[Any, Any], where: str) -> tuple[Mapping[Any, Any], list[str]]:
    """The first user who is not cloud-init's default one, and what of the users is not taken over."""
    users = table.get("users") or ([table["user"]] if table.get("user") else [])
    if not isinstance(users, list):
        raise TinyboxError(f"{where}: 'users' is no list", hint="each user is a table with a name")
    people = [{"name": item} if isinstance(item, str) else item for item in users if item != "default"]
    if not all(isinstance(item, dict) for item in people):
        raise TinyboxError(f"{where}: 'users' holds something that is no user", hint="each user is a table with a name")
    if not people:
        return {}, []
    first, *others = people
    left = [f"users[0].{key}" for key in first if key not in OF_A_USER]
    return first, left + [f"user {item.get('name', '?')}" for item in others]


def _either(person: Mapping[Any, Any]) -> Any:
    return person.get("ssh_authorized_keys") or person.get("ssh-authorized-keys")


def _keys(value: Any, where: str) -> list[str]:
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise TinyboxError(f"{where}: 'ssh_authorized_keys' is no list of keys", hint="a line of a .pub file each")
    return [item.strip() for item in value]


def _word(value: Any, key: str, where: str) -> str:
    if not isinstance(value, str):
        raise TinyboxError(f"{where}: '{key}' is no word", hint="put it in quotes")
    return value
