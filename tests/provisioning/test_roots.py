"""The package in clean roots of both Debians: installed, at work, upgraded while it governs, purged without a trace."""

import contextlib
import json
import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from provisioning.mirror import debian_mirror
from tests.conftest import PATIENCE_S
from tests.provisioning.roots import Root, base_of, opened
from tests.provisioning.test_package import build
from tinybox import __version__

pytestmark = pytest.mark.timeout(420)  # the first run builds the roots
SUITES = ("bookworm", "trixie")
NEXT = "99.0"
BLINK_S = 0.2
UNITS = ("tinybox-failsafe", "tinybox-safe-limits", "tinyboxd")
IMPORTS = """
import importlib, importlib.machinery, pathlib, sys
tree = pathlib.Path("/usr/lib/tinybox")
sys.path.insert(0, str(tree))
suffixes = tuple(importlib.machinery.EXTENSION_SUFFIXES[:2])
compiled = [path for path in tree.rglob("*.so") if path.name.endswith(suffixes)]
for path in compiled:
    name = ".".join(path.relative_to(tree).with_name(path.name.partition(".")[0]).parts)
    assert importlib.import_module(name).__file__ == str(path), name
print(*sorted({path.relative_to(tree).parts[0].partition(".")[0] for path in compiled}))
"""


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package of this checkout, and the same with a higher version."""
    folder = tmp_path_factory.mktemp("packages")
    package = build(folder)
    package.rename(folder / "tinybox.deb")
    raise_version(folder / "tinybox.deb", tmp_path_factory.mktemp("next") / "tree", folder / "next.deb")
    return folder


def raise_version(package: Path, tree: Path, out: Path) -> None:
    subprocess.run(["dpkg-deb", "-R", package, tree], check=True, timeout=60)
    for name in ("DEBIAN/control", "usr/lib/tinybox/tinybox/__init__.py"):
        path = tree / name
        path.write_text(path.read_text().replace(__version__, NEXT))
    subprocess.run(["dpkg-deb", "-Znone", "-b", tree, out], check=True, timeout=60, stdout=subprocess.DEVNULL)


@pytest.fixture(params=SUITES)
def root(request: pytest.FixtureRequest, tmp_path: Path, packages: Path) -> Iterator[Root]:
    with opened(base_of(debian_mirror(request.param)), tmp_path, packages) as root:
        yield root


def install(root: Root, package: str) -> None:
    root.call("apt-get", "install", "--yes", "--quiet", f"/mnt/{package}")


def with_twin(root: Root) -> Root:
    """The same root, its programs pointed at a twin that now runs in it."""
    root.call("tinybox", "twin", "up")
    before = set(root.call("env").splitlines())
    shown = root.call("sh", "-c", 'eval "$(tinybox twin env)" && env').splitlines()
    pairs = (line.partition("=") for line in set(shown) - before)
    return replace(root, environment={key: value for key, _, value in pairs if key.startswith("TINYBOX_")})


def governed(root: Root) -> dict[str, Any]:
    """The daemon's status, once it answers; all six cards have a grant of its making."""
    deadline_s = time.monotonic() + PATIENCE_S
    while (document := json.loads(root.call("tinybox", "status", "--json")))["source"] != "daemon":
        assert time.monotonic() < deadline_s, "the daemon did not come up"
        time.sleep(0.2)
    assert len(document["gpus"]) == 6
    assert all(gpu["grant_w"] is not None for gpu in document["gpus"])
    assert isinstance(document, dict)
    return document


@pytest.mark.twin
def test_it_installs_governs_is_upgraded_at_work_and_is_purged_without_a_trace(root: Root) -> None:
    before = root.listing()
    install(root, "tinybox.deb")
    assert root.call("tinybox", "--version") == f"tinybox, version {__version__}\n"
    twin = with_twin(root)
    owners = limits_of(twin)
    daemon = twin.start("tinyboxd")
    assert governed(twin)["is_armed"] is True  # a twin is; a machine of somebody's is not
    limits = limits_of(twin)
    assert limits != owners

    install(twin, "next.deb")
    assert root.call("tinybox", "--version") == f"tinybox, version {NEXT}\n"
    assert daemon.poll() is None
    governed(twin)
    assert limits_of(twin) == limits, "an upgrade lifts nothing"

    twin.call("sh", "-c", 'kill "$(cat "$TINYBOX_RUN_DIR/tinyboxd.lock")"')
    assert daemon.wait(timeout=PATIENCE_S) == 0
    assert limits_of(twin) == limits, "a daemon that stops lifts nothing"
    leave_what_owners_leave(root)
    twin.call("apt-get", "remove", "--yes", "--quiet", "tinybox")
    assert limits_of(twin) == owners, "every card has back what it had"
    end_twin(twin)
    root.call("apt-get", "purge", "--yes", "--quiet", "tinybox")
    after = root.listing()
    assert sorted(after - before) == []
    assert sorted(before - after) == []


def end_twin(twin: Root) -> None:
    """The twin outlived the package that started it."""
    folder = twin.environment["TINYBOX_TWIN_DIR"]
    script = 'kill "$(cat "$1/twin.pid")"; while mountpoint -q "$1/root"; do umount -l "$1/root"; done; rm -rf "$1"'
    twin.call("sh", "-c", script, "sh", folder)


def leave_what_owners_leave(root: Root) -> None:
    """Settings, the daemon's memory, a unit enabled and another masked by hand."""
    root.call("systemctl", "--root=/", "enable", "tinybox-raid.service")
    root.call("systemctl", "--root=/", "mask", "tinybox-seed.service")
    for name in ("/etc/tinybox/config.d/50-mine.toml", "/var/lib/tinybox/box", "/run/tinybox/tinyboxd.lock"):
        path = root.path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert {"tinyboxd.service", "tinybox-raid.service"} <= {
        path.name for path in root.path("/etc/systemd/system/multi-user.target.wants").iterdir()
    }


def wait_for(condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline_s, "it did not happen in time"
        time.sleep(0.2)


@dataclass(frozen=True, slots=True)
class Moment:
    """What guarded the cards at one instant: the processes of daemon and failsafe, and the limits in force."""

    daemon: int | None
    failsafe: int | None
    limits: tuple[tuple[int, int], ...]
    began_s: float = field(compare=False)
    until_s: float = field(compare=False)


def watch(twin: Root, act: Callable[[], None]) -> list[Moment]:
    """The different moments, in order, while something is done."""
    moments = [moment(twin)]
    work = threading.Thread(target=act)
    work.start()
    while work.is_alive():
        if (now := moment(twin)) != moments[-1]:
            moments.append(now)
        else:
            moments[-1] = replace(moments[-1], until_s=now.until_s)
        time.sleep(0.02)
    work.join()
    return moments


def moment(twin: Root) -> Moment:
    """Processes before limits: whoever is seen guards what is then read."""
    found: dict[str, int] = {}
    began_s = time.monotonic()
    for process in twin.path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (process / "cmdline").read_bytes().split(b"\0")
            if len(words) == 4 and words[1] == b"-I":
                found[Path(words[2].decode()).name] = int(process.name)
    return Moment(found.get("tinyboxd"), found.get("tinybox-failsafe"), tuple(limits_of(twin)), began_s, began_s)


def limits_of(twin: Root) -> list[tuple[int, int]]:
    """Watts and megahertz that each card of the twin may have at most, from its own files."""
    cards = sorted(twin.path(twin.environment["TINYBOX_ROOT"]).glob("sys/class/drm/card?/device"))
    assert len(cards) == 6
    return [(watts_of(card), clock_of(card)) for card in cards]


def watts_of(card: Path) -> int:
    return int(next(card.glob("hwmon/*/power1_cap")).read_text()) // 1_000_000


def clock_of(card: Path) -> int:
    found = re.search(r"^1: *(\d+)Mhz", (card / "pp_od_clk_voltage").read_text(), re.MULTILINE | re.IGNORECASE)
    assert found is not None
    return int(found[1])


def test_every_compiled_dependency_loads_in_the_roots_own_python(root: Root) -> None:
    install(root, "tinybox.deb")
    names = ["_cffi_backend", "cryptography", "psutil", "pyamdgpuinfo", "yaml", "zstandard"]
    assert root.call("python3", "-I", "-c", IMPORTS).split() == names


@pytest.mark.parametrize("root", ["trixie"], indirect=True)
@pytest.mark.parametrize(
    ("shell", "folder"), [("zsh", "zsh/vendor-completions"), ("fish", "fish/vendor_completions.d")]
)
def test_completions_are_sound_to_their_shell(root: Root, shell: str, folder: str) -> None:
    root.call("sh", "-c", "dpkg-deb -x /mnt/tinybox.deb /tmp/unpacked")
    scripts = root.call("find", f"/tmp/unpacked/usr/share/{folder}", "-type", "f").splitlines()
    assert len(scripts) >= 4
    for script in scripts:
        done = root.run(shell, "-n", script)
        assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.twin
@pytest.mark.parametrize("suite", SUITES)
def test_an_upgrade_under_systemd_leaves_no_moment_without_safe_limits(
    suite: str, tmp_path: Path, packages: Path
) -> None:
    with opened(base_of(debian_mirror(suite)), tmp_path, packages, boots=True) as root:
        wait_for(lambda: root.run("systemctl", "is-system-running").stdout.strip() in ("running", "degraded"))
        for unit in UNITS:
            folder = root.path(f"/etc/systemd/system/{unit}.service.d")
            folder.mkdir()
            (folder / "10-twin.conf").write_text("[Service]\nEnvironmentFile=/run/twin.env\n")
        install(root, "tinybox.deb")
        twin = with_twin(root)
        lines = "".join(f"{key}={value}\n" for key, value in twin.environment.items())
        root.path("/run/twin.env").write_text(lines)  # until now no unit could start
        twin.call("systemctl", "restart", *UNITS)
        governed(twin)
        seen = watch(twin, lambda: install(twin, "next.deb"))
        governed(twin)
    first, last = seen[0], seen[-1]
    floor = min(moment.limits for moment in seen)
    assert floor < first.limits
    for seen_now in seen:
        for (watts, mhz), (watts_before, mhz_before) in zip(seen_now.limits, first.limits, strict=True):
            assert watts <= watts_before
            assert mhz <= mhz_before
    assert first.failsafe != last.failsafe, "the upgrade restarted nothing: it proves nothing"
    assert first.daemon != last.daemon
    for before, after in pairwise(seen):
        if None in (before.failsafe, after.failsafe) or before.failsafe != after.failsafe:
            assert after.limits == floor, "the cards were nobody's to limit"
            # A busy machine may keep us from looking while all of it happens.
            assert before.limits == floor or after.began_s - before.until_s > BLINK_S, "they were nobody's before"
