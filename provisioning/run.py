"""`make run`: from the recipe to a booted box that reports its wall power, with every wait named."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.status import Status

from provisioning.image import REPO, Image, build_image
from provisioning.vm import Machine, can_use_kvm, wait_until
from tinybox.core.errors import TinyboxError

RUN_FOLDER = REPO / "build/run"
DISK_NEEDED_BYTES = 12 * 10**9  # tools, caches, image and the machine's copy of it
BOOT_TIMEOUT_S = 900.0
SHOW_EVERY_S = 15.0
# Booted to the end, whatever failed on the way; the daemon answers and has read what is slow since then.
READY = """systemctl is-system-running --wait >/dev/null
systemctl is-active --quiet tinyboxd || exit 1
status=$(tinybox status --json) || exit 1
echo "$status" | grep -q '"rpm": [0-9]' || exit 1
! mountpoint -q /raid || echo "$status" | grep -q '"mount": "/raid"'
"""


class Progress:
    """Stages for people: a spinner with the console's last line on a terminal, plain lines elsewhere."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._status: Status | None = None
        self._shown_s = 0.0

    def stage(self, words: str) -> None:
        """A new stage begins."""
        self.done()
        self._console.print(f"[bold]·[/bold] {words}")
        if self._console.is_terminal:
            self._status = self._console.status("")
            self._status.start()

    def waiting(self, what: str, console: str) -> None:
        """Still in the stage: what for, and what the machine last said."""
        if self._status is not None:
            self._status.update(f"{what}  [dim]{console[:100]}[/dim]")
        elif time.monotonic() - self._shown_s > SHOW_EVERY_S:
            self._shown_s = time.monotonic()
            self._console.print(f"  {what}: {console[:140]}", markup=False)

    def done(self) -> None:
        """The stage is over."""
        if self._status is not None:
            self._status.stop()
            self._status = None


def check_host() -> None:
    """Raises TinyboxError, offering the demo, where this machine cannot build or boot an image."""
    offer = "'make demo' shows the same without a virtual machine"
    if os.geteuid() != 0:
        raise TinyboxError("'make run' builds a disk image, which needs root", hint=f"run it with sudo; {offer}")
    free_bytes = shutil.disk_usage(REPO).free
    if free_bytes < DISK_NEEDED_BYTES:
        raise TinyboxError(
            f"{REPO} has {free_bytes / 1e9:.0f} GB free, an image and its tools need {DISK_NEEDED_BYTES / 1e9:.0f} GB",
            hint=f"free some; {offer}",
        )
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False, timeout=10).returncode != 0:
        raise TinyboxError("this machine allows no namespaces, which image builds need", hint=offer)
    if shutil.which("qemu-system-x86_64") is None:
        raise TinyboxError("qemu-system-x86_64 is not installed", hint=f"run 'make setup' as root; {offer}")


def run(*, is_interactive: bool) -> None:
    """The main job. Raises TinyboxError with what to do about it."""
    check_host()
    progress = Progress()
    try:
        progress.stage("image")
        image = build_image("sim", distribution=None, out=REPO / "build/image", say=lambda line: _tell(progress, line))
        machine = boot(image, progress)
        try:
            _show(machine, progress, is_interactive=is_interactive)
        finally:
            progress.stage("powering the machine off")
            machine.power_off()
    finally:
        progress.done()


def boot(image: Image, progress: Progress) -> Machine:
    """A machine whose daemon is ready. Raises TinyboxError with the console's words when it does not come up."""
    machine = Machine(RUN_FOLDER, image)
    progress.stage("drives, ssh key and seed of a new machine")
    machine.prepare()
    how = "KVM" if can_use_kvm() else "software emulation: this takes one to three minutes"
    progress.stage(f"booting through UEFI, four data drives, a BMC ({how})")
    machine.start(firmware=True)
    try:
        wait_until(machine, READY, seconds=BOOT_TIMEOUT_S, say=progress.waiting, what="waiting for tinyboxd inside")
    except BaseException:
        machine.kill()
        raise
    return machine


def _show(machine: Machine, progress: Progress, *, is_interactive: bool) -> None:
    progress.done()
    columns = shutil.get_terminal_size((120, 40)).columns
    sys.stdout.write(machine.ssh(f"COLUMNS={columns} tinybox status"))
    document = machine.ssh("tinybox status --json")
    json.loads(document)
    target = RUN_FOLDER / "status.json"
    target.write_text(document)
    sys.stdout.flush()
    if not is_interactive:
        sys.stderr.write(f"status in {_short(target)}\n")
        return
    sys.stderr.write("a shell in the machine; leaving it powers the machine off (try 'tinybox status --watch')\n")
    words = machine.ssh_command()
    subprocess.run([words[0], "-t", *words[1:]], check=False)


def _tell(progress: Progress, line: str) -> None:
    progress.stage(line)


def _short(path: Path) -> str:
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
