"""Says that a process has come to its own work: each call of AT_WORK_CALL (module:name or module:Class.name) adds a
byte to the file AT_WORK_FILE.
"""

import functools
import importlib.abc
import importlib.machinery
import os
import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any, Optional

MODULE, _, NAME = os.environ.get("AT_WORK_CALL", "").partition(":")


def watched(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(*arguments: Any, **keywords: Any) -> Any:
        with open(os.environ["AT_WORK_FILE"], "ab", buffering=0) as file:
            file.write(b".")
        return function(*arguments, **keywords)

    return call


class Watch(importlib.abc.MetaPathFinder):
    def find_spec(self, name: str, path: Optional[Sequence[str]], target: Optional[ModuleType] = None) -> Any:
        if name != MODULE:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        assert spec is not None
        loader: Any = spec.loader
        execute = loader.exec_module

        def executed(module: ModuleType) -> None:
            execute(module)
            *outer, function = NAME.split(".")
            owner: Any = functools.reduce(getattr, outer, module)
            setattr(owner, function, watched(getattr(owner, function)))

        loader.exec_module = executed
        return spec


if MODULE:
    sys.meta_path.insert(0, Watch())
