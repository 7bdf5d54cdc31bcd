"""`tinybox-governor-pipe`: the pure policy as a filter, snapshots in, decisions out, a line each (docs/pipe.md)."""

import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import click

from tinybox.core.box import Box, load_box
from tinybox.core.commission import CardCommission, Commission, load_commission
from tinybox.core.config import Config, load_config
from tinybox.core.decision import Decision
from tinybox.core.errors import TinyboxError
from tinybox.core.lines import decision_document, snapshot_of
from tinybox.policy.decide import decide, fresh_memory
from tinybox.replay.policies import NAMES, Governor, policy_of


@click.command(
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Example: 'your-plant | tinybox-governor-pipe --box red | your-actuators'. docs/pipe.md has every key.",
)
@click.option("--box", "box_name", required=True, help="Kind of box: red, green, green-3090, blue, or one of yours.")
@click.option("--policy", type=click.Choice(NAMES), default="governor", show_default=True)
@click.option("--config", "config_path", type=click.Path(path_type=Path), help="Settings as in /etc/tinybox.")
@click.option("--state", type=click.Path(path_type=Path), help="Folder with the box's own commission.toml.")
def pipe(box_name: str, policy: str, config_path: Path | None, state: Path | None) -> None:
    """Read snapshots from standard input, print what the governor would do with each."""
    box = load_box(box_name, config_path.parent / "boxes" if config_path else None)
    config = load_config(config_path) if config_path else Config(box=box.name)
    if config_path is not None and not config_path.exists():
        raise TinyboxError(f"no settings at {config_path}", hint="leave --config out for the defaults")
    commission = (load_commission(state, box) if state else None) or by_table(box)
    for line in decisions(sys.stdin, box, config, policy, commission):
        sys.stdout.write(line + "\n")
        sys.stdout.flush()


def decisions(lines: Iterable[str], box: Box, config: Config, name: str, commission: Commission) -> Iterator[str]:
    """A decision for each snapshot. Raises TinyboxError naming the line that is none."""
    policy = policy_of(name, box, config, commission)
    watcher = fresh_memory(config, commission)
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        where = f"line {number}"
        try:
            document = json.loads(line)
        except ValueError as error:
            raise TinyboxError(f"{where}: not JSON: {error}", hint="one snapshot a line, see docs/pipe.md") from None
        snapshot = snapshot_of(document, box, where=where)
        actions, period_s = policy.turn(snapshot)
        decision: Decision | None = policy.decision if isinstance(policy, Governor) else None
        if decision is None:
            watched, watcher = decide(snapshot, box, config, watcher)
            decision = Decision(actions, watched.alerts, f"policy {name}", watched.power, watched.noise, period_s)
        yield json.dumps(decision_document(decision, snapshot.time_s), ensure_ascii=False)


def by_table(box: Box) -> Commission:
    """A box taken at its kind's word, with the margin of a table that nobody measured."""
    cards = tuple(
        CardCommission(f"gpu/{i}", slot, kind.socket_to_board, kind.clock_table)
        for i, (slot, kind) in enumerate(zip(box.slots, box.kinds, strict=True))
    )
    return Commission(box.name, cards, max(kind.clock_table_margin for kind in box.gpus))


def main() -> None:
    """The console script."""
    from tinybox.replay.cli import guarded

    guarded(pipe, "tinybox-governor-pipe")
