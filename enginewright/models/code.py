"""The code of a model, and what it may load: see `enginewright.usercode`."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from enginewright import usercode
from enginewright.config import Model
from enginewright.errors import ModelError
from enginewright.layout import Layout
from enginewright.usercode import UserCode, covers, is_installed, known

# What counts for every stage that runs model code, or decides no bytes (toolchain.yaml).
OURS = ("models", "usercode", "config", "manifest", "target", "errors", "layout", "stage")


def code_of(model: Model) -> UserCode:
    """What DVC sees for a model: its code, and its weights."""
    main = model.written_in
    return UserCode(
        "model.code",
        tuple(model.own_code),
        f"model code beside {main}",
        main,
        ModelError,
        OURS,
        "the model",
        (model.weights,),
    )


def watching(model: Model, project: Layout, stage_reads: bool = False) -> AbstractContextManager[None]:
    """See `usercode.watching`. Raises ModelError naming the first module or file that DVC does not see."""
    return usercode.watching(code_of(model), project, stage_reads)


def source_files(model: Model, project: Layout) -> list[Path]:
    """See `usercode.source_files`."""
    return usercode.source_files(code_of(model), project)


def refuse_factories_in_arguments(arguments: Any, where: str = "model.arguments") -> None:
    """Raise ModelError where arguments hold a key that Hydra would take for an instruction, at any depth: only
    model._target_ names a factory.
    """
    if isinstance(arguments, dict):
        for key, value in arguments.items():
            if key in ("_target_", "_partial_", "_convert_", "_recursive_", "_args_"):
                raise ModelError(
                    f"{where} holds {key}, and model._target_ is the only factory, as DVC sees no code behind another;"
                    " make the object inside model.code"
                )
            refuse_factories_in_arguments(value, f"{where}.{key}")
    elif isinstance(arguments, (list, tuple)):
        for index, value in enumerate(arguments):
            refuse_factories_in_arguments(value, f"{where}[{index}]")


def refuse_files_in_arguments(model: Model, project: Layout, arguments: Any, where: str = "model.arguments") -> None:
    """Raise ModelError where an argument names a file: a library that opens it without Python (TorchScript,
    safetensors) would not be noticed.
    """
    if isinstance(arguments, dict):
        for key, value in arguments.items():
            refuse_files_in_arguments(model, project, value, f"{where}.{key}")
    elif isinstance(arguments, (list, tuple)):
        for index, value in enumerate(arguments):
            refuse_files_in_arguments(model, project, value, f"{where}[{index}]")
    elif isinstance(arguments, str) and os.path.isfile(project.file(arguments)):
        real = project.file(arguments).resolve()
        if not covers(known(code_of(model), project), real) and not is_installed(real, project.root):
            remedy = "add it to model.code, or put what it holds into the weights or into model.arguments"
            raise ModelError(
                f"{where} names the file {arguments}, which DVC does not see, so a change of it would rerun nothing;"
                f" {remedy}"
            )
