"""A virtual machine that looks like a box: a boot drive, four data drives, a BMC behind KCS, ssh on loopback.

The BMC's simulator runs inside the guest, beside the plant that feeds it; QEMU's end of it reaches in through a
forwarded port, so that the guest's own /dev/ipmi0 leads to the guest's own plant.
"""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from provisioning.esp import write_to_esp
from provisioning.image import Image
from tinybox.core.errors import TinyboxError
from tinybox.core.seed import FILE_NAME, Seed, seed_text

GUEST_ADDRESS = "10.0.2.15"  # QEMU's user network gives the first guest this one
BMC_PORT = 9624
DATA_DRIVES = 4
DATA_DRIVE_BYTES = 2 * 2**30
BOOT_DRIVE_BYTES = 12 * 2**30
COLOUR = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
FIRMWARE = (
    (Path("/usr/share/OVMF/OVMF_CODE_4M.fd"), Path("/usr/share/OVMF/OVMF_VARS_4M.fd")),
    (Path("/usr/share/OVMF/OVMF_CODE.fd"), Path("/usr/share/OVMF/OVMF_VARS.fd")),
)


def can_use_kvm() -> bool:
    """Whether KVM truly works here: the device may be there without the module behind it."""
    modules = (Path("/sys/module/kvm_amd"), Path("/sys/module/kvm_intel"))
    return os.access("/dev/kvm", os.R_OK | os.W_OK) and any(module.exists() for module in modules)


def free_port() -> int:
    """A TCP port on loopback that nobody holds at this moment."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(slots=True)
class Machine:
    """One virtual box in a folder of its own. `prepare`, `start`, then `ssh`, `power_off`."""

    folder: Path
    image: Image
    memory_mib: int = 3072
    ssh_port: int = field(default_factory=free_port)
    bmc_port: int = field(default_factory=free_port)
    _process: subprocess.Popen[bytes] | None = None

    @property
    def serial_log(self) -> Path:
        """What the machine's console said."""
        return self.folder / "serial.log"

    @property
    def key(self) -> Path:
        """The ssh key made for this machine."""
        return self.folder / "ssh_key"

    @property
    def public_key(self) -> str:
        """Its line for `authorized_keys`."""
        return self.key.with_suffix(".pub").read_text().strip()

    def data_drive(self, index: int) -> Path:
        """One of the four."""
        return self.folder / f"data{index}.raw"

    @property
    def disk(self) -> Path:
        """The boot drive: a copy, so that the image stays as it was built."""
        return self.folder / "boot.raw"

    @property
    def is_running(self) -> bool:
        """Whether the machine is on."""
        return self._process is not None and self._process.poll() is None

    def prepare(self, seed: str | None = None) -> None:
        """Make drives, key and seed afresh; `seed` is a file's text in place of the usual one. Raises TinyboxError."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "tinybox-run", "-f", str(self.key)]
        subprocess.run(command, check=True, timeout=30)
        subprocess.run(["cp", "--sparse=always", str(self.image.disk), str(self.disk)], check=True, timeout=300)
        os.truncate(self.disk, max(BOOT_DRIVE_BYTES, self.disk.stat().st_size))
        for index in range(DATA_DRIVES):
            self.data_drive(index).touch()
            os.truncate(self.data_drive(index), DATA_DRIVE_BYTES)
        if seed is None:
            seed = seed_text(Seed(hostname="tinybox-sim", ssh_authorized_keys=(self.public_key,)))
        write_to_esp(self.disk, FILE_NAME, seed)

    def start(self, *, firmware: bool) -> None:
        """Power on: through UEFI firmware and the boot loader, or straight into the kernel. Raises TinyboxError."""
        command = [*self._base(), *self._drives(), *self._bmc_and_network()]
        command += self._uefi() if firmware else self._kernel()
        with (self.folder / "qemu.log").open("ab") as log:
            try:
                self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            except FileNotFoundError:
                raise TinyboxError("qemu-system-x86_64 is not installed", hint="run 'make setup' as root") from None

    def ssh_command(self, *words: str) -> list[str]:
        """The words that run something in the machine as its user."""
        options = ["-o", "BatchMode=yes", "-o", "ConnectTimeout=20", "-o", "StrictHostKeyChecking=accept-new"]
        options += ["-o", f"UserKnownHostsFile={self.folder / 'known_hosts'}", "-o", "LogLevel=ERROR"]
        return ["ssh", *options, "-i", str(self.key), "-p", str(self.ssh_port), "tiny@127.0.0.1", *words]

    def ssh(self, script: str, *, timeout_s: float = 120.0) -> str:
        """Run a shell script inside; its output. Raises TinyboxError with what it said when it fails."""
        try:
            done = subprocess.run(
                self.ssh_command("bash", "-s"),
                input=script,
                capture_output=True,
                text=True,
                timeout=timeout_s,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise TinyboxError(f"the machine did not answer within {timeout_s:g} s: {script.strip()}") from None
        if done.returncode != 0:
            said = (done.stderr.strip() or done.stdout.strip() or "nothing").splitlines()[-1]
            raise TinyboxError(f"in the machine, '{script.strip()}' failed with {done.returncode}: {said}")
        return done.stdout

    def console_line(self) -> str:
        """The last thing the console said, for people who wait."""
        try:
            with self.serial_log.open("rb") as file:
                file.seek(max(0, self.serial_log.stat().st_size - 2000))
                lines = file.read().decode("utf-8", "replace").splitlines()
        except OSError:
            return ""
        plain = ["".join(c for c in COLOUR.sub("", line) if c.isprintable()) for line in lines]
        return next((line.strip() for line in reversed(plain) if line.strip()), "")

    def wait_off(self, seconds: float) -> bool:
        """Whether the machine went off by itself within so long."""
        if self._process is None:
            return True
        try:
            self._process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def power_off(self) -> None:
        """Ask the guest, then press the button, then pull the plug."""
        if not self.is_running:
            return
        self._press_button()
        if not self.wait_off(60):
            self.kill()

    def kill(self) -> None:
        """Pull the plug."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait(timeout=30)

    def _press_button(self) -> None:
        """ACPI's power button, through QEMU's machine protocol."""
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as monitor:
                monitor.settimeout(10)
                monitor.connect(str(self.folder / "qmp.sock"))
                with monitor.makefile("rw") as stream:
                    for name in ("qmp_capabilities", "system_powerdown"):
                        stream.readline()
                        stream.write(json.dumps({"execute": name}) + "\n")
                        stream.flush()
                    stream.readline()
        except OSError:
            return  # gone already, or deaf: the caller pulls the plug

    def _base(self) -> list[str]:
        accelerator = (
            ["-accel", "kvm", "-cpu", "host"] if can_use_kvm() else ["-accel", "tcg,thread=multi", "-cpu", "max"]
        )
        return [
            *("qemu-system-x86_64", "-machine", "q35", *accelerator, "-smp", "2", "-m", str(self.memory_mib)),
            *("-nodefaults", "-display", "none", "-serial", f"file:{self.serial_log}"),
            *("-qmp", f"unix:{self.folder / 'qmp.sock'},server=on,wait=off", "-device", "virtio-rng-pci"),
        ]

    def _drives(self) -> list[str]:
        words = ["-drive", f"if=none,id=boot,format=raw,file={self.disk}"]
        words += ["-device", "nvme,drive=boot,serial=BOOT0,bootindex=1"]
        for index in range(DATA_DRIVES):
            drive = f"file={self.data_drive(index)},discard=unmap"
            words += ["-drive", f"if=none,id=data{index},format=raw,{drive}"]
            words += ["-device", f"nvme,drive=data{index},serial=DATA{index}"]
        return words

    def _bmc_and_network(self) -> list[str]:
        forwards = f"hostfwd=tcp:127.0.0.1:{self.ssh_port}-{GUEST_ADDRESS}:22"
        forwards += f",hostfwd=tcp:127.0.0.1:{self.bmc_port}-{GUEST_ADDRESS}:{BMC_PORT}"
        return [
            *("-netdev", f"user,id=net0,restrict=on,{forwards}", "-device", "virtio-net-pci,netdev=net0"),
            *("-chardev", f"socket,id=ipmi0,host=127.0.0.1,port={self.bmc_port},reconnect=1"),
            *("-device", "ipmi-bmc-extern,id=bmc0,chardev=ipmi0", "-device", "isa-ipmi-kcs,bmc=bmc0"),
        ]

    def _uefi(self) -> list[str]:
        found = next(((code, variables) for code, variables in FIRMWARE if code.exists()), None)
        if found is None:
            raise TinyboxError("no UEFI firmware for QEMU on this machine", hint="apt-get install ovmf")
        own = self.folder / "uefi-variables.fd"
        if not own.exists():
            shutil.copy(found[1], own)
        return [
            *("-drive", f"if=pflash,format=raw,unit=0,readonly=on,file={found[0]}"),
            *("-drive", f"if=pflash,format=raw,unit=1,file={own}"),
        ]

    def _kernel(self) -> list[str]:
        image = self.image
        return ["-kernel", str(image.kernel), "-initrd", str(image.initrd), "-append", image.command_line]


def wait_until(machine: Machine, ready: str, *, seconds: float, say: Callable[[str, str], None], what: str) -> None:
    """Try a script inside until it succeeds; `say` hears what is waited for and the console's last line.

    Raises TinyboxError when the machine goes off or time runs out.
    """
    began_s = time.monotonic()
    while True:
        waited_s = time.monotonic() - began_s
        say(f"{what}, {waited_s:.0f} s", machine.console_line())
        if not machine.is_running:
            hint = f"its console is in {machine.serial_log}, QEMU's words are beside it"
            raise TinyboxError(f"the machine went off: {machine.console_line()}", hint=hint)
        try:
            machine.ssh(ready, timeout_s=60.0)
            return
        except TinyboxError as error:
            if waited_s > seconds:
                hint = f"its console is in {machine.serial_log}"
                raise TinyboxError(f"{what}: not done after {waited_s:.0f} s: {error.message}", hint=hint) from None
        time.sleep(2.0)
