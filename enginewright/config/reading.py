"""params.yaml, or a composition of conf/, as checked and typed parameters."""

from __future__ import annotations

import re
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Optional, get_args, get_origin, get_type_hints

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from enginewright.config import document, plain
from enginewright.config.checks import contradictions
from enginewright.config.params import PARAMS_FILE, Params
from enginewright.config.setting import faults_of_values
from enginewright.errors import ConfigError, nearest


def read(path: Path = PARAMS_FILE) -> Params:
    """Read and check params.yaml.

    Raises:
        ConfigError: the file is missing or is not YAML, holds an interpolation, a key is unknown, a value has the wrong
            type or is out of range.
    """
    try:
        plain.require_plain(path.read_text(encoding="utf-8"), path)
        loaded = OmegaConf.load(path)
    except FileNotFoundError:
        raise ConfigError(
            f"{path} does not exist in {path.absolute().parent}; run from the project's root, or write it with"
            " `enginewright configure`"
        ) from None
    except YAMLError as fault:
        raise ConfigError(
            f"{path} is not valid YAML: {' '.join(str(fault).split())}; write it again with `enginewright configure`"
        ) from None
    if not isinstance(loaded, DictConfig):
        raise ConfigError(f"{path} is not a mapping; write it again with `enginewright configure`")
    return check(loaded, where=str(path))


def check(composed: DictConfig, where: str) -> Params:
    """Turn a composed configuration into typed parameters.

    Raises:
        ConfigError: with the full key, the user's own value, what it should be, and the nearest valid choice.
    """
    _refuse_unknown_keys(composed, Params, "", where)
    try:
        merged = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(Params), composed))
    except OmegaConfBaseException as fault:
        raise ConfigError(f"{where}: {fault.full_key or 'the configuration'}: {_reason(fault)}") from None
    assert isinstance(merged, Params)  # OmegaConf.to_object of a structured Params
    faults = [*faults_of_values(merged, composed), *contradictions(merged)]
    if faults:
        raise ConfigError(f"{where}: " + "; ".join(f"{key}: {fault}" for key, fault in faults))
    return merged


def _reason(fault: OmegaConfBaseException) -> str:
    """OmegaConf's sentence, with the nearest choice where it is about a choice."""
    reason = str(fault.msg or fault).strip().splitlines()[0]
    choices = re.search(r"expected one of \[(.*)\]", reason)
    value = re.match(r"Invalid value '(.*?)'", reason)
    if choices and value:
        return f"'{value.group(1)}' is not a choice{nearest(value.group(1), choices.group(1).split(', '))}"
    if reason.startswith("Incompatible value 'None'"):
        what = "; for the null runtime use debug=null_runtime" if fault.full_key == "runtime" else ""
        return f"null is not a value of it{what}"
    return reason


def _refuse_unknown_keys(node: DictConfig, schema: type, prefix: str, where: str) -> None:
    """OmegaConf names the unknown key; only we know the nearest valid one (omegaconf 2.3 does not say)."""
    known = {f.name: f for f in fields(schema)}
    defaults = schema()
    for key in node:
        name = str(key)
        if name not in known:
            raise ConfigError(f"{where}: {prefix}{name} is not a setting{nearest(name, known)}")
        default, value = getattr(defaults, name), node._get_node(key)
        shown = "null" if value is None or value._is_none() else value
        if is_dataclass(default) and not isinstance(value, DictConfig):
            raise ConfigError(
                f"{where}: {prefix}{name} is {shown} and must be a section with"
                f" {', '.join(f.name for f in fields(default))}"
            )
        if isinstance(default, list) and not isinstance(value, ListConfig):
            raise ConfigError(
                f"{where}: {prefix}{name} is {shown} and must be a list, such as {document.in_yaml(default)}"
            )
        if is_dataclass(default) and isinstance(value, DictConfig):
            _refuse_unknown_keys(value, type(default), f"{prefix}{name}.", where)
        if section := _section_of_each(schema, name):
            _refuse_unknown_sections(value, section, f"{prefix}{name}", where)


def _section_of_each(schema: type, name: str) -> Optional[type]:
    """The class of each value, where a field maps names to sections."""
    hint = get_type_hints(schema)[name]
    found = get_args(hint)[1] if get_origin(hint) is dict else None
    return found if isinstance(found, type) and is_dataclass(found) else None


def _refuse_unknown_sections(node: object, section: type, key: str, where: str) -> None:
    """Refuse what is no section, a key that it has not, and one without a default that is left out."""
    known = [one.name for one in fields(section)]
    asked = f"a section with {', '.join(known)}"
    if not isinstance(node, DictConfig):
        shown = "null" if node is None else str(node)
        raise ConfigError(f"{where}: {key} is {shown} and must map names to {asked} each")
    for name in map(str, node):
        value = node._get_node(name)
        if not isinstance(value, DictConfig) or value._is_none():
            none = value is None or value._is_none()
            raise ConfigError(f"{where}: {key}.{name} is {'null' if none else value} and must be {asked}")
        for one in map(str, value):
            if one not in known:
                raise ConfigError(f"{where}: {key}.{name}.{one} is not a setting{nearest(one, known)}")
        for its in fields(section):
            if its.default is MISSING and its.default_factory is MISSING and its.name not in value:
                raise ConfigError(f"{where}: {key}.{name} has no {its.name}, and must be {asked}")
