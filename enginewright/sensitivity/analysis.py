"""What each layer costs when it runs in INT8: alone among float layers, and as the only float layer among INT8 ones.

The first says how much noise a layer adds, the second how much of it the whole model would be spared. As Polygraphy's
and TensorRT's debugging guides do by hand; H. Wu et al., "Integer Quantization for Deep Learning Inference" (2020),
section 5, calls it partial quantization.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Optional

from enginewright.config import Sparing
from enginewright.graph import stored
from enginewright.graph.decoding import layers_of
from enginewright.results.layers import DecodingResult, SensitivityResult
from enginewright.sensitivity.budget import Budget
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
    variants: Variants,
    budget: Budget,
    track: Callable[[Sequence[Block]], Iterable[Block]],
    say: Callable[[str], None] = lambda _: None,
) -> tuple[Figures, pd.DataFrame]:
    """Measure every block of layers in both ways and rank them, the costliest first.

    Args:
        variants: of the model.
        budget: the most models that are run, FP32 apart, and the time that they may take.
        track: passes the blocks on and shows how far it is.
        say: is told how long it will take before it does.

    Returns:
        The figures of all layers in INT8, and a row a block: rank, layers (names joined by SEPARATOR), count,
            share_of_noise (of the sum over blocks of the noise that each adds alone), share_of_traffic (of the values
            that all layers read and write for an image), and for each of FIGURES and the task's that exists `alone_`
            (only this block in INT8) and `without_` (only this block in float).
    """
    import pandas as pd

    start = budget.clock()
    whole, traffic = variants.figures(()), variants.traffic()
    shown = dict.fromkeys((*FIGURES, variants.task.without_targets, variants.task.metric))
    each = max(budget.clock() - start, variants.seconds)
    parts = blocks(variants.layers, budget.fitting(each))
    say(budget.plan(2 * len(parts), len(variants.images), each))
    traffic = {layer: values for layer, values in traffic.items() if layer not in variants.float_decoding}
    rows: list[dict[str, Any]] = []
    for block in track(parts):
        alone = variants.figures([layer for layer in variants.layers if layer not in block])
        without = variants.figures(block)
        row: dict[str, Any] = {"layers": SEPARATOR.join(block), "count": len(block)}
        row["noise"] = variants.task.noise_of(alone)
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


def result(variants: Variants, whole: Figures, table: pd.DataFrame, budget: Budget) -> SensitivityResult:
    """What an analysis found; `whole` are the figures with all layers in INT8."""
    asked = blocks(variants.layers, budget.evaluations)
    return SensitivityResult(
        images=len(variants.images),
        evaluations=1 + 2 * len(table),
        layers=len(variants.layers),
        blocks=len(table),
        noise_of_all=variants.task.noise_of(whole),
        share_of_noise_of_first=float(table["share_of_noise"].iloc[0]),
        int8=_shown(variants, whole),
        decoding=_decoding(variants),
        cut_by_minutes=budget.minutes if len(table) < len(asked) else None,
    )


def _shown(variants: Variants, figures: Figures) -> dict[str, float]:
    task = variants.task
    names = dict.fromkeys((task.metric, task.without_targets, AGREEMENT, "sqnr_db"))
    return {name: figures[name] for name in names if name in figures}


def _decoding(variants: Variants) -> Optional[DecodingResult]:
    """What the rule that keeps the decoding in float gains and costs."""
    nodes = variants.float_decoding
    if not nodes:
        return None
    traffic = variants.traffic()
    share = sum(traffic.get(node, 0) for node in nodes) / sum(traffic.values())
    layers = len(layers_of(stored.read(variants.path), nodes))
    return DecodingResult(len(nodes), layers, share, _shown(variants, variants.with_decoding()))


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
