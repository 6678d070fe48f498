"""Which class is which output of the model: the file `data.classes`, or the order of names."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from enginewright.config import Data
from enginewright.errors import DataError, nearest

BY_FILE, BY_NAME, BY_NUMBER = "data.classes", "names in the order of their letters", "numbers of the targets"
BY_ID, BY_YAML = "ids of the categories", "names of data.yaml"


def read_classes(data: Data, project: Path) -> tuple[str, ...]:
    """Return the model's classes in the order of its outputs; empty where data.classes is not set.

    Raises:
        DataError: the file is missing or empty, is not UTF-8, has an empty line, or names a class twice.
    """
    if data.classes_file is None:
        return ()
    path = project / data.classes_file
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as fault:
        raise DataError(
            f"data.classes {path} cannot be read ({fault.strerror}); give a file with the name of a class in each line,"
            " in the order of the model's outputs"
        ) from None
    except UnicodeDecodeError:
        raise DataError(f"data.classes {path} is not UTF-8; save it as UTF-8") from None
    names = tuple(line.strip() for line in lines)
    if not names:
        raise DataError(f"data.classes {path} is empty; write the name of a class into each line")
    first: dict[str, int] = {}
    for number, name in enumerate(names, 1):
        if not name:
            raise DataError(
                f"line {number} of data.classes {path} is empty, and every line is an output of the model; name its"
                " class, or remove the line"
            )
        if name in first:
            raise DataError(
                f"data.classes {path} names '{name}' in line {first[name]} and in line {number}; each class is one"
                " output of the model: tell them apart"
            )
        first[name] = number
    return names


@dataclass(frozen=True)
class ClassOrder:
    """Names of classes in the order of the model's outputs, and where that order is from."""

    names: tuple[str, ...] = ()
    how: str = ""  # one of the constants above; empty where there are no classes

    @property
    def notes(self) -> list[str]:
        """A sentence on the order that is taken for the model's, where nothing states it."""
        if self.how != BY_NAME:
            return []
        shown = ", ".join(self.names[:3]) + (", ..." if len(self.names) > 3 else "")
        return [
            f"the model's {len(self.names)} outputs are taken to be in the order of the classes' names ({shown}); if"
            " they are not, name the classes in the order of the outputs in a file, and set data.classes to it"
        ]


def in_order(names: Sequence[str], data: Data, known: Sequence[str], of: str) -> ClassOrder:
    """Put the classes of a source into the order of the model's outputs.

    Args:
        names: that samples have, each once.
        data: for the name of the file.
        known: what `read_classes` found.
        of: whose names they are, such as "the folder".

    Raises:
        DataError: a name is not among the known ones; without these, names are numbers whose order as text is another.
    """
    if known:
        among = set(known)
        for name in names:
            if name not in among:
                raise DataError(
                    f"{of} '{name}' is no class of data.classes {data.classes_file}{nearest(name, list(known))}"
                )
        return ClassOrder(tuple(known), BY_FILE)
    ordered = sorted(names)
    if all(name.isdecimal() for name in ordered) and ordered != sorted(ordered, key=int):
        raise DataError(
            f"the classes are numbers ({', '.join(ordered[:3])}, ...), whose order as text is not that of the numbers;"
            " write them into a file, a line each in the order of the model's outputs, and set data.classes to it"
        )
    return ClassOrder(tuple(ordered), BY_NAME if ordered else "")


def without_samples(known: Sequence[str], found: Collection[str], what: str) -> list[str]:
    """A sentence on the classes of data.classes that the source has no folder or image of, if there are any."""
    missing = [name for name in known if name not in found]
    if not missing:
        return []
    shown = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
    return [f"{len(missing)} of the {len(known)} classes in data.classes have no {what} and keep their index ({shown})"]
