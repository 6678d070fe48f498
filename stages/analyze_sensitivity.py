"""analyze_sensitivity: what each layer costs when it runs in INT8, measured with ONNX Runtime and ranked."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from enginewright.sensitivity.analysis import Block, analyze, noise_of
from enginewright.sensitivity.inputs import inputs, open_variants
from enginewright.stage import Metrics, Stage, script

if TYPE_CHECKING:
    import pandas as pd

SHOWN = 10


@script
def analyze_sensitivity(stage: Stage) -> Metrics:
    """Every layer alone in INT8, and alone in float; interrupted, it goes on where it was."""
    variants, journal = open_variants(stage)
    whole, table = analyze(variants, stage.params.analyze_sensitivity.evaluations, _track)
    settings = {"images": len(variants.images), "evaluations": 1 + 2 * len(table)}
    with stage.output(stage.paths.ranking, inputs(variants.images, stage.paths), settings=settings) as temporary:
        table.to_csv(temporary, index=False)
    journal.finish()
    _show(table, len(variants.images))
    return {
        **settings,
        "layers": len(variants.layers),
        "blocks": len(table),
        "noise_of_all": noise_of(whole),
        "share_of_noise_of_first": float(table["share_of_noise"].iloc[0]),
        **{f"int8_{name}": whole[name] for name in (variants.task.metric, "agreement", "sqnr_db") if name in whole},
    }


def _track(blocks: Sequence[Block]) -> Iterable[Block]:
    from rich.console import Console
    from rich.progress import track

    return track(blocks, "layers in INT8 and in float", console=Console(stderr=True))


def _show(table: pd.DataFrame, images: int) -> None:
    from rich.console import Console
    from rich.table import Table

    shown = Table(
        title=f"What INT8 costs, layer by layer, on {images} images (the first {SHOWN})", title_justify="left"
    )
    columns = {
        "layers": "layer",
        "share_of_noise": "share of noise",
        "share_of_traffic": "share of values moved",
        "alone_sqnr_db": "SQNR, it alone in INT8 (dB)",
        "without_sqnr_db": "SQNR, it alone in float (dB)",
        "alone_agreement": "agreement, it alone in INT8",
    }
    for name in columns.values():
        shown.add_column(name, justify="left" if name == "layer" else "right")
    for row in table.head(SHOWN).to_dict(orient="records"):
        shown.add_row(*(_cell(row.get(name)) for name in columns))
    Console().print(shown)


def _cell(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else "-" if value is None else str(value)


if __name__ == "__main__":
    analyze_sensitivity()
