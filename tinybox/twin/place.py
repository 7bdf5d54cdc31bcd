"""A twin's folder: where everything of one twin lies, and the environment that points our programs at it."""

import json
import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


def default_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """`TINYBOX_TWIN_DIR`, else one place for each user."""
    if "TINYBOX_TWIN_DIR" in environment:
        return Path(environment["TINYBOX_TWIN_DIR"]).absolute()
    if os.geteuid() == 0:
        return Path("/run/tinybox-twin")
    return Path(environment.get("XDG_RUNTIME_DIR", f"/tmp/tinybox-{os.geteuid()}")) / "tinybox-twin"


def loader_first(*folders: Path) -> dict[str, str]:
    """The environment in which the loader looks into these folders before all others."""
    searched = ":".join((*map(str, folders), *filter(None, [os.environ.get("LD_LIBRARY_PATH")])))
    return {"LD_LIBRARY_PATH": ":".join(dict.fromkeys(searched.split(":")))}


@dataclass(frozen=True, slots=True)
class Place:
    """The folder of one twin."""

    folder: Path

    @property
    def root(self) -> Path:
        """Where the machine's files are mounted."""
        return self.folder / "root"

    @property
    def control(self) -> Path:
        """The socket that commands the plant."""
        return self.folder / "twin.sock"

    @property
    def pid_file(self) -> Path:
        """The server's process."""
        return self.folder / "twin.pid"

    @property
    def bmc(self) -> Path:
        """The controller's files."""
        return self.folder / "bmc"

    @property
    def libraries(self) -> Path:
        """Stand-ins for libraries that talk to hardware: where the loader is to look first."""
        return self.folder / "lib"

    @property
    def graphics(self) -> Path:
        """Stand-ins for libdrm: only for programs inside, since whole desktops use the real one."""
        return self.folder / "graphics"

    @property
    def devices(self) -> Path:
        """What programs inside find in /dev besides what is there."""
        return self.folder / "dev"

    @property
    def log(self) -> Path:
        """What the server says."""
        return self.folder / "twin.log"

    @property
    def config(self) -> Path:
        """The suite's configuration for this twin."""
        return self.folder / "etc" / "config.toml"

    @property
    def state(self) -> Path:
        """What the suite remembers of this twin, unless it was told another place."""
        return self.folder / "state"

    @property
    def settings(self) -> Path:
        """How this twin was started, for `twin env`."""
        return self.folder / "settings.json"

    def environment(self) -> dict[str, str]:
        """What points our programs at this twin. Raises OSError when it was never started."""
        settings = json.loads(self.settings.read_text())
        return {
            **(loader_first(self.libraries) if self.libraries.is_dir() else {}),
            "TINYBOX_TWIN_DIR": str(self.folder),
            "TINYBOX_ROOT": str(self.root),
            "TINYBOX_LIVE": settings["live"],
            "TINYBOX_CONFIG": str(self.config),
            "TINYBOX_RUN_DIR": settings["run_dir"],
            "TINYBOX_STATE_DIR": settings["state_dir"],
        }

    def shell_lines(self) -> str:
        """The environment for `eval` in a shell."""
        return "".join(f"export {key}={shlex.quote(value)}\n" for key, value in self.environment().items())
