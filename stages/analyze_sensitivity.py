"""analyze_sensitivity: what each layer costs when it runs in INT8, measured with ONNX Runtime and ranked."""

from __future__ import annotations

from enginewright.sensitivity import analysis
from enginewright.sensitivity.budget import Budget
from enginewright.sensitivity.inputs import inputs, open_variants
from enginewright.stage import Metrics, Stage, script
from enginewright.views import metrics, sensitivity as view


@script
def analyze_sensitivity(stage: Stage) -> Metrics:
    """Measure every layer alone in INT8, and alone in float; an interrupted run goes on where it was."""
    variants, journal = open_variants(stage)
    settings = stage.params.analyze_sensitivity
    budget = Budget(stage.name, settings.evaluations, settings.minutes)
    whole, table = analysis.analyze(variants, budget, view.track, view.say)
    found = analysis.result(variants, whole, table, budget)
    origin = {"images": found.images, "evaluations": found.evaluations}
    with stage.output(stage.paths.ranking, inputs(variants.images, stage.paths), settings=origin) as temporary:
        table.to_csv(temporary, index=False)
    journal.finish()
    view.show(table, found, variants.task)
    return metrics.of_sensitivity(found)


if __name__ == "__main__":
    analyze_sensitivity()
