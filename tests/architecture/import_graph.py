"""Import graph of the sources: imports at module level, inside functions, and for type checkers."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path


def import_graph(packages: Mapping[str, Path]) -> dict[str, set[str]]:
    """The modules that each module of some packages imports, as far as these are in the packages themselves.

    Args:
        packages: the folder of each, by its name.
    """
    files = {}
    for package, folder in packages.items():
        for path in folder.rglob("*.py"):
            parts = path.relative_to(folder).with_suffix("").parts
            files[".".join([package, *(parts[:-1] if parts[-1] == "__init__" else parts)])] = path
    return {module: set(_imported(module, path, files)) - {module} for module, path in files.items()}


def _imported(module: str, path: Path, files: Mapping[str, Path]) -> Iterator[str]:
    package = module if path.stem == "__init__" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Import(names=names):
                yield from (name for name in (_nearest(alias.name, files) for alias in names) if name)
            case ast.ImportFrom(module=base, level=level, names=names):
                above = package.split(".")[: len(package.split(".")) - level + 1] if level else []
                base = ".".join(filter(None, [*above, base]))
                for alias in names:
                    name = f"{base}.{alias.name}"
                    if name in files or base in files:
                        yield name if name in files else base


def _nearest(name: str, files: Mapping[str, Path]) -> str:
    while name and name not in files:
        name = name.rpartition(".")[0]
    return name


def cycles(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """Groups of modules of which each imports, through others, itself (Tarjan's strongly connected components)."""
    numbers: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []
    found = []

    def visit(module: str) -> None:
        numbers[module] = lowest[module] = len(numbers)
        stack.append(module)
        for other in sorted(graph[module]):
            if other not in numbers:
                visit(other)
                lowest[module] = min(lowest[module], lowest[other])
            elif other in stack:
                lowest[module] = min(lowest[module], numbers[other])
        if lowest[module] == numbers[module]:
            group = [stack.pop()]
            while group[-1] != module:
                group.append(stack.pop())
            if len(group) > 1:
                found.append(sorted(group))

    for module in sorted(graph):
        if module not in numbers:
            visit(module)
    return found


def told(graph: Mapping[str, set[str]], group: list[str]) -> str:
    """The imports within a group, one a line."""
    return "\n".join(f"{module} imports {', '.join(sorted(graph[module] & set(group)))}" for module in group)
