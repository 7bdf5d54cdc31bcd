"""What the vendors' libraries know of cards and the kernel's files do not tell, asked in a process of its own.

AMD's segfaults on a node that is not what it takes it for, an open handle keeps a card awake, and NVIDIA's may block: a
process that ends, or is ended, costs only its answer.
"""

import contextlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tinybox.core.errors import HardwareError
from tinybox.hw.host import Host

PATIENCE_S = 10.0
NODES = "/dev/dri"
NVIDIA_FACTS = ("cap_min_w", "cap_max_w", "cap_default_w", "edge_crit_c", "vram_total_bytes")
ASK = "import sys; sys.path[:0] = {path!r}; from tinybox.hw.libraries import answer; answer({vendor!r}, {addresses!r})"


def ask_library(host: Host, vendor: str, addresses: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """By address: `name`, `clock_max_mhz` and, of NVIDIA's cards, NVIDIA_FACTS; what the library does not say lacks.

    Wakes cards. A twin's AMD cards have no library: only this machine's are asked.
    """
    can_ask = {"amd": host.is_real and host.exists(NODES), "nvidia": host.is_real or "nvml" in host.live}
    if not addresses or not can_ask.get(vendor, False):
        return {}
    script = ASK.format(path=sys.path, vendor=vendor, addresses=addresses)
    try:
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, timeout=PATIENCE_S, check=True
        )
        found = json.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError):
        return {}
    return {address: told for address, told in found.items() if address in addresses}


def answer(vendor: str, addresses: tuple[str, ...]) -> None:
    """The child: print what the library says."""
    print(json.dumps(_amd() if vendor == "amd" else _nvidia(addresses)))


def _amd() -> dict[str, dict[str, Any]]:
    import pyamdgpuinfo

    if not Path(NODES).is_dir():
        return {}
    told = {}
    for index in range(pyamdgpuinfo.detect_gpus()):
        card = pyamdgpuinfo.get_gpu(index)
        clocks = card.query_max_clocks()
        told[str(card.pci_slot)] = {"name": card.name, "clock_max_mhz": round(clocks["sclk_max"] / 1e6)}
    return told


def _nvidia(addresses: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    from tinybox.hw.nvml import NvmlCard

    told: dict[str, dict[str, Any]] = {}
    for address in addresses:
        card = NvmlCard(address)
        with contextlib.suppress(HardwareError):
            figures = card.read()
            told[address] = {name: figures.get(name) for name in NVIDIA_FACTS} | card.describe()
    return told
