"""`tinybox init` on machines as folders: known, foreign, mixed, poor in sensors, and with nowhere to write."""

import json
import os
import pty
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import BIN, Rig
from tests.hw.conftest import RECORDED, copy
from tinybox.core.box import load_box
from tinybox.core.config import Folders, load_config
from tinybox.hw.host import Host
from tinybox.hw.pcie import DEVICES

__all__ = ["copy"]  # a fixture
RED = load_box("red")
CLEAN = {key: value for key, value in os.environ.items() if not key.startswith("TINYBOX_")}
WATTS = ("--psu-watts", "1600", "--cpu-watts", "280")


@dataclass(frozen=True, slots=True)
class Rigged:
    """A machine as a folder, and folders of its owner's."""

    environment: dict[str, str]

    @property
    def folders(self) -> Folders:
        """Where its settings are."""
        return Folders.from_environment(self.environment)

    def init(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run it; nobody can be asked."""
        command = [str(BIN / "tinybox"), "init", *words]
        return subprocess.run(
            command, env=self.environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60,
            check=False,
        )  # fmt: skip

    def refused(self, *words: str) -> str:
        """It fails with two lines at the end, and writes nothing; those lines."""
        done = self.init(*words)
        assert done.returncode == 1, done.stdout
        assert done.stdout == ""
        assert not self.folders.config.exists() and not list(self.folders.boxes.glob("*"))
        return "\n".join(done.stderr.splitlines()[-2:])


def rigged(root: Path, tmp_path: Path) -> Rigged:
    places = {"TINYBOX_CONFIG": "etc/config.toml", "TINYBOX_RUN_DIR": "run", "TINYBOX_STATE_DIR": "state"}
    own = {key: str(tmp_path / value) for key, value in places.items()}
    return Rigged({**CLEAN, **own, "TINYBOX_ROOT": str(root)})


def device(host: Host, index: int) -> Path:
    return host.root / DEVICES / RED.gpu.slots[index]


def become(host: Host, pci_id: str, *indices: int) -> None:
    """These cards are of another kind; where it is not AMD's they have none of its files."""
    vendor, model = pci_id.split(":")
    for index in indices:
        (device(host, index) / "vendor").write_text(f"0x{vendor}\n")
        (device(host, index) / "device").write_text(f"0x{model}\n")
        if vendor != "1002":
            shutil.rmtree(device(host, index) / "hwmon")
            (device(host, index) / "pp_od_clk_voltage").unlink()
            (device(host, index) / "pp_dpm_sclk").unlink()


def without_meters(host: Host) -> None:
    """No controller, and no supply that speaks."""
    for path in (host.root / "commands").glob("ipmitool*"):
        path.unlink()
    shutil.rmtree(host.root / "sys/devices/platform/i2c-twin")


def test_a_known_box_is_recognised_and_only_its_circuit_is_asked(tmp_path: Path) -> None:
    rig = rigged(RECORDED, tmp_path)
    assert "say it with --outlet" in rig.refused("--yes")
    done = rig.init("--yes", "--outlet", "120V/20A")
    assert done.returncode == 0, done.stderr
    assert "0000:a3:00.0  1002:744c" in done.stderr and "BMC with 6 fans" in done.stderr and "nvme4" in done.stderr
    assert done.stdout == f"box red, 16.0 A promised: written to {rig.folders.config}\n"
    config = load_config(rig.folders.config)
    assert (config.box, config.circuit.outlet, config.bmc.interface) == ("red", "120V/20A", "open")
    assert not rig.folders.boxes.exists()


def test_a_foreign_rig_gets_a_box_of_its_own_from_what_its_cards_say(copy: Host, tmp_path: Path) -> None:
    become(copy, "1002:7550", 0, 1, 2)
    for index in (3, 4, 5):
        device(copy, index).unlink()
    rig = rigged(copy.root, tmp_path)
    assert "say it with --cpu-watts" in rig.refused("--yes", "--outlet", "120V/15A")
    done = rig.init("--yes", "--json", "--outlet", "230V/16A", "--name", "den", *WATTS)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert (document["box"], document["is_known"], document["can_be_governed"]) == ("den", False, True)
    box = load_box("den", rig.folders.boxes)
    assert box.gpu.slots == RED.gpu.slots[:3]
    assert (box.gpu.pci_id, box.gpu.cap_min_w, box.gpu.cap_max_w) == ("1002:7550", 261.0, 333.0)
    assert box.gpu.board_power_max_w == pytest.approx(333.0 / RED.gpu.socket_to_board_min, abs=0.1)
    assert box.gpu.clock_table_margin > RED.gpu.clock_table_margin
    assert (box.psu.count, box.psu.rated_w, box.cpu.power_max_w, box.storage.data_drives) == (2, 1600.0, 280.0, 0)
    config = load_config(rig.folders.config)
    assert (config.circuit.volts, config.circuit.amps) == (230.0, 16.0)
    again = rigged(copy.root, tmp_path / "again")
    shutil.copytree(rig.folders.boxes, again.folders.boxes)
    assert again.init("--yes", "--outlet", "230V/16A").stdout.startswith("box den, ")


def test_without_bmc_and_supplies_that_speak_their_number_is_asked(copy: Host, tmp_path: Path) -> None:
    without_meters(copy)
    rig = rigged(copy.root, tmp_path)
    asked = ("--yes", "--outlet", "120V/15A", *WATTS)
    assert "say it with --psu-count" in rig.refused(*asked)
    done = rig.init(*asked, "--psu-count", "1")
    assert done.returncode == 0, done.stderr
    assert "no BMC answers" in done.stderr and "none has a sensor" in done.stderr
    box = load_box("rig", rig.folders.boxes)
    assert (box.psu.count, box.fans.count, box.gpu.name) == (1, 0, RED.gpu.name)
    assert load_config(rig.folders.config).bmc.interface == "none"


def test_of_mixed_cards_those_that_can_be_governed_are_and_the_others_count_as_load(copy: Host, tmp_path: Path) -> None:
    become(copy, "1ed5:0222", 0, 1, 2, 3)
    rig = rigged(copy.root, tmp_path)
    asked = ("--yes", "--outlet", "120V/15A", *WATTS)
    assert "say it with --other-watts" in rig.refused(*asked)
    done = rig.init(*asked, "--other-watts", "1800")
    assert done.returncode == 0, done.stderr
    assert "0000:03:00.0  1ed5:0222: unknown, which nobody governs" in done.stderr
    box = load_box("rig", rig.folders.boxes)
    assert box.gpu.slots == RED.gpu.slots[4:]
    assert box.rest.power_max_w == RED.rest.power_max_w + 1800.0


def test_cards_of_another_maker_are_written_down_as_theirs(copy: Host, tmp_path: Path) -> None:
    become(copy, "10de:1234", *range(6))
    rig = rigged(copy.root, tmp_path)
    asked = ("--yes", "--outlet", "120V/15A", "--json", *WATTS)
    assert "say it with --gpu-watts" in rig.refused(*asked)
    done = rig.init(*asked, "--gpu-watts", "350")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["can_be_governed"] is True
    assert load_box("rig", rig.folders.boxes).gpu.vendor == "nvidia"


def test_no_card_at_all_is_one_clear_error(copy: Host, tmp_path: Path) -> None:
    for slot in RED.gpu.slots:
        (copy.root / DEVICES / slot).unlink()
    assert "no graphics card on the PCI bus" in rigged(copy.root, tmp_path).refused("--yes", "--outlet", "120V/15A")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--outlet", "12V/15A"), "'12V/15A' is no outlet"),
        (("--outlet", "lots"), "'lots' is no outlet"),
        (("--box", "mauve", "--outlet", "120V/15A"), "no box is called 'mauve'"),
    ],
)
def test_what_cannot_be_meant_is_refused(tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    assert said in rigged(RECORDED, tmp_path).refused("--yes", *words)


def test_a_new_box_takes_no_name_of_the_suites_and_no_path(copy: Host, tmp_path: Path) -> None:
    become(copy, "1002:7550", *range(6))
    for name in ("red", "../red", ""):
        said = rigged(copy.root, tmp_path).refused("--yes", "--outlet", "120V/15A", "--name", name, *WATTS)
        assert f"cannot be called '{name}'" in said


def test_settings_that_are_there_are_never_overwritten_unasked(tmp_path: Path) -> None:
    rig = rigged(RECORDED, tmp_path)
    rig.folders.config.parent.mkdir()
    rig.folders.config.write_text('box = "blue"\n')
    for words in (("--yes", "--outlet", "120V/15A"), ("--outlet", "120V/15A")):
        done = rig.init(*words)
        assert done.returncode == 1
        assert len(done.stderr.splitlines()) >= 2
    assert '-box = "blue"\n+box = "red"' in done.stderr
    assert f"{rig.folders.config} exists, and --yes overwrites nothing" in rig.init("--yes").stderr
    assert rig.folders.config.read_text() == 'box = "blue"\n'


def test_a_person_is_asked_and_answers_again_after_a_mistake(tmp_path: Path) -> None:
    rig = rigged(RECORDED, tmp_path)
    leader, follower = pty.openpty()
    os.write(leader, b"banana\n240V/30A\n")
    command = [str(BIN / "tinybox"), "init"]
    done = subprocess.run(
        command, env=rig.environment, stdin=follower, capture_output=True, text=True, timeout=60, check=False
    )
    os.close(leader)
    os.close(follower)
    assert done.returncode == 0, done.stderr
    assert "'banana' is no outlet" in done.stderr
    assert load_config(rig.folders.config).circuit.outlet == "240V/30A"


def on_mount(rig: Rigged, options: str) -> subprocess.CompletedProcess[str]:
    """`init` where its settings lie on a file system of a namespace of its own."""
    folder = rig.folders.config.parent
    folder.mkdir()
    script = (
        f"mount -t tmpfs -o {options} none {folder} && "
        f"{{ head -c 1M /dev/zero >{folder}/full; {BIN}/tinybox init --yes --outlet 230V/16A {' '.join(WATTS)}; "
        f"code=$?; ls -A {folder} {folder}/boxes; exit $code; }}"
    )
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script]
    return subprocess.run(command, env=rig.environment, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(
    ("options", "said", "left"), [("size=4k", "no space left on device", ["full"]), ("ro", "read-only file system", [])]
)
def test_a_full_or_read_only_etc_is_one_clear_line_and_nothing_half_written(
    copy: Host, tmp_path: Path, options: str, said: str, left: list[str]
) -> None:
    become(copy, "1002:7550", *range(6))
    done = on_mount(rigged(copy.root, tmp_path), options)
    assert done.returncode == 1
    assert f": {said}" in done.stderr
    assert "nothing was written" in done.stderr
    assert not [line for line in done.stdout.splitlines() if line.endswith((".toml",)) or line.startswith(".")]
    assert all(name in done.stdout for name in left)


@pytest.mark.twin
def test_a_twin_is_recognised_too(shared_twin: Rig, tmp_path: Path) -> None:
    environment = {**shared_twin.environment, "TINYBOX_CONFIG": str(tmp_path / "etc/config.toml")}
    done = Rigged(environment).init("--yes", "--outlet", "120V/15A")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("box red, 12.0 A promised")
    taken = Rigged(shared_twin.environment).init("--yes", "--outlet", "120V/15A")
    assert taken.returncode == 1 and "exists, and --yes overwrites nothing" in taken.stderr
