"""`tinybox health test-alert`: whether a message to the owner arrives."""

import json
import socket
import time

import click

from tinybox.core.config import Folders, load_config
from tinybox.core.errors import TinyboxError
from tinybox.core.notice import Event, Notice
from tinybox.core.snapshot import Severity
from tinybox.outlets import OutletError, outlets_of


@click.command(epilog="Example: 'sudo tinybox health test-alert'")
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
def test_alert(as_json: bool) -> None:
    """Send a message by every way out that '[alerts]' of the settings names, once, and say how it went.

    It runs as who you are: root, as the daemon does, to try 'alerts.user'. See docs/alerts.md.
    """
    config = load_config(Folders.from_environment().config)
    outlets = outlets_of(config.alerts)
    if not outlets:
        hint = "set alerts.webhook or alerts.command in the settings (docs/alerts.md)"
        raise TinyboxError("nobody is to be told: no way out is configured", hint=hint)
    host, reason = socket.gethostname(), "somebody tries whether messages arrive"
    notice = Notice(Event.TEST, "alerts", Severity.INFO, reason, config.box, host, round(time.time(), 3))
    troubles = {}
    for outlet in outlets:
        try:
            outlet.send(notice)
        except OutletError as error:
            troubles[outlet.name] = str(error)
    if as_json:
        click.echo(json.dumps({outlet.name: troubles.get(outlet.name) for outlet in outlets}))
    for outlet in outlets:
        if outlet.name not in troubles and not as_json:
            click.echo(f"{outlet.name}: sent")
    if troubles:
        said = "; ".join(f"{name}: {words}" for name, words in troubles.items())
        raise TinyboxError(f"not everything was sent: {said}", hint="mend that and try again")
