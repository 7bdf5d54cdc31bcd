"""Flashing, side by side in one run: ours, `dd` of the raw image, `zstd | dd`, `bmaptool`; each ends with an fsync.

The image is the built one (`make image`) or, where there is none, one of 1.2 GB made here. Targets are files on this
machine's disk, new each time; rounds are interleaved and medians compared, since a disk is not the same from minute to
minute.
"""

import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

from benchmarks.rig import BIN

REPO = Path(__file__).resolve().parent.parent
BUILT = REPO / "build/image/sim/tinybox-sim.raw"
ROUNDS = 5
MIB = 2**20
PROVISION = str(BIN / "tinybox-provision")


def measure() -> None:
    """Make the artefact, run every way some rounds, print the table."""
    with tempfile.TemporaryDirectory(dir=REPO / "build") as folder:
        here = Path(folder)
        image = BUILT if BUILT.exists() else synthetic(here / "image.raw")
        ways = prepare(here, image)
        took: dict[str, list[float]] = {name: [] for name in ways}
        peak_mib: dict[str, float] = {}
        for _ in range(ROUNDS):
            for name, way in ways.items():
                for target in here.glob("target*"):
                    target.unlink()
                os.sync()
                seconds, mib = way()
                took[name].append(seconds)
                peak_mib[name] = max(mib, peak_mib.get(name, 0.0))
    report(image, {name: median(seconds) for name, seconds in took.items()}, peak_mib)


def synthetic(path: Path) -> Path:
    """1.2 GB: a third random, a third that compresses, a third empty."""
    rng = random.Random(1)
    with path.open("wb") as file:
        for _ in range(100):
            file.write(rng.randbytes(4 * MIB))
            file.write(rng.randbytes(MIB) * 4)
            file.seek(4 * MIB, os.SEEK_CUR)
        file.truncate(1200 * MIB)
    return path


def prepare(here: Path, image: Path) -> dict[str, Callable[[], tuple[float, float]]]:
    """Each way by its name: it runs once; seconds, and the peak memory of its largest process in MiB."""
    key, artefact, target = here / "key", here / "image.tbx", here / "target"
    quietly([PROVISION, "keygen", "--out", str(key)])
    began_s = time.monotonic()
    quietly([PROVISION, "pack", str(image), "--key", str(key), "--out", str(artefact)])
    print(f"\npacked in {time.monotonic() - began_s:.1f} s", flush=True)
    ours = [PROVISION, "flash", str(artefact), "--trust", f"{key}.pub", "--yes"]
    dd = f"dd of={target} bs=4M iflag=fullblock oflag=direct conv=fsync status=none"
    ways = {
        "ours, no read-back": lambda: timed([*ours, "--no-verify", str(target)]),
        "ours, read back": lambda: timed([*ours, str(target)]),
        "ours, read back, four targets": lambda: timed([*ours, *(f"{target}{i}" for i in range(4))]),
        "dd of the raw image": lambda: timed(["sh", "-c", f"dd if={image} iflag=direct {dd.removeprefix('dd ')}"]),
        "zstd -dc | dd": lambda: timed(["sh", "-c", f"zstd -dcq {artefact} | {dd}"]),
    }
    if (bmaptool := shutil.which("bmaptool")) is None:
        print("bmaptool is not installed: apt-get install bmap-tools", file=sys.stderr)
        return ways
    packed, block_map = here / "image.raw.zst", here / "image.bmap"
    quietly(["zstd", "-3", "-q", "-T0", str(image), "-o", str(packed)])
    quietly([bmaptool, "create", "--output", str(block_map), str(image)])
    copy = [bmaptool, "--quiet", "copy", "--bmap", str(block_map), str(packed), str(target)]
    return {**ways, "bmaptool copy": lambda: timed(copy)}


def quietly(command: Sequence[str]) -> None:
    """Run it; its words only when it fails."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}: {done.stderr.strip()}")


def timed(command: Sequence[str]) -> tuple[float, float]:
    """(seconds, peak MiB) of a command that has to succeed."""
    began_s = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        sys.exit(f"{' '.join(command)} failed")
    return time.monotonic() - began_s, usage.ru_maxrss / 1024


def report(image: Path, took_s: dict[str, float], peak_mib: dict[str, float]) -> None:
    """The table beside the targets."""
    base_s, one_s = took_s["zstd -dc | dd"], took_s["ours, read back"]
    used = image.stat().st_blocks * 512 / 1e9
    print(f"Flashing {image.stat().st_size / 1e9:.2f} GB ({used:.2f} GB of it used) to new files; medians of {ROUNDS}")
    print("| way | s | beside zstd \\| dd | peak MiB |\n|---|---|---|---|")
    for name, seconds in took_s.items():
        print(f"| {name.replace('|', chr(92) + '|')} | {seconds:.2f} | {seconds / base_s:.2f} | {peak_mib[name]:.0f} |")
    quick_s = took_s["ours, no read-back"]
    print("\n| target | measured |\n|---|---|")
    print(f"| hash check while writing, ≤ 1.0 × zstd \\| dd | {quick_s / base_s:.2f} |")
    if "bmaptool copy" in took_s:
        print(f"| ≥ 2.5 × faster than bmaptool | {took_s['bmaptool copy'] / quick_s:.2f} |")
    print(f"| read back too, ≤ 1.6 × | {one_s / base_s:.2f} |")
    print(f"| four targets, ≤ 1.5 × one | {took_s['ours, read back, four targets'] / one_s:.2f} |")
    print(f"| memory ≤ 200 MiB | {max(mib for name, mib in peak_mib.items() if name.startswith('ours')):.0f} |")
