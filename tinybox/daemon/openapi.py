"""The API described by itself (OpenAPI 3.1): made when asked for, from the endpoints that answer."""

import json
from collections.abc import Iterable
from typing import Any

from tinybox import __version__
from tinybox.daemon.endpoint import Endpoint, Parameter

WORDS = "In words, with what every figure means: docs/api.md. It only answers questions; everybody on the box may ask."
REFUSED = {"description": "A parameter that cannot be meant", "content": {"text/plain": {"schema": {"type": "string"}}}}
AWAY = {"description": "No reading yet, or the loop hangs", "content": {"text/plain": {"schema": {"type": "string"}}}}


def openapi_json(endpoints: Iterable[Endpoint]) -> str:
    """The document as text."""
    document = {
        "openapi": "3.1.0",
        "info": {"title": "tinyboxd", "version": __version__, "description": WORDS},
        "servers": [{"url": "http://tinybox", "description": "on the Unix socket /run/tinybox/tinyboxd.sock"}],
        "paths": {endpoint.path: {"get": _operation(endpoint)} for endpoint in endpoints},
    }
    return json.dumps(document, indent=2) + "\n"


def _operation(endpoint: Endpoint) -> dict[str, Any]:
    answer = {"description": endpoint.summary, "content": {endpoint.media_type: {"schema": endpoint.schema()}}}
    refused = {"400": REFUSED} if endpoint.parameters else {}
    return {
        "operationId": endpoint.path.strip("/").replace(".", "_"),
        "summary": endpoint.summary,
        "parameters": [_parameter(parameter) for parameter in endpoint.parameters],
        "responses": {"200": answer, **refused, "503": AWAY},
    }


def _parameter(parameter: Parameter) -> dict[str, Any]:
    schema = {"type": "integer", "minimum": 0, "maximum": parameter.most, "default": parameter.default}
    return {"name": parameter.name, "in": "query", "description": parameter.summary, "schema": schema}
