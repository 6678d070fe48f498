"""calibrate: one INT8 scale for each activation tensor, from real images, into calib.cache."""

from __future__ import annotations

from enginewright.calibrate import calibrate_model
from enginewright.calibration import ranges
from enginewright.calibration.recipe import decoding_bytes
from enginewright.stage import Metrics, Stage, script
from enginewright.views import metrics


@script
def calibrate(stage: Stage) -> Metrics:
    """Choose the scales, write calib.cache, and report saturation. The report needs ONNX Runtime."""
    paths, made = stage.paths, calibrate_model(stage.params, stage.paths)
    stage.remove(paths.bias_correction)  # of an earlier run, if there is nothing to correct now
    if made.correction is not None:
        with stage.output(paths.bias_correction, made.inputs, settings=made.corrected) as temporary:
            temporary.write_bytes(made.correction.to_bytes())
    stage.remove(paths.float_decoding)
    if made.float_decoding:
        with stage.output(paths.float_decoding, made.inputs) as temporary:
            temporary.write_bytes(decoding_bytes(made.float_decoding))
    with stage.output(paths.calibration_cache, made.inputs, settings=dict(made.settings)) as temporary:
        temporary.write_bytes(made.scales.to_bytes())
    for sentence in ranges.outlier_sentences(made.ranges):
        print(f"calibrate: {sentence}")
    ranges.write_report(paths.calibration_cache.parent, stage.params.calibration.algorithm, made.ranges)
    return metrics.of_calibration(made.result())


if __name__ == "__main__":
    calibrate()
