"""The builder's settings that do not depend on the precision."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from enginewright.config import Build
from enginewright.errors import ConfigError, nearest
from enginewright.runtimes.tensorrt.bindings import Bindings

if TYPE_CHECKING:
    import tensorrt

MIB = 1 << 20


def configure(
    trt: Bindings, config: tensorrt.IBuilderConfig, settings: Build, compute_capabilities: Sequence[str] = ()
) -> dict[str, Any]:
    """Apply settings; returns what goes into the manifest.

    Args:
        trt: the library.
        config: edited in place.
        settings: of `build`.
        compute_capabilities: TensorRT-RTX: the GPUs that the engine is for.

    Raises:
        ConfigError: a setting names what this library does not know.
    """
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, settings.workspace_mib * MIB)
    config.builder_optimization_level = settings.optimization_level
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # else the inspector knows names alone
    sharing = getattr(getattr(trt, "PreviewFeature", None), "PROFILE_SHARING_0806", None)
    if sharing is not None:  # several contexts, one for each CUDA graph, on one profile; TensorRT 10 always allows it
        config.set_preview_feature(sharing, True)
    if settings.tf32:
        config.set_flag(trt.BuilderFlag.TF32)
    else:
        config.clear_flag(trt.BuilderFlag.TF32)  # TensorRT sets it by default; FP32 means FP32
    if settings.tactic_sources is not None:
        sources = [_member(trt.TacticSource, name, "build.tactic_sources") for name in settings.tactic_sources]
        config.set_tactic_sources(sum(1 << int(source) for source in sources))
    if compute_capabilities:
        _set_capabilities(trt, config, compute_capabilities)
    recorded = ("optimization_level", "workspace_mib", "tf32", "tactic_sources")
    return {name: getattr(settings, name) for name in recorded}


def _member(enum: Any, name: str, key: str) -> Any:
    """A member of one of the library's enums by name. Raises ConfigError with the nearest one."""
    known = dict(enum.__members__)
    if name not in known:
        raise ConfigError(f"{key}: this TensorRT has no {name}{nearest(name, known)}")
    return known[name]


def _set_capabilities(trt: Bindings, config: tensorrt.IBuilderConfig, capabilities: Sequence[str]) -> None:
    """Only TensorRT-RTX has these two. Raises ConfigError for a GPU that it does not know."""
    rtx: Any = config
    known = getattr(trt, "ComputeCapability", None)
    if known is None or not hasattr(rtx, "set_compute_capability"):
        raise ConfigError(
            f"build.compute_capabilities: {trt.__name__} builds for the GPU that is here alone; set"
            " runtime=tensorrt_rtx"
        )
    rtx.num_compute_capabilities = len(capabilities)
    for index, capability in enumerate(capabilities):
        member = _member(known, f"SM{capability.replace('.', '')}", "build.compute_capabilities")
        if not rtx.set_compute_capability(member, index):
            raise ConfigError(
                f"build.compute_capabilities: {trt.__name__} {trt.__version__} does not build for {capability}"
            )
