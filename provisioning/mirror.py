"""Package mirrors of this machine, read from its own apt configuration: none is ever written into the repository."""

import re
import subprocess
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from tinybox.core.errors import TinyboxError

DEBIAN_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
UBUNTU_KEYRING = Path("/usr/share/keyrings/ubuntu-archive-keyring.gpg")
UBUNTU_DEFAULT = "http://archive." + "ubuntu.com/ubuntu"  # where nothing on this machine says otherwise
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


def apt_sites() -> tuple[tuple[str, str], ...]:
    """(repository URI, release) of every package index this machine's apt uses."""
    command = ["apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE)", "Created-By: Packages"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    except FileNotFoundError:
        return ()
    return tuple((line.split()[0], line.split()[1]) for line in done.stdout.splitlines() if len(line.split()) == 2)


def debian_mirror(release: str = "trixie") -> Mirror:
    """This machine's Debian archive, for any release: they lie side by side. Raises TinyboxError without one."""
    for uri, suite in apt_sites():
        if re.fullmatch(r"[a-z]+", suite) and uri.rstrip("/").endswith("/debian"):
            components = "main contrib non-free-firmware"
            return Mirror("debian", release, uri.rstrip("/"), components, DEBIAN_KEYRING)
    raise TinyboxError(
        "no Debian archive in this machine's apt configuration",
        hint="add one to /etc/apt/sources.list.d: mkosi's tools are built from it",
    )


def ubuntu_mirror(release: str = "noble") -> Mirror:
    """This machine's Ubuntu archive, else Ubuntu's own."""
    for uri, _ in apt_sites():
        if uri.rstrip("/").endswith("/ubuntu"):
            return Mirror("ubuntu", release, uri.rstrip("/"), "main universe", UBUNTU_KEYRING)
    return Mirror("ubuntu", release, UBUNTU_DEFAULT, "main universe", UBUNTU_KEYRING)


def is_reachable(mirror: Mirror) -> bool:
    """Whether the release's own index can be fetched now."""
    url = f"{mirror.uri}/dists/{mirror.release}/InRelease"
    try:
        with urllib.request.urlopen(url, timeout=REACH_TIMEOUT_S) as answer:
            return bool(answer.status == 200 and answer.read(64))
    except (urllib.error.URLError, OSError, ValueError):
        return False
