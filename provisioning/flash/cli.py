"""`tinybox-provision flash`: shows what it found, asks for the serial, writes."""

import json
import sys
from contextlib import closing
from pathlib import Path

import click

from provisioning.flash.progress import Bars, JsonLines
from provisioning.flash.refusals import what_is_on
from provisioning.flash.run import Plan, carry_out, make_plan
from provisioning.flash.target import Target
from tinybox.core.errors import TinyboxError


@click.command(
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Examples: 'tinybox-provision flash tinybox.tbx /dev/disk/by-id/nvme-… --trust tinybox.pub', "
    "'tinybox-provision flash https://… disk.raw --trust tinybox.pub --yes --json'",
)
@click.argument("artefact")
@click.argument("targets", nargs=-1, required=True, metavar="TARGET…")
@click.option("--trust", type=click.Path(path_type=Path), help="The public key whose signature you take.")
@click.option("--allow-unsigned", is_flag=True, help="Take an artefact that nobody signed.")
@click.option("--yes", is_flag=True, help="Do not ask. Overrides no refusal.")
@click.option("--overwrite", multiple=True, metavar="SERIAL", help="Erase what is on this target. May be repeated.")
@click.option("--keep", multiple=True, metavar="PARTLABEL", help="Leave this partition as it is. May be repeated.")
@click.option("--no-verify", is_flag=True, help="Do not read back what was written.")
@click.option(
    "--seed", type=click.Path(path_type=Path), help="Makes the box yours: name, keys, network (docs/seed.md)."
)
@click.option("--user-data", type=click.Path(path_type=Path), help="The same out of a cloud-init user-data file.")
@click.option("--json", "as_json", is_flag=True, help="An event a line on standard output, for scripts.")
def flash(  # noqa: PLR0913
    artefact: str, targets: tuple[str, ...], *, trust: Path | None, allow_unsigned: bool, yes: bool,
    overwrite: tuple[str, ...], keep: tuple[str, ...], no_verify: bool, seed: Path | None,
    user_data: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Write a signed image to drives or files, and prove it.

    ARTEFACT is a file or an http address, TARGET… whole drives, by their /dev/disk/by-id path, or regular files (a
    file's serial is its name). The signature is checked before the first write, every frame before it is written, and
    what the target holds afterwards against the signed manifest. The ends of the disk are written last: a flash that is
    cut short never starts, says so, and goes on when the same command is run again.
    """
    from provisioning.artefact.container import open_artefact
    from provisioning.artefact.keys import load_public
    from provisioning.artefact.source import open_source
    from tinybox.hw.host import Host

    if trust is None and not allow_unsigned:
        hint = "'--trust KEY.pub' names the key of whoever made the artefact"
        raise TinyboxError("nobody's signature is trusted", hint=hint)
    key = None if trust is None else load_public(trust)
    seed_words = read_seeds(seed, user_data)
    with closing(open_source(artefact)) as source:
        found = open_artefact(
            source.read, source.size_bytes, key, where=source.name, is_unsigned_allowed=allow_unsigned
        )
        plan = make_plan(found, targets, Host(), overwrite=overwrite, keep=keep, seed=seed_words)
        if not as_json:
            show(plan)
        if not yes:
            ask(plan.targets)
        try:
            with JsonLines() if as_json else Bars() as teller:
                failures = carry_out(plan, source, teller.say, is_verified=not no_verify)
        except KeyboardInterrupt:
            click.echo("\ninterrupted: run the same command again, it goes on where this one ended", err=True)
            sys.exit(130)
    report(failures, is_verified=not no_verify, as_json=as_json)


def read_seeds(seed: Path | None, user_data: Path | None) -> str | None:
    """The text of a seed that is good; what user-data says that a seed cannot is told. Raises TinyboxError."""
    from provisioning.userdata import import_user_data
    from tinybox.core.seed import parse_seed, seed_text

    if seed is not None and user_data is not None:
        raise TinyboxError("there is a seed and a user-data file", hint="give one of them")
    path = seed or user_data
    if path is None:
        return None
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise TinyboxError(f"cannot read {path}: {why}", hint="see docs/seed.md") from None
    if user_data is not None:
        found, left = import_user_data(text, where=str(path))
        text = seed_text(found)
        if left:
            click.echo(f"{path}: a seed does not know, and the box will not do: {', '.join(left)}", err=True)
    parse_seed(text, where=str(path))
    return text


def show(plan: Plan) -> None:
    """What is to be written, and what is on each target."""
    manifest, release = plan.artefact.manifest, plan.artefact.manifest.release
    signed = "signed by the key you trust" if plan.artefact.is_signed else "NOT SIGNED by anybody you trust"
    click.echo(
        f"{release.id} {release.version}, profile {release.profile}, {manifest.size_bytes / 1e9:.2f} GB, {signed}",
        err=True,
    )
    for target, kept in zip(plan.targets, plan.kept, strict=True):
        size = f"{target.size_bytes / 1e9:.2f} GB" if target.size_bytes else "new file"
        model = f"{target.model}, " if target.model else ""
        click.echo(f"  {target.path}: {model}serial {target.serial}, {size}; on it: {what_is_on(target)}", err=True)
        for item in kept:
            click.echo(f"    '{item.label}' stays, {item.size * 512 / 1e9:.2f} GB", err=True)
        if plan.is_resumed(target):
            click.echo("    holds a part of this image: it is compared, and what is right stays", err=True)


def ask(targets: tuple[Target, ...]) -> None:
    """Each target's serial, typed. Raises TinyboxError for another word, or where there is nobody to ask."""
    for target in targets:
        if not sys.stdin.isatty():
            raise TinyboxError("nobody is here to type the serial", hint="'--yes' answers the question")
        click.echo(f"All that is on {target.path} will be gone. Type its serial to go on: ", nl=False, err=True)
        if sys.stdin.readline().strip() != target.serial:
            raise TinyboxError(f"that is not the serial of {target.path}", hint="nothing was written")


def report(failures: dict[str, str | None], *, is_verified: bool, as_json: bool) -> None:
    """The end of it; exit 1 when any target failed."""
    bad = {path: words for path, words in failures.items() if words is not None}
    if as_json:
        sys.stdout.write(json.dumps({"event": "end", "ok": not bad, "failed": sorted(bad)}) + "\n")
    for path in failures:
        if path not in bad and not as_json:
            click.echo(f"{path}: whole" + (" and read back" if is_verified else ", not read back"))
    for path, words in bad.items():
        click.echo(f"tinybox-provision: {path}: {words}\n  mend that and run the same command again", err=True)
    if bad:
        sys.exit(1)
