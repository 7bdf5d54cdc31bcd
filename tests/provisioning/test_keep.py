"""Partitions that outlive a flash, also one that was killed."""

import hashlib
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.provisioning.artefacts import MIB, PROVISION, Made, make_artefact, make_disk
from tests.provisioning.test_flash import attached, flash, holds, kill_when_marked, starts
from tests.provisioning.webserver import Server

START, LENGTH = 30 * MIB, 8 * MIB


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("artefact")
    return make_artefact(folder, make_disk(folder / "disk.raw"))


@pytest.fixture
def drive(made: Made, tmp_path: Path) -> Iterator[Path]:
    """A drive with a tinybox on it, and a partition of its owner's behind."""
    backing = tmp_path / "drive"
    backing.touch()
    os.truncate(backing, 40 * MIB)
    with attached(backing) as device:
        assert flash(made, device).returncode == 0
        row = f"start={START // 512}, size={LENGTH // 512}, name=photos\n"
        command = ["sfdisk", "--append", "--quiet", "--no-reread", device]
        subprocess.run(command, input=row, text=True, check=True, timeout=30)
        with device.open("r+b") as file:
            file.seek(START)
            file.write(os.urandom(LENGTH))
        yield device


def rows(device: Path) -> list[dict[str, object]]:
    said = subprocess.run(["sfdisk", "--json", device], capture_output=True, text=True, timeout=30, check=True).stdout
    return [{key: row[key] for key in ("start", "size", "type", "uuid", "name")}
            for row in json.loads(said)["partitiontable"]["partitions"]]  # fmt: skip


def photos(device: Path) -> str:
    with device.open("rb") as file:
        file.seek(START)
        return hashlib.sha256(file.read(LENGTH)).hexdigest()


def test_a_partition_is_kept_with_its_row_of_the_table(made: Made, drive: Path, tmp_path: Path) -> None:
    before, data = rows(drive), photos(drive)
    other = make_artefact(tmp_path, make_disk(tmp_path / "other.raw", seed=6), key=made.key)
    refused = flash(other, drive)
    assert refused.returncode == 1
    assert "it holds a partition 'photos'" in refused.stderr
    done = flash(other, drive, options=("--yes", "--keep", "photos"))
    assert done.returncode == 0, done.stderr
    assert "'photos' stays" in done.stderr
    assert photos(drive) == data
    assert rows(drive) == before
    with drive.open("rb") as file:
        file.seek(MIB)
        assert file.read(22 * MIB) == other.image.read_bytes()[MIB : 23 * MIB]
    check = subprocess.run(["sfdisk", "--verify", drive], capture_output=True, text=True, timeout=30, check=False)
    assert "No errors detected" in check.stdout + check.stderr


def test_it_is_kept_by_a_flash_that_was_killed_and_by_the_one_that_goes_on(
    made: Made, drive: Path, tmp_path: Path
) -> None:
    before, data = rows(drive), photos(drive)
    other = make_artefact(tmp_path, make_disk(tmp_path / "other.raw", seed=6), key=made.key)
    with Server(other.artefact.read_bytes(), stall_at=other.artefact.stat().st_size // 2) as server:
        command = [PROVISION, "flash", server.url, drive, "--trust", made.public, "--yes", "--keep", "photos"]
        running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        kill_when_marked(running, drive)
    assert not starts(drive)
    assert photos(drive) == data
    done = flash(other, drive)
    assert done.returncode == 0, done.stderr
    assert photos(drive) == data
    assert rows(drive) == before


def test_what_cannot_be_kept_is_refused_and_nothing_written(made: Made, drive: Path) -> None:
    for label, word in (("music", "is there 0 times"), ("tinybox-root", "is the image's own")):
        said = flash(made, drive, options=("--yes", "--keep", "photos", "--keep", label))
        assert said.returncode == 1
        assert word in said.stderr
    assert holds(drive, made) is False  # its table has one row more than the image's
    assert starts(drive)


def test_a_partition_where_the_image_goes_cannot_stay(made: Made, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.touch()
    os.truncate(disk, 40 * MIB)
    table = f"label: gpt\nstart={10 * MIB // 512}, size=20480, name=photos\n"
    subprocess.run(["sfdisk", "--quiet", disk], input=table, text=True, check=True, timeout=30)
    said = flash(made, disk, options=("--yes", "--keep", "photos"))
    assert said.returncode == 1
    assert "begins at byte 10,485,760, and the image needs 25,165,824" in said.stderr
