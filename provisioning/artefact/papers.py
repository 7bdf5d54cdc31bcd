"""What lies beside an artefact: what the image is made of (CycloneDX 1.6) and how it came to be (in-toto, SLSA 1.0).

Both are signed like the manifest. They carry no time and no random number: the same inputs give the same papers.
"""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import minisign

from provisioning.artefact.keys import sign
from provisioning.artefact.manifest import Manifest
from provisioning.artefact.release import build_facts
from provisioning.image import REPO
from tinybox import __version__
from tinybox.core.errors import TinyboxError

PIN = re.compile(r"^([a-z0-9._-]+)==(\S+)(.*)$", re.MULTILINE)
BUILD_TYPE = "https://tinybox.invalid/pack/1"  # a name, not an address: nothing is fetched
PYTHON_LOCK = "requirements.lock"


def write_papers(image: Path, out: Path, manifest: Manifest, key: minisign.SecretKey | None) -> list[Path]:
    """The papers beside `out`; those that exist. Raises TinyboxError."""
    papers = {"provenance.json": provenance(image, out, manifest)}
    packages = image.with_suffix(".manifest")
    if packages.exists():
        papers["cdx.json"] = bill_of_materials(packages, manifest)
    written = []
    try:
        for name, table in papers.items():
            path = out.with_name(f"{out.name}.{name}")
            data = (json.dumps(table, indent=1, sort_keys=True) + "\n").encode()
            path.write_bytes(data)
            written.append(path)
            if key is not None:
                signature = path.with_name(path.name + ".minisig")
                signature.write_bytes(sign(key, data, f"{manifest.release.comment} {name}"))
                written.append(signature)
    except OSError as error:
        raise TinyboxError(f"cannot write beside {out}: {error.strerror}") from None
    return written


def bill_of_materials(packages: Path, manifest: Manifest) -> dict[str, Any]:
    """Debian packages from mkosi's manifest, Python ones from the lock that the suite's package was built from."""
    release = manifest.release
    try:
        listed = json.loads(packages.read_text())
        found = [_debian(item, listed["config"]) for item in listed["packages"]]
    except (ValueError, KeyError, TypeError) as error:
        raise TinyboxError(f"{packages}: no list of packages: {error}", hint="build the image again") from None
    lock = REPO / PYTHON_LOCK
    if any(item["name"] == "tinybox" for item in found) and lock.exists():
        found += [
            _python(name, version) for name, version, marker in PIN.findall(lock.read_text()) if "win32" not in marker
        ]
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "tools": {"components": [{"type": "application", "name": "tinybox-provision", "version": __version__}]},
            "component": {
                "type": "operating-system",
                "bom-ref": "image",
                "name": f"{release.id}-{release.profile}",
                "version": release.version,
                "hashes": [{"alg": "SHA-256", "content": manifest.sha256}],
            },
        },
        "components": sorted(found, key=lambda item: str(item["bom-ref"])),
    }


def _debian(item: dict[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    name, version, architecture = item["name"], item["version"], item["architecture"]
    where = f"?arch={architecture}&distro={config['distribution']}-{config['release']}"
    plain = version.replace("+", "%2B").replace(":", "%3A")
    reference = f"pkg:deb/{config['distribution']}/{name}@{plain}{where}"
    return {"type": "library", "bom-ref": reference, "name": name, "version": version, "purl": reference}


def _python(name: str, version: str) -> dict[str, Any]:
    reference = f"pkg:pypi/{name}@{version}"
    return {"type": "library", "bom-ref": reference, "name": name, "version": version, "purl": reference}


def provenance(image: Path, out: Path, manifest: Manifest) -> dict[str, Any]:
    """An in-toto statement about the artefact: from which image, and what that was built from where its build told."""
    inputs = build_facts(image)
    made_of: list[dict[str, Any]] = [{"name": image.name, "digest": {"sha256": manifest.sha256}}]
    if "commit" in inputs:
        made_of.append({"name": "source", "digest": {"gitCommit": inputs["commit"]}})
    for name in ("recipe", "package"):
        if name in inputs:
            made_of.append({"name": name, "digest": {"sha256": inputs[name]}})
    release = manifest.release
    return {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": out.name, "digest": {"sha256": _sha256(out)}}],
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": {
                    "profile": release.profile,
                    "version": release.version,
                    "sequence": release.sequence,
                    "frame_bytes": manifest.frame_bytes,
                    **{name: inputs[name] for name in ("distribution", "release") if name in inputs},
                },
                "internalParameters": {},
                "resolvedDependencies": made_of,
            },
            "runDetails": {"builder": {"id": BUILD_TYPE, "version": {"tinybox-provision": __version__}}},
        },
    }


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
