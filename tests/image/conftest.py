"""The image and its signed artefact, made once for every machine that is booted from them."""

import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from provisioning.image import REPO, Image, build_image, say_on_stderr
from tests.provisioning.artefacts import done


@pytest.fixture(scope="session")
def image() -> Image:
    return build_image(
        "sim", distribution=os.environ.get("DISTRIBUTION", "debian"), out=REPO / "build/image", say=say_on_stderr
    )


@dataclass(frozen=True, slots=True)
class Signed:
    """An artefact and the key that checks it."""

    path: Path
    public: Path


@pytest.fixture(scope="session")
def artefact(image: Image, tmp_path_factory: pytest.TempPathFactory) -> Signed:
    folder = tmp_path_factory.mktemp("release")
    done("keygen", "--out", folder / "key")
    done("pack", image.disk, "--key", folder / "key", "--out", folder / "box.tbx")
    return Signed(folder / "box.tbx", folder / "key.pub")
