"""The baseboard controller: its sensors, its log, the chassis fans (docs/protocol/bmc.md)."""

import contextlib
import time
from dataclasses import replace
from pathlib import Path

from tinybox.core.actions import ReleaseFans, SetFanDuty
from tinybox.core.config import BmcConfig
from tinybox.core.errors import HardwareError
from tinybox.core.snapshot import Bmc, BmcSensor, Fan, Fault
from tinybox.hw.controller import Controller, IpmiController, Told
from tinybox.hw.fankeeper import FanKeeper
from tinybox.hw.host import Host
from tinybox.hw.redfish import RedfishController

GREETING_S = 5.0  # `mc info` of a busy controller
BRIEF_S = 0.4  # the same, where a person waits for the answer
REST_S = 10.0  # a controller that did not answer is left alone so long
REMEMBERED_S = 60.0  # and by a program that does not wait for it, where another found it silent
SILENT = "bmc-silent"  # in the run folder: why
STILL_S = 20.0  # nothing measured moved, while the supplies saw the load move
DEAD_STILL_S = 180.0  # nothing moved at all, not even the last watt
MOVED_W, MOVED_FRACTION = 50.0, 0.1


class Silence:
    """A controller that did not answer: known to this process, and to the ones after it through the run folder."""

    def __init__(self, run: Path | None) -> None:
        self._note = run / SILENT if run else None
        self._until_s = float("-inf")
        self._reason = ""

    def reason(self, now_s: float, *, is_brief: bool) -> str | None:
        """Why it is not worth asking now; None when it is."""
        if now_s < self._until_s:
            return self._reason
        if not is_brief or self._note is None:
            return None
        try:
            age_s = time.time() - self._note.stat().st_mtime
            words = self._note.read_text().strip()
        except OSError:
            return None
        return f"{words} (tried {age_s:.0f} s ago)" if 0 <= age_s < REMEMBERED_S else None

    def begin(self, now_s: float, reason: str) -> None:
        """It did not answer."""
        self._until_s, self._reason = now_s + REST_S, reason
        if self._note is not None:
            with contextlib.suppress(OSError):  # whoever may not write there forgets
                self._note.parent.mkdir(parents=True, exist_ok=True)
                self._note.write_text(f"{reason}\n")

    def end(self) -> None:
        """It answered."""
        if self._note is not None:
            with contextlib.suppress(OSError):
                self._note.unlink(missing_ok=True)


class Stillness:
    """Whether a controller tells the same for ever: some firmware hangs so, one with a full log (lm-sensors #342)."""

    def __init__(self) -> None:
        self._figures: tuple[tuple[str, float], ...] = ()
        self._since_s = 0.0
        self._seen_w: list[float] = []

    def judge(self, now_s: float, figures: tuple[tuple[str, float], ...], wall_w: float | None) -> BmcSensor | None:
        """`wall_w` is what the supplies' own meters say; a controller without fine figures is judged by them alone."""
        if figures != self._figures or not figures:
            self._figures, self._since_s, self._seen_w = figures, now_s, []
        if wall_w is not None:
            self._seen_w = [min([*self._seen_w, wall_w]), max([*self._seen_w, wall_w])]
        still_s = now_s - self._since_s
        low_w, high_w = self._seen_w or (0.0, 0.0)
        if still_s >= STILL_S and high_w - low_w > max(MOVED_W, MOVED_FRACTION * high_w):
            words = f"no reading changed for {still_s:.0f} s, while the load moved by {high_w - low_w:.0f} W"
            return BmcSensor("all sensors", "stale", words)
        if still_s >= DEAD_STILL_S and any(name == "DCMI" for name, _ in figures):
            return BmcSensor("all sensors", "stale", f"no reading changed for {still_s:.0f} s, not by one watt")
        return None


class BmcDriver:
    """One controller. Absent and silent are told apart by the reason."""

    def __init__(self, host: Host, config: BmcConfig, fans_expected: int, run: Path | None = None) -> None:
        self._fans_expected = fans_expected
        if not host.is_real and not host.live & {"ipmitool", "redfish"}:
            run = None  # a recording leaves no notes
        self._controller: Controller | None = None
        self._keeper: FanKeeper | None = None
        if config.interface == "redfish":
            self._controller = RedfishController(host, config)
        elif config.interface != "none":
            self._controller = ipmi = IpmiController(host, config)
            self._keeper = FanKeeper(ipmi, run)
        self._silence = Silence(run)
        self._stillness = Stillness()
        self._is_greeted = False

    def read(
        self, now_s: float, *, wall_w: float | None = None, is_brief: bool = False
    ) -> tuple[Bmc, tuple[Fan, ...], tuple[Fault, ...]]:
        """Its sensors now. Takes as long as the controller takes: never call it from the fast loop.

        `wall_w` is what the supplies' meters say. A `brief` reader does not wait for a controller that is silent.
        """
        if self._controller is None:
            return Bmc(), (), ()
        reason = self._silence.reason(now_s, is_brief=is_brief)
        if reason is None:
            try:
                told = self._ask(self._controller, now_s, is_brief=is_brief)
            except HardwareError as error:
                reason = f"no answer: {error}"
                self._is_greeted = False
                self._silence.begin(now_s, reason)
            else:
                return self._tell(told, now_s, wall_w)
        fans = self._fans({}, {})
        return Bmc(), fans, (Fault("bmc", reason), *_silent_fans(fans))

    def want(self, action: SetFanDuty | ReleaseFans) -> None:
        """Note what is asked of the fans; the next round does it. Raises HardwareError where nobody could."""
        if self._keeper is None:
            raise HardwareError("no controller that drives the fans")
        self._keeper.want(action)

    def recall_fans(self) -> None:
        """Give back, at the next round, what a daemon that was killed had taken."""
        if self._keeper is not None:
            self._keeper.recall()

    def close(self) -> None:
        """Give back what was taken."""
        if self._keeper is not None:
            self._keeper.release()

    def _ask(self, controller: Controller, now_s: float, *, is_brief: bool) -> Told:
        if not self._is_greeted:
            controller.greet(BRIEF_S if is_brief else GREETING_S)
            self._is_greeted = True
        told = controller.read(now_s)
        self._silence.end()
        return told

    def _tell(self, told: Told, now_s: float, wall_w: float | None) -> tuple[Bmc, tuple[Fan, ...], tuple[Fault, ...]]:
        bmc = told.bmc
        faults: tuple[Fault, ...] = ()
        duties = told.duties
        if self._keeper is not None and self._controller is not None:
            faults = self._keeper.tend(now_s, self._controller.maker, told.rpm)
            bmc, duties = replace(bmc, fan_control=self._keeper.control), self._keeper.duties
        if (stale := self._stillness.judge(now_s, told.figures, wall_w)) is not None:
            bmc = replace(bmc, troubled=(*bmc.troubled, stale))
        fans = self._fans(told.rpm, duties)
        return bmc, fans, (*faults, *_silent_fans(fans))

    def _fans(self, rpm: dict[str, float], duties: dict[str, float]) -> tuple[Fan, ...]:
        expected = {f"{number}" for number in range(1, self._fans_expected + 1)}
        names = sorted({*rpm, *expected}, key=lambda name: (len(name) if name.isdigit() else 9, name))
        return tuple(Fan(f"fan/chassis{name}", rpm.get(name), duties.get(name)) for name in names)


def _silent_fans(fans: tuple[Fan, ...]) -> tuple[Fault, ...]:
    return tuple(Fault(fan.id, "the BMC tells no speed of this fan") for fan in fans if fan.rpm is None)
