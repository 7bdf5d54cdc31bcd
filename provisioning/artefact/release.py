"""Which image a file of raw bytes is: the release file on its ESP says so; without one it is nobody's."""

import json
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

from provisioning.artefact.manifest import NO_PROFILE, Release, check_release
from provisioning.esp import has_esp, read_from_esp
from tinybox.core.errors import TinyboxError
from tinybox.core.table import read_table, table_text

FILE_NAME = "tinybox-release.toml"
SEED_FORMAT = "tinybox-seed-1"


@dataclass(frozen=True, slots=True)
class ReleaseFile:
    """What the image's build writes on the ESP."""

    id: str
    version: str
    sequence: int
    profile: str
    seed: str = SEED_FORMAT


def release_text(release: ReleaseFile) -> str:
    """The file's text."""
    values = {name: getattr(release, name) for name in ("id", "version", "sequence", "profile", "seed")}
    return "# Which image this is. 'tinybox-provision pack' puts it into the signed manifest.\n" + table_text(values)


def release_of(image: Path) -> Release:
    """What the image says of itself. Raises TinyboxError for a release file that cannot be meant."""
    text = read_from_esp(image, FILE_NAME) if has_esp(image) else None
    if text is None:
        plain = re.sub(r"[^a-z0-9._+~-]+", "-", image.stem.lower()).lstrip("._+~-")[:64]
        return Release(plain or "image", "0", 0, NO_PROFILE)
    where = f"{image}: {FILE_NAME}"
    try:
        found = read_table(ReleaseFile, tomllib.loads(text.decode()), where=where)
    except ValueError as error:
        raise TinyboxError(f"{where}: not valid TOML: {error}", hint="build the image again") from None
    return check_release(Release(found.id, found.version, found.sequence, found.profile, found.seed))


def build_facts(image: Path) -> dict[str, str]:
    """What the image's build noted beside it, for the provenance; nothing where nobody did."""
    path = image.with_suffix(".inputs.json")
    if not path.exists():
        return {}
    loaded = json.loads(path.read_text())
    return {str(key): str(value) for key, value in loaded.items()}
