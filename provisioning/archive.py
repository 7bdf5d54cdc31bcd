"""Single packages out of an archive, unpacked into a folder: nothing of this machine's apt is touched."""

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from provisioning.mirror import Mirror
from tinybox.core.errors import TinyboxError


def unpack(mirror: Mirror, packages: Sequence[str], target: Path) -> None:
    """Fetch packages, without what they depend on, and unpack them into one new folder. Raises TinyboxError."""
    work, fresh = target.with_suffix(".apt"), target.with_suffix(".new")
    for folder in (work, fresh):
        shutil.rmtree(folder, ignore_errors=True)
    for name in ("lists/partial", "cache/archives/partial", "etc", "fetched", "none"):
        (work / name).mkdir(parents=True)
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
        for words in (["update"], ["download", *packages]):
            command = ["apt-get", *options, *words]
            subprocess.run(command, cwd=work / "fetched", check=True, timeout=300, stdout=sys.stderr)
        for package in sorted((work / "fetched").glob("*.deb")):
            subprocess.run(["dpkg-deb", "-x", str(package), str(fresh)], check=True, timeout=60)
        fresh.rename(target)
    except (OSError, subprocess.SubprocessError) as error:
        names, hint = " ".join(packages), "install them by hand"
        raise TinyboxError(
            f"cannot take {names} from the archive of {mirror.distribution}: {error}", hint=hint
        ) from None
    finally:
        shutil.rmtree(work, ignore_errors=True)
