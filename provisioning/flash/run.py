"""`tinybox-provision flash` without its words: look, judge, then write. Nothing is asked here."""

import hashlib
import os
import subprocess
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from provisioning.artefact.container import Artefact
from provisioning.artefact.manifest import Manifest
from provisioning.artefact.release import SEED_FORMAT
from provisioning.artefact.source import Source
from provisioning.esp import esp_offset_bytes, read_from_esp, write_to_esp
from provisioning.flash.disk import RealDisk
from provisioning.flash.ends import Ends
from provisioning.flash.fetch import Fetcher
from provisioning.flash.job import AGAIN, Event, Job
from provisioning.flash.keep import check_kept, find_kept, layout
from provisioning.flash.mark import Kept, Mark
from provisioning.flash.pipeline import CPUS, flash
from provisioning.flash.refusals import check
from provisioning.flash.target import Target, look
from tinybox.core.errors import HardwareError, TinyboxError
from tinybox.core.seed import FILE_NAME
from tinybox.hw.host import Host


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be written where; nothing has been touched. `same` are targets that hold this image already."""

    artefact: Artefact
    targets: tuple[Target, ...]
    same: frozenset[str]
    kept: tuple[tuple[Kept, ...], ...]  # of each target
    seed: str | None = None

    @property
    def manifest_sha256(self) -> str:
        """Which artefact it is, for the mark of an unfinished flash."""
        return hashlib.sha256(self.artefact.head.manifest).hexdigest()

    @property
    def image(self) -> str:
        """For people."""
        release = self.artefact.manifest.release
        return f"{release.id} {release.version}"

    def is_resumed(self, target: Target) -> bool:
        """Whether what is there is worth a comparison."""
        is_marked = target.mark is not None and target.mark.manifest_sha256 == self.manifest_sha256
        return is_marked or target.device in self.same


def make_plan(
    artefact: Artefact,
    paths: Sequence[str],
    host: Host,
    *,
    overwrite: Sequence[str] = (),
    keep: Sequence[str] = (),
    seed: str | None = None,
) -> Plan:
    """Look at every target and judge it. Raises TinyboxError at what speaks against it; nothing was touched then."""
    release = artefact.manifest.release
    if seed is not None and release.seed != SEED_FORMAT:
        reads = f"seeds of the kind {release.seed}" if release.seed else "no seed"
        raise TinyboxError(f"the image {release.id} reads {reads}", hint="flash it without a seed")
    targets = tuple(look(path, host) for path in paths)
    same = frozenset(target.device for target in targets if _holds(target, artefact.manifest))
    judged = [(target, target.device in same) for target in targets]
    check(judged, artefact.manifest.minimum_disk_bytes, release, overwrite, keep)
    kept = tuple(_kept(target, keep, overwrite, host) for target in targets)
    for target, items in zip(targets, kept, strict=True):
        check_kept(target.path, items, artefact.manifest.size_bytes)
    return Plan(artefact, targets, same, kept, seed)


def _kept(target: Target, keep: Sequence[str], overwrite: Sequence[str], host: Host) -> tuple[Kept, ...]:
    """What was asked for; of an unfinished flash what that one kept, for its table is gone."""
    if target.mark is not None and target.mark.kept and target.serial not in overwrite:
        return target.mark.kept
    return find_kept(target.device, keep, host)


def _holds(target: Target, manifest: Manifest) -> bool:
    """Whether all that the image uses is there already; what differs is mostly seen in the first frames."""
    if target.size_bytes < manifest.size_bytes:
        return False
    try:
        with Path(target.device).open("rb") as file:
            for index in (index for index, is_used in enumerate(manifest.is_used()) if is_used):
                file.seek(index * manifest.frame_bytes)
                found = hashlib.sha256(file.read(manifest.raw_bytes(index))).hexdigest()
                if found != manifest.frames[index].raw_sha256:
                    return False
    except OSError:
        return False
    return any(manifest.is_used())


def carry_out(
    plan: Plan, source: Source, say: Callable[[Event], None], *, is_verified: bool = True
) -> dict[str, str | None]:
    """Write every target; its path and what went wrong with it, None where nothing did."""
    failures: dict[str, str | None] = dict.fromkeys((target.path for target in plan.targets), None)
    fetcher = Fetcher(source, plan.artefact)
    with ExitStack() as stack:
        jobs: dict[str, Job] = {}
        for target, kept in zip(plan.targets, plan.kept, strict=True):
            try:
                disk = RealDisk(Path(target.device), least_bytes=plan.artefact.manifest.size_bytes)
                stack.callback(disk.close)
            except TinyboxError as error:
                failures[target.path] = error.message
                say(Event("failed", target.path, message=error.message))
                continue
            jobs[target.path] = Job(
                disk=disk,
                fetcher=fetcher,
                mark=Mark(plan.manifest_sha256, plan.image, kept),
                say=_renamed(say, target.path),
                is_resumed=plan.is_resumed(target),
                is_verified=is_verified,
                erase=None if plan.is_resumed(target) or kept else partial(_wipe, disk),
                personalise=None if plan.seed is None else partial(personalise, disk, fetcher.ends, plan.seed),
                threads=max(1, CPUS // len(plan.targets)),
            )
        flash(fetcher, list(jobs.values()))
        for path, job in jobs.items():
            if job.failure is not None:
                failures[path] = job.failure + _kernels_words(job.disk.name)
                say(Event("failed", path, message=failures[path] or ""))
    return failures


def _renamed(say: Callable[[Event], None], path: str) -> Callable[[Event], None]:
    """Events name a target as it was asked for."""

    def tell(event: Event) -> None:
        say(Event(event.event, path, event.phase, event.done_bytes, event.total_bytes, event.message))

    return tell


def _wipe(disk: RealDisk) -> None:
    """Take away what makes the kernel or a firmware see something there, also at the end of the drive."""
    command = ["wipefs", "--all", "--force", "--quiet", disk.name]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    except subprocess.TimeoutExpired:
        raise TinyboxError(f"cannot erase what is on {disk.name}: no answer within 120 s") from None
    if done.returncode != 0:
        raise TinyboxError(f"cannot erase what is on {disk.name}: {done.stderr.strip()}")


def personalise(disk: RealDisk, ends: Ends, seed: str) -> None:
    """Put the seed on the ESP and read it again from the medium. Raises TinyboxError when it is not there."""
    path = Path(disk.name)
    with layout(ends, disk.size_bytes) as table:  # the partition table is in the first MiB, which is not there yet
        offset = esp_offset_bytes(table)
    write_to_esp(path, FILE_NAME, seed, offset_bytes=offset)
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)
    if read_from_esp(path, FILE_NAME, offset_bytes=offset) != seed.encode():
        raise TinyboxError(f"{disk.name}: the seed does not read back from the ESP", hint=AGAIN)


def _kernels_words(device: str) -> str:
    """What the kernel last said of the drive, where it said that reading or writing failed."""
    try:
        lines = Host().run(("dmesg", "--notime")).splitlines()
    except HardwareError:
        return ""
    name = Path(device).name
    found = [line for line in lines if name in line and ("error" in line or "timeout" in line)]
    return f"; the kernel: {found[-1].strip()}" if found and device.startswith("/dev/") else ""
