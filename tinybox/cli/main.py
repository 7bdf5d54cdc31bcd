"""`tinybox`: the one command people type all day answers without loading what it does not need.

`tinybox status` with a daemon is a socket and a print; everything else goes through click.
"""

import os
import sys

from tinybox.core.errors import TinyboxError


def main() -> None:
    """The console script."""
    arguments = sys.argv[1:]
    try:
        if arguments in (["status"], ["status", "--json"]) and _print_status(json="--json" in arguments):
            return
        from tinybox.cli.commands import tinybox

        tinybox.main(args=arguments, prog_name="tinybox", standalone_mode=True)
    except TinyboxError as error:
        _say(error)
        sys.exit(1)
    except BrokenPipeError:
        # The reader has seen enough (`tinybox status | head`); Python would complain once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _say(error: TinyboxError) -> None:
    sys.stderr.write(f"tinybox: {error.message}\n" + (f"  {error.hint}\n" if error.hint else ""))


def _print_status(*, json: bool) -> bool:
    """Ask the daemon and print; False when there is none and the machine has to be read directly."""
    from tinybox.client import DaemonAbsent, fetch

    socket_path = os.environ.get("TINYBOX_RUN_DIR", "/run/tinybox") + "/tinyboxd.sock"
    try:
        body = fetch(socket_path, "/status" if json else screen_target())
    except DaemonAbsent:
        return False
    sys.stdout.write(body.decode())
    sys.stdout.flush()
    return True


def screen_target() -> str:
    """The address of the drawn status, fitted to the terminal this runs in."""
    is_terminal = sys.stdout.isatty()
    try:
        columns = int(os.environ.get("COLUMNS", "0")) or (os.get_terminal_size().columns if is_terminal else 0)
    except (ValueError, OSError):
        columns = 0
    columns = columns or (80 if is_terminal else 120)
    colour = is_terminal and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"
    return f"/status.txt?columns={columns}&colour={int(colour)}"
