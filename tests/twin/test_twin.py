"""The twin as other programs see it: real files, a real BMC, and nothing left when it goes."""

import json
import os
from pathlib import Path

import psutil
import pytest

from tests.conftest import Rig, start_twin
from tinybox.core.box import load_box
from tinybox.hw.host import Host
from tinybox.hw.work import WorkDriver

pytestmark = pytest.mark.twin
RED = load_box("red")


def gpu_folder(rig: Rig, index: int) -> Path:
    return Path(rig.environment["TINYBOX_ROOT"]) / "sys/bus/pci/devices" / RED.gpu.slots[index]


def hwmon(rig: Rig, index: int) -> Path:
    return next((gpu_folder(rig, index) / "hwmon").iterdir())


def test_the_layout_is_the_kernels(shared_twin: Rig) -> None:
    card = gpu_folder(shared_twin, 0)
    assert (card / "vendor").read_text() == "0x1002\n"
    assert (card / "driver").resolve().name == "amdgpu"
    chip = hwmon(shared_twin, 0)
    assert (chip / "device").resolve() == card.resolve()
    root = Path(shared_twin.environment["TINYBOX_ROOT"])
    assert (root / "sys/class/hwmon" / chip.name).resolve() == chip.resolve()
    assert (root / "sys/class/drm/card0/device").resolve() == card.resolve()
    assert all(entry.is_file(follow_symlinks=False) for entry in os.scandir(chip) if entry.name.startswith("temp"))


def test_a_written_cap_changes_the_plant(shared_twin: Rig) -> None:
    shared_twin.call("twin", "load", "gpu/1", "100")
    shared_twin.wait_for(lambda: float(shared_twin.truth()["gpus"][1]["board_w"]) > 300)
    (hwmon(shared_twin, 1) / "power1_cap").write_text("261000000")
    shared_twin.wait_for(lambda: float(shared_twin.truth()["gpus"][1]["board_w"]) < 261 / 0.82)
    shared_twin.call("twin", "load", "gpu/1", "0")


@pytest.mark.parametrize("text", ["150000000", "900000000", "lots"])
def test_a_cap_outside_the_cards_range_is_refused_as_amdgpu_does(shared_twin: Rig, text: str) -> None:
    with pytest.raises(OSError, match="Invalid argument"):
        (hwmon(shared_twin, 2) / "power1_cap").write_text(text)


def test_a_card_that_is_gone_takes_its_files_with_it(shared_twin: Rig) -> None:
    with (hwmon(shared_twin, 3) / "power1_average").open() as kept:
        shared_twin.call("twin", "fault", "add", "gpu/3:gone")
        assert not gpu_folder(shared_twin, 3).exists()
        with pytest.raises(OSError, match="No such device"):
            kept.read()
    shared_twin.call("twin", "fault", "clear", "gpu/3:gone")
    assert gpu_folder(shared_twin, 3).exists()


def test_a_stuck_sensor_keeps_its_value_and_an_unreadable_one_has_none(shared_twin: Rig) -> None:
    shared_twin.call("twin", "fault", "add", "gpu/4:power-stuck")
    shared_twin.call("twin", "fault", "add", "gpu/4:junction-unreadable")
    before = (hwmon(shared_twin, 4) / "power1_average").read_text()
    shared_twin.call("twin", "load", "gpu/4", "100")
    shared_twin.wait_for(lambda: float(shared_twin.truth()["gpus"][4]["board_w"]) > 300)
    assert (hwmon(shared_twin, 4) / "power1_average").read_text() == before
    with pytest.raises(OSError, match="Input/output error"):
        (hwmon(shared_twin, 4) / "temp2_input").read_text()
    shared_twin.call("twin", "load", "gpu/4", "0")
    shared_twin.call("twin", "fault", "clear")
    listed = json.loads(shared_twin.call("twin", "fault", "list", "--json"))["faults"]
    assert [fault["id"] for fault in listed if fault["active"]] == []


def root_of(rig: Rig) -> Path:
    return Path(rig.environment["TINYBOX_ROOT"])


def programs(rig: Rig) -> dict[str, psutil.Process]:
    """The processes that the twin's machine shows, by the node that each holds."""
    folders = [entry for entry in (root_of(rig) / "proc").iterdir() if entry.name.isdecimal()]
    return {str((folder / "fd/3").readlink()): psutil.Process(int(folder.name)) for folder in folders}


def figure(rig: Rig, index: int, name: str) -> float:
    return float(rig.truth()["gpus"][index][name])


def test_a_loaded_card_is_held_by_a_real_process(shared_twin: Rig) -> None:
    shared_twin.call("twin", "load", "gpu/2", "100", "--kind", "decode")
    assert shared_twin.truth()["gpus"][2]["work_kind"] == "decode"
    process = programs(shared_twin)["/dev/dri/renderD130"]
    shown = root_of(shared_twin) / f"proc/{process.pid}"
    assert (shown / "comm").read_text() == f"{process.name()}\n"
    assert (shown / "stat").read_text().split()[0] == str(process.pid)
    shared_twin.call("twin", "load", "gpu/2", "50")
    assert programs(shared_twin)["/dev/dri/renderD130"] == process
    shared_twin.call("twin", "load", "gpu/2", "0")
    assert programs(shared_twin) == {}
    assert not process.is_running()


def test_a_program_that_is_stopped_idles_its_card_and_one_that_ends_frees_it(shared_twin: Rig) -> None:
    shared_twin.call("twin", "load", "gpu/5", "100")
    shared_twin.wait_for(lambda: figure(shared_twin, 5, "board_w") > 250)
    driver = WorkDriver(Host(root_of(shared_twin)), shared_twin.folder / "frozen")
    driver.freeze()
    shared_twin.wait_for(lambda: figure(shared_twin, 5, "board_w") < 30 and driver.is_frozen)
    assert figure(shared_twin, 5, "load_pct") == 100
    driver.thaw()
    shared_twin.wait_for(lambda: figure(shared_twin, 5, "board_w") > 250)
    driver.end()
    shared_twin.wait_for(lambda: figure(shared_twin, 5, "load_pct") == 0 and not programs(shared_twin))


def test_something_else_on_the_circuit_is_shown(shared_twin: Rig) -> None:
    shared_twin.call("twin", "other-load", "4.5")
    assert shared_twin.truth()["other_a"] == 4.5
    shared_twin.call("twin", "other-load", "0")


def test_shutting_the_machine_down_takes_everything_with_it(twin: Rig) -> None:
    twin.call("twin", "load", "gpu/all", "100")
    twin.wait_for(lambda: float(twin.truth()["wall_w"]) > 1000)
    WorkDriver(Host(root_of(twin))).power_off()
    twin.wait_for(lambda: float(twin.truth()["wall_w"]) == 0 and not programs(twin))


def test_a_killed_twin_takes_its_programs_with_it_stopped_or_not(twin: Rig) -> None:
    twin.call("twin", "load", "gpu/0", "100")
    twin.call("twin", "load", "gpu/1", "100")
    running, stopped = programs(twin).values()
    stopped.suspend()
    twin.wait_for(lambda: any(gpu["is_frozen"] for gpu in twin.truth()["gpus"]))
    psutil.Process(int((twin.folder / "twin.pid").read_text())).kill()
    twin.wait_for(lambda: not running.is_running() and not stopped.is_running())


def test_a_seed_makes_another_box_of_the_same_kind(tmp_path: Path) -> None:
    watts = []
    for seed in ((), ("--seed", "0"), ("--seed", "0")):
        rig = Rig(tmp_path / "twin", {**os.environ, "TINYBOX_TWIN_DIR": str(tmp_path / "twin")})
        rig.call("twin", "up", *seed)
        try:
            watts.append([gpu["board_w"] for gpu in rig.truth()["gpus"]])
        finally:
            rig.call("twin", "down")
    assert watts[0] != watts[1] == watts[2]


BAD = [
    (("twin", "load", "gpu/9", "50"), "no 'gpu/9'"),
    (("twin", "load", "gpu/0", "150"), "150 %"),
    (("twin", "other-load", "200"), "200 A"),
    (("twin", "fault", "add", "gpu/0:bored"), "no fault is called"),
    (("twin", "up", "--box", "red"), "already runs"),
    (("twin", "up", "--box", "mauve"), "no box is called 'mauve'"),
]


@pytest.mark.parametrize(("words", "said"), BAD)
def test_wrong_calls_get_one_line_and_a_hint(shared_twin: Rig, words: tuple[str, ...], said: str) -> None:
    done = shared_twin.run(*words)
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    assert said in lines[0]
    assert len(lines) == 2


def test_two_twins_do_not_meet_and_leave_nothing(tmp_path: Path) -> None:
    first, second = start_twin(tmp_path / "a"), start_twin(tmp_path / "b")
    try:
        first.call("twin", "load", "gpu/0", "100")
        first.wait_for(lambda: float(first.truth()["gpus"][0]["board_w"]) > 300)
        assert second.truth()["gpus"][0]["board_w"] < 30
    finally:
        for rig in (first, second):
            rig.call("twin", "down")
    assert not list(tmp_path.iterdir())
    assert str(tmp_path) not in Path("/proc/self/mounts").read_text()
    folders = [str(tmp_path / "a"), str(tmp_path / "b")]
    for process in psutil.process_iter():
        try:
            words, cwd = process.cmdline(), process.cwd()
        except psutil.Error:
            continue
        assert not any(folder in words or cwd.startswith(folder) for folder in folders)


def test_a_killed_twin_can_be_started_again(twin: Rig) -> None:
    pid = int((twin.folder / "twin.pid").read_text())
    psutil.Process(pid).kill()
    twin.wait_for(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    assert twin.run("twin", "status").returncode == 1
    twin.call("twin", "up", "--box", "red")
    assert twin.truth()["breaker_tripped"] is False


def test_without_a_twin_the_answer_is_one_line(tmp_path: Path) -> None:
    rig = Rig(tmp_path, {**os.environ, "TINYBOX_TWIN_DIR": str(tmp_path / "none")})
    for words in (("twin", "status"), ("twin", "env"), ("twin", "down"), ("twin", "load", "gpu/0", "1")):
        done = rig.run(*words)
        assert done.returncode == 1
        assert "tinybox twin up" in done.stderr
