"""search_mixed: which layers stay in FP16 so that INT8 passes the gate, into a YAML that people read, edit and pin."""

from __future__ import annotations

from enginewright import manifest
from enginewright.calibration.mixture import Mixture
from enginewright.sensitivity.choice import choose
from enginewright.sensitivity.inputs import inputs, open_variants
from enginewright.sensitivity.rehearsal import Rehearsal
from enginewright.stage import Metrics, Stage, script
from enginewright.views import metrics, mixture as view


@script
def search_mixed(stage: Stage) -> Metrics:
    """Rehearse the gate on the sensitivity images; validate_accuracy judges on images that played no part here."""
    import pandas as pd

    paths, settings = stage.paths, stage.params.search_mixed
    asked = Mixture.read(paths.file(settings.layers))
    manifest.verify(paths.ranking)
    rehearsal = Rehearsal(stage.params.accuracy, stage.params.data.validation_images, settings.margin)
    variants, journal = open_variants(stage, rehearsal)
    choice = choose(variants, rehearsal, asked, pd.read_csv(paths.ranking), settings, say=view.say)
    stage.tables(paths.mixed_layers.parent, {"trials.csv": choice.trials()}, [], sealed=None)
    made_from = [*inputs(variants.images, paths), paths.file(settings.layers)]
    beside = {"trials.csv": "table"}
    with stage.output(paths.mixed_layers, made_from, settings=choice.result.to_json(), files=beside) as temporary:
        temporary.write_text(choice.mixture.to_text(), encoding="utf-8")
    journal.finish()
    view.show(choice)
    return metrics.of_mixture(choice.result)


if __name__ == "__main__":
    search_mixed()
