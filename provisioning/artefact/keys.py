"""Keys and signatures in minisign's format: what is signed here, `minisign -V` checks anywhere, and the other way."""

import os
from pathlib import Path

import minisign

from tinybox.core.errors import TinyboxError

MAX_FILE_BYTES = 4096


def make_keys(path: Path) -> Path:
    """A new pair: the secret key at `path`, readable by its owner alone and without a password, the public one beside
    it as `.pub`; the latter's path. Raises TinyboxError rather than write over anything.
    """
    public = path.with_name(path.name + ".pub")
    for file in (path, public):
        if file.exists() or file.is_symlink():
            raise TinyboxError(f"{file} exists already", hint="a lost key cannot be made again: choose another name")
    pair = minisign.KeyPair.generate()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write_new(path, bytes(pair.secret_key) + b"\n", 0o600)
        _write_new(public, bytes(pair.public_key) + b"\n", 0o644)
    except OSError as error:
        raise TinyboxError(f"cannot write {error.filename or path}: {error.strerror}") from None
    return public


def _write_new(path: Path, data: bytes, mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    with open(descriptor, "wb") as file:  # noqa: PTH123
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def load_secret(path: Path) -> minisign.SecretKey:
    """A secret key without a password. Raises TinyboxError."""
    try:
        key = minisign.SecretKey.from_bytes(_read(path))
    except minisign.Error as error:
        raise TinyboxError(f"{path}: no secret key: {error}", hint="'tinybox-provision keygen' makes one") from None
    if key.is_encrypted():
        hint = f"'minisign -C -W -s {path}' takes the password off"
        raise TinyboxError(f"{path}: the key has a password, and nothing is asked here", hint=hint)
    return key


def load_public(path: Path) -> minisign.PublicKey:
    """A public key. Raises TinyboxError."""
    try:
        return minisign.PublicKey.from_bytes(_read(path))
    except minisign.Error as error:
        hint = "it is the file with .pub at its end that 'keygen' wrote"
        raise TinyboxError(f"{path}: no public key: {error}", hint=hint) from None


def sign(key: minisign.SecretKey, data: bytes, comment: str) -> bytes:
    """The signature as a file. Ed25519: the same key, data and comment give the same bytes."""
    words = "signature of a tinybox artefact's manifest"
    return bytes(key.sign(data, untrusted_comment=words, trusted_comment=comment)) + b"\n"


def trusted_comment(key: minisign.PublicKey, data: bytes, signature: bytes, *, where: str) -> str:
    """What the signer said beside the data. Raises TinyboxError unless this key signed both."""
    hint = "it was changed on its way, or comes from somebody else: do not use it"
    try:
        parsed = minisign.Signature.from_bytes(signature)
        key.verify(data, parsed)
    except minisign.ParseError as error:
        raise TinyboxError(f"{where}: the signature cannot be read: {error}", hint=hint) from None
    except minisign.VerifyError as error:
        raise TinyboxError(f"{where}: not signed by the key that you trust: {error}", hint=hint) from None
    if not parsed.is_prehashed():
        raise TinyboxError(f"{where}: the signature is of minisign's old kind", hint=hint)
    return str(parsed.trusted_comment)


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_FILE_BYTES)
    except OSError as error:
        raise TinyboxError(f"cannot read {path}: {error.strerror}") from None
