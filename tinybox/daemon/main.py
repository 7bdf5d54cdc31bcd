"""`tinyboxd`: holds the box inside its outlet, in the foreground, one process."""

import fcntl
import gc
import logging
import os
import signal
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from tinybox import __version__
from tinybox.core.actions import EndWork, FreezeWork, PowerOff
from tinybox.core.box import Box, known_boxes, load_box
from tinybox.core.circuit import circuit_of
from tinybox.core.commission import Commission, load_commission
from tinybox.core.config import Config, Folders, load_config
from tinybox.core.errors import TinyboxError
from tinybox.core.flight import boot_id
from tinybox.core.snapshot import Fault, Severity
from tinybox.daemon.api import Board, Server, doors
from tinybox.daemon.arming import Arming
from tinybox.daemon.ear import Ear
from tinybox.daemon.flight import Recorder
from tinybox.daemon.heartbeat import Heartbeat
from tinybox.daemon.loop import Loop, Tick
from tinybox.daemon.machine import Machine
from tinybox.daemon.notify import Notifier
from tinybox.daemon.teller import Teller
from tinybox.daemon.watch import Keeper, Watch
from tinybox.hw.hardware import Hardware
from tinybox.hw.host import Host
from tinybox.hw.hotplug import Hotplug
from tinybox.policy.power import failsafe_actions

USAGE = """usage: tinyboxd [--safe-limits]

Holds the box inside its outlet: reads the sensors, shares the watts, answers on a Unix socket. It writes no limit until
the box is armed ('tinybox arm'). Settings are in /etc/tinybox/config.toml ('tinybox config show' prints them with their
origin).

  --safe-limits  put every card of an armed box at its lowest limits, tell tinybox-failsafe how, and exit

example: eval "$(tinybox twin env)" && tinyboxd
"""

SWITCH_INTERVAL_S = 0.0005
INIT = "'tinybox init' finds out what this machine is"
REASON_EVERY_S = 10.0  # limits follow the load several times a second; the status shows each of them

log = logging.getLogger("tinyboxd")


def main() -> None:
    """The console script. Exit 0 when stopped, 1 when it cannot govern, 2 for a wrong call."""
    arguments = sys.argv[1:]
    if arguments in (["--help"], ["-h"]):
        sys.stdout.write(USAGE)
        return
    if arguments == ["--version"]:
        sys.stdout.write(f"tinyboxd {__version__}\n")
        return
    if arguments not in ([], ["--safe-limits"]):
        sys.stderr.write(USAGE)
        sys.exit(2)
    logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s", stream=sys.stderr)
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    try:
        begin = safe_limits if arguments else run
        begin(Folders.from_environment(), Host.from_environment())
    except TinyboxError as error:
        sys.stderr.write(f"tinyboxd: {error.message}\n" + (f"  {error.hint}\n" if error.hint else ""))
        sys.exit(1)


def run(folders: Folders, host: Host) -> None:
    """Govern, or observe where not armed, until SIGTERM or SIGINT.

    Raises TinyboxError when it cannot begin; the cards of an armed box are at their floor then.
    """
    with hold_lock(folders.run):
        heartbeat = Heartbeat(folders.run)
        session = _begin(folders, host, heartbeat)
        face = Face(folders, session)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: face.stop())
        # The loop shares the interpreter with the API and the slow sensors: it waits for either this long, not 5 ms.
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        try:
            _run_session(session, face, heartbeat)
            while not face.is_stopping:  # armed or disarmed meanwhile: begin afresh, as a daemon that just started
                session = _begin(folders, host, heartbeat)
                face.follow(session)
                _run_session(session, face, heartbeat)
        finally:
            face.close()


def safe_limits(folders: Folders, host: Host) -> None:
    """Every card to its floor, and the failsafe told how; nothing where not armed.

    Raises TinyboxError for bad settings, once that is done.
    """
    arming = Arming(folders)
    if not arming.is_armed:
        log.info("not armed: no limit is written")
        return
    _settings(folders, host, arming, Heartbeat(folders.run))


@dataclass(frozen=True, slots=True)
class Session:
    """One stretch of governing or of observing: its kind of box, and the machine it looks at."""

    box: Box
    config: Config
    commission: Commission | None
    hardware: Hardware
    machine: Machine
    arming: Arming
    governs: bool


def _begin(folders: Folders, host: Host, heartbeat: Heartbeat) -> Session:
    """Failsafe first: more than the floor has to be earned by a first good look. Raises TinyboxError, at the floor."""
    arming = Arming(folders)
    governs = arming.is_armed
    hardware, config = _settings(folders, host, arming, heartbeat)
    box = hardware.box
    faults = () if (trouble := arming.trouble) is None else (Fault("arming", trouble),)
    for fault in faults:
        log.warning("%s", fault.reason)
    if governs:
        _refuse_foreign(hardware, box, folders)
        _remember_box(folders.state, box.name)
    else:
        heartbeat.forget()
        faults = (*faults, *(replace(fault, reason=f"{fault.reason}: {INIT}") for fault in hardware.mismatch()))
    machine = Machine(hardware, heartbeat, arming, Hotplug(host), governs=governs, faults=faults)
    return Session(box, config, _commission(folders.state, box), hardware, machine, arming, governs)


def _settings(folders: Folders, host: Host, arming: Arming, heartbeat: Heartbeat) -> tuple[Hardware, Config]:
    """The settings, and the cards of an armed box at their floor. Raises TinyboxError, at the floor."""
    try:
        config = load_config(folders.config)
        box = load_box(config.box, folders.boxes)
        circuit_of(box, config)
    except TinyboxError:
        _floor(Hardware(host, _last_box(folders), Config()), arming, heartbeat)
        raise
    hardware = Hardware(host, box, config, folders.run)
    _floor(hardware, arming, heartbeat)
    return hardware, config


class Face:
    """What outlives a session: the API, the service manager's and the journal's news, and the wish to stop."""

    def __init__(self, folders: Folders, session: Session) -> None:
        self.board = Board(session.box.name)
        self.is_stopping = False
        self.loop: Loop | None = None
        self._notifier = Notifier()
        self._journal = Journal()
        self._socket = folders.socket
        self.state = folders.state
        self._box = session.box
        self._recorder = self._record()
        self._teller = self._tell(session)
        self.keeper = Keeper()
        self._server = Server(*doors(self.board, folders.socket, session.config.metrics.address))
        self._server.start()

    def stop(self) -> None:
        """End after the current turn; safe to call from a signal handler."""
        self.is_stopping = True
        if self.loop is not None:
            self.loop.stop()

    def follow(self, session: Session) -> None:
        """The next session: its settings, and its box, of which another kind has other records."""
        box = session.box
        self.board.box = box.name
        self._teller.stop()
        self._teller = self._tell(session)
        if box != self._box:
            self._recorder.stop(is_clean=True)
            self._box = box
            self._recorder = self._record()

    def _tell(self, session: Session) -> Teller:
        teller = Teller(session.config.alerts, session.box.name)
        self.board.totals.told = {sender.name: sender.counts for sender in teller.senders}
        return teller

    def _record(self) -> Recorder:
        recorder = Recorder(self.state, self._box, boot_id())
        recorder.start()
        return recorder

    def begin(self, words: str, tick: Tick) -> None:
        """A session took its first look."""
        self._notifier.ready(words)
        log.info("%s: %s", words, tick.decision.reason)

    def show(self, tick: Tick) -> None:
        """One turn."""
        self.board.publish(tick)
        self._recorder.note(tick)
        self._teller.note(tick)
        self._journal.note(tick)
        self._notifier.beat()

    def close(self) -> None:
        """The last words."""
        self._notifier.stopping()
        self._recorder.stop(is_clean=self.is_stopping)
        self._teller.stop()
        self.keeper.stop()
        self._server.stop()
        self._socket.unlink(missing_ok=True)
        self._journal.close()


def _run_session(session: Session, face: Face, heartbeat: Heartbeat) -> None:
    """Turn until stopped, or until the box is armed or disarmed."""
    is_first = True
    ear = Ear(face.state, session.box, session.config.noise)
    watch = Watch(face.state, session.box, session.config, face.keeper)

    def publish(tick: Tick) -> None:
        nonlocal is_first
        tick = watch.look(tick)
        if is_first:
            face.begin(f"{'governing' if session.governs else 'observing'} box {session.box.name}", tick)
            is_first = False
        face.show(tick)
        if face.is_stopping or session.arming.is_armed != session.governs:
            loop.stop()

    loop = face.loop = Loop(session.machine, session.box, session.config, publish, heartbeat.beat, ear.listen)
    session.machine.start(loop.wake)
    gc.collect()
    gc.freeze()  # what is loaded by now stays: the collector need not walk it ten times a second
    try:
        loop.run(session.commission)
    except BaseException:
        log.exception("unforeseen: every card goes to its floor")
        _floor(session.hardware, session.arming, heartbeat)
        raise
    finally:
        watch.close()
        # A plain stop leaves the limits to the failsafe: a box that nobody governs belongs at its floor.
        session.machine.stop()
        session.hardware.release()


class Journal:
    """Tells the log why the governor acts: reasons at most every few seconds, last resorts always."""

    def __init__(self) -> None:
        self._reason = ""
        self._next_s = 0.0

    def note(self, tick: Tick) -> None:
        """Log what is new in this tick."""
        actions, now_s = tick.decision.actions, tick.snapshot.time_s
        is_resort = any(isinstance(action, FreezeWork | EndWork | PowerOff) for action in actions)
        if actions and tick.decision.reason != self._reason and (is_resort or now_s >= self._next_s):
            self._reason, self._next_s = tick.decision.reason, now_s + REASON_EVERY_S
            log.info("%s", self._reason)

    def close(self) -> None:
        """The last words."""
        log.info("stopped; limits stay as they are")


def hold_lock(folder: Path) -> IO[str]:
    """The one daemon's lock, held until closed. Raises TinyboxError naming the process that has it."""
    path = folder / "tinyboxd.lock"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = path.open("a+")
    except OSError as error:
        hint = "run tinyboxd as root, or point TINYBOX_RUN_DIR at a folder of yours"
        raise TinyboxError(f"cannot open {path}: {error.strerror}", hint=hint) from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.seek(0)
        holder = lock.read().strip() or "unknown"
        lock.close()
        hint = "one daemon governs a box: stop that one first ('systemctl stop tinyboxd')"
        raise TinyboxError(f"tinyboxd already runs (process {holder})", hint=hint) from None
    lock.seek(0)
    lock.truncate()
    lock.write(f"{os.getpid()}\n")
    lock.flush()
    return lock


def _floor(hardware: Hardware, arming: Arming, heartbeat: Heartbeat) -> None:
    """Every card of an armed box to its lowest limits, whatever some answer, and even where reading is what fails."""
    if not arming.is_armed:
        return
    try:
        gpus = hardware.read_fast(time.monotonic()).gpus
    except Exception:
        log.exception("cannot read the cards: they are taken for awake")
        gpus = hardware.assumed_gpus()
    actions = failsafe_actions(gpus, hardware.box)
    arming.record(hardware, gpus)
    with arming.permit() as is_permitted:
        if not is_permitted:
            return
        # The list comes first: a write that hangs here is then the failsafe's to get round.
        heartbeat.prepare(hardware.failsafe_writes(actions))
        for fault in hardware.failsafe(actions):
            log.warning("%s: %s", fault.device, fault.reason)


def _refuse_foreign(hardware: Hardware, box: Box, folders: Folders) -> None:
    """Stop at a machine that is not this kind of box: its figures would not be true of it."""
    for fault in hardware.mismatch():
        if fault.severity is Severity.CRITICAL:
            hint = f"set box in the configuration to the right one of: {', '.join(known_boxes(folders.boxes))}"
            raise TinyboxError(f"this machine is not a '{box.name}' box: {fault.device}: {fault.reason}", hint=hint)
        log.warning("%s: %s", fault.device, fault.reason)


def _commission(state: Path, box: Box) -> Commission | None:
    """What was measured of this box; a file that cannot be meant counts as nothing measured: the stricter guarantee."""
    try:
        return load_commission(state, box)
    except TinyboxError as error:
        log.warning("%s: the box counts as not measured", error.message)
        return None


def _last_box(folders: Folders) -> Box:
    """The kind of box that last governed here; the first product where nobody knows, or its file is broken."""
    try:
        name = (folders.state / "box").read_text().strip()
    except OSError:
        name = ""
    try:
        return load_box(name, folders.boxes)
    except TinyboxError:
        return load_box("red")


def _remember_box(state: Path, name: str) -> None:
    try:
        state.mkdir(parents=True, exist_ok=True)
        (state / "box").write_text(f"{name}\n")
    except OSError as error:
        log.warning("cannot remember the box in %s: %s", state, error.strerror)
