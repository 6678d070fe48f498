"""build_fp16: the half-precision engine."""

from enginewright.build import build_engine
from enginewright.config import Precision
from enginewright.stage import Metrics, Stage, script


@script
def build_fp16(stage: Stage) -> Metrics:
    """Needs a model that passed check_onnx."""
    return build_engine(stage, Precision.fp16)


if __name__ == "__main__":
    build_fp16()
