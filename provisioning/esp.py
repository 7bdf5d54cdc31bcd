"""Files onto the EFI system partition of a raw image, without mounting anything."""

import json
import os
import subprocess
import tempfile
from pathlib import Path

from tinybox.core.errors import TinyboxError

ESP_TYPE = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"


def esp_offset_bytes(image: Path) -> int:
    """Where the partition begins. Raises TinyboxError when the image has none."""
    done = subprocess.run(["sfdisk", "--json", str(image)], capture_output=True, text=True, timeout=30, check=False)
    if done.returncode == 0:
        table = json.loads(done.stdout)["partitiontable"]
        for partition in table["partitions"]:
            if partition["type"].upper() == ESP_TYPE:
                return int(partition["start"]) * int(table.get("sectorsize", 512))
    raise TinyboxError(f"{image} has no EFI system partition", hint="is it an image that 'make image' built?")


def write_to_esp(image: Path, name: str, text: str) -> None:
    """Put one file at the top of the partition, over one of that name. Raises TinyboxError."""
    where = f"{image}@@{esp_offset_bytes(image)}"
    with tempfile.NamedTemporaryFile("w") as file:
        file.write(text)
        file.flush()
        command = ["mcopy", "-o", "-i", where, file.name, f"::{name}"]
        environment = {**os.environ, "MTOOLS_SKIP_CHECK": "1"}
        try:
            subprocess.run(command, capture_output=True, timeout=60, check=True, env=environment)
        except (OSError, subprocess.SubprocessError) as error:
            hint = "it needs mtools: run 'make setup'"
            raise TinyboxError(f"cannot write {name} to the ESP of {image}: {error}", hint=hint) from None
