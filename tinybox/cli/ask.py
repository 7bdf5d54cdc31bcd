"""Questions to a person; where nobody can be asked, one clear error that names the option."""

import sys
from collections.abc import Callable
from typing import TypeVar

import click

from tinybox.core.errors import TinyboxError

T = TypeVar("T")


def require_person(*, hint: str) -> None:
    """Raises TinyboxError where nobody can be asked."""
    if not sys.stdin.isatty():
        raise TinyboxError("nobody can be asked: standard input is no terminal", hint=hint)


def confirm(question: str, *, yes: bool) -> None:
    """Go on only with a yes. Raises TinyboxError where nobody can be asked, click.Abort for a no."""
    if yes:
        return
    require_person(hint="say --yes")
    click.confirm(question, abort=True, err=True)


def given_or_asked(given: T | None, question: str, option: str, *, yes: bool, read: Callable[[str], T]) -> T:
    """What the option said, else what a person answers. Raises TinyboxError where nobody can be asked."""
    if given is not None:
        return given
    if yes or not sys.stdin.isatty():
        raise TinyboxError(f"{question}: this machine does not tell", hint=f"say it with {option}")

    def proc(text: str) -> T:
        try:
            return read(text)
        except (ValueError, TinyboxError) as error:
            raise click.UsageError(str(error)) from None

    answer: T = click.prompt(question, err=True, value_proc=proc)
    return answer
