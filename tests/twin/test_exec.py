"""Programs that know nothing of tinybox see the twin's devices, and nothing of it is seen outside or stays."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.conftest import BIN, PATIENCE_S, Rig, start_twin
from tests.nvtop import nvtop
from tinybox.core.box import load_box
from tinybox.twin import control
from tinybox.twin.files import folder_of
from tinybox.twin.place import Place

pytestmark = pytest.mark.twin
SLOTS = load_box("red").gpu.slots
CHIPS = [f"amdgpu-pci-{slot[5:7]}00" for slot in SLOTS]
LINKS_UP = "import psutil; print(*(name for name, now in psutil.net_if_stats().items() if now.isup))"
# libudev is a part of every system that we run on; its bindings are not.
LIST_DEVICES = """
import ctypes, sys
udev = ctypes.CDLL("libudev.so.1")
for name in ("udev_new", "udev_enumerate_new", "udev_enumerate_get_list_entry", "udev_list_entry_get_next"):
    getattr(udev, name).restype = ctypes.c_void_p
udev.udev_list_entry_get_name.restype = ctypes.c_char_p
wanted = ctypes.c_void_p(udev.udev_enumerate_new(ctypes.c_void_p(udev.udev_new())))
udev.udev_enumerate_add_match_subsystem(wanted, sys.argv[1].encode())
udev.udev_enumerate_scan_devices(wanted)
entry = udev.udev_enumerate_get_list_entry(wanted)
while entry:
    print(udev.udev_list_entry_get_name(ctypes.c_void_p(entry)).decode())
    entry = udev.udev_list_entry_get_next(ctypes.c_void_p(entry))
"""


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """A twin in a folder with a space, card 1 at work."""
    rig = start_twin(tmp_path_factory.mktemp("twin") / "a twin")
    try:
        rig.call("twin", "load", "gpu/1", "100")
        rig.wait_for(lambda: float(rig.truth()["gpus"][1]["fan_rpm"]) > 300)
        yield rig
    finally:
        rig.run("twin", "down")


def words(*command: str) -> list[str]:
    return [str(BIN / "tinybox"), "twin", "exec", "--", *command]


def inside(rig: Rig, *command: str, given: str | None = None) -> str:
    """What a program says inside; it has to succeed."""
    done = subprocess.run(
        words(*command), env=rig.environment, capture_output=True, text=True, timeout=60, check=False, input=given
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def start(rig: Rig, *command: str) -> subprocess.Popen[str]:
    """A program inside that has said its first line."""
    pipe = subprocess.PIPE
    process = subprocess.Popen(words(*command), env=rig.environment, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def outside() -> tuple[str, dict[str, list[str]]]:
    """Everything mounted here, and what the twin's folders of /sys hold."""
    folders = ("class", "class/hwmon", "class/drm", "devices", "devices/pci0000:00", "bus/pci/devices")
    seen = {name: sorted(p.name for p in (Path("/sys") / name).glob("*")) for name in folders}
    return Path("/proc/self/mountinfo").read_text(), seen


def lies_between(value: float, before: float, after: float, *, margin: float) -> bool:
    return min(before, after) - margin <= value <= max(before, after) + margin


def chips_of(rig: Rig) -> dict[str, Any]:
    loaded = json.loads(inside(rig, "sensors", "-j"))
    assert isinstance(loaded, dict)
    return loaded


def test_sensors_tells_what_the_plant_does(rig: Rig) -> None:
    before, chips, after = rig.truth(), chips_of(rig), rig.truth()
    assert {*CHIPS, "k10temp-pci-00c3", "pmbus-i2c-0-58", "pmbus-i2c-0-59"} <= set(chips)
    for name, first, last in zip(CHIPS, before["gpus"], after["gpus"], strict=True):
        chip = chips[name]
        assert lies_between(chip["edge"]["temp1_input"], first["edge_c"], last["edge_c"], margin=0.5)
        assert lies_between(chip["junction"]["temp2_input"], first["junction_c"], last["junction_c"], margin=0.5)
        assert lies_between(chip["fan1"]["fan1_input"], first["fan_rpm"], last["fan_rpm"], margin=20)
        assert chip["PPT"]["power1_cap"] == first["cap_w"]
    assert chips[CHIPS[1]]["fan1"]["fan1_input"] > 300
    supplies_w = sum(chips[f"pmbus-i2c-0-{n}"]["pin"]["power1_input"] for n in (58, 59))
    assert lies_between(supplies_w, before["wall_w"], after["wall_w"], margin=0.05 * after["wall_w"])


def test_psutil_sees_the_cards(rig: Rig) -> None:
    script = "import json, psutil; print(json.dumps([psutil.sensors_temperatures(), psutil.sensors_fans()]))"
    before = rig.truth()
    temperatures, fans = json.loads(inside(rig, sys.executable, "-c", script))
    after = rig.truth()
    junctions_c = [current for label, current, *_ in temperatures["amdgpu"] if label == "junction"]
    assert len(junctions_c) == len(fans["amdgpu"]) == 6
    for value, first, last in zip(junctions_c, before["gpus"], after["gpus"], strict=True):
        assert lies_between(value, first["junction_c"], last["junction_c"], margin=0.5)


def test_nvtop_shows_the_cards(rig: Rig) -> None:
    before = rig.truth()
    cards = nvtop(rig)
    after = rig.truth()
    assert [card["device_name"] for card in cards] == 6 * ["AMD Radeon RX 7900 XTX"]
    assert [card["gpu_util"] for card in cards] == ["0%", "100%", "0%", "0%", "0%", "0%"]
    for card, first, last in zip(cards, before["gpus"], after["gpus"], strict=True):
        assert lies_between(float(card["temp"].rstrip("C")), first["edge_c"], last["edge_c"], margin=1.0)
        # amdgpu tells the chip's watts, about five in six of the board's.
        assert 0.75 * first["board_w"] - 2 < float(card["power_draw"].rstrip("W")) < last["board_w"] + 2
    assert int(cards[1]["fan_speed"].rstrip("%")) > 5


def test_a_library_that_dies_costs_its_answer_and_nothing_else(rig: Rig) -> None:
    dies = "from tinybox.hw.libraries import answer; answer('amd', ())"
    assert rig.run("twin", "exec", "--", sys.executable, "-c", dies).returncode != 0, "nodes that nobody can ask"
    asks = "from pathlib import Path; from tinybox.hw.host import Host; from tinybox.hw.libraries import ask_library;"
    asks += f"print(ask_library(Host(Path('/'), frozenset()), 'amd', ({SLOTS[0]!r},)))"
    assert inside(rig, sys.executable, "-c", asks) == "{}\n"


def test_terminals_can_be_opened(rig: Rig) -> None:
    script = "import os, pty; print(os.ttyname(pty.openpty()[1]))"
    assert inside(rig, sys.executable, "-c", script).startswith("/dev/pts/")


def test_libudev_lists_the_twins_devices_and_the_machines(rig: Rig) -> None:
    def listed(subsystem: str) -> list[str]:
        return inside(rig, sys.executable, "-c", LIST_DEVICES, subsystem).splitlines()

    cards = [folder_of(slot) for slot in SLOTS]
    assert {f"{card}/drm/card{i}" for i, card in enumerate(cards)} <= set(listed("drm"))
    assert {f"{card}/hwmon/hwmon{i}" for i, card in enumerate(cards)} <= set(listed("hwmon"))
    assert set(cards) <= set(listed("pci"))
    assert "/sys/devices/virtual/net/lo" in listed("net")


def test_lspci_names_the_cards(rig: Rig) -> None:
    lines = inside(rig, "lspci", "-D", "-n").splitlines()
    assert [line for line in lines if line.endswith("1002:744c (rev c8)")] == [
        f"{slot} 0300: 1002:744c (rev c8)" for slot in SLOTS
    ]
    config = inside(rig, "od", "-v", "-An", "-tx1", f"/sys/bus/pci/devices/{SLOTS[0]}/config").split()
    assert " ".join(config[:4]) == "02 10 4c 74"
    assert " ".join(config[44:48]) == "a2 1d 71 e4"
    assert len(config) == 64


def test_what_a_program_writes_reaches_the_plant(rig: Rig) -> None:
    inside(rig, "sh", "-c", f"echo 300000000 > /sys/bus/pci/devices/{SLOTS[4]}/hwmon/hwmon4/power1_cap")
    assert rig.truth()["gpus"][4]["cap_w"] == 300
    refused = rig.run("twin", "exec", "--", "sh", "-c", "echo 1 > /sys/class/hwmon/hwmon4/power1_cap")
    assert refused.returncode != 0
    assert rig.truth()["gpus"][4]["cap_w"] == 300


def test_the_real_sys_is_still_there(rig: Rig) -> None:
    for name in ("class", "class/net", "bus", "bus/pci/devices", "devices", "devices/virtual", "fs", "module"):
        real = {path.name for path in (Path("/sys") / name).iterdir()}
        assert real <= set(inside(rig, "ls", "-A", f"/sys/{name}").split()), name
    assert inside(rig, "stat", "-f", "-c", "%T", "/sys") == "sysfs\n"
    assert inside(rig, "cat", "/sys/class/net/lo/address") == Path("/sys/class/net/lo/address").read_text()


def test_nothing_leaks_out_while_it_runs_and_nothing_stays(rig: Rig) -> None:
    before = outside()
    first, second = (start(rig, "sh", "-c", "echo ready; read line; sensors") for _ in range(2))
    assert outside() == before
    for process in (first, second):
        said, complaint = process.communicate("go\n", timeout=PATIENCE_S)
        assert all(chip in said for chip in CHIPS), complaint
    killed = start(rig, "sh", "-c", "echo ready; read line")
    killed.kill()
    killed.communicate(timeout=PATIENCE_S)
    assert killed.returncode == -signal.SIGKILL
    assert outside() == before


def test_mounts_do_not_propagate_to_a_machine_that_shares_them(rig: Rig) -> None:
    # As systemd sets machines up; this one need not be.
    script = 'cd /proc/self; before=$(cat mountinfo); "$@" && test "$before" = "$(cat mountinfo)"'
    command = ["unshare", "--mount", "--propagation", "shared", "bash", "-c", script, "bash"]
    program = words("sh", "-c", 'test "$(cat /proc/$PPID/mountinfo)" != "$(cat /proc/self/mountinfo)"')
    assert subprocess.run([*command, *program], env=rig.environment, timeout=60, check=False).returncode == 0


def test_a_program_started_inside_sys_or_in_a_removed_folder_runs(rig: Rig, tmp_path: Path) -> None:
    for place in ("cd /sys/class", f"mkdir '{tmp_path}/gone'; cd '{tmp_path}/gone'; rmdir '{tmp_path}/gone'"):
        command = ["sh", "-c", f'{place} && exec "$@"', "sh", *words("sh", "-c", "ls -d hwmon; true")]
        done = subprocess.run(command, env=rig.environment, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        assert done.stdout == ("hwmon\n" if "class" in place else "")


def test_its_network_is_a_loopback_of_its_own(rig: Rig) -> None:
    assert inside(rig, sys.executable, "-c", LINKS_UP) == "lo\n"
    kept = rig.run("twin", "exec", "--host-network", "--", "readlink", "/proc/self/ns/net", "/proc/self/ns/mnt")
    network, mounts = kept.stdout.split()
    assert network == str(Path("/proc/self/ns/net").readlink())
    assert mounts != str(Path("/proc/self/ns/mnt").readlink())


def test_input_output_signals_and_status_are_the_programs_own(rig: Rig) -> None:
    assert inside(rig, "cat", given="through and through\n") == "through and through\n"
    assert rig.run("twin", "exec", "--", "sh", "-c", "echo wrong >&2; exit 7").returncode == 7
    shell = f"'{BIN}/tinybox' twin exec -- sh -c 'kill -KILL $$'; exit $?"
    assert subprocess.run(["sh", "-c", shell], env=rig.environment, check=False).returncode == 128 + signal.SIGKILL
    process = start(rig, "sh", "-c", "trap 'echo caught; exit 3' TERM; echo ready; read line")
    process.terminate()
    said, _ = process.communicate(timeout=PATIENCE_S)
    assert (said, process.returncode) == ("caught\n", 3)
    ignored = int(inside(rig, "grep", "SigIgn", "/proc/self/status").split()[1], 16)
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores these for itself
        assert not ignored & 1 << (number - 1)


def test_the_environment_is_ours_and_the_twins(rig: Rig) -> None:
    pairs = dict(line.split("=", 1) for line in inside(rig, "env", "-0").split("\0") if line)
    assert pairs["SYSTEMD_DEVICE_VERIFY_SYSFS"] == "0"
    assert pairs["HOME"] == rig.environment["HOME"]
    ours = {key: value for key, value in rig.environment.items() if key.startswith("TINYBOX_")}
    assert {key: pairs[key] for key in ours} == {**ours, "TINYBOX_LIVE": f"{ours['TINYBOX_LIVE']},udev"}


@pytest.mark.parametrize(
    ("call", "status", "said"),
    [
        (("--", "no-such-program"), 127, "tinybox: cannot run 'no-such-program': No such file or directory"),
        (("--", "/etc/passwd"), 126, "tinybox: cannot run '/etc/passwd': Permission denied"),
        (("--",), 2, "Missing argument"),
        ((), 2, "Missing argument"),
    ],
)
def test_what_cannot_be_run_is_said_in_one_line(rig: Rig, call: tuple[str, ...], status: int, said: str) -> None:
    done = rig.run("twin", "exec", *call)
    assert (done.returncode, done.stdout) == (status, "")
    assert said in done.stderr.splitlines()[-1]


def test_an_ordinary_user_gets_a_user_namespace(rig: Rig) -> None:
    user = ["unshare", "--user", "--map-user=1000", "--map-group=1000"]
    seen = ["sh", "-c", f"id -u; cat /sys/class/hwmon/hwmon5/name; '{sys.executable}' -c '{LINKS_UP}'"]
    done = subprocess.run(
        [*user, *words(*seen)], env=rig.environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["1000", "amdgpu", "lo"]


def test_where_the_kernel_refuses_two_lines_say_so(rig: Rig) -> None:
    forbid = 'echo 0 > /proc/sys/user/max_mnt_namespaces; exec "$@"'
    command = ["unshare", "--user", "--map-root-user", "sh", "-c", forbid, "sh", *words("echo", "never")]
    done = subprocess.run(command, env=rig.environment, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "cannot make the twin's namespaces" in done.stderr.splitlines()[0]
    assert len(done.stderr.splitlines()) == 2


def test_a_twin_in_a_virtual_machine_leaves_the_machines_drives_alone(tmp_path: Path) -> None:
    rig = Rig(tmp_path, {**os.environ, "TINYBOX_TWIN_DIR": str(tmp_path / "twin")})
    rig.call("twin", "up", "--real-storage")
    try:
        real = sorted(path.name for path in Path("/sys/block").iterdir())
        assert sorted(inside(rig, "ls", "/sys/block").split()) == real
        assert sorted(inside(rig, "ls", "/sys/class/hwmon").split())[0] == "hwmon0"
        assert ("nvme" in inside(rig, "ls", "/sys/class").split()) == Path("/sys/class/nvme").exists()
    finally:
        rig.call("twin", "down")


def test_a_card_that_goes_while_a_program_is_inside_takes_its_files_with_it(rig: Rig) -> None:
    look = "cat /sys/class/hwmon/hwmon3/name 2>&1; "
    process = start(rig, "sh", "-c", f"echo ready; read line; {look} echo; read line; {look}")
    try:
        rig.call("twin", "fault", "add", "gpu/3:gone")
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write("go\n")
        process.stdin.flush()
        assert "No such" in process.stdout.readline()
        assert CHIPS[3] not in chips_of(rig)
    finally:
        rig.call("twin", "fault", "clear", "gpu/3:gone")
    said, _ = process.communicate("go\n", timeout=PATIENCE_S)
    assert said.strip() == "amdgpu"


def test_a_twin_ends_though_a_program_is_still_inside(twin: Rig) -> None:
    process = start(twin, "sh", "-c", "echo ready; read line; cat /sys/class/hwmon/hwmon0/name")
    place = Place(twin.folder)
    server = psutil.Process(int(place.pid_file.read_text()))
    control.ask(place, {"do": "stop"})
    twin.wait_for(lambda: not server.is_running() or server.status() == psutil.STATUS_ZOMBIE)
    assert str(twin.folder) not in Path("/proc/self/mounts").read_text()
    said, complaint = process.communicate("go\n", timeout=PATIENCE_S)
    assert (said, process.returncode) == ("", 1)
    assert "Transport endpoint is not connected" in complaint


def test_without_a_twin_or_with_a_dead_one_the_answer_names_twin_up(twin: Rig, tmp_path: Path) -> None:
    place = Place(twin.folder)
    psutil.Process(int(place.pid_file.read_text())).kill()
    twin.wait_for(lambda: control.server_pid(place) is None)
    none = Rig(tmp_path, {**os.environ, "TINYBOX_TWIN_DIR": str(tmp_path / "none")})
    for rig in (twin, none):
        done = rig.run("twin", "exec", "--", "true")
        assert (done.returncode, done.stdout) == (1, "")
        assert "tinybox twin up" in done.stderr
        assert len(done.stderr.splitlines()) == 2
