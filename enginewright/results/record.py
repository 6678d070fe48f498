"""What every record can do: go to JSON, come back strictly, and be read from the file of a stage."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from enum import Enum, EnumMeta
from pathlib import Path
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from enginewright.errors import StaleArtifact, nearest

Self = TypeVar("Self", bound="Record")
NOT_FINITE = ("nan", "inf", "-inf")


class RecordFault(ValueError):
    """Content that is not what a record's `to_json` makes; says what differs, and where in it."""


@dataclasses.dataclass(frozen=True)
class Record:
    """A base of frozen dataclasses: `from_json(to_json())` is the record itself.

    Fields are plain values, enums, records, tuples, and mappings whose keys are text or an enum; Optional where they
    may be None. Every field is a key of the JSON, and there are no others.
    """

    def to_json(self) -> dict[str, Any]:
        """Plain values, enums by value."""
        return {field.name: _plain(getattr(self, field.name)) for field in dataclasses.fields(self)}

    @classmethod
    def from_json(cls: type[Self], content: object) -> Self:
        """The record of what `to_json` made.

        Raises:
            RecordFault: a key is missing or unknown, or a value is of another type.
        """
        found = _typed(content, cls, "")
        assert isinstance(found, cls)
        return found

    @classmethod
    def read(cls: type[Self], path: Path, stage: str) -> Self:
        """Read the file that `stage` wrote. Raises StaleArtifact if it holds no such record."""
        try:
            return cls.from_json(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError) as fault:
            raise StaleArtifact(
                f"{path} is not what {stage} of this version writes ({fault}); run `dvc repro {stage}`"
            ) from None


def _plain(value: Any) -> Any:
    if isinstance(value, Record):
        return value.to_json()
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return {_plain(key): _plain(item) for key, item in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)  # JSON has neither NaN nor infinity
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def _typed(value: object, wanted: Any, where: str) -> Any:
    """`value` as the type `wanted`; `where` are the keys that lead to it."""
    origin, arguments = get_origin(wanted), get_args(wanted)
    if wanted is Any:
        return value
    if origin is Union:  # Optional
        kind = next(kind for kind in arguments if kind is not type(None))
        return None if value is None else _typed(value, kind, where)
    if origin is not None:
        return _collected(value, origin, arguments, where)
    if issubclass(wanted, Enum):
        return _chosen(value, wanted, where)
    return _record(value, wanted, where) if issubclass(wanted, Record) else _of_type(value, wanted, where)


def _collected(value: object, origin: type, arguments: tuple[Any, ...], where: str) -> Any:
    """A tuple of one type, or a mapping; one whose keys are an enum gets their order, as files are sorted by name."""
    if origin is tuple:
        items = _of_type(value, list, where)
        return tuple(_typed(item, arguments[0], f"{where}[{index}]") for index, item in enumerate(items))
    content = _of_type(value, dict, where)
    found = {
        _typed(key, arguments[0], where): _typed(item, arguments[1], f"{where}.{key}" if where else key)
        for key, item in content.items()
    }
    ordered = list(arguments[0]) if isinstance(arguments[0], EnumMeta) else list(found)
    return {key: found[key] for key in ordered if key in found}


def _record(value: object, wanted: type[Record], where: str) -> Record:
    content = _of_type(value, dict, where)
    kinds = get_type_hints(wanted)
    names = [field.name for field in dataclasses.fields(wanted)]
    inside = f" of '{where}'" if where else ""
    for key in content:
        if key not in names:
            raise RecordFault(f"the key '{key}'{inside} is unknown{nearest(key, names)}")
    for name in names:
        if name not in content:
            raise RecordFault(f"the key '{name}'{inside} is missing")
    return wanted(**{name: _typed(content[name], kinds[name], f"{where}.{name}" if where else name) for name in names})


def _chosen(value: object, wanted: type[Enum], where: str) -> Enum:
    choices = {member.value: member for member in wanted}
    if not isinstance(value, str) or value not in choices:
        raise RecordFault(f"{where or 'it'} holds {value!r}{nearest(str(value), map(str, choices))}")
    return choices[value]


def _of_type(value: object, wanted: type, where: str) -> Any:
    """Whole numbers are numbers too, and stay whole; True is none."""
    if wanted is float and value in NOT_FINITE:
        return float(str(value))
    accepted = (int, float) if wanted is float else wanted
    if not isinstance(value, accepted) or (isinstance(value, bool) and wanted is not bool):
        kinds = {dict: "an object", list: "a list", str: "text", bool: "true or false", int: "a whole number"}
        raise RecordFault(f"{where or 'it'} is {value!r:.40}, and must be {kinds.get(wanted, 'a number')}")
    return value
