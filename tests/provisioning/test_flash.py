"""Flashing files and loop devices by the command: what is written, what is refused, what is left when it goes wrong."""

import contextlib
import errno
import json
import os
import pty
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from provisioning.esp import read_from_esp
from provisioning.flash.mark import LENGTH, find_mark
from tests.provisioning.artefacts import MIB, PROVISION, RELEASE, Made, done, make_artefact, make_disk, provision
from tests.provisioning.webserver import Server
from tinybox.core.seed import FILE_NAME, Seed, seed_text

SIZE = 24 * MIB


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("artefact")
    return make_artefact(folder, make_disk(folder / "disk.raw"))


@pytest.fixture
def loop(tmp_path: Path) -> Iterator[Path]:
    """A drive of 32 MiB, full of somebody's bytes without a signature."""
    backing = tmp_path / "drive"
    backing.write_bytes(os.urandom(32 * MIB))
    with attached(backing) as device:
        yield device


@contextlib.contextmanager
def attached(backing: Path, *words: str) -> Iterator[Path]:
    command = ["losetup", "--find", "--show", *words, str(backing)]
    device = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout.strip()
    try:
        yield Path(device)
    finally:
        subprocess.run(["losetup", "--detach", device], check=True, timeout=30)


@contextlib.contextmanager
def tmpfs(folder: Path, size: str) -> Iterator[Path]:
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", folder], check=True, timeout=30)
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True, timeout=30)


def flash(made: Made, *targets: object, options: tuple[str, ...] = ("--yes",)) -> subprocess.CompletedProcess[str]:
    return provision("flash", made.artefact, *targets, "--trust", made.public, *options)


def holds(target: Path, made: Made) -> bool:
    with target.open("rb") as file:
        return file.read(SIZE) == made.image.read_bytes()


def starts(target: Path) -> bool:
    """Whether a firmware would take it for a disk."""
    with target.open("rb") as file:
        block = file.read(1024)
    return block[510:512] == b"\x55\xaa" or block[512:520] == b"EFI PART"


def test_a_new_file_an_old_one_and_a_dirty_drive_in_one_pass(made: Made, loop: Path, tmp_path: Path) -> None:
    old = tmp_path / "old.raw"
    old.write_bytes(b"\xa5" * (30 * MIB + 11))
    said = flash(made, tmp_path / "new.raw", old, loop)
    assert said.returncode == 0, said.stderr
    assert said.stdout.count("whole and read back") == 3
    assert (tmp_path / "new.raw").read_bytes() == made.image.read_bytes()
    assert holds(old, made)
    assert old.read_bytes()[SIZE:] == b"\xa5" * (6 * MIB + 11)
    assert holds(loop, made)


def test_events_are_json_lines_for_scripts(made: Made, tmp_path: Path) -> None:
    said = flash(made, tmp_path / "a.raw", options=("--yes", "--json"))
    events = [json.loads(line) for line in said.stdout.splitlines()]
    assert events[-1] == {"event": "end", "ok": True, "failed": []}
    assert {"event": "done", "target": str(tmp_path / "a.raw")} in events
    last = [event for event in events if event["event"] == "progress" and event["phase"] == "verify"][-1]
    assert last["done_bytes"] == last["total_bytes"] == SIZE


def test_an_image_smaller_than_a_block_and_one_of_odd_size(made: Made, tmp_path: Path) -> None:
    for size in (1, 4095, 5000, MIB - 1, MIB + 1, 2 * MIB + 7):
        image = tmp_path / f"odd{size}.img"
        image.write_bytes(os.urandom(size))
        artefact = make_artefact(tmp_path, image, key=made.key).artefact
        out = tmp_path / f"out{size}"
        done("flash", artefact, out, "--trust", made.public, "--yes")
        assert out.read_bytes() == image.read_bytes()
        larger = tmp_path / f"larger{size}"
        larger.write_bytes(b"z" * (3 * MIB))
        done("flash", artefact, larger, "--trust", made.public, "--yes")
        assert larger.read_bytes()[:size] == image.read_bytes()
        assert find_mark(larger.read_bytes()[:LENGTH]) is None


def test_the_seed_is_on_the_esp_when_it_is_done(made: Made, loop: Path, tmp_path: Path) -> None:
    seed = tmp_path / "kitchen.toml"
    seed.write_text(seed_text(Seed(hostname="kitchen-box")))
    said = flash(made, loop, tmp_path / "b.raw", options=("--yes", "--seed", str(seed)))
    assert said.returncode == 0, said.stderr
    for target in (loop, tmp_path / "b.raw"):
        assert read_from_esp(target, FILE_NAME) == seed.read_bytes()
        with target.open("rb") as file:
            assert file.read(MIB) == made.image.read_bytes()[:MIB]


def test_a_bad_seed_or_one_that_nobody_would_read_is_refused_before_a_write(made: Made, tmp_path: Path) -> None:
    seed = tmp_path / "seed.toml"
    seed.write_text("hostname = 'Kitchen Box'\n")
    said = flash(made, tmp_path / "c.raw", options=("--yes", "--seed", str(seed)))
    assert (said.returncode, (tmp_path / "c.raw").exists()) == (1, False)
    assert "'hostname' is 'Kitchen Box'" in said.stderr
    seed.write_text("hostname = 'kitchen'\n")
    image = make_disk(tmp_path / "plain.raw", None)
    plain = make_artefact(tmp_path, image, key=made.key).artefact
    said = provision("flash", plain, tmp_path / "c.raw", "--trust", made.public, "--yes", "--seed", seed)
    assert (said.returncode, (tmp_path / "c.raw").exists()) == (1, False)
    assert "reads no seed" in said.stderr


def test_it_is_done_again_over_itself_but_over_a_later_release_only_when_told(
    made: Made, loop: Path, tmp_path: Path
) -> None:
    assert flash(made, loop).returncode == 0
    assert flash(made, loop).returncode == 0
    assert holds(loop, made)
    release = type(RELEASE)(RELEASE.id, "1.3.0", RELEASE.sequence + 1, RELEASE.profile)
    later = make_artefact(tmp_path, make_disk(tmp_path / "later.raw", release, seed=8), key=made.key)
    said = provision("flash", later.artefact, loop, "--trust", made.public, "--yes")
    assert said.returncode == 0, said.stderr
    assert holds(loop, later)
    back = flash(made, loop)
    assert back.returncode == 1
    assert "holds a later release" in back.stderr
    assert holds(loop, later)
    assert flash(made, loop, options=("--yes", "--overwrite", loop.name)).returncode == 0
    assert holds(loop, made)


def test_an_unsigned_artefact_needs_to_be_allowed(made: Made, tmp_path: Path) -> None:
    done("pack", made.image, "--unsigned", "--out", tmp_path / "u.tbx")
    out = tmp_path / "out.raw"
    for options, word in ((("--trust", str(made.public)), "is not signed"), ((), "nobody's signature is trusted")):
        said = provision("flash", tmp_path / "u.tbx", out, "--yes", *options)
        assert (said.returncode, out.exists()) == (1, False)
        assert word in said.stderr
    done("flash", tmp_path / "u.tbx", out, "--yes", "--allow-unsigned")
    assert holds(out, made)


def test_the_wrong_key_writes_nothing(made: Made, tmp_path: Path) -> None:
    done("keygen", "--out", tmp_path / "other")
    said = provision(
        "flash", made.artefact, tmp_path / "o.raw", "--trust", tmp_path / "other.pub", "--yes", "--allow-unsigned"
    )
    assert (said.returncode, (tmp_path / "o.raw").exists()) == (1, False)
    assert "not signed by the key that you trust" in said.stderr


MAKERS = {
    "ext4": ["mkfs.ext4", "-q", "-F", "-L", "holidays"],
    "xfs": ["mkfs.xfs", "-q", "-f"],
    "btrfs": ["mkfs.btrfs", "-q", "-f", "-M"],
    "swap": ["mkswap"],
    "vfat": ["mkfs.vfat"],
}


@pytest.mark.parametrize("kind", MAKERS)
def test_somebodys_file_system_is_refused_and_left_alone(made: Made, tmp_path: Path, kind: str) -> None:
    drive = tmp_path / "drive"
    drive.touch()
    os.truncate(drive, 320 * MIB)
    subprocess.run([*MAKERS[kind], drive], check=True, timeout=60, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    before = subprocess.run(["sha256sum", drive], capture_output=True, timeout=60, check=True).stdout
    said = flash(made, drive)
    assert said.returncode == 1
    assert f"is refused: it holds {kind}" in said.stderr
    assert "--overwrite drive" in said.stderr
    with attached(drive) as device:
        assert f"{device} is built upon it" in flash(made, drive, options=("--yes", "--overwrite", "drive")).stderr
        said = flash(made, device)
        assert said.returncode == 1
        assert f"is refused: it holds {kind}" in said.stderr
        assert f"--overwrite {device.name}" in said.stderr
        assert flash(made, device, options=("--yes", "--overwrite", "other")).returncode == 1
        assert subprocess.run(["sha256sum", drive], capture_output=True, timeout=60, check=True).stdout == before
        assert flash(made, device, options=("--yes", "--overwrite", device.name)).returncode == 0
        assert holds(device, made)


def test_somebodys_partitions_are_refused(made: Made, loop: Path) -> None:
    subprocess.run(
        ["sfdisk", "--quiet", loop], input="label: gpt\nsize=8M, name=photos\n", text=True, check=True, timeout=30
    )
    said = flash(made, loop)
    assert said.returncode == 1
    assert "it holds a partition 'photos'" in said.stderr


def test_what_is_mounted_is_refused_whatever_is_said(made: Made, tmp_path: Path) -> None:
    drive = tmp_path / "drive"
    drive.touch()
    os.truncate(drive, 32 * MIB)
    subprocess.run(["mkfs.ext4", "-q", "-F", drive], check=True, timeout=60)
    (tmp_path / "at").mkdir()
    with attached(drive) as device:
        subprocess.run(["mount", device, tmp_path / "at"], check=True, timeout=30)
        try:
            said = flash(made, device, options=("--yes", "--overwrite", device.name))
            assert said.returncode == 1
            assert f"it is mounted at {tmp_path / 'at'}" in said.stderr
        finally:
            subprocess.run(["umount", tmp_path / "at"], check=True, timeout=30)


def test_too_small_read_only_and_what_is_no_drive(made: Made, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.touch()
    os.truncate(small, SIZE - 4096)
    said = flash(made, small)
    assert (said.returncode, small.stat().st_blocks) == (1, 0)
    assert "the image needs 25,165,824" in said.stderr
    os.truncate(small, 2 * SIZE)
    with attached(small, "--read-only") as device:
        assert "it is read-only" in flash(made, device).stderr
    assert "neither a drive nor a regular file" in flash(made, tmp_path).stderr
    assert "there is no /dev/disk/by-id/nothing" in flash(made, "/dev/disk/by-id/nothing").stderr
    assert "are the same target" in flash(made, small, tmp_path / "." / "small").stderr
    assert small.stat().st_blocks == 0


def test_one_that_is_refused_keeps_the_others_from_being_touched(made: Made, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.write_bytes(b"x" * 5000)
    said = flash(made, tmp_path / "good.raw", small)
    assert (said.returncode, (tmp_path / "good.raw").exists()) == (1, False)


def ask(made: Made, target: Path, answer: str) -> tuple[int, str]:
    """Flash at a terminal, typing."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(PROVISION, [str(PROVISION), "flash", str(made.artefact), str(target), "--trust", str(made.public)])
    shown = b""
    try:
        while b"Type its serial" not in shown:
            shown += os.read(terminal, 1000)
        os.write(terminal, answer.encode() + b"\n")
        while piece := os.read(terminal, 1000):
            shown += piece
    except OSError as error:  # the end of a terminal
        assert error.errno == errno.EIO
    finally:
        os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), shown.decode()


def test_it_shows_what_is_there_and_asks_for_the_serial(made: Made, loop: Path) -> None:
    code, shown = ask(made, loop, "yes")
    assert code == 1
    assert f"serial {loop.name}, 0.03 GB" in shown
    assert "nothing was written" in shown
    assert not starts(loop)
    code, shown = ask(made, loop, loop.name)
    assert code == 0, shown
    assert holds(loop, made)


def test_without_a_terminal_nobody_is_asked_and_nothing_written(made: Made, tmp_path: Path) -> None:
    said = flash(made, tmp_path / "t.raw", options=())
    assert (said.returncode, (tmp_path / "t.raw").exists()) == (1, False)
    assert "'--yes' answers the question" in said.stderr


@pytest.mark.parametrize("where", ["first", "middle", "last"])
def test_a_flipped_bit_in_the_artefact_leaves_nothing_that_starts(made: Made, tmp_path: Path, where: str) -> None:
    data = bytearray(made.artefact.read_bytes())
    head = int(json.loads(done("inspect", made.artefact, "--json"))["frames"])
    assert head == 24
    at = {"first": len(data) - len(data) * 9 // 10, "middle": len(data) // 2, "last": len(data) - 9}[where]
    data[at] ^= 1
    (tmp_path / "bad.tbx").write_bytes(data)
    target = tmp_path / "x.raw"
    said = provision("flash", tmp_path / "bad.tbx", target, "--trust", made.public, "--yes")
    assert said.returncode == 1
    assert "is not what was signed" in said.stderr
    assert not starts(target)
    assert find_mark(target.read_bytes()[:LENGTH]) is not None
    assert flash(made, target).returncode == 0
    assert holds(target, made)


def test_a_target_that_runs_full_fails_alone(made: Made, loop: Path, tmp_path: Path) -> None:
    with tmpfs(tmp_path / "small", "2m") as small:
        said = flash(made, small / "a.raw", loop, options=("--yes", "--json"))
        assert said.returncode == 1
        events = [json.loads(line) for line in said.stdout.splitlines()]
        assert events[-1] == {"event": "end", "ok": False, "failed": [str(small / "a.raw")]}
        (failed,) = [event for event in events if event["event"] == "failed"]
        assert "No space left on device" in failed["message"]
        assert not starts(small / "a.raw")
        assert holds(loop, made)


def wait_for_mark(running: subprocess.Popen[Any], target: Path) -> None:
    """Until it is in the middle: its server stands still, its first writes are there."""
    deadline_s = time.monotonic() + 60
    while find_mark(target.read_bytes()[:LENGTH]) is None:
        assert running.poll() is None and time.monotonic() < deadline_s
        time.sleep(0.05)
    time.sleep(0.5)


def kill_when_marked(running: subprocess.Popen[bytes], target: Path) -> None:
    """In the middle."""
    wait_for_mark(running, target)
    running.kill()
    running.wait(30)


def test_a_flash_that_was_killed_says_so_and_goes_on(made: Made, loop: Path, tmp_path: Path) -> None:
    with Server(made.artefact.read_bytes(), stall_at=made.artefact.stat().st_size * 2 // 3) as server:
        command = [PROVISION, "flash", server.url, loop, "--trust", made.public, "--yes"]
        running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        kill_when_marked(running, loop)
    assert not starts(loop)
    said = flash(made, loop, options=("--yes", "--json"))
    assert said.returncode == 0, said.stderr
    assert [json.loads(line)["phase"] for line in said.stdout.splitlines() if '"look"' in line], "it compared nothing"
    assert holds(loop, made)
    other = make_artefact(tmp_path, make_disk(tmp_path / "other.raw", seed=4), key=made.key)
    assert flash(other, loop).returncode == 0
    assert holds(loop, other)


def test_an_interrupted_flash_says_how_to_go_on(made: Made, loop: Path) -> None:
    with Server(made.artefact.read_bytes(), stall_at=made.artefact.stat().st_size * 2 // 3) as server:
        command = [PROVISION, "flash", server.url, loop, "--trust", made.public, "--yes"]
        # Whoever runs the tests in the background has them ignore the signal.
        command = ["env", "--default-signal=INT", *command]
        running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        wait_for_mark(running, loop)
        running.send_signal(signal.SIGINT)
        _, said = running.communicate(timeout=60)
    assert running.returncode == 130
    assert "interrupted: run the same command again" in said
    assert not starts(loop)
    assert flash(made, loop).returncode == 0
    assert holds(loop, made)


def test_the_artefact_is_never_written_over_image_or_key(made: Made) -> None:
    kept = made.key.read_bytes(), made.image.read_bytes()
    for out in (made.image, made.key):
        said = provision("pack", made.image, "--key", made.key, "--out", out)
        assert said.returncode == 1
        assert "itself" in said.stderr
    assert (made.key.read_bytes(), made.image.read_bytes()) == kept


def test_without_reading_back_it_is_as_whole(made: Made, loop: Path) -> None:
    said = flash(made, loop, options=("--yes", "--no-verify"))
    assert said.returncode == 0
    assert "whole, not read back" in said.stdout
    assert holds(loop, made)
