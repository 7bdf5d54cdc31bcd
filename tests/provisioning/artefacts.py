"""Small images and artefacts for tests, made by the programs that make real ones."""

import random
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from provisioning.artefact.release import FILE_NAME, ReleaseFile, release_text
from provisioning.esp import write_to_esp

PROVISION = Path(sys.executable).parent / "tinybox-provision"
MIB = 2**20
TABLE = """label: gpt
label-id: 6D2B9E1C-0000-4000-8000-000000000001
unit: sectors
start=2048, size=16384, type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B, name=tinybox-esp, uuid={0}2
start=18432, size=28672, type=4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709, name=tinybox-root, uuid={0}3
""".format("6D2B9E1C-0000-4000-8000-00000000000")
RELEASE = ReleaseFile(id="tinybox", version="1.2.3", sequence=1_000, profile="sim")


@dataclass(frozen=True, slots=True)
class Made:
    """An image, its artefact and both keys."""

    image: Path
    artefact: Path
    key: Path

    @property
    def public(self) -> Path:
        return self.key.with_name(self.key.name + ".pub")


def provision(*words: object, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run the console script; nothing is checked."""
    command = [str(PROVISION), *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, check=False, input=stdin)


def done(*words: object) -> str:
    """The same, which must succeed; what it printed."""
    found = provision(*words)
    assert found.returncode == 0, found.stderr
    return found.stdout


def make_disk(path: Path, release: ReleaseFile | None = RELEASE, *, seed: int = 1) -> Path:
    """24 MiB: a partition table, an ESP, a root of random bytes, and emptiness between and within."""
    with path.open("wb") as file:
        file.truncate(24 * MIB)
        file.seek(10 * MIB)
        file.write(random.Random(seed).randbytes(3 * MIB))
        file.seek(21 * MIB)
        file.write(random.Random(seed + 1).randbytes(100_000))
    subprocess.run(["sfdisk", "--quiet", path], input=TABLE, text=True, check=True, timeout=30)
    subprocess.run(
        ["mformat", "-i", f"{path}@@{MIB}", "-T", "16384", "-h", "64", "-s", "32", "-N", "0", "::"],
        check=True,
        timeout=30,
    )
    if release is not None:
        write_to_esp(path, FILE_NAME, release_text(release))
    return path


def make_artefact(folder: Path, image: Path, *, key: Path | None = None) -> Made:
    """Packed by the command, with a key made for it."""
    if key is None:
        key = folder / "key"
        done("keygen", "--out", key)
    artefact = folder / f"{image.stem}.tbx"
    done("pack", image, "--key", key, "--out", artefact, "--frame-mib", "1")
    return Made(image, artefact, key)
