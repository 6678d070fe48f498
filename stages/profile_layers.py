"""profile_layers: time and precision of each layer of each engine, and precisions side by side: where INT8 won, where
it fell back.
"""

from __future__ import annotations

from enginewright.benchmark import layers
from enginewright.data import Feeding, ImageSet
from enginewright.runtimes.built import open_engines
from enginewright.stage import Metrics, Stage, script
from enginewright.target import read_target
from enginewright.views import layers as view, metrics


@script
def profile_layers(stage: Stage) -> Metrics:
    """Compare layers with each other: the profiler slows engines down a little. benchmark_sustained has throughput."""
    paths, target = stage.paths, read_target(stage.paths.target)
    engines, images = open_engines(target, paths), ImageSet.open(paths.validation)
    feeding = Feeding(images, stage.params.data.preprocessing)
    with stage.device(target.device):
        profiles, batch, shape = layers.profile_engines(engines.built, feeding, stage.params.profile_layers)
    tables = layers.tables(profiles)
    stage.tables(paths.profile, tables, [*engines.files, *images.files], target=target, sealed=layers.LAYERS)
    found = layers.summary(profiles, tables[layers.SIDE_BY_SIDE], batch, shape)
    view.show(tables, found)
    return metrics.of_profile(found)


if __name__ == "__main__":
    profile_layers()
