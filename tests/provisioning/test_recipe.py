"""The recipe without building it: what mkosi makes of it for either distribution, and where packages come from."""

import http.server
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from provisioning.image import REPO, choose_distribution, fingerprint, profiles, recipe_command_line, summary
from provisioning.mirror import UBUNTU_KEYRING, Mirror, debian_mirror, is_reachable
from tinybox.core.errors import TinyboxError

ROOT = ["root=PARTLABEL=tinybox-root", "rootflags=subvol=@gen/0001"]
# Looked up in each distribution's own archive; a name that is right in one is often wrong in the other.
KERNEL = {"ubuntu": "linux-image-generic", "debian": "linux-image-amd64"}
VIRTUAL = {"ubuntu": "linux-image-virtual", "debian": "linux-image-amd64"}  # Ubuntu's other one brings all firmware
FIRMWARE = {"ubuntu": "linux-firmware", "debian": "firmware-amd-graphics"}


def image_of(profile: str, distribution: str) -> dict[str, Any]:
    images = summary(profile, distribution)["Images"]
    assert isinstance(images, list)
    found = images[-1]
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize("distribution", ["ubuntu", "debian"])
@pytest.mark.parametrize("profile", profiles())
def test_the_recipe_reads_the_same_for_both_distributions(profile: str, distribution: str) -> None:
    image = image_of(profile, distribution)
    assert image["Distribution"] == distribution
    assert image["Release"] == {"ubuntu": "noble", "debian": "trixie"}[distribution]
    assert image["Bootloader"] == "systemd-boot"
    assert image["UnifiedKernelImages"] == "disabled"
    assert ROOT[0] in image["KernelCommandLine"] and ROOT[1] in image["KernelCommandLine"]
    assert image["VolatilePackages"] == ["tinybox"]
    kernel = (VIRTUAL if profile == "sim" else KERNEL)[distribution]
    assert {*KERNEL.values(), *VIRTUAL.values()} & set(image["Packages"]) == {kernel}
    assert image["RootPassword"] is None
    assert (FIRMWARE[distribution] in image["Packages"]) == (profile == "red")


def test_noble_has_repart_inside_systemd_and_trixie_beside_it() -> None:
    assert "systemd-repart" not in image_of("sim", "ubuntu")["Packages"]  # systemd 255: split off in 256
    assert "systemd-repart" in image_of("sim", "debian")["Packages"]


def test_the_command_line_is_written_once() -> None:
    assert recipe_command_line("red").split()[1:3] == ROOT


def test_every_profile_is_booted_without_firmware_as_with_it() -> None:
    assert [recipe_command_line(profile) for profile in profiles()] == [
        " ".join(image_of(profile, "debian")["KernelCommandLine"]) for profile in profiles()
    ]


def test_the_esp_has_two_gibibytes_and_the_root_is_a_generation() -> None:
    esp = (REPO / "image/mkosi.repart/00-esp.conf").read_text()
    root = (REPO / "image/mkosi.repart/10-root.conf").read_text()
    assert re.search(r"^SizeMinBytes=2G$", esp, re.MULTILINE)
    assert "Format=btrfs" in root and "@gen/0001" in root


def test_what_a_generation_leaves_is_mounted_by_every_one() -> None:
    root = (REPO / "image/mkosi.repart/10-root.conf").read_text()
    _, *subvolumes = re.search(r"^Subvolumes=(.*)$", root, re.MULTILINE)[1].split()  # type: ignore[index]
    mounts = [line.split() for line in (REPO / "image/mkosi.extra/etc/fstab").read_text().splitlines()]
    mounted = {fields[1]: fields[3].split(",") for fields in mounts if "subvol=" in " ".join(fields)}
    assert set(subvolumes) == set(mounted) == {"/home", "/srv", "/var/cache", "/var/log", "/var/tmp"}
    for mount, options in mounted.items():
        assert f"subvol={mount.lstrip('/')}" in options and "nofail" in options, "it boots without, to be mended"


def test_a_distribution_that_we_do_not_know_is_refused() -> None:
    with pytest.raises(TinyboxError, match="no distribution 'arch'"):
        choose_distribution("arch", lambda _: None)


def test_what_was_asked_for_is_taken() -> None:
    said: list[str] = []
    assert choose_distribution("debian", said.append) == debian_mirror()
    assert said == []


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[str]:
    """An archive on loopback that has a release called noble."""
    (tmp_path / "dists/noble").mkdir(parents=True)
    (tmp_path / "dists/noble/InRelease").write_text("-----BEGIN PGP SIGNED MESSAGE-----\n" + "Suite: noble\n" * 9)

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments, directory=str(tmp_path))

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_an_archive_is_reachable_when_it_has_the_release(archive: str) -> None:
    mirror = Mirror("ubuntu", "noble", archive, "main", UBUNTU_KEYRING)
    assert is_reachable(mirror)
    assert not is_reachable(Mirror("ubuntu", "zesty", archive, "main", UBUNTU_KEYRING))
    assert not is_reachable(Mirror("ubuntu", "noble", "http://127.0.0.1:9", "main", UBUNTU_KEYRING))


def test_sources_name_no_debug_archive() -> None:
    text = Mirror("debian", "trixie", "http://127.0.0.1/debian", "main", UBUNTU_KEYRING).sources()
    assert "Suites: trixie\n" in text
    assert "debug" not in text


def test_other_inputs_are_another_image(tmp_path: Path) -> None:
    package = tmp_path / "tinybox.deb"
    package.write_bytes(b"one")
    first = fingerprint(package, "sim", "debian")
    assert first == fingerprint(package, "sim", "debian")
    assert first != fingerprint(package, "sim", "ubuntu")
    package.write_bytes(b"two")
    assert first != fingerprint(package, "sim", "debian")
