"""The files of the array: counted, copied by a real rsync, and what cannot be read named."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.conftest import Rig
from tinybox.core.contents import Contents, Entry, Evacuation, load_contents, save_contents
from tinybox.core.errors import HardwareError, TinyboxError
from tinybox.hw.contents import check_destination, evacuate, measure


@pytest.fixture
def source(tmp_path: Path) -> Path:
    root = tmp_path / "raid"
    for name, size in (("models/llama/a.gguf", 300_000), ("models/llama/b/c", 5000), ("models/x", 9000), ("note", 10)):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(size))
    (root / "link").symlink_to("/etc")
    return root


def same(one: Path, other: Path) -> bool:
    names = {str(path.relative_to(one)) for path in one.rglob("*")}
    if names != {str(path.relative_to(other)) for path in other.rglob("*")}:
        return False
    files = [name for name in names if (one / name).is_file() and not (one / name).is_symlink()]
    return all((one / name).read_bytes() == (other / name).read_bytes() for name in files)


def test_folders_are_counted_two_levels_deep_the_largest_first(source: Path) -> None:
    entries = measure(source)
    assert [(entry.path, entry.files) for entry in entries[:2]] == [("models/llama", 2), ("models/x", 1)]
    assert {entry.path for entry in entries} == {"models/llama", "models/x", "note", "link"}
    assert 305_000 <= entries[0].size_bytes < 350_000


def test_a_copy_is_whole_and_goes_on_where_it_ended(source: Path, tmp_path: Path) -> None:
    dest = tmp_path / "usb"
    dest.mkdir()
    shares: list[float] = []
    assert evacuate(source, dest, shares.append, is_verified=False).failed == ()
    assert same(source, dest) and (dest / "link").readlink() == Path("/etc")
    assert shares == sorted(shares) and shares[-1] == 1.0
    (source / "new").write_text("later")
    assert evacuate(source, dest, shares.append, is_verified=True).failed == ()
    assert same(source, dest)


def test_only_the_whole_comparison_finds_a_byte_that_turned_on_the_way(source: Path, tmp_path: Path) -> None:
    dest = tmp_path / "usb"
    dest.mkdir()
    evacuate(source, dest, lambda _: None, is_verified=False)
    about = (dest / "note").stat()
    (dest / "note").write_bytes(bytes(10))
    os.utime(dest / "note", ns=(about.st_atime_ns, about.st_mtime_ns))
    assert evacuate(source, dest, lambda _: None, is_verified=False).failed == ()
    assert evacuate(source, dest, lambda _: None, is_verified=True).failed == ("note",)


def test_a_file_that_the_disk_cannot_read_is_named_and_the_others_are_copied(shared_twin: Rig, tmp_path: Path) -> None:
    source = next((Path(shared_twin.environment["TINYBOX_ROOT"]) / "sys/devices").rglob("hwmon/hwmon0"))
    shared_twin.call("twin", "fault", "add", "gpu/0:power-unreadable")
    try:
        failed = evacuate(source, tmp_path, lambda _: None, is_verified=False).failed
    finally:
        shared_twin.call("twin", "fault", "clear")
    assert "power1_average" in failed
    assert (tmp_path / "name").read_text().startswith("amdgpu\n")


def test_where_nothing_can_be_copied_it_says_why(source: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(HardwareError, match="rsync to"):
        evacuate(source, tmp_path / "file", lambda _: None, is_verified=False)


def test_a_destination_on_the_array_itself_is_refused(source: Path) -> None:
    (source / "copy").mkdir()
    with pytest.raises(TinyboxError, match="lies on the array itself"):
        check_destination(source, source / "copy")


def test_a_destination_that_is_no_folder_is_refused(source: Path, tmp_path: Path) -> None:
    with pytest.raises(TinyboxError, match="is no folder"):
        check_destination(source, tmp_path / "nowhere")


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system wants root")
def test_a_destination_that_is_too_small_is_refused(source: Path, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(small)], check=True)
    try:
        with pytest.raises(TinyboxError, match="has room for"):
            check_destination(source, small)
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_what_lay_on_the_array_is_kept_and_read_back(tmp_path: Path) -> None:
    assert load_contents(tmp_path) is None
    kept = Contents("/raid", 1.0, (Entry("models/llama", 5, 2),), Evacuation("/mnt/usb", 2.0, ("a b",)))
    for contents in (kept, Contents("/raid", 1.0)):
        save_contents(tmp_path, contents)
        assert load_contents(tmp_path) == contents


@pytest.mark.parametrize("text", ["", "[]", '{"mount": 3}', "{"])
def test_a_broken_record_is_one_clear_line(text: str, tmp_path: Path) -> None:
    (tmp_path / "raid-contents.json").write_text(text)
    with pytest.raises(TinyboxError, match=r"raid-contents\.json") as caught:
        load_contents(tmp_path)
    assert caught.value.hint
