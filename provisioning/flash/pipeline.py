"""One reading of the artefact for several targets: it is read, unpacked, hashed and written at the same time.

The reader fills slots, a pool unpacks, each target has a thread that writes. A slot is free again when the slowest
target has it, so memory is the slots' and no more. A target that fails no longer takes part; the others go on.
"""

import mmap
import os
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from queue import SimpleQueue

from provisioning.artefact.manifest import MIB
from provisioning.flash.ends import end_frames
from provisioning.flash.fetch import Fetcher
from provisioning.flash.job import Job
from tinybox.core.errors import TinyboxError

SLOTS_BYTES = 48 * MIB
CPUS = os.cpu_count() or 1


class Slot:
    """Room for one frame, aligned for direct writes."""

    def __init__(self, length: int, free: "SimpleQueue[Slot]") -> None:
        self.buffer = memoryview(mmap.mmap(-1, length))
        self.filled: Future[int] = Future()
        self._free = free
        self._users = 0
        self._lock = threading.Lock()

    def lend(self, users: int, filled: "Future[int]") -> None:
        """To so many writers, who wait until it is filled."""
        self._users, self.filled = users, filled

    def give_back(self) -> None:
        """By one of them; the last one frees it."""
        with self._lock:
            self._users -= 1
            if self._users == 0:
                self._free.put(self)


Inbox = SimpleQueue[tuple[int, Slot] | None]


def flash(fetcher: Fetcher, jobs: Sequence[Job]) -> None:
    """Write all targets; what went wrong is in each job's `failure`. Whatever else ends it, an interruption say, ends
    every thread before it is raised.
    """
    try:
        _each(jobs, lambda job: job.begin())
        _write(fetcher, [job for job in jobs if job.failure is None])
        _each([job for job in jobs if job.failure is None], lambda job: job.finish())
    finally:
        fetcher.stopped.set()


def _each(jobs: Sequence[Job], step: Callable[[Job], None]) -> None:
    """The same step of every job at the same time; one that fails is noted."""
    if not jobs:
        return
    with ThreadPoolExecutor(len(jobs)) as pool:
        try:
            for done in [pool.submit(_guarded, job, step) for job in jobs]:
                done.result()
        except BaseException:
            jobs[0].fetcher.stopped.set()
            raise


def _guarded(job: Job, step: Callable[[Job], None]) -> None:
    try:
        step(job)
    except TinyboxError as error:
        job.failure = error.message
    except OSError as error:
        job.failure = f"{job.disk.name}: {error.strerror or error}"
    except subprocess.SubprocessError as error:
        job.failure = f"{job.disk.name}: {error}"


def _write(fetcher: Fetcher, jobs: Sequence[Job]) -> None:
    if not jobs:
        return
    inboxes: list[Inbox] = [SimpleQueue() for _ in jobs]
    with ThreadPoolExecutor(len(jobs)) as writers:
        running = [writers.submit(_serve, job, inbox) for job, inbox in zip(jobs, inboxes, strict=True)]
        try:
            _feed(fetcher, jobs, inboxes)
        except TinyboxError as error:
            for job in jobs:
                job.failure = job.failure or error.message
        except BaseException:
            fetcher.stopped.set()
            raise
        finally:
            for inbox in inboxes:
                inbox.put(None)
        for done in running:
            done.result()


def _feed(fetcher: Fetcher, jobs: Sequence[Job], inboxes: Sequence[Inbox]) -> None:
    """Read the frames that somebody lacks, in their order, as long as somebody takes them."""
    free: SimpleQueue[Slot] = SimpleQueue()
    length = max(fetcher.manifest.frame_bytes, mmap.PAGESIZE)
    for _ in range(max(4, SLOTS_BYTES // length)):
        free.put(Slot(length, free))
    with ThreadPoolExecutor(CPUS) as unpackers:
        for index in _frames_to_read(fetcher, jobs):
            slot = free.get()
            if fetcher.stopped.is_set() or all(job.failure is not None for job in jobs):
                return
            stored = fetcher.stored(index)
            slot.lend(len(jobs), unpackers.submit(_fill, fetcher, index, stored, slot))
            for inbox in inboxes:
                inbox.put((index, slot))


def _frames_to_read(fetcher: Fetcher, jobs: Sequence[Job]) -> Iterator[int]:
    """The ends are read in any case: they are written last, from memory."""
    ends = end_frames(fetcher.manifest)
    for index, is_used in enumerate(fetcher.manifest.is_used()):
        if is_used and (index in ends or any(index not in job.have for job in jobs)):
            yield index


def _serve(job: Job, inbox: Inbox) -> None:
    """Write what comes, until nothing more does. Slots go back whatever happens: the reader waits for them."""
    trouble: BaseException | None = None
    while (work := inbox.get()) is not None:
        index, slot = work
        try:
            if job.failure is None and not job.fetcher.stopped.is_set():
                _guarded(job, partial(_take, index=index, slot=slot))
        except BaseException as error:  # noqa: BLE001
            trouble = error
            job.fetcher.stopped.set()
        finally:
            slot.give_back()
    if trouble is not None:
        raise trouble


def _fill(fetcher: Fetcher, index: int, stored: bytes, slot: Slot) -> int:
    raw = fetcher.unpack(index, stored)
    slot.buffer[: len(raw)] = raw
    return len(raw)


def _take(job: Job, index: int, slot: Slot) -> None:
    length = slot.filled.result()
    if index not in job.have:
        job.write(index, slot.buffer[:length])
