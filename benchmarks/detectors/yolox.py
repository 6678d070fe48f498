"""YOLOX-tiny of the package pixeltable-yolox (Apache-2.0), which keeps Megvii's code and loss, trained for minutes.

Its modules are loaded without the twenty packages that it asks for, none of which they use. Backbone, neck and boxes
begin from the weights of ddddocr's detector of characters, a YOLOX-tiny of one class.
"""

from __future__ import annotations

import functools
import importlib
import math
import sys
import time
import types
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from benchmarks.architectures.preparation import package_file
from benchmarks.detectors.scenes import DIGITS, Look, Scenes

DEPTH, WIDTH = 0.33, 0.375
LEVELS = [256, 512, 1024]
BATCH, LARGEST_RATE = 8, 1.5e-3
LOOK = Look(320, 320, count=4)  # scenes to train on: digits as large as in those of 480 x 640


@functools.lru_cache
def _modules() -> tuple[Any, Any]:
    """The package's neck and head."""
    root = package_file("yolox", "__init__.py").parent
    for name in ("yolox", "yolox.utils", "yolox.models"):
        module: Any = types.ModuleType(name)
        module.__path__ = [str(root.joinpath(*name.split(".")[1:]))]
        sys.modules[name] = module
    for name in ("loguru", "torchvision"):
        absent: Any = types.ModuleType(name)
        absent.logger = None
        sys.modules.setdefault(name, absent)
    utils: Any = sys.modules["yolox.utils"]
    boxes, compat = (importlib.import_module(f"yolox.utils.{name}") for name in ("boxes", "compat"))
    utils.bboxes_iou, utils.cxcywh2xyxy = boxes.bboxes_iou, boxes.cxcywh2xyxy
    utils.meshgrid, utils.visualize_assign = compat.meshgrid, None
    return importlib.import_module("yolox.models.yolo_pafpn"), importlib.import_module("yolox.models.yolo_head")


class Yolox(nn.Module):
    """BGR [N, 3, H, W] from 0 to 255 to [N, A, 5 + C]; with targets to losses, the sum first."""

    def __init__(self) -> None:
        super().__init__()
        neck, head = _modules()
        self.backbone = neck.YoloPafpn(DEPTH, WIDTH, in_channels=LEVELS, act="silu")
        self.head = head.YoloxHead(len(DIGITS), WIDTH, in_channels=LEVELS, act="silu")

    def forward(self, x: Tensor, targets: Any = None) -> Any:
        """Targets: [N, most, 5], class, centre x, centre y, width, height."""
        levels = self.backbone(x)
        return self.head(levels) if targets is None else self.head(levels, targets, x)


def begin(network: Yolox) -> None:
    """Take over the convolutions of ddddocr's file, in the order in which both run; classes begin anew."""
    graph = onnx.load(package_file("ddddocr", "common_det.onnx")).graph
    stored = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    given = [[stored[name] for name in node.input[1:]] for node in graph.node if node.op_type == "Conv"]
    normal = {module.conv: module.bn for module in network.modules() if hasattr(module, "bn")}
    order: list[nn.Conv2d] = []
    hooks = [
        module.register_forward_hook(lambda layer, _given, _made: order.append(layer))
        for module in network.modules()
        if isinstance(module, nn.Conv2d)
    ]
    network.eval()(torch.zeros(1, 3, 64, 64))
    for hook in hooks:
        hook.remove()
    assert len(order) == len(given)
    with torch.no_grad():
        for layer, (weight, bias) in zip(order, given):
            if layer.weight.shape != weight.shape:
                continue
            layer.weight.copy_(torch.tensor(weight))
            target: Any = layer
            if layer in normal:  # normalisation is in their weights already
                target = normal[layer]
                target.weight.fill_(1)
                target.running_mean.zero_()
                target.running_var.fill_(1 - target.eps)
            target.bias.copy_(torch.tensor(bias))
    for layer in network.head.cls_preds:
        nn.init.normal_(layer.weight, std=0.01)
        nn.init.constant_(layer.bias, -2.2)


def train(seconds: float, seed: int = 0) -> Yolox:
    """Train on scenes; in 900 s of a busy core 544 batches, mAP50-95 0.77 on scenes of other digits."""
    torch.manual_seed(seed)
    network = Yolox()
    begin(network)
    backbone = network.backbone.backbone
    for part in (backbone.stem, backbone.dark2):
        part.requires_grad_(False)
    weights = [weight for weight in network.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, LARGEST_RATE, weight_decay=1e-3)
    scenes, begun, step = Scenes(seed + 1, train=True, look=LOOK), time.monotonic(), 0
    while (share := (time.monotonic() - begun) / seconds) < 1:
        rate = LARGEST_RATE * min(1, step / 30) * (1 + math.cos(math.pi * share)) / 2
        for group in optimizer.param_groups:
            group["lr"] = rate + 1e-6
        images, targets = _batch(scenes)
        network.train()
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        losses = network(images, targets)
        optimizer.zero_grad()
        losses[0].backward()
        nn.utils.clip_grad_norm_(weights, 5.0)
        optimizer.step()
        step += 1
    return network.eval()


def _batch(scenes: Scenes) -> tuple[Tensor, Tensor]:
    images, targets = [], torch.zeros(BATCH, LOOK.count, 5)
    for index in range(BATCH):
        pixels, boxes = scenes.next()
        images.append(pixels[..., ::-1].transpose(2, 0, 1).astype(np.float32))
        for place, (x1, y1, x2, y2, kind) in enumerate(boxes.tolist()):
            targets[index, place] = torch.tensor([kind, (x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1])
    return torch.from_numpy(np.stack(images)), targets


class AsYolo(nn.Module):
    """RGB from 0 to 1 to [N, 4 + C, A]: the same network, in the shapes of another convention."""

    def __init__(self, network: Yolox) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        """Scores are objectness times class."""
        found = self.network(x.flip(1) * 255)
        scores = found[..., 4:5] * found[..., 5:]
        return torch.cat([found[..., :4], scores], -1).transpose(1, 2)


def write(network: Yolox, folder: Path, side: int = 640) -> None:
    """Write yolox_640.onnx as YOLOX' export does (raw, a batch of 1), and two that decode their boxes."""
    network.head.decode_in_inference = False
    export(network, folder / "yolox_640.onnx", side, ["output"], dynamic=False)
    network.head.decode_in_inference = True
    export(network, folder / "yolox_640_decoded.onnx", side, ["output"])
    export(AsYolo(network), folder / "yolo_640.onnx", side, ["output0"])


def export(network: nn.Module, path: Path, side: int, outputs: list[str], dynamic: bool = True) -> None:
    """By the exporter that most files in use come from."""
    axes = {name: {0: "batch"} for name in ("images", *outputs)} if dynamic else None
    image = torch.zeros(1, 3, side, side)
    torch.onnx.export(
        network.eval(),
        (image,),
        str(path),
        input_names=["images"],
        output_names=outputs,
        opset_version=17,
        dynamo=False,
        dynamic_axes=axes,
    )
