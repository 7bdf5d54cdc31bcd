"""The house rules as tests: linters, types, words that may not be committed, documents that lead somewhere."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BIN = Path(sys.executable).parent


def run(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=110, check=False)


def tracked() -> list[Path]:
    return [ROOT / name for name in run("git", "ls-files").stdout.splitlines()]


@pytest.mark.parametrize("words", [("ruff", "check", "."), ("ruff", "format", "--check", "."), ("mypy",)], ids=" ".join)
def test_linters_have_nothing_to_say(words: tuple[str, ...]) -> None:
    done = run(BIN / words[0], *words[1:])
    assert done.returncode == 0, done.stdout + done.stderr


def machines_registries() -> set[str]:
    """Hosts of this machine's own package configuration."""
    said = run("apt-get", "indextargets", "--format", "$(URI)").stdout
    said += run(sys.executable, "-m", "pip", "config", "list").stdout
    return {host for host in re.findall(r"https?://([^/\s:'\"]+)", said) if "." in host}


def test_no_registry_is_named() -> None:
    hosts = machines_registries() | {".".join(("archive", "ubuntu", "com")), ".".join(("deb", "debian", "org"))}
    pattern = re.compile("|".join(map(re.escape, sorted(hosts))), re.IGNORECASE)
    found = [path for path in tracked() if path.is_file() and pattern.search(path.read_text(errors="replace"))]
    assert found == []


def test_the_lock_has_hashes_and_no_addresses() -> None:
    for name in ("requirements.lock", "requirements-dev.lock"):
        text = (ROOT / name).read_text()
        assert "://" not in text
        pinned = re.findall(r"^[a-z0-9._-]+==\S+", text, re.MULTILINE)
        assert len(pinned) > 5
        assert all(re.search(rf"^{re.escape(pin)}.*\\\n +--hash=sha256:", text, re.MULTILINE) for pin in pinned)


def test_the_lock_covers_what_the_project_needs() -> None:
    project = (ROOT / "pyproject.toml").read_text()
    needed = re.findall(r'^    "([a-z0-9-]+)>=', project, re.MULTILINE)
    locked = (ROOT / "requirements.lock").read_text()
    assert [name for name in needed if f"\n{name}==" not in locked] == []


def test_links_between_documents_lead_somewhere() -> None:
    broken = []
    for path in tracked():
        if path.suffix == ".md":
            for target in re.findall(r"\]\((?!https?:|#)([^)#\s]+)", path.read_text()):
                if not (path.parent / target).exists():
                    broken.append(f"{path.relative_to(ROOT)}: {target}")
    assert broken == []


def test_documents_named_in_code_exist() -> None:
    sources = [path for path in tracked() if path.suffix in (".py", ".service", ".toml")]
    named = {name for path in sources for name in re.findall(r"\bdocs/[\w/-]+\.md\b", path.read_text())}
    assert named, "the search finds nothing: it proves nothing"
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


def test_make_help_names_every_target() -> None:
    text = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z-]+):", text, re.MULTILINE))
    shown = {line.split()[1] for line in run("make", "--no-print-directory", "help").stdout.splitlines()}
    assert targets == shown


@pytest.mark.parametrize("script", ["packaging/setup", ".ci/run", "packaging/lock"])
def test_shell_scripts_parse(script: str) -> None:
    assert run("sh" if script.startswith("packaging") else "bash", "-n", script).returncode == 0
