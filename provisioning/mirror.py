"""Package mirrors of this machine, read from its own apt configuration: none is ever written into the repository."""

import os
import re
import subprocess
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from tinybox.core.errors import TinyboxError

DEBIAN_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
UBUNTU_KEYRING = Path("/usr/share/keyrings/ubuntu-archive-keyring.gpg")
# Where mkosi's own code lies: unpacked by us, or installed. It knows the archives that its makers take by default.
MKOSI_MODULES = "usr/lib/python3/dist-packages/mkosi/distributions"
REACH_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class Mirror:
    """Where a distribution's packages come from."""

    distribution: str
    release: str
    uri: str
    components: str
    keyring: Path

    def sources(self) -> str:
        """The mirror as a deb822 file, without the debug archive that not every mirror carries."""
        suites = self.release if self.distribution == "debian" else f"{self.release} {self.release}-updates"
        return (
            f"Types: deb\nURIs: {self.uri}\nSuites: {suites}\nComponents: {self.components}\n"
            f"Signed-By: {self.keyring}\n"
        )


def cache_folder() -> Path:
    """What is worth keeping from build to build and from clone to clone."""
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "tinybox"


def apt_sites() -> tuple[tuple[str, str], ...]:
    """(repository URI, release) of every package index this machine's apt uses."""
    command = ["apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE)", "Created-By: Packages"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    except FileNotFoundError:
        return ()
    return tuple((line.split()[0], line.split()[1]) for line in done.stdout.splitlines() if len(line.split()) == 2)


def debian_mirror(release: str = "trixie") -> Mirror:
    """A Debian archive, for any release: they lie side by side. Raises TinyboxError where none is known."""
    return Mirror("debian", release, _archive("debian"), "main contrib non-free-firmware", DEBIAN_KEYRING)


def ubuntu_mirror(release: str = "noble") -> Mirror:
    """An Ubuntu archive. Raises TinyboxError where none is known."""
    return Mirror("ubuntu", release, _archive("ubuntu"), "main universe", UBUNTU_KEYRING)


def _archive(distribution: str) -> str:
    """Its address: from this machine's apt, else the one that mkosi takes."""
    for uri, suite in apt_sites():
        if uri.rstrip("/").endswith(f"/{distribution}") and re.fullmatch(r"[a-z]+", suite):
            return uri.rstrip("/")
    for base in (cache_folder() / "mkosi", Path("/")):
        module = base / MKOSI_MODULES / f"{distribution}.py"
        if module.exists() and (found := re.search(r'mirror or "(\S+)"', module.read_text())) is not None:
            return found[1].rstrip("/")
    raise TinyboxError(
        f"neither apt nor mkosi of this machine knows an archive of {distribution}",
        hint="add one to /etc/apt/sources.list.d, or install mkosi",
    )


def is_reachable(mirror: Mirror) -> bool:
    """Whether the release's own index can be fetched now."""
    url = f"{mirror.uri}/dists/{mirror.release}/InRelease"
    try:
        with urllib.request.urlopen(url, timeout=REACH_TIMEOUT_S) as answer:
            return bool(answer.status == 200 and answer.read(64))
    except (urllib.error.URLError, OSError, ValueError):
        return False
