"""A setting: a dataclass field that carries its range, its choices and one line of help."""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import Field, dataclass, field, fields, is_dataclass
from typing import Any, Optional, Protocol, Union

from enginewright.errors import nearest

KEY = "setting"  # of the field's metadata
REQUIRED: Any = object()  # the default of a field that has none
Number = Union[int, float]


class Names(Protocol):
    """Texts to choose from, such as a `registry.Registry`, which looks at installed packages only if it has to."""

    def __contains__(self, name: object) -> bool:
        """Whether a setting may hold this name."""

    def names(self) -> Sequence[str]:
        """Return every name, for an error or a document."""


Choices = Union[Sequence[str], Names, Callable[[], Union[Sequence[str], Names]]]


@dataclass(frozen=True)
class Setting:
    """What a field of the schema may hold. Bounds on a list are bounds on each of its items."""

    help: str
    minimum: Optional[Number] = None
    maximum: Optional[Number] = None
    above: Optional[Number] = None
    below: Optional[Number] = None
    choices: Optional[Choices] = None
    like: Optional[str] = None  # a text that `pattern` matches
    pattern: Optional[str] = None
    composed: Optional[str] = None  # what conf/ holds instead of the default

    def fault(self, value: object, shown: Optional[object] = None) -> Optional[str]:
        """Say what is wrong with a value, or return None.

        Args:
            value: typed as the field is.
            shown: the same as the user wrote it, such as 99 for 99.0.
        """
        shown = value if shown is None else shown
        if isinstance(value, bool) or value is None:
            return None
        if isinstance(value, (int, float)):
            return self._fault_of_number(value, shown)
        return self._fault_of_text(value) if isinstance(value, str) else None

    def _fault_of_number(self, value: Number, shown: object) -> Optional[str]:
        if not math.isfinite(value):
            return f"{shown} is not a finite number (allowed: {self.range() or 'any finite number'})"
        if self.minimum is not None and value < self.minimum:
            return f"{shown} is below {self.minimum} (allowed: {self.range()})"
        if self.maximum is not None and value > self.maximum:
            return f"{shown} is above {self.maximum} (allowed: {self.range()})"
        if self.above is not None and value <= self.above:
            return f"{shown} is not above {self.above} (allowed: {self.range()})"
        if self.below is not None and value >= self.below:
            return f"{shown} is not below {self.below} (allowed: {self.range()})"
        return None

    def _fault_of_text(self, value: str) -> Optional[str]:
        if self.pattern is not None and re.fullmatch(self.pattern, value) is None:
            return f"'{value}' is not like {self.like}"
        choices = self.choices() if callable(self.choices) else self.choices
        if choices is None or value in choices:
            return None
        return f"'{value}' is not a choice{nearest(value, names_of(choices))}"

    def range(self) -> str:
        """Return the allowed range in words, such as "13 to 20" or "above 0 and below 1"; empty if there is none."""
        if self.minimum is not None and self.maximum is not None:
            return f"{self.minimum} to {self.maximum}"
        words = {"at least": self.minimum, "above": self.above, "at most": self.maximum, "below": self.below}
        return " and ".join(f"{word} {bound}" for word, bound in words.items() if bound is not None)


def setting(
    default: Any,
    *,
    help: str,
    minimum: Optional[Number] = None,
    maximum: Optional[Number] = None,
    above: Optional[Number] = None,
    below: Optional[Number] = None,
    choices: Optional[Choices] = None,
    like: Optional[tuple[str, str]] = None,
    composed: Optional[str] = None,
) -> Any:
    """Declare a field of the schema with its range and its help.

    Args:
        default: a value; of a list or a mapping, each instance of the dataclass gets a copy. REQUIRED: there is none.
        help: one line: what it is, with its unit.
        minimum: least value, of each item if the field is a list.
        maximum: largest value.
        above: the value must be larger than this.
        below: the value must be smaller than this.
        choices: texts to choose from, or what returns them, asked for when a value is checked.
        like: an example of the text, and the regular expression that the whole text must match.
        composed: what conf/base.yaml holds instead of the default, such as an interpolation.
    """
    example, pattern = like or (None, None)
    carried = {KEY: Setting(help, minimum, maximum, above, below, choices, example, pattern, composed)}
    if default is REQUIRED:
        return field(metadata=carried)
    if isinstance(default, (list, dict)):
        return field(default_factory=lambda: copy.deepcopy(default), metadata=carried)
    return field(default=default, metadata=carried)


def setting_of(declared: Field[Any]) -> Optional[Setting]:
    """Return what `setting` declared for a field; None for a section."""
    found: Optional[Setting] = declared.metadata.get(KEY)
    return found


def names_of(choices: Union[Sequence[str], Names]) -> Sequence[str]:
    """Return all that a setting may name."""
    return choices if isinstance(choices, Sequence) else choices.names()


def faults_of_values(node: object, written: object = None, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield every value out of its own range as (dotted key, what is wrong), in the order of the schema.

    Args:
        node: a dataclass of settings and sections.
        written: the configuration that it was made from, whose values are quoted; None quotes the typed ones.
        prefix: of the keys.
    """
    assert is_dataclass(node)
    for declared in fields(node):
        key, value = f"{prefix}{declared.name}", getattr(node, declared.name)
        own = written.get(declared.name) if isinstance(written, Mapping) else None
        described = setting_of(declared)
        if described is None:
            yield from faults_of_values(value, own, f"{key}.")
            continue
        if isinstance(value, dict) and any(map(is_dataclass, value.values())):
            for name, one in value.items():
                yield from faults_of_values(one, own.get(name) if isinstance(own, Mapping) else None, f"{key}.{name}.")
            continue
        listed = isinstance(value, list)
        items = value if listed else [value]
        quoted = [own] if not listed else own if isinstance(own, Sequence) else [None] * len(items)
        for item, shown in zip(items, quoted):
            if fault := described.fault(item, shown):
                yield key, fault
                break  # one sentence for each key
