"""The command line as a person meets it: help, mistakes, pipes, colour, and status with and without a daemon."""

import json
import os
import pty
import select
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import BIN, Rig
from tinybox.cli.commands import COMMANDS

CLEAN = {key: value for key, value in os.environ.items() if not key.startswith("TINYBOX_")}


def tinybox(*words: str, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    command = [str(BIN / "tinybox"), *words]
    return subprocess.run(command, env=environment or CLEAN, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("words", [(), *((name,) for name in COMMANDS), ("twin", "fault"), ("config", "show")])
def test_every_command_has_help_with_what_it_is_for(words: tuple[str, ...]) -> None:
    for flag in ("--help", "-h"):
        done = tinybox(*words, flag)
        assert done.returncode == 0
        assert done.stdout.startswith("Usage: tinybox")
        assert max(map(len, done.stdout.splitlines())) <= 120


def test_the_list_of_commands_says_what_each_command_says_of_itself() -> None:
    shown = tinybox("--help").stdout
    for name, (_, line) in COMMANDS.items():
        assert name in shown and line.split()[0] in shown


@pytest.mark.parametrize("words", [("stauts",), ("status", "--jsn"), ("twin", "load", "gpu/0", "much")])
def test_a_wrong_call_is_usage_and_exit_2(words: tuple[str, ...]) -> None:
    done = tinybox(*words)
    assert done.returncode == 2
    assert done.stdout == ""
    assert "Usage:" in done.stderr


@pytest.fixture(scope="module")
def governed(shared_twin: Rig) -> Iterator[Rig]:
    shared_twin.start_daemon()
    shared_twin.wait_for(lambda: bool(shared_twin.status()["fans"]))
    yield shared_twin


@pytest.mark.twin
def test_offline_reads_and_changes_nothing(shared_twin: Rig) -> None:
    before = shared_twin.truth()["gpus"]
    done = shared_twin.run("status", "--json")
    assert done.returncode == 0
    assert "no socket at" in done.stderr
    document = json.loads(done.stdout)
    assert document["source"] == "offline"
    assert document["power"]["wall_w"] == pytest.approx(shared_twin.truth()["wall_w"], abs=10)
    assert document["decision"]["reason"].startswith("nothing is changed without tinyboxd")
    screen = shared_twin.run("status").stdout
    assert "nobody holds the budget" in screen
    after = shared_twin.truth()["gpus"]
    assert [gpu["cap_w"] for gpu in after] == [gpu["cap_w"] for gpu in before]


@pytest.mark.twin
def test_a_stale_socket_is_said_and_the_machine_read_directly(shared_twin: Rig) -> None:
    daemon = shared_twin.start_daemon()
    daemon.kill()
    daemon.wait(timeout=10)
    done = shared_twin.run("status", "--json")
    assert done.returncode == 0
    assert "stale" in done.stderr
    assert json.loads(done.stdout)["source"] == "offline"


@pytest.mark.twin
def test_the_fast_way_and_the_long_way_show_the_same(governed: Rig) -> None:
    fast = json.loads(governed.call("status", "--json"))
    watched = subprocess.Popen(
        [BIN / "tinybox", "status", "--json", "--watch"], env=governed.environment, stdout=subprocess.PIPE, text=True
    )
    try:
        assert watched.stdout is not None
        lines = []
        while (line := watched.stdout.readline()) != "}\n":
            lines.append(line)
        slow = json.loads("".join([*lines, "}"]))
    finally:
        watched.terminate()
        watched.communicate(timeout=10)
    assert slow.keys() == fast.keys()
    assert slow["source"] == fast["source"] == "daemon"


@pytest.mark.twin
def test_the_screen_says_power_cards_noise_drives_and_why(governed: Rig) -> None:
    screen = governed.call("status")
    for word in ("of 1,", "A promised", "dBA estimated", "gpu/5", "CPU", "fans", "drives", "array", "W of board each"):
        assert word in screen
    assert "\x1b" not in screen
    assert max(map(len, screen.splitlines())) <= 120


@pytest.mark.twin
@pytest.mark.parametrize(("extra", "is_coloured"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)])
def test_colour_only_where_it_is_wanted(governed: Rig, extra: dict[str, str], is_coloured: bool) -> None:
    environment = {**governed.environment, "TERM": "xterm", **extra}
    if not extra:
        environment.pop("NO_COLOR", None)
    leader, follower = pty.openpty()
    with subprocess.Popen([BIN / "tinybox", "status"], env=environment, stdout=follower, stdin=follower) as process:
        os.close(follower)
        shown = b""
        deadline_s = time.monotonic() + 20
        while time.monotonic() < deadline_s and select.select([leader], [], [], 1.0)[0]:
            try:
                shown += os.read(leader, 65536)
            except OSError:
                break
        process.wait(timeout=20)
    os.close(leader)
    assert b"gpu/0" in shown
    assert (b"\x1b[" in shown) == is_coloured


@pytest.mark.twin
def test_a_reader_that_has_seen_enough_is_no_error(governed: Rig) -> None:
    script = f"{BIN}/tinybox status | head -1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", script], env=governed.environment, capture_output=True, text=True, timeout=30, check=False
    )
    assert done.stderr == ""
    assert done.stdout.splitlines()[-1] == "0"


@pytest.mark.twin
def test_settings_with_their_origins(governed: Rig) -> None:
    shown = json.loads(governed.call("config", "show", "--json"))
    assert shown["box"]["value"] == "red"
    assert shown["circuit.amps"] == {"value": None, "origin": "default"}
    assert shown["bmc.interface"]["origin"].endswith("config.toml")
    assert "(the box's)" in governed.call("config", "show")
    assert "12 A promised on 120 V" in governed.call("config", "check")


def test_a_bad_setting_names_file_key_and_remedy(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text("[circuit]\nampere = 15\n")
    done = tinybox("config", "check", environment={**CLEAN, "TINYBOX_CONFIG": str(path)})
    assert done.returncode == 1
    assert done.stderr.splitlines()[0] == f"tinybox: {path}: unknown key 'circuit.ampere'"
    assert len(done.stderr.splitlines()) == 2


def test_a_seed_that_is_no_text_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "seed.toml").write_bytes("hostname = 'x'".encode("utf-16"))
    done = tinybox("seed", "check", "--file", str(tmp_path / "seed.toml"))
    assert done.returncode == 1
    assert "it is not UTF-8 text" in done.stderr
    assert len(done.stderr.splitlines()) == 2


def test_a_seed_for_an_account_of_the_system_is_refused(tmp_path: Path) -> None:
    for user in ("daemon", "nobody"):
        (tmp_path / "seed.toml").write_text(f'user = "{user}"\n')
        done = tinybox("seed", "check", "--file", str(tmp_path / "seed.toml"))
        assert done.returncode == 1
        assert f"'{user}' is an account of the system" in done.stderr


def booting(folder: Path, seed: str) -> subprocess.CompletedProcess[str]:
    """`tinybox seed boot` on a machine that is a folder, where ada's account is locked."""
    (folder / "root/etc").mkdir(parents=True)
    (folder / "root/etc/passwd").write_text(f"ada:x:{max(1000, os.getuid())}:{os.getgid()}::/home/ada:/bin/bash\n")
    (folder / "root/etc/shadow").write_text("ada:!:20000:::::::\n")
    (folder / "root/commands").mkdir()
    for name in ("hostname_attic", "chpasswd", "chage_--lastday_0_ada"):
        (folder / "root/commands" / name).touch()
    (folder / "root/efi").mkdir()
    (folder / "root/efi/tinybox-seed.toml").write_text(seed)
    places = {
        "TINYBOX_ROOT": folder / "root",
        "TINYBOX_RUN_DIR": folder / "run",
        "TINYBOX_CONFIG": folder / "none.toml",
    }
    return tinybox("seed", "boot", environment={**CLEAN, **{key: str(path) for key, path in places.items()}})


def test_a_good_seed_is_applied_and_removed_and_no_password_is_made(tmp_path: Path) -> None:
    done = booting(tmp_path, 'hostname = "attic"\nuser = "ada"\nssh_authorized_keys = ["ssh-ed25519 AAAA me"]\n')
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("seed applied and removed: host attic, user ada, 1 keys, DHCP")
    assert not (tmp_path / "root/efi/tinybox-seed.toml").exists()
    assert (tmp_path / "root/etc/hostname").read_text() == "attic\n"
    assert not (tmp_path / "root/run/tinybox/console.issue").exists()


def test_a_seed_with_a_mistake_stays_and_changes_nothing_and_a_password_lets_in(tmp_path: Path) -> None:
    mistake = 'hostname = "attic"\nuser = "ada"\n"\\u001b" = 1\n'
    done = booting(tmp_path, mistake)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 2
    assert (tmp_path / "root/efi/tinybox-seed.toml").read_text() == mistake
    assert not (tmp_path / "root/etc/hostname").exists()
    issue = tmp_path / "root/run/tinybox/console.issue"
    assert issue.stat().st_mode & 0o077 == 0, "others could read the password"
    told = issue.read_text()
    assert "Seed: " in told and "unknown key '?'" in told
    password = told.split("one-time password")[1].split()[0]
    assert password not in done.stdout + done.stderr + (tmp_path / "run/notices/seed").read_text()


def test_a_seed_that_leaves_the_box_no_amps_is_refused(tmp_path: Path) -> None:
    (tmp_path / "seed.toml").write_text("[circuit]\noutlet = '120V/15A'\nother_load_a = 12.0\n")
    done = tinybox("seed", "check", "--file", str(tmp_path / "seed.toml"))
    assert done.returncode == 1
    assert "leaves nothing beside another load" in done.stderr


def test_completion_knows_the_commands() -> None:
    environment = {**CLEAN, "_TINYBOX_COMPLETE": "bash_complete", "COMP_WORDS": "tinybox st", "COMP_CWORD": "1"}
    assert "status" in tinybox(environment=environment).stdout
