"""Files of the user's that a configuration names: DVC would say of a missing one only that data is missing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from enginewright.config import Params, WeightsFrom, ranges
from enginewright.errors import ConfigError, EnginewrightError
from enginewright.layout import Layout

ONNX = "onnx"  # of model.source

MAKE_PLUGIN = {
    "tensorrt": "compile it there, on the machine that builds the engines (docs/plugins.md)",
    "onnxruntime": "compile it there (docs/plugins.md), or bring a Python twin in its place with model.plugins.python",
    "python": "write the operator there as a function under onnx_op (docs/plugins.md)",
}


def require_files(params: Params) -> None:
    """Check that what the configuration names exists; not what the pipeline makes itself.

    Raises:
        ConfigError: with a sentence for each that is missing.
    """
    missing = list(_missing(params))
    if missing:
        raise ConfigError("; ".join(missing))


def _missing(params: Params) -> Iterator[str]:
    model, data = params.model, params.data
    for path in model.own_code:
        if not _there(path):
            yield f"model.code: {path} does not exist; name what {model._target_} is written in, a file or a folder"
    for kind, paths in model.plugins.named().items():
        for path in paths:
            if not _there(path):
                yield f"model.plugins.{kind}: {path} does not exist; {MAKE_PLUGIN[kind]}"
    if model.source == ONNX:
        yield from _of_onnx(params)
    elif model.weights_from is WeightsFrom.file and not _there(model.weights):
        yield (
            f"model.weights: {model.weights} does not exist; save a state dict there, or draw or train the weights with"
            " model.weights_from"
        )
    if not _there(data.root):
        yield f"data.root: {data.root} does not exist; it is the folder of data.source {data.source}"
    if not _there(params.search_mixed.layers):
        yield (
            f"search_mixed.layers: {params.search_mixed.layers} does not exist; it holds `layers: search`, or a list of"
            " layers"
        )


def _of_onnx(params: Params) -> Iterator[str]:
    """What shows of an ONNX file without running it: whether it is one, its outputs, and the names of its axes."""
    from enginewright.importers.files import located
    from enginewright.importers.onnx import interface_of_file
    from enginewright.tasks import judged

    model = params.model
    if _absent_but_tracked(model.path):
        return
    try:
        path = located(model, Layout())
        judged(model, interface_of_file(path, model, ranges(params.axes)))
    except EnginewrightError as fault:
        yield str(fault)


def _absent_but_tracked(path: str) -> bool:
    """Whether `dvc pull` has yet to bring a path."""
    return not Path(path).exists() and Path(f"{path}.dvc").exists()


def _there(path: str) -> bool:
    """Whether a path exists, or would after `dvc pull`."""
    return Path(path).exists() or Path(f"{path}.dvc").exists()
