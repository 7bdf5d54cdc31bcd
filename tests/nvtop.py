"""nvtop 3.2 with the C library that it was built for, whatever this machine has: unpacked from Debian's archive."""

import json
from pathlib import Path
from typing import Any

from provisioning.archive import unpack
from provisioning.mirror import cache_folder, debian_mirror
from tests.conftest import Rig

PACKAGES = ("nvtop", "libc6", "libncursesw6", "libtinfo6", "libsystemd0", "libcap2")
# The loader of the same archive; libraries of the twin come after its own and before this machine's.
LIBRARIES = "usr/lib/x86_64-linux-gnu"
RUN = 'exec "$1/ld-linux-x86-64.so.2" --library-path "$1:$LD_LIBRARY_PATH" "$2/usr/bin/nvtop" --snapshot'


def nvtop(rig: Rig) -> list[dict[str, Any]]:
    """What it says of every card that it finds inside the twin."""
    folder = _unpacked()
    done = rig.run("twin", "exec", "--", "sh", "-c", RUN, "sh", str(folder / LIBRARIES), str(folder))
    assert done.returncode == 0, done.stderr
    cards = json.loads(done.stdout)
    assert isinstance(cards, list)
    return cards


def _unpacked() -> Path:
    folder = cache_folder() / "nvtop-trixie"
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        unpack(debian_mirror(), PACKAGES, folder)
    return folder
