"""amdgpu's `gpu_metrics` as the SMU's table comes out of the driver (struct gpu_metrics_v1_3, 120 bytes)."""

import struct

from tinybox.twin.gpu import GpuPart

LAYOUT = struct.Struct("<HBB10HQQ14HI4HII4HQ4HQ")
EMPTY = 0xFFFF  # a figure that this ASIC lacks
TEMP_HOTSPOT, PPT0 = 1 << 36, 1 << 0
AT_CAP = 0.98


def metrics_text(gpu: GpuPart, junction_crit_c: float, time_s: float) -> str:
    """The table; bytes beyond text are surrogates."""
    held = PPT0 if gpu.busy > 0 and gpu.sensor_w >= AT_CAP * gpu.cap_w else 0
    if "throttle-thermal" in gpu.ails or gpu.junction_c >= junction_crit_c:
        held |= TEMP_HOTSPOT
    temperatures = (round(gpu.edge_c), round(gpu.junction_c), round(gpu.memory_c), EMPTY, EMPTY, EMPTY)
    activity = (round(gpu.busy_sensor * 100), EMPTY, EMPTY, round(gpu.sensor_w))
    clock_mhz = round(gpu.clock_mhz)
    clocks = (clock_mhz, *[EMPTY] * 6)
    rest = (round(gpu.fan_rpm), EMPTY, EMPTY, 0, 0, 0, *[EMPTY] * 4, 0, *[EMPTY] * 4, held)
    clocks_ns = (0, round(time_s * 1e9))
    table = LAYOUT.pack(LAYOUT.size, 1, 3, *temperatures, *activity, *clocks_ns, *clocks, *clocks, 0, *rest)
    return table.decode(errors="surrogateescape")
