"""Memory of cards: its protection, what is left in it, and who holds it."""

from collections.abc import Iterator

from tinybox.core.snapshot import Severity
from tinybox.policy.checks.check import Answer, Check, Look, Step, crit, good, warn

REMAPPED_CRIT = 512
RETIRED_CRIT = 63
LEAK_BYTES = 500e6
DAY_S = 86400.0


def ecc(look: Look) -> Iterator[Answer]:
    """Consumer cards have none."""
    for gpu in look.awake():
        found = gpu.ecc
        if found is None:
            yield Answer(gpu.id, look.absent(gpu.id).status, "it has no memory protection")
            continue
        uncorrected = look.rise(f"ecc:{gpu.id}", found.uncorrected or 0, DAY_S)
        if found.has_remap_failed:
            yield crit(gpu.id, "a row could not be remapped", step=Step.REPLACE)
        elif (found.retired_pages or 0) >= RETIRED_CRIT:
            yield crit(gpu.id, f"{found.retired_pages} pages retired", limit=f"{RETIRED_CRIT}", step=Step.REPLACE)
        elif uncorrected > 0:
            yield crit(gpu.id, f"{uncorrected:.0f} uncorrected errors within a day", step=Step.RESET_GPU)
        elif found.is_remap_pending:
            yield warn(gpu.id, "rows wait to be remapped", step=Step.RESET_GPU)
        else:
            yield good(gpu.id, f"{found.corrected or 0} corrected")


def leak(look: Look) -> Iterator[Answer]:
    """Memory in use that nobody holds."""
    for gpu in look.awake():
        if gpu.vram_used_bytes is None:
            yield look.absent(gpu.id)
        elif look.now.holders is None:
            yield Answer(gpu.id, look.absent("holders").status, "nobody tells who holds it")
        elif gpu.vram_used_bytes > LEAK_BYTES and not any(gpu.id in one.gpus for one in look.now.holders):
            yield warn(gpu.id, f"{gpu.vram_used_bytes / 1e6:.0f} MB in use and no program holds it",
                       limit=f"{LEAK_BYTES / 1e6:.0f} MB for five minutes", step=Step.RESET_GPU)  # fmt: skip
        else:
            yield good(gpu.id, f"{gpu.vram_used_bytes / 1e6:.0f} MB in use")


def zombies(look: Look) -> Iterator[Answer]:
    """Programs that are dead or stuck in a driver, and hold a card all the same."""
    for holder in look.now.holders or ():
        if holder.state in ("D", "Z"):
            words = "waits in its driver" if holder.state == "D" else "is dead and not collected"
            step = Step.REBOOT if holder.state == "D" else Step.RESTART_JOB
            yield warn(holder.gpus[0] if holder.gpus else "gpu", f"{holder.name} ({holder.pid}) {words}", step=step)
        else:
            yield good(holder.gpus[0] if holder.gpus else "gpu", f"{holder.name} runs")


CHECKS = (
    Check("gpu.ecc", "memory protection of the card", "remap pending; failed, 63 pages retired, uncorrected errors",
          "DCGM's hardware limits", "reset the card when idle; replace it where it says so", ecc, Severity.CRITICAL),
    Check("gpu.vram_leak", "memory in use that no program holds", "500 MB for five minutes", "gcm",
          "end what still holds the card, or reset it", leak, after_s=300.0),
    Check("gpu.procs_zombie", "programs that hold a card", "stuck in a driver or dead for a minute", "gcm",
          "end its parent; where it waits in the driver only a reboot helps", zombies, after_s=60.0),
)  # fmt: skip
