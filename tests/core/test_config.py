"""Settings: what is known, what is refused, and where each value came from."""

import dataclasses
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinybox.core.box import BOXES, known_boxes, load_box
from tinybox.core.circuit import circuit_of
from tinybox.core.config import BmcConfig, CircuitConfig, Config, GpuConfig, effective_settings, load_config
from tinybox.core.errors import TinyboxError
from tinybox.core.table import table_text


def write(folder: Path, text: str, name: str = "config.toml") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return folder / "config.toml"


def test_without_a_file_everything_is_default(tmp_path: Path) -> None:
    assert {setting.origin for setting in effective_settings(tmp_path / "config.toml")} == {"default"}


def test_a_drop_in_wins_and_is_named_as_the_origin(tmp_path: Path) -> None:
    write(tmp_path, "[circuit]\namps = 15.0\nvolts = 118.0\n")
    path = write(tmp_path, "[circuit]\namps = 20\n", "config.d/50-kitchen.toml")
    settings = {s.key: s for s in effective_settings(path)}
    assert settings["circuit.amps"].value == 20.0
    assert settings["circuit.amps"].origin.endswith("50-kitchen.toml")
    assert settings["circuit.volts"].origin.endswith("config.toml")


BAD = [
    ("boxx = 'red'", "unknown key 'boxx'"),
    ("[circuit]\nvolt = 120.0", "unknown key 'circuit.volt'"),
    ("[circuit]\nvolts = 0.0", "'circuit.volts' is 0"),
    ("[circuit]\nvolts = nan", "'circuit.volts' is nan"),
    ("[circuit]\namps = -15.0", "'circuit.amps' is -15"),
    ("[circuit]\namps = 'many'", "'circuit.amps' is 'many'"),
    ("[circuit]\ncontinuous_fraction = 1.5", "'circuit.continuous_fraction' is 1.5"),
    ("[daemon]\nperiod_s = true", "'daemon.period_s' is True"),
    ("[bmc]\ninterface = 'telepathy'", "'bmc.interface' is 'telepathy'"),
    ("[bmc]\nport = 70000", "'bmc.port' is 70000"),
    ("[metrics]\nlisten = 9469", "'metrics.listen' is 9469"),
    ("[metrics]\nlisten = '9469'", "'metrics.listen' is '9469'"),
    ("[metrics]\nlisten = '127.0.0.1'", "'metrics.listen' is '127.0.0.1'"),
    ("[metrics]\nlisten = '127.0.0.1:0'", "'metrics.listen' is '127.0.0.1:0'"),
    ("[metrics]\nlisten = '127.0.0.1:65536'", "'metrics.listen' is '127.0.0.1:65536'"),
    ("[metrics]\nlisten = '::1:9469'", "'metrics.listen' is '::1:9469'"),
    ("[metrics]\nlisten = '[127.0.0.1]:9469'", "'metrics.listen' is '[127.0.0.1]:9469'"),
    ("[metrics]\nlisten = 'localhost:9469'", "'metrics.listen' is 'localhost:9469'"),
    ("[alerts]\nwebhook = 'example.org/hook'", "'alerts.webhook' is no address"),
    ("[alerts]\nwebhook = 'ftp://example.org/hook'", "'alerts.webhook' is no address"),
    ("[alerts]\nwebhook = 'https://'", "'alerts.webhook' is no address"),
    ("[alerts]\nwebhook = 'https://example.org:70000/'", "'alerts.webhook' is no address"),
    ("[alerts]\nwebhook = 'https://[::1/'", "'alerts.webhook' is no address"),
    ("[alerts]\ncommand = 'mail'", "'alerts.command' is 'mail'"),
    ("[alerts]\ncommand = ['mail', 'me']", "'alerts.command' begins with 'mail'"),
    ("[alerts]\ntimeout_s = 0", "'alerts.timeout_s' is 0"),
    ("box = ", "not valid TOML"),
]


@pytest.mark.parametrize(("text", "words"), BAD)
def test_bad_settings_are_refused_with_file_and_key(text: str, words: str, tmp_path: Path) -> None:
    path = write(tmp_path, text)
    with pytest.raises(TinyboxError) as caught:
        load_config(path)
    assert words in caught.value.message
    assert str(path) in caught.value.message
    assert caught.value.hint


def test_an_address_that_is_refused_is_not_repeated(tmp_path: Path) -> None:
    with pytest.raises(TinyboxError) as caught:
        load_config(write(tmp_path, "[alerts]\nwebhook = 'htps://example.org/verysecret'\n"))
    assert "verysecret" not in caught.value.message + caught.value.hint


ADDRESSES = [("", None), ("127.0.0.1:9469", ("127.0.0.1", 9469)), ("[::1]:80", ("::1", 80))]


@pytest.mark.parametrize(("listen", "address"), ADDRESSES)
def test_where_metrics_are_served_is_an_address_and_a_port_or_nowhere(
    listen: str, address: tuple[str, int] | None, tmp_path: Path
) -> None:
    assert load_config(write(tmp_path, f"[metrics]\nlisten = '{listen}'\n")).metrics.address == address


def test_an_unknown_box_names_the_known_ones() -> None:
    with pytest.raises(TinyboxError) as caught:
        load_box("mauve")
    assert "mauve" in caught.value.message
    assert "red" in caught.value.hint


@pytest.mark.parametrize("name", known_boxes())
def test_every_box_loads_and_its_clock_table_rises(name: str) -> None:
    box = load_box(name)
    clocks = [point.clock_mhz for point in box.gpu.clock_table]
    watts = [point.board_power_max_w for point in box.gpu.clock_table]
    assert clocks == sorted(clocks) and watts == sorted(watts)
    assert len(box.gpu.slots) == len(set(box.gpu.slots))


def test_a_box_with_a_key_too_many_is_refused(tmp_path: Path) -> None:
    text = (BOXES / "red.toml").read_text()
    (tmp_path / "odd.toml").write_text('colour = "red"\n' + text)
    with pytest.raises(TinyboxError, match="unknown key 'colour'"):
        load_box("odd", tmp_path)


SENSELESS = [
    ("clock_mhz = 800, ", "clock_mhz = 400, ", "clock_table"),
    ("efficiency_min = 0.89", "efficiency_min = 89.0", "efficiency_min"),
    ("clock_table_margin = 1.15", "clock_table_margin = 0.5", "clock_table_margin"),
    ('"0000:23:00.0"', '"0000:03:00.0"', "gpu.slots"),
]


@pytest.mark.parametrize(("old", "new", "words"), SENSELESS)
def test_a_box_that_cannot_be_meant_is_refused(old: str, new: str, words: str, tmp_path: Path) -> None:
    text = (BOXES / "red.toml").read_text()
    assert old in text
    (tmp_path / "odd.toml").write_text(text.replace(old, new))
    with pytest.raises(TinyboxError, match=words):
        load_box("odd", tmp_path)


def test_what_else_is_on_the_circuit_comes_off_the_promise(tmp_path: Path) -> None:
    box = load_box("red")
    config = load_config(write(tmp_path, "[circuit]\nother_load_a = 2.0\n"))
    assert circuit_of(box, config).promised_a == pytest.approx(10.0)
    assert circuit_of(box, config).budget_w(115.0) == pytest.approx(10.0 * 115.0 * 0.99)
    config = load_config(write(tmp_path, "[circuit]\nother_load_a = 13.0\n"))
    with pytest.raises(TinyboxError, match="leaves nothing"):
        circuit_of(box, config)


text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@given(box=text, host=text, amps=st.floats(5, 100), limit_w=st.none() | st.floats(20, 1500))
def test_settings_written_as_toml_read_as_the_same_settings(
    tmp_path_factory: pytest.TempPathFactory, box: str, host: str, amps: float, limit_w: float | None
) -> None:
    gpus = (GpuConfig("gpu/0", -3, limit_w), GpuConfig("gpu/1"))
    config = Config(box, CircuitConfig(amps=amps), BmcConfig(host=host), gpus=gpus)
    path = tmp_path_factory.mktemp("settings") / "config.toml"
    path.write_text(table_text(dataclasses.asdict(config)), encoding="utf-8", newline="")
    assert load_config(path) == config
