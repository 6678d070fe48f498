"""toolchain.yaml: what each stage executes and the versions that decide its bytes, as `enginewright lock` found them.

Stages list its keys as params, so that DVC itself sees what an edit of the library makes stale. `check_toolchain`
compares the file with the library before anything else runs.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

import yaml

from enginewright.errors import ConfigError
from enginewright.toolchain import packages, pipeline
from enginewright.toolchain.digest import digest, sha256
from enginewright.toolchain.imports import PACKAGE, REGISTRY, SCRIPTS, Library, decides_nothing
from enginewright.toolchain.outside import OUTSIDE, digest_of_outside

TOOLCHAIN_FILE = Path("toolchain.yaml")
AUTO = "auto"  # the key of what a choice by probing may come to
BY_NAME_ONLY = {"runtimes": ("null",)}  # what probing never comes to

# What chooses a member of a kind: the stages of which the key counts, or all others, and the setting.
CHOICES: Mapping[str, Mapping[str, str]] = {
    "runtimes": {"calibrate": "calibration.runtime", "": "runtime"},
    "importers": {"": "model.source"},
    "tasks": {"": "model.task"},
    "sources": {"": "data.source"},
    "recipes": {"": "data.preprocessing.recipe"},
}
# Members that a stage asks for by name: where FP32 is not built for the target, ONNX Runtime's
# stands in for it (enginewright/runtimes/built.py).
BY_NAME: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "runtimes": {"build_fp32": ("onnxruntime",), "validate_accuracy": ("onnxruntime",)},
}
HEADER = """\
# Written by `enginewright lock` (here `make sync`); docs/pipeline.md says how it keeps `dvc repro` honest.
# code: sha256 of the source that a stage executes. packages: versions that decide bytes. modules: to name what changed.
"""


@dataclass(frozen=True)
class Toolchain:
    """The content of toolchain.yaml."""

    code: Mapping[str, Any]  # stage -> sha256; kind -> member -> sha256
    packages: Mapping[str, Any]  # package -> version; kind -> member -> package -> version
    modules: Mapping[str, str]  # path of each module -> the first 16 digits of its sha256

    def text(self) -> str:
        """The file's content, the same bytes for the same content."""
        body = yaml.safe_dump(
            {"code": dict(self.code), "packages": dict(self.packages)}, default_flow_style=False, sort_keys=True
        )
        lines = "".join(f"  {path} {digest}\n" for path, digest in sorted(self.modules.items()))
        return f"{HEADER}seal: {self.seal()}\n{body}modules: |\n{lines}"

    def seal(self) -> str:
        """Hash over all of it: the file of a merge, which took lines from two sides, does not have its own."""
        content = json.dumps([self.code, self.packages, self.modules], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()


def here() -> Library:
    """The library that runs: a checkout or what pip installed."""
    return Library(Path(__file__).resolve().parents[1])


def compute(library: Library, params: Mapping[str, Any], before: Optional[Toolchain] = None) -> Toolchain:
    """What toolchain.yaml should hold.

    Args:
        library: whose source counts.
        params: of params.yaml; members of other packages that it names get a key too.
        before: packages that are not installed here keep the version that this has.
    """
    code: dict[str, Any] = {name: _digest(library, f"{SCRIPTS}.{name}") for name in library.scripts}
    for kind, members in library.registries.items():
        keys = {name: _digest(library, module) for name, module in members.items()}
        if kind in BY_NAME_ONLY:
            probed = [keys[name] for name in sorted(keys) if name not in BY_NAME_ONLY[kind]]
            keys[AUTO] = hashlib.sha256(" ".join(probed).encode()).hexdigest()
        code[kind] = {**keys, **digest_of_outside(kind, _chosen(kind, params) - keys.keys())}
    return Toolchain(code, _versions(before.packages if before else {}, params), modules(library))


def modules(library: Library) -> dict[str, str]:
    """Path -> hash of every module that may count."""
    counted = [name for name in library.modules if not decides_nothing(name) or name == REGISTRY]
    files = {library.path(name): library.modules[name] for name in counted}
    files.update({f"{SCRIPTS}/{name}.py": path for name, path in library.scripts.items()})
    return {name: sha256(path)[:16] for name, path in files.items()}


def _digest(library: Library, root: str) -> str:
    """Over the source of everything that runs behind a module or a script."""
    files = {library.path(name): library.modules[name] for name in library.reach(root).modules}
    package, _, name = root.partition(".")
    if package == SCRIPTS:
        files[f"{SCRIPTS}/{name}.py"] = library.scripts[name]
    return digest(files)


def _chosen(kind: str, params: Mapping[str, Any]) -> set[str]:
    found = set()
    for setting in CHOICES.get(kind, {}).values():
        node: Any = params
        for part in setting.split("."):
            node = node.get(part) if isinstance(node, Mapping) else None
        if isinstance(node, str):
            found.add(node)
    return found


def _versions(before: Mapping[str, Any], params: Mapping[str, Any]) -> dict[str, Any]:
    def version(package: str, known: Any) -> Optional[str]:
        return packages.installed(package) or (known if isinstance(known, str) else None)

    found: dict[str, Any] = {
        name: version(name, before.get(name)) for names in packages.STAGE_PACKAGES.values() for name in names
    }
    for kind, members in packages.MEMBER_PACKAGES.items():
        known = before.get(kind) or {}
        outside = dict.fromkeys(_chosen(kind, params) - members.keys(), ())
        found[kind] = {
            member: {name: version(name, (known.get(member) or {}).get(name)) for name in names}
            for member, names in {**members, **outside}.items()
        }
    return found


def expected_keys(library: Library, stage: str) -> list[str]:
    """The keys of toolchain.yaml that a stage has to list in dvc.yaml: its code, the members that its configuration
    can reach, and its packages.
    """
    reached, waiting = set[str](), set(library.reach(f"{SCRIPTS}.{stage}").kinds)
    while waiting:
        kind = waiting.pop()
        reached.add(kind)
        for module in library.members(kind).values():
            waiting |= library.reach(module).kinds - reached
    found = [f"code.{stage}"]
    found += [
        f"code.{kind}.{member}"
        for kind in sorted(reached)
        for member in (*BY_NAME.get(kind, {}).get(stage, ()), _template(kind, stage))
    ]
    found += [f"packages.{name}" for name in packages.STAGE_PACKAGES.get(stage, ())]
    return found + [f"packages.{kind}.{_template(kind, stage)}" for kind in packages.STAGE_KINDS.get(stage, ())]


def _template(kind: str, stage: str) -> str:
    choices = CHOICES[kind]
    return "${" + (choices.get(stage) or choices[""]) + "}"


def locked_packages(root: Path, stage: str) -> dict[str, Optional[str]]:
    """Package -> version in toolchain.yaml, of the packages that dvc.yaml lists for a stage."""
    keys = [
        key
        for key in pipeline.keys_of(pipeline.stages(root)[stage], TOOLCHAIN_FILE.name)
        if key.startswith("packages.")
    ]
    found: dict[str, Optional[str]] = {}
    if keys:
        content, params = pipeline.load(root / TOOLCHAIN_FILE), pipeline.load(root / "params.yaml")
        for key in keys:
            node: Any = content
            *parts, last = pipeline.filled(key, params).split(".")
            for part in parts:
                node = node.get(part, {}) if isinstance(node, Mapping) else {}
            value = node.get(last)
            found.update(value if isinstance(value, Mapping) else {last: value})
    return found


def read(path: Path, sealed: bool = True) -> Toolchain:
    """What the file holds.

    Raises:
        ConfigError: it is missing, or not as it was written; with `sealed=False` it may have been edited since.
    """
    if not path.exists():
        raise ConfigError(f"{path.name} is missing; write it with `enginewright lock` and commit it")
    if re.search(r"^(<<<<<<< |>>>>>>> )", path.read_text(encoding="utf-8"), re.MULTILINE):
        raise ConfigError(
            f"{path.name} holds the marks of a merge; take either side, such as with `git checkout --ours {path.name}`,"
            f" and run `{remedy(path.parent)}`"
        )
    content = pipeline.load(path)
    try:
        lines = [line.rsplit(" ", 1) for line in content["modules"].splitlines()]
        found = Toolchain(dict(content["code"]), dict(content["packages"]), dict(lines))
        whole = not sealed or found.seal() == content["seal"]
    except (KeyError, TypeError, ValueError, AttributeError):
        whole = False
    if not whole:
        raise ConfigError(
            f"{path.name} is not as `enginewright lock` wrote it, such as after a merge; write it again with"
            f" `{remedy(path.parent)}`"
        )
    return found


def remedy(root: Path) -> str:
    """The command that brings toolchain.yaml up to date in this project."""
    return "make sync" if (root / PACKAGE).is_dir() and (root / "Makefile").is_file() else "enginewright lock"


def changed_keys(before: Mapping[str, Any], after: Mapping[str, Any], prefix: str) -> list[str]:
    """Dotted keys, below `prefix`, whose values differ or which one side alone has."""
    found = []
    for name in sorted({*before, *after}):
        old, new = before.get(name), after.get(name)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            found += changed_keys(old, new, f"{prefix}.{name}")
        elif old != new:
            found.append(f"{prefix}.{name}")
    return found


def changed_modules(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    """Paths of modules that were edited, added or removed."""
    return sorted(name for name in {*before, *after} if before.get(name) != after.get(name))


def check(root: Path, library: Optional[Library] = None) -> None:
    """Compare toolchain.yaml with the library that runs.

    Hashing every module is fast; the import graph is read only where one of them changed.

    Raises:
        ConfigError: naming the modules that changed, the remedy, and the stages that it makes stale.
    """
    library = library or here()
    found = read(root / TOOLCHAIN_FILE)
    params = pipeline.load(root / "params.yaml")
    if modules(library) == found.modules and _outside_is_the_same(found, params):
        return
    now = compute(library, params, found)
    keys = changed_keys(found.code, now.code, "code")
    if not keys:
        return
    names = changed_modules(found.modules, now.modules) or [key.partition(".")[2] for key in keys]
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    stale = pipeline.listing(keys, TOOLCHAIN_FILE.name, root)
    raise ConfigError(f"{', '.join(names[:3])}{more} changed: run `{remedy(root)}`, {which_makes_stale(stale)}")


def _outside_is_the_same(found: Toolchain, params: Mapping[str, Any]) -> bool:
    """Whether the members that params.yaml names have a key, and those of other packages their source."""
    for kind, members in found.code.items():
        if isinstance(members, Mapping):
            outside = {name for name in _chosen(kind, params) if OUTSIDE in members.get(name, OUTSIDE)}
            if digest_of_outside(kind, outside) != {name: members.get(name) for name in outside}:
                return False
    return True


def which_makes_stale(stages: list[str]) -> str:
    """Half a sentence: "which makes calibrate and 5 more stages stale"."""
    if not stages:
        return "which makes no stage stale"
    more = len(stages) - 1
    return f"which makes {stages[0]}{f' and {more} more stage' + 's' * (more > 1) if more else ''} stale"
