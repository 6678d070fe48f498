"""prepare_data: real images into disjoint training, calibration, sensitivity and validation sets, preprocessed to
pixels.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from enginewright.config.model import specs_of
from enginewright.data.preparation import prepare
from enginewright.data.sources import open_source
from enginewright.stage import Metrics, Stage, script


@script
def prepare_data(stage: Stage) -> Metrics:
    """Write the four sets, with the same bytes for the same source, seed and settings."""
    data, seed = stage.params.data, stage.params.seed
    # only what decides every set: the training set must not change with the number of calibration images
    origin = {"source": data.source, "root": data.root, "seed": seed}

    def output(artifact: Path, settings: dict[str, Any]) -> AbstractContextManager[Path]:
        settings.update(origin)
        return stage.output(artifact, settings=settings)

    source = open_source(data, stage.paths.root)
    for note in source.notes:
        print(f"prepare_data: {note}")
    inputs = specs_of(stage.params.model.inputs)
    return prepare(source, data, seed, stage.paths.image_sets, output, inputs=inputs)


if __name__ == "__main__":
    prepare_data()
