"""Who drives the chassis fans, and what came of what they were told. Nothing is written unless somebody asks."""

import contextlib
import shlex
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tinybox.core.actions import ReleaseFans, SetFanDuty
from tinybox.core.errors import HardwareError
from tinybox.core.snapshot import Fault
from tinybox.hw.fans import LEAST_PCT, TOLERANCE_PCT, FanFamily, find_family

TAKEN = "fans-taken"  # in the run folder: what gives the fans back, for whoever comes after us
ASKED_EVERY_S = 10.0  # whether the fans are manual
PROBED_AGAIN_S = 600.0  # whether this controller knows a way to, after it had none
FIRST_WAIT_S = 10.0  # doubled each time: a controller that is busy or was just started misses a question
FOLLOW_S = 15.0  # fans have reached their speed by then
STEP_PCT = 10.0  # a change that a tachometer must show
MOVED_FRACTION = 0.05
PATIENCE_S = 10.0  # for a round that is under way when we end
FANS = "fans"  # the device in faults


@dataclass(frozen=True, slots=True)
class Trial:
    """A duty that was written, the one before, and the speeds of that moment: the tachometers must follow."""

    due_s: float
    before_pct: float
    duty_pct: float
    rpm: dict[str, float]

    def fault(self, rpm: dict[str, float]) -> str | None:
        """What is wrong; None where a fan followed, or the step was too small to tell."""
        step_pct = self.duty_pct - self.before_pct
        pairs = [(self.rpm[name], now) for name, now in rpm.items() if self.rpm.get(name)]
        if abs(step_pct) < STEP_PCT or not pairs:
            return None
        if any((now - before) * step_pct > 0 and abs(now - before) > MOVED_FRACTION * before for before, now in pairs):
            return None
        before, now = (sum(column) / len(pairs) for column in zip(*pairs, strict=True))
        return (
            f"told {self.duty_pct:.0f} % in place of {self.before_pct:.0f} %, and no tachometer followed: "
            f"{before:.0f} rpm before, {now:.0f} rpm now"
        )


class Wire(Protocol):
    """The way to a controller."""

    def argv(self, request: bytes) -> tuple[str, ...]:
        """The command line that sends these bytes."""

    def raw(self, request: bytes) -> bytes:
        """Send them; the answer's data. Raises HardwareError."""


class FanKeeper:
    """The fans of one controller. `want` may be called from any thread; `tend` is for the slow one."""

    def __init__(self, wire: Wire, run: Path | None) -> None:
        self.duties: dict[str, float] = {}
        self.control: str | None = None
        self._wire = wire
        self._note = run / TAKEN if run else None
        self._family: FanFamily | None = None
        self._probe_due_s = self._ask_due_s = float("-inf")
        self._probe_wait_s = FIRST_WAIT_S
        self._wanted: SetFanDuty | ReleaseFans | None = None
        self._is_manual: bool | None = None
        self._is_taken = False
        self._held_pct: float | None = None
        self._trial: Trial | None = None
        self._trouble: str | None = None
        self._lock = threading.Lock()  # writing to the controller, and giving the fans back at the end

    def want(self, action: SetFanDuty | ReleaseFans) -> None:
        """Note what is asked; the next round does it."""
        self._wanted = action

    def recall(self) -> None:
        """Give back, at the next round, what one before us had taken when it was killed."""
        if self._note is not None and self._note.exists():
            self._wanted = ReleaseFans()

    def tend(self, now_s: float, maker: int | None, rpm: dict[str, float]) -> tuple[Fault, ...]:
        """One round: do what is wanted, see what came of it, see who drives. `rpm` by number or letter."""
        with self._lock:
            if self._family is None and now_s >= self._probe_due_s:
                self._probe_due_s = now_s + self._probe_wait_s
                self._probe_wait_s = min(2 * self._probe_wait_s, PROBED_AGAIN_S)
                self._family = find_family(maker, self._wire.raw)
            wanted, self._wanted = self._wanted, None
            if wanted is not None:
                self._carry_out(wanted, now_s, rpm)
            if self._family is not None:
                self._follow(self._family, now_s, rpm)
                self._ask(self._family, now_s, rpm)
        return (Fault(FANS, self._trouble),) if self._trouble else ()

    def release(self) -> None:
        """Give back what was taken; on every way out."""
        if not self._is_taken or not self._lock.acquire(timeout=PATIENCE_S):
            return  # the note stays: whoever comes next gives them back
        try:
            self._give_back()
        finally:
            self._lock.release()

    def _carry_out(self, wanted: SetFanDuty | ReleaseFans, now_s: float, rpm: dict[str, float]) -> None:
        if self._family is None:
            self._trouble = "nobody knows how the fans of this controller are driven"
            return
        if isinstance(wanted, ReleaseFans):
            self._trouble = self._give_back()
        else:
            duty_pct = max(LEAST_PCT, min(100.0, wanted.duty_pct))
            if duty_pct == self._held_pct and self.control == "ours":
                return
            self._trouble = self._take(self._family, duty_pct, now_s, rpm)
        self._ask_due_s = float("-inf")

    def _take(self, family: FanFamily, duty_pct: float, now_s: float, rpm: dict[str, float]) -> str | None:
        """Trouble in words. The note comes first: whatever happens to us, somebody can give the fans back."""
        try:
            before = family.duties()
            # The note goes when somebody gave the fans back for us while we were silent.
            if not self._is_taken or (self._note is not None and not self._note.exists()):
                self._is_taken = True
                self._write_note(family.release_requests())
            family.set_duty(duty_pct)
        except HardwareError as error:
            self._give_back()  # fans that were taken and told nothing run at their least
            return str(error)
        self._held_pct = duty_pct
        self._trial = Trial(now_s + FOLLOW_S, before[0], duty_pct, dict(rpm))
        return None

    def _follow(self, family: FanFamily, now_s: float, rpm: dict[str, float]) -> None:
        """Commands that are answered and do nothing are no control: the tachometers have the last word."""
        if self._trial is None or now_s < self._trial.due_s:
            return
        fault, self._trial = self._trial.fault(rpm), None
        if fault is not None:
            self._give_back()
            self._trouble = f"{family.name}: {fault}; they were given back"

    def _ask(self, family: FanFamily, now_s: float, rpm: dict[str, float]) -> None:
        """The duties go with the speeds of the same round: older ones would make a fan that slows down look worn."""
        try:
            slots = family.duties()
            if now_s >= self._ask_due_s:
                self._ask_due_s = now_s + ASKED_EVERY_S
                self._is_manual = family.is_manual()
        except HardwareError:
            self.duties, self.control = {}, None
            return
        numbered = {name: family.slot_of(name) for name in rpm}
        self.duties = {name: slots[i] for name, i in numbered.items() if i is not None and i < len(slots)}
        self.control = self._who(self._is_manual)

    def _who(self, is_manual: bool | None) -> str | None:
        """Ours only where every fan is told what we said; a controller that was reset is automatic again."""
        if self._held_pct is None:
            return None if is_manual is None else "other" if is_manual else "automatic"
        if is_manual is False:
            return "automatic"
        told = [duty for duty in self.duties.values() if duty > 0]
        return "ours" if all(abs(duty - self._held_pct) <= TOLERANCE_PCT for duty in told) else "other"

    def _give_back(self) -> str | None:
        """Trouble in words; then the note stays, and the next one tries again."""
        try:
            if (noted := self._noted()) is not None:
                for request in noted:
                    self._wire.raw(request)
            elif self._family is not None:
                for request in self._family.release_requests():
                    self._wire.raw(request)
        except HardwareError as error:
            return f"the fans could not be given back: {error}"
        self._is_taken, self._held_pct, self._trial = False, None, None
        if self._note is not None:
            with contextlib.suppress(OSError):
                self._note.unlink(missing_ok=True)
        return None

    def _write_note(self, requests: tuple[bytes, ...]) -> None:
        if self._note is not None:
            with contextlib.suppress(OSError):
                self._note.parent.mkdir(parents=True, exist_ok=True)
                self._note.write_text("".join(f"{shlex.join(self._wire.argv(request))}\n" for request in requests))

    def _noted(self) -> tuple[bytes, ...] | None:
        """The requests of the note; a note that is none counts as none."""
        try:
            lines = self._note.read_text().splitlines() if self._note is not None else []
            found = tuple(bytes(int(word, 16) for word in line.partition(" raw ")[2].split()) for line in lines)
        except (OSError, ValueError):
            return None
        return found if found and all(found) else None
