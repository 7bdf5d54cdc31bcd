"""All checks, in the order in which people read them."""

from tinybox.policy.checks import (
    bmc_fans_psu,
    cards_memory,
    cards_power,
    cards_thermal,
    cpu_memory,
    drives_raid,
    host,
    kernel,
    nic,
    noise,
    pcie,
    physics,
    siblings,
)

CHECKS = (
    *cards_power.CHECKS,
    *cards_thermal.CHECKS,
    *siblings.CHECKS,
    *physics.CHECKS,
    *kernel.CHECKS,
    *cards_memory.CHECKS,
    *pcie.CHECKS,
    *cpu_memory.CHECKS,
    *drives_raid.CHECKS,
    *bmc_fans_psu.CHECKS,
    *noise.CHECKS,
    *nic.CHECKS,
    *host.CHECKS,
)
