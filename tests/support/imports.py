"""The static import graph of the project: every `import` of every module, those inside functions too."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

from support.project import ROOT

PACKAGE = "enginewright"
REGISTRY = f"{PACKAGE}.runtimes"  # imports the modules of its own folder by name: whoever asks it may get any of them

TASKS = f"{PACKAGE}.tasks"  # the same


def library() -> dict[str, Path]:
    """Module name -> file, for the library."""
    return {_name(path): path for path in sorted((ROOT / PACKAGE).rglob("*.py"))}


def _name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def imported_by(path: Path) -> frozenset[str]:
    """The library modules that a file imports itself. `import a.b.c` runs a and a.b too. Imports for the type checker
    alone do not run.
    """
    known = library()
    found: set[str] = set()
    asks_registry = asks_tasks = False
    package = _name(path) if path.name == "__init__.py" else _name(path).rpartition(".")[0]
    for node in _running(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")
            base = (
                ".".join([*parts[: len(parts) - node.level + 1], *filter(None, [node.module])])
                if node.level
                else str(node.module)
            )
            names = [base, *(f"{base}.{alias.name}" for alias in node.names)]
        else:
            continue
        for name in names:
            above = name.split(".")
            found |= {".".join(above[:depth]) for depth in range(1, len(above) + 1)} & set(known)
        asks_registry |= not {"enginewright.load", f"{REGISTRY}.get_runtime", f"{REGISTRY}.runtime_named"}.isdisjoint(
            names
        )
        asks_registry |= REGISTRY in (
            names if isinstance(node, ast.Import) else names[1:]
        )  # the package itself, of which any name may be used
        asks_tasks |= f"{TASKS}.get_task" in names
    for asked, registry in ((asks_registry, REGISTRY), (asks_tasks, TASKS)):
        found |= {name for name in known if asked and name.startswith(registry + ".")}
    return frozenset(found)


def _running(tree: ast.Module) -> list[ast.AST]:
    nodes: list[ast.AST] = []
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            waiting.extend(node.orelse)
            continue
        nodes.append(node)
        waiting.extend(ast.iter_child_nodes(node))
    return nodes


def is_empty(path: Path) -> bool:
    """Whether a module does nothing: a docstring and imports from __future__ at most."""
    body = ast.parse(path.read_text()).body
    return all(
        (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
        or (isinstance(node, ast.ImportFrom) and node.module == "__future__")
        for node in body
    )


def closure(path: Path) -> set[str]:
    """Every library module that a file imports, and they import, and so on; without those that do nothing."""
    known = library()
    seen: set[str] = set()
    waiting = set(imported_by(path))
    while waiting:
        name = waiting.pop()
        seen.add(name)
        if (
            name != PACKAGE
        ):  # its __init__ imports backends in `load` alone, which `imported_by` counts where it is imported
            waiting |= imported_by(known[name]) - seen
    return {name for name in seen if not is_empty(known[name])}
