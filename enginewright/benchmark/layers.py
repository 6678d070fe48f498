"""Where the time of each engine goes, layer by layer, and precisions side by side: where INT8 won, and where it fell
back.

Engines of different precisions fuse the same ONNX nodes differently. So layers are compared in blocks: the smallest
sets of ONNX nodes that no layer of any precision reaches across. Layers that stand for no node of the ONNX (reformats,
copies) are blocks of their own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Optional

import numpy as np

from enginewright.benchmark.int8_speed import SLOWER, slower
from enginewright.config import QUANTIZED, Precision, ProfileLayers
from enginewright.data import Feeding
from enginewright.errors import DataError
from enginewright.results.layers import EngineLayers, ProfileResult
from enginewright.results.shape import SampleShape
from enginewright.runtimes.base import LayerTime, TimedEngine
from enginewright.runtimes.built import SealedEngine

if TYPE_CHECKING:
    import pandas as pd

TOP = 10
JOINT = " + "  # between the names of ONNX nodes
MANY = 4
WIDTH = 48  # of names in printed tables and plots
LAYERS, SLOWEST, SIDE_BY_SIDE = "layers.csv", "top.csv", "side_by_side.csv"
Profiles = Mapping[str, Sequence[LayerTime]]  # precision of the engine -> its layers


def profile(engine: TimedEngine, feeding: Feeding, batch_size: int, runs: int) -> list[LayerTime]:
    """Profile an engine on one batch of real images of the commonest shape, repeated where there are too few.

    Raises:
        DataError: there is no image.
    """
    if len(feeding) == 0:
        raise DataError(
            "the validation set holds no image to profile with; raise data.validation_images, or check data.root"
        )
    rows, chosen = min(batch_size, engine.interface.rows(engine.axes)), feeding.images.commonest()
    return engine.layer_times(feeding.rows(chosen[np.arange(rows) % len(chosen)], engine.interface.inputs), runs)


def profile_engines(
    engines: Mapping[Precision, SealedEngine], feeding: Feeding, settings: ProfileLayers
) -> tuple[Profiles, int, Optional[SampleShape]]:
    """Profile one engine after the other on the same images.

    Returns:
        The layers of each; the batch size: that of the settings, or the largest that every engine takes; and the shape.
    """
    shape: Optional[SampleShape] = None
    profiles, batch = {}, settings.batch_size
    for precision, sealed in engines.items():
        with sealed.load() as engine:
            batch = min(batch, engine.interface.rows(engine.axes))
            profiles[precision.value] = profile(engine, feeding, batch, settings.runs)
            shape = feeding.shape(engine.interface.inputs)
    return profiles, batch, shape


def tables(profiles: Profiles) -> dict[str, pd.DataFrame]:
    """File name -> table: all layers, the slowest of each engine, and precisions side by side."""
    table = layer_table(profiles)
    return {LAYERS: table, SLOWEST: top_layers(table), SIDE_BY_SIDE: side_by_side(profiles)}


def layer_table(profiles: Profiles) -> pd.DataFrame:
    """All layers: precision (of the engine), position, layer, ms, share (of the engine's time), layer_precision,
    operations.
    """
    import pandas as pd

    rows = []
    for precision, layers in profiles.items():
        total = sum(layer.milliseconds for layer in layers)
        for position, layer in enumerate(layers):
            share = layer.milliseconds / total if total else 0.0
            rows.append(
                (
                    precision,
                    position,
                    layer.name,
                    layer.milliseconds,
                    share,
                    layer.precision,
                    JOINT.join(layer.operations),
                )
            )
    return pd.DataFrame(
        rows, columns=["precision", "position", "layer", "ms", "share", "layer_precision", "operations"]
    )


def top_layers(table: pd.DataFrame, count: int = TOP) -> pd.DataFrame:
    """The `count` slowest layers of each engine, slowest first, numbered by `rank`; `label` is a short name of the
    layer.
    """
    import pandas as pd

    engines = pd.Categorical(table["precision"], categories=table["precision"].unique(), ordered=True)
    ordered = table.assign(engine=engines).sort_values(["engine", "ms"], ascending=[True, False], kind="stable")
    top = ordered.groupby("engine", sort=False, observed=True).head(count).drop(columns=["engine", "position"])
    top.insert(1, "rank", top.groupby("precision").cumcount() + 1)
    top["label"] = [
        label(operations.split(JOINT) if operations else [name])
        for name, operations in zip(top["layer"], top["operations"])
    ]
    return top.reset_index(drop=True)


def label(names: Sequence[str], width: int = WIDTH) -> str:
    """ONNX nodes for people: the first in full, of the others the last part; cut from the left, as the ends tell names
    apart.

    >>> label(["/stages/stages.0/conv2/Conv", "/stages/stages.0/Add"])
    'stages/stages.0/conv2/Conv + Add'
    """
    first, *others = (name.strip("/") for name in names)
    ends = [name.rsplit("/", 1)[-1] for name in others] if len(others) < MANY else [f"{len(others)} more"]
    return shortened(JOINT.join([first, *ends]), width)


def shortened(name: str, width: int = WIDTH) -> str:
    """The last `width` characters, with an ellipsis where something is missing."""
    return name if len(name) <= width else "…" + name[len(name) - width + 1 :]


def side_by_side(profiles: Profiles) -> pd.DataFrame:
    """Blocks of ONNX nodes, slowest first: ms and precision under each engine, INT8's gain, and what became of INT8
    there.

    `verdict`: "won" (INT8 runs and is faster than the best other precision), "slower" (INT8 runs and costs more),
    "even", "fell back" (the INT8 engine computes it in another precision), "only int8" or "not in int8" (reformats and
    fusions that the other engines lack or have alone).
    """
    import pandas as pd

    blocks = _blocks(profiles)
    rows: dict[str, dict[str, Any]] = {}
    for precision, layers in profiles.items():
        for layer in layers:
            row = rows.setdefault(blocks[_nodes(layer)[0]], {})
            row[f"{precision}_ms"] = row.get(f"{precision}_ms", 0.0) + layer.milliseconds
            kinds = row.setdefault(f"{precision}_precision", [])
            if layer.precision and layer.precision not in kinds:
                kinds.append(layer.precision)
    for row in rows.values():
        row["verdict"], row["gain"] = _verdict(row)
        for precision in profiles:
            row[f"{precision}_precision"] = " + ".join(sorted(row.get(f"{precision}_precision", [])))
    columns = [
        "block",
        *(f"{precision}_{what}" for precision in profiles for what in ("ms", "precision")),
        "gain",
        "verdict",
    ]
    table = pd.DataFrame([{"block": block, **row} for block, row in rows.items()], columns=columns)
    slowest = [f"{precision}_ms" for precision in profiles]
    return (
        table.assign(order=table[slowest].max(axis=1))
        .sort_values("order", ascending=False, kind="stable")
        .drop(columns="order")
        .reset_index(drop=True)
    )


def summary(
    profiles: Profiles, comparison: pd.DataFrame, batch: int, shape: Optional[SampleShape] = None
) -> ProfileResult:
    """Of each engine: layers, their time together, the share of time in each precision; of INT8 what became of its
    blocks in `comparison`, a table of `side_by_side`.
    """
    blocks = None
    if Precision.int8.value in profiles:
        counted = comparison["verdict"].value_counts()
        blocks = {str(name).replace(" ", "_"): int(count) for name, count in sorted(counted.items())}
    engines = {Precision(precision): _engine(layers) for precision, layers in profiles.items()}
    return ProfileResult(batch, engines, blocks, tuple(findings(profiles, batch)), shape)


def _engine(layers: Sequence[LayerTime]) -> EngineLayers:
    total = sum(layer.milliseconds for layer in layers)
    shares: dict[str, float] = {}
    for layer in layers:
        kind = (layer.precision or "other").lower()
        shares[kind] = shares.get(kind, 0.0) + (layer.milliseconds / total if total else 0.0)
    slowest = max(layers, key=lambda layer: layer.milliseconds, default=None)
    return EngineLayers(
        len(layers),
        total,
        dict(sorted(shares.items())),
        label(_nodes(slowest)) if slowest else "",
        slowest.milliseconds if slowest else 0.0,
    )


def findings(profiles: Profiles, batch: int) -> list[str]:
    """Which INT8 engines take more time than FP16's, all layers together, a sentence each."""
    totals = {precision: sum(layer.milliseconds for layer in layers) for precision, layers in profiles.items()}
    fp16, where = totals.get(Precision.fp16.value, 0.0), f"all layers at batch {batch}, under the profiler"
    said = [slower(precision.value, totals.get(precision.value, 0.0), fp16, "ms", where) for precision in QUANTIZED]
    return [finding for finding in said if finding]


def _nodes(layer: LayerTime) -> tuple[str, ...]:
    return layer.operations or (layer.name,)


def _blocks(profiles: Profiles) -> dict[str, str]:
    """Node -> name of its block (the first node of it that any engine runs): union-find over the nodes that a layer
    fuses.
    """
    parent: dict[str, str] = {}

    def root(node: str) -> str:
        while parent[node] != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    for layers in profiles.values():
        for layer in layers:
            nodes = _nodes(layer)
            for node in nodes:
                parent.setdefault(node, node)
            for node in nodes[1:]:
                parent[root(node)] = root(nodes[0])
    return {node: root(node) for node in parent}


def _verdict(row: Mapping[str, Any]) -> tuple[str, float]:
    """What became of INT8 in a block, and the best other precision's time over INT8's (above 1: INT8 is faster; NaN
    where one is missing).
    """
    others = [row[key] for key in ("fp16_ms", "fp32_ms") if key in row]
    if "int8_ms" not in row:
        return "not in int8", float("nan")
    if not others:
        return "only int8", float("nan")
    gain = min(others) / row["int8_ms"] if row["int8_ms"] else float("nan")
    if "INT8" not in row.get("int8_precision", []):
        return "fell back", gain
    if gain > SLOWER:
        return "won", gain
    return ("slower" if gain < 1 / SLOWER else "even"), gain
