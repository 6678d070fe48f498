"""TensorRT's Python bindings as this project sees them: one typed surface for 8.6, 10, 11 and TensorRT-RTX.

What all of them have is listed in `Bindings`; whatever else is used is asked for with `hasattr` first, never by version
number (docs/decisions/0009-precision-by-hasattr.md). The types are those of tensorrt-stubs (10.13).
"""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from enginewright.errors import RuntimeUnavailable

if TYPE_CHECKING:
    import tensorrt


class Bindings(Protocol):
    """The module `tensorrt` or `tensorrt_rtx`: the names that 8.6, 10, 11 and RTX 1.7 share and that we use."""

    __name__: str
    __version__: str

    @property
    def Builder(self) -> type[tensorrt.Builder]: ...  # noqa: N802, D102 - names of the bindings
    @property
    def BuilderFlag(self) -> type[tensorrt.BuilderFlag]: ...  # noqa: N802, D102
    @property
    def DataType(self) -> type[tensorrt.DataType]: ...  # noqa: N802, D102
    @property
    def Dims(self) -> type[tensorrt.Dims]: ...  # noqa: N802, D102
    @property
    def ILogger(self) -> type[tensorrt.ILogger]: ...  # noqa: N802, D102
    @property
    def LayerInformationFormat(self) -> type[tensorrt.LayerInformationFormat]: ...  # noqa: N802, D102
    @property
    def MemoryPoolType(self) -> type[tensorrt.MemoryPoolType]: ...  # noqa: N802, D102
    @property
    def NetworkDefinitionCreationFlag(self) -> type[tensorrt.NetworkDefinitionCreationFlag]: ...  # noqa: N802, D102
    @property
    def OnnxParser(self) -> type[tensorrt.OnnxParser]: ...  # noqa: N802, D102
    @property
    def ProfilingVerbosity(self) -> type[tensorrt.ProfilingVerbosity]: ...  # noqa: N802, D102
    @property
    def Runtime(self) -> type[tensorrt.Runtime]: ...  # noqa: N802, D102
    @property
    def TacticSource(self) -> type[tensorrt.TacticSource]: ...  # noqa: N802, D102
    @property
    def TensorFormat(self) -> type[tensorrt.TensorFormat]: ...  # noqa: N802, D102


REMEDY = "it comes with JetPack or NVIDIA's TensorRT packages for this CUDA version"


def import_tensorrt() -> Bindings:
    """Import TensorRT. Raises RuntimeUnavailable: it is not installed, or one of its libraries is missing."""
    return import_bindings("tensorrt", REMEDY, "install what it names")


def import_bindings(package: str, install: str, repair: str) -> Bindings:
    """Import one of the packages that have the surface of `Bindings`.

    Args:
        package: its name.
        install: what to do where it is missing, in words.
        repair: what to do where it does not load.

    Raises:
        RuntimeUnavailable: it is not installed, or one of its libraries is missing.
    """
    try:
        module = importlib.import_module(package)
    except ImportError as fault:
        if fault.name == package:
            raise RuntimeUnavailable(_missing(package, install)) from None
        raise RuntimeUnavailable(
            f"the Python package {package} is installed and does not import ({fault}); {repair}"
        ) from None
    except OSError as fault:
        raise RuntimeUnavailable(
            f"the Python package {package} is installed and does not load ({fault}); {repair}"
        ) from None
    if getattr(module, "Builder", None) is None:  # tensorrt-stubs alone leaves an empty namespace package behind
        raise RuntimeUnavailable(f"the Python package {package} is not installed, only its type stubs; {install}")
    return cast(Bindings, module)


def _missing(package: str, install: str) -> str:
    """JetPack's bindings belong to the system's Python, and a virtual environment sees them only if it was made so."""
    for prefix in (Path(sys.base_prefix), Path("/usr")):
        for folder in sorted(prefix.glob("lib/python3*/*-packages")):
            if sys.prefix != sys.base_prefix and (folder / package / "__init__.py").is_file():
                return (
                    f"the Python package {package} is not in this environment but in {folder}; make the environment"
                    f" with `{folder.parent.name} -m venv --system-site-packages`"
                )
    return f"the Python package {package} is not installed; {install}"


def version_stamp(version: str) -> str:
    """The number in the header of a calib.cache that TensorRT `version` writes: "8.6.0" is 8600, "10.3.0.26" is 100300.

    NvInferVersion.h: major * 1000 + minor * 100 + patch up to TensorRT 9, major * 10000 + minor * 100 + patch from 10
    on.
    """
    major, minor, patch = (int(part) for part in re.findall(r"\d+", version)[:3])
    return str(major * (10000 if major >= 10 else 1000) + minor * 100 + patch)


def supports_implicit(trt: Bindings) -> bool:
    """Whether this library has precision flags and calibrators at all."""
    return hasattr(trt, "IInt8EntropyCalibrator2") and hasattr(trt.BuilderFlag, "INT8")
