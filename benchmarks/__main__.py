"""`python -m benchmarks [cli] [daemon]`: measure here and now, and print tables beside the targets."""

import sys

from benchmarks import cli, daemon

BENCHMARKS = {"cli": cli.measure, "daemon": daemon.measure}


def main() -> None:
    """Run the benchmarks named, or all."""
    names = sys.argv[1:] or list(BENCHMARKS)
    unknown = [name for name in names if name not in BENCHMARKS]
    if unknown:
        sys.stderr.write(f"no benchmark is called {', '.join(unknown)}\n  known: {', '.join(BENCHMARKS)}\n")
        sys.exit(2)
    for name in names:
        BENCHMARKS[name]()


main()
