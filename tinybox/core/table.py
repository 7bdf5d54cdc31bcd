"""A TOML table into a frozen dataclass, and back: unknown and missing keys are errors that name the place."""

import dataclasses
import enum
import json
import math
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from tinybox.core.errors import TinyboxError

T = TypeVar("T")


def load_object(path: Path, *, hint: str) -> dict[str, Any] | None:
    """The JSON object in a file; None where there is no file. Raises TinyboxError for one that cannot be meant."""
    try:
        table = json.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise TinyboxError(f"cannot read {path}: {error.strerror}", hint=hint) from None
    except ValueError as error:
        raise TinyboxError(f"{path}: not valid JSON: {error}", hint=hint) from None
    if not isinstance(table, dict):
        raise TinyboxError(f"{path}: not a JSON object", hint=hint)
    return table


def read_table(kind: type[T], table: Mapping[str, Any], *, where: str, path: str = "") -> T:
    """Build `kind` from `table`, recursing into nested dataclasses and tuples of them.

    Errors: TinyboxError naming `where` and the dotted key, for unknown, missing and ill-typed keys and for
    numbers that are not finite.
    """
    hints = typing.get_type_hints(kind)
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    for key in table:
        if key not in fields:
            raise TinyboxError(f"{where}: unknown key '{path}{key}'", hint=f"known keys: {', '.join(sorted(fields))}")
    values: dict[str, Any] = {}
    for name, field in fields.items():
        if name in table:
            values[name] = _convert(hints[name], table[name], where=where, path=f"{path}{name}")
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise TinyboxError(f"{where}: key '{path}{name}' is missing", hint="add it")
    return kind(**values)


def _convert(hint: Any, value: Any, *, where: str, path: str) -> Any:
    """One value to the type its field declares."""
    origin = typing.get_origin(hint)
    if origin in (types.UnionType, typing.Union):
        inner = [option for option in typing.get_args(hint) if option is not types.NoneType]
        return _convert(inner[0], value, where=where, path=path)
    if isinstance(hint, type) and dataclasses.is_dataclass(hint) and isinstance(value, dict | hint):
        return read_table(hint, value, where=where, path=f"{path}.") if isinstance(value, dict) else value
    if origin is tuple and isinstance(value, list):
        (item, _) = typing.get_args(hint)
        return tuple(_convert(item, one, where=where, path=f"{path}[{i}]") for i, one in enumerate(value))
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        return _finite(value, where=where, path=path)
    if hint in (str, bool, int) and isinstance(value, hint) and not (hint is int and isinstance(value, bool)):
        return value
    if isinstance(hint, type) and issubclass(hint, enum.Enum) and value in [one.value for one in hint]:
        return hint(value)
    expected = getattr(hint, "__name__", str(hint))
    raise TinyboxError(f"{where}: '{path}' is {value!r}", hint=f"it wants a {expected}")


def _finite(value: float, *, where: str, path: str) -> float:
    if not math.isfinite(value):
        raise TinyboxError(f"{where}: '{path}' is {value}", hint="give a finite number")
    return float(value)


def table_text(table: Mapping[str, Any], path: str = "") -> str:
    """TOML that `read_table` reads as the same; None is left out."""
    plain = {key: value for key, value in table.items() if value is not None and not isinstance(value, Mapping)}
    text = "".join(f"{key} = {_text(value)}\n" for key, value in plain.items())
    for key, value in table.items():
        if isinstance(value, Mapping):
            text += f"\n[{path}{key}]\n{table_text(value, f'{path}{key}.')}"
    return text


def _text(value: Any) -> str:
    """One value; JSON's strings are TOML's, but for DEL."""
    if isinstance(value, Mapping):
        inner = ", ".join(f"{key} = {_text(one)}" for key, one in value.items() if one is not None)
        return f"{{ {inner} }}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_text, value))}]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return str(value).lower() if isinstance(value, bool) else repr(value)
