"""What was measured of a box: written, read back, and refused where it cannot be of this box."""

from dataclasses import replace
from pathlib import Path

import pytest

from tinybox.core.box import ClockPoint, load_box
from tinybox.core.commission import FILE_NAME, CardCommission, Commission, commission_text, load_commission
from tinybox.core.errors import TinyboxError

RED = load_box("red")
TABLE = (ClockPoint(500, 84.5), ClockPoint(1500, 170.2), ClockPoint(2965, 391.0))
MEASURED = Commission(
    "red",
    tuple(CardCommission(f"gpu/{i}", pci, round(0.81 + i / 100, 4), TABLE) for i, pci in enumerate(RED.gpu.slots)),
    1.04,
)


def write(folder: Path, text: str) -> Path:
    (folder / FILE_NAME).write_text(text)
    return folder


def refusal(folder: Path) -> TinyboxError:
    with pytest.raises(TinyboxError) as caught:
        load_commission(folder, RED)
    assert FILE_NAME in caught.value.message
    assert caught.value.hint
    return caught.value


def test_a_box_that_nobody_measured_has_no_commission(tmp_path: Path) -> None:
    assert load_commission(tmp_path, RED) is None
    assert load_commission(tmp_path / "nowhere", RED) is None


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    assert load_commission(write(tmp_path, commission_text(MEASURED)), RED) == MEASURED


def test_what_is_read_back_is_rounded_to_a_tenth_of_a_watt(tmp_path: Path) -> None:
    table = (ClockPoint(500, 84.5432), ClockPoint(900, 110.06))
    one = replace(MEASURED, cards=(CardCommission("gpu/0", RED.gpu.slots[0], 0.8312345, table),))
    found = load_commission(write(tmp_path, commission_text(one)), RED)
    assert found is not None
    assert found.cards[0].sensor_to_board == 0.8312
    assert found.cards[0].clock_table == (ClockPoint(500, 84.5), ClockPoint(900, 110.1))


def test_names_that_toml_has_to_quote_survive(tmp_path: Path) -> None:
    odd = replace(MEASURED, cards=(replace(MEASURED.cards[0], pci='00"\\ü'),))
    assert load_commission(write(tmp_path, commission_text(odd)), RED) == odd


def test_without_a_margin_the_usual_one_counts(tmp_path: Path) -> None:
    text = "".join(line for line in commission_text(MEASURED).splitlines(True) if not line.startswith("margin"))
    found = load_commission(write(tmp_path, text), RED)
    assert found is not None and found.margin == 1.05


def changed(**changes: object) -> str:
    card = replace(MEASURED.cards[0], **changes)  # type: ignore[arg-type]
    return commission_text(replace(MEASURED, cards=(card,)))


REFUSED = [
    (commission_text(replace(MEASURED, box="green")), "of a 'green' box, this is a 'red'"),
    (commission_text(replace(MEASURED, margin=0.9)), "margin is 0.9"),
    (changed(clock_table=TABLE[:1]), "at least two points"),
    (changed(clock_table=(TABLE[1], TABLE[0])), "must both rise"),
    (changed(clock_table=(TABLE[0], TABLE[0])), "must both rise"),
    (changed(clock_table=(TABLE[0], ClockPoint(1500, 60.0))), "must both rise"),
    (changed(clock_table=(ClockPoint(500, 0.0), TABLE[1])), "must both rise"),
    (changed(sensor_to_board=0.1), "sensor_to_board is 0.1"),
    (changed(sensor_to_board=2.0), "sensor_to_board is 2"),
    (commission_text(MEASURED).replace("0.8100", "nan"), "sensor_to_board' is nan"),
    (commission_text(MEASURED).replace("84.5", "-inf"), "board_power_max_w' is -inf"),
    (commission_text(MEASURED).replace("clock_mhz = 500", 'clock_mhz = "slow"'), "clock_mhz' is 'slow'"),
    (commission_text(MEASURED).replace("pci =", "pcie ="), "unknown key 'cards[0].pcie'"),
    (commission_text(MEASURED).replace("sensor_to_board = 0.8100\n", ""), "key 'cards[0].sensor_to_board' is missing"),
    ("", "is missing"),
    ("box = ", "not valid TOML"),
]


@pytest.mark.parametrize(("text", "words"), REFUSED)
def test_a_commission_that_cannot_be_of_this_box_is_refused(text: str, words: str, tmp_path: Path) -> None:
    assert words in refusal(write(tmp_path, text)).message


def test_a_file_that_is_no_text_or_no_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_bytes(b"\xff\xfe\x00")
    assert "cannot read" in refusal(tmp_path).message
    (tmp_path / FILE_NAME).unlink()
    (tmp_path / FILE_NAME).mkdir()
    assert "cannot read" in refusal(tmp_path).message
