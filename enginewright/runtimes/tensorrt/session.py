"""A library of the TensorRT family, started: its logger, its plugins, its builder."""

from __future__ import annotations

from dataclasses import dataclass, field

from enginewright.errors import RuntimeUnavailable
from enginewright.plugins import NO_PLUGINS, Plugins
from enginewright.runtimes.tensorrt.bindings import Bindings
from enginewright.runtimes.tensorrt.log import BuildLog, as_logger
from enginewright.runtimes.tensorrt.plugins import load_plugins


@dataclass
class Session:
    """The library's objects of one build. The logger must outlive the others, TensorRT holds no reference."""

    trt: Bindings
    log: BuildLog = field(default_factory=BuildLog)
    plugins: Plugins = NO_PLUGINS

    def __post_init__(self) -> None:
        """Raises RuntimeUnavailable if the library does not start, as TensorRT does not where there is no GPU, or a
        plugin does not load; StaleArtifact if one was changed.
        """
        self.logger = as_logger(self.trt, self.log)
        if hasattr(self.trt, "init_libnvinfer_plugins"):
            # operators that the parser maps to NVIDIA's plugins, 8.6's InstanceNormalization for one
            self.trt.init_libnvinfer_plugins(self.logger, "")
        load_plugins(self.trt, self.plugins)
        try:
            builder = self.trt.Builder(self.logger)
        except TypeError:  # "pybind11::init(): factory function returned nullptr"
            builder = None
        if builder is None:
            raise RuntimeUnavailable(
                f"TensorRT {self.trt.__version__} does not start ({self.log.reason()}); check the GPU and its driver"
                " with nvidia-smi"
            )
        self.builder = builder
