"""Swin (Z. Liu and others, arXiv 2103.14030), as in torchvision: shifted windows, their masks, relative positions."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


def relative_positions(window: int) -> Tensor:
    """For each pair of tokens of a window, which entry of the table of biases is theirs: [window**2, window**2]."""
    place = torch.stack(torch.meshgrid(torch.arange(window), torch.arange(window), indexing="ij")).flatten(1)
    distance = (place[:, :, None] - place[:, None, :]).permute(1, 2, 0) + window - 1
    return distance[..., 0] * (2 * window - 1) + distance[..., 1]


class WindowAttention(nn.Module):
    """Attention within windows of [N, H, W, C], cyclically shifted by `shift`."""

    def __init__(self, width: int, heads: int, window: int, shift: int) -> None:
        super().__init__()
        self.heads, self.window, self.shift = heads, window, shift
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.table = nn.Parameter(torch.randn((2 * window - 1) ** 2, heads) * 0.02)
        self.index = relative_positions(window).view(-1)

    def forward(self, x: Tensor) -> Tensor:
        """[N, H, W, C] to the same; H and W are multiples of the window."""
        batch, height, width, channels = x.shape
        size, shift = self.window, self.shift if min(height, width) > self.window else 0
        if shift:
            x = torch.roll(x, (-shift, -shift), (1, 2))
        rows, columns = height // size, width // size
        x = x.view(batch, rows, size, columns, size, channels).transpose(2, 3).reshape(-1, size * size, channels)
        split = self.qkv(x).reshape(-1, size * size, 3, self.heads, channels // self.heads).permute(2, 0, 3, 1, 4)
        query, key, value = split[0] * (channels // self.heads) ** -0.5, split[1], split[2]
        scores = query @ key.transpose(-2, -1)
        bias = self.table[self.index].view(size * size, size * size, self.heads)
        scores = scores + bias.permute(2, 0, 1)[None]
        if shift:
            mask = self.mask(height, width).to(scores)
            scores = scores.view(batch, -1, self.heads, size * size, size * size) + mask[None, :, None]
            scores = scores.view(-1, self.heads, size * size, size * size)
        x = self.proj((scores.softmax(-1) @ value).transpose(1, 2).reshape(-1, size * size, channels))
        x = x.view(batch, rows, columns, size, size, channels).transpose(2, 3).reshape(batch, height, width, channels)
        return torch.roll(x, (shift, shift), (1, 2)) if shift else x

    def mask(self, height: int, width: int) -> Tensor:
        """-100 between tokens that only the shift has brought into one window: [windows, window**2, window**2]."""
        size = self.window
        parts = torch.zeros(height, width)
        cuts = (slice(0, -size), slice(-size, -self.shift), slice(-self.shift, None))
        for number, (rows, columns) in enumerate((a, b) for a in cuts for b in cuts):
            parts[rows, columns] = number
        parts = parts.view(height // size, size, width // size, size).permute(0, 2, 1, 3).reshape(-1, size * size)
        return (parts[:, None] != parts[:, :, None]).float() * -100.0


class Block(nn.Module):
    """Window attention and two products over the channels, each behind a LayerNorm and beside a skip."""

    def __init__(self, width: int, heads: int, window: int, shift: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = WindowAttention(width, heads, window, shift)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        """[N, H, W, C] to the same."""
        x = x + self.attention(self.norm1(x))
        result: Tensor = x + self.mlp(self.norm2(x))
        return result


class Merging(nn.Module):
    """Four neighbours become one token of twice the width."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.reduction = nn.LayerNorm(4 * width), nn.Linear(4 * width, 2 * width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[N, H, W, C] to [N, H / 2, W / 2, 2 C]."""
        parts = [x[:, row::2, column::2] for column in (0, 1) for row in (0, 1)]
        result: Tensor = self.reduction(self.norm(torch.cat(parts, -1)))
        return result


class Swin(nn.Module):
    """Images [N, 3, H, W] to logits [N, classes]."""

    def __init__(
        self, classes: int, width: int = 48, depths: Sequence[int] = (2, 2, 2), heads: int = 3, window: int = 4
    ) -> None:
        super().__init__()
        self.patches, self.norm_in = nn.Conv2d(3, width, 4, 4), nn.LayerNorm(width)
        layers: list[nn.Module] = []
        for stage, depth in enumerate(depths):
            inner = width * 2**stage
            layers += [Merging(inner // 2)] if stage else []
            layers += [Block(inner, heads * 2**stage, window, window // 2 * (place % 2)) for place in range(depth)]
        self.layers = nn.Sequential(*layers)
        outer = width * 2 ** (len(depths) - 1)
        self.norm, self.head = nn.LayerNorm(outer), nn.Linear(outer, classes)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        y = self.norm(self.layers(self.norm_in(self.patches(x).permute(0, 2, 3, 1))))
        logits: Tensor = self.head(y.mean((1, 2)))
        return logits
