"""The image, built once for every machine that is booted from it."""

import os

import pytest

from provisioning.image import REPO, Image, build_image, say_on_stderr


@pytest.fixture(scope="session")
def image() -> Image:
    return build_image(
        "sim", distribution=os.environ.get("DISTRIBUTION", "debian"), out=REPO / "build/image", say=say_on_stderr
    )
