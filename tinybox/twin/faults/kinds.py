"""A kind of fault: what it does, which health checks see it, and what it takes to be seen."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FaultKind:
    """One way to break any of `devices`; its ids are `DEVICE:KIND`.

    `checks` are the ids of the health checks that it raises, its lawful consequences among them: it may raise no
    other. Empty where only burn-in can see it. `load_pct` is the least load of all cards under which it shows,
    `shows_within_s` how long that takes at most. `kernel_lines` are said in
    the kernel's log when it begins, with `{pci}` and `{name}` of the device.
    """

    kind: str
    devices: tuple[str, ...]
    words: str
    checks: tuple[str, ...] = ()
    load_pct: float = 0.0
    shows_within_s: float = 30.0
    kernel_lines: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """Its id on the first device."""
        return f"{self.devices[0]}:{self.kind}"
