"""The file `data.labels`: a CSV that gives each image of a folder its class."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from enginewright.errors import DataError, nearest

FILE, CLASS = "file", "class"


def read_labels(path: Path) -> dict[str, str]:
    """Return file, relative to data.root -> name of its class, in the order of the CSV.

    Raises:
        DataError: it cannot be read, lacks a column, or a line names no file or class, a file beyond the folder, or one
            that another line names too.
    """
    found: dict[str, str] = {}
    for number, row in _rows(path):
        file, name = (str(row.get(column) or "").strip() for column in (FILE, CLASS))
        if not file or not name:
            missing = CLASS if file else FILE
            raise DataError(f"line {number} of data.labels {path} has no {missing}; give each line a file and a class")
        place = PurePosixPath(file)
        if place.is_absolute() or ".." in place.parts:
            raise DataError(f"line {number} of data.labels {path} names {file}; name files relative to data.root")
        if place.as_posix() in found:
            raise DataError(f"data.labels {path} names {file} twice, again in line {number}; an image has one class")
        found[place.as_posix()] = name
    if not found:
        raise DataError(f"data.labels {path} names no file; write a line file,class for each image")
    return found


def _rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream, strict=True)
            columns = [str(column).strip() for column in reader.fieldnames or ()]
            for column in (FILE, CLASS):
                if column not in columns:
                    raise DataError(
                        f"data.labels {path} has no column '{column}'{nearest(column, columns)}; begin it with the line"
                        " file,class"
                    )
            reader.fieldnames = columns
            for row in reader:
                yield reader.line_num, row
    except OSError as fault:
        raise DataError(
            f"data.labels {path} cannot be read ({fault.strerror}); give a CSV that begins with the line file,class"
        ) from None
    except (UnicodeDecodeError, csv.Error) as fault:
        raise DataError(f"data.labels {path} is no CSV in UTF-8 ({fault}); save it as one") from None
