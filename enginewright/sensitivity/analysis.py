"""What each layer costs when it runs in INT8: alone among float layers, and as the only float layer among INT8 ones.

The first says how much noise a layer adds, the second how much of it the whole model would be spared. As Polygraphy's
and TensorRT's debugging guides do by hand; H. Wu et al., "Integer Quantization for Deep Learning Inference" (2020),
section 5, calls it partial quantization.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from enginewright.config import Sparing
from enginewright.results.layers import SensitivityResult
from enginewright.sensitivity.variants import Variants
from enginewright.tasks.base import AGREEMENT, Figures

if TYPE_CHECKING:
    import pandas as pd

Block = tuple[str, ...]
FIGURES = ("sqnr_db", "kl_divergence_mean", AGREEMENT)  # and the task's own
# What a layer counts besides what it moves, in layers of average traffic, so that one which moves next to nothing does
# not come first whatever it adds. On efficientnet_lite0 0.1 and 0.2 end with 26 % of the traffic in float, 0.25 with 37
# %, 0.5 with 42 %, the order by noise alone with 56 %.
LAYER_ITSELF = 0.1
SEPARATOR = " + "  # between the layers of a block, as TensorRT joins names


def blocks(layers: Sequence[str], evaluations: int) -> list[Block]:
    """Neighbouring layers in as few together as `evaluations` allow: one for all layers in INT8, and two for each
    block.
    """
    size = max(1, math.ceil(len(layers) / max(1, (evaluations - 1) // 2)))
    return [tuple(layers[start : start + size]) for start in range(0, len(layers), size)]


def analyze(
    variants: Variants, evaluations: int, track: Callable[[Sequence[Block]], Iterable[Block]]
) -> tuple[Figures, pd.DataFrame]:
    """Measure every block of layers in both ways and rank them, the costliest first.

    Args:
        variants: of the model.
        evaluations: the most models that are run, FP32 apart.
        track: passes the blocks on and shows how far it is.

    Returns:
        The figures of all layers in INT8, and a row a block: rank, layers (names joined by SEPARATOR), count,
            share_of_noise (of the sum over blocks of the noise that each adds alone), share_of_traffic (of the values
            that all layers read and write for an image), and for each of FIGURES and the task's that exists `alone_`
            (only this block in INT8) and `without_` (only this block in float).
    """
    import pandas as pd

    whole, shown, traffic = variants.figures(()), (*FIGURES, variants.task.metric), variants.traffic()
    rows: list[dict[str, Any]] = []
    for block in track(blocks(variants.layers, evaluations)):
        alone = variants.figures([layer for layer in variants.layers if layer not in block])
        without = variants.figures(block)
        row: dict[str, Any] = {"layers": SEPARATOR.join(block), "count": len(block), "noise": noise_of(alone)}
        row["traffic"] = sum(traffic[layer] for layer in block)
        for prefix, figures in (("alone", alone), ("without", without)):
            row.update({f"{prefix}_{name}": figures[name] for name in shown if name in figures})
        rows.append(row)
    table = pd.DataFrame(rows).sort_values("noise", ascending=False, kind="stable", ignore_index=True)
    total = float(table["noise"].sum())
    table.insert(0, "rank", range(1, len(table) + 1))
    table.insert(3, "share_of_noise", table.pop("noise") / total if total > 0 else 0.0)
    table.insert(4, "share_of_traffic", table.pop("traffic") / sum(traffic.values()))
    return whole, table


def result(variants: Variants, whole: Figures, table: pd.DataFrame) -> SensitivityResult:
    """What an analysis found; `whole` are the figures with all layers in INT8."""
    shown = (variants.task.metric, AGREEMENT, "sqnr_db")
    return SensitivityResult(
        images=len(variants.images),
        evaluations=1 + 2 * len(table),
        layers=len(variants.layers),
        blocks=len(table),
        noise_of_all=noise_of(whole),
        share_of_noise_of_first=float(table["share_of_noise"].iloc[0]),
        int8={name: whole[name] for name in shown if name in whole},
    )


def noise_of(figures: Figures) -> float:
    """Quantization noise over signal, as power: 10^(-SQNR / 10); 0 where the outputs are FP32's."""
    return float(10 ** (-figures["sqnr_db"] / 10)) if "sqnr_db" in figures else 0.0


def ranked(table: pd.DataFrame, spare: Sparing = Sparing.layers) -> list[Block]:
    """The blocks of a ranking, first those that are worth most in float: by noise, or by noise for what they read and
    write (LAYER_ITSELF).
    """
    if spare is Sparing.traffic:
        price = table["share_of_traffic"] + LAYER_ITSELF * table["count"] / table["count"].sum()
        table = table.assign(worth=table["share_of_noise"] / price).sort_values("worth", ascending=False, kind="stable")
    return [tuple(str(layers).split(SEPARATOR)) for layers in table["layers"]]


def traffic_of(table: pd.DataFrame, layers: Collection[str]) -> float:
    """The share of all traffic that these layers have; a block's is shared evenly among its layers."""
    rows = zip(ranked(table), table["share_of_traffic"])
    return float(sum(share * sum(layer in layers for layer in block) / len(block) for block, share in rows))
