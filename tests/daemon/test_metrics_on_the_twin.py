"""The real daemon on the real twin, asked as Prometheus and other programs ask it."""

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jsonschema
import openapi_spec_validator
import pytest

from tests.conftest import Rig
from tests.daemon.serving import ask, free_address
from tests.daemon.test_metrics import MOST_BYTES, assert_sound, value

pytestmark = pytest.mark.twin


@contextmanager
def governed(rig: Rig, address: tuple[str, int]) -> Iterator[str]:
    """The twin under a daemon with a port of its own; the path of the daemon's socket."""
    config = Path(rig.environment["TINYBOX_CONFIG"])
    good = config.read_text()
    config.write_text(good + f'\n[metrics]\nlisten = "{address[0]}:{address[1]}"\n')
    rig.start_daemon()
    try:
        yield rig.environment["TINYBOX_RUN_DIR"] + "/tinyboxd.sock"
    finally:
        rig.put_back()
        config.write_text(good)


def schema_of_status(path: str) -> Any:
    document = json.loads(ask(path, "/openapi.json").text)
    openapi_spec_validator.validate(document)
    return document["paths"]["/status"]["get"]["responses"]["200"]["content"]["application/json"]["schema"]


def assert_as_described(path: str) -> None:
    status = json.loads(ask(path, "/status").text)
    jsonschema.Draft202012Validator(schema_of_status(path)).validate(status)


def wall_w(path: str) -> float:
    return value(ask(path, "/metrics").text, "wall_power_watts") or 0.0


def test_a_busy_box_is_told_whole_by_socket_and_by_port(shared_twin: Rig) -> None:
    address = free_address()
    with governed(shared_twin, address) as path:
        shared_twin.call("twin", "load", "gpu/all", "100")
        # All at work, their limits given, the slow sensors read, and the meter is the plant's.
        shared_twin.wait_for(lambda: (value(ask(address, "/metrics").text, "gpu_busy_ratio", gpu="5") or 0) > 0.5)
        shared_twin.wait_for(lambda: (value(ask(path, "/metrics").text, "writes_total", lever="gpu_clock") or 0) >= 6)
        shared_twin.wait_for(lambda: value(ask(path, "/metrics").text, "fan_rpm", fan="chassis1") is not None)
        shared_twin.wait_for(lambda: 0.9 < wall_w(path) / shared_twin.truth()["wall_w"] < 1.1)
        page = ask(path, "/metrics").text
        assert_sound(page)
        assert len(page.encode()) <= MOST_BYTES
        assert (value(page, "daemon_turns_total") or 0) > 0
        assert (value(page, "daemon_decision_seconds_sum") or 0) > 0
        assert "process_resident_memory_bytes" in page
        assert ask(address, "/status").status == 404
        assert_as_described(path)


def test_a_broken_box_is_told_in_part(shared_twin: Rig) -> None:
    with governed(shared_twin, free_address()) as path:
        for fault in ("gpu/3:gone", "gpu/2:asleep", "gpu/4:junction-unreadable", "psu/1:unreadable", "bmc:dead"):
            shared_twin.call("twin", "fault", "add", fault)
        shared_twin.wait_for(lambda: value(ask(path, "/metrics").text, "gpu_junction_celsius", gpu="4") is None)
        shared_twin.wait_for(lambda: value(ask(path, "/metrics").text, "gpu_state", gpu="3", state="gone") == 1)
        page = ask(path, "/metrics").text
        assert_sound(page)
        assert value(page, "gpu_power_watts", gpu="3") is None
        assert value(page, "gpu_junction_celsius", gpu="0") is not None
        assert (value(page, "alerts", severity="warning") or 0) > 0
        assert_as_described(path)


def test_a_port_that_is_taken_is_a_warning_and_the_box_is_governed(shared_twin: Rig) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other, governed(shared_twin, other.getsockname()) as path:
        assert shared_twin.status()["source"] == "daemon"
        assert value(ask(path, "/metrics").text, "daemon_turns_total")
        daemon = shared_twin.daemons[0]
        daemon.terminate()
        assert daemon.stderr is not None
        port = other.getsockname()[1]
        assert f"cannot listen for metrics on 127.0.0.1 port {port}: Address already in use" in daemon.stderr.read()
