"""What the daemon costs at 10 Hz with six busy cards: processor share, memory, and how steady its beat is.

Turns are timed from outside: `time_unix_s` of the status is when a turn began, and this program asks often enough to
miss none. Asking costs the daemon something, so the processor's share is measured before it, undisturbed.
"""

import itertools
import json
import os
import time
from pathlib import Path
from statistics import median, quantiles

from benchmarks.rig import Rig, rig, tinybox
from tinybox.client import fetch

SETTLE_S = 8.0
MEASURE_S = 30.0
PERIOD_S = 0.1
SCRAPES = 101
BOXES = (("red", 1.5, 45.0), ("mixed", 2.0, 50.0))


def cpu_s(pid: int) -> float:
    """Processor seconds of the process and its threads, its finished children not counted."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def children_cpu_s(pid: int) -> float:
    """Processor seconds of the tools it ran (ipmitool, nvme, mdadm) and waited for."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")


def resident_mib(pid: int) -> float:
    """Resident memory."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def turn_starts(socket_path: str, seconds: float) -> list[float]:
    """When each turn of the loop began, as the status says; 0.1 ms fine."""
    found: list[float] = []
    end_s = time.monotonic() + seconds
    while time.monotonic() < end_s:
        began_s = json.loads(fetch(socket_path, "/status"))["time_unix_s"]
        if not found or began_s != found[-1]:
            found.append(began_s)
        time.sleep(PERIOD_S / 3)
    return found


def scrapes(socket_path: str) -> tuple[float, int]:
    """Median seconds of asking for the metrics, connection included, and the bytes of the last page."""
    took_s: list[float] = []
    page = fetch(socket_path, "/metrics")  # the first takes a library along
    for _ in range(SCRAPES):
        began_s = time.perf_counter()
        page = fetch(socket_path, "/metrics")
        took_s.append(time.perf_counter() - began_s)
        time.sleep(PERIOD_S / 3)
    return median(took_s), len(page)


def measure() -> None:
    """Load the six cards, let it settle, measure, print the table; for AMD's cards, and for all vendors' at once."""
    for box, share, memory_mib in BOXES:
        with rig(box) as running:
            tinybox("twin", "load", "gpu/all", "100", environment=running.environment)
            time.sleep(SETTLE_S)
            print_table(running, box, share, memory_mib)


def print_table(running: Rig, box: str, share: float, memory_mib: float) -> None:
    """Cost first, undisturbed; then the beat. `share`: of one core, in percent."""
    before = (cpu_s(running.daemon_pid), children_cpu_s(running.daemon_pid), time.monotonic())
    time.sleep(MEASURE_S)
    after = (cpu_s(running.daemon_pid), children_cpu_s(running.daemon_pid), time.monotonic())
    elapsed_s = after[2] - before[2]
    socket_path = running.environment["TINYBOX_RUN_DIR"] + "/tinyboxd.sock"
    starts = turn_starts(socket_path, MEASURE_S)
    resident_before_mib = resident_mib(running.daemon_pid)
    scrape_s, page_bytes = scrapes(socket_path)
    turns_per_s = (len(starts) - 1) / (starts[-1] - starts[0])
    errors_ms = sorted(abs(b - a - PERIOD_S) * 1e3 for a, b in itertools.pairwise(starts))
    print(f"\nDaemon, six busy cards of a {box} twin, {elapsed_s:.0f} s, {turns_per_s:.2f} turns a second")
    print("| what | measured | target |\n|---|---|---|")
    print(f"| processor, % of one core | {100 * (after[0] - before[0]) / elapsed_s:.2f} | ≤ {share:g} |")
    print(f"| the tools it runs, % of one core | {100 * (after[1] - before[1]) / elapsed_s:.2f} | |")
    print(f"| resident memory, MiB | {resident_before_mib:.1f} | ≤ {memory_mib:g} |")
    print(f"| the same once /metrics was asked for, MiB | {resident_mib(running.daemon_pid):.1f} | ≤ {memory_mib:g} |")
    print(f"| /metrics, median ms of {SCRAPES} | {scrape_s * 1e3:.1f} | ≤ 20 |")
    print(f"| /metrics, KiB | {page_bytes / 2**10:.1f} | ≤ 64 |")
    print(f"| period error, median ms | {median(errors_ms):.2f} | |")
    print(f"| period error, p99 ms | {quantiles(errors_ms, n=100)[98]:.2f} | < 5 on an idle machine |")
