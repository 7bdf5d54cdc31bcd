"""Machines for policies: snapshots made by hand, and a card that obeys, refuses or sleeps as told."""

from dataclasses import replace

import pytest

from tinybox.core.box import Box, load_box
from tinybox.core.circuit import Circuit, circuit_of
from tinybox.core.config import Config
from tinybox.core.snapshot import Bmc, Cpu, Drive, Fan, Gpu, GpuState, Psu, Raid, Snapshot


@pytest.fixture(scope="session")
def red() -> Box:
    return load_box("red")


@pytest.fixture(scope="session")
def circuit(red: Box) -> Circuit:
    return circuit_of(red, Config())


def card(index: int, box: Box, **changes: object) -> Gpu:
    """A stock card at idle, every figure told."""
    gpu = Gpu(
        id=f"gpu/{index}",
        state=GpuState.AWAKE,
        pci=box.gpu.slots[index],
        name=box.gpu.name,
        power_w=15.0,
        cap_w=box.gpu.cap_default_w,
        cap_min_w=box.gpu.cap_min_w,
        cap_max_w=box.gpu.cap_max_w,
        cap_default_w=box.gpu.cap_default_w,
        has_clock_lever=True,
        clock_limit_mhz=box.gpu.clock_max_mhz,
        clock_limit_min_mhz=box.gpu.clock_min_mhz,
        clock_mhz=500,
        edge_c=40.0,
        junction_c=45.0,
        memory_c=50.0,
        fan_rpm=800.0,
        busy_pct=0.0,
        vram_used_bytes=10,
        vram_total_bytes=box.gpu.vram_bytes,
        link_width=16,
        link_gts=16.0,
    )
    return replace(gpu, **changes)  # type: ignore[arg-type]


def machine(box: Box, time_s: float = 0.0, **changes: object) -> Snapshot:
    """A whole healthy box at idle."""
    drive = Drive("drive/nvme0", "model", "serial", 10**12, 40.0, 1.0, 0, 0, 4, 16.0)
    snapshot = Snapshot(
        time_s=time_s,
        unix_s=1.7e9 + time_s,
        gpus=tuple(card(i, box) for i in range(len(box.gpu.slots))),
        cpu=Cpu("cpu", 2.0, 60.0, 45.0, 32, 10**9, box.cpu.memory_bytes),
        fans=tuple(Fan(f"fan/chassis{i + 1}", 900.0) for i in range(box.fans.count)),
        psus=(Psu("psu/0", 120.0, 120.0, 1.0, 110.0, 40.0), Psu("psu/1", 120.0, 120.0, 1.0, 110.0, 40.0)),
        bmc=Bmc("bmc", 240.0, 120.0, 25.0, 45.0),
        drives=(drive,),
        raid=Raid("raid0", "clean", "/raid", ("nvme0n1",), 10**12, 10**12),
        slow_time_s=time_s,
    )
    return replace(snapshot, **changes)  # type: ignore[arg-type]
