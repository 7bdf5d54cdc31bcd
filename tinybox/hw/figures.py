"""Figures as the kernel prints them; what is none is None, whatever a broken device or its driver says instead."""

import math

MOST_DIGITS = 20  # of 64 bits; int() itself refuses thousands of them with an error


def whole(text: str | None) -> int | None:
    """A count: ASCII digits and nothing else."""
    digits = (text or "").strip()
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) <= MOST_DIGITS else None


def positive(text: str | None) -> float | None:
    """A finite figure above zero: the first word."""
    try:
        value = float((text or "").split(maxsplit=1)[0])
    except (ValueError, IndexError):
        return None
    return value if 0 < value < math.inf else None
