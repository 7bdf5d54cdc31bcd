"""An artefact on a web server, with the servers there are."""

from contextlib import closing
from pathlib import Path

import pytest

from provisioning.artefact.source import HttpSource
from tests.provisioning.artefacts import MIB, Made, done, make_artefact, make_disk, provision
from tests.provisioning.webserver import Server
from tinybox.core.errors import TinyboxError


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("artefact")
    return make_artefact(folder, make_disk(folder / "disk.raw"))


def flash(made: Made, server: Server, target: Path) -> None:
    done("flash", server.url, target, "--trust", made.public, "--yes")
    assert target.read_bytes() == made.image.read_bytes()


def test_a_good_server_is_asked_few_times(made: Made, tmp_path: Path) -> None:
    with Server(made.artefact.read_bytes()) as server:
        flash(made, server, tmp_path / "a.raw")
        assert len(server.requests) <= 4
        assert f"{server.url}: whole" in done("verify", server.url, "--trust", made.public)


def test_one_that_ends_its_connections_early_is_asked_for_the_rest(made: Made, tmp_path: Path) -> None:
    with Server(made.artefact.read_bytes(), cut_after=700_001) as server:
        flash(made, server, tmp_path / "a.raw")
        assert len(server.requests) > 4
        assert sorted(server.requests)[-1] > 2 * MIB


def test_one_that_knows_no_ranges_serves_too(made: Made, tmp_path: Path) -> None:
    with Server(made.artefact.read_bytes(), knows_ranges=False) as server:
        flash(made, server, tmp_path / "a.raw")


def test_one_that_lies_is_asked_again(made: Made, tmp_path: Path) -> None:
    with Server(made.artefact.read_bytes(), lies=2) as server:
        flash(made, server, tmp_path / "a.raw")
        assert server.lies == 0


def test_one_that_goes_on_lying_is_refused_and_nothing_starts(made: Made, tmp_path: Path) -> None:
    with Server(made.artefact.read_bytes(), lies=10**6) as server:
        said = provision("flash", server.url, tmp_path / "a.raw", "--trust", made.public, "--yes")
    assert said.returncode == 1
    assert "is not what was signed: its hash is another; read 3 times" in said.stderr
    assert (tmp_path / "a.raw").read_bytes()[510:520] != b"\x55\xaaEFI PART"


def test_one_that_is_busy_is_asked_again(made: Made, tmp_path: Path) -> None:
    with Server(made.artefact.read_bytes(), refuses=2) as server:
        flash(made, server, tmp_path / "a.raw")


def test_one_that_stands_still_is_given_up_in_time() -> None:
    with Server(bytes(MIB), stall_at=MIB // 2) as server, closing(HttpSource(server.url, answer_s=0.3)) as source:
        assert source.read(0, 1000) == bytes(1000)
        with pytest.raises(TinyboxError, match="no answer in time"):
            source.read(0, MIB)


def test_one_whose_file_changes_is_refused() -> None:
    with Server(bytes(MIB), cut_after=1000) as server, closing(HttpSource(server.url)) as source:
        assert source.read(0, 10) == bytes(10)
        server.data = bytes(2 * MIB)
        with pytest.raises(TinyboxError, match="changed on the server"):
            source.read(0, 5000)


def test_a_wrong_address_and_no_server_get_one_line(made: Made, tmp_path: Path) -> None:
    with Server(b"x") as server:
        gone = server.url
        said = provision("flash", server.url.replace("box", "none"), tmp_path / "a", "--trust", made.public, "--yes")
        assert "404" in said.stderr
    said = provision("flash", gone, tmp_path / "a", "--trust", made.public, "--yes")
    assert (said.returncode, (tmp_path / "a").exists()) == (1, False)
    assert "Connection refused" in said.stderr
    with Server(made.artefact.read_bytes()[:-5]) as server:
        assert "is cut off" in provision("verify", server.url, "--trust", made.public).stderr
