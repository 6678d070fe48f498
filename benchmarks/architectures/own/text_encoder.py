"""A small text encoder, as BERT: embeddings of tokens and places, post-norm attention under a mask, a class from the
first token. It says which of two kinds of words a sentence has more of.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Layer(nn.Module):
    """Attention, then two products over the channels, each with a skip and a LayerNorm behind it."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.output, self.norm1, self.norm2 = nn.Linear(width, width), nn.LayerNorm(width), nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def split(self, x: Tensor) -> Tensor:
        """[N, tokens, width] to [N, heads, tokens, width / heads]."""
        return x.view(x.shape[0], x.shape[1], self.heads, -1).transpose(1, 2)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """[N, tokens, width] and what is added to scores, [N, 1, 1, tokens], to [N, tokens, width]."""
        query, key, value = (self.split(layer(x)) for layer in (self.query, self.key, self.value))
        scores = query @ key.transpose(-2, -1) / query.shape[-1] ** 0.5 + mask
        heads = (scores.softmax(-1) @ value).transpose(1, 2).reshape(x.shape)
        x = self.norm1(x + self.output(heads))
        result: Tensor = self.norm2(x + self.mlp(x))
        return result


class TextEncoder(nn.Module):
    """input_ids and attention_mask, int64 [N, tokens], to logits [N, classes]."""

    def __init__(
        self, classes: int, words: int = 1000, places: int = 64, width: int = 64, depth: int = 2, heads: int = 4
    ) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(words, width), nn.Embedding(places, width)
        self.norm = nn.LayerNorm(width)
        self.layers = nn.ModuleList(Layer(width, heads) for _ in range(depth))
        self.pooler, self.head = nn.Linear(width, width), nn.Linear(width, classes)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """See the class."""
        place = torch.arange(input_ids.shape[1], device=input_ids.device)
        x = self.norm(self.words(input_ids) + self.places(place))
        hidden = (1.0 - attention_mask[:, None, None].to(x.dtype)) * torch.finfo(x.dtype).min
        for layer in self.layers:
            x = layer(x, hidden)
        logits: Tensor = self.head(torch.tanh(self.pooler(x[:, 0])))
        return logits
