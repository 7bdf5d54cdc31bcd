"""The house plan as a test: imports point one way, there are no cycles, and policies are pure."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("tinybox", "burnin", "firmware", "provisioning")

# room: the rooms it may import from. Files directly under tinybox/ are rooms of their own.
MAY_IMPORT: dict[str, set[str]] = {
    "tinybox": set(),
    "core": {"core", "tinybox"},
    "policy": {"policy", "core"},
    "hw": {"hw", "core"},
    "screen": {"core"},
    "client": {"core"},
    "outlets": {"core"},
    "daemon": {"daemon", "policy", "hw", "core", "outlets", "screen", "tinybox"},
    "twin": {"twin", "core"},
    "replay": {"replay", "twin", "policy", "core"},
    "cli": {"cli", "client", "core", "outlets", "screen", "tinybox"},
    "firmware": {"firmware", "core", "hw"},
    "provisioning": {"provisioning", "core", "hw", "tinybox"},
    "burnin": {"burnin", "core", "client"},
}
# The edges that go beyond a room's rule, each for one file and one reason.
EXTRA: dict[str, set[str]] = {
    "tinybox/cli/offline.py": {"hw", "policy"},  # the status when no daemon answers: one look, nothing written
    "tinybox/cli/arm.py": {"hw"},  # reads the limits to be kept, and gives them back, whether or not a daemon runs
    "tinybox/cli/doctor.py": {"hw"},  # looks for levers, whether or not a daemon runs
    "tinybox/cli/init.py": {"hw"},  # looks at a machine that nobody knows yet
    "tinybox/cli/twin.py": {"twin"},  # the command that runs the twin
    "tinybox/cli/support.py": {"hw"},  # records what the drivers read, with or without a daemon
    "tinybox/cli/noise.py": {"policy"},  # judges a reading that a person types in, before it is kept
    "tinybox/cli/raid.py": {"hw"},  # runs before the daemon, at first boot
    "tinybox/cli/seed.py": {"hw"},  # the same
}
IMPURE = {"os", "time", "subprocess", "socket", "random", "datetime", "threading", "logging", "pathlib", "io", "sys"}


def sources() -> list[Path]:
    return sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room_of(module: str) -> str:
    parts = module.split(".")
    return parts[1] if parts[0] == "tinybox" and len(parts) > 1 else parts[0]


def imports_of(path: Path) -> set[str]:
    """Every module the file imports, also inside functions."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports relatively"
            found.add(node.module or "")
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def ours(path: Path) -> set[str]:
    known = {module_of(source) for source in sources()}
    return {name for name in imports_of(path) if name in known}


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_down(path: Path) -> None:
    name = str(path.relative_to(ROOT))
    allowed = MAY_IMPORT[room_of(module_of(path))] | EXTRA.get(name, set())
    upward = {module for module in ours(path) if room_of(module) not in allowed}
    assert not upward, f"{name} may not import {sorted(upward)}"


def test_there_are_no_import_cycles() -> None:
    graph = {module_of(path): ours(path) - {module_of(path)} for path in sources()}
    while leaves := {module for module, needs in graph.items() if not needs & graph.keys()}:
        graph = {module: needs for module, needs in graph.items() if module not in leaves}
    assert not graph, f"import cycle among {sorted(graph)}"


@pytest.mark.parametrize("path", sorted((ROOT / "tinybox/policy").rglob("*.py")), ids=lambda path: path.stem)
def test_policy_is_pure(path: Path) -> None:
    impure = {name for name in imports_of(path) if name.split(".")[0] in IMPURE}
    assert not impure, f"{path.name} imports {sorted(impure)}"
    called = {node.func.id for node in ast.walk(ast.parse(path.read_text())) if is_plain_call(node)}
    assert not called & {"open", "print", "input", "exec", "eval"}


def test_the_failsafe_needs_nothing_but_the_standard_library() -> None:
    needs = {name.split(".")[0] for name in imports_of(ROOT / "tinybox/daemon/failsafe.py")}
    assert needs <= sys.stdlib_module_names
    for package in ("tinybox", "tinybox/daemon"):
        assert imports_of(ROOT / package / "__init__.py") == set(), "it would be loaded with it"


def is_plain_call(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name)


def test_every_extra_edge_is_still_needed() -> None:
    for name, rooms in EXTRA.items():
        used = {room_of(module) for module in ours(ROOT / name)}
        assert rooms <= used, f"{name} no longer imports {sorted(rooms - used)}: remove the edge"
