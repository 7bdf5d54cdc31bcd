"""The Debian package: what is in it, that it starts by itself, and that it is the same every time."""

import hashlib
import subprocess
from pathlib import Path

import pytest

from provisioning.image import REPO
from tinybox import __version__


def build(out: Path) -> Path:
    command = [str(REPO / "packaging/build-deb"), str(out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110, check=True)
    return Path(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("deb"))


@pytest.fixture(scope="module")
def unpacked(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unpacked")
    subprocess.run(["dpkg-deb", "-x", package, folder], check=True, timeout=60)
    return folder


def test_two_builds_are_the_same_bytes(package: Path, tmp_path: Path) -> None:
    again = build(tmp_path)
    assert again.name == package.name == f"tinybox_{__version__}_amd64.deb"
    assert hashlib.sha256(again.read_bytes()).digest() == hashlib.sha256(package.read_bytes()).digest()


def test_it_has_programs_units_rules_completion_and_documents(unpacked: Path) -> None:
    for name in (
        *("usr/bin/tinybox", "usr/bin/tinyboxd", "usr/bin/tinybox-failsafe", "usr/bin/tinybox-provision"),
        *("usr/lib/systemd/system/tinyboxd.service", "usr/lib/systemd/system/tinybox-raid.service"),
        *("usr/lib/systemd/system/tinybox-failsafe.service", "usr/lib/systemd/system/tinybox-safe-limits.service"),
        *("usr/lib/tinybox/tinybox/boxes/red.toml", "usr/lib/tinybox/tinybox/twin/oem.so"),
        *("usr/share/doc/tinybox/docs/api.md", "usr/share/doc/tinybox/copyright"),
    ):
        assert (unpacked / name).is_file(), name
    assert list((unpacked / "usr/lib/udev/rules.d").iterdir())
    assert list((unpacked / "usr/share/bash-completion/completions").iterdir())


def test_what_is_compiled_runs_on_every_python(unpacked: Path) -> None:
    compiled = [path.name for path in (unpacked / "usr/lib/tinybox").rglob("*.so") if path.name != "oem.so"]
    assert compiled
    assert [name for name in compiled if not name.endswith(".abi3.so")] == []


@pytest.mark.parametrize("program", ["tinybox", "tinyboxd", "tinybox-failsafe", "tinybox-provision"])
def test_programs_start_isolated_with_the_systems_python(unpacked: Path, program: str) -> None:
    text = (unpacked / "usr/bin" / program).read_text()
    assert text.startswith("#!/usr/bin/python3 -I\n")
    moved = text.replace("/usr/lib/tinybox", str(unpacked / "usr/lib/tinybox"))
    command = ["/usr/bin/python3", "-I", "-B", "-c", moved, "--help"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.lower().startswith("usage: " + program)


def test_units_are_sound(unpacked: Path) -> None:
    units = sorted((unpacked / "usr/lib/systemd/system").glob("tinybox*.service"))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", *units],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    complaints = [line for line in done.stderr.splitlines() if "not executable" not in line]  # not installed here
    assert complaints == []
