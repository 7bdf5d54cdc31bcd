"""The log of the twin's kernel, in the records of /dev/kmsg. What a fault said is forgotten with it."""

from dataclasses import dataclass, field

BOOTED_S = 90_000.0  # the twin was switched on the day before
ERROR = 3


@dataclass(slots=True)
class KernelRing:
    """Records by the fault that they came from; times are the plant's."""

    _records: list[tuple[str, str]] = field(default_factory=list)
    _next: int = 1

    def say(self, text: str, now_s: float, *, fault: str = "", level: int = ERROR) -> None:
        """One more record."""
        self._records.append((fault, f"{level},{self._next},{round((BOOTED_S + now_s) * 1e6)},-;{text}\n"))
        self._next += 1

    def forget(self, fault: str) -> None:
        """As if ten quiet minutes had passed since this fault: its records are too old to be seen."""
        self._records = [record for record in self._records if record[0] != fault]

    def text(self) -> str:
        """All of it."""
        return "".join(line for _, line in self._records)
