"""The Debian package: what is in it, that it starts by itself, and that it is the same every time."""

import gzip
import hashlib
import os
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from provisioning.image import REPO
from tests.conftest import BIN
from tests.provisioning.roots import control_field
from tinybox import __version__
from tinybox.cli.commands import tinybox


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


@pytest.mark.parametrize("abi", ["cpython-311", "cpython-312", "cpython-313"])
def test_what_is_compiled_is_there_for_every_python(unpacked: Path, abi: str) -> None:
    tree = unpacked / "usr/lib/tinybox"
    modules = [path for path in tree.rglob("*.so") if path.name != "oem.so"]
    assert modules
    own_kind = {path.with_name(path.name.split(".")[0]) for path in modules if ".cpython-" in path.name}
    assert own_kind, "the search finds nothing: it proves nothing"
    missing = [path for path in own_kind if not path.with_name(f"{path.name}.{abi}-x86_64-linux-gnu.so").exists()]
    assert missing == []
    assert [
        path.name for path in modules if not re.search(r"\.(abi3|cpython-31[123]-x86_64-linux-gnu)\.so$", path.name)
    ] == []


def test_what_is_compiled_asks_for_no_newer_c_library_than_control_does(unpacked: Path) -> None:
    found = re.search(r"libc6 \(>= 2\.(\d+)\)", control_field("Depends"))
    assert found is not None
    compiled = [path for path in (unpacked / "usr/lib/tinybox").rglob("*.so*") if path.is_file()]
    asked = {int(minor) for path in compiled for minor in re.findall(rb"GLIBC_2\.(\d+)", path.read_bytes())}
    assert asked
    assert max(asked) <= int(found[1])


def test_every_program_and_subcommand_has_a_page_that_a_linter_takes(unpacked: Path) -> None:
    pages = {path.name.split(".")[0]: path for path in (unpacked / "usr/share/man").rglob("*.gz")}
    assert pages.keys() >= {path.name for path in (unpacked / "usr/bin").iterdir()}
    assert pages.keys() >= {"-".join(("tinybox", *words)) for words in subcommands(tinybox)}
    assert "tinybox-twin-fault-add" in pages
    for page in pages.values():
        roff = gzip.decompress(page.read_bytes())
        command = ["mandoc", "-Tlint", "-Wwarning"]
        done = subprocess.run(command, input=roff, capture_output=True, timeout=30, check=False)
        assert done.stdout == b"", page.name


def subcommands(group: click.Group) -> Iterator[tuple[str, ...]]:
    """Every visible command below a group, as the words that call it."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if not command.hidden:
            yield (name,)
            if isinstance(command, click.Group):
                yield from ((name, *rest) for rest in subcommands(command))


def test_a_page_shows_options_examples_and_where_to_read_on(unpacked: Path) -> None:
    page = unpacked / "usr/share/man/man1/tinybox-twin-load.1.gz"
    done = subprocess.run(["mandoc", "-Tutf8", page], capture_output=True, text=True, timeout=30, check=True)
    shown = re.sub(".\b", "", done.stdout)
    for words in ("tinybox-twin-load - give a device work", "-h, --help", "'tinybox twin load gpu/0 100'"):
        assert words in shown
    assert "tinybox-twin(1)" in shown


@pytest.mark.parametrize("program", ["tinybox", "tinybox-provision"])
def test_bash_completes_what_the_program_offers(unpacked: Path, program: str, tmp_path: Path) -> None:
    script = unpacked / "usr/share/bash-completion/completions" / program
    ask = f'. {script}; COMP_WORDS=({program} ""); COMP_CWORD=1; {{fn}} {program}; echo "${{{{COMPREPLY[@]}}}}"'
    found = re.search(r"complete .*-F (\S+)", script.read_text())
    assert found is not None
    environment = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}"}
    command = ["bash", "-c", ask.format(fn=found[1])]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=True)
    offered = {"tinybox": {"status", "twin"}, "tinybox-provision": {"demo", "image", "run"}}
    assert offered[program] <= set(done.stdout.split())


@pytest.mark.parametrize("field", ["Depends", "Recommends"])
def test_noble_has_what_the_package_asks_for(field: str) -> None:
    noble = tomllib.loads((REPO / "packaging/noble.toml").read_text())
    for relation in control_field(field).split(", "):
        name, _, bound = relation.partition(" ")
        assert name in noble, f"look {name} up in Ubuntu's archive and add it to packaging/noble.toml"
        if bound:
            operator, version = bound.strip("()").split()
            compare = ["dpkg", "--compare-versions", noble[name], operator, version]
            assert subprocess.run(compare, timeout=30, check=False).returncode == 0, f"{relation}: {noble[name]}"


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
    units = sorted((unpacked / "usr/lib/systemd/system").glob("tinybox*.*"))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", *units],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    complaints = [line for line in done.stderr.splitlines() if "not executable" not in line]  # not installed here
    assert complaints == []
