"""Files on the EFI system partition of a raw image or a drive, without mounting anything."""

import json
import os
import subprocess
import tempfile
from pathlib import Path

from tinybox.core.errors import TinyboxError

ESP_TYPE = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"
NEEDS = "it needs mtools: run 'make setup'"


def has_esp(image: Path) -> bool:
    """Whether there is a partition table with an EFI system partition in it."""
    return _find_esp(image) is not None


def esp_offset_bytes(image: Path) -> int:
    """Where the partition begins. Raises TinyboxError when the image has none."""
    if (found := _find_esp(image)) is None:
        raise TinyboxError(f"{image} has no EFI system partition", hint="is it an image that 'make image' built?")
    return found


def _find_esp(image: Path) -> int | None:
    done = subprocess.run(["sfdisk", "--json", str(image)], capture_output=True, text=True, timeout=30, check=False)
    if done.returncode != 0:
        return None
    table = json.loads(done.stdout)["partitiontable"]
    for partition in table["partitions"]:
        if partition["type"].upper() == ESP_TYPE:
            return int(partition["start"]) * int(table.get("sectorsize", 512))
    return None


def write_to_esp(image: Path, name: str, text: str, *, offset_bytes: int | None = None) -> None:
    """Put one file at the top of the partition, over one of that name. Raises TinyboxError.

    `offset_bytes` is where the partition begins, when the table in the image does not say it yet.
    """
    where = f"{image}@@{esp_offset_bytes(image) if offset_bytes is None else offset_bytes}"
    with tempfile.NamedTemporaryFile("w") as file:
        file.write(text)
        file.flush()
        try:
            _mtools("mcopy", "-o", "-i", where, file.name, f"::{name}").check_returncode()
        except (OSError, subprocess.SubprocessError) as error:
            raise TinyboxError(f"cannot write {name} to the ESP of {image}: {error}", hint=NEEDS) from None


def read_from_esp(image: Path, name: str, *, offset_bytes: int | None = None) -> bytes | None:
    """A file at the top of the partition; None where there is none. Raises TinyboxError."""
    where = f"{image}@@{esp_offset_bytes(image) if offset_bytes is None else offset_bytes}"
    try:
        done = _mtools("mcopy", "-n", "-i", where, f"::{name}", "-")
    except (OSError, subprocess.SubprocessError) as error:
        raise TinyboxError(f"cannot read {name} on the ESP of {image}: {error}", hint=NEEDS) from None
    return done.stdout if done.returncode == 0 else None


def _mtools(*words: str) -> subprocess.CompletedProcess[bytes]:
    environment = {**os.environ, "MTOOLS_SKIP_CHECK": "1"}
    return subprocess.run(words, capture_output=True, timeout=60, check=False, env=environment)
