"""The schema of the status document: true of every document there can be, and of little else."""

import dataclasses
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.documents import NAMES, SORTS, tick_of
from tests.policy.conftest import machine
from tinybox.core.box import load_box
from tinybox.core.schema import schema_of_answers
from tinybox.core.snapshot import Snapshot
from tinybox.core.wire import status_document, status_json

ROOT = Path(__file__).parent.parent.parent


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True)
class Wheel:
    id: str
    turns: int | None
    colour: Colour | None


@dataclass(frozen=True)
class Cart:
    wheels: tuple[Wheel, ...]
    spare: Wheel | None
    first: str


def described(cart: Cart, is_loud: bool) -> dict[str, Any]:
    """An answer with everything that one of ours has."""
    spare = {} if cart.spare is None else {"spare": dataclasses.asdict(cart.spare)}
    found = next((wheel.id for wheel in cart.wheels if wheel.id == cart.first), None)
    return {"wheels": [dataclasses.asdict(w) for w in cart.wheels], "first": found, "is_loud": is_loud, **spare}


def test_what_may_be_missing_unknown_or_one_of_a_few_is_found_by_asking() -> None:
    schema = schema_of_answers(described)
    wheel = schema["properties"]["wheels"]["items"]
    assert wheel["properties"] == {
        "id": {"type": "string"},
        "turns": {"type": ["integer", "null"]},
        "colour": {"type": ["string", "null"], "enum": ["red", "blue", None]},
    }
    assert schema["properties"]["first"] == {"type": ["string", "null"]}, "it need not refer to a wheel there is"
    assert schema["properties"]["is_loud"] == {"type": "boolean"}
    assert schema["required"] == ["wheels", "first", "is_loud"]
    assert schema["properties"]["spare"]["required"] == ["id", "turns", "colour"]


def closed(schema: Any) -> Any:
    """The schema, with no key allowed that it does not name."""
    if isinstance(schema, dict):
        extra = {"additionalProperties": False} if "properties" in schema else {}
        return {key: closed(value) for key, value in schema.items()} | extra
    return schema


STATUS = schema_of_answers(status_document)


def judge(document: Any) -> None:
    jsonschema.Draft202012Validator(closed(STATUS)).validate(document)


def document_of(snapshot: Snapshot) -> Any:
    tick = tick_of(snapshot)
    return json.loads(status_json(tick.snapshot, tick.decision, source="daemon", box="red"))


@pytest.mark.parametrize("snapshot", [snapshot for _, snapshot in SORTS], ids=NAMES)
def test_every_status_document_is_as_its_schema_says(snapshot: Snapshot) -> None:
    judge(document_of(snapshot))


@pytest.mark.parametrize("change", [{"box": None}, {"gpus": {}}, {"new": 1}, {"raid": {"state": "clean"}}])
def test_a_document_that_differs_is_found_out(change: dict[str, Any]) -> None:
    document = document_of(machine(load_box("red")))
    judge(document)
    with pytest.raises(jsonschema.ValidationError):
        judge(document | change)


def keys(schema: dict[str, Any]) -> Iterator[str]:
    for key, inner in schema.get("properties", {}).items():
        yield key
        yield from keys(inner.get("items", inner))


def test_the_reference_names_every_key() -> None:
    rows = [line for line in (ROOT / "docs/api.md").read_text().splitlines() if line.startswith("|")]
    named = set(re.findall(r"\w+", " ".join(re.findall(r"`([^`]+)`", "\n".join(rows)))))
    assert [key for key in keys(STATUS) if key not in named] == []
