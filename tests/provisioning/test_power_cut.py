"""The plug is pulled at any write: what is left either does not start and says so, or is whole.

The writes of one flash are logged once; each cut is then made offline. What was not flushed when the power went may be
there, or not, or in part, in any combination; a block of 4 KiB is whole or not there, as drives promise.
"""

import random
import zlib
from dataclasses import dataclass, field

import pytest

from provisioning.artefact.container import Artefact, open_artefact
from provisioning.artefact.pack import pack
from provisioning.artefact.release import release_of
from provisioning.artefact.source import FileSource
from provisioning.flash.fetch import Fetcher
from provisioning.flash.job import Event, Job
from provisioning.flash.mark import LENGTH, Mark, find_mark
from provisioning.flash.pipeline import flash
from tests.provisioning.artefacts import MIB, make_disk

CUTS = 50
MARK = Mark("a" * 64, "tinybox 1.2.3")
DRIVE_BYTES = 26 * MIB
BLOCK = 4096


@dataclass
class LoggedDisk:
    """A drive in memory that notes what it was told; `faults` bend what it keeps: offset to how many times."""

    name: str = "drive"
    memory: bytearray = field(default_factory=lambda: bytearray(b"\xee" * DRIVE_BYTES))
    log: list[tuple[str, int, bytes | int]] = field(default_factory=list)
    faults: dict[int, int] = field(default_factory=dict)
    errors: dict[int, int] = field(default_factory=dict)

    @property
    def size_bytes(self) -> int:
        return len(self.memory)

    def write(self, offset: int, data: memoryview) -> None:
        if self.errors.get(offset, 0):
            self.errors[offset] -= 1
            raise OSError(5, "Input/output error")
        self.log.append(("write", offset, bytes(data)))
        self.memory[offset : offset + len(data)] = data
        if self.faults.get(offset, 0):
            self.faults[offset] -= 1
            self.memory[offset + 7] ^= 1 << (self.faults[offset] % 8)

    def read_into(self, offset: int, into: memoryview) -> None:
        into[:] = self.memory[offset : offset + len(into)]

    def zero(self, offset: int, length: int) -> None:
        self.log.append(("zero", offset, length))
        self.memory[offset : offset + length] = bytes(length)

    def discard(self, offset: int) -> None:
        self.log.append(("discard", offset, self.size_bytes - offset))
        self.memory[offset:] = b"\xdd" * (self.size_bytes - offset)

    def flush(self) -> None:
        self.log.append(("flush", 0, 0))

    def close(self) -> None:
        pass


@dataclass
class Scene:
    image: bytes
    artefact: Artefact
    source: FileSource

    def job(self, disk: LoggedDisk, *, is_resumed: bool = False, fetcher: Fetcher | None = None) -> Job:
        fetcher = fetcher or Fetcher(self.source, self.artefact)
        self.events: list[Event] = []
        return Job(disk, fetcher, MARK, self.events.append, is_resumed=is_resumed)

    def run(self, disk: LoggedDisk, *, is_resumed: bool = False) -> str | None:
        fetcher = Fetcher(self.source, self.artefact)
        job = self.job(disk, is_resumed=is_resumed, fetcher=fetcher)
        flash(fetcher, [job])
        return job.failure


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    folder = tmp_path_factory.mktemp("cut")
    image = make_disk(folder / "disk.raw")
    pack(
        image, release_of(image), None, folder / "disk.tbx", frame_bytes=128 * 1024
    )  # small: many writes to cut between
    source = FileSource(folder / "disk.tbx")
    artefact = open_artefact(source.read, source.size_bytes, None, where="it")
    return Scene(image.read_bytes(), artefact, source)


def starts(disk: bytes) -> bool:
    """What a UEFI firmware asks before it takes a disk for one (UEFI 2.10, 5.3): a protective MBR, a header that is
    whole, and the table that the header promises.
    """
    header = disk[512:1024]
    if disk[510:512] != b"\x55\xaa" or header[:8] != b"EFI PART":
        return False
    length = int.from_bytes(header[12:16], "little")
    told = int.from_bytes(header[16:20], "little")
    if not 92 <= length <= 512 or zlib.crc32(header[:16] + bytes(4) + header[20:length]) != told:
        return False
    at = int.from_bytes(header[72:80], "little") * 512
    entries = int.from_bytes(header[80:84], "little") * int.from_bytes(header[84:88], "little")
    return zlib.crc32(disk[at : at + entries]) == int.from_bytes(header[88:92], "little")


def cut(
    before: bytes, log: list[tuple[str, int, bytes | int]], at: int, rng: random.Random, *, luck: float = 0.5
) -> bytes:
    """The drive after `at` whole steps of the log, with the luck that unflushed ones have."""
    flushed = max((index for index, step in enumerate(log[:at]) if step[0] == "flush"), default=-1)
    memory = bytearray(before)
    for index, (kind, offset, what) in enumerate(log[: at + 1]):
        if kind == "flush":
            continue
        length = len(what) if isinstance(what, bytes) else int(what)
        for start in range(0, length, BLOCK):
            end = min(length, start + BLOCK)
            if index > flushed and rng.random() > luck:
                continue
            filler = b"\xdd" if kind == "discard" else b"\0"
            data = what[start:end] if isinstance(what, bytes) else filler * (end - start)
            memory[offset + start : offset + end] = data
    return bytes(memory)


def test_at_whatever_write_the_power_goes(scene: Scene) -> None:
    old = bytearray(random.Random(2).randbytes(DRIVE_BYTES))
    old[: len(scene.image)] = scene.image  # somebody's disk that starts, with other content
    old[5 * MIB : 6 * MIB] = random.Random(3).randbytes(MIB)
    disk = LoggedDisk(memory=bytearray(old))
    assert scene.run(disk) is None
    assert disk.memory[: len(scene.image)] == scene.image
    rng = random.Random(11)
    steps = len(disk.log)
    points = [0, 1, *range(steps - 8, steps), *(rng.randrange(steps) for _ in range(CUTS))]
    told = {"old": 0, "unfinished": 0, "whole": 0}
    for at in points:
        left = cut(bytes(old), disk.log, at, rng)
        if starts(left):
            kind = "whole" if left[: len(scene.image)] == scene.image else "old"
            assert kind == "whole" or left == bytes(old), f"cut at {at}: half of it starts"
        else:
            kind = "unfinished"
            assert find_mark(left[:LENGTH]) == MARK, f"cut at {at}: it does not say so"
            if told[kind] % 4 == 0:
                resumed = LoggedDisk(memory=bytearray(left))
                assert scene.run(resumed, is_resumed=True) is None
                assert resumed.memory[: len(scene.image)] == scene.image
        told[kind] += 1
    assert told["unfinished"] > 30, told


def test_what_is_there_already_is_not_written_again(scene: Scene) -> None:
    disk = LoggedDisk()
    assert scene.run(disk) is None
    at = next(index for index, step in enumerate(disk.log) if step[1] == 12 * MIB)
    left = cut(b"\xee" * DRIVE_BYTES, disk.log, at, random.Random(1), luck=1.0)
    again = LoggedDisk(memory=bytearray(left))
    assert scene.run(again, is_resumed=True) is None
    written = [
        sum(len(what) for kind, _, what in one.log if kind == "write" and isinstance(what, bytes))
        for one in (disk, again)
    ]
    assert again.memory[: len(scene.image)] == scene.image
    assert written[1] < 0.6 * written[0]


def test_a_bit_that_the_drive_forgets_is_found_and_written_again(scene: Scene) -> None:
    disk = LoggedDisk(faults={10 * MIB: 1, 12 * MIB: 2})
    assert scene.run(disk) is None
    assert disk.memory[: len(scene.image)] == scene.image
    assert {event.done_bytes for event in scene.events if event.event == "retry"} == {10 * MIB, 12 * MIB}


@pytest.mark.parametrize(("times", "words"), [(10**6, "a bad cable or medium")])
def test_a_drive_that_goes_on_forgetting_is_told_with_its_place(scene: Scene, times: int, words: str) -> None:
    disk = LoggedDisk(faults={11 * MIB: times})
    failure = scene.run(disk)
    assert failure is not None
    assert "does not keep what is written at byte 11,534,336" in failure
    assert words in failure
    assert not starts(bytes(disk.memory))
    assert find_mark(bytes(disk.memory[:LENGTH])) is not None


def test_a_write_that_fails_once_is_tried_again_and_one_that_fails_always_ends_it(scene: Scene) -> None:
    disk = LoggedDisk(errors={11 * MIB: 2})
    assert scene.run(disk) is None
    disk = LoggedDisk(errors={11 * MIB: 10})
    assert scene.run(disk) == "drive: Input/output error"
    assert not starts(bytes(disk.memory))


def test_one_of_three_drives_that_dies_does_not_stop_the_others(scene: Scene) -> None:
    disks = [LoggedDisk(name=str(i)) for i in range(3)]
    disks[1].errors = {12 * MIB: 10**6}
    fetcher = Fetcher(scene.source, scene.artefact)
    jobs = [scene.job(disk, fetcher=fetcher) for disk in disks]
    flash(fetcher, jobs)
    assert [job.failure for job in jobs] == [None, "1: Input/output error", None]
    assert all(disks[i].memory[: len(scene.image)] == scene.image for i in (0, 2))


def test_a_mistake_of_ours_ends_the_flash_and_hangs_nobody(scene: Scene) -> None:
    class Odd(LoggedDisk):
        def write(self, offset: int, data: memoryview) -> None:
            if offset == 11 * MIB:
                raise ValueError("a mistake")
            super().write(offset, data)

    disks = [Odd(name="odd"), LoggedDisk(name="good")]
    fetcher = Fetcher(scene.source, scene.artefact)
    with pytest.raises(ValueError, match="a mistake"):
        flash(fetcher, [scene.job(disk, fetcher=fetcher) for disk in disks])
    assert not any(starts(bytes(disk.memory)) for disk in disks)


def test_the_last_bytes_of_a_drive_that_does_not_keep_them_are_noticed(scene: Scene) -> None:
    for offset in (0, 23 * MIB):
        disk = LoggedDisk(faults={offset: 10**6})
        failure = scene.run(disk)
        assert failure is not None
        assert "does not hold" in failure
