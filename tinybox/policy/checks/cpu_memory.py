"""The processor and main memory."""

import re
from collections.abc import Iterator

from tinybox.core.snapshot import Severity
from tinybox.policy.checks.check import Answer, Check, Look, Step, above, crit, good, warn

WARM_C = 85.0
MEMORY_SHARE = 0.9  # firmware and kernel keep some for themselves
CE_A_DAY = 10
DAY_S = 86400.0
MCE = re.compile(r"\[Hardware Error\].*event severity: (\w+)|EDAC MC\d+: \d+ (CE|UE)", re.IGNORECASE)


def temperature(look: Look) -> Iterator[Answer]:
    """Tctl; spikes of seconds are harmless."""
    temp_c = look.now.cpu.temp_c
    if temp_c is None:
        yield look.absent("cpu")
        return
    crit_c = look.box.cpu.temp_crit_c
    yield above("cpu", temp_c, warn_at=min(WARM_C, crit_c - 5), crit_at=crit_c, unit=" °C")


def machine_checks(look: Look) -> Iterator[Answer]:
    """Errors of memory and processor that the hardware reported."""
    words = [match for line in look.now.kernel if (match := MCE.search(line.text)) is not None]
    bad = [match for match in words if (match[1] or match[2]).lower() in ("fatal", "recoverable", "ue")]
    system = look.now.system
    worse = look.rise("edac.ue", system.memory_uncorrected or 0, DAY_S)
    corrected = look.rise("edac.ce", system.memory_corrected or 0, DAY_S)
    corrected = max(corrected, len(words) - len(bad))
    if bad or worse > 0:
        yield crit("memory", bad[0].string[:160] if bad else f"{worse:.0f} uncorrected errors within a day",
                   step=Step.REPLACE)  # fmt: skip
    elif corrected > CE_A_DAY:
        yield warn("memory", f"{corrected:.0f} corrected errors within a day", limit=f"{CE_A_DAY} a day")
    elif system.memory_corrected is None and not words:
        yield Answer("memory", look.absent("memory").status, "not counted, and nothing in the kernel's log")
    else:
        yield good("memory", f"{corrected:.0f} corrected errors within a day")


def size(look: Look) -> Iterator[Answer]:
    """All modules answer."""
    total, wanted = look.now.cpu.memory_total_bytes, look.box.cpu.memory_bytes
    if total is None:
        yield look.absent("cpu")
        return
    said = f"{total / 2**30:.0f} GiB of {wanted / 2**30:.0f}"
    yield crit("memory", said) if total < MEMORY_SHARE * wanted else good("memory", said)


def cores(look: Look) -> Iterator[Answer]:
    """All cores answer."""
    found, wanted = look.now.cpu.cores, look.box.cpu.cores
    if found is None:
        yield look.absent("cpu")
        return
    yield crit("cpu", f"{found} of {wanted}") if found < wanted else good("cpu", f"{found} of {wanted}")


CHECKS = (
    Check("cpu.temp", "Tctl of the processor", "85 °C / the box's limit (90 °C), for 20 s", "the factory's own limits",
          "see the cooler and the fans of its zone", temperature, Severity.CRITICAL, after_s=20.0),
    Check("cpu.mce", "machine checks in the kernel's log, EDAC's counters",
          "10 corrected a day / any that was not", "kernel EDAC", "reseat, then replace the module that EDAC names",
          machine_checks, Severity.CRITICAL, after_s=0.0, is_slow=True),
    Check("mem.size", "main memory", "nine tenths of the box's", "the box", "a module is lost: reseat it", size,
          Severity.CRITICAL),
    Check("cpu.cores", "cores", "the box's", "the box", "see the board's set-up; reseat the processor", cores,
          Severity.CRITICAL),
)  # fmt: skip
