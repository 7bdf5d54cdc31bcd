"""What the daemon costs at 10 Hz with six busy cards: processor share, memory, and how steady its beat is.

The beat is timed from outside: every turn of the loop sends its watchdog datagram, and this program is the watchdog.
"""

import itertools
import os
import socket
import tempfile
import time
from pathlib import Path
from statistics import median, quantiles

from benchmarks.rig import Rig, rig, tinybox

SETTLE_S = 8.0
MEASURE_S = 30.0
PERIOD_S = 0.1


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


def beats(listener: socket.socket, seconds: float) -> list[float]:
    """Arrival times of the watchdog datagrams."""
    found: list[float] = []
    end_s = time.monotonic() + seconds
    while time.monotonic() < end_s:
        if listener.recv(256).startswith(b"WATCHDOG=1"):
            found.append(time.monotonic())
    return found


def measure() -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        address = f"{folder}/notify"
        listener.bind(address)
        listener.settimeout(10)
        with rig(extra={"NOTIFY_SOCKET": address}) as running:
            print_table(running, listener)


def print_table(running: Rig, listener: socket.socket) -> None:
    """Load the six cards, let it settle, measure."""
    tinybox("twin", "load", "gpu/all", "100", environment=running.environment)
    beats(listener, SETTLE_S)
    before = (cpu_s(running.daemon_pid), children_cpu_s(running.daemon_pid), time.monotonic())
    arrivals = beats(listener, MEASURE_S)
    after = (cpu_s(running.daemon_pid), children_cpu_s(running.daemon_pid), time.monotonic())
    elapsed_s = after[2] - before[2]
    periods = [b - a for a, b in itertools.pairwise(arrivals)]
    errors_ms = sorted(abs(period - PERIOD_S) * 1e3 for period in periods)
    print(f"\nDaemon, six busy cards of a twin, {elapsed_s:.0f} s, {len(arrivals) / elapsed_s:.2f} turns a second")
    print("| what | measured | target |\n|---|---|---|")
    print(f"| processor, % of one core | {100 * (after[0] - before[0]) / elapsed_s:.2f} | ≤ 1.5 |")
    print(f"| the tools it runs, % of one core | {100 * (after[1] - before[1]) / elapsed_s:.2f} | |")
    print(f"| resident memory, MiB | {resident_mib(running.daemon_pid):.1f} | ≤ 45 |")
    print(f"| period error, median ms | {median(errors_ms):.2f} | |")
    print(f"| period error, p99 ms | {quantiles(errors_ms, n=100)[98]:.2f} | < 5 on an idle machine |")
