"""`tinybox-provision keygen`, `pack`, `verify`, `inspect`: making an artefact, and knowing what one is."""

import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import click

from provisioning.artefact.manifest import FRAME_BYTES, MIB, Manifest
from tinybox.core.errors import TinyboxError

HELP = {"help_option_names": ["-h", "--help"]}


@click.command(
    context_settings=HELP, epilog="Example: 'tinybox-provision keygen --out tinybox' (then tinybox.pub is public)"
)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The secret key; the public one gets .pub.")
def keygen(out: Path) -> None:
    """Make a key pair that signs artefacts, in minisign's format. Asks nothing; the secret key has no password."""
    from provisioning.artefact.keys import make_keys

    public = make_keys(out)
    click.echo(f"{out} signs: keep it where only you can read it. {public} checks: give it to everybody.", err=True)
    click.echo(public)


@click.command(
    context_settings=HELP, epilog="Example: 'tinybox-provision pack tinybox.raw --key tinybox --out tinybox.tbx'"
)
@click.argument("image", type=click.Path(path_type=Path))
@click.option("--key", type=click.Path(path_type=Path), help="The secret key that 'keygen' made.")
@click.option("--unsigned", is_flag=True, help="Without a signature: only '--allow-unsigned' takes it.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The artefact.")
@click.option("--frame-mib", type=click.IntRange(1, 16), default=FRAME_BYTES // MIB, show_default=True,
              help="MiB of the image in each frame.")  # fmt: skip
def pack(image: Path, *, key: Path | None, unsigned: bool, out: Path, frame_mib: int) -> None:
    """Turn an image into one signed file that can be checked and read from any place in it. Asks nothing.

    The same image and key give the same bytes. What it is made of (SBOM) and how (provenance) is written beside it.
    """
    from provisioning.artefact.keys import load_secret
    from provisioning.artefact.pack import pack as pack_image
    from provisioning.artefact.papers import write_papers
    from provisioning.artefact.release import release_of

    if (key is None) != unsigned:
        raise TinyboxError("say either whose key signs it or that none does", hint="--key KEY, or --unsigned")
    if not image.exists():
        raise TinyboxError(f"there is no {image}", hint="'make image' builds one")
    secret = None if key is None else load_secret(key)
    if key is not None and out.exists() and out.samefile(key):
        raise TinyboxError(f"{out} is the key itself", hint="name another file for the artefact")
    with _bar("packing") as tell:
        manifest = pack_image(image, release_of(image), secret, out, frame_bytes=frame_mib * MIB, progress=tell)
    papers = write_papers(image, out, manifest, secret)
    size = f"{manifest.size_bytes / 1e9:.2f} GB in {out.stat().st_size / 1e9:.2f} GB"
    click.echo(f"{_name(manifest)}: {size}; beside it {', '.join(path.name for path in papers)}", err=True)
    click.echo(out)


@click.command(context_settings=HELP, epilog="Example: 'tinybox-provision verify tinybox.tbx --trust tinybox.pub'")
@click.argument("artefact")
@click.option("--trust", type=click.Path(path_type=Path), required=True, help="The public key that signed it.")
@click.option("--json", "as_json", is_flag=True, help="What was verified, for scripts.")
def verify(artefact: str, *, trust: Path, as_json: bool) -> None:
    """Check the signature and every byte of an artefact; ARTEFACT is a file or an http address."""
    from provisioning.artefact.container import open_artefact
    from provisioning.artefact.keys import load_public
    from provisioning.artefact.source import open_source
    from provisioning.artefact.verify import verify as prove

    key = load_public(trust)
    with closing(open_source(artefact)) as source:
        found = open_artefact(source.read, source.size_bytes, key, where=source.name)
        with _bar("verifying") as tell:
            for done in prove(source, found):
                tell(done, found.manifest.size_bytes)
    if as_json:
        click.echo(json.dumps({"ok": True, **_facts(found.manifest)}))
    else:
        click.echo(f"{artefact}: whole, and signed by {trust}: {_name(found.manifest)}")


@click.command(
    context_settings=HELP,
    epilog="Example: 'tinybox-provision inspect tinybox.tbx --extract DIR', "
    "then 'minisign -V -p tinybox.pub -m DIR/manifest.json'",
)
@click.argument("artefact")
@click.option("--extract", type=click.Path(path_type=Path), help="Write manifest and signature into this folder.")
@click.option("--json", "as_json", is_flag=True, help="The facts, for scripts.")
def inspect(artefact: str, *, extract: Path | None, as_json: bool) -> None:
    """Show what an artefact says of itself. Checks no signature: 'verify' does."""
    from provisioning.artefact.container import open_artefact
    from provisioning.artefact.source import open_source

    with closing(open_source(artefact)) as source:
        found = open_artefact(source.read, source.size_bytes, None, where=source.name)
    if extract is not None:
        _extract(extract, {"manifest.json": found.head.manifest, "manifest.json.minisig": found.head.signature})
    if as_json:
        click.echo(json.dumps({**_facts(found.manifest), "is_signed": bool(found.head.signature)}, indent=2))
        return
    facts = {**_facts(found.manifest), "signature": "not checked" if found.head.signature else "none"}
    width = max(map(len, facts))
    click.echo("\n".join(f"{name:<{width}}  {value}" for name, value in facts.items()))


def _extract(folder: Path, files: dict[str, bytes]) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in files.items():
            (folder / name).write_bytes(data)
    except OSError as error:
        raise TinyboxError(f"cannot write into {folder}: {error.strerror}") from None


def _facts(manifest: Manifest) -> dict[str, object]:
    release = manifest.release
    return {
        "id": release.id,
        "version": release.version,
        "sequence": release.sequence,
        "profile": release.profile,
        "seed": release.seed,
        "size_bytes": manifest.size_bytes,
        "used_bytes": sum(length for _, length in manifest.used),
        "minimum_disk_bytes": manifest.minimum_disk_bytes,
        "frames": len(manifest.frames),
        "frame_bytes": manifest.frame_bytes,
        "sha256": manifest.sha256,
    }


def _name(manifest: Manifest) -> str:
    release = manifest.release
    return f"{release.id} {release.version} (sequence {release.sequence}, profile {release.profile})"


class _bar:
    """A progress bar on a terminal, nothing elsewhere."""

    def __init__(self, words: str) -> None:
        from rich.console import Console
        from rich.progress import Progress

        console = Console(stderr=True)
        self._progress = Progress(console=console, disable=not console.is_terminal)
        self._task = self._progress.add_task(words, total=None)

    def __enter__(self) -> Callable[[int, int], None]:
        self._progress.start()
        return lambda done, total: self._progress.update(self._task, completed=done, total=total)

    def __exit__(self, *_: object) -> None:
        self._progress.stop()
