"""`tinybox health test-alert` says whether a message arrives."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tinybox.cli.health import health
from tinybox.core.errors import TinyboxError


def answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, alerts: str, *words: str) -> Result:
    """What the command says with these settings."""
    (tmp_path / "config.toml").write_text(f"[alerts]\n{alerts}\n")
    monkeypatch.setenv("TINYBOX_CONFIG", str(tmp_path / "config.toml"))
    return CliRunner().invoke(health, ("test-alert", *words))


def test_a_message_that_arrives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = f'command = ["/bin/sh", "-c", "cat > {tmp_path}/got"]'
    assert answer(tmp_path, monkeypatch, settings).output == "command: sent\n"
    got = json.loads((tmp_path / "got").read_text())
    assert (got["event"], got["id"], got["box"]) == ("test", "alerts", "red")
    assert json.loads(answer(tmp_path, monkeypatch, settings, "--json").output) == {"command": None}


def test_one_that_does_not_is_an_error_and_the_others_are_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = f'webhook = "http://127.0.0.1:9/secret"\ncommand = ["/bin/sh", "-c", "cat > {tmp_path}/got"]'
    done = answer(tmp_path, monkeypatch, settings)
    assert isinstance(done.exception, TinyboxError)
    assert "cannot reach 127.0.0.1" in done.exception.message
    assert "secret" not in done.exception.message
    assert (tmp_path / "got").exists()
    assert done.output == "command: sent\n"


def test_without_a_way_out_it_says_where_to_name_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = answer(tmp_path, monkeypatch, "")
    assert isinstance(done.exception, TinyboxError)
    assert "alerts.webhook" in done.exception.hint
