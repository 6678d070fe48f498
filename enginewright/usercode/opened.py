"""Which files model code opens, which modules it imports: noted through Python's audit events (PEP 578).

A library that nothing in `code` called reads files of its own, such as the entry points of what is installed: that is
no concern of the model's. Of other threads it is not known who started them, so what they read counts.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shlex
import sys
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from types import FrameType
from typing import Any, Optional

PACKAGE = __name__.partition(".")[0]
METADATA = (".egg-info", ".dist-info")  # folders in which importlib.metadata looks up what is installed
MADE = os.O_TRUNC | os.O_EXCL  # flags with which nothing of an earlier content is read


@dataclass
class Opened:
    """What happened in a block."""

    code: tuple[str, ...]  # the files and folders whose imports are noted
    read: list[str] = field(default_factory=list)  # in order, absolute; the source where compiled code was read
    made: set[str] = field(default_factory=set)  # written from nothing before they were read
    imported: set[str] = field(
        default_factory=set
    )  # modules of this package that `code` imports, and that were not imported before


_recording: Optional[Opened] = None  # an audit hook cannot be taken away, so it asks this
_hooked = False


@contextlib.contextmanager
def recording(code: Iterable[Path]) -> Iterator[Opened]:
    """Note what is opened in this block, and which modules of this package the files and folders `code` import."""
    global _recording, _hooked  # noqa: PLW0603  an audit hook is global itself
    if not _hooked:
        sys.addaudithook(_note)
        _hooked = True
    outer, _recording = _recording, Opened(tuple(map(os.path.realpath, code)))
    try:
        yield _recording
    finally:
        _recording = outer


def _note(event: str, arguments: tuple[Any, ...]) -> None:
    opened = _recording
    if opened is None:
        return
    if event == "open":
        if _called(opened.code):
            _note_open(opened, *arguments)
    elif event == "import":
        name = str(arguments[0])
        if name.startswith(f"{PACKAGE}.") and _runs(opened.code):
            opened.imported.add(name)
    elif event in ("subprocess.Popen", "os.system", "ctypes.dlopen", "sqlite3.connect") and _called(opened.code):
        folder = arguments[2] if event == "subprocess.Popen" else None
        named = arguments[:2] if event == "subprocess.Popen" else arguments[:1]
        opened.read += [os.path.abspath(os.path.join(os.fsdecode(folder or "."), word)) for word in _words(named)]


def _note_open(opened: Opened, path: Any, mode: Any, flags: int) -> None:
    if not isinstance(path, (str, bytes)):
        return
    name = _source(os.path.abspath(os.fsdecode(path)))
    if isinstance(mode, str):
        makes, reads = bool(set("wx") & set(mode)), "a" not in mode or "+" in mode
    else:  # of os.open
        makes, reads = bool(flags & MADE), flags & os.O_ACCMODE != os.O_WRONLY
    if makes and name not in opened.read:
        opened.made.add(name)
    elif reads and not makes and name not in opened.made and not os.path.dirname(name).endswith(METADATA):
        opened.read.append(name)


def _source(name: str) -> str:
    if os.path.basename(os.path.dirname(name)) == "__pycache__":
        with contextlib.suppress(ValueError):
            return importlib.util.source_from_cache(name)
    return name


def _words(named: Iterable[Any]) -> Iterator[str]:
    """Whatever may be a file's name in the arguments of a command, also within a line for the shell."""
    for value in named:
        if isinstance(value, (str, bytes, os.PathLike)):
            text = os.fsdecode(value)
            yield text
            with contextlib.suppress(ValueError):
                yield from shlex.split(text)
        elif isinstance(value, (list, tuple)):
            yield from _words(value)


def _called(code: tuple[str, ...]) -> bool:
    """Whether code of these files called what happens, directly or not, or it happens in a thread of somebody's."""
    if threading.current_thread() is not threading.main_thread():
        return True
    frame: Optional[FrameType] = sys._getframe(2)
    while frame is not None:
        if _lies_in(_real(frame.f_code.co_filename), code):
            return True
        frame = frame.f_back
    return False


def _lies_in(name: str, code: tuple[str, ...]) -> bool:
    return name in code or any(name.startswith(folder + os.sep) for folder in code)


@lru_cache(maxsize=4096)
def _real(name: str) -> str:
    return os.path.realpath(name)


def _runs(code: tuple[str, ...]) -> bool:
    """Whether the innermost code that is not of the import system itself is in these files."""
    frame: Optional[FrameType] = sys._getframe(2)
    while frame is not None:
        name = frame.f_code.co_filename
        if not name.startswith("<frozen importlib") and os.path.dirname(name) != os.path.dirname(importlib.__file__):
            return _lies_in(_real(name), code)
        frame = frame.f_back
    return False
