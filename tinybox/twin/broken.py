"""What is broken in a twin now, and for how long each thing has been in all."""

from collections.abc import Iterator
from dataclasses import dataclass, field

NOTHING: frozenset[str] = frozenset()


@dataclass(slots=True)
class Broken:
    """Active faults by id. Times are the plant's, in seconds."""

    _since_s: dict[str, float] = field(default_factory=dict)
    _before_s: dict[str, float] = field(default_factory=dict)

    def __contains__(self, fault_id: str) -> bool:
        return fault_id in self._since_s

    def __iter__(self) -> Iterator[str]:
        return iter(tuple(self._since_s))

    def of(self, device: str) -> frozenset[str]:
        """The kinds of fault that this device has now."""
        if not self._since_s:
            return NOTHING
        return frozenset(name for one, _, name in (fault.partition(":") for fault in self._since_s) if one == device)

    def begin(self, fault_id: str, now_s: float) -> None:
        """Break it; what is broken stays so."""
        self._since_s.setdefault(fault_id, now_s)

    def end(self, fault_id: str, now_s: float) -> None:
        """Mend it; what is whole stays so."""
        if fault_id in self._since_s:
            self._before_s[fault_id] = self.total_s(fault_id, now_s)
            del self._since_s[fault_id]

    def total_s(self, fault_id: str, now_s: float) -> float:
        """How long it has been broken in all: a counter of errors never goes back, whoever mends what caused them."""
        since_s = self._since_s.get(fault_id, now_s)
        return self._before_s.get(fault_id, 0.0) + max(0.0, now_s - since_s)
