"""`python -m benchmarks [cli] [daemon] [governor]`: measure here and now, and print tables beside the targets."""

import sys
from itertools import takewhile

from benchmarks import cli, daemon
from benchmarks.governor import command

BENCHMARKS = {"cli": cli.measure, "daemon": daemon.measure, "governor": command.measure}


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
