"""build_fp32: the engine that the others are measured against."""

from enginewright.build import build_engine
from enginewright.config import Precision
from enginewright.stage import Metrics, Stage, script


@script
def build_fp32(stage: Stage) -> Metrics:
    """Needs a model that passed check_onnx."""
    return build_engine(stage, Precision.fp32)


if __name__ == "__main__":
    build_fp32()
