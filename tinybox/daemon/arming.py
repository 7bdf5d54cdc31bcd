"""Whether the daemon may write, asked before every write; and the record of what was in force before the first."""

import logging
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace

from tinybox.core.armed import FILE_NAME, Armed, CardLimits, arming_lock, is_armed, load_armed, save_armed
from tinybox.core.config import Folders
from tinybox.core.errors import TinyboxError
from tinybox.core.snapshot import Gpu, GpuState
from tinybox.hw.hardware import Hardware

# Shorter than the failsafe's patience: whoever keeps the lock for so long does not keep the daemon from governing.
LOCK_S = 0.4
RETRY_S = 10.0  # a full disk is not asked ten times a second

log = logging.getLogger("tinyboxd")


class Arming:
    """The switch that `tinybox arm` and `tinybox disarm` throw."""

    def __init__(self, folders: Folders) -> None:
        self._folders = folders
        self._recorded: frozenset[str] = frozenset()
        self._owed: tuple[CardLimits, ...] = ()
        self.retry_s = 0.0
        self._seen: tuple[int, int, int] | None = None
        self._is_armed = False

    @property
    def is_armed(self) -> bool:
        """Whether the box is armed now; the file is read when it is another than the last."""
        try:
            found = (self._folders.state / FILE_NAME).stat()
        except OSError:
            self._seen = None
            return is_armed(self._folders.state)
        seen = (found.st_ino, found.st_mtime_ns, found.st_size)
        if seen != self._seen:
            self._is_armed, self._seen = is_armed(self._folders.state), seen
        return self._is_armed

    @property
    def trouble(self) -> str | None:
        """What is wrong with the file, and so with every record; the box counts as armed then."""
        try:
            load_armed(self._folders.state)
        except TinyboxError as error:
            return f"{error.message}: {error.hint}"
        return None

    @contextmanager
    def permit(self) -> Iterator[bool]:
        """Whether limits may be written within; no disarming begins meanwhile."""
        with ExitStack() as stack:
            try:
                stack.enter_context(arming_lock(self._folders, is_shared=True, timeout_s=LOCK_S))
            except OSError as error:  # a last resort does not wait for a lock
                log.warning("without the arming lock: %s", error)
            yield self.is_armed

    def record(self, hardware: Hardware, gpus: Iterable[Gpu]) -> None:
        """Note the limits of every card that has no record yet, once, before anybody lowers them. Never raises."""
        fresh = tuple(gpu for gpu in gpus if gpu.state is GpuState.AWAKE and gpu.pci not in self._recorded)
        if not fresh and (not self._owed or time.monotonic() < self.retry_s):
            return
        try:
            with arming_lock(self._folders, is_shared=False, timeout_s=LOCK_S):
                self._note(load_armed(self._folders.state), hardware, fresh)
        except TinyboxError:  # a broken file: said when it began
            self._recorded |= {gpu.pci for gpu in fresh}
        except OSError as error:
            # The outlet comes first: the card is limited all the same, and its figures are tried again.
            self._owe(hardware.limits(fresh))
            self.retry_s = time.monotonic() + RETRY_S
            log.warning("cannot note the limits from before: %s", error)

    def _note(self, armed: Armed | None, hardware: Hardware, fresh: tuple[Gpu, ...]) -> None:
        if armed is None or not armed.is_armed:
            return
        self._recorded = armed.addresses
        self._owe(hardware.limits(gpu for gpu in fresh if gpu.pci not in armed.addresses))
        owed = tuple(card for card in self._owed if card.pci not in armed.addresses)
        cpu_cap_w = armed.cpu_cap_w if armed.cpu_cap_w is not None else hardware.cpu_cap_w()
        noted = replace(armed, cards=(*armed.cards, *owed), cpu_cap_w=cpu_cap_w)
        if noted != armed:
            save_armed(self._folders.state, noted)
        self._recorded |= {card.pci for card in owed}
        self._owed = ()

    def _owe(self, found: tuple[CardLimits, ...]) -> None:
        """Keep what was read first: later readings may show what we wrote."""
        known = {card.pci for card in self._owed}
        self._owed += tuple(card for card in found if card.pci not in known)
        self._recorded |= {card.pci for card in found}
