"""validate_accuracy: every engine over the whole validation set, compared with FP32 image by image, and its verdict."""

from __future__ import annotations

from enginewright.accuracy import validation
from enginewright.accuracy.evaluate import Evaluator
from enginewright.data import ImageSet
from enginewright.runtimes.built import open_engines
from enginewright.stage import Metrics, Stage, script
from enginewright.target import read_target
from enginewright.tasks import judged, task_of
from enginewright.views import accuracy as view, metrics, pictures


@script
def validate_accuracy(stage: Stage) -> Metrics:
    """Record tables, metrics and the verdict on each engine; `gate` is the stage that fails."""
    model, target = stage.params.model, read_target(stage.paths.target)
    engines, images = open_engines(target, stage.paths), ImageSet.open(stage.paths.validation)
    preprocessing = stage.params.data.preprocessing
    evaluator = Evaluator(task_of(model), images, preprocessing, stage.params.accuracy.batch_size)
    outputs = [spec.name for spec in judged(model, engines.interface).outputs]
    with stage.device(target.device):
        found = validation.evaluate_all(evaluator, engines.to_judge(), outputs)
    result = validation.record(stage, evaluator, engines, found, target)
    stage.remove(stage.paths.worst_images)  # of an earlier run by hand
    if picture := pictures.draw(evaluator.task, images, found.evaluations, preprocessing):
        with stage.output(stage.paths.worst_images, [*engines.files, *images.files], target) as temporary:
            picture.save(temporary, format="PNG")
    view.show(evaluator.task, result)
    return metrics.of_accuracy(result)


if __name__ == "__main__":
    validate_accuracy()
