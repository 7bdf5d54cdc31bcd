"""A controller through Redfish: a real HTTPS server on loopback, with trees of older and of newer firmware."""

import base64
import json
import ssl
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tinybox.core.actions import SetFanDuty
from tinybox.core.config import BmcConfig
from tinybox.core.errors import HardwareError
from tinybox.core.snapshot import BmcSensor, SelEntry
from tinybox.hw.bmc import BmcDriver
from tinybox.hw.host import Host, command_slug
from tinybox.hw.https import kept
from tinybox.hw.recording import RecordingHost
from tinybox.hw.redfish import RedfishController

V1 = "/redfish/v1"
OK = {"State": "Enabled", "Health": "OK"}
PASSWORD = "correct horse"


def link(path: str) -> dict[str, str]:
    return {"@odata.id": f"{V1}/{path}"}


def members(*paths: str) -> dict[str, Any]:
    return {"Members": [link(path) for path in paths]}


LOG = {
    f"{V1}/Systems": members("Systems/Self"),
    f"{V1}/Systems/Self": {"Id": "Self", "UUID": "secret-uuid", "LogServices": link("Systems/Self/LogServices")},
    f"{V1}/Systems/Self/LogServices": members("Systems/Self/LogServices/BIOS", "Systems/Self/LogServices/SEL"),
    f"{V1}/Systems/Self/LogServices/BIOS": {"Id": "BIOS", "LogEntryType": "Event"},
    f"{V1}/Systems/Self/LogServices/SEL": {
        "Id": "SEL",
        "LogEntryType": "SEL",
        "MaxNumberOfRecords": 8,
        "Entries": link("Systems/Self/LogServices/SEL/Entries"),
    },
    f"{V1}/Systems/Self/LogServices/SEL/Entries": {
        "Members": [
            {"Id": "2", "Created": "2026-11-26T23:28:02Z", "Message": "AC lost", "SensorType": "Power Supply"},
            {"Id": "1", "Created": "2026-11-25T10:00:00Z", "Message": "boot", "EntryCode": "Assert"},
        ],
        "Members@odata.nextLink": f"{V1}/Systems/Self/LogServices/SEL/Entries?$skip=2",
    },
    f"{V1}/Systems/Self/LogServices/SEL/Entries?$skip=2": {
        "Members": [{"Id": "3", "Created": "2026-11-26T23:29:00Z", "Message": "AC lost", "EntryCode": "Deassert"}]
    },
}
OLDER = {
    f"{V1}/": {"RedfishVersion": "1.5.0"},
    f"{V1}/Chassis": members("Chassis/1"),
    f"{V1}/Chassis/1": {
        "SerialNumber": "SECRET",
        "Power": link("Chassis/1/Power"),
        "Thermal": link("Chassis/1/Thermal"),
    },
    f"{V1}/Chassis/1/Power": {
        "PowerControl": [{"PowerConsumedWatts": 838}],
        "PowerSupplies": [
            {"Name": "PSU1", "PowerInputWatts": 0, "LineInputVoltage": 0, "LineInputStatus": "LossOfInput"},
            {"Name": "PSU2", "PowerInputWatts": 836, "LineInputVoltage": 119, "Status": OK, "SerialNumber": "SECRET"},
        ],
    },
    f"{V1}/Chassis/1/Thermal": {
        "Fans": [
            {"Name": "FAN1", "Reading": 840, "ReadingUnits": "RPM", "Status": OK},
            {"Name": "FAN2", "Reading": 100, "ReadingUnits": "RPM", "Status": {"Health": "Critical"}},
            {"Name": "FAN3", "Reading": None, "Status": {"State": "Absent", "Health": "Critical"}},
        ],
        "Temperatures": [
            {"Name": "CPU1 Temp", "ReadingCelsius": 42, "PhysicalContext": "CPU", "Status": OK},
            {"Name": "TR1", "ReadingCelsius": 25, "PhysicalContext": "Intake", "Status": OK},
        ],
    },
    **LOG,
}
NEWER = {
    f"{V1}/": {},
    f"{V1}/Chassis": members("Chassis/box"),
    f"{V1}/Chassis/box": {
        "PowerSubsystem": link("Chassis/box/PowerSubsystem"),
        "ThermalSubsystem": link("Chassis/box/ThermalSubsystem"),
        "EnvironmentMetrics": link("Chassis/box/EnvironmentMetrics"),
        "Power": link("Chassis/box/Power"),
    },
    f"{V1}/Chassis/box/EnvironmentMetrics": {"PowerWatts": {"Reading": 838.5}},
    f"{V1}/Chassis/box/PowerSubsystem": {"PowerSupplies": link("Chassis/box/PowerSubsystem/PowerSupplies")},
    f"{V1}/Chassis/box/PowerSubsystem/PowerSupplies": members("Chassis/box/PowerSubsystem/PowerSupplies/0"),
    f"{V1}/Chassis/box/PowerSubsystem/PowerSupplies/0": {
        "Name": "PSU1",
        "Status": OK,
        "Metrics": link("Chassis/box/PowerSubsystem/PowerSupplies/0/Metrics"),
    },
    f"{V1}/Chassis/box/PowerSubsystem/PowerSupplies/0/Metrics": {
        "InputPowerWatts": {"Reading": 836.0},
        "InputVoltage": {"Reading": 119.5},
    },
    f"{V1}/Chassis/box/ThermalSubsystem": {
        "Fans": link("Chassis/box/ThermalSubsystem/Fans"),
        "ThermalMetrics": link("Chassis/box/ThermalSubsystem/ThermalMetrics"),
    },
    f"{V1}/Chassis/box/ThermalSubsystem/Fans": members("Chassis/box/ThermalSubsystem/Fans/fan1"),
    f"{V1}/Chassis/box/ThermalSubsystem/Fans/fan1": {
        "Name": "Fan 1",
        "SpeedPercent": {"Reading": 28, "SpeedRPM": 840},
        "Status": OK,
    },
    f"{V1}/Chassis/box/ThermalSubsystem/ThermalMetrics": {
        "TemperatureReadingsCelsius": [
            {"DeviceName": "Inlet_0", "Reading": 25.5},
            {"DeviceName": "CPU 0", "Reading": 42.25},
        ]
    },
    **LOG,
}


@dataclass
class Service:
    """What the server says, and what it was asked, by whom."""

    folder: Path
    tree: dict[str, Any] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    port: int = 0

    def config(self, **changes: Any) -> BmcConfig:
        certificate, password = str(self.folder / "cert.pem"), str(self.folder / "password")
        given = {"user": "box", "password_file": password, "certificate": certificate, "port": self.port}
        return BmcConfig(interface="redfish", **{**given, **changes})

    def controller(self, **changes: Any) -> RedfishController:
        return RedfishController(Host(), self.config(**changes))


class Handler(BaseHTTPRequestHandler):
    """Basic authentication and a table of documents; text is sent as it is, a path in angle brackets redirects."""

    service: Service

    def do_GET(self) -> None:
        self.service.asked.append(self.path)
        expected = base64.b64encode(f"box:{PASSWORD}".encode()).decode()
        if self.headers.get("Authorization") != f"Basic {expected}":
            self.send_error(401)
        elif self.path not in self.service.tree:
            self.send_error(404)
        else:
            said = self.service.tree[self.path]
            is_elsewhere = isinstance(said, str) and said.startswith("<")
            self.send_response(302 if is_elsewhere else 200)
            if is_elsewhere:
                self.send_header("Location", said.strip("<>"))
            self.end_headers()
            if not is_elsewhere:
                self.wfile.write(said if isinstance(said, bytes) else json.dumps(said).encode())

    def log_message(self, format: str, *args: Any) -> None:
        """Silent."""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("redfish")
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
            *("-days", "2", "-subj", "/CN=bmc", "-addext", "subjectAltName=IP:127.0.0.1"),
            *("-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")),
        ],
        check=True,
        capture_output=True,
        timeout=30,
    )
    (folder / "password").write_text(f"{PASSWORD}\n")
    service = Service(folder)
    handler = type("Bound", (Handler,), {"service": service})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    service.port = server.server_address[1]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield service
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def service(served: Service) -> Service:
    served.tree = dict(OLDER)
    served.asked.clear()
    return served


def test_older_firmware_tells_the_same_figures(service: Service) -> None:
    told = service.controller().read(0.0)
    assert (told.bmc.wall_w, told.bmc.line_v, told.bmc.inlet_c, told.bmc.cpu_c) == (838.0, 119.0, 25.0, 42.0)
    assert told.rpm == {"1": 840.0, "2": 100.0}
    assert told.bmc.troubled == (
        BmcSensor("PSU1", "Power Supply AC lost", "LossOfInput"),
        BmcSensor("FAN2", "cr", "100 RPM"),
    )


def test_newer_firmware_tells_the_same_figures(service: Service) -> None:
    service.tree = dict(NEWER)
    told = service.controller().read(0.0)
    assert (told.bmc.wall_w, told.bmc.line_v, told.bmc.inlet_c, told.bmc.cpu_c) == (838.5, 119.5, 25.5, 42.25)
    assert (told.rpm, told.duties, told.bmc.troubled) == ({"1": 840.0}, {"1": 28.0}, ())
    assert f"{V1}/Chassis/box/Power" not in service.asked, "the same twice"


def test_the_log_is_read_page_by_page_in_order(service: Service) -> None:
    bmc = service.controller().read(0.0).bmc
    boot, lost, back = bmc.events or ()
    assert boot.event == "boot"
    assert lost == SelEntry(2, "2026-11-26T23:28:02Z", "Power Supply", "AC lost")
    assert (back.number, back.is_asserted) == (3, False)
    assert bmc.log_used_pct == 37.5


def test_a_box_without_a_log_has_an_unknown_one(service: Service) -> None:
    for path in LOG:
        del service.tree[path]
    bmc = service.controller().read(0.0).bmc
    assert (bmc.events, bmc.log_used_pct, bmc.wall_w) == (None, None, 838.0)


def test_a_certificate_that_nobody_vouches_for_is_refused_unless_any_will_do(service: Service) -> None:
    with pytest.raises(HardwareError, match="CERTIFICATE_VERIFY_FAILED"):
        service.controller(certificate="").greet(5.0)
    assert service.asked == []
    service.controller(certificate="any").greet(5.0)
    service.controller().greet(5.0)
    assert service.asked == [f"{V1}/"] * 2


def test_a_wrong_password_is_said_and_never_shown(service: Service, tmp_path: Path) -> None:
    (tmp_path / "wrong").write_text("battery staple")
    with pytest.raises(HardwareError, match="user or password refused") as refused:
        service.controller(password_file=str(tmp_path / "wrong")).greet(5.0)
    assert "staple" not in str(refused.value)
    with pytest.raises(HardwareError, match="No such file"):
        service.controller(password_file=str(tmp_path / "none")).greet(5.0)


def test_nobody_is_followed_to_another_address(service: Service) -> None:
    service.tree[f"{V1}/"] = f"<https://127.0.0.1:{service.port}{V1}/Chassis>"
    with pytest.raises(HardwareError, match="HTTP 302"):
        service.controller().greet(5.0)
    service.tree[f"{V1}/Chassis"] = {"Members": [{"@odata.id": "https://192.0.2.1/redfish/v1/Chassis/1"}]}
    service.asked.clear()
    with pytest.raises(HardwareError, match="names no chassis"):
        service.controller().read(0.0)
    assert service.asked == [f"{V1}/Chassis"]


def test_a_silent_service_is_a_fault_of_the_bmc(service: Service, tmp_path: Path) -> None:
    config = service.config(port=1)
    bmc, fans, faults = BmcDriver(Host(), config, 1, tmp_path).read(0.0, is_brief=True)
    assert (bmc.wall_w, fans[0].rpm) == (None, None)
    assert "no answer: cannot read https://127.0.0.1:1" in faults[0].reason
    assert (tmp_path / "bmc-silent").exists()


def test_fans_are_not_driven_through_redfish(service: Service) -> None:
    driver = BmcDriver(Host(), service.config(), 2)
    with pytest.raises(HardwareError, match="no controller that drives the fans"):
        driver.want(SetFanDuty(60.0))
    _, fans, faults = driver.read(0.0)
    assert ([fan.rpm for fan in fans], faults) == ([840.0, 100.0], ())


def test_a_recording_reads_the_same_and_has_no_serial_number(service: Service, tmp_path: Path) -> None:
    recorder = RecordingHost()
    seen = BmcDriver(recorder, service.config(), 2).read(0.0)
    (tmp_path / "commands").mkdir()
    for argv, outcome in recorder.notes.commands.items():
        assert isinstance(outcome, str)
        assert "SECRET" not in outcome.upper()
        (tmp_path / "commands" / command_slug(argv)).write_text(outcome)
    service.asked.clear()
    assert BmcDriver(Host(tmp_path), service.config(), 2).read(0.0) == seen
    assert service.asked == []


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["Members", "Reading", "Id"]), inner),
    max_leaves=8,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=15, deadline=None)
@given(st.sampled_from(sorted({**OLDER, **NEWER})), JSON | st.binary(max_size=40))
def test_no_document_breaks_the_reader(service: Service, path: str, said: Any) -> None:
    for tree in (OLDER, NEWER):
        service.tree = {**tree, **({path: said} if path in tree else {})}
        try:
            told = service.controller().read(0.0)
        except HardwareError:
            continue
        json.dumps([told.bmc.wall_w, list(told.rpm.values())], allow_nan=False)


def test_only_known_keys_are_kept() -> None:
    assert kept({"Members": [{"Name": "FAN1", "SerialNumber": "1"}], "UUID": "2"}) == {"Members": [{"Name": "FAN1"}]}
