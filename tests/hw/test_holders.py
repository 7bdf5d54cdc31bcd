"""Who holds a card, by the links below /proc of a machine made of files."""

from pathlib import Path

from tinybox.hw.holders import EVERY_S, HolderDriver
from tinybox.hw.host import Host

CARDS = {"gpu/0": ("0000:03:00.0", "amd"), "gpu/1": ("0000:23:00.0", "amd"), "gpu/2": ("0000:43:00.0", "nvidia")}


def process(root: Path, pid: int, name: str, *files: str, state: str = "S") -> None:
    folder = root / f"proc/{pid}"
    (folder / "fd").mkdir(parents=True)
    fields = [state, *["0"] * 18, "77", *["0"] * 20]
    (folder / "stat").write_text(f"{pid} ({name}) {' '.join(fields)}\n")
    (folder / "comm").write_text(f"{name}\n")
    for number, file in enumerate(files):
        (folder / "fd" / str(number)).symlink_to(file)


def machine(root: Path) -> Path:
    for address, node in (("0000:03:00.0", "renderD128"), ("0000:23:00.0", "renderD129")):
        (root / f"sys/bus/pci/devices/{address}/drm/{node}").mkdir(parents=True)
    minor = root / "proc/driver/nvidia/gpus/0000:43:00.0/information"
    minor.parent.mkdir(parents=True)
    minor.write_text("Model: \t\t NVIDIA\nDevice Minor: \t 0\n")
    return root


def test_each_program_is_told_with_its_cards_and_its_state(tmp_path: Path) -> None:
    root = machine(tmp_path)
    process(root, 10, "train", "/dev/dri/renderD129", "/dev/null", state="D")
    process(root, 11, "hip", "/dev/kfd")
    process(root, 12, "cuda", "/dev/nvidia0", "/dev/nvidiactl")
    process(root, 13, "shell", "/dev/null", "/dev/dri/renderD200")
    found = HolderDriver(Host(root)).read(0.0, CARDS)
    assert found is not None
    told = {one.name: (one.pid, one.state, one.gpus) for one in found}
    assert told == {
        "train": (10, "D", ("gpu/1",)),
        "hip": (11, "S", ("gpu/0", "gpu/1")),
        "cuda": (12, "S", ("gpu/2",)),
    }


def test_it_looks_now_and_then(tmp_path: Path) -> None:
    root = machine(tmp_path)
    driver = HolderDriver(Host(root))
    assert driver.read(0.0, CARDS) == ()
    process(root, 10, "train", "/dev/dri/renderD128")
    assert driver.read(EVERY_S / 2, CARDS) == ()
    assert [one.name for one in driver.read(EVERY_S, CARDS) or ()] == ["train"]
