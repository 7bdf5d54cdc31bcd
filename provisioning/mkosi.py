"""mkosi, the program that turns the recipe into a disk: found here, or taken from Debian's own archive."""

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from provisioning.mirror import Mirror, cache_folder, debian_mirror
from tinybox.core.errors import TinyboxError

LEAST_VERSION = 25
SYSTEM_PYTHON = "/usr/bin/python3"


def mkosi_command() -> list[str]:
    """The words that run mkosi 25 or newer. Raises TinyboxError when there is no way to have it."""
    if (installed := shutil.which("mkosi")) is not None and _major(installed) >= LEAST_VERSION:
        return [installed]
    unpacked = cache_folder() / "mkosi"
    if not (unpacked / "usr/lib/python3/dist-packages/mkosi").exists():
        _unpack_from(debian_mirror(), unpacked)
    return ["env", f"PYTHONPATH={unpacked}/usr/lib/python3/dist-packages", SYSTEM_PYTHON, "-m", "mkosi"]


def _major(program: str) -> int:
    done = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=30, check=False)
    words = done.stdout.split()
    return int(words[-1].split(".")[0]) if words and words[-1][0].isdigit() else 0


def _unpack_from(mirror: Mirror, target: Path) -> None:
    """Fetch the package with an apt of its own, so that this machine's sources stay as they are."""
    work = target.with_suffix(".apt")
    shutil.rmtree(work, ignore_errors=True)
    for folder in ("lists/partial", "cache/archives/partial", "etc", "fetched", "none"):
        (work / folder).mkdir(parents=True)
    (work / "etc/sources.sources").write_text(mirror.sources())
    (work / "status").touch()
    options = [
        f"-oDir::State::Lists={work}/lists",
        f"-oDir::State::status={work}/status",
        f"-oDir::Cache={work}/cache",
        f"-oDir::Etc::SourceList={work}/etc/sources.sources",
        f"-oDir::Etc::SourceParts={work}/etc",
        f"-oDir::Etc::PreferencesParts={work}/none",
        "-oAPT::Sandbox::User=root",
        "-qq",
    ]
    try:
        for words in (["update"], ["download", "mkosi"]):
            subprocess.run(
                ["apt-get", *options, *words], cwd=work / "fetched", check=True, timeout=300, stdout=sys.stderr
            )
        package = next((work / "fetched").glob("mkosi_*.deb"))
        fresh = target.with_suffix(".new")
        shutil.rmtree(fresh, ignore_errors=True)
        subprocess.run(["dpkg-deb", "-x", str(package), str(fresh)], check=True, timeout=60)
        fresh.rename(target)
    except (subprocess.SubprocessError, StopIteration) as error:
        hint = f"install mkosi {LEAST_VERSION} or newer by hand"
        raise TinyboxError(f"cannot take mkosi from Debian's archive: {error}", hint=hint) from None
    finally:
        shutil.rmtree(work, ignore_errors=True)


def run_mkosi(arguments: Sequence[str], *, folder: Path, log: Path | None, timeout_s: float = 3600) -> str:
    """Run mkosi on a recipe's folder; its output. Raises TinyboxError with the log's last words when it fails."""
    command = [*mkosi_command(), "--directory", str(folder), *arguments]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=timeout_s, check=False
    )
    if log is not None:
        log.write_text(done.stdout)
    if done.returncode != 0:
        said = [line for line in done.stdout.splitlines() if line.strip()][-3:]
        hint = f"the whole log is {log}" if log else "run it by hand to see more"
        raise TinyboxError(f"mkosi failed with {done.returncode}: {' / '.join(said)}", hint=hint)
    return done.stdout
