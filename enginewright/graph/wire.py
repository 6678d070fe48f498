"""The fields of a serialized protobuf message, walked without parsing them (protobuf.dev, "Encoding")."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from typing import NamedTuple, Union

from google.protobuf.message import DecodeError

VARINT, FIXED64, MESSAGE, FIXED32 = 0, 1, 2, 5  # wire types


class Field(NamedTuple):
    """A field of a serialized message: where its tag and its content begin, and where it ends."""

    number: int
    start: int
    content: int
    end: int


def fields(content: Union[mmap.mmap, bytes], start: int, end: int) -> Iterator[Field]:
    """The fields of a message between two places. Raises DecodeError where they do not fit."""
    place = start
    while place < end:
        tag, after = _varint(content, place, end)
        number, wire = tag >> 3, tag & 7
        if wire == MESSAGE:
            length, after = _varint(content, after, end)
            stop = after + length
        elif wire == VARINT:
            _, stop = _varint(content, after, end)
        elif wire in (FIXED64, FIXED32):
            stop = after + (8 if wire == FIXED64 else 4)
        else:
            raise DecodeError(f"the wire type {wire} at byte {place}")
        if stop > end or not number:
            raise DecodeError(f"a field at byte {place} ends at {stop} of {end}")
        yield Field(number, place, after, stop)
        place = stop


def _varint(content: Union[mmap.mmap, bytes], place: int, end: int) -> tuple[int, int]:
    """A number in seven bits a byte, and the place behind it."""
    value = shift = 0
    while place < end and shift < 70:
        byte = content[place]
        value |= (byte & 0x7F) << shift
        place, shift = place + 1, shift + 7
        if byte < 0x80:
            return value, place
    raise DecodeError(f"a number at byte {place} does not end")


def head(number: int, length: int) -> bytes:
    """Tag and length of a field that holds a message or bytes."""
    return _as_varint(number << 3 | MESSAGE) + _as_varint(length)


def _as_varint(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)


def around(serialized: bytes, number: int) -> tuple[bytes, bytes]:
    """A serialized message cut where a field of this number belongs."""
    cut = next((each.start for each in fields(serialized, 0, len(serialized)) if each.number > number), len(serialized))
    return serialized[:cut], serialized[cut:]
