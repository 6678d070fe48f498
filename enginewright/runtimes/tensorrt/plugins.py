"""Libraries of TensorRT plugins: verified, then loaded into the registry that parser, builder and runtime share."""

from __future__ import annotations

import ctypes
import os
from typing import TYPE_CHECKING, Any, cast

from enginewright.errors import RuntimeUnavailable
from enginewright.plugins import TENSORRT, Plugin, Plugins

if TYPE_CHECKING:
    from types import ModuleType

    from enginewright.runtimes.tensorrt.bindings import Bindings

# (library of the family, sha256): what the registry holds as long as the process; it refuses the same creator twice
_loaded: set[tuple[str, str]] = set()


def load_plugins(trt: Bindings | ModuleType, plugins: Plugins) -> None:
    """Load each library, once in a process, after its bytes were verified.

    Raises:
        StaleArtifact: a library is missing or was changed; none of its code has run.
        RuntimeUnavailable: it does not load here.
    """
    for plugin in plugins.of(TENSORRT).files:
        path = os.path.abspath(plugin.verified())
        if (trt.__name__, plugin.sha256) not in _loaded:
            _load(cast(Any, trt), plugin, path)
            _loaded.add((trt.__name__, plugin.sha256))


def _load(trt: Any, plugin: Plugin, path: str) -> None:
    """Through the registry, where it can (8.6 on) and the library gives its creators; else by the dynamic loader, which
    runs what `REGISTER_TENSORRT_PLUGIN` left there.
    """
    registry = trt.get_plugin_registry()
    try:
        if hasattr(registry, "load_library") and _gives_creators(path):
            why_not = "" if registry.load_library(path) is not None else "the plugin registry refuses it"
        else:
            ctypes.CDLL(path, mode=ctypes.RTLD_GLOBAL)
            why_not = ""
    except (OSError, RuntimeError) as fault:
        why_not = " ".join(str(fault).split())
    if why_not:
        raise RuntimeUnavailable(
            f"{trt.__name__} {trt.__version__} cannot load {plugin.path}: {why_not}; compile it on this machine against"
            " this version's headers (docs/plugins.md)"
        )


def _gives_creators(path: str) -> bool:
    """Whether a library exports what `loadLibrary` asks for. Raises OSError if it does not load at all."""
    library = ctypes.CDLL(path)
    return any(hasattr(library, name) for name in ("getPluginCreators", "getCreators"))
