"""The owner's readings of a sound meter and wishes for quiet, as they are now: a new one counts within seconds."""

import logging
import time
from pathlib import Path

from tinybox.core import acoustics, quiet
from tinybox.core.box import Box
from tinybox.core.durable import Seen
from tinybox.core.errors import TinyboxError
from tinybox.core.quiet import NoiseConfig, Quiet
from tinybox.policy.noise import Acoustics, fitted

log = logging.getLogger("tinyboxd")
LOOKS_EVERY_S = 2.0


class Ear:
    """What is known of how loud this box is, and how loud it may be."""

    def __init__(self, state: Path, box: Box, config: NoiseConfig) -> None:
        self._state = state
        self._box = box
        self._config = config
        self._due_s = float("-inf")
        self._readings, self._wishes = Seen(state / acoustics.FILE_NAME), Seen(state / quiet.FILE_NAME)
        self._choice: str | None = None
        self.acoustics = fitted(box.noise, ())
        self.quiet: Quiet | None = None

    def listen(self) -> tuple[Acoustics, Quiet | None]:
        """The same objects for as long as nothing was read anew, and no hour struck."""
        if time.monotonic() >= self._due_s:
            self._due_s = time.monotonic() + LOOKS_EVERY_S
            if self._readings.is_new():
                self._read()
            if self._wishes.is_new():
                self._ask()
            now = time.localtime()
            wish = quiet.wish_of(self._choice, self._config, 60 * now.tm_hour + now.tm_min)
            if wish != self.quiet:
                self.quiet = wish
        return self.acoustics, self.quiet

    def _read(self) -> None:
        try:
            readings = acoustics.load_calibration(self._state, self._box.name).readings
        except TinyboxError as error:
            log.warning("noise is estimated: %s", error)
            readings = ()
        self.acoustics = fitted(self._box.noise, readings)

    def _ask(self) -> None:
        try:
            self._choice = quiet.load_choice(self._state)
        except TinyboxError as error:
            log.warning("the settings' profile of noise holds: %s", error)
            self._choice = None
