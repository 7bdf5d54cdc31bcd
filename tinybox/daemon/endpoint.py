"""One thing that the API answers, described once: the route that serves it and the document that promises it are both
made from this."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tinybox.daemon.loop import Tick

Numbers = Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Parameter:
    """A whole number of the query, 0 to `most`."""

    name: str
    summary: str
    default: int
    most: int


@dataclass(frozen=True, slots=True)
class Endpoint:
    """GET `path`: `answer` makes the text of a tick. `schema` names what is to be had where it is JSON."""

    path: str
    summary: str
    media_type: str
    answer: Callable[[Tick, Numbers], str]
    parameters: tuple[Parameter, ...] = ()
    schema: Callable[[], dict[str, Any]] = lambda: {"type": "string"}


def route(endpoint: Endpoint, latest: Callable[[], Tick | None]) -> Route:
    """The endpoint as Starlette has it: 503 until the first tick, 400 for a parameter that cannot be meant."""

    async def respond(request: Request) -> Response:
        if (tick := latest()) is None:
            raise HTTPException(503, "starting: no reading yet\n")
        numbers = {one.name: _number(one, request.query_params.get(one.name)) for one in endpoint.parameters}
        return Response(endpoint.answer(tick, numbers), media_type=endpoint.media_type)

    return Route(endpoint.path, respond, name=endpoint.path)


def _number(parameter: Parameter, text: str | None) -> int:
    if text is None:
        return parameter.default
    if not text.isdecimal() or len(text) > len(str(parameter.most)) or int(text) > parameter.most:
        raise HTTPException(400, f"{parameter.name} is '{text}': it wants a whole number up to {parameter.most}\n")
    return int(text)
