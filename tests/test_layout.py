"""The package reads top to bottom: a module imports only from its own row or rows above it."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[1]
ROWS = [
    ["errors", "types", "manifest", "storage", "signals", "provenance", "untrusted", "tensor_files"],
    ["geometry", "density", "depth", "depth_kernels", "meshes", "projections"],
    ["encoders", "adapters", "losses", "optim"],
    ["miniworld"],
    ["data"],
    ["proxies"],
    ["evaluation"],
    ["modules"],
    ["predict", "doctor", "stage_cli", "proxy_commands", "scene", "scene_command", "cloud_files", "cloud_index", "cloud_commands", "report_command",
     "view_command", "naming_options", "exporting", "export_command"],
    ["cli", "__main__", "__init__"],
]
ROW_OF = {name: row for row, names in enumerate(ROWS) for name in names}
SOURCES = sorted((REPO / "clip2x").rglob("*.py"))


def part_of(path: Path) -> str:
    first = path.relative_to(REPO / "clip2x").parts[0]
    return first.removesuffix(".py")


def imported_parts(path: Path) -> set[str]:
    parts = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            pieces = name.split(".")
            if pieces[0] == "clip2x" and len(pieces) > 1:
                parts.add(pieces[1])
    return {part for part in parts if part in ROW_OF}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(REPO)))
def test_modules_import_only_from_above(path: Path) -> None:
    own = part_of(path)
    below = {part for part in imported_parts(path) if ROW_OF[part] > ROW_OF[own]}
    if own == "__init__":
        return
    assert not below, f"{path.name} ({own}) imports from below: {below}"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(REPO)))
def test_files_stay_readable(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 450, "split it where a newcomer would look for the parts"


def test_open3d_is_imported_lazily() -> None:
    for path in SOURCES:
        top = [line for line in path.read_text().splitlines() if re.match(r"(import|from) open3d", line)]
        assert not top, f"{path} imports Open3D at its top"


def test_every_stage_yaml_goes_into_the_wheel() -> None:
    included = tomllib.loads((REPO / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    for path in sorted((REPO / "stages").rglob("*.yaml")):
        name = str(path.relative_to(REPO))
        assert any(name == source or name.startswith(source + "/") for source in included), f"{name} is not in the wheel"


def test_the_repository_names_no_machine_and_no_registry() -> None:
    patterns = re.compile(r"/work/|/root/|index-url|file:///|\.b-seed")
    for path in [*SOURCES, REPO / "pyproject.toml", REPO / "constraints.txt", REPO / "Makefile", REPO / "README.md"]:
        found = patterns.search(path.read_text())
        assert not found, f"{path.name}: {found and found.group()}"
