"""The source `loader`: a generator function of the user's, in a file that DVC hashes."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, cast

from enginewright import usercode
from enginewright.config import Data
from enginewright.data.classes import BY_NUMBER, read_classes
from enginewright.data.named import TARGET, named_arrays, named_sample
from enginewright.data.samples import Sample, Source
from enginewright.errors import DataError
from enginewright.layout import Layout
from enginewright.usercode import UserCode

NAME = "name"  # the key of what a sample is called; without it, its place
# What prepare_data executes of ours (toolchain.yaml), or what decides no bytes.
OURS = ("config", "data", "errors", "feeds", "interface", "layout", "manifest", "registry", "stage", "usercode")


def loader(data: Data, project: Path) -> Source:
    """What the function `data.loader` yields: {input name: array without the batch axis, `target`: as in the source
    `arrays`, `name`: a text}; the last two may be left out.

    It is called once for each pass, with the folder data.root if it takes an argument. It yields the same samples in
    the same order each time.

    Raises:
        DataError: it cannot be imported, or lies in or loads a file that data.code does not name.
    """
    layout, code = Layout(project), _code_of(data)
    function = _find(data, layout, code)
    classes = read_classes(data, project)

    def samples() -> Iterator[Sample]:
        with usercode.watching(code, layout, stage_reads=True):
            for number, given in enumerate(_yielded(function, data, project)):
                if not isinstance(given, Mapping):
                    raise DataError(
                        f"data.loader {data.loader} yields a {type(given).__name__} for sample {number}; let it yield"
                        " dictionaries of input name to array"
                    )
                called = given.get(NAME)
                name = f"sample {number}" if called is None else f"sample {number} ({called})"
                arrays = partial(named_arrays, name, {key: its for key, its in given.items() if key != NAME})
                yield named_sample(name, arrays, given.get(TARGET), classes)

    return Source(classes, samples, f"data.loader {data.loader}", class_order=BY_NUMBER)


def _code_of(data: Data) -> UserCode:
    return UserCode(
        "data.code",
        tuple(data.own_code),
        f"data.loader {data.loader}",
        ", ".join(data.own_code),
        DataError,
        OURS,
        "the data",
        (data.root,),
    )


def _find(data: Data, project: Layout, code: UserCode) -> Callable[..., Any]:
    from hydra.errors import InstantiationException
    from hydra.utils import get_object

    root = os.path.abspath(project.root)
    if root not in sys.path:
        sys.path.insert(0, root)  # a stage script has stages/ there, not the project's root
    named, path = usercode.sources(code, project), str(data.loader)
    with usercode.watching(code, project, stage_reads=True):
        try:
            function = get_object(path)
        except (ImportError, ValueError, AttributeError, SyntaxError, InstantiationException) as fault:
            raise DataError(
                f"data.loader {path} cannot be imported ({_line(fault)}); give module.function as seen from {root}"
            ) from None
    if not callable(function):
        raise DataError(f"data.loader {path} is a {type(function).__name__}; name a generator function")
    source = inspect.getsourcefile(inspect.unwrap(function)) if inspect.isfunction(function) else None
    if source is None or not usercode.covers(named, Path(source).resolve()):
        where = "no file of yours" if source is None else usercode.shown(Path(source).resolve(), Path(root))
        raise DataError(
            f"data.code is {', '.join(data.own_code)}, and data.loader {path} lives in {where}; add that file to"
            " data.code, else DVC would not see its changes"
        )
    return cast("Callable[..., Any]", function)


def _yielded(function: Callable[..., Any], data: Data, project: Path) -> Iterator[Any]:
    """What the function yields. Raises DataError if it fails, with the number of the sample."""
    number = 0
    try:
        for given in _called(function, data, project):
            yield given
            number += 1
    except (GeneratorExit, DataError):
        raise
    except Exception as fault:
        raise DataError(
            f"data.loader {data.loader} fails at sample {number} ({type(fault).__name__}: {_line(fault)}); mend it"
        ) from fault


def _called(function: Callable[..., Any], data: Data, project: Path) -> Iterable[Any]:
    takes_folder = bool(inspect.signature(function).parameters)
    found = function(project / data.root) if takes_folder else function()
    if not isinstance(found, Iterable) or isinstance(found, (Mapping, str, bytes)):
        raise DataError(
            f"data.loader {data.loader} returns a {type(found).__name__}; let it yield a dictionary for each sample"
        )
    return found


def _line(fault: BaseException) -> str:
    """The first line of what a fault says."""
    lines = [line.strip() for line in str(fault).splitlines() if line.strip()]
    return lines[0].rstrip(".") if lines else type(fault).__name__
