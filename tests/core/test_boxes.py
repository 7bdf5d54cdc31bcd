"""Kinds of box: one laid over another, and what cannot be meant."""

import dataclasses
from pathlib import Path

import pytest

from tinybox.core.box import BOXES, known_boxes, load_box, load_table
from tinybox.core.errors import TinyboxError
from tinybox.core.table import table_text

SUITE = ("blue", "green", "green-3090", "green-v2", "mixed", "red")


def write(folder: Path, text: str, name: str = "odd") -> Path:
    (folder / f"{name}.toml").write_text(text)
    return folder


def refusal(own: Path, name: str = "odd") -> TinyboxError:
    with pytest.raises(TinyboxError) as caught:
        load_box(name, own)
    assert caught.value.hint
    return caught.value


def test_the_suite_knows_its_boxes_and_the_owners(tmp_path: Path) -> None:
    assert set(known_boxes()) >= set(SUITE)
    assert "odd" in known_boxes(write(tmp_path, ""))


@pytest.mark.parametrize("name", SUITE)
def test_every_box_of_the_suite_is_whole(name: str) -> None:
    box = load_box(name)
    assert box.name == name
    assert len(box.slots) == len(box.kinds) == (4 if name == "green-v2" else 6)
    for kind in box.gpus:
        points = kind.clock_table
        assert points[0].clock_mhz == kind.clock_min_mhz and points[-1].clock_mhz == kind.clock_max_mhz
        assert points[-1].board_power_max_w <= kind.board_power_max_w
        assert points[0].board_power_max_w > kind.board_power_idle_w
        assert kind.cap_min_w <= kind.cap_default_w <= kind.cap_max_w
        assert kind.socket_to_board_min <= kind.socket_to_board <= 1.0


def test_a_mixed_box_has_the_cards_of_other_boxes() -> None:
    mixed = load_box("mixed")
    assert mixed.is_mixed and not load_box("red").is_mixed
    assert [kind.vendor for kind in mixed.kinds] == ["amd", "amd", "nvidia", "nvidia", "intel", "intel"]
    assert mixed.kind_of("gpu/3") == dataclasses.replace(load_box("green").gpu, slots=mixed.slots[2:4])
    with pytest.raises(IndexError):
        mixed.kind_of("gpu/6")


MIXES = [
    ('[[gpus]]\nof = "red"\n', "'gpus' has"),
    ('[[gpus]]\nof = "mixed"\nslots = ["0000:01:00.0"]\n', "has no one kind of card"),
    ('[[gpus]]\nof = "red"\nslots = []\n', "'gpu.slots' names no slot"),
    ("gpus = 3\n", "'gpus' has 3"),
]


@pytest.mark.parametrize(("text", "words"), MIXES)
def test_a_box_that_is_mixed_wrongly_is_refused(text: str, words: str, tmp_path: Path) -> None:
    assert words in refusal(write(tmp_path, f'extends = "red"\n{text}')).message


def test_a_box_is_laid_over_the_one_it_extends(tmp_path: Path) -> None:
    text = 'extends = "red"\ntitle = "Shed"\n[gpu]\nslots = ["0000:01:00.0"]\n[circuit]\namps = 20.0\n'
    shed, red = load_box("odd", write(tmp_path, text)), load_box("red")
    assert (shed.name, shed.title) == ("odd", "Shed")
    assert (shed.circuit.amps, shed.circuit.volts) == (20.0, red.circuit.volts)
    assert shed.gpu.slots == ("0000:01:00.0",)
    assert shed.gpu.clock_table == red.gpu.clock_table
    assert (shed.cpu, shed.psu, shed.noise) == (red.cpu, red.psu, red.noise)


def test_a_list_is_replaced_whole_and_the_base_stays_as_it_was(tmp_path: Path) -> None:
    points = (
        "clock_table = [{ clock_mhz = 500, board_power_max_w = 90.0 }, { clock_mhz = 900, board_power_max_w = 99.0 }]"
    )
    own = write(tmp_path, f'extends = "red"\n[gpu]\n{points}\n')
    before = load_table("red")[1]
    assert [point.clock_mhz for point in load_box("odd", own).gpu.clock_table] == [500, 900]
    assert load_table("red")[1] == before


def test_a_box_may_extend_one_that_extends_another(tmp_path: Path) -> None:
    odd = load_box("odd", write(tmp_path, 'extends = "green-3090"\n[gpu]\ncap_default_w = 370.0\n'))
    assert odd.gpu.cap_default_w == 370.0
    assert odd.gpu.name == load_box("green-3090").gpu.name
    assert odd.cpu == load_box("red").cpu


def test_the_plants_constants_are_laid_over_as_well() -> None:
    bands = load_table("green-3090")[1]["plant"]
    red = load_table("red")[1]["plant"]
    assert bands["line"] == red["line"]
    assert bands["gpu"]["idle_w"] != red["gpu"]["idle_w"]
    assert bands["gpu"]["edge_k_per_w"] == red["gpu"]["edge_k_per_w"]


def test_the_owners_box_wins_over_the_suites_of_that_name(tmp_path: Path) -> None:
    text = (BOXES / "red.toml").read_text().replace('title = "tinybox red"', 'title = "mine"')
    assert load_box("red", write(tmp_path, text, "red")).title == "mine"


EXTENDS = [
    ('extends = "odd"\n', "'extends' is 'odd'"),
    ("extends = 3\n", "'extends' is 3"),
    ('extends = ["red"]\n', "'extends' is ['red']"),
    ('extends = "mauve"\n', "no box is called 'mauve'"),
    ('extends = "red"\nextends = "green"\n', "not valid TOML"),
    ('extends = "red"\n[gpu]\nslotz = []\n', "unknown key 'gpu.slotz'"),
    ('extends = "red"\ncircuit = 15\n', "'circuit' is 15"),
    ('extends = "red"\n[circuit]\namps = "many"\n', "'circuit.amps' is 'many'"),
    ('extends = "red"\n[circuit]\namps = inf\n', "'circuit.amps' is inf"),
    ('title = "alone"\n', "key 'circuit' is missing"),
    ('extends = "red"\n[gpu]\nslots = []\n', "'gpu.slots' names no slot"),
    ('extends = "red"\n[gpu]\ncap_min_w = 400.0\n', "'cap_min_w'"),
]


@pytest.mark.parametrize(("text", "words"), EXTENDS)
def test_a_box_that_cannot_be_meant_is_refused_by_name(text: str, words: str, tmp_path: Path) -> None:
    assert words in refusal(write(tmp_path, text)).message


def test_an_unknown_base_names_the_known_boxes(tmp_path: Path) -> None:
    assert "red" in refusal(write(tmp_path, 'extends = "mauve"\n')).hint


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "odd.toml").write_bytes(b"\xff\xfe\x00")
    assert "not valid TOML" in refusal(tmp_path).message


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "odd.toml").mkdir()
    assert "cannot read" in refusal(tmp_path).message


@pytest.mark.parametrize("name", SUITE)
def test_a_box_written_as_toml_reads_as_the_same_box(name: str, tmp_path: Path) -> None:
    table = {key: value for key, value in dataclasses.asdict(load_box(name)).items() if key != "name"}
    assert load_box("odd", write(tmp_path, table_text(table))) == dataclasses.replace(load_box(name), name="odd")
