"""Clean Debian roots: built once from this machine's mirror, and lent to each test as a copy that it may spoil."""

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from provisioning.image import REPO, sandbox_tree
from provisioning.mirror import Mirror, cache_folder

# They judge their completions: part of the roots, not of what the package asks for.
SHELLS = ("fish", "zsh")
# A box boots with it; a minimal root has none.
INIT_SYSTEM = "systemd"
# fish wants man-db, whose index of every page would be made anew at every installation.
NO_INDEX = 'rm -f "$1/var/lib/man-db/auto-update"'
# A root that no test took for so long was made for another control file.
STALE_S = 7 * 86400.0
INIT = """
set -eu
base=$1 work=$2 packages=$3 first=$4
mount -t tmpfs -o mode=755 tmpfs "$work"
mkdir "$work/upper" "$work/work" "$work/root"
mount -t overlay -o "lowerdir=$base,upperdir=$work/upper,workdir=$work/work" overlay "$work/root"
cd "$work/root"
mount -t proc proc proc
mount -t tmpfs -o mode=755 tmpfs run
mount --bind "$packages" mnt
touch dev/fuse
mount --bind /dev/fuse dev/fuse
# What an installer or a booted system puts there: without it, mounting leaves locks behind.
ln -sf ../proc/self/mounts etc/mtab
mkdir run/mount
ip link set lo up
# Nobody in there sees this machine's devices.
mount -t tmpfs tmpfs sys
if [ "$first" = "$5" ]; then
    mkdir -p sys/fs/cgroup
    mount -t cgroup2 cgroup2 sys/fs/cgroup
fi
# The machine's own files leave this mount namespace before anybody may enter it.
pivot_root . tmp
exec chroot . sh -c "umount -l /tmp && mount -t tmpfs tmpfs /tmp && echo ready && $first"
"""
WAIT = "sleep infinity & wait"
BOOT = "container=tinybox-test exec /lib/systemd/systemd --log-target=null >/dev/null 2>&1"
# Of what a purge need not put back: what apt and dpkg write about themselves.
KEPT_BY_APT = (
    "/var/lib/dpkg",
    "/var/lib/apt",
    "/var/cache/apt",
    "/var/cache/debconf",
    "/var/log/apt",
    "/var/log/dpkg.log",
)


@dataclass(frozen=True, slots=True)
class Root:
    """A running copy of a root: mounts, processes and network of its own; gone with its first process."""

    pid: int
    environment: dict[str, str] = field(default_factory=dict)

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a program inside; nothing is checked."""
        return subprocess.run(
            self._command(words), env=self._environment(), capture_output=True, text=True, timeout=100, check=False
        )

    def call(self, *words: str) -> str:
        """Run a program inside, which must succeed; what it printed."""
        done = self.run(*words)
        assert done.returncode == 0, f"{' '.join(words)}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        """Start a program inside and leave it running."""
        return subprocess.Popen(self._command(words), env=self._environment(), stdin=subprocess.DEVNULL)

    def path(self, inside: str) -> Path:
        """A path inside, as it is reached from here."""
        return Path(f"/proc/{self.pid}/root{inside}")

    def listing(self) -> set[str]:
        """Every file: path, kind, mode, owner, size, where it links to; a folder's size says nothing."""
        pruned = [word for path in KEPT_BY_APT for word in ("-path", path, "-prune", "-o")]
        files = ["-type", "d", "-printf", "%p d %m %U:%G\\n", "-o", "-printf", "%p %y %m %U:%G %s %l\\n"]
        return set(self.call("find", "/", "/run", "-xdev", *pruned, *files).splitlines())

    def _command(self, words: Sequence[str]) -> list[str]:
        spaces = ("--mount", "--pid", "--net", "--ipc", "--uts")
        return ["nsenter", f"--target={self.pid}", *spaces, "--root", "--wd", "--", *words]

    def _environment(self) -> Mapping[str, str]:
        own = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "DEBIAN_FRONTEND": "noninteractive"}
        return {**own, "LC_ALL": "C.UTF-8", **self.environment}


def control_field(name: str) -> str:
    """A field of the package's control file."""
    found = re.search(rf"^{name}: (.*)$", (REPO / "packaging/debian/control").read_text(), re.MULTILINE)
    assert found is not None, name
    return found[1]


def wanted() -> tuple[str, ...]:
    """Names of what the package depends on and recommends."""
    fields = f"{control_field('Depends')}, {control_field('Recommends')}"
    return tuple(sorted({relation.split()[0] for relation in fields.split(",")}))


def base_of(mirror: Mirror) -> Path:
    """The clean root of a release with everything that the package wants, from the cache or built into it."""
    packages = (*wanted(), *SHELLS, INIT_SYSTEM)
    key = hashlib.sha256(" ".join((NO_INDEX, *packages)).encode()).hexdigest()[:12]
    roots = cache_folder() / "roots"
    base = roots / f"{mirror.release}-{key}"
    roots.mkdir(parents=True, exist_ok=True)
    if not base.exists():
        # Only what has a stamp was finished; a root that is being built has this machine's /proc in it.
        for stamp in roots.glob("*.used"):
            if stamp.stat().st_mtime < time.time() - STALE_S:
                shutil.rmtree(stamp.with_suffix(""), ignore_errors=True)
                stamp.unlink()
        build(mirror, packages, base)
    base.with_suffix(".used").touch()
    return base


def build(mirror: Mirror, packages: Sequence[str], base: Path) -> None:
    """A minimal root by mmdebstrap; two builders at once do each other no harm."""
    fresh = base.with_name(f"{base.name}.{os.getpid()}")
    apt = sandbox_tree(mirror, base.with_name(f"{fresh.name}.apt"))
    # Its mounts end with it, even if it is killed.
    command = ["unshare", "--mount", "mmdebstrap", "--quiet", "--mode=root", "--variant=minbase", "--format=directory"]
    command += [f"--aptopt={apt}/etc/apt/apt.conf.d/90-host", f"--include={','.join(packages)}"]
    command += [f"--customize-hook={NO_INDEX}"]
    command += [mirror.release, str(fresh), f"{apt}/etc/apt/sources.list.d/mkosi.sources"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    shutil.rmtree(apt)
    assert done.returncode == 0, f"mmdebstrap failed:\n{done.stderr}"
    if base.exists():
        shutil.rmtree(fresh)
    else:
        fresh.rename(base)


@contextmanager
def opened(base: Path, work: Path, packages: Path, *, boots: bool = False) -> Iterator[Root]:
    """A copy to spoil, the folder of packages at its /mnt; with systemd as its first process if it `boots`."""
    spaces = ["--mount", "--pid", "--net", "--ipc", "--uts", "--fork", "--kill-child=KILL", *["--cgroup"] * boots]
    command = [
        "unshare",
        *spaces,
        "sh",
        "-c",
        INIT,
        "sh",
        *map(str, (base, work, packages)),
        BOOT if boots else WAIT,
        BOOT,
    ]
    with own_cgroup() if boots else nullcontext() as cgroup:
        if cgroup is not None:
            command = ["sh", "-c", 'echo $$ >"$0/cgroup.procs" && exec "$@"', str(cgroup), *command]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout is not None
                assert process.stdout.readline() == "ready\n", "the root did not come up: see what it says above"
                (init,) = psutil.Process(process.pid).children()
                yield Root(init.pid)
            finally:
                process.kill()


@contextmanager
def own_cgroup() -> Iterator[Path]:
    """A control group for one root, gone with it."""
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    top = next(Path(where) for _, where, kind, *_ in mounts if kind == "cgroup2")
    group = Path(tempfile.mkdtemp(prefix="tinybox-test-", dir=top))
    try:
        yield group
    finally:
        deadline_s = time.monotonic() + 10
        while "populated 1" in (group / "cgroup.events").read_text() and time.monotonic() < deadline_s:
            time.sleep(0.1)
        for folder in sorted((path for path in group.rglob("*") if path.is_dir()), reverse=True):
            folder.rmdir()
        group.rmdir()
