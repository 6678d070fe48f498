"""search_mixed: which layers stay in FP16 so that INT8 passes the gate, into a YAML that people read, edit and pin."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from enginewright import manifest
from enginewright.accuracy.gate import Verdict, name_of
from enginewright.calibration.mixture import FloatLayer, Mixture
from enginewright.sensitivity.analysis import SEPARATOR, ranked, traffic_of
from enginewright.sensitivity.inputs import inputs, open_variants
from enginewright.sensitivity.rehearsal import Rehearsal
from enginewright.sensitivity.search import Search, most_floats, search, table_rows
from enginewright.sensitivity.variants import Variants
from enginewright.stage import Metrics, Stage, script
from enginewright.tasks.base import Figures


@script
def search_mixed(stage: Stage) -> Metrics:
    """The gate of `accuracy` is rehearsed on the sensitivity images; validate_accuracy holds it on those that nothing
    was chosen by.
    """
    import pandas as pd

    settings, accuracy = stage.params.search_mixed, stage.params.accuracy
    asked = Mixture.read(Path(settings.layers))
    manifest.verify(stage.paths.ranking)
    rehearsal = Rehearsal(accuracy, stage.params.data.validation_images, settings.margin)
    variants, journal = open_variants(stage, rehearsal)
    equal = rehearsal.verdict(variants.task, variants.equal(), variants.evaluated)
    operators = tuple(dict.fromkeys((*asked.operators, *settings.float_operators)))

    def holds(figures: Figures) -> bool:
        return rehearsal.holds(figures, decidable=equal.passed)

    ranking = pd.read_csv(stage.paths.ranking)
    if asked.layers is None:
        most = most_floats(len(variants.layers), settings.minimum_int8_share)
        found = search(
            lambda floats: variants.figures(floats, operators),
            holds,
            ranked(ranking, settings.spare),
            settings.evaluations,
            most,
        )
        mixture = Mixture(tuple(FloatLayer(name, _reason(name, ranking)) for name in found.chosen), operators)
    else:
        asked.require(_model(stage.paths.model), settings.layers)
        figures = variants.figures(asked.names, operators)
        found, mixture = Search(asked.names), Mixture(asked.layers, operators)
        found.holds = found.add("pinned", asked.names, figures, holds(figures)).holds

    figures_of_choice: dict[str, Any] = {
        "holds": found.holds,
        "decidable": equal.passed,
        **{name: found.last.figures[name] for name in ("verdict", "figure", "value", "low", "bound")},
        "validation_images": rehearsal.images,
        "images": len(variants.images),
        "layers": len(variants.layers),
        "float_layers": len(found.chosen),
        "int8_share": 1 - len(found.chosen) / len(variants.layers) if variants.layers else 0.0,
        "float_traffic": traffic_of(ranking, found.chosen),
        "evaluations": len(found.trials),
        "pinned": asked.layers is not None,
    }
    with manifest.replacing(stage.paths.mixed_layers.parent / "trials.csv") as temporary:
        pd.DataFrame(table_rows(found, len(variants.layers), figures_of_choice["figure"])).to_csv(
            temporary, index=False
        )
    with stage.output(
        stage.paths.mixed_layers,
        [*inputs(variants.images, stage.paths), Path(settings.layers)],
        settings=figures_of_choice,
    ) as temporary:
        temporary.write_text(mixture.to_text(), encoding="utf-8")
    journal.finish()
    _show(figures_of_choice, found)
    if not equal.passed:
        _warn(variants, equal, rehearsal)
    return figures_of_choice


def _model(path: Path) -> Any:
    import onnx

    return onnx.load(str(path))


def _reason(name: str, ranking: Any) -> str:
    """Why a layer stays in float, in words that stand beside its name."""
    row = next(row for row in ranking.to_dict(orient="records") if name in str(row["layers"]).split(SEPARATOR))
    together = f" with the {row['count'] - 1} beside it" if row["count"] > 1 else ""
    alone = f"; with it alone in INT8 the SQNR is {row['alone_sqnr_db']:.1f} dB" if "alone_sqnr_db" in row else ""
    noise, moved = (
        f"{row['share_of_noise']:.1%} of the noise that layers add one by one",
        f"{row['share_of_traffic']:.1%} of the values moved",
    )
    return f"rank {row['rank']} of {len(ranking)}{together}: {noise}, {moved}{alone}"


def _warn(variants: Variants, equal: Verdict, rehearsal: Rehearsal) -> None:
    """Few images: no engine can pass on them."""
    needed = max((held.needed or 0 for held in equal.held), default=0)
    ask = f"raise data.validation_images to {needed:,} at least, or move the bound" if needed else "move the bound"
    print(
        f"search_mixed: the mixture was searched by point values. On {rehearsal.images} validation images even an"
        f" engine that answers as fp32 does is undecided ({name_of(variants.task, equal.metric.figure)}, bound"
        f" {equal.metric.bound:.4f}); {ask}",
        file=sys.stderr,
        flush=True,
    )


def _show(figures: dict[str, Any], found: Search) -> None:
    from rich.console import Console

    console = Console()
    first, layers, name = found.trials[0], figures["layers"], figures["figure"]
    if first.step == "int8":
        console.print(
            f"{name} on {figures['images']} images, all {layers} layers in INT8: {first.figures[name]:.4f}",
            highlight=False,
        )
    chosen, moved = f"{figures['float_layers']} of {layers}", f"{figures['float_traffic']:.0%} of the values moved"
    value = (
        f"{figures['value']:.4f} (lower limit on {figures['validation_images']} images {figures['low']:.4f}), bound"
        f" {figures['bound']:.4f}"
    )
    console.print(
        f"with {chosen} in float ({moved}): {value}, {figures['verdict']}, after {figures['evaluations']} evaluations",
        highlight=False,
    )
    if not found.holds:
        console.print(
            "No mixture that was tried passes the gate; see artifacts/mixed/trials.csv, then lower"
            " search_mixed.minimum_int8_share, raise search_mixed.evaluations, or choose another calibration"
        )
    elif found.exhausted:
        console.print("The budget search_mixed.evaluations ended the search: a smaller mixture may hold")
    for name in found.chosen:
        console.print(f"  {name}", highlight=False)


if __name__ == "__main__":
    search_mixed()
