"""build_int8: the INT8 engine, with the scales of calib.cache."""

from enginewright.build import build_engine
from enginewright.config import Precision
from enginewright.stage import Metrics, Stage, script


@script
def build_int8(stage: Stage) -> Metrics:
    """Needs a model that passed check_onnx and a calib.cache made from it."""
    return build_engine(stage, Precision.int8)


if __name__ == "__main__":
    build_int8()
