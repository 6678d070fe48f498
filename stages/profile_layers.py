"""profile_layers: time and precision of each layer of each engine, and precisions side by side: where INT8 won, where
it fell back.
"""

from __future__ import annotations

from enginewright.benchmark import layers
from enginewright.data import Feeding, ImageSet
from enginewright.runtimes.built import open_engines
from enginewright.stage import Metrics, Stage, script
from enginewright.target import read_target


@script
def profile_layers(stage: Stage) -> Metrics:
    """The profiler slows an engine down a little, so these times are for comparing layers; throughput comes from
    benchmark_sustained.
    """
    from rich.console import Console

    settings, target = stage.params.profile_layers, read_target(stage.paths.target)
    engines = open_engines(target, stage.paths)
    images = ImageSet.open(stage.paths.validation)
    feeding = Feeding(images, stage.params.data.preprocessing)
    profiles, batch = {}, settings.batch_size
    with stage.device(target.device):
        for precision, sealed in engines.built.items():
            with sealed.load() as engine:
                batch = min(batch, engine.interface.rows(engine.axes))
                profiles[precision.value] = layers.profile(engine, feeding, batch, settings.runs)

    table, comparison = layers.layer_table(profiles), layers.side_by_side(profiles)
    tables = {"layers.csv": table, "top.csv": layers.top_layers(table), "side_by_side.csv": comparison}
    made_from = [*engines.files, *images.files]
    stage.tables(stage.paths.profile, tables, made_from, target=target, sealed="layers.csv")
    layers.show(table, comparison, Console(stderr=True), layers.findings(profiles, batch))
    return layers.metrics(profiles, comparison, batch)


if __name__ == "__main__":
    profile_layers()
