"""The file that says whether the box is armed: durable, and on the safe side when it says nothing clear."""

import threading
from pathlib import Path

import pytest

from tinybox.core.armed import FILE_NAME, Armed, CardLimits, is_armed, load_armed, save_armed
from tinybox.core.durable import held, write_durably
from tinybox.core.errors import TinyboxError

ROOT = Path(__file__).parent.parent.parent
ARMED = Armed(True, 1.7e9, 180.0, (CardLimits("0000:03:00.0", 300.0, 2500), CardLimits("0000:23:00.0", level="manual")))


def test_it_reads_back_as_it_was_written_and_can_be_removed(tmp_path: Path) -> None:
    save_armed(tmp_path / "state", ARMED)
    assert load_armed(tmp_path / "state") == ARMED
    assert [path.name for path in (tmp_path / "state").iterdir()] == [FILE_NAME]
    save_armed(tmp_path / "state", None)
    assert load_armed(tmp_path / "state") is None
    save_armed(tmp_path / "state", None)


def test_nobody_armed_a_box_without_the_file(tmp_path: Path) -> None:
    assert not is_armed(tmp_path)
    assert not is_armed(tmp_path / "nowhere")


BROKEN = [b"", b"{", b"[]", b'{"is_armed": "no"}', b'{"armed": false}', b'{"is_armed": false, "x": 1}', b"\xff\xfe"]


@pytest.mark.parametrize("content", BROKEN, ids=repr)
def test_a_file_that_says_nothing_clear_counts_as_armed_and_says_so(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE_NAME).write_bytes(content)
    assert is_armed(tmp_path)
    with pytest.raises(TinyboxError) as caught:
        load_armed(tmp_path)
    assert FILE_NAME in caught.value.message and "\n" not in caught.value.message
    assert "'tinybox disarm'" in caught.value.hint


def test_a_file_that_cannot_be_read_counts_as_armed(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).mkdir()
    assert is_armed(tmp_path)


def test_a_disarming_that_is_not_done_is_not_armed(tmp_path: Path) -> None:
    save_armed(tmp_path, Armed(False, cards=ARMED.cards))
    assert not is_armed(tmp_path)
    assert load_armed(tmp_path) == Armed(False, cards=ARMED.cards)


def test_the_image_ships_armed() -> None:
    assert load_armed(ROOT / "image/mkosi.extra/var/lib/tinybox") == Armed(True)


def test_of_several_files_all_are_written_or_none(tmp_path: Path) -> None:
    good, bad = tmp_path / "a" / "good", tmp_path / "file" / "bad"
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(OSError):
        write_durably({good: "new", bad: "new"})
    assert not good.exists() and list(good.parent.iterdir()) == []
    good.write_text("old")
    with pytest.raises(OSError):
        write_durably({good: "new", bad: "new"})
    assert good.read_text() == "old"


def test_those_who_write_limits_wait_for_who_disarms_and_not_for_one_another(tmp_path: Path) -> None:
    lock = tmp_path / "run" / "armed.lock"
    with held(lock, is_shared=True, timeout_s=0), held(lock, is_shared=True, timeout_s=0):
        with pytest.raises(TimeoutError, match="held by another program"), held(lock, is_shared=False, timeout_s=0.1):
            pass
        waiting = threading.Thread(target=lambda: held(lock, is_shared=False, timeout_s=30).__enter__())
        waiting.start()
    waiting.join(timeout=30)
    assert not waiting.is_alive()
    assert lock.stat().st_mode & 0o777 == 0o600
