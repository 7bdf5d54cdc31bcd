"""What a program could not do at boot is in every status until it is done."""

from pathlib import Path

from tinybox.core.box import load_box
from tinybox.core.config import Config
from tinybox.core.errors import TinyboxError
from tinybox.core.snapshot import Fault
from tinybox.hw.hardware import Hardware
from tinybox.hw.host import Host
from tinybox.hw.notices import clear_notice, leave_notice, one_line, read_notices

ERROR = TinyboxError("no array made: /dev/nvme2n1 carries signatures of ext4", hint="nothing was touched")


def test_a_notice_is_a_fault_of_its_device_until_it_is_cleared(tmp_path: Path, recorded: Host) -> None:
    hardware = Hardware(recorded, load_box("red"), Config(), tmp_path)
    leave_notice(tmp_path, "raid", ERROR)
    said = Fault("raid", "no array made: /dev/nvme2n1 carries signatures of ext4; nothing was touched")
    assert said in hardware.read_slow(0.0).faults
    clear_notice(tmp_path, "raid")
    assert said not in hardware.read_slow(0.0).faults


def test_what_a_file_says_cannot_drive_a_terminal() -> None:
    error = TinyboxError("seed: unknown key 'a\x1b[2Jb\nc'")
    assert one_line(error) == "seed: unknown key 'a?[2Jb?c'"


def test_nobody_left_a_notice_where_there_is_no_folder(tmp_path: Path) -> None:
    clear_notice(tmp_path, "raid")
    assert read_notices(tmp_path) == ()
