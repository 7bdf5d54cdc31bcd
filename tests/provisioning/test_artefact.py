"""The artefact: what it is made of, that stock tools read it, and that nothing wrong is taken."""

import json
import random
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from provisioning.artefact.container import HEADER, MANIFEST_MAGIC, head_bytes, open_artefact, read_head
from provisioning.artefact.keys import load_public, load_secret, sign
from provisioning.artefact.manifest import Frame, Manifest, Release, decode, encode
from tests.provisioning.artefacts import MIB, RELEASE, Made, done, make_artefact, make_disk, provision
from tinybox.core.errors import TinyboxError


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("artefact")
    return make_artefact(folder, make_disk(folder / "disk.raw"))


def facts(path: Path) -> dict[str, object]:
    loaded = json.loads(done("inspect", path, "--json"))
    assert isinstance(loaded, dict)
    return loaded


def test_stock_zstd_unpacks_it_to_the_very_image(made: Made, tmp_path: Path) -> None:
    with (tmp_path / "out").open("wb") as out:
        subprocess.run(["zstd", "--decompress", "--stdout", made.artefact], stdout=out, check=True, timeout=60)
    assert (tmp_path / "out").read_bytes() == made.image.read_bytes()
    subprocess.run(["zstd", "--test", "--quiet", made.artefact], check=True, timeout=60)


def test_stock_minisign_takes_manifest_papers_and_key(made: Made, tmp_path: Path) -> None:
    done("inspect", made.artefact, "--extract", tmp_path)
    papers = [made.artefact.with_name(f"{made.artefact.name}.provenance.json"), tmp_path / "manifest.json"]
    for paper in papers:
        command = ["minisign", "-V", "-p", made.public, "-m", paper]
        said = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout
        assert "Trusted comment: tinybox artefact tinybox version=1.2.3 sequence=1000" in said
    other = subprocess.run(
        ["minisign", "-S", "-W", "-s", made.key, "-m", papers[0], "-x", tmp_path / "own"],
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert other.returncode == 0, other.stderr


def test_it_says_which_image_it_is(made: Made) -> None:
    found = facts(made.artefact)
    assert [found[name] for name in ("id", "version", "sequence", "profile", "seed")] == [
        "tinybox", "1.2.3", 1000, "sim", "tinybox-seed-1",
    ]  # fmt: skip
    assert found["size_bytes"] == found["minimum_disk_bytes"] == 24 * MIB
    assert 3 * MIB < int(str(found["used_bytes"])) < 5 * MIB


def test_any_bytes_are_an_image_of_no_profile(tmp_path: Path) -> None:
    image = tmp_path / "Some Bytes.img"
    image.write_bytes(random.Random(3).randbytes(3 * MIB + 17))
    found = facts(make_artefact(tmp_path, image).artefact)
    assert (found["profile"], found["seed"], found["id"]) == ("none", None, "some-bytes")
    plain = make_disk(tmp_path / "plain.raw", None)
    done("pack", plain, "--key", tmp_path / "key", "--out", tmp_path / "plain.tbx")
    assert facts(tmp_path / "plain.tbx")["profile"] == "none"


def test_the_same_image_gives_the_same_bytes_at_another_place_and_time(made: Made, tmp_path: Path) -> None:
    image = tmp_path / "disk.raw"
    subprocess.run(["cp", "--sparse=never", made.image, image], check=True, timeout=30)
    done("pack", image, "--key", made.key, "--out", tmp_path / made.artefact.name, "--frame-mib", "1")
    for name in ("", ".provenance.json", ".provenance.json.minisig"):
        ours, theirs = (Path(f"{path}{name}") for path in (made.artefact, tmp_path / made.artefact.name))
        assert ours.read_bytes() == theirs.read_bytes()


def test_keys_are_new_private_and_never_written_over(tmp_path: Path) -> None:
    done("keygen", "--out", tmp_path / "a")
    done("keygen", "--out", tmp_path / "b")
    assert (tmp_path / "a").read_bytes() != (tmp_path / "b").read_bytes()
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o600
    kept = (tmp_path / "a").read_bytes()
    again = provision("keygen", "--out", tmp_path / "a")
    assert again.returncode == 1
    assert "exists already" in again.stderr
    assert (tmp_path / "a").read_bytes() == kept


def test_the_provenance_names_artefact_and_image(made: Made) -> None:
    import hashlib

    paper = json.loads(made.artefact.with_name(f"{made.artefact.name}.provenance.json").read_text())
    assert paper["_type"] == "https://in-toto.io/Statement/v1"
    assert paper["predicateType"] == "https://slsa.dev/provenance/v1"
    assert paper["subject"][0]["digest"]["sha256"] == hashlib.sha256(made.artefact.read_bytes()).hexdigest()
    (image, *_) = paper["predicate"]["buildDefinition"]["resolvedDependencies"]
    assert image["digest"]["sha256"] == hashlib.sha256(made.image.read_bytes()).hexdigest()


def test_what_the_image_is_made_of_lies_beside_it(made: Made, tmp_path: Path) -> None:
    image = tmp_path / "disk.raw"
    shutil.copy(made.image, image)
    packages = [
        {"type": "deb", "name": name, "version": "1:2.3+b1", "architecture": "amd64"} for name in ("tinybox", "mdadm")
    ]
    listed = {"manifest_version": 1, "config": {"distribution": "debian", "release": "trixie"}, "packages": packages}
    image.with_suffix(".manifest").write_text(json.dumps(listed))
    image.with_suffix(".inputs.json").write_text(json.dumps({"commit": "c" * 40, "recipe": "d" * 64}))
    done("pack", image, "--key", made.key, "--out", tmp_path / "out.tbx")
    bom = json.loads((tmp_path / "out.tbx.cdx.json").read_text())
    names = {component["purl"].partition("?")[0] for component in bom["components"]}
    assert "pkg:deb/debian/mdadm@1%3A2.3%2Bb1" in names
    assert any(name.startswith("pkg:pypi/zstandard@") for name in names)
    assert (tmp_path / "out.tbx.cdx.json.minisig").exists()
    assert "c" * 40 in (tmp_path / "out.tbx.provenance.json").read_text()
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(bom)) is None


# What is wrong with an artefact, and what is said of it.


def changed(made: Made, folder: Path, change: object) -> Path:
    data = bytearray(made.artefact.read_bytes())
    assert callable(change)
    path = folder / "changed.tbx"
    path.write_bytes(change(data))
    return path


def flip(offset: int) -> object:
    def change(data: bytearray) -> bytes:
        data[offset] ^= 0x10
        return bytes(data)

    return change


def verify_refuses(made: Made, path: Path, *words: str) -> str:
    said = provision("verify", path, "--trust", made.public)
    assert said.returncode == 1, said.stdout
    assert len(said.stderr.strip().splitlines()) <= 2
    for word in words:
        assert word in said.stderr
    return said.stderr


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda data: bytes(data[:-1]), "is cut off"),
        (lambda data: bytes(data[:100]), "is cut off"),
        (lambda data: bytes(data[:3]), "the file ends"),
        (lambda _data: b"", "the file ends"),
        (lambda data: bytes(data) + b"x", "behind its last frame"),
        (lambda data: bytes(data) + HEADER.pack(0x184D2A50, 4) + b"more", "behind its last frame"),
        (lambda data: HEADER.pack(0x184D2A50, 4) + b"more" + bytes(data), "this is no artefact"),
        (lambda data: HEADER.pack(MANIFEST_MAGIC, 2**32 - 1) + bytes(data[8:]), "more than the"),
        (flip(20), "not signed by the key"),
        (lambda data: bytes(data[8 + int.from_bytes(data[4:8], "little") :]), "this is no artefact"),
    ],
    ids=["byte short", "in the manifest", "three bytes", "empty", "garbage", "a frame more", "a frame before", "huge",
         "manifest flipped", "no manifest"],
)  # fmt: skip
def test_it_is_refused_in_one_line(made: Made, tmp_path: Path, change: object, word: str) -> None:
    verify_refuses(made, changed(made, tmp_path, change), word)


def test_a_flipped_bit_is_found_in_every_frame(made: Made) -> None:
    from provisioning.artefact.frames import unpack_frame

    data = made.artefact.read_bytes()
    artefact = open_artefact(lambda at, n: data[at : at + n], len(data), None, where="it")
    rng = random.Random(5)
    for index, (frame, offset) in enumerate(zip(artefact.manifest.frames, artefact.offsets, strict=True)):
        stored = bytearray(data[offset : offset + frame.stored_bytes])
        stored[rng.randrange(len(stored))] ^= 1 << rng.randrange(8)
        with pytest.raises(TinyboxError, match="not what was signed"):
            unpack_frame(bytes(stored), frame, artefact.manifest.raw_bytes(index), where="frame")


def resigned(made: Made, folder: Path, change: object, *, comment: str | None = None, key: Path | None = None) -> Path:
    """The same frames behind a manifest that somebody changed and signed."""
    data = made.artefact.read_bytes()
    head = read_head(lambda at, n: data[at : at + n], where="it")
    assert callable(change)
    manifest = change(decode(head.manifest, where="it"))
    encoded = encode(manifest) if isinstance(manifest, Manifest) else manifest
    secret = load_secret(key or made.key)
    release = decode(head.manifest, where="it").release
    signature = sign(secret, encoded, comment or release.comment)
    path = folder / "resigned.tbx"
    path.write_bytes(head_bytes(encoded, signature) + data[head.length_bytes :])
    return path


def test_another_key_a_swapped_manifest_and_another_release_are_refused(made: Made, tmp_path: Path) -> None:
    done("keygen", "--out", tmp_path / "other")
    same = lambda manifest: manifest  # noqa: E731
    verify_refuses(made, resigned(made, tmp_path, same, key=tmp_path / "other"), "not signed by the key")
    younger = f"tinybox artefact tinybox version=1.2.3 sequence={RELEASE.sequence + 1}"
    verify_refuses(made, resigned(made, tmp_path, same, comment=younger), "of another release")
    said = provision("verify", made.artefact, "--trust", tmp_path / "other.pub")
    assert "not signed by the key that you trust" in said.stderr


def test_frames_that_the_manifest_tells_wrongly_are_refused_though_signed(made: Made, tmp_path: Path) -> None:
    def first(manifest: Manifest, **values: object) -> Manifest:
        return replace(manifest, frames=(replace(manifest.frames[0], **values), *manifest.frames[1:]))  # type: ignore[arg-type]

    verify_refuses(made, resigned(made, tmp_path, lambda m: first(m, stored_sha256="0" * 64)), "not what was signed")
    verify_refuses(made, resigned(made, tmp_path, lambda m: first(m, raw_sha256="0" * 64)), "something else")
    verify_refuses(made, resigned(made, tmp_path, lambda m: replace(m, sha256="0" * 64)), "as a whole")
    verify_refuses(
        made, resigned(made, tmp_path, lambda m: first(m, stored_bytes=m.frames[0].stored_bytes + 1)), "it says"
    )


def test_a_frame_that_claims_gigabytes_is_refused_before_memory_is_taken() -> None:
    import hashlib

    import zstandard

    from provisioning.artefact.frames import unpack_frame

    bomb = zstandard.ZstdCompressor().compress(bytes(512 * MIB))
    frame = Frame(len(bomb), hashlib.sha256(bomb).hexdigest(), "0" * 64)
    with pytest.raises(TinyboxError, match="does not unpack to the 4,096 bytes"):
        unpack_frame(bomb, frame, 4096, where="frame")


MANIFEST = Manifest(
    Release("tinybox", "1.0", 7, "red", "tinybox-seed-1"), 10_000, "a" * 64, 10_000, 4096,
    tuple(Frame(100, "b" * 64, "c" * 64) for _ in range(3)), ((0, 4096), (5000, 5000)),
)  # fmt: skip


def test_a_manifest_reads_back_as_it_was_written() -> None:
    assert decode(encode(MANIFEST), where="it") == MANIFEST


@pytest.mark.parametrize(
    "change",
    [
        {"id": "../../etc/passwd"}, {"version": "1.0\n2"}, {"profile": ""}, {"sequence": -1}, {"sequence": True},
        {"sequence": 1.0}, {"size_bytes": 2**60}, {"size_bytes": 0}, {"frame_bytes": 2**30}, {"frame_bytes": 4097},
        {"frames": []}, {"frames": [[100, "b" * 64]] * 3}, {"frames": [[10**9, "b" * 64, "c" * 64]] * 3},
        {"frames": [[100, "B" * 64, "c" * 64]] * 3}, {"used": [[0, 20_000]]}, {"used": [[5000, 10], [0, 10]]},
        {"used": [[0, 0]]}, {"minimum_disk_bytes": 9_999}, {"format": "tinybox-artefact-2"}, {"more": 1}, {"seed": 3},
    ],
    ids=str,
)  # fmt: skip
def test_a_manifest_with_a_value_that_cannot_be_is_refused(change: dict[str, object]) -> None:
    table = json.loads(encode(MANIFEST))
    with pytest.raises(TinyboxError, match="manifest cannot be taken"):
        decode(json.dumps({**table, **change}).encode(), where="it")


@settings(max_examples=400, deadline=None)
@given(st.one_of(
    st.binary(max_size=400),
    st.recursive(st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
                 lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4),
                 max_leaves=20).map(lambda value: json.dumps(value).encode()),
))  # fmt: skip
def test_whatever_bytes_come_as_a_manifest_the_answer_is_one_refusal(data: bytes) -> None:
    with pytest.raises(TinyboxError):
        decode(data, where="it")


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_a_manifest_with_changed_bytes_is_refused_or_is_another_good_one(data: st.DataObject) -> None:
    raw = bytearray(encode(MANIFEST))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(raw) - 1))
        raw[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    try:
        found = decode(bytes(raw), where="it")
    except TinyboxError:
        return
    assert encode(found) == bytes(raw)
    assert len(found.frames) == -(-found.size_bytes // found.frame_bytes)


def test_deep_nesting_is_no_crash() -> None:
    with pytest.raises(TinyboxError):
        decode(b"[" * 100_000 + b"]" * 100_000, where="it")


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("pack", "none.raw", "--key", "KEY", "--out", "x"), "there is no none.raw"),
        (("pack", "IMAGE", "--key", "IMAGE", "--out", "x"), "no secret key"),
        (("pack", "IMAGE", "--out", "x"), "say either whose key signs it"),
        (("verify", "ARTEFACT", "--trust", "KEY"), "no public key"),
        (("verify", "ARTEFACT", "--trust", "none.pub"), "cannot read none.pub"),
        (("verify", "none.tbx", "--trust", "PUB"), "cannot read none.tbx"),
        (("inspect", "IMAGE"), "this is no artefact"),
    ],
)
def test_a_wrong_file_gets_one_clear_line(made: Made, tmp_path: Path, words: tuple[str, ...], line: str) -> None:
    names = {"IMAGE": made.image, "ARTEFACT": made.artefact, "KEY": made.key, "PUB": made.public, "x": tmp_path / "x"}
    said = provision(*(names.get(word, word) for word in words))
    assert (said.returncode, said.stdout) == (1, "")
    assert line in said.stderr.splitlines()[0]
    assert not (tmp_path / "x").exists()


def test_a_full_disk_leaves_no_half_artefact(made: Made, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", small], check=True, timeout=30)
    try:
        said = provision("pack", made.image, "--key", made.key, "--out", small / "x.tbx")
        assert said.returncode == 1
        assert "No space left on device" in said.stderr
        assert list(small.iterdir()) == []
    finally:
        subprocess.run(["umount", small], check=True, timeout=30)


def test_the_public_key_is_what_its_secret_key_says(made: Made) -> None:
    assert bytes(load_secret(made.key).get_public_key()) == bytes(load_public(made.public))
