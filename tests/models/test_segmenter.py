"""The reference model for segmentation."""

from __future__ import annotations

import pytest
import torch

from enginewright.models.segmenter import Segmenter


@pytest.mark.parametrize("size", [(28, 28), (16, 40)], ids=str)
def test_segmenter_answers_every_pixel(size: tuple[int, int]) -> None:
    assert Segmenter(in_channels=3, classes=7)(torch.zeros(2, 3, *size)).shape == (2, 7, *size)
