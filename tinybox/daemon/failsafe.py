"""`tinybox-failsafe`: limits the cards when the daemon falls silent. A program of its own that knows nothing of cards.

It decides nothing and imports only the standard library: it writes what the daemon prepared (docs/failsafe.md).
"""

import contextlib
import os
import socket
import sys
import threading
import time

USAGE = """usage: tinybox-failsafe

Listens for tinyboxd's heartbeats and, when they stop, carries out the writes of /run/tinybox/failsafe.list, again every
second until they return. Takes no arguments; TINYBOX_RUN_DIR names another folder for socket and list.

example: eval "$(tinybox twin env)" && tinybox-failsafe
"""

TIMEOUT_S = 0.9  # of silence, where ten beats a second are due
START_S = TIMEOUT_S / 2  # a living daemon beats meanwhile; with the restart before it, both may die at once
REPEAT_S = 1.0  # a card that comes back from a reset has the factory's limits
ANSWER_S = 0.5  # how long a round waits for the drivers
SAY_S = 10.0  # no oftener does the journal hear how a silence goes on
SUSPENDED = ("suspended", "suspending")


class Pen(threading.Thread):
    """Writes to one file in a thread of its own: a driver that hangs keeps no other file from being written."""

    def __init__(self, path: str, texts: list[str]) -> None:
        super().__init__(daemon=True)
        self._path = path
        self._texts = texts
        self.failures: list[str] = []

    def run(self) -> None:
        """Every text, whatever the file answers to the one before."""
        if is_asleep(self._path):
            self.failures.append("asleep, and left so")
            return
        for text in self._texts:
            try:
                write(self._path, text)
            except OSError as error:
                self.failures.append(f"'{text.strip()}': {error.strerror}")

    @property
    def answer(self) -> str:
        """What went wrong; empty when everything was written."""
        return "no answer yet" if self.is_alive() else ", ".join(self.failures)


class Failsafe:
    """The prepared list, the state of the files it names, and what the journal was told of them."""

    def __init__(self, list_path: str) -> None:
        self._list_path = list_path
        self._pens: dict[str, Pen] = {}
        self._said = ""
        self._said_s = 0.0

    def act(self, silent_s: float) -> None:
        """Carry out the list as it is now, and say how it went. A file that still hangs is left to hang."""
        pens = {}
        for path, texts in read_list(self._list_path).items():
            pen = self._pens.get(path)
            if pen is None or not pen.is_alive():
                pen = Pen(path, texts)
                try:
                    pen.start()
                except RuntimeError:  # no memory for a thread
                    pen.run()
            pens[path] = pen
        self._pens = pens
        deadline_s = time.monotonic() + ANSWER_S
        for pen in pens.values():
            if pen.ident is not None:
                pen.join(max(0.0, deadline_s - time.monotonic()))
        account, now_s = self._account(), time.monotonic()
        if account != self._said and (not self._said or now_s >= self._said_s + SAY_S):
            say(f"no heartbeat for {silent_s:.1f} s: {account}")
            self._said, self._said_s = account, now_s

    def rest(self, silent_s: float) -> None:
        """A heartbeat came."""
        if self._said:
            say(f"heartbeats are back after {silent_s:.1f} s")
        self._said = ""

    def _account(self) -> str:
        if not self._pens:
            return f"nothing to write in {self._list_path}"
        failed = [f"{path}: {pen.answer}" for path, pen in self._pens.items() if pen.answer]
        written = f"{len(self._pens) - len(failed)} of {len(self._pens)} files written"
        return "; ".join((written, *failed))


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
        if tab and target.startswith("/"):
            writes.setdefault(target, []).append(text.replace("\\n", "\n"))
    return writes


def write(path: str, text: str) -> None:
    """One write to a file that exists. Raises OSError."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_TRUNC)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)


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
