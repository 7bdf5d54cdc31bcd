"""What an owner may say of noise, and what holds by day and by night."""

from pathlib import Path

import pytest

from tinybox.core.config import load_config
from tinybox.core.errors import TinyboxError
from tinybox.core.quiet import FILE_NAME, NoiseConfig, Quiet, is_night, load_choice, parse_quiet, save_choice, wish_of

NIGHT = NoiseConfig(profile="balanced", night_profile="silent")


@pytest.mark.parametrize(
    ("text", "dba"), [("silent", 40.0), ("Balanced", 45.0), ("38", 38.0), ("38,5 dBA", 38.5), (" 42.25dB ", 42.25)]
)
def test_profiles_and_levels_are_understood(text: str, dba: float) -> None:
    quiet = parse_quiet(text)
    assert quiet is not None and quiet.dba == dba


def test_full_has_no_limit_and_off_is_no_wish() -> None:
    assert parse_quiet("full") == Quiet("full", None)
    assert parse_quiet("off") is None


@pytest.mark.parametrize("text", ["", "loud", "19", "81", "4 0", "nan", "inf", "-40", "40 dBA please", "0x28"])
def test_anything_else_is_refused_with_what_could_be_said(text: str) -> None:
    with pytest.raises(TinyboxError, match="no level from 20 to 80") as caught:
        parse_quiet(text)
    assert "silent" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("minutes", "night"), [(0, True), (6 * 60 + 59, True), (7 * 60, False), (21 * 60 + 59, False), (22 * 60, True)]
)
def test_a_night_may_go_past_midnight(minutes: int, night: bool) -> None:
    assert is_night(NIGHT, minutes) == night
    assert wish_of(None, NIGHT, minutes) == (Quiet("silent", 40.0) if night else Quiet("balanced", 45.0))


def test_a_night_within_a_day_one_without_a_profile_and_one_without_an_hour() -> None:
    siesta = NoiseConfig(night_profile="38", night_from="13:00", night_to="15:00")
    assert is_night(siesta, 14 * 60) and not is_night(siesta, 15 * 60) and not is_night(siesta, 0)
    assert not is_night(NoiseConfig(), 0)
    assert not is_night(NoiseConfig(night_profile="silent", night_from="07:00", night_to="07:00"), 7 * 60)


def test_what_the_owner_says_holds_day_and_night_until_it_is_taken_back(tmp_path: Path) -> None:
    assert load_choice(tmp_path) is None
    save_choice(tmp_path, "42")
    assert load_choice(tmp_path) == "42"
    assert wish_of("42", NIGHT, 0) == wish_of("42", NIGHT, 720) == Quiet("42 dBA", 42.0)
    assert wish_of("off", NIGHT, 0) is None
    save_choice(tmp_path, None)
    save_choice(tmp_path, None)
    assert load_choice(tmp_path) is None


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"profile": 40}', '{"profile": "loud"}', "\x00"])
def test_a_file_that_cannot_be_meant_is_an_error_that_names_it(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE_NAME).write_text(text)
    with pytest.raises(TinyboxError, match=FILE_NAME):
        load_choice(tmp_path)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ('[noise]\nprofile = "loud"', "noise.profile"),
        ('[noise]\nnight_profile = "5"', "noise.night_profile"),
        ('[noise]\nnight_from = "25:00"', "noise.night_from"),
        ('[noise]\nnight_to = "7"', "noise.night_to"),
        ('[noise]\nprofil = "silent"', "profil"),
    ],
)
def test_settings_that_cannot_be_meant_name_file_and_key(tmp_path: Path, text: str, key: str) -> None:
    path = tmp_path / "config.toml"
    path.write_text(text)
    with pytest.raises(TinyboxError, match=key):
        load_config(path)
