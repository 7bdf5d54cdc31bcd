"""The record of whether the box is governed, and what its cards had before."""

import errno
import os
from pathlib import Path

import pytest

from tinybox.core.arming import FILE_NAME, Arming, Original, load_arming, save_arming, with_originals
from tinybox.core.errors import TinyboxError

CARD = Original("0000:03:00.0", 303.0, 2500)
OTHER = Original("0000:23:00.0", 290.0, None)


def test_a_machine_that_nobody_armed_is_not_armed(tmp_path: Path) -> None:
    assert load_arming(tmp_path) == Arming(is_armed=False)


@pytest.mark.parametrize("arming", [Arming(), Arming(True, (CARD, OTHER), 180.0), Arming(False, (OTHER,))])
def test_what_was_kept_is_read_again(tmp_path: Path, arming: Arming) -> None:
    save_arming(tmp_path / "state", arming)
    assert load_arming(tmp_path / "state") == arming
    assert [path.name for path in (tmp_path / "state").iterdir()] == [FILE_NAME]


@pytest.mark.parametrize(
    "text",
    [
        *("", "null", "[]", "{}", '{"is_armed": false}', '{"is_armed": 0, "originals": [], "cpu_cap_w": null}'),
        '{"is_armed": false, "originals": [{"pci": "a"}], "cpu_cap_w": null}',
        '{"is_armed": false, "originals": [], "cpu_cap_w": NaN}',
        '{"is_armed": false, "originals": [], "cpu_cap_w": -5}',
        '{"is_armed": false, "originals": [{"pci": "a", "cap_w": "300", "clock_limit_mhz": null}], "cpu_cap_w": null}',
    ],
)
def test_a_record_that_cannot_be_meant_counts_as_armed_and_says_so(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE_NAME).write_text(text)
    arming = load_arming(tmp_path)
    assert arming.is_armed
    assert arming.broken is not None
    assert str(tmp_path / FILE_NAME) in arming.broken


def test_a_full_disk_leaves_the_old_record(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    if os.system(f"mount -t tmpfs -o size=4k tmpfs {small}") != 0:
        pytest.fail("this test needs root: it mounts a disk of one page")
    try:
        save_arming(small, Arming(True, (CARD,)))
        with pytest.raises(TinyboxError, match=os.strerror(errno.ENOSPC)):
            save_arming(small, Arming(False, (CARD,) * 100))
        assert load_arming(small) == Arming(True, (CARD,))
        assert [path.name for path in small.iterdir()] == [FILE_NAME]
    finally:
        os.system(f"umount {small}")


def test_what_a_card_had_first_stays_its_original() -> None:
    arming = with_originals(Arming(True, (CARD,)), [Original(CARD.pci, 100.0, 500), OTHER], None)
    assert arming == Arming(True, (CARD, OTHER))
    assert with_originals(arming, [], 180.0).cpu_cap_w == 180.0
