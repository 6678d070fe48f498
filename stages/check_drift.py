"""check_drift: whether the validation images are like the calibration images, in every tensor that INT8 rounds."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from enginewright import drift, manifest
from enginewright.calibration.recipe import read_recipe
from enginewright.data import Feeding, ImageSet
from enginewright.feeds import FloatInput
from enginewright.layout import Layout
from enginewright.results import Drift
from enginewright.runtimes.base import Capability
from enginewright.runtimes.checked import require_checked
from enginewright.runtimes.onnxruntime import RUNTIME as OBSERVER
from enginewright.stage import Stage, script


@script
def check_drift(stage: Stage) -> None:
    """Record table, report and metrics; drift is a warning, and with check_drift.fail `gate` stops the pipeline."""
    from rich.console import Console

    settings = stage.params.check_drift
    if why := OBSERVER.why_not(Capability.run):
        _not_observed(stage, why)
        return
    require_checked(stage.paths)
    cache = read_recipe(stage.paths).scales
    sets = {name: _at_most(ImageSet.open(folder), settings.images) for name, folder in _folders(stage.paths).items()}
    inputs, batch = [FloatInput(stage.params.model.input_name)], stage.params.calibration.batch_size
    seen = {}
    for name, images in sets.items():
        feeds = Feeding(images, stage.params.data.preprocessing).batches(inputs, batch)
        seen[name] = OBSERVER.observe(stage.paths.model, feeds, cache)
    table = drift.compare(cache, seen["calibration"], seen["validation"], settings)
    with manifest.replacing(stage.paths.drift / "drift.csv") as temporary:
        table.to_csv(temporary, index=False)
    counts = {f"{name}_images": len(images) for name, images in sets.items()}
    found = drift.metrics(table)
    verdict = Drift(drift.verdict(table), drifted_tensors=found["drifted_tensors"])
    made_from = [stage.paths.model, stage.paths.calibration_cache, *(images.files[0] for images in sets.values())]
    with stage.output(stage.paths.drift / "report.json", made_from, settings=dataclasses.asdict(settings)) as temporary:
        manifest.write_json(temporary, {**verdict.to_json(), **counts, "tensors": table.to_dict(orient="records")})
    stage.write_metrics({"observed": True, **counts, **found})
    drift.show(table, Console())


def _folders(paths: Layout) -> dict[str, Path]:
    return {"calibration": paths.calibration_images, "validation": paths.validation}


def _not_observed(stage: Stage, why: str) -> None:
    """A target without ONNX Runtime goes on: what the check would have found is said to be unknown."""
    print(f"check_drift: drift was not checked: {why}; then run `dvc repro -f -s check_drift`")
    with stage.output(stage.paths.drift / "report.json") as temporary:
        manifest.write_json(
            temporary, {**Drift(f"drift was not checked: {why}", observed=False).to_json(), "tensors": []}
        )
    stage.write_metrics({"observed": False})


def _at_most(images: ImageSet, count: int) -> ImageSet:
    """The first `count` images: sets are stored with the classes in their proportion in every stretch."""
    labels = None if images.labels is None else images.labels[:count]
    return dataclasses.replace(images, pixels=images.pixels[:count], labels=labels, names=images.names[:count])


if __name__ == "__main__":
    check_drift()
