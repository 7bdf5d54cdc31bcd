"""The image's first and last MiB: what makes a disk start is there, so they wait until all else is right."""

from dataclasses import dataclass, field

from provisioning.artefact.manifest import MIB, SECTOR_BYTES, Manifest


@dataclass(slots=True)
class Ends:
    """Both ends as they come out of their frames, and which part of the image lies between them."""

    size_bytes: int
    first: bytearray = field(init=False)
    last: bytearray = field(init=False)
    last_start: int = field(init=False)

    def __post_init__(self) -> None:
        self.first = bytearray(min(MIB, self.size_bytes))
        # Aligned down: what lies before it is then written past the page cache.
        start = max(0, self.size_bytes - MIB) // SECTOR_BYTES * SECTOR_BYTES
        self.last_start = max(len(self.first), start)
        self.last = bytearray(max(0, self.size_bytes - self.last_start))

    def middle(self, offset: int, length: int) -> tuple[int, int]:
        """(start, end) of what is to be written at once of this range; empty where end is not after start."""
        return max(offset, len(self.first)), min(offset + length, self.last_start)

    def hold(self, offset: int, raw: bytes | memoryview) -> None:
        """Keep what these bytes have of the ends."""
        self._copy(self.first, 0, offset, raw)
        self._copy(self.last, self.last_start, offset, raw)

    def overlay(self, offset: int, raw: memoryview) -> None:
        """Put what is kept back where it belongs in bytes that were read from the target."""
        for held, at in ((self.first, 0), (self.last, self.last_start)):
            start, end = max(at, offset), min(at + len(held), offset + len(raw))
            if start < end:
                raw[start - offset : end - offset] = held[start - at : end - at]

    @staticmethod
    def _copy(held: bytearray, at: int, offset: int, raw: bytes | memoryview) -> None:
        start, end = max(at, offset), min(at + len(held), offset + len(raw))
        if start < end:
            held[start - at : end - at] = raw[start - offset : end - offset]


def end_frames(manifest: Manifest) -> frozenset[int]:
    """Frames that hold a part of either end."""
    ends, size = Ends(manifest.size_bytes), manifest.frame_bytes
    found = range(-(-len(ends.first) // size)), range(ends.last_start // size, len(manifest.frames))
    return frozenset(index for part in found for index in part)
