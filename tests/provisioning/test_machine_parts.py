"""Parts of a virtual box that need no boot: the seed on the ESP, and what is said when something is missing."""

import subprocess
from pathlib import Path

import pytest

from provisioning.esp import esp_offset_bytes, write_to_esp
from provisioning.image import Image
from provisioning.vm import Machine, can_use_kvm, free_port
from tests.conftest import BIN
from tinybox.core.errors import TinyboxError

ESP_START_BYTES = 2**20


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A disk with an empty ESP, as sfdisk and mkfs.fat make it."""
    path = tmp_path / "disk.raw"
    with path.open("wb") as file:
        file.truncate(64 * 2**20)
    subprocess.run(["sfdisk", "--quiet", path], input="label: gpt\ntype=U\n", text=True, check=True, timeout=30)
    assert esp_offset_bytes(path) == ESP_START_BYTES
    command = ["mkfs.fat", "--offset", str(ESP_START_BYTES // 512), path, str(60 * 1024)]
    subprocess.run(command, check=True, timeout=30, capture_output=True)
    return path


def on_esp(image: Path, name: str) -> str:
    command = ["mtype", "-i", f"{image}@@{ESP_START_BYTES}", f"::{name}"]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout


def test_a_file_on_the_esp_is_written_and_written_over(image: Path) -> None:
    write_to_esp(image, "seed.toml", "hostname = 'first'\n")
    write_to_esp(image, "seed.toml", "hostname = 'second'\n")
    assert on_esp(image, "seed.toml") == "hostname = 'second'\n"


def test_an_image_without_esp_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.raw").write_bytes(bytes(2**20))
    with pytest.raises(TinyboxError, match="has no EFI system partition"):
        write_to_esp(tmp_path / "empty.raw", "seed.toml", "")


def test_the_consoles_last_line_is_plain_text(tmp_path: Path) -> None:
    nothing = tmp_path / "nothing"
    machine = Machine(tmp_path, Image(nothing, nothing, nothing, "", "debian"))
    assert machine.console_line() == ""
    machine.serial_log.write_bytes(b"one\r\n\x1b[0;32m  OK  \x1b[0m Reached \x1b[0;1;39mtarget\x1b[0m\r\n\x1b[K\r\n")
    assert machine.console_line() == "OK   Reached target"


def test_two_ports_are_two() -> None:
    assert free_port() > 1023
    assert isinstance(can_use_kvm(), bool)


def provision(*words: str) -> subprocess.CompletedProcess[str]:
    command = [str(BIN / "tinybox-provision"), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("words", [(), ("image",), ("image", "build"), ("run",), ("demo",)])
def test_every_command_has_help(words: tuple[str, ...]) -> None:
    done = provision(*words, "--help")
    assert done.returncode == 0
    assert done.stdout.startswith("Usage: tinybox-provision")


def test_a_profile_that_there_is_not_is_refused_with_those_there_are() -> None:
    done = provision("image", "build", "--profile", "mauve")
    assert done.returncode == 1
    assert done.stderr == "tinybox-provision: there is no profile 'mauve'\n  profiles: core, red, sim\n"


@pytest.mark.twin
def test_the_demo_shows_a_governed_box_and_leaves_nothing(tmp_path: Path) -> None:
    done = provision("demo", "--seconds", "5")
    assert done.returncode == 0, done.stderr
    for word in ("A promised", "gpu/5", "array   raid0 clean"):
        assert word in done.stdout
    assert "tinybox-demo-" not in Path("/proc/self/mounts").read_text()
