"""The part of JSON Schema (draft 2020-12) that our schemas use; a keyword outside of it is refused, not passed over."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

TYPES: Mapping[str, Callable[[Any], bool]] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "number": lambda value: isinstance(value, (int, float)) and not isinstance(value, bool),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
}
ANNOTATIONS = {"$schema", "$defs", "title", "description"}
KEYWORDS = {"$ref", "type", "const", "pattern", "oneOf", "required", "properties", "additionalProperties", "items"}
KEYWORDS |= {"propertyNames"}


def faults(value: Any, schema: Any, root: Mapping[str, Any], where: str = "") -> Iterator[str]:
    """What in `value` the schema does not allow, a line each."""
    if schema is False:
        yield f"{where}: not allowed"
        return
    unknown = set(schema) - KEYWORDS - ANNOTATIONS
    assert not unknown, f"this checker does not know {unknown}"
    if "$ref" in schema:
        yield from faults(value, root["$defs"][schema["$ref"].rpartition("/")[2]], root, where)
    kinds = schema.get("type", list(TYPES))
    if not any(TYPES[kind](value) for kind in ([kinds] if isinstance(kinds, str) else kinds)):
        yield f"{where}: {value!r} is not {kinds}"
        return
    if "const" in schema and value != schema["const"]:
        yield f"{where}: {value!r} is not {schema['const']!r}"
    if "pattern" in schema and not re.search(schema["pattern"], value):
        yield f"{where}: {value!r} does not match {schema['pattern']}"
    if "oneOf" in schema and sum(not list(faults(value, one, root)) for one in schema["oneOf"]) != 1:
        yield f"{where}: {value!r} is not one of {len(schema['oneOf'])} forms"
    if isinstance(value, dict):
        yield from _faults_of_object(value, schema, root, where)
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield from faults(item, schema.get("items", {}), root, f"{where}[{index}]")


def _faults_of_object(value: Any, schema: Any, root: Mapping[str, Any], where: str) -> Iterator[str]:
    yield from (f"{where}: lacks {name}" for name in schema.get("required", []) if name not in value)
    for name, item in value.items():
        yield from faults(name, schema.get("propertyNames", {}), root, f"{where}.{name} (its name)")
        below = schema.get("properties", {}).get(name, schema.get("additionalProperties", {}))
        yield from faults(item, below, root, f"{where}.{name}")
