"""Drives, the array, and the file systems on them."""

import re
from collections.abc import Iterator

from tinybox.core.box import Box
from tinybox.core.snapshot import Drive, Severity
from tinybox.policy.checks.check import Answer, Check, Look, Step, above, crit, good, warn

DAY_S = 86400.0
SPARE_WARN_PCT = 10.0
WEAR_WARN_PCT, WEAR_CRIT_PCT = 80.0, 100.0
FREE_WARN, FREE_CRIT = 0.10, 0.02
TEMP_WARN_C, TEMP_CRIT_C = 70.0, 80.0  # where the drive tells no limits: NVMe's recommended WCTEMP
BITS = ("spare", "temperature", "degraded", "read-only", "backup", "persistent memory")
RESET = re.compile(r"nvme (nvme\d+): .*(timeout, reset controller|timeout, completion polled)", re.IGNORECASE)
DISABLED = re.compile(r"nvme (nvme\d+): .*(Disabling device|Removing after probe failure)", re.IGNORECASE)
CONTROLLER = re.compile(r"nvme\d+")
DISK_FAILED = re.compile(r"md/raid\S*: ?Disk failure on|md\d*: .*failing array", re.IGNORECASE)


def evacuate(box: Box) -> str:
    """What to do about a drive that is about to fail, in an array where it takes the others' data along."""
    if box.storage.level == "raid0" and box.storage.data_drives > 1:
        return (
            f"{box.storage.mount} is RAID 0: one drive lost is all lost. Copy it away with "
            "'tinybox raid evacuate DEST', then replace the drive ('tinybox raid replace')"
        )
    return "copy what you need, then replace the drive"


def smart(look: Look) -> Iterator[Answer]:
    """The drive's own critical warnings."""
    for drive in look.now.drives:
        if drive.critical_warning is None:
            yield look.absent(drive.id)
            continue
        words = [word for bit, word in enumerate(BITS) if drive.critical_warning >> bit & 1]
        if drive.critical_warning & ~0b10:
            yield crit(drive.id, f"warns of: {', '.join(words) or hex(drive.critical_warning)}", limit="none",
                       advice=evacuate(look.box))  # fmt: skip
        elif words:
            yield warn(drive.id, "warns of its temperature", advice="more air for it")
        else:
            yield good(drive.id, "no warning")


def wear(look: Look) -> Iterator[Answer]:
    """Endurance used up, and spare blocks left."""
    for drive in look.now.drives:
        if drive.used_pct is None:
            yield look.absent(drive.id)
            continue
        yield _judge_wear(drive, look.box)


def _judge_wear(drive: Drive, box: Box) -> Answer:
    used = above(drive.id, drive.used_pct or 0.0, warn_at=WEAR_WARN_PCT, crit_at=WEAR_CRIT_PCT, unit=" % used")
    if drive.spare_pct is not None and drive.spare_least_pct:  # a least of zero: this drive does not say
        said = f"{drive.spare_pct:.0f} % spare, least {drive.spare_least_pct:.0f} %"
        if drive.spare_pct <= drive.spare_least_pct:
            return crit(drive.id, said, advice=evacuate(box))
        if drive.spare_pct <= drive.spare_least_pct + SPARE_WARN_PCT and used.status.value == "ok":
            return warn(drive.id, said, advice=evacuate(box))
    return Answer(used.device, used.status, used.evidence, used.limit, evacuate(box))


def media(look: Look) -> Iterator[Answer]:
    """Data that could not be read, beyond what was so at the first look; controllers that had to be reset."""
    lines = [line.text for line in look.now.kernel]
    for drive in look.now.drives:
        name = drive.id.partition("/")[2]
        said = [text for text in lines if (m := DISABLED.search(text)) and name.startswith(m[1])]
        resets = [text for text in lines if (m := RESET.search(text)) and name.startswith(m[1])]
        if said:
            yield crit(drive.id, said[0][:160], step=Step.POWER_CYCLE)
        elif drive.media_errors is None:
            yield look.absent(drive.id)
        else:
            more = look.beyond(f"media:{drive.serial or drive.id}", drive.media_errors)
            recent = look.rise(f"media:{drive.id}", drive.media_errors, DAY_S)
            if max(more, recent) > 0:
                yield warn(drive.id, f"{drive.media_errors} media errors, {max(more, recent):.0f} of them new",
                           advice=evacuate(look.box))  # fmt: skip
            elif resets:
                yield warn(drive.id, resets[-1][:160])
            else:
                yield good(drive.id, f"{drive.media_errors} media errors, none of them new")


def temperature(look: Look) -> Iterator[Answer]:
    """Against the drive's own limits."""
    for drive in look.now.drives:
        if drive.temp_c is None:
            yield look.absent(drive.id)
            continue
        warn_c, crit_c = drive.warn_c or TEMP_WARN_C, drive.crit_c or max(TEMP_CRIT_C, (drive.warn_c or 0) + 5)
        yield above(drive.id, drive.temp_c, warn_at=warn_c, crit_at=crit_c, unit=" °C")


def count_and_link(look: Look) -> Iterator[Answer]:
    """Every data drive is there, at its full link."""
    kind = look.box.storage
    if kind.data_drives == 0:
        return
    found = len(look.now.drives)
    if found < kind.data_drives:
        yield crit("drives", f"{found} of {kind.data_drives} answer")
    for drive_id in _lost_members(look):  # the boot drive makes up for a data drive in the count
        yield crit(drive_id, "gone, and the array is made of it")
    for drive in look.now.drives:
        if drive.link_width is None or drive.link_gts is None:
            yield look.absent(drive.id)
            continue
        said = f"x{drive.link_width} at {drive.link_gts:g} GT/s"
        is_less = drive.link_width < kind.link_width or drive.link_gts < kind.link_gts
        yield warn(drive.id, said) if is_less else good(drive.id, said)


def _lost_members(look: Look) -> list[str]:
    raid, there = look.now.raid, {drive.id for drive in look.now.drives}
    named = [f"drive/{match[0]}" for one in (raid.members if raid else ()) if (match := CONTROLLER.match(one))]
    return [drive_id for drive_id in named if drive_id not in there]


def array(look: Look) -> Iterator[Answer]:
    """The array is whole. That RAID 0 has no redundancy is a state, said once in the evidence."""
    raid, kind = look.now.raid, look.box.storage
    failed = [line.text for line in look.now.kernel if DISK_FAILED.search(line.text)]
    if kind.data_drives == 0:
        return
    if raid is None or raid.state == "absent":
        yield crit("raid", f"no array for {kind.mount}", advice="run 'tinybox raid assemble'")
    elif raid.state != "clean" or failed:
        said = f"the array is {raid.state}" + (f": {failed[-1][:120]}" if failed else "")
        yield crit("raid", said, advice=f"save what can be read of {kind.mount}, then 'tinybox raid replace'")
    elif raid.devices is not None and 0 < len(raid.members) < raid.devices:
        yield crit("raid", f"{len(raid.members)} of {raid.devices} drives are in it")
    elif raid.mismatches:
        yield warn("raid", f"{raid.mismatches} mismatches", advice="check the drives' media errors, repair the array")
    else:
        yield good("raid", "clean, without redundancy" if raid.level == "raid0" else "clean")


def mounted(look: Look) -> Iterator[Answer]:
    """The array is where programs look for it."""
    raid, kind = look.now.raid, look.box.storage
    if kind.data_drives == 0 or raid is None or raid.state == "absent":
        return
    if raid.mount is None:
        yield crit("raid", f"not mounted at {kind.mount}")
    else:
        yield good("raid", f"at {raid.mount}")


def space(look: Look) -> Iterator[Answer]:
    """Room on what the box cannot do without."""
    for fs in look.now.system.filesystems or ():
        share = fs.free_bytes / fs.size_bytes if fs.size_bytes > 0 else 0.0
        said = f"{100 * share:.0f} % free"
        judge = crit if share < FREE_CRIT else warn if share < FREE_WARN else None
        yield good(fs.mount, said) if judge is None else judge(fs.mount, said, limit="10 % / 2 %")


def read_only(look: Look) -> Iterator[Answer]:
    """The kernel made it read-only: it found damage."""
    remounted = [line.text for line in look.now.kernel if "Remounting filesystem read-only" in line.text]
    for fs in look.now.system.filesystems or ():
        yield crit(fs.mount, "mounted read-only") if fs.is_read_only else good(fs.mount, "can be written")
    if remounted:
        yield crit("kernel", remounted[-1][:160])


CHECKS = (
    Check("nvme.smart", "critical_warning of every drive", "temperature / any other bit", "NVMe specification",
          "copy what you need, then replace the drive", smart, Severity.CRITICAL, is_slow=True),
    Check("nvme.wear", "endurance used, spare blocks", "80 % / 100 % used; spare within 10 % of / at the drive's least",
          "the drive", "copy what you need, then replace the drive", wear, Severity.CRITICAL, is_slow=True),
    Check("nvme.media", "media errors since the first look; resets in the kernel's log", "any new / a disabled drive",
          "NVMe specification, kernel", "reseat the drive; replace it where it comes back", media, Severity.CRITICAL,
          is_slow=True),
    Check("nvme.temp", "composite temperature", "the drive's WCTEMP / CCTEMP", "the drive, else 70 / 80 °C",
          "more air for the drives", temperature, Severity.CRITICAL, after_s=5.0, is_slow=True),
    Check("nvme.count_link", "data drives and their links", "slower link / fewer than the box has", "the box",
          "power off and reseat the drive", count_and_link, Severity.CRITICAL, is_slow=True),
    Check("md.state", "the array", "clean, with all its drives", "kernel md",
          "restore it from a backup", array, Severity.CRITICAL, is_slow=True, after_s=4.0),
    Check("raid.mount", "the array's mount point", "mounted", "the box", "run 'tinybox raid assemble'", mounted,
          Severity.CRITICAL, is_slow=True, after_s=4.0),
    Check("fs.space", "room on the system's file systems", "10 % / 2 % free", "node-problem-detector, gpud",
          "remove what is not needed ('du -x / | sort -n | tail')", space, Severity.CRITICAL, is_slow=True),
    Check("fs.ro", "mount flags, the kernel's log", "writable", "node-problem-detector",
          "check it from another system (fsck), see the drive", read_only, Severity.CRITICAL, is_slow=True),
)  # fmt: skip
