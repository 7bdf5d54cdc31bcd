"""`tinybox support` as its owner meets it: shown first, asked, whole or not at all, and nothing secret in it."""

import io
import json
import os
import pty
import shutil
import signal
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zstandard

from tests.cli.test_commands import CLEAN
from tests.conftest import BIN, Rig
from tests.hw.conftest import RECORDED
from tests.hw.test_recorded_box import reading
from tinybox.cli.bundle import deliver
from tinybox.hw.host import command_slug
from tinybox.hw.recording import JOURNAL

PLANTED = {
    "host": "kitchen-box",
    "user": "adaking",
    "real name": "Lovelace",
    "other user": "grandpa",
    "serial": "S6Z2NX0W104417",
    "bmc": "bmc.attic.lan",
    "bmc user": "operator7",
    "password": "correct horse",
    "address": "10.77.3.14",
    "address 6": "fe80::d9a4:77ff:fe01:2",
    "mac": "d8:5e:d3:4f:00:9c",
    "uuid": "6f1c1f3e-33aa-4c1e-9e5e-0d7ad1f0a9b2",
    "key": "AAAAC3NzaC1lZDI1NTE5AAAAIJx0Zb1q2w3e4r5t6y7u8i9o0pAsDfGh",
    "password file": "/home/adaking/.bmc",
    "webhook": "https://hooks.lovelace.example/services/T0P5/xoxo-ada",
}
CONFIG = f"""box = "adaking-rig"
[bmc]  # {PLANTED["password"]}
interface = "lanplus"
host = "{PLANTED["bmc"]}"
user = "{PLANTED["bmc user"]}"
password_file = "{PLANTED["password file"]}"
[alerts]
webhook = "{PLANTED["webhook"]}"
command = ["/home/adaking/tell"]
[[gpus]]
id = "gpu/3"
limit_w = 250
"""


def tinybox(*words: str | Path, cwd: Path, **variables: str | Path) -> subprocess.CompletedProcess[str]:
    command = [BIN / "tinybox", *words]
    environment = {**CLEAN, "TINYBOX_RUN_DIR": str(cwd), **{key: str(value) for key, value in variables.items()}}
    return subprocess.run(
        command, env=environment, cwd=cwd, input="", capture_output=True, text=True, timeout=60, check=False
    )


def status(root: Path) -> Any:
    """The status of a recorded machine, as docs/support.md says to ask for it."""
    config = root / "etc/tinybox/config.toml"
    done = tinybox("status", "--json", cwd=root.parent, TINYBOX_ROOT=root, TINYBOX_CONFIG=config)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def machine_parts(document: Any) -> Any:
    """What the status says of the machine, serial numbers aside, which a recording does not tell."""
    drives = [{**drive, "serial": bool(drive["serial"])} for drive in document["drives"]]
    gpus = [{**gpu, "grant_w": None} for gpu in document["gpus"]]  # the daemon's, not the machine's
    return {"gpus": gpus, "psus": document["power"]["psus"], "fans": document["fans"], "drives": drives}


def there(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def content(folder: Path) -> dict[str, str]:
    """Every file and link by its name."""
    found = {}
    for path in folder.rglob("*"):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            found[name] = str(path.readlink())
        elif path.is_file():
            found[name] = path.read_text()
    return found


@pytest.fixture
def told(tmp_path: Path) -> Path:
    """A recorded machine that tells secrets wherever a machine may."""
    root = tmp_path / "machine"
    shutil.copytree(RECORDED, root, symlinks=True)
    lan: tuple[str, ...] = ("ipmitool", "-I", "lanplus", "-H", PLANTED["bmc"], "-p", "623", "-C", "17")
    lan += ("-U", PLANTED["bmc user"], "-f", PLANTED["password file"])
    for words in (("-c", "sdr", "list"), ("dcmi", "power", "reading")):
        (root / "commands" / command_slug(("ipmitool", "-I", "open", *words))).rename(
            root / "commands" / command_slug((*lan, *words))
        )
    texts = {
        "etc/hostname": PLANTED["host"],
        "etc/passwd": f"{PLANTED['user']}:x:1000:1000:Ada {PLANTED['real name']}:/home/x:/bin/sh\n",
        "home/grandpa/file": "never read",
        "sys/class/nvme/nvme1/serial": PLANTED["serial"],
        "proc/cmdline": f"root=UUID={PLANTED['uuid']} ip={PLANTED['address']} amdgpu.ppfeaturemask=0xffffffff quiet",
        "proc/mountinfo": "40 25 9:127 / /raid rw - xfs /dev/md127 rw\n"
        f"41 25 0:51 / /mnt rw - cifs //nas/{PLANTED['user']} rw,password=x\n",
        "etc/tinybox/config.toml": CONFIG,
        "etc/tinybox/boxes/adaking-rig.toml": 'extends = "red"\ntitle = "the box of adaking"\n',
        f"commands/{command_slug(JOURNAL)}": " ; ".join(PLANTED.values()) + f"\npassword: {PLANTED['password']}\n",
        "sys/class/net/enp225s0f0/address": f"{PLANTED['mac']}\n",
        "library/addresses.json": json.dumps({"enp225s0f0": [PLANTED["address"], PLANTED["address 6"]]}),
        "dev/kmsg": f"3,1,90000500000,-;nvme nvme1: {PLANTED['serial']} of {PLANTED['user']} timeout\n",
        "sys/fs/pstore/dmesg-1": f"Oops in a program of {PLANTED['user']}\n",
        "commands/dmesg": f"nvme nvme1: {PLANTED['serial']}\nipmi: {PLANTED['mac']}\nusb: {PLANTED['user']}\n",
    }
    for name, text in texts.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def support(root: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
    config = root / "etc/tinybox/config.toml"
    return tinybox("support", *words, cwd=root.parent, TINYBOX_ROOT=root, TINYBOX_CONFIG=config)


def test_no_planted_secret_is_in_any_file_or_name(told: Path, tmp_path: Path) -> None:
    # The password alone is no word that betrays itself; in the journal its own line does.
    journal = told / "commands" / command_slug(JOURNAL)
    journal.write_text(journal.read_text().replace(f"{PLANTED['password']} ; ", ""))
    done = support(told, "--yes", "--show", "out", "--archive", "out.tar.zst")
    assert done.returncode == 0, done.stderr
    written = content(tmp_path / "out")
    packed = zstandard.ZstdDecompressor().decompress((tmp_path / "out.tar.zst").read_bytes()).decode()
    everything = "\n".join((*written, *written.values(), packed, done.stdout.replace(str(tmp_path), "")))
    assert {kind for kind, secret in PLANTED.items() if secret.lower() in everything.lower()} == set()
    assert "ppfeaturemask=0xffffffff" in written["proc/cmdline"]
    assert "usb" not in written["commands/dmesg"] and "nas" not in written["proc/mountinfo"]


def test_ports_keep_their_figures_under_other_addresses(told: Path, tmp_path: Path) -> None:
    assert support(told, tmp_path / "out", "--yes").returncode == 0
    port = json.loads((tmp_path / "out/expected.json").read_text())["slow"]["nics"][0]
    assert (port["id"], port["speed_mbps"], port["is_up"]) == ("nic/enp225s0f0", 10000, True)
    assert port["mac"].startswith("02:00:00") and port["addresses"] == ["192.0.2.1", "2001:db8::2"]


def test_its_reading_is_that_of_the_machine_with_the_owners_own_box_and_settings(told: Path, tmp_path: Path) -> None:
    assert support(told, "--yes", "out").returncode == 0
    out = tmp_path / "out"
    assert reading(out) == json.loads((out / "expected.json").read_text())
    assert machine_parts(status(out)) == machine_parts(status(told))
    assert machine_parts(status(out)) == machine_parts(json.loads((out / "status.json").read_text()))
    assert status(out)["fans"][0]["rpm"] == 840  # by the command line of the redacted settings
    assert status(out)["box"] == json.loads((out / "status.json").read_text())["box"]
    assert 'title = "the box of user' in (out / f"etc/tinybox/boxes/{status(out)['box']}.toml").read_text()
    assert json.loads((out / "settings.json").read_text())["bmc.host"]["value"].startswith("box")


def test_it_is_small_text_below_one_folder(told: Path, tmp_path: Path) -> None:
    (told / "commands" / command_slug(JOURNAL)).write_text("a line of a journal, and a long one\n" * 200_000)
    assert support(told, "--yes", "out").returncode == 0
    assert sum(len(text) for text in content(tmp_path / "out").values()) < 5_000_000
    assert (tmp_path / "out" / "commands" / command_slug(JOURNAL)).read_text().count("\n") <= 500


def test_the_summary_and_the_content_are_shown_before_anything_is_asked(told: Path, tmp_path: Path) -> None:
    done = support(told, "out", "--show")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-2:] == [
        "tinybox: not confirmed: nothing was written",
        "  look at it with --show, then say yes or add --yes",
    ]
    assert "replaced: " in done.stdout and "host name" in done.stdout and "\n== pci.txt\n0000:00:0f.1 " in done.stdout
    assert there(tmp_path) == ["machine"]


def test_yes_on_a_terminal_writes_it_and_says_where_and_what_to_do(told: Path, tmp_path: Path) -> None:
    leader, follower = pty.openpty()
    environment = {**CLEAN, "TINYBOX_ROOT": str(told), "TINYBOX_RUN_DIR": str(tmp_path)}
    with subprocess.Popen(
        [BIN / "tinybox", "support", "out"],
        cwd=tmp_path, env=environment, stdin=follower, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        os.close(follower)
        os.write(leader, b"y\n")
        said, complained = process.communicate(timeout=60)
    os.close(leader)
    assert process.returncode == 0
    assert said.splitlines()[-1] == f"written to {tmp_path}/out"
    assert "nothing was sent" in complained
    assert (tmp_path / "out/expected.json").exists()


def test_for_scripts_there_is_one_document(told: Path, tmp_path: Path) -> None:
    done = support(told, "--yes", "--json", "out")
    document = json.loads(done.stdout)
    assert document["folder"] == str(tmp_path / "out") and document["archive"] is None
    assert document["redacted"]["serial"] >= 5
    assert document["files"].keys() == {n for n in content(tmp_path / "out") if not (tmp_path / "out" / n).is_symlink()}
    assert document["bytes"] == sum(document["files"].values())


def test_the_same_folder_packs_to_the_same_bytes(told: Path, tmp_path: Path) -> None:
    packed = []
    for folder in (tmp_path / "first", tmp_path / "second"):
        folder.mkdir()
        shutil.copytree(told, folder / "tree", symlinks=True, copy_function=shutil.copyfile)  # of another time
        deliver(folder / "tree", None, folder / "report.tar.zst")
        packed.append((folder / "report.tar.zst").read_bytes())
    assert packed[0] == packed[1]
    with tarfile.open(fileobj=io.BytesIO(zstandard.ZstdDecompressor().decompress(packed[0]))) as tar:
        members = tar.getmembers()
    assert {(member.mtime, member.uid, member.uname) for member in members} == {(0, 0, "")}
    assert len(members) == len(list(told.rglob("*"))) + 1
    assert {member.name.split("/")[0] for member in members} == {"report"}


def test_an_archive_alone_leaves_no_folder(told: Path, tmp_path: Path) -> None:
    assert support(told, "--yes", "--archive", "r.tar.zst").returncode == 0
    assert there(tmp_path) == ["machine", "r.tar.zst"]


def test_settings_that_cannot_be_read_are_recorded_as_the_problem(told: Path, tmp_path: Path) -> None:
    (told / "etc/tinybox/config.toml").write_text("[circuit]\nampere = 15\n")
    assert support(told, "--yes", "out").returncode == 0
    out = content(tmp_path / "out")
    assert "unknown key 'circuit.ampere'" in out["problem.txt"]
    assert "status.json" not in out and "etc/tinybox/config.toml" not in out
    assert reading(tmp_path / "out")["fast"]["gpus"][0]["power_w"] > 0


REFUSED = [
    (("--yes", "taken"), 1, "taken is there and not empty"),
    (("--yes", "file"), 1, "file is there and not empty"),
    (("--yes", "--archive", "taken.tar.zst"), 1, "taken.tar.zst is there already"),
    (("--yes", "no/such/out"), 1, "no such folder above it"),
    (("--yes", "--archive", "out.zip"), 2, "does not end in .tar.zst"),
]


@pytest.mark.parametrize(("words", "code", "said"), REFUSED)
def test_what_is_there_is_never_written_over(words: tuple[str, ...], code: int, said: str, tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    for name in ("taken/kept", "file", "taken.tar.zst"):
        (tmp_path / name).write_text("kept")
    before = content(tmp_path)
    done = tinybox("support", *words, cwd=tmp_path, TINYBOX_ROOT=RECORDED)
    assert (done.returncode, done.stdout) == (code, "")
    assert said in done.stderr
    assert content(tmp_path) == before


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    assert tinybox("support", "--yes", "out", cwd=tmp_path, TINYBOX_ROOT=RECORDED).returncode == 0
    assert (tmp_path / "out/expected.json").exists()


@pytest.mark.parametrize(
    "words", [("disk/out",), ("--archive", "disk/out.tar.zst"), ("out", "--archive", "disk/o.tar.zst")]
)
def test_a_full_disk_is_one_line_and_leaves_nothing(words: tuple[str, ...], tmp_path: Path) -> None:
    """A real one, of 100 KiB, in a mount namespace of its own; only one of two places may be full."""
    (tmp_path / "disk").mkdir()
    script = (
        "mount -t tmpfs -o size=100k tmpfs disk && dd if=/dev/zero of=disk/kept bs=1k count=98 status=none\n"
        f'"{BIN}/tinybox" support --yes "$@"; echo "$?" && ls -A disk'
    )
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script, "sh", *words],
        env={**CLEAN, "TINYBOX_ROOT": str(RECORDED), "TINYBOX_RUN_DIR": str(tmp_path)},
        cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.stdout.splitlines()[-2:] == ["1", "kept"]
    assert len(done.stderr.splitlines()) == 2
    assert "no space left on device" in done.stderr
    assert there(tmp_path) == ["disk"]


def test_where_the_folder_cannot_go_the_archive_is_not_left_alone(told: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/came-meanwhile").touch()
    with pytest.raises(OSError, match="not empty"):
        deliver(told, tmp_path / "out", tmp_path / "out.tar.zst")
    assert there(tmp_path) == ["machine", "out"]


@pytest.fixture
def asked(told: Path, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """One that waits for an answer: everything is made, nothing delivered."""
    with subprocess.Popen(
        [BIN / "tinybox", "support", "out"],
        env={**CLEAN, "TINYBOX_ROOT": str(told), "TINYBOX_RUN_DIR": str(tmp_path)},
        cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stderr is not None
        assert process.stderr.read(5) == "Write"
        yield process
        process.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interruption_is_one_line_and_leaves_nothing(
    asked: subprocess.Popen[str], number: signal.Signals, tmp_path: Path
) -> None:
    assert len(there(tmp_path)) == 2  # the machine and the half of it that is ready
    asked.send_signal(number)
    _, said = asked.communicate(timeout=30)
    assert asked.returncode == 1
    assert said.splitlines()[-2].endswith("nothing was written")
    assert "Traceback" not in said
    assert there(tmp_path) == ["machine"]


@pytest.mark.twin
def test_a_twin_is_recorded_asleep_and_broken_as_it_is_and_no_card_wakes(shared_twin: Rig, tmp_path: Path) -> None:
    for fault in ("gpu/4:asleep", "gpu/2:power-unreadable"):
        shared_twin.call("twin", "fault", "add", fault)
    shared_twin.call("twin", "load", "gpu/0", "100")
    wakes, caps = shared_twin.truth()["wakes"], [gpu["cap_w"] for gpu in shared_twin.truth()["gpus"]]
    shared_twin.call("support", str(tmp_path / "out"), "--yes")
    assert shared_twin.truth()["wakes"] == wakes
    assert [gpu["cap_w"] for gpu in shared_twin.truth()["gpus"]] == caps
    out = tmp_path / "out"
    assert reading(out) == json.loads((out / "expected.json").read_text())
    document = status(out)
    assert machine_parts(document) == machine_parts(json.loads((out / "status.json").read_text()))
    assert [gpu["state"] for gpu in document["gpus"]].index("asleep") == 4
    assert document["gpus"][2]["power_w"] is None and document["gpus"][0]["power_w"] > 50
    assert document["fans"][0]["rpm"] > 0 and document["power"]["psus"][1]["in_w"] > 0
    assert any("input/output error" in alert["reason"] for alert in document["alerts"] if alert["id"] == "gpu/2")
    assert str(shared_twin.folder) not in "".join(content(out).values())
    for fault in ("gpu/4:asleep", "gpu/2:power-unreadable"):
        shared_twin.call("twin", "fault", "clear", fault)


@pytest.mark.twin
def test_with_a_daemon_its_status_is_in_it_and_it_governs_on(shared_twin: Rig, tmp_path: Path) -> None:
    daemon = shared_twin.start_daemon()
    done = json.loads(shared_twin.call("support", str(tmp_path / "out"), "--yes", "--json"))
    assert not any("tinyboxd" in words for words in done["missing"])
    document = json.loads((tmp_path / "out/tinyboxd.json").read_text())
    assert document["source"] == "daemon"
    assert all(gpu["grant_w"] > 0 for gpu in document["gpus"])
    assert daemon.poll() is None
    assert reading(tmp_path / "out") == json.loads((tmp_path / "out/expected.json").read_text())
