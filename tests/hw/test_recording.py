"""A machine that is recorded through its drivers: the recording reads the same, and the machine is only read."""

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.hw.conftest import RECORDED, watching
from tests.hw.test_recorded_box import RED, look
from tinybox.cli.bundle import write_tree
from tinybox.core.errors import HardwareError
from tinybox.core.redaction import Known, Redactor
from tinybox.core.snapshot import GpuState
from tinybox.hw.host import Host
from tinybox.hw.recording import JOURNAL, MESSAGES, RecordingHost, Tree, read_extras, read_identity, redacted

CARD = "sys/bus/pci/devices/0000:43:00.0"
FOLDER = "sys/devices/pci0000:00/0000:43:00.0"


def recording(host: Host, known: Known | None = None) -> Tree:
    """What one look at the machine leaves."""
    recorder = RecordingHost(host.root, host.live)
    look(recorder)
    read_extras(recorder)
    return redacted(recorder.notes, Redactor(known or Known()))


def written(tree: Tree, folder: Path) -> Host:
    write_tree(folder, tree.files, tree.links, tree.folders)
    return Host(folder)


def reading(host: Host) -> Any:
    """What the drivers make of it, but for what a recording may not tell: serial numbers, and where it lies."""
    fast, slow = look(host)
    seen = json.loads(json.dumps([dataclasses.asdict(fast), dataclasses.asdict(slow)]).replace(str(host.root), ""))
    for drive in seen[1]["drives"]:
        drive["serial"] = bool(drive["serial"])
    return seen


def test_the_recording_of_a_recording_reads_the_same(recorded: Host, tmp_path: Path) -> None:
    again = written(recording(recorded), tmp_path / "again")
    assert reading(again) == reading(recorded)
    assert [drive.serial for drive in look(again)[1].drives] == [f"S000{i}" for i in range(1, 6)]


def test_the_recording_of_a_recording_of_a_recording_is_the_same_to_the_letter(recorded: Host, tmp_path: Path) -> None:
    once = recording(recorded)
    assert recording(written(once, tmp_path / "once")) == once


def test_only_what_drivers_read_is_in_it(recorded: Host) -> None:
    tree = recording(recorded)
    assert f"{FOLDER}/gpu_busy_percent" in tree.files
    assert f"{FOLDER}/pp_dpm_sclk" not in tree.files  # there, and asked only where there is no finer table
    assert all((RECORDED / name).is_file() for name in tree.files)
    assert tree.links["sys/bus/pci/devices/0000:43:00.0"] == "../../../devices/pci0000:00/0000:43:00.0"
    assert all(str((RECORDED / name).readlink()) == target for name, target in tree.links.items())


def test_nothing_outside_the_machine_is_touched(recorded: Host) -> None:
    recording(recorded)  # what is imported on first use is no touch
    with watching() as touched:
        recording(recorded)
    inside = f"open {RECORDED}", f"os.listdir {RECORDED}", f"os.scandir {RECORDED}"
    assert touched and [touch for touch in touched if not touch.startswith(inside)] == []


def test_nothing_can_be_written_through_it(copy: Host) -> None:
    recorder = RecordingHost(copy.root)
    with pytest.raises(HardwareError, match="a recording only reads"):
        recorder.write_text(f"{CARD}/power_dpm_force_performance_level", "low")
    assert copy.read_text(f"{CARD}/power_dpm_force_performance_level") != "low"


def test_a_sleeping_card_is_asked_nothing_but_whether_it_sleeps(copy: Host, tmp_path: Path) -> None:
    copy.write_text(f"{CARD}/power/runtime_status", "suspended\n")
    tree = recording(copy)
    there = {Path(name).name for name in tree.files if name.startswith(FOLDER)}
    assert {name for name in there if not name.endswith("label")} == {
        *("class", "vendor", "device", "runtime_status", "name")  # as labels: the kernel's own, no card is asked
    }
    assert look(written(tree, tmp_path / "again"))[0].gpus[2].state is GpuState.ASLEEP


def test_what_is_there_and_cannot_be_read_is_so_in_the_recording_with_its_reason(copy: Host, tmp_path: Path) -> None:
    """A folder in the place of a file cannot be read; so a recording shows any other reason."""
    for name in (f"{FOLDER}/gpu_busy_percent", f"{FOLDER}/pp_od_clk_voltage", "commands/ipmitool_-I_open_-c_sdr_list"):
        (copy.root / name).unlink()
        (copy.root / name).mkdir()
        (copy.root / name / ".unreadable").write_text("the bus is stuck\n")
    tree = recording(copy)
    assert tree.files[f"{FOLDER}/gpu_busy_percent/.unreadable"] == "the bus is stuck\n"
    again = written(tree, tmp_path / "again")
    assert reading(again) == reading(copy)
    fast, slow = look(again)
    assert fast.gpus[2].busy_pct is None and fast.gpus[2].has_clock_lever
    reasons = {fault.reason for fault in (*fast.faults, *slow.faults)}
    assert "no answer: the bus is stuck" in reasons
    assert any(reason.endswith("gpu_busy_percent: the bus is stuck") for reason in reasons)


def test_a_link_out_of_the_root_is_recorded_as_what_it_shows(copy: Host, tmp_path: Path) -> None:
    """As a twin in a machine with real drives has them."""
    outside = tmp_path / "outside"
    (copy.root / "sys/class/nvme").rename(outside)
    (copy.root / "sys/class/nvme").symlink_to(outside)
    for link in outside.iterdir():
        target = copy.root / "sys/class/x" / link.readlink()
        link.unlink()
        link.symlink_to(os.path.normpath(target))
    again = written(recording(copy), tmp_path / "again")
    assert not [link for link in again.root.rglob("*") if link.is_symlink() and link.readlink().is_absolute()]
    assert reading(again) == reading(copy)


def test_a_link_that_leads_to_itself_ends(copy: Host) -> None:
    (copy.root / "sys/class/hwmon/hwmon99").symlink_to("hwmon99")
    assert "sys/class/hwmon/hwmon99" in recording(copy).links


def test_our_own_mounts_are_recorded_under_the_name_that_a_recording_is_asked_for() -> None:
    recorder = RecordingHost()
    recorder.read_text("proc/self/mountinfo")
    recorder.read_text(f"proc/{os.getpid()}/stat")
    assert list(recorder.notes.files) == ["proc/mountinfo"]  # and no process, whoever asks for it
    assert not recorder.notes.links


def test_the_array_is_recorded_with_its_space_and_no_other_mount(copy: Host, tmp_path: Path) -> None:
    private = "39 25 0:50 / /mnt rw - fuse ada@nas:/private rw\n"
    copy.write_text("proc/mountinfo", f"{private}40 25 9:127 / /raid rw - xfs /dev/md/kitchen:0 rw\n")
    (copy.root / "dev/md").mkdir(parents=True)
    (copy.root / "dev/md/kitchen:0").symlink_to("../md127")
    (copy.root / "library/space.json").write_text('{"/raid": [4000, 3000]}')
    tree = recording(copy, Known(("kitchen",), ("ada",)))
    assert tree.files["proc/mountinfo"] == "40 25 9:127 / /raid rw - xfs /dev/md/box:0 rw\n"
    raid = look(written(tree, tmp_path / "again"))[1].raid
    assert raid is not None
    assert (raid.mount, raid.size_bytes, raid.free_bytes) == ("/raid", 4000, 3000)


def test_names_of_crash_records_are_in_it_and_not_what_they_say(copy: Host, tmp_path: Path) -> None:
    store = copy.root / "sys/fs/pstore"
    store.mkdir(parents=True)
    (store / "dmesg-efi-174000000001001").write_text("Oops: ada was here")
    tree = recording(copy)
    assert tree.files["sys/fs/pstore/dmesg-efi-174000000001001"] == ""
    assert look(written(tree, tmp_path / "again"))[1].system.crash_records == ("dmesg-efi-174000000001001",)


def test_the_journal_and_the_kernels_lines_about_hardware_are_in_it_and_the_rest_is_not(copy: Host) -> None:
    recorder = RecordingHost(copy.root)
    assert read_extras(recorder) == ("journalctl: there is none", "dmesg: there is none")
    recorder.notes.commands[JOURNAL] = "tinybox-seed[1]: seed applied: host kitchen, user ada, 1 keys\n"
    recorder.notes.commands[MESSAGES] = (
        "[1.0] amdgpu 0000:03:00.0: ring timeout\x1b[2J\n[2.0] audit: comm=secret\n" * 900
    )
    files = redacted(recorder.notes, Redactor(Known(("kitchen",), ("ada",)))).files
    assert files["commands/dmesg"].splitlines() == ["[1.0] amdgpu 0000:03:00.0: ring timeout[2J"] * 500
    (journal,) = (text for name, text in files.items() if "journalctl" in name)
    assert journal == "tinybox-seed[1]: seed applied: host box, user user, 1 keys\n"
    assert max(len(name) for name in files) < 250


def test_people_and_serial_numbers_are_known_and_system_accounts_are_not(copy: Host) -> None:
    (copy.root / "etc").mkdir()
    (copy.root / "home/bob").mkdir(parents=True)
    (copy.root / "etc/hostname").write_text("kitchen.example\n")
    (copy.root / "etc/passwd").write_text(
        "root:x:0:0:root:/root:/bin/sh\nada:x:1000:1000:Ada King,,,:/home/ada:/bin/sh\n"
        "nobody:x:65534:65534::/:\nbroken\n"
    )
    known = read_identity(copy)
    assert known.hosts == ("kitchen.example", "kitchen")
    assert set(known.users) == {"bob", "ada", "Ada King", "Ada", "King"}
    assert known.serials == tuple(f"TWIN000{i}" for i in range(5))


NAMES = ("red", "amdgpu", "pin", "pci", "sys", "active", "open", "sdr", "raid", "hwmon", "ipmitool", "kitchen", "d")


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    names=st.lists(st.sampled_from(NAMES), min_size=2, max_size=4),
    serial=st.text("ABCDEFGHJK0123456789", min_size=1, max_size=20),
    watts=st.integers(0, 400_000_000),
)
def test_whatever_a_machine_and_its_people_are_called_its_recording_reads_the_same(
    copy: Host, tmp_path_factory: pytest.TempPathFactory, names: list[str], serial: str, watts: int
) -> None:
    """The fixture is shared by the examples: each writes what the next writes over."""
    copy.write_text("sys/class/nvme/nvme1/serial", serial)
    chip = copy.list_dir(f"{CARD}/hwmon")[0]
    copy.write_text(f"{CARD}/hwmon/{chip}/power1_average", str(watts))
    known = read_identity(copy).merged(Known(tuple(names[:2]), tuple(names[2:])))
    tree = recording(copy, known)
    again = written(tree, tmp_path_factory.mktemp("again") / "box")
    assert reading(again) == reading(copy)
    assert look(again)[0].gpus[2].power_w == watts / 1e6
    assert look(again)[1].drives[1].serial != serial
    assert RED.gpu.slots[2] == "0000:43:00.0"
