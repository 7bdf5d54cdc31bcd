"""The image from the recipe: mirrors and caches of this machine, the suite's package, and nothing built twice."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from provisioning.artefact.release import FILE_NAME, ReleaseFile, release_text
from provisioning.mirror import Mirror, cache_folder, debian_mirror, is_reachable, ubuntu_mirror
from provisioning.mkosi import mkosi_command, run_mkosi
from tinybox import __version__
from tinybox.core.errors import TinyboxError

REPO = Path(__file__).resolve().parent.parent
RECIPE = REPO / "image"
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Image:
    """A built image: the disk, and its kernel and initrd for booting without firmware."""

    disk: Path
    kernel: Path
    initrd: Path
    command_line: str
    distribution: str


def choose_distribution(asked: str | None, say: Say) -> Mirror:
    """What was asked for; else Ubuntu where its archive answers, else Debian, and that is said.

    Raises TinyboxError for a distribution the recipe does not know.
    """
    asked = asked or os.environ.get("DISTRIBUTION")
    if asked == "debian":
        return debian_mirror()
    if asked not in (None, "", "ubuntu"):
        raise TinyboxError(f"the recipe knows no distribution '{asked}'", hint="it is one of: ubuntu, debian")
    mkosi_command()  # fetched by now if it has to be: where apt knows no Ubuntu archive, mkosi does
    mirror = ubuntu_mirror()
    if asked == "ubuntu" or is_reachable(mirror):
        return mirror
    say("Ubuntu's archive cannot be reached from here: building the Debian flavour of the same recipe")
    return debian_mirror()


def build_image(profile: str, *, distribution: str | None, out: Path, say: Say) -> Image:
    """Build, or take what was built from the very same inputs. Raises TinyboxError."""
    if profile not in profiles():
        raise TinyboxError(f"there is no profile '{profile}'", hint=f"profiles: {', '.join(profiles())}")
    mirror = choose_distribution(distribution, say)
    package = build_package(say)
    stamp = out / profile / "inputs.sha256"
    inputs = fingerprint(package, profile, mirror.distribution)
    image = describe(profile, out, mirror.distribution)
    if stamp.exists() and stamp.read_text() == inputs and image.disk.exists():
        say(f"image {image.disk.name} is up to date")
        return image
    if os.geteuid() != 0:
        raise TinyboxError("building an image needs root", hint="run it with sudo, or try 'make demo'")
    stamp.parent.mkdir(parents=True, exist_ok=True)
    stamp.unlink(missing_ok=True)
    warm = any((cache_folder() / "image").glob("*.cache"))
    usual = "about a minute" if warm else "three to five minutes: the first build fetches everything"
    say(f"building the {profile} image on {mirror.distribution} {mirror.release} ({usual})")
    began_s = time.monotonic()
    release = release_tree(profile, out / profile / "release")
    run_mkosi(
        [*mkosi_arguments(profile, mirror, package, out / profile), f"--extra-tree={release}:/", "--force", "build"],
        folder=RECIPE,
        log=out / profile / "build.log",
    )
    facts = {
        "commit": last_commit("%H"),
        "recipe": inputs,
        "package": hashlib.sha256(package.read_bytes()).hexdigest(),
        "distribution": mirror.distribution,
        "release": mirror.release,
    }
    image.disk.with_suffix(".inputs.json").write_text(json.dumps(facts, indent=1) + "\n")
    stamp.write_text(inputs)
    say(f"built {image.disk.name} in {time.monotonic() - began_s:.0f} s")
    return image


def profiles() -> tuple[str, ...]:
    """Profiles of the recipe. Raises TinyboxError where the recipe is not: the installed package goes without."""
    try:
        return tuple(sorted(path.name for path in (RECIPE / "mkosi.profiles").iterdir()))
    except FileNotFoundError:
        raise TinyboxError(f"no recipe at {RECIPE}", hint="build images from a checkout of the sources") from None


def describe(profile: str, out: Path, distribution: str) -> Image:
    """Where the parts of a built image lie."""
    base = out / profile / f"tinybox-{profile}"
    return Image(
        disk=base.with_name(base.name + ".raw"),
        kernel=base.with_name(base.name + ".vmlinuz"),
        initrd=base.with_name(base.name + ".initrd"),
        command_line=recipe_command_line(profile),
        distribution=distribution,
    )


def recipe_command_line(profile: str) -> str:
    """The kernel command line, from the one place it is written, and what the profile adds to it."""
    base = _command_line_in(RECIPE / "mkosi.conf")
    if not base:
        raise TinyboxError("image/mkosi.conf has no KernelCommandLine", hint="restore it: it names the root")
    return f"{base} {_command_line_in(RECIPE / 'mkosi.profiles' / profile / 'mkosi.conf')}".strip()


def _command_line_in(path: Path) -> str:
    lines = path.read_text().splitlines()
    return next((line.partition("=")[2] for line in lines if line.startswith("KernelCommandLine=")), "")


def build_package(say: Say) -> Path:
    """The suite's own Debian package."""
    say("packing the suite")
    done = subprocess.run([str(REPO / "packaging/build-deb")], capture_output=True, text=True, timeout=900, check=False)
    if done.returncode != 0:
        said = (done.stderr.strip() or "it said nothing").splitlines()[-1]
        raise TinyboxError(f"packaging/build-deb failed: {said}", hint="run it by hand")
    return Path(done.stdout.strip().splitlines()[-1])


def last_commit(form: str) -> str:
    """Of the sources, in one of git's forms: "%H" its name, "%ct" its time in seconds; "0" outside a checkout."""
    command = ["git", "log", "-1", f"--format={form}"]
    return subprocess.run(command, cwd=REPO, capture_output=True, text=True, check=False).stdout.strip() or "0"


def release_tree(profile: str, folder: Path) -> Path:
    """A tree with the release file on the ESP. The sequence is the last commit's time: later sources, higher number."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "efi").mkdir(parents=True)
    release = ReleaseFile("tinybox", __version__, int(last_commit("%ct")), profile)
    (folder / "efi" / FILE_NAME).write_text(release_text(release))
    return folder


def fingerprint(package: Path, profile: str, distribution: str) -> str:
    """A hash of everything the image is made of, but for the archive's state."""
    digest = hashlib.sha256(f"{profile} {distribution}".encode())
    for path in (package, *sorted(path for path in RECIPE.rglob("*") if path.is_file())):
        digest.update(str(path.name).encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def sandbox_tree(mirror: Mirror, folder: Path) -> Path:
    """A small tree that mkosi lays over its sandbox: apt sources and trust of this machine."""
    shutil.rmtree(folder, ignore_errors=True)
    sources = folder / "etc/apt/sources.list.d"
    sources.mkdir(parents=True)
    (sources / "mkosi.sources").write_text(mirror.sources())
    (folder / "etc/apt/apt.conf.d").mkdir()
    done = subprocess.run(["apt-config", "dump", "Acquire"], capture_output=True, text=True, timeout=30, check=False)
    kept = [line for line in done.stdout.splitlines() if "::Check-" in line or "proxy" in line.lower()]
    (folder / "etc/apt/apt.conf.d/90-host").write_text("\n".join(kept) + "\n")
    return folder


def mkosi_arguments(profile: str, mirror: Mirror, package: Path, out: Path) -> list[str]:
    """Everything about this build that is not the recipe's."""
    cache = cache_folder()
    for name in ("image", "packages", "workspace"):
        (cache / name).mkdir(parents=True, exist_ok=True)
    packages = cache / "deb"
    shutil.rmtree(packages, ignore_errors=True)
    packages.mkdir()
    shutil.copy(package, packages)
    own = sandbox_tree(mirror, cache / "sandbox")
    tools = sandbox_tree(debian_mirror(), cache / "sandbox-tools")
    return [
        f"--profile={profile}",
        f"--distribution={mirror.distribution}",
        f"--release={mirror.release}",
        f"--sandbox-tree={own}",
        f"--tools-tree-sandbox-tree={tools}",
        f"--cache-directory={cache / 'image'}",
        f"--package-cache-dir={cache / 'packages'}",
        f"--workspace-directory={cache / 'workspace'}",
        f"--volatile-package-directory={packages}",
        f"--output-directory={out}",
    ]


def summary(profile: str, distribution: str) -> dict[str, object]:
    """What mkosi would build, without building: `mkosi summary` as JSON."""
    mkosi_command()
    mirror = debian_mirror() if distribution == "debian" else ubuntu_mirror()
    arguments = [f"--profile={profile}", f"--distribution={mirror.distribution}", f"--release={mirror.release}"]
    arguments += [f"--cache-directory={cache_folder() / 'image'}"]
    text = run_mkosi([*arguments, "--json", "summary"], folder=RECIPE, log=None, timeout_s=120)
    loaded = json.loads(text[text.index("{") :])
    if not isinstance(loaded, dict):
        raise TinyboxError("mkosi summary gave no JSON object")
    return loaded


def say_on_stderr(line: str) -> None:
    """Progress for people, so that standard output stays for answers."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()
