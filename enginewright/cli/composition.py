"""conf/ to params.yaml: the same composition and the same bytes as `dvc exp run`, with faults told in one sentence.

DVC composes in `dvc.utils.hydra.compose_and_dump`: compose, `OmegaConf.resolve`, `OmegaConf.to_yaml`.
tests/cli/test_composition.py holds the two equal. DVC itself is not imported: it takes longer to load than the
composition takes to run.
"""

from __future__ import annotations

import contextlib
import importlib.util
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from enginewright import config
from enginewright.config import Params, plain
from enginewright.errors import ConfigError, nearest
from enginewright.selection import VERSION

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override

CONF = Path("conf")
CONFIG_NAME = "config"
OURS = "ConfigError raised while resolving interpolation: "  # how OmegaConf begins the sentence of a resolver of ours


def compose(overrides: Sequence[str] = (), conf: Path = CONF) -> DictConfig:
    """Compose conf/config.yaml with Hydra overrides, resolve interpolations, and check the whole against the schema.

    Args:
        overrides: Hydra's override grammar, such as `model=resnet_reference`, `data.calibration_images=100`,
            `+model.arguments.width=16`.
        conf: the folder with the config groups.

    Raises:
        ConfigError: an override or a file of conf/ is wrong; with the full key and the nearest valid choice.
    """
    require_project(conf)
    for override in overrides:
        if re.match(r"[+~]*hydra\b", override):
            raise ConfigError(
                f"the override {override} sets Hydra itself, of which params.yaml holds nothing; override settings of"
                f" {conf}/ only"
            )
    folders(conf)  # Hydra only warns of a package that is not installed
    _refuse_misplaced_selection(conf)
    composed = _compose(list(overrides), conf)
    where = " ".join(["conf/", *overrides]) if overrides else "conf/"
    _refuse_missing_keys(composed, OmegaConf.structured(Params), "", where)
    plain.require_plain(
        to_text(composed), config.PARAMS_FILE, f" ({where})"
    )  # an escaped interpolation is one where params.yaml is read
    config.check(composed, where)
    return composed


def require_project(conf: Path = CONF) -> None:
    """Check that this is a project's root. Raises ConfigError."""
    if not (conf / f"{CONFIG_NAME}.yaml").is_file():
        raise ConfigError(f"{conf / CONFIG_NAME}.yaml does not exist in {Path.cwd()}; run from the project's root")


def _refuse_misplaced_selection(conf: Path) -> None:
    """conf/selected.yaml must be there and be composed last, or earlier choices would be lost without a word."""
    if not (conf / "selected.yaml").is_file():
        raise ConfigError(f"{conf / 'selected.yaml'} does not exist; write it with `enginewright configure`")
    if (_primary(conf).get("defaults") or [None])[-1] != "selected":
        raise ConfigError(
            f"{conf / CONFIG_NAME}.yaml must end its defaults with `- selected`, so that what was chosen with"
            " `enginewright configure` wins"
        )


def _compose(overrides: list[str], conf: Path) -> DictConfig:
    from hydra import compose, initialize_config_dir
    from hydra.errors import HydraException

    try:
        parse(overrides)
        with _machine_unread(), initialize_config_dir(str(conf.resolve()), version_base=None):  # None as DVC has it
            composed = compose(CONFIG_NAME, overrides=overrides)
            OmegaConf.resolve(composed)
    except OmegaConfBaseException as fault:
        reason = str(fault.msg or fault).strip().splitlines()[0]
        if reason.startswith(OURS):
            raise ConfigError(reason[len(OURS) :]) from None
        raise ConfigError(f"{conf}/: {fault.full_key or 'the configuration'}: {reason}") from None
    except (HydraException, ValueError) as fault:  # ValueError: `model=3`, `model=null`
        raise ConfigError(_explain(str(fault), overrides, conf)) from None
    return composed


@contextlib.contextmanager
def _machine_unread() -> Iterator[None]:
    """No interpolation reads the environment: params.yaml is committed, and would hold a secret in clear, or a path of
    this machine.
    """
    from omegaconf.resolvers import oc

    def refuse(key: str, *_: object) -> str:
        raise ConfigError(
            f"${{oc.env:{key}}} would write the environment variable {key} into {config.PARAMS_FILE}, which is"
            " committed; write the value itself, or leave a secret out of the configuration"
        )

    OmegaConf.register_new_resolver("oc.env", refuse, replace=True)
    try:
        yield
    finally:
        OmegaConf.register_new_resolver("oc.env", oc.env, replace=True)


def _explain(reason: str, overrides: list[str], conf: Path) -> str:
    """Hydra's own message, of several lines and with its search path, as one sentence with the nearest valid choice."""
    choices = groups(conf)
    for override in overrides:
        key, _, value = override.lstrip("+~").partition("=")
        group = str(key.partition("@")[0])
        if not key:
            return f"the override {override} names no key; write key=value"
        if "," in value and "Ambiguous value" in reason and override in reason:
            return (
                f"the override {override} is a sweep; queue it with `dvc exp run --queue -S '{override}'`, or give one"
                " value"
            )
        if group in choices and f"Could not find '{group}/{value}'" in reason:
            return f"{conf}/{group}/ has no option '{value}'{nearest(value, choices[group])}"
        if group in choices and value not in choices[group]:
            return f"the override {override} does not name an option of {conf}/{group}/{nearest(value, choices[group])}"
        if f"Could not override '{key}'" in reason:
            return f"the override {override}: {key} is not a setting{_nearest_key(key, choices)}"
    said = " ".join(line.strip() for line in reason.splitlines() if "://" not in line)
    return _of_a_file(reason, choices, conf) or f"{' '.join(overrides) or conf}: {said}"


def _of_a_file(reason: str, choices: Mapping[str, list[str]], conf: Path) -> Optional[str]:
    """A wrong name in a defaults list, such as that of an edited conf/selected.yaml."""
    if option := re.search(r"Could not find '([^']+)/([^'/]+)'", reason):
        group, name = option.groups()
        if group in choices:
            return f"a defaults list of {conf}/ names {group}: {name}, which has no file{nearest(name, choices[group])}"
    if key := re.search(r"In '([^']+)': Could not override '([^']+)'", reason):
        file, name = key.groups()
        return f"{conf}/{file}.yaml overrides {name}, which is no folder of {conf}/{nearest(name, choices)}"
    return None


def parse(overrides: Sequence[str]) -> list[Override]:
    """Parse overrides as Hydra does.

    Raises:
        ConfigError: one is not in Hydra's grammar.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import OverrideParseException

    try:
        return OverridesParser.create().parse_overrides(list(overrides))
    except OverrideParseException as fault:
        reason = [line for line in str(fault).splitlines() if "http" not in line][-1]
        raise ConfigError(
            f"the override {fault.override} is not in Hydra's grammar, which is key=value ({reason}); quote it for the"
            " shell"
        ) from None


def _nearest_key(key: str, choices: Iterable[str]) -> str:
    """Walk down the schema as far as the key is right, and offer the nearest name for the first part that is not."""
    schema: Any = OmegaConf.structured(Params)
    right: list[str] = []
    for part in key.split("."):
        names = list(schema) if isinstance(schema, DictConfig) else []
        if part not in names:
            if right == ["model", "arguments"]:
                return f"; an argument that the factory takes is added with +{key}=..."
            return (
                nearest(part, {*names, *(choices if not right else ())})
                if names
                else f"; {'.'.join(right)} has no settings below it"
            )
        right.append(part)
        schema = schema._get_node(part)
    return f"; it is set in no file, add it with +{key}=..."


def groups(conf: Path = CONF) -> dict[str, list[str]]:
    """Return the config groups and the options of each, by file name, those of the library's own conf/ among them.

    base.yaml holds the defaults of its group and is not an option.
    """
    files = [file for folder in folders(conf) for file in folder.glob("*/*.yaml")]
    options: dict[str, set[str]] = {file.parent.name: set() for file in sorted(files)}
    for file in files:
        options[file.parent.name] |= {file.stem} - {"base"}
    return {group: sorted(names) for group, names in sorted(options.items())}


def option_file(group: str, option: str, conf: Path = CONF) -> Optional[Path]:
    """Return the file of an option: the project's own before the library's."""
    files = (folder / group / f"{option}.yaml" for folder in folders(conf))
    return next((file for file in files if file.is_file()), None)


def folders(conf: Path = CONF) -> list[Path]:
    """Return where Hydra looks for configs: conf/, then `hydra.searchpath` of its config.yaml, as `pkg://a.package`.

    Raises:
        ConfigError: such a package is not installed.
    """
    found = [conf]
    for entry in _primary(conf).get("hydra", {}).get("searchpath", []):
        kind, _, path = str(entry).rpartition("://")
        if kind != "pkg":
            found.append(Path(path))
            continue
        try:
            spec = importlib.util.find_spec(path)
        except ModuleNotFoundError:
            spec = None
        if spec is None or not spec.submodule_search_locations:
            raise ConfigError(f"{conf / CONFIG_NAME}.yaml looks into the package {path}, which is not installed here")
        found += map(Path, spec.submodule_search_locations)
    return found


def _primary(conf: Path) -> dict[str, Any]:
    path = conf / f"{CONFIG_NAME}.yaml"
    try:
        content: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except yaml.YAMLError as fault:
        raise ConfigError(f"{path} is not valid YAML: {' '.join(str(fault).split())}") from None
    return content


def _refuse_missing_keys(composed: DictConfig, schema: DictConfig, prefix: str, where: str) -> None:
    """DVC tracks keys that are in the file: one left to its default in the schema could change without a stage
    noticing.
    """
    for key in schema:
        if key not in composed:
            if key == VERSION:
                raise ConfigError(f"conf/selected.yaml says no {VERSION}; write it with `enginewright upgrade`")
            raise ConfigError(
                f"{where}: {prefix}{key!s} is missing; every setting must be in the composition, as DVC sees only what"
                " params.yaml holds"
            )
        below, value = schema._get_node(key), composed._get_node(key)
        if isinstance(below, DictConfig) and isinstance(value, DictConfig) and not below._is_none():
            _refuse_missing_keys(value, below, f"{prefix}{key!s}.", where)


def to_text(composed: DictConfig) -> str:
    """The content of params.yaml: what DVC writes, byte for byte."""
    return OmegaConf.to_yaml(composed)


class Absent(Enum):
    """Instead of the value of a setting that is not there."""

    absent = "absent"


@dataclass(frozen=True)
class Change:
    """A setting that differs between two configurations."""

    key: str
    before: Any
    after: Any


def changes(before: Mapping[str, Any], after: Mapping[str, Any], prefix: str = "") -> Iterator[Change]:
    """Yield the settings (dotted keys, lists as a whole) that differ, in the order of `after`, those that went last."""
    for key in [*after, *(key for key in before if key not in after)]:
        old, new, path = before.get(key, Absent.absent), after.get(key, Absent.absent), f"{prefix}{key}"
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            yield from changes(old, new, f"{path}.")
        elif old != new:
            yield Change(path, old, new)


@dataclass(frozen=True)
class StaleStage:
    """A stage that `dvc repro` will run again, or may: what is behind a stage runs only if that one's output
    changes.
    """

    name: str
    changed: tuple[str, ...]  # settings that it declares itself
    behind: tuple[str, ...]  # stages whose outputs it takes, stale themselves


def stale_stages(changed: Sequence[str], pipeline: Path, params: Mapping[str, Any]) -> list[StaleStage]:
    """What the changed settings make stale, read off dvc.yaml in the order of its stages."""
    stages: dict[str, dict[str, Any]] = yaml.safe_load(pipeline.read_text())["stages"]
    uses = {name: _used_keys(stage) for name, stage in stages.items()}
    deps = {name: [_resolved(dep, params) for dep in stage.get("deps", [])] for name, stage in stages.items()}
    outs = {
        name: [next(iter(out)) if isinstance(out, dict) else out for out in stage.get("outs", [])]
        for name, stage in stages.items()
    }
    found: dict[str, StaleStage] = {}
    grown = True
    while grown:  # dvc.yaml need not list stages in the order in which they run
        grown = False
        for name in stages:
            own = tuple(key for key in changed if any(overlap(key, used, ".") for used in uses[name]))
            behind = tuple(
                up
                for up in stages
                if up in found and any(overlap(dep, out, "/") for dep in deps[name] for out in outs[up])
            )
            if (own or behind) and found.get(name) != StaleStage(name, own, behind):
                found[name], grown = StaleStage(name, own, behind), True
    return [found[name] for name in stages if name in found]


def _used_keys(stage: Mapping[str, Any]) -> list[str]:
    """Those among its params, and those that its deps and its keys of other files are spelt with."""
    others = [
        key for entry in stage.get("params", []) if isinstance(entry, dict) for keys in entry.values() for key in keys
    ]
    deps = [dep for dep in stage.get("deps", []) if isinstance(dep, str)]
    templated = re.findall(r"\$\{([\w.]+)\}", " ".join([*deps, *others]))
    return [*(key for key in stage.get("params", []) if isinstance(key, str)), *templated]


def _resolved(dep: str, params: Mapping[str, Any]) -> str:
    def value(match: re.Match[str]) -> str:
        node: Any = params
        for part in match.group(1).split("."):
            node = node[part]
        return str(node)

    return re.sub(r"\$\{([\w.]+)\}", value, dep)


def overlap(one: str, other: str, separator: str) -> bool:
    """Whether two dotted keys, or two paths, are the same or one lies inside the other."""
    return one == other or one.startswith(other + separator) or other.startswith(one + separator)


def load(path: Path) -> Optional[dict[str, Any]]:
    """What params.yaml holds as plain values, or None if it is missing or cannot be read as a mapping."""
    try:
        content = yaml.safe_load(path.read_text())
    except (FileNotFoundError, yaml.YAMLError):
        return None
    return content if isinstance(content, dict) else None
