"""A small detector like RT-DETR: the trained backbone and neck of the YOLOX, an encoder with attention over the coarse
level, the best of its tokens as queries, and a decoder with attention that refines them.
"""

from __future__ import annotations

import math
import time
from collections import deque
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.detectors.scenes import DIGITS, Look, Scenes
from benchmarks.detectors.yolox import Yolox

SIDE, CHANNELS, HEADS, QUERIES, CLASSES = 320, 96, 4, 60, len(DIGITS)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
LEVELS = ((16, 192, 0.1), (32, 384, 0.25))  # stride, channels of the neck, share of the image that a box begins with
BATCH, LARGEST_RATE = 8, 1e-3
Answer = tuple[Tensor, Tensor]  # logits [N, K, C] and boxes [N, K, 4], centre and size as shares of the image


class Attention(nn.Module):
    """Of several heads, as matrix products."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v, self.o = (nn.Linear(CHANNELS, CHANNELS) for _ in range(4))

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """[N, Q, D], [N, K, D] twice, to [N, Q, D]."""
        pairs = ((self.q, query), (self.k, key), (self.v, value))
        q, k, v = (layer(x).reshape(len(x), -1, HEADS, CHANNELS // HEADS).transpose(1, 2) for layer, x in pairs)
        weights = torch.softmax(q @ k.transpose(2, 3) / math.sqrt(CHANNELS // HEADS), -1)
        found: Tensor = self.o((weights @ v).transpose(1, 2).reshape(len(query), -1, CHANNELS))
        return found


class Layer(nn.Module):
    """Attention among tokens, in a decoder to the memory too, and two products."""

    def __init__(self, decodes: bool) -> None:
        super().__init__()
        self.attentions = nn.ModuleList([Attention() for _ in range(1 + decodes)])
        self.norms = nn.ModuleList([nn.LayerNorm(CHANNELS) for _ in range(2 + decodes)])
        self.products = nn.Sequential(nn.Linear(CHANNELS, 2 * CHANNELS), nn.GELU(), nn.Linear(2 * CHANNELS, CHANNELS))

    def forward(self, x: Tensor, place: Tensor, memory: Any = None, its_place: Any = None) -> Tensor:
        """[N, K, D] to the same."""
        x = self.norms[0](x + self.attentions[0](x + place, x + place, x))
        if memory is not None:
            x = self.norms[1](x + self.attentions[1](x + place, memory + its_place, memory))
        found: Tensor = self.norms[-1](x + self.products(x))
        return found


class Detr(nn.Module):
    """RGB [N, 3, 320, 320] by ImageNet's mean and std to boxes [N, Q, 4] and logits [N, Q, C]."""

    anchors: Tensor
    mean: Tensor
    std: Tensor

    def __init__(self, trained: Yolox) -> None:
        super().__init__()
        self.backbone = trained.backbone
        self.projections = nn.ModuleList([nn.Conv2d(channels, CHANNELS, 1) for _, channels, _ in LEVELS])
        self.place, self.encoder = nn.Linear(4, CHANNELS), Layer(decodes=False)
        self.decoders = nn.ModuleList([Layer(decodes=True) for _ in range(2)])
        self.scores = nn.ModuleList(
            [nn.Linear(CHANNELS, CLASSES) for _ in range(3)]
        )  # of the encoder, then each decoder
        self.boxes = nn.ModuleList(
            [nn.Sequential(nn.Linear(CHANNELS, CHANNELS), nn.ReLU(), nn.Linear(CHANNELS, 4)) for _ in range(3)]
        )
        for layer in self.scores:
            assert isinstance(layer, nn.Linear)
            nn.init.constant_(layer.bias, -4.0)
        self.register_buffer("anchors", torch.cat([_anchors(stride, share) for stride, _, share in LEVELS])[None])
        self.register_buffer("mean", torch.tensor(MEAN).reshape(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(STD).reshape(1, 3, 1, 1))

    def levels(self, x: Tensor) -> list[Tensor]:
        """What the neck makes of images, which it takes as BGR from 0 to 255."""
        made: list[Tensor] = list(self.backbone(((x * self.std + self.mean) * 255).flip(1)))[1:]
        return made

    def answers(self, levels: list[Tensor]) -> list[Answer]:
        """Of every token of the encoder, and of the queries after each decoder."""
        fine, coarse = (layer(x).flatten(2).transpose(1, 2) for layer, x in zip(self.projections, levels))
        place = self.place(_logit(self.anchors))
        memory = torch.cat([fine, self.encoder(coarse, place[:, fine.shape[1] :])], 1)
        scores, boxes = self.scores[0](memory), torch.sigmoid(self.boxes[0](memory) + _logit(self.anchors))
        found = [(scores, boxes)]
        best = scores.max(-1).values.topk(QUERIES, 1).indices[..., None]
        x = torch.gather(memory, 1, best.expand(-1, -1, CHANNELS))
        where = torch.gather(boxes, 1, best.expand(-1, -1, 4)).detach()
        for decoder, score, box in zip(self.decoders, list(self.scores)[1:], list(self.boxes)[1:]):
            x = decoder(x, self.place(_logit(where)), memory, place)
            where = torch.sigmoid(box(x) + _logit(where))
            found.append((score(x), where))
            where = where.detach()
        return found

    def forward(self, x: Tensor) -> Answer:
        """See the class."""
        scores, boxes = self.answers(self.levels(x))[-1]
        return boxes, scores


def _anchors(stride: int, share: float) -> Tensor:
    count = SIDE // stride
    y, x = torch.meshgrid(torch.arange(count), torch.arange(count), indexing="ij")
    sides = torch.full((count, count), share)
    return torch.stack([(x + 0.5) / count, (y + 0.5) / count, sides, sides], -1).reshape(-1, 4)


def _logit(share: Tensor) -> Tensor:
    inside = share.clamp(1e-4, 1 - 1e-4)
    return torch.log(inside / (1 - inside))


def train(trained: Yolox, seconds: float, seed: int = 0) -> Detr:
    """Train all but the backbone; features of a batch are used several times, as they cost most."""
    torch.manual_seed(seed)
    network = Detr(trained)
    network.backbone.requires_grad_(False)
    weights = [weight for weight in network.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, LARGEST_RATE, weight_decay=1e-4)
    scenes, random = Scenes(seed + 3, train=True, look=Look(SIDE, SIDE, count=4)), np.random.default_rng(seed)
    kept: deque[tuple[list[Tensor], list[Tensor]]] = deque(maxlen=120)
    begun, step = time.monotonic(), 0
    while (share := (time.monotonic() - begun) / seconds) < 1:
        rate = LARGEST_RATE * min(1, step / 50) * (1 + math.cos(math.pi * share)) / 2
        for group in optimizer.param_groups:
            group["lr"] = rate + 1e-6
        network.train()
        network.backbone.eval()
        if step % 3 == 0:
            images, truths = _batch(scenes)
            with torch.no_grad():
                kept.append(([level.clone() for level in network.levels(images)], truths))
        levels, truths = kept[-1] if step % 3 == 0 else kept[int(random.integers(len(kept)))]
        encoded, *decoded = network.answers(levels)
        loss = _loss(encoded, truths, 4) + sum(_loss(answer, truths, 1) for answer in decoded)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        step += 1
    return network.eval()


def _batch(scenes: Scenes) -> tuple[Tensor, list[Tensor]]:
    images, truths = [], []
    for _ in range(BATCH):
        pixels, boxes = scenes.next()
        images.append(((pixels / 255 - MEAN) / STD).transpose(2, 0, 1).astype(np.float32))
        low, high = boxes[:, :2] / SIDE, boxes[:, 2:4] / SIDE
        truths.append(torch.tensor(np.column_stack([boxes[:, 4], (low + high) / 2, high - low]), dtype=torch.float32))
    return torch.from_numpy(np.stack(images)), truths


def _loss(answer: Answer, truths: list[Tensor], each: int) -> Tensor:
    """By the best assignment of `each` tokens to a truth."""
    from scipy.optimize import linear_sum_assignment

    logits, boxes = answer
    wanted, total = torch.zeros_like(logits), torch.zeros(())
    for index, truth in enumerate(truths):
        if not len(truth):
            continue
        kinds = truth[:, 0].long()
        with torch.no_grad():
            _, like = _overlaps(boxes[index][:, None], truth[None, :, 1:])
            cost = -2 * logits[index].sigmoid()[:, kinds] - 2 * like + 5 * torch.cdist(boxes[index], truth[:, 1:], 1)
        rows, columns = linear_sum_assignment(cost.repeat(1, each).numpy())
        own, its = torch.as_tensor(rows), torch.as_tensor(columns % len(truth))
        overlap, like = _overlaps(boxes[index][own], truth[its][:, 1:])
        total = total + 2 * (1 - like).sum() + 5 * (boxes[index][own] - truth[its][:, 1:]).abs().sum()
        wanted[index, own, kinds[its]] = overlap.detach().clamp(min=0.05)
    weight = torch.where(wanted > 0, wanted, 0.75 * logits.sigmoid().detach() ** 2)
    total = total + (functional.binary_cross_entropy_with_logits(logits, wanted, reduction="none") * weight).sum()
    return total / each / max(sum(map(len, truths)), 1)


def _overlaps(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """IoU and generalised IoU."""
    (low, high), (its_low, its_high) = (
        (box[..., :2] - box[..., 2:] / 2, box[..., :2] + box[..., 2:] / 2) for box in (first, second)
    )
    both = (torch.minimum(high, its_high) - torch.maximum(low, its_low)).clamp(min=0).prod(-1)
    union = first[..., 2:].prod(-1) + second[..., 2:].prod(-1) - both
    hull = (torch.maximum(high, its_high) - torch.minimum(low, its_low)).prod(-1).clamp(min=1e-9)
    overlap = both / union.clamp(min=1e-9)
    return overlap, overlap - (hull - union) / hull
