"""build_int8_mixed: the INT8 engine whose sensitive layers stay in FP16."""

from enginewright.build import build_engine
from enginewright.config import Precision
from enginewright.stage import Metrics, Stage, script


@script
def build_int8_mixed(stage: Stage) -> Metrics:
    """Needs what build_int8 needs, and layers.yaml."""
    return build_engine(stage, Precision.int8_mixed)


if __name__ == "__main__":
    build_int8_mixed()
