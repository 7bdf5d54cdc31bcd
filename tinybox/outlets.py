"""Ways out of the box for messages: where the owner configured one, and nowhere else (docs/alerts.md)."""

import os
import pwd
import signal
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

from tinybox.core.config import AlertsConfig
from tinybox.core.notice import Notice

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
TRY_LATER = (408, 425, 429)  # and whatever the server says is its own trouble


class OutletError(Exception):
    """A message did not get out; `is_final`: another try would not change that."""

    def __init__(self, words: str, *, is_final: bool = False) -> None:
        super().__init__(words)
        self.is_final = is_final


@dataclass(frozen=True, slots=True)
class Outlet:
    """One way out. `send` takes as long as its time-out, and raises OutletError."""

    name: str
    send: Callable[[Notice], None]


def outlets_of(config: AlertsConfig) -> tuple[Outlet, ...]:
    """Those that are configured."""
    found = []
    if config.webhook:
        found.append(Outlet("webhook", lambda notice: post(config.webhook, notice, config.timeout_s)))
    if config.command:
        found.append(Outlet("command", lambda notice: run_command(config, notice)))
    return tuple(found)


def post(url: str, notice: Notice, timeout_s: float) -> None:
    """The document to that address. An address holds secrets: no error names more of it than its host."""
    import http.client
    import urllib.error
    import urllib.request  # for the few who set one: it takes TLS along

    headers = {"Content-Type": "application/json", "User-Agent": "tinyboxd"}
    request = urllib.request.Request(url, notice.json().encode(), headers, method="POST")
    host = urlsplit(url).hostname
    try:
        with urllib.request.urlopen(request, timeout=timeout_s):
            return
    except urllib.error.HTTPError as error:
        is_final = 400 <= error.code < 500 and error.code not in TRY_LATER
        error.close()
        raise OutletError(f"{host} answered {error.code}", is_final=is_final) from None
    except urllib.error.URLError as error:
        raise OutletError(f"cannot reach {host}: {getattr(error.reason, 'strerror', None) or error.reason}") from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise OutletError(f"cannot reach {host}: {type(error).__name__}") from None


def run_command(config: AlertsConfig, notice: Notice) -> None:
    """The owner's program: the document is its input, the parts of it are in its environment."""
    try:
        account = pwd.getpwnam(config.user) if config.user else None
    except KeyError:
        raise OutletError(f"there is no user '{config.user}' (alerts.user)", is_final=True) from None
    home = os.path.expanduser("~") if account is None else account.pw_dir  # noqa: PTH111
    try:
        process = subprocess.Popen(
            config.command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env={"PATH": PATH, "HOME": home, "LANG": "C.UTF-8", **environment(notice)},
            cwd="/",
            start_new_session=True,
            user=account.pw_uid if account else None,
            group=account.pw_gid if account else None,
            extra_groups=[] if account else None,
        )
    except OSError as error:
        raise OutletError(f"cannot run {config.command[0]}: {error.strerror}") from None
    except ValueError as error:  # a NUL somewhere
        raise OutletError(f"cannot run {config.command[0]}: {error}", is_final=True) from None
    _finish(process, config, notice)


def _finish(process: subprocess.Popen[bytes], config: AlertsConfig, notice: Notice) -> None:
    try:
        _, complaint = process.communicate(notice.json().encode(), timeout=config.timeout_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # with all that it started
        process.communicate()
        raise OutletError(f"{config.command[0]} did not end within {config.timeout_s:g} s") from None
    if process.returncode != 0:
        said = complaint.decode(errors="replace").strip().splitlines() or ["it said nothing"]
        raise OutletError(f"{config.command[0]} failed with {process.returncode}: {said[-1][:200]}")


def environment(notice: Notice) -> dict[str, str]:
    """The parts of a message, for scripts."""
    parts = {"EVENT": notice.event, "ID": notice.id, "SEVERITY": notice.severity, "REASON": notice.reason}
    parts |= {"BOX": notice.box, "HOST": notice.host, "TITLE": notice.title}
    return {f"TINYBOX_ALERT_{name}": text.replace("\0", "") for name, text in parts.items()}
