"""Messages on their way out: to a real server on loopback, to real programs, and past those that do not answer."""

import json
import os
import pwd
import re
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import PATIENCE_S, Rig
from tests.core.test_flight import turn
from tests.test_house import ROOT
from tinybox.core.box import load_box
from tinybox.core.config import AlertsConfig
from tinybox.core.decision import Alert
from tinybox.core.notice import Event, Notice
from tinybox.core.snapshot import Severity
from tinybox.daemon.loop import Tick
from tinybox.daemon.teller import QUEUE, Sender, Teller
from tinybox.outlets import Outlet, OutletError, environment, outlets_of

NOTICE = Notice(Event.RAISED, "gpu/3", Severity.CRITICAL, "gone from the bus · für alle", "red", "tiny", 1e9)


@dataclass
class Webhook:
    """A server that answers with these statuses in turn, the last one for ever; 0: it closes without a word."""

    statuses: list[int]
    bodies: list[dict[str, Any]] = field(default_factory=list)
    texts: list[tuple[str, str, str]] = field(default_factory=list)
    url: str = ""


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    seen = Webhook([200])

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            text = self.rfile.read(int(self.headers["Content-Length"])).decode()
            seen.texts.append((self.headers.get("Title", ""), self.headers.get("Priority", ""), text))
            if self.headers["Content-Type"] == "application/json":
                seen.bodies.append(json.loads(text))
            status = seen.statuses.pop(0) if len(seen.statuses) > 1 else seen.statuses[0]
            if status:
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Not to stderr."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    seen.url = f"http://127.0.0.1:{server.server_port}/hook?key=verysecret"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield seen
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def drained(sender: Sender, count: int) -> Sender:
    """The sender once so many messages were dealt with."""
    waited = threading.Event()
    for _ in range(round(PATIENCE_S / 0.02)):
        if sender.counts["sent"] + sender.counts["failed"] >= count:
            return sender
        waited.wait(0.02)
    pytest.fail(f"not all sent: {sender.counts}")


def only(config: AlertsConfig, *retries_s: float) -> Sender:
    (outlet,) = outlets_of(config)
    return Sender(outlet, retries_s)


def test_a_webhook_gets_the_document(webhook: Webhook) -> None:
    sender = only(AlertsConfig(webhook=webhook.url))
    sender.put(NOTICE)
    assert drained(sender, 1).counts["sent"] == 1
    assert webhook.bodies == [
        {
            "event": "raised",
            "id": "gpu/3",
            "severity": "critical",
            "reason": "gone from the bus · für alle",
            "box": "red",
            "host": "tiny",
            "time_unix_s": 1e9,
            "title": "tiny: critical: gpu/3",
        }
    ]


@pytest.mark.parametrize(
    ("statuses", "outcome"),
    [
        ([503, 0, 429, 200], {"sent": 1, "retried": 3, "failed": 0}),
        ([404, 200], {"sent": 0, "retried": 0, "failed": 1}),
        ([500], {"sent": 0, "retried": 3, "failed": 1}),
    ],
)
def test_what_may_pass_is_tried_again_and_what_will_not_is_given_up(
    webhook: Webhook, caplog: pytest.LogCaptureFixture, statuses: list[int], outcome: dict[str, int]
) -> None:
    webhook.statuses = statuses
    sender = only(AlertsConfig(webhook=webhook.url), 0.01, 0.01, 0.01)
    sender.put(NOTICE)
    assert drained(sender, 1).counts == {**outcome, "dropped": 0}
    assert "127.0.0.1" in caplog.text
    assert "secret" not in caplog.text


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/hook", "https://127.0.0.1:9/hook", "http://nowhere.invalid/hook"])
def test_nobody_there_is_an_error_that_names_the_host_alone(url: str) -> None:
    (outlet,) = outlets_of(AlertsConfig(webhook=f"{url}?key=verysecret", timeout_s=5.0))
    with pytest.raises(OutletError, match="cannot reach") as caught:
        outlet.send(NOTICE)
    assert "secret" not in str(caught.value)
    assert not caught.value.is_final


def test_a_command_gets_the_document_as_input_and_its_parts_in_the_environment(tmp_path: Path) -> None:
    script = f"cat > {tmp_path}/json; env | grep TINYBOX_ | sort > {tmp_path}/env; pwd > {tmp_path}/cwd"
    sender = only(AlertsConfig(command=("/bin/sh", "-c", script)))
    sender.put(NOTICE)
    assert drained(sender, 1).counts["sent"] == 1
    assert json.loads((tmp_path / "json").read_text())["reason"] == NOTICE.reason
    assert (tmp_path / "cwd").read_text() == "/\n"
    expected = [f"{name}={text}" for name, text in environment(NOTICE).items()]
    assert (tmp_path / "env").read_text().splitlines() == sorted(expected)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become somebody else")
def test_a_command_runs_as_the_user_who_was_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    for folder in tmp_path.parents:
        if folder.is_relative_to("/tmp") and folder != Path("/tmp"):
            folder.chmod(0o755)
    config = AlertsConfig(command=("/bin/sh", "-c", f"id -u > {tmp_path}/id; id -G >> {tmp_path}/id"), user="nobody")
    (outlet,) = outlets_of(config)
    outlet.send(NOTICE)
    account = pwd.getpwnam("nobody")
    assert (tmp_path / "id").read_text() == f"{account.pw_uid}\n{account.pw_gid}\n"


FAILURES = [
    ("it fails and says why", AlertsConfig(command=("/bin/sh", "-c", "echo why >&2; exit 3")), "failed with 3: why"),
    ("it is not there", AlertsConfig(command=("/nowhere/alert",)), "cannot run /nowhere/alert: No such file"),
    ("it hangs", AlertsConfig(command=("/bin/sh", "-c", "sleep 1000; true"), timeout_s=1.0), "did not end within 1 s"),
    ("nobody has that name", AlertsConfig(command=("/bin/true",), user="no-such-user"), "no user 'no-such-user'"),
]


@pytest.mark.parametrize(("why", "config", "words"), FAILURES, ids=[row[0] for row in FAILURES])
def test_a_command_that_does_not_work_says_so(why: str, config: AlertsConfig, words: str) -> None:
    (outlet,) = outlets_of(config)
    with pytest.raises(OutletError, match=re.escape(words)):
        outlet.send(NOTICE)


def test_a_deaf_way_out_delays_nobody_and_keeps_the_newest() -> None:
    release, arrived = threading.Event(), []

    def deaf(notice: Notice) -> None:
        release.wait(PATIENCE_S)
        arrived.append(notice.id)

    sender = Sender(Outlet("deaf", deaf))
    for number in range(QUEUE + 50):
        sender.put(replace(NOTICE, id=f"x/{number}"))
    assert sender.counts["dropped"] >= 49
    release.set()
    drained(sender, QUEUE)
    assert arrived[-1] == f"x/{QUEUE + 49}"
    sender.stop()


def test_nothing_is_sent_where_nothing_is_configured(caplog: pytest.LogCaptureFixture) -> None:
    teller = Teller(AlertsConfig(), "red")
    assert teller.senders == ()
    snapshot, decision = turn(1)
    worse = replace(decision, alerts=(Alert("gpu/3", Severity.CRITICAL, "gone from the bus"),))
    for second in range(5):
        teller.note(Tick(replace(snapshot, time_s=float(second)), worse))
    assert [record.message for record in caplog.records] == ["critical gpu/3: gone from the bus"]


def recipes() -> list[str]:
    """The scripts of the documentation."""
    return re.findall(r"```sh\n(#!/bin/sh\n.*?)```", (ROOT / "docs/alerts.md").read_text(), re.DOTALL)


def test_the_recipe_for_ntfy_works(webhook: Webhook, tmp_path: Path) -> None:
    (script,) = [text for text in recipes() if "curl" in text]
    path = tmp_path / "alert"
    path.write_text(re.sub(r"https://ntfy\S+", webhook.url, script))
    path.chmod(0o755)
    (outlet,) = outlets_of(AlertsConfig(command=(str(path),)))
    outlet.send(NOTICE)
    outlet.send(replace(NOTICE, event=Event.CLEARED))
    assert webhook.texts == [("tiny: critical: gpu/3", "5", NOTICE.reason), ("tiny: over: gpu/3", "3", NOTICE.reason)]


def test_the_recipe_for_mail_writes_a_letter(tmp_path: Path) -> None:
    (script,) = [text for text in recipes() if "sendmail" in text]
    (tmp_path / "sendmail").write_text(f'#!/bin/sh\ncat > {tmp_path}/letter; echo "$@" > {tmp_path}/words\n')
    (tmp_path / "sendmail").chmod(0o755)
    (tmp_path / "alert").write_text(script.replace("/usr/sbin/sendmail", str(tmp_path / "sendmail")))
    (tmp_path / "alert").chmod(0o755)
    (outlet,) = outlets_of(AlertsConfig(command=(str(tmp_path / "alert"),)))
    outlet.send(NOTICE)
    head, _, body = (tmp_path / "letter").read_text().partition("\n\n")
    assert "Subject: tiny: critical: gpu/3" in head.splitlines()
    assert NOTICE.reason in body
    assert subprocess.run(["sh", "-n", str(tmp_path / "alert")], check=False).returncode == 0


@pytest.mark.twin
def test_a_daemon_tells_of_a_card_that_goes_and_returns(webhook: Webhook, twin: Rig) -> None:
    drop_in = twin.folder / "etc/config.d/alerts.toml"
    drop_in.parent.mkdir()
    drop_in.write_text(f'[alerts]\nwebhook = "{webhook.url}"\n')
    twin.start_daemon()
    twin.call("twin", "fault", "add", "gpu/3:gone")
    twin.wait_for(lambda: "gpu.count" in [body["id"] for body in webhook.bodies])
    twin.call("twin", "fault", "clear", "gpu/3:gone")
    twin.wait_for(lambda: "cleared" in [b["event"] for b in webhook.bodies if b["id"] == "gpu.count"], seconds=90)
    told = [body for body in webhook.bodies if body["id"] == "gpu.count"]
    assert load_box("red").gpu.slots[3] in told[0]["reason"] and "slot 4" in told[0]["reason"]
    card = [(body["event"], body["severity"]) for body in told]
    assert card == [("raised", "critical"), ("cleared", "critical")]
