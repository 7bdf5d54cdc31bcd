"""The API's own description: sound, complete, and kept by what it describes."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import openapi_spec_validator
import pytest
from starlette.routing import Route

from tests.daemon.serving import Answer, ask, serving
from tests.documents import RED, tick_of
from tests.policy.conftest import machine
from tinybox.daemon.api import Board, application, endpoints

PATHS = [endpoint.path for endpoint in endpoints(Board("red"))]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    board = Board("red")
    board.publish(tick_of(machine(RED, time_s=1e9)))  # a clock ahead: the loop seems to have turned just now
    with serving(board, tmp_path_factory.mktemp("api") / "s") as socket_path:
        yield socket_path


@pytest.fixture(scope="module")
def document(path: str) -> dict[str, Any]:
    loaded = json.loads(ask(path, "/openapi.json").text)
    assert isinstance(loaded, dict)
    return loaded


def test_it_is_sound_openapi(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1.")
    openapi_spec_validator.validate(document)


def test_every_route_is_described_and_nothing_else_is(document: dict[str, Any]) -> None:
    routes = [route for route in application(Board("red")).routes if isinstance(route, Route)]
    served = {(route.path, method.lower()) for route in routes for method in (route.methods or set()) - {"HEAD"}}
    assert served == {(path, method) for path, item in document["paths"].items() for method in item}


@pytest.mark.parametrize("target", PATHS)
def test_an_answer_is_of_the_type_that_was_promised(target: str, path: str, document: dict[str, Any]) -> None:
    answer = ask(path, target)
    assert answer.status == 200
    (promised,) = document["paths"][target]["get"]["responses"]["200"]["content"].items()
    media_type, content = promised
    assert answer.media_type.startswith(media_type)
    said = json.loads(answer.text) if "json" in media_type else answer.text
    jsonschema.Draft202012Validator(content["schema"]).validate(said)


@pytest.mark.parametrize("target", PATHS)
def test_before_the_first_look_there_is_no_answer(target: str, tmp_path: Path, document: dict[str, Any]) -> None:
    with serving(Board("red"), tmp_path / "s") as path:
        assert ask(path, target) == Answer(503, "text/plain; charset=utf-8", "starting: no reading yet\n")
    assert "503" in document["paths"][target]["get"]["responses"]


def parameters(document: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return [(path, one) for path, item in document["paths"].items() for one in item["get"]["parameters"]]


def test_parameters_are_taken_up_to_their_limits_and_refused_beyond(path: str, document: dict[str, Any]) -> None:
    found = parameters(document)
    assert [one["name"] for _, one in found] == ["columns", "colour"]
    for target, one in found:
        most, default = one["schema"]["maximum"], one["schema"]["default"]
        assert ask(path, f"{target}?{one['name']}={most}").status == 200
        assert ask(path, f"{target}?{one['name']}={default}").text == ask(path, target).text
        for wrong in (str(most + 1), "-1", "1.5", "wide", "", "9" * 5000):
            answer = ask(path, f"{target}?{one['name']}={wrong}")
            assert answer.status == 400, wrong
            assert answer.text.startswith(f"{one['name']} is '{wrong}': it wants a whole number")
        assert "400" in document["paths"][target]["get"]["responses"]
