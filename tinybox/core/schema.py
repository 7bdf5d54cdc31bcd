"""The JSON schema of what a function answers, found by asking it about things made up from its own type hints.

A field is then written once, in the code that answers: the schema follows it, and cannot say anything else.
"""

import dataclasses
import enum
import itertools
import types
import typing
from collections.abc import Callable, Iterator
from typing import Any

TYPES = {str: "string", bool: "boolean", int: "integer", float: "number"}


class Telling(enum.Enum):
    """How much a made-up thing says of itself: no one of them shows all that an answer may look like."""

    ALL = enum.auto()  # every figure, and whatever bears a name bears the same: all that refer to each other meet
    NO_FIGURES = enum.auto()  # every device is there and none tells anything
    NO_DEVICES = enum.auto()  # and whatever may be missing is


def schema_of_answers(function: Callable[..., Any]) -> dict[str, Any]:
    """The schema of a function of dataclasses and scalars. A key that some answers lack is not required."""
    hints = {name: hint for name, hint in typing.get_type_hints(function).items() if name != "return"}
    answers = []
    for telling in Telling:
        names = itertools.repeat("name") if telling is Telling.ALL else map(str, itertools.count())
        answers.append(function(**{name: _made_up(hint, telling, names) for name, hint in hints.items()}))
    return _schema(answers)


def _made_up(hint: Any, telling: Telling, names: Iterator[str]) -> Any:
    """Something of that type."""
    origin, options = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        told = [option for option in options if option is not types.NoneType]
        is_kept = telling is Telling.ALL or (telling is Telling.NO_FIGURES and dataclasses.is_dataclass(told[0]))
        return _made_up(told[0], telling, names) if is_kept or len(told) == len(options) else None
    if origin is tuple:
        return (_made_up(options[0], telling, names),)
    if dataclasses.is_dataclass(hint):
        kind = typing.cast(type[Any], hint)
        return kind(**{name: _made_up(inner, telling, names) for name, inner in typing.get_type_hints(kind).items()})
    if issubclass(hint, enum.Enum):
        return next(iter(hint))
    return next(names) if hint is str else {bool: True, int: 1, float: 1.5}[hint]


def _schema(values: list[Any]) -> dict[str, Any]:
    """What all these values have in common."""
    told = [value for value in values if value is not None]
    schema = _schema_of_told(told) if told else {"type": "null"}
    if not told or len(told) == len(values):
        return schema
    nullable = {**schema, "type": [schema["type"], "null"]}
    return {**nullable, "enum": [*schema["enum"], None]} if "enum" in schema else nullable


def _schema_of_told(values: list[Any]) -> dict[str, Any]:
    first = values[0]
    if isinstance(first, dict):
        keys = dict.fromkeys(itertools.chain.from_iterable(values))
        return {
            "type": "object",
            "properties": {key: _schema([value[key] for value in values if key in value]) for key in keys},
            "required": [key for key in keys if all(key in value for value in values)],
        }
    if isinstance(first, list | tuple):
        return {"type": "array", "items": _schema(list(itertools.chain.from_iterable(values)))}
    if isinstance(first, enum.Enum):
        return {"type": "string", "enum": [one.value for one in type(first)]}
    return {"type": TYPES[type(first)]}
