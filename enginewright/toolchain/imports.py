"""The static import graph of the library: every `import` of every module, those inside functions too.

It is read off the source, so that a module counts whether its packages are installed or not, and is the same under
every version of Python. Imports for the type checker alone do not run and do not count.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Optional

from enginewright.errors import ConfigError

PACKAGE = "enginewright"
SCRIPTS = "stages"
REGISTRY = f"{PACKAGE}.registry"  # whose tables say which module a name stands for
MODELS = f"{PACKAGE}.models.loading"  # finds factories by name: whoever loads a model may run any of this folder

# What decides no bytes of an artifact, and why. Nothing behind them counts either, but for what HARNESS names.
DECIDE_NO_BYTES: Mapping[str, str] = {
    PACKAGE: "the door for applications; no stage goes through it",
    f"{PACKAGE}.cli": "commands; no stage calls them",
    f"{PACKAGE}.config": "says what a setting may be; every value lies in params.yaml, and DVC compares it there",
    f"{PACKAGE}.conf": "what params.yaml was composed from",
    f"{PACKAGE}.errors": "sentences of stages that made nothing",
    f"{PACKAGE}.layout": "paths, which dvc.yaml lists itself",
    REGISTRY: "finds a module by its name; the module counts under its own key",
    f"{PACKAGE}.selection": "whether params.yaml is of this version and experiment; nothing is made of it",
    f"{PACKAGE}.stage": "the harness: checks, locks and exit codes; what it writes with counts (HARNESS)",
    f"{PACKAGE}.toolchain": "what decides when a stage runs, not what it makes",
    f"{PACKAGE}.views": "renders results that a stage has sealed already",
}
# but for these, inside a package of those: metrics are outs of their stages
DECIDE_ALL_THE_SAME = (f"{PACKAGE}.views.metrics",)
HARNESS = (f"{PACKAGE}.manifest",)  # writes and seals for every stage
ALWAYS_RUN = ("check_toolchain", "probe_target")  # in each `dvc repro`: what they write counts, and not how


# Kinds whose package finds the members for others: who imports a function of it may get any of them, and who imports a
# module of it gets that module alone.
HOMES: Mapping[str, str] = {"runtimes": f"{PACKAGE}.runtimes"}


@dataclass(frozen=True)
class Imports:
    """What one file imports of the library itself."""

    modules: frozenset[str] = frozenset()
    kinds: frozenset[str] = frozenset()  # registries that it asks, so that it may get any of their members


@dataclass
class Reach:
    """What runs behind a file: modules, and the kinds of which it may get any member."""

    modules: set[str] = field(default_factory=set)
    kinds: set[str] = field(default_factory=set)


class Library:
    """The modules of the library and the scripts of the stages, wherever they lie: a checkout or an installed wheel."""

    def __init__(self, package: Path, scripts: Optional[Path] = None) -> None:
        """Look at two folders.

        Args:
            package: the folder enginewright/.
            scripts: the folder of the stages' scripts; by default stages/ inside the package, as in the wheel, or else
                beside it.
        """
        inside = package / SCRIPTS
        scripts = scripts or (inside if inside.is_dir() else package.parent / SCRIPTS)
        self.modules: Mapping[str, Path] = {
            _name(path, package.parent): path for path in sorted(package.rglob("*.py")) if inside not in path.parents
        }
        self.scripts: Mapping[str, Path] = {
            path.stem: path for path in sorted(scripts.glob("*.py")) if path.stem not in ("__init__", *ALWAYS_RUN)
        }
        self._trees: dict[Path, ast.Module] = {}
        self._imports: dict[Path, Imports] = {}

    def path(self, module: str) -> str:
        """How a module's file is called, relative to a checkout: "enginewright/graph/qdq.py"."""
        file, folder = self.modules[module], module.replace(".", "/")
        return f"{folder}/__init__.py" if file.name == "__init__.py" else f"{folder}.py"

    def tree(self, path: Path) -> ast.Module:
        """The syntax tree of a file. Raises ConfigError if this Python cannot read it."""
        if path not in self._trees:
            try:
                self._trees[path] = ast.parse(path.read_bytes(), str(path))
            except SyntaxError as fault:
                raise ConfigError(f"{path}, line {fault.lineno}, is no Python ({fault.msg}); mend it") from None
        return self._trees[path]

    @cached_property
    def registries(self) -> dict[str, dict[str, str]]:
        """Kind -> name of a member -> the module that defines it."""
        return {kind: members for _, kind, members in self._tables}

    @cached_property
    def _tables(self) -> list[tuple[str, str, dict[str, str]]]:
        """Every `NAME = Registry("<kind>", {name: "module:attribute"})`: module.NAME, kind, and name -> module."""
        found = []
        for module, path in self.modules.items():
            if b"Registry" not in path.read_bytes():
                continue
            for node in self.tree(path).body:
                if isinstance(node, (ast.Assign, ast.AnnAssign)) and isinstance(node.value, ast.Call):
                    target = node.targets[0] if isinstance(node, ast.Assign) else node.target
                    if ast.unparse(node.value.func).partition("[")[0] == "Registry":
                        kind, table = map(ast.literal_eval, node.value.args)
                        members = {name: value.partition(":")[0] for name, value in table.items()}
                        found.append((f"{module}.{ast.unparse(target)}", kind, members))
        return found

    def _asked(self, name: str, module: str) -> Iterator[str]:
        """The kinds whose members whoever imports `name`, such as "enginewright.registry.TASKS", may get."""
        for table, kind, _ in self._tables:
            if name in (table, table.rpartition(".")[0]) and module != HOMES.get(kind):
                yield kind
        for kind, home in HOMES.items():
            inside = name.rpartition(".")[0] == home and name not in self.modules
            if home != module and (name == home or inside):
                yield kind

    def imported_by(self, path: Path, module: str) -> Imports:
        """What a file imports itself; `import a.b.c` runs a and a.b too.

        Args:
            path: the file.
            module: its name, to which relative imports are relative.
        """
        if path not in self._imports:
            package = module if path.name == "__init__.py" else module.rpartition(".")[0]
            found: set[str] = set()
            kinds: set[str] = set()
            for name in _imported(self.tree(path), package):
                parts = name.split(".")
                above = {".".join(parts[:depth]) for depth in range(1, len(parts) + 1)}
                found |= above & self.modules.keys()
                kinds.update(self._asked(name, module))
            self._imports[path] = Imports(frozenset(found), frozenset(kinds))
        return self._imports[path]

    def reach(self, module: str) -> Reach:
        """Every module that runs behind a script ("stages.export") or a module, itself included, without those that do
        nothing or decide no bytes.
        """
        package, _, name = module.partition(".")
        script = self.scripts.get(name) if package == SCRIPTS else None
        waiting = set(HARNESS) & self.modules.keys() if script else {module}
        found = Reach()
        if script:
            waiting |= self._behind(script, module, found)
        while waiting:
            name = waiting.pop()
            if name not in self.modules:
                raise ConfigError(f"the module {name} does not exist, and {REGISTRY} names it; put it there again")
            found.modules.add(name)
            waiting |= self._behind(self.modules[name], name, found) - found.modules
        found.modules = {name for name in found.modules if not self.is_empty(self.modules[name])}
        return found

    def _behind(self, path: Path, module: str, found: Reach) -> set[str]:
        imports = self.imported_by(path, module)
        found.kinds |= imports.kinds
        names = set(imports.modules)
        if MODELS in names:
            names |= {name for name in self.modules if name.startswith(MODELS.rpartition(".")[0] + ".")}
        return {name for name in names if not decides_nothing(name)}

    def is_empty(self, path: Path) -> bool:
        """Whether a module does nothing: a docstring and imports from __future__ at most."""
        return all(
            (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
            or (isinstance(node, ast.ImportFrom) and node.module == "__future__")
            for node in self.tree(path).body
        )

    def members(self, kind: str) -> Mapping[str, str]:
        """Name -> module of the members of a kind."""
        return self.registries[kind]


def decides_nothing(module: str) -> bool:
    """Whether a module, or a package around it, is among DECIDE_NO_BYTES."""
    if module in DECIDE_ALL_THE_SAME:
        return False
    return module == PACKAGE or any(
        module == name or module.startswith(f"{name}.") for name in DECIDE_NO_BYTES if name != PACKAGE
    )


def _module(value: str) -> str:
    return value.partition(":")[0]


def _name(path: Path, root: Path) -> str:
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imported(tree: ast.Module, package: str) -> Iterator[str]:
    """Dotted names that a tree imports: of `from a import b`, a.b alone, or a where b is everything."""
    for node in _running(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield from (base if alias.name == "*" else f"{base}.{alias.name}" for alias in node.names)


def _running(tree: ast.Module) -> Iterator[ast.AST]:
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            waiting.extend(node.orelse)
            continue
        yield node
        waiting.extend(_children(node))


def _children(node: ast.AST) -> Iterable[ast.AST]:
    return ast.iter_child_nodes(node)
