"""`python -m benchmarks [cli] [daemon] [hardware] [noise] [quiet] [flash] [governor]`: tables beside the targets."""

import sys
from collections.abc import Callable
from itertools import takewhile

from benchmarks import cli, daemon, flash, hardware, noise, quiet
from benchmarks.governor import command

BENCHMARKS: dict[str, Callable[[], object]] = {
    "cli": cli.measure,
    "daemon": daemon.measure,
    "hardware": hardware.measure,
    "noise": noise.measure,
    "quiet": quiet.measure,
    "flash": flash.measure,
    "governor": command.measure,
}


def main() -> None:
    """Run the benchmarks named, or all. Options after `governor` are its own."""
    words = sys.argv[1:]
    given = list(takewhile(lambda word: not word.startswith("-"), words))
    options = words[len(given) :]
    names = given or list(BENCHMARKS)
    unknown = [name for name in names if name not in BENCHMARKS]
    if unknown:
        sys.stderr.write(f"no benchmark is called {', '.join(unknown)}\n  known: {', '.join(BENCHMARKS)}\n")
        sys.exit(2)
    if options and names != ["governor"]:
        sys.stderr.write(
            f"{options[0]}: only 'governor' has options\n  name it alone: python -m benchmarks governor …\n"
        )
        sys.exit(2)
    if options:
        command.measure(options)
        return
    for name in names:
        BENCHMARKS[name]()


if __name__ == "__main__":  # the governor's workers import this file too
    main()
