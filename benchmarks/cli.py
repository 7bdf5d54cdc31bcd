"""How long `tinybox status` takes, against the interpreter's own start: runs interleaved, medians, .pyc present."""

import os
import subprocess
import sys
import time
from statistics import median

from benchmarks.rig import BIN, rig

ROUNDS = 21
# command, target as a multiple of `python -c pass`
COMMANDS: dict[str, tuple[list[str], float | None]] = {
    "python -c pass": ([str(BIN / "python"), "-c", "pass"], None),
    "tinybox status": ([str(BIN / "tinybox"), "status"], 4.0),
    "tinybox status --json": ([str(BIN / "tinybox"), "status", "--json"], 3.0),
    "tinybox --help": ([str(BIN / "tinybox"), "--help"], 5.0),
    "what a CLI costs with click and rich": (
        [str(BIN / "python"), "-c", "import click, json, socket, rich.console, rich.table"],
        None,
    ),
}


def once(command: list[str], environment: dict[str, str]) -> float:
    """Wall seconds of one run."""
    began_s = time.perf_counter()
    # Waited for without a time-out: with one, subprocess polls in steps that are longer than what is measured.
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as process:
        code = process.wait()
    took_s = time.perf_counter() - began_s
    if code != 0:
        raise subprocess.CalledProcessError(code, command)
    return took_s


def measure() -> None:
    """Print the table."""
    with rig() as running:
        environment = {k: v for k, v in running.environment.items() if k != "PYTHONDONTWRITEBYTECODE"}
        times: dict[str, list[float]] = {name: [] for name in COMMANDS}
        for turn in range(ROUNDS + 1):
            for name, (command, _) in COMMANDS.items():
                seconds = once(command, environment)
                if turn > 0:  # the first round writes .pyc and warms the page cache
                    times[name].append(seconds)
    base_s = median(times["python -c pass"])
    version = ".".join(map(str, sys.version_info[:3]))
    print(f"\nCLI start-up: medians of {ROUNDS} interleaved runs, Python {version}, {os.cpu_count()} cores")
    print("| command | ms | × python -c pass | target |\n|---|---|---|---|")
    for name, (_, target) in COMMANDS.items():
        middle_s = median(times[name])
        print(f"| {name} | {middle_s * 1e3:.1f} | {middle_s / base_s:.2f} | {f'≤ {target:g}' if target else ''} |")
