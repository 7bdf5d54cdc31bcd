"""The host's own state: from files every round, from commands seldom, and honest about what is not told."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from tinybox.core.errors import HardwareError
from tinybox.core.snapshot import Filesystem
from tinybox.hw.host import AbsentError, Host
from tinybox.hw.system import BOOTS, CLOCK, COMMANDS_PERIOD_S, FAILED, JOURNAL_START, JOURNAL_STOP, SystemDriver


class Commands(Host):
    """A machine under a folder whose commands give these answers; what was asked."""

    def __init__(self, root: Path, answers: dict[tuple[str, ...], str | HardwareError]) -> None:
        super().__init__(root)
        self._answers = answers
        self.asked: list[tuple[str, ...]] = []

    def run(self, argv: Sequence[str], *, timeout_s: float = 10.0, feed: str = "") -> str:
        """One of the answers."""
        self.asked.append(tuple(argv))
        answer = self._answers.get(tuple(argv), AbsentError("not installed"))
        if isinstance(answer, HardwareError):
            raise answer
        return answer


def boots(*entries: tuple[str, str]) -> str:
    return "".join(json.dumps({"_BOOT_ID": boot, "MESSAGE_ID": message}) + "\n" for boot, message in entries)


JOURNALS = [
    ("nothing remembered but this boot", boots(("c", JOURNAL_START)), 0),
    ("the boot before was stopped", boots(("b", JOURNAL_START), ("b", JOURNAL_STOP), ("c", JOURNAL_START)), 0),
    ("the boot before was cut", boots(("b", JOURNAL_START), ("c", JOURNAL_START)), 1),
    (
        "journald was restarted in a boot that was cut, and one before it was stopped",
        boots(
            *(("a", JOURNAL_START), ("a", JOURNAL_STOP), ("b", JOURNAL_START), ("b", JOURNAL_STOP)),
            *(("b", JOURNAL_START), ("c", JOURNAL_START), ("c", JOURNAL_STOP), ("c", JOURNAL_START)),
        ),
        1,
    ),
    ("lines that are no entries", "half a li\n{}\n[1]\n" + boots(("c", JOURNAL_START)), 0),
    ("an empty journal", "", 0),
]


@pytest.mark.parametrize(("why", "text", "count"), JOURNALS, ids=[row[0] for row in JOURNALS])
def test_boots_that_no_shutdown_ended(why: str, text: str, count: int, tmp_path: Path) -> None:
    system, _ = SystemDriver(Commands(tmp_path, {BOOTS: text})).read(0.0)
    assert system.unclean_boots == count, why


def test_commands_are_asked_seldom_and_files_every_time(tmp_path: Path) -> None:
    host = Commands(tmp_path, {CLOCK: "yes\n", FAILED: "a.service loaded failed failed A\n", BOOTS: ""})
    (tmp_path / "proc").mkdir()
    driver = SystemDriver(host)
    for now_s in (0.0, 1.0, COMMANDS_PERIOD_S - 0.1):
        (tmp_path / "proc/uptime").write_text(f"{now_s + 5} 1\n")
        system, faults = driver.read(now_s)
        assert (system.is_clock_synced, system.failed_units, system.uptime_s) == (True, ("a.service",), now_s + 5)
        assert faults == ()
    assert len(host.asked) == 3
    driver.read(COMMANDS_PERIOD_S)
    assert len(host.asked) == 6


def test_a_command_that_hangs_is_a_fault_until_it_answers(tmp_path: Path) -> None:
    host = Commands(tmp_path, {CLOCK: HardwareError("'timedatectl' did not end within 5 s")})
    driver = SystemDriver(host)
    system, faults = driver.read(0.0)
    assert system.is_clock_synced is None
    assert [fault.device for fault in faults] == ["host"]
    host._answers[CLOCK] = "no\n"
    system, faults = driver.read(COMMANDS_PERIOD_S)
    assert (system.is_clock_synced, faults) == (False, ())


def test_a_machine_without_any_of_it_has_nothing_to_say_and_no_fault(tmp_path: Path) -> None:
    system, faults = SystemDriver(Commands(tmp_path, {})).read(0.0)
    assert faults == ()
    assert (system.memory_corrected, system.filesystems, system.unclean_boots) == (None, None, None)
    assert system.crash_records == ()


def test_memory_errors_are_summed_over_the_controllers(tmp_path: Path) -> None:
    for index, (corrected, uncorrected) in enumerate((("3", "0"), ("4", "garbage"))):
        folder = tmp_path / f"sys/devices/system/edac/mc/mc{index}"
        folder.mkdir(parents=True)
        (folder / "ce_count").write_text(corrected)
        (folder / "ue_count").write_text(uncorrected)
    system, _ = SystemDriver(Host(tmp_path)).read(0.0)
    assert (system.memory_corrected, system.memory_uncorrected) == (7, 0)


def test_crash_records_are_found_where_the_firmware_and_where_systemd_keeps_them(tmp_path: Path) -> None:
    for folder, name in (("sys/fs/pstore", "dmesg-efi-1"), ("var/lib/systemd/pstore", "174")):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / name).write_text("")
    system, _ = SystemDriver(Host(tmp_path)).read(0.0)
    assert system.crash_records == ("174", "dmesg-efi-1")


def test_only_the_last_mount_of_a_watched_place_counts_and_what_its_super_block_says(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "library").mkdir()
    lines = [
        "1 0 0:2 / / rw - rootfs rootfs rw",
        "25 1 0:21 /@ / rw,relatime shared:1 - btrfs /dev/a ro,space_cache=v2",
        "31 25 8:1 / /efi ro,relatime shared:2 master:7 - vfat /dev/b rw,errors=remount-ro",
        "40 25 9:0 / /raid rw - xfs /dev/md0 rw",
        "41 25 0:30 / /tmp rw - tmpfs tmpfs rw",
        "broken - off",
    ]
    (tmp_path / "proc/mountinfo").write_text("\n".join(lines))
    (tmp_path / "library/space.json").write_text(
        json.dumps({"/": [100, 5], "/efi": [9, 8], "/raid": [0, 0], "/tmp": [9, 9]})
    )
    system, _ = SystemDriver(Host(tmp_path), ("/raid",)).read(0.0)
    assert system.filesystems == (
        Filesystem("/", 100, 5, is_read_only=True),
        Filesystem("/efi", 9, 8, is_read_only=False),  # to a service that must not write to it, and to nobody else
    )
