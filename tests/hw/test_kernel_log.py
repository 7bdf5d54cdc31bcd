"""The kernel's log: records as they come, only what matters, no longer than ten minutes, and nothing invented."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tinybox.hw.host import Host
from tinybox.hw.kernel_log import KEPT_S, MATTERS, MOST_LINES, KernelLog
from tinybox.hw.kmsg import Kmsg, Record, parse_record
from tinybox.twin.kernel import KernelRing

XID = "NVRM: Xid (PCI:0000:43:00): 79, pid=4711, GPU has fallen off the bus."
PARSED = [
    ("6,339,5140900,-;NET: Registered", Record(6, 5140900, "NET: Registered")),
    ("30,340,5690716,-,caller=T1;udevd[80]: starting; really", Record(6, 5690716, "udevd[80]: starting; really")),
    (" SUBSYSTEM=acpi", None),
    ("", None),
    (";", None),
    ("x,1,2,-;text", None),
    ("6,1;text", None),
    ("6,1,-5,-;text", None),
]


@pytest.mark.parametrize(("line", "record"), PARSED, ids=[line[:20] or "empty" for line, _ in PARSED])
def test_a_record_is_parsed_or_it_is_none(line: str, record: Record | None) -> None:
    assert parse_record(line) == record


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("dev", "proc"):
        (tmp_path / name).mkdir()
    (tmp_path / "proc/uptime").write_text("1000.00 1.00\n")
    (tmp_path / "dev/kmsg").write_text("")
    return tmp_path


def say(root: Path, *texts: str, at_s: float = 990.0) -> None:
    with (root / "dev/kmsg").open("a") as file:
        file.writelines(f"3,1,{round(at_s * 1e6)},-;{text}\n" for text in texts)


def test_only_lines_that_matter_are_kept_and_each_is_told_until_it_is_old(root: Path) -> None:
    log = KernelLog(Host(root))
    say(root, XID, "usb 1-1: new high-speed USB device")
    assert [line.text for line in log.read()[0]] == [XID]
    say(root, "nvme nvme1: I/O 5 QID 3 timeout, reset controller", at_s=995.0)
    lines, faults = log.read()
    assert [(line.time_s, line.level) for line in lines] == [(990.0, 3), (995.0, 3)]
    assert faults == ()
    (root / "proc/uptime").write_text(f"{991 + KEPT_S} 1.00\n")
    assert [line.time_s for line in log.read()[0]] == [995.0]


def test_a_line_that_is_written_in_two_parts_is_one(root: Path) -> None:
    log = KernelLog(Host(root))
    whole = f"3,1,990000000,-;{XID}\n".encode()
    with (root / "dev/kmsg").open("ab", buffering=0) as file:
        file.write(whole[:20])
        assert log.read()[0] == ()
        file.write(whole[20:])
    assert [line.text for line in log.read()[0]] == [XID]


def test_a_log_that_began_anew_is_read_anew(root: Path) -> None:
    log = KernelLog(Host(root))
    say(root, XID, XID)
    assert len(log.read()[0]) == 2
    (root / "dev/kmsg").write_text(f"3,1,999000000,-;{XID}\n")
    assert [line.time_s for line in log.read()[0]] == [999.0]


def test_a_storm_leaves_the_newest_lines(root: Path) -> None:
    say(root, *(f"amdgpu: {i}" for i in range(5000)))
    lines = KernelLog(Host(root)).read()[0]
    assert len(lines) == MOST_LINES and lines[-1].text == "amdgpu: 4999"


def test_no_log_at_all_is_no_fault_and_one_that_cannot_be_read_is_for_root(tmp_path: Path) -> None:
    assert KernelLog(Host(tmp_path)).read() == ((), ())
    (tmp_path / "dev/kmsg").mkdir(parents=True)
    _, faults = KernelLog(Host(tmp_path)).read()
    assert [fault.device for fault in faults] == (["kernel"] if os.geteuid() == 0 else [])


@pytest.mark.skipif(not os.access("/dev/kmsg", os.R_OK), reason="this machine does not let us read /dev/kmsg")
def test_the_real_device_is_read_to_its_end_without_waiting() -> None:
    reader = Kmsg("/dev/kmsg")
    first, is_void = reader.read()
    again, _ = reader.read()
    reader.close()
    assert not is_void and len(first) > len(again)
    assert all(0 <= record.level <= 7 for record in first)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=80)
@given(st.binary(max_size=200))
def test_no_bytes_are_too_strange(root: Path, data: bytes) -> None:
    (root / "dev/kmsg").write_bytes(data)
    lines, faults = KernelLog(Host(root)).read()
    assert faults == () and all(MATTERS.search(line.text) for line in lines)


def test_what_a_fault_of_the_twin_said_is_forgotten_with_it(root: Path) -> None:
    ring, log = KernelRing(), KernelLog(Host(root))
    (root / "proc/uptime").write_text("90005.0 1.0\n")
    ring.say(XID, 1.0, fault="gpu/2:xid")
    ring.say("EDAC MC0: 1 CE", 2.0, fault="host:ecc")
    (root / "dev/kmsg").write_text(ring.text())
    assert len(log.read()[0]) == 2
    ring.forget("gpu/2:xid")
    (root / "dev/kmsg").write_text(ring.text())
    assert [line.text for line in log.read()[0]] == ["EDAC MC0: 1 CE"]
