"""`tinybox-failsafe`: limits the cards when the daemon falls silent. A program of its own that knows nothing of cards.

It decides nothing and imports only the standard library: it writes what the daemon prepared (docs/failsafe.md).
"""

import contextlib
import ctypes
import os
import shlex
import socket
import subprocess
import sys
import threading
import time

USAGE = """usage: tinybox-failsafe

Listens for tinyboxd's heartbeats and, when they stop, carries out the writes of /run/tinybox/failsafe.list, again every
second until they return, and the commands of /run/tinybox/fans-taken, which give the chassis fans back to the board.
Takes no arguments; TINYBOX_RUN_DIR names another folder for all of these.

example: eval "$(tinybox twin env)" && tinybox-failsafe
"""

TIMEOUT_S = 0.9  # of silence, where ten beats a second are due
START_S = TIMEOUT_S / 2  # a living daemon beats meanwhile; with the restart before it, both may die at once
REPEAT_S = 1.0  # a card that comes back from a reset has the factory's limits
ANSWER_S = 0.5  # how long a round waits for the drivers
SAY_S = 10.0  # no oftener does the journal hear how a silence goes on
NVML = "nvml:"  # before the folder of a card whose limits its vendor's library writes
NVML_LIBRARY = "libnvidia-ml.so.1"
SUSPENDED = ("suspended", "suspending")
FANS = "fans-taken"  # what gives the fans back, a command line each; there only while the daemon has them
FANS_S = 20.0  # for one command: a controller may be slow


_NVML: list[ctypes.CDLL] = []
_NVML_LOCK = threading.Lock()


class Pen(threading.Thread):
    """Writes to one file in a thread of its own: a driver that hangs keeps no other file from being written."""

    def __init__(self, path: str, texts: list[str]) -> None:
        super().__init__(daemon=True)
        self._path = path
        self._texts = texts
        self.failures: list[str] = []

    def run(self) -> None:
        """Every text, whatever the file answers to the one before."""
        if is_asleep(self._path.removeprefix(NVML) + "/limits" if self._path.startswith(NVML) else self._path):
            self.failures.append("asleep, and left so")
            return
        for text in self._texts:
            try:
                write_nvml(self._path, text) if self._path.startswith(NVML) else write(self._path, text)
            except OSError as error:
                self.failures.append(f"'{text.strip()}': {error.strerror or error}")
            except (AttributeError, ValueError) as error:  # an older library, or a list that nobody wrote
                self.failures.append(f"'{text.strip()}': {error}")

    @property
    def answer(self) -> str:
        """What went wrong; empty when everything was written."""
        return "no answer yet" if self.is_alive() else ", ".join(self.failures)


class FanReturn(threading.Thread):
    """Gives the chassis fans back to their controller, command by command; the note goes when all were answered."""

    def __init__(self, path: str) -> None:
        super().__init__(daemon=True)
        self._path = path

    def run(self) -> None:
        """Every command, whatever came of the one before."""
        try:
            with open(self._path, errors="replace") as file:  # noqa: PTH123
                lines = [line for line in file.read().split("\n") if line]
        except OSError:
            return
        failures = [trouble for line in lines if (trouble := self._failure(line))]
        if failures:
            say(f"the fans could not be given back: {failures[0]}")
            return
        with contextlib.suppress(OSError):
            os.unlink(self._path)  # noqa: PTH108
        say("the fans were given back to their controller")

    @staticmethod
    def _failure(line: str) -> str:
        try:
            done = subprocess.run(shlex.split(line), capture_output=True, timeout=FANS_S, check=False)
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            return str(error)
        return "" if done.returncode == 0 else f"'{line}' ended with {done.returncode}"


class Failsafe:
    """The prepared list, the state of the files it names, and what the journal was told of them."""

    def __init__(self, list_path: str) -> None:
        self.list_path = list_path
        self._fans_path = os.path.join(os.path.dirname(list_path), FANS)  # noqa: PTH118, PTH120
        self._fans: FanReturn | None = None
        self._pens: dict[str, Pen] = {}
        self._said = ""
        self._said_s = 0.0

    def act(self, silent_s: float) -> None:
        """Carry out the list as it is now, and say how it went. A file that still hangs is left to hang."""
        pens = {}
        for path, texts in sorted_list(self.list_path):
            pen = self._pens.get(path)
            if pen is None or not pen.is_alive():
                pen = Pen(path, texts)
                try:
                    pen.start()
                except RuntimeError:  # no memory for a thread
                    pen.run()
            pens[path] = pen
        self._pens = pens
        self._return_fans()
        deadline_s = time.monotonic() + ANSWER_S
        for pen in pens.values():
            if pen.ident is not None:
                pen.join(max(0.0, deadline_s - time.monotonic()))
        account, now_s = self._account(), time.monotonic()
        if account != self._said and (not self._said or now_s >= self._said_s + SAY_S):
            say(f"no heartbeat for {silent_s:.1f} s: {account}")
            self._said, self._said_s = account, now_s

    def _return_fans(self) -> None:
        """Once at a time: the cards are at their floor by now, and a controller may take its time."""
        if os.path.exists(self._fans_path) and (self._fans is None or not self._fans.is_alive()):  # noqa: PTH110
            self._fans = FanReturn(self._fans_path)
            with contextlib.suppress(RuntimeError):  # no memory for a thread: the next round tries again
                self._fans.start()

    def rest(self, silent_s: float) -> None:
        """A heartbeat came."""
        if self._said:
            say(f"heartbeats are back after {silent_s:.1f} s")
        self._said = ""

    def _account(self) -> str:
        if not self._pens:
            return f"nothing to write in {self.list_path}"
        failed = [f"{path}: {pen.answer}" for path, pen in self._pens.items() if pen.answer]
        written = f"{len(self._pens) - len(failed)} of {len(self._pens)} files written"
        return "; ".join((written, *failed))


def sorted_list(path: str) -> list[tuple[str, list[str]]]:
    """What is to be written where: files first, they need no library."""
    return sorted(read_list(path).items(), key=lambda one: one[0].startswith(NVML))


def read_list(path: str) -> dict[str, list[str]]:
    """Texts by the file they go to: a line is a path, a tab, and the text with its newlines as backslash-n."""
    try:
        with open(path, errors="replace") as file:  # noqa: PTH123 - pathlib costs as much start-up as all the rest
            lines = file.read().split("\n")
    except OSError:
        return {}
    writes: dict[str, list[str]] = {}
    for line in lines:
        target, tab, text = line.partition("\t")
        if tab and target.startswith(("/", NVML)):
            writes.setdefault(target, []).append(text.replace("\\n", "\n"))
    return writes


def write(path: str, text: str) -> None:
    """One write to a file that exists. Raises OSError."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_TRUNC)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)


def write_nvml(path: str, text: str) -> None:
    """One limit of an NVIDIA card: `lock LEAST MOST`, `free`, `power MILLIWATTS`, `fans` (its own). Raises OSError."""
    library = nvml_library()
    card = ctypes.c_void_p()
    address = path.rpartition("/")[2].encode()
    check_nvml(library.nvmlDeviceGetHandleByPciBusId_v2(ctypes.c_char_p(address), ctypes.byref(card)))
    match text.split():
        case ["lock", least, most]:
            check_nvml(library.nvmlDeviceSetGpuLockedClocks(card, ctypes.c_uint(int(least)), ctypes.c_uint(int(most))))
        case ["free"]:
            check_nvml(library.nvmlDeviceResetGpuLockedClocks(card))
        case ["fans"]:
            fans = ctypes.c_uint()
            check_nvml(library.nvmlDeviceGetNumFans(card, ctypes.byref(fans)))
            for fan in range(fans.value):
                check_nvml(library.nvmlDeviceSetDefaultFanSpeed_v2(card, ctypes.c_uint(fan)))
        case ["power", limit]:
            check_nvml(library.nvmlDeviceSetPowerManagementLimit(card, ctypes.c_uint(int(limit))))
        case _:
            raise OSError(22, "no such limit")


def nvml_library() -> ctypes.CDLL:
    """NVIDIA's library, ready; opened once. Raises OSError. It may hang: for threads only."""
    with _NVML_LOCK:
        if not _NVML:
            library = ctypes.CDLL(NVML_LIBRARY)
            check_nvml(library.nvmlInit_v2())
            _NVML.append(library)
        return _NVML[0]


def check_nvml(code: int) -> None:
    """Raise OSError for what is not success."""
    if code != 0:
        raise OSError(5, f"NVML error {code}")


def prepare_nvml(list_path: str) -> None:
    """Open the library before it is needed, if the list names cards of it; with nobody waiting."""
    if any(path.startswith(NVML) for path in read_list(list_path)):
        with contextlib.suppress(OSError, AttributeError):
            nvml_library()


def is_asleep(path: str) -> bool:
    """Whether the device of this file is runtime-suspended (sysfs-devices-power): writing would wake it up."""
    folder = os.path.dirname(path)  # noqa: PTH120
    while folder != "/":
        try:
            with open(f"{folder}/power/runtime_status") as file:  # noqa: PTH123
                state = file.read().strip()
            if state != "unsupported":  # what a card's hwmon says: the card above it knows
                return state in SUSPENDED
        except OSError:
            pass  # no device, or one that cannot tell
        folder = os.path.dirname(folder)  # noqa: PTH120
    return False


def listen(path: str) -> socket.socket:
    """The socket that heartbeats come to, for its owner alone. Raises OSError; FileExistsError where one listens."""
    os.makedirs(os.path.dirname(path), exist_ok=True)  # noqa: PTH103, PTH120
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    try:
        listener.connect(path)
    except OSError:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)  # noqa: PTH108 - stale
    else:
        raise FileExistsError(0, "another tinybox-failsafe listens there")
    os.umask(0o177)  # whoever may beat can keep us from acting
    listener.bind(path)
    return listener


def serve(listener: socket.socket, failsafe: Failsafe) -> None:
    """Answer every heartbeat; act when none came for too long, and again until one comes."""
    tell_manager(listener, b"READY=1")
    heard_s = due_s = time.monotonic()
    due_s += START_S
    told_s = 0.0
    is_prepared = False
    while True:
        listener.settimeout(max(0.001, due_s - time.monotonic()))
        try:
            beat, sender = listener.recvfrom(64)
        except TimeoutError:
            failsafe.act(time.monotonic() - heard_s)
            due_s = time.monotonic() + REPEAT_S
        else:
            answer(listener, beat, sender)
            failsafe.rest(time.monotonic() - heard_s)
            heard_s = time.monotonic()
            due_s = heard_s + TIMEOUT_S
            if not is_prepared and not _NVML and os.path.exists(failsafe.list_path):  # noqa: PTH110
                is_prepared = True
                threading.Thread(target=prepare_nvml, args=(failsafe.list_path,), daemon=True).start()
        if (now_s := time.monotonic()) > told_s + REPEAT_S / 2:
            told_s = now_s
            tell_manager(listener, b"WATCHDOG=1")


def answer(listener: socket.socket, beat: bytes, sender: str | bytes | None) -> None:
    """Send the beat back: so the daemon knows which of its beats was heard."""
    with contextlib.suppress(OSError):
        if sender:
            listener.sendto(beat, socket.MSG_DONTWAIT, sender)


def tell_manager(listener: socket.socket, message: bytes) -> None:
    """A word to systemd (sd_notify(3)), where it listens."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    with contextlib.suppress(OSError):
        if address:
            name = "\0" + address[1:] if address.startswith("@") else address
            listener.sendto(message, socket.MSG_DONTWAIT, name)


def say(words: str) -> None:
    """One line on stderr; nobody has to listen."""
    with contextlib.suppress(OSError):
        os.write(2, f"tinybox-failsafe: {words}\n".encode())


def main() -> None:
    """The console script. Exit 0 for help, 1 when it cannot listen, 2 for a wrong call."""
    arguments = sys.argv[1:]
    if arguments in (["--help"], ["-h"]):
        sys.stdout.write(USAGE)
        return
    if arguments:
        sys.stderr.write(USAGE)
        sys.exit(2)
    folder = os.environ.get("TINYBOX_RUN_DIR", "/run/tinybox")
    try:
        listener = listen(f"{folder}/failsafe.sock")
    except OSError as error:
        say(f"cannot listen at {folder}/failsafe.sock: {error.strerror or error}")
        say("  stop the other one, run it as root, or point TINYBOX_RUN_DIR at a folder of yours")
        sys.exit(1)
    with contextlib.suppress(KeyboardInterrupt):
        serve(listener, Failsafe(f"{folder}/failsafe.list"))
