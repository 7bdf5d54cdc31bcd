"""What amdgpu's more talkative files say: throttle bits in `gpu_metrics`, the plan of the fan in `gpu_od`."""

import re
import struct

# <kgd_pp_interface.h>, struct gpu_metrics_v1_3: 120 bytes, indep_throttle_status is the last 8 of them.
HEADER = struct.Struct("<HBB")
VERSION = (1, 3)
INDEPENDENT = struct.Struct("<Q")
INDEPENDENT_AT = 112
NOT_TOLD = 2**64 - 1
# <amdgpu_smu.h>, SMU_THROTTLER_*: 16 bits to each group. What is fitted at the factory (PPM, FIT) is no news.
GROUPS = (
    ("power", range(8)),
    ("current", range(16, 24)),
    ("thermal", range(32, 46)),
    ("power-brake", range(46, 48)),  # PROCHOT: something outside pulls the line
)
ZERO_RPM_FILE = "gpu_od/fan_ctrl/fan_zero_rpm_enable"
FAN_LIMIT_FILE = "gpu_od/fan_ctrl/acoustic_limit_rpm_threshold"


def parse_throttles(table: bytes) -> tuple[str, ...] | None:
    """What holds the card back now; None where its table tells no bits that are the same for every card."""
    if len(table) < INDEPENDENT_AT + INDEPENDENT.size:
        return None
    size, *version = HEADER.unpack_from(table)
    (bits,) = INDEPENDENT.unpack_from(table, INDEPENDENT_AT)
    if tuple(version) != VERSION or size < INDEPENDENT_AT + INDEPENDENT.size or bits == NOT_TOLD:
        return None
    return tuple(words for words, group in GROUPS if any(bits >> bit & 1 for bit in group))


def parse_fan_limit(text: str) -> tuple[float, float] | None:
    """The most rpm that the firmware gives the fan, and the least such limit that it takes."""
    limit = re.search(r"OD_ACOUSTIC_LIMIT:\s*(\d+)", text)
    least = re.search(r"OD_RANGE:.*?ACOUSTIC_LIMIT:\s*(\d+)\s+\d+", text, re.DOTALL)
    return (float(limit[1]), float(least[1])) if limit and least else None


def parse_zero_rpm(text: str) -> bool | None:
    """Whether the fan may stand still while the card is cool."""
    match = re.search(r"FAN_ZERO_RPM_ENABLE:\s*([01])\b", text)
    return match[1] == "1" if match else None
