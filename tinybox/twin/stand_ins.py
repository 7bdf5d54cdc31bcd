"""Stand-ins for libraries that programs ask about cards: shipped in `lib/` beside their source, else made with gcc."""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
SHIPPED = HERE / "lib"  # no Python package, so that nobody imports what lies in it
HEADERS = Path("/usr/include/libdrm")


@dataclass(frozen=True, slots=True)
class StandIn:
    """A library: the name that programs load, its source, and what it takes to make it."""

    name: str
    source: str
    options: tuple[str, ...] = ()
    headers: Path | None = None

    def command(self, made: Path) -> list[str]:
        """What makes it, the same bytes each time."""
        flags = ["-O2", "-Wall", "-shared", "-fPIC", "-Wl,--build-id=none", f"-Wl,-soname,{self.name}"]
        return ["gcc", *flags, *self.options, "-o", str(made), str(HERE / self.source)]

    @property
    def can_be_made(self) -> bool:
        """Whether this machine has what that takes."""
        return shutil.which("gcc") is not None and (self.headers is None or self.headers.is_dir())


NVML = StandIn("libnvidia-ml.so.1", "nvml.c")  # docs/protocol/nvml.md
DRM = StandIn("libdrm.so.2", "drm.c", (f"-I{HEADERS}",), HEADERS)
AMDGPU = StandIn("libdrm_amdgpu.so.1", "drm.c", (f"-I{HEADERS}", "-DAMDGPU"), HEADERS)
STAND_INS = (NVML, DRM, AMDGPU)


def provide(library: StandIn, folder: Path) -> bool:
    """Put a library into a folder; False where it was not shipped and cannot be made."""
    made = folder / library.name
    is_shipped = (SHIPPED / library.name).exists()
    if not is_shipped and not library.can_be_made:
        return False
    folder.mkdir(parents=True, exist_ok=True)
    if is_shipped:
        shutil.copyfile(SHIPPED / library.name, made)
    elif subprocess.run(library.command(made), capture_output=True, timeout=60, check=False).returncode != 0:
        return False
    plain = made.with_name(library.name.partition(".so")[0] + ".so")  # some programs look for that name first
    plain.unlink(missing_ok=True)
    plain.symlink_to(library.name)
    return True
