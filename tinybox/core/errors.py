"""The two kinds of trouble the suite expects; everything else is a bug and goes to failsafe."""


class TinyboxError(Exception):
    """Something the user can mend: printed as two lines on stderr, exit 1.

    `message` says what was attempted, where and why it failed; `hint` what to do about it.
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class HardwareError(Exception):
    """A device could not be read or written; caught per device and kept as a fault of the snapshot."""
