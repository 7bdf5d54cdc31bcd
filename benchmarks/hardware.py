"""What it costs to read a box with cards of all vendors, and to judge one whose controller is dead.

The machine's files are read through FUSE, as the twin shows them, and from a copy in memory, where the cost is that of
our own code. Beside it, whole programs: ours without a daemon, and what else tells of cards, on the same twin.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from benchmarks.rig import BIN, Rig, rig, tinybox

BOX = "mixed"
READINGS = 101
RUNS = 9
IN_MEMORY = Path("/dev/shm")
PEERS = (("sensors", "-j"), (str(BIN / "nvitop"), "-1"), ("nvtop", "--snapshot"))


def measure() -> None:
    """Read, judge, compare; print the table."""
    with rig(BOX) as running, tempfile.TemporaryDirectory(dir=IN_MEMORY) as copy:
        # A port without a cable has no speed to read: such files are left out.
        words = ["cp", "-a", f"{running.environment['TINYBOX_ROOT']}/.", copy]
        subprocess.run(words, stderr=subprocess.DEVNULL, timeout=60, check=False)
        by_fuse = readings(running.environment)
        in_memory = readings(running.environment | {"TINYBOX_ROOT": copy, "TINYBOX_LIVE": "nvml"})
        programs = {"tinybox status": timed(lambda: tinybox("status", "--json", environment=running.environment))}
        for command in PEERS:
            if shutil.which(command[0]) is not None:
                words = ("twin", "exec", "--", *command)
                programs[Path(command[0]).name] = timed(lambda words=words: run(running, *words))  # type: ignore[misc]
        tinybox("twin", "fault", "add", "bmc:dead", environment=running.environment)
        time.sleep(5.0)
        asked_s = timed(lambda: run(running, "health", "--json"))
        os.kill(running.daemon_pid, signal.SIGTERM)
        time.sleep(2.0)
        alone_s = timed(lambda: run(running, "health", "--json"))
    print(f"\nReading a {BOX} box, medians of {READINGS}; programs: of {RUNS}")
    print("| what | measured | target |\n|---|---|---|")
    print(f"| all that is read each turn, files in memory, ms | {in_memory['fast_ms']:.2f} | ≤ 15 |")
    print(
        f"| and all that the slow thread reads beside it, its programs not counted, ms | {in_memory['slow_ms']:.2f} | |"
    )
    print(f"| all that is read each turn, through FUSE, ms | {by_fuse['fast_ms']:.2f} | ≤ 60 |")
    print(f"| tinybox health, dead controller, with its daemon, s | {asked_s:.2f} | ≤ 1 |")
    print(f"| tinybox health, dead controller, alone, s | {alone_s:.2f} | ≤ 1 |")
    for name, took_s in programs.items():
        print(f"| {name}, whole program, s | {took_s:.2f} | |")


def run(running: Rig, *arguments: str) -> None:
    """The CLI, whatever its status."""
    words = [str(BIN / "tinybox"), *arguments]
    subprocess.run(words, env=running.environment, capture_output=True, timeout=120, check=False)


def timed(work: Callable[[], object]) -> float:
    """Median seconds."""
    took_s = []
    for _ in range(RUNS):
        began_s = time.perf_counter()
        work()
        took_s.append(time.perf_counter() - began_s)
    return median(took_s)


def readings(environment: dict[str, str]) -> dict[str, float]:
    """Medians of another process, whose loader finds the stand-in of NVIDIA's library."""
    command = [sys.executable, "-m", "benchmarks.hardware"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=True)
    found = json.loads(done.stdout)
    assert isinstance(found, dict)
    return found


def read_here() -> dict[str, float]:
    """Median milliseconds of one turn's reading and of the slow thread's."""
    from tinybox.core.box import load_box
    from tinybox.core.config import BmcConfig, Config
    from tinybox.hw.hardware import Hardware
    from tinybox.hw.host import Host

    host = Host.from_environment()
    config = Config(box=BOX, bmc=BmcConfig(interface="none"))
    hardware = Hardware(host, load_box(BOX), config)
    fast_ms, slow_ms = [], []
    for _ in range(READINGS):
        began_s = time.perf_counter()
        hardware.read_fast(time.monotonic())
        fast_ms.append((time.perf_counter() - began_s) * 1e3)
        time.sleep(0.02)
    for _ in range(RUNS):
        began_s = time.perf_counter()
        hardware.read_slow(time.monotonic())
        slow_ms.append((time.perf_counter() - began_s) * 1e3)
    hardware.release()
    return {"fast_ms": median(fast_ms), "slow_ms": median(slow_ms)}


if __name__ == "__main__":
    print(json.dumps(read_here()))
