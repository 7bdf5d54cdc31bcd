"""Drives and the array: their own limits, what wears, and an array that lost a drive."""

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tinybox.core.box import load_box
from tinybox.core.config import Config
from tinybox.core.snapshot import Drive, Fault, Raid
from tinybox.hw.hardware import Hardware
from tinybox.hw.host import Host
from tinybox.hw.nvme import read_drives
from tinybox.hw.raid import read_raid
from tinybox.twin.constants import load_plant
from tinybox.twin.faults.known import begin_fault
from tinybox.twin.faults.storage import storage_faults
from tinybox.twin.plant import Plant
from tinybox.twin.tree import build_tree

RED = load_box("red")
PLACES = ("/sys/class/nvme", "/sys/block", "/proc/mdstat", "/proc/mountinfo", "/commands/nvme", "/library/space")


def shown(plant: Plant, root: Path) -> Host:
    """The twin's storage as files."""
    tree = build_tree(plant, real_storage=False)
    for path, file in tree.files.items():
        if path.startswith(PLACES) or "/nvme/" in path or "_link_" in path:
            place = root / path.lstrip("/")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(file.read())
    for path, target in tree.links.items():
        if path.startswith(PLACES) or "/nvme/" in path or path.startswith("/sys/bus/pci/devices"):
            place = root / path.lstrip("/")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(target)
    return Host(root)


def test_a_drive_is_read_whole(tmp_path: Path) -> None:
    drives, faults = read_drives(shown(Plant.of(RED, load_plant(RED)), tmp_path))
    assert faults == () and len(drives) == 5
    one = drives[1]
    assert (one.pci, one.warn_c, one.crit_c, one.spare_pct, one.spare_least_pct) == ("0000:c2:00.0", 82, 85, 100, 10)
    assert (one.warn_minutes, one.crit_minutes, one.critical_warning, one.media_errors) == (0, 0, 0, 0)


SEEN: dict[str, dict[str, object]] = {
    "media-errors": {"media_errors": 10},
    "worn": {"used_pct": 93},
    "spare-low": {"spare_pct": 9, "critical_warning": 1},
    "hot": {"temp_c": 83, "critical_warning": 2},
    "read-only": {"critical_warning": 8},
    "link-slow": {"link_gts": 8.0},
}


@pytest.mark.parametrize("kind", SEEN)
def test_a_drive_that_fails_says_so_and_the_others_do_not(kind: str, tmp_path: Path) -> None:
    plant = Plant.of(RED, load_plant(RED))
    begin_fault(plant, f"drive/nvme2:{kind}")
    plant.time_s += 20.0
    drives, _ = read_drives(shown(plant, tmp_path))
    for drive in drives:
        is_it = drive.id == "drive/nvme2"
        told = {name: getattr(drive, name) for name in SEEN[kind]}
        assert (told == SEEN[kind]) is is_it, drive.id


def test_every_fault_of_a_drive_is_seen_here_or_in_the_kernels_log() -> None:
    of_links = {"aer-correctable", "aer-fatal"}  # test_health_matrix.py
    rest = {kind.kind for kind in storage_faults(RED) if not kind.kernel_lines} - set(SEEN) - of_links
    assert rest == {"unmounted"}


def test_an_array_that_lost_a_drive_is_broken_whatever_mdstat_lists(tmp_path: Path) -> None:
    plant = Plant.of(RED, load_plant(RED))
    raid, _ = read_raid(shown(plant, tmp_path / "whole"), RED.storage)
    assert isinstance(raid, Raid) and (raid.state, raid.devices, raid.mount) == ("clean", 4, "/raid")
    begin_fault(plant, "drive/nvme3:gone")
    raid, _ = read_raid(shown(plant, tmp_path / "lost"), RED.storage)
    assert raid is not None and (raid.state, len(raid.members)) == ("failed", 4)


def test_an_array_that_is_not_mounted_has_no_mount(tmp_path: Path) -> None:
    plant = Plant.of(RED, load_plant(RED))
    begin_fault(plant, "raid:unmounted")
    raid, _ = read_raid(shown(plant, tmp_path), RED.storage)
    assert raid is not None and (raid.state, raid.mount) == ("clean", None)


@pytest.mark.parametrize("text", ["-273150", "65261850", "", "warm", "0"])
def test_a_limit_that_cannot_be_one_is_none(text: str, tmp_path: Path) -> None:
    host = shown(Plant.of(RED, load_plant(RED)), tmp_path)
    chip = next((tmp_path / "sys/class/nvme/nvme1").resolve().glob("hwmon*"))
    (chip / "temp1_max").write_text(text)
    drive = next(drive for drive in read_drives(host)[0] if drive.id == "drive/nvme1")
    assert (drive.warn_c, drive.crit_c) == (None, 85.0)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(
    st.one_of(
        st.text(max_size=40),
        st.dictionaries(
            st.sampled_from(["temperature", "avail_spare", "media_errors"]),
            st.none() | st.text() | st.booleans() | st.lists(st.integers()),
        ).map(json.dumps),
    )
)
def test_nonsense_of_the_tool_never_becomes_a_figure(tmp_path: Path, text: str) -> None:
    folder = tmp_path / "sys/class/nvme/nvme0"
    folder.mkdir(parents=True, exist_ok=True)
    (tmp_path / "commands").mkdir(exist_ok=True)
    (tmp_path / "commands/nvme_smart-log_dev_nvme0_-o_json").write_text(text)
    (drive,) = read_drives(Host(tmp_path))[0]
    assert drive == Drive("drive/nvme0") or isinstance(json.loads(text), dict)
    assert drive.spare_pct is None or drive.spare_pct in (0, 1)  # JSON's booleans are Python's numbers


def test_news_of_a_drive_that_comes_while_drives_are_read_is_for_the_next_round(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Hardware(shown(Plant.of(RED, load_plant(RED)), tmp_path), RED, Config())
    looks = []

    def read(host: Host) -> tuple[tuple[Drive, ...], tuple[Fault, ...]]:
        looks.append(host)
        if len(looks) == 1:
            machine.look_at_drives()
        return read_drives(host)

    monkeypatch.setattr("tinybox.hw.hardware.read_drives", read)
    try:
        counts = [(machine.read_slow(now_s).drives, len(looks)) for now_s in (10.0, 10.1, 10.2)]
    finally:
        machine.release()
    assert [count for _, count in counts] == [1, 2, 2]
    assert all(len(drives) == 5 for drives, _ in counts)
