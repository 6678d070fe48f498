"""Figures of one engine against hand-made and independent computation."""

from __future__ import annotations

import json
import math

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, strategies as st

from enginewright.tasks.metrics import per_image, ranks, summary

RANDOM = np.random.default_rng(0)
REFERENCE = RANDOM.normal(size=(40, 12)).astype(np.float32)
OUTPUTS = (REFERENCE + 0.05 * RANDOM.normal(size=(40, 12))).astype(np.float32)
LABELS = RANDOM.integers(0, 12, 40)


def test_loss_and_divergence_equal_those_of_pytorch() -> None:
    rows = per_image(OUTPUTS, LABELS, REFERENCE)
    outputs, reference = torch.from_numpy(OUTPUTS).double(), torch.from_numpy(REFERENCE).double()
    loss = torch.nn.functional.cross_entropy(outputs, torch.from_numpy(LABELS), reduction="none")
    divergence = torch.nn.functional.kl_div(
        outputs.log_softmax(1), reference.log_softmax(1), reduction="none", log_target=True
    ).sum(1)
    cosine = torch.nn.functional.cosine_similarity(outputs, reference)
    np.testing.assert_allclose(rows["loss"], loss, rtol=1e-12)
    np.testing.assert_allclose(rows["kl_divergence"], divergence, rtol=1e-6, atol=1e-15)
    np.testing.assert_allclose(rows["cosine"], cosine, rtol=1e-12)


def test_top1_and_top5_equal_those_of_a_full_sort() -> None:
    found = summary(per_image(OUTPUTS, LABELS, REFERENCE), 12)
    order = np.argsort(-OUTPUTS, axis=1, kind="stable")
    assert found["top1"] == pytest.approx((order[:, 0] == LABELS).mean())
    assert found["top5"] == pytest.approx((order[:, :5] == LABELS[:, None]).any(axis=1).mean())
    assert found["agreement"] == pytest.approx((order[:, 0] == REFERENCE.argmax(axis=1)).mean())


def test_sqnr_of_noise_of_a_known_power() -> None:
    signal = np.full((10, 4), 10.0, np.float32)
    found = summary(per_image(signal + np.float32(0.1), None, signal), 4)
    assert found["sqnr_db"] == pytest.approx(40.0, abs=1e-4)  # a hundredth of the amplitude
    assert "top1" not in found


def test_equal_outputs_have_no_sqnr_and_say_so() -> None:
    found = summary(per_image(REFERENCE, LABELS, REFERENCE), 12)
    assert found["identical_to_fp32"] is True
    assert "sqnr_db" not in found
    json.dumps(found, allow_nan=False)


def test_top5_of_few_classes_is_left_out() -> None:
    assert "top5" not in summary(per_image(OUTPUTS[:, :5], np.zeros(40, np.int64), None), 5)


@given(st.lists(st.lists(st.integers(-3, 3), min_size=4, max_size=4), min_size=1, max_size=8), st.integers(0, 3))
def test_first_rank_is_argmax_even_among_ties(values: list[list[int]], label: int) -> None:
    outputs = np.array(values, np.float32)
    labels = np.full(len(outputs), label)
    np.testing.assert_array_equal(ranks(outputs, labels) == 0, outputs.argmax(axis=1) == label)


@pytest.mark.parametrize("size", [1, 7, 40], ids=lambda size: f"batch {size}")
def test_batches_add_up_to_the_whole(size: int) -> None:
    pieces = [
        per_image(OUTPUTS[i : i + size], LABELS[i : i + size], REFERENCE[i : i + size]) for i in range(0, 40, size)
    ]
    assert summary(pd.concat(pieces), 12) == pytest.approx(summary(per_image(OUTPUTS, LABELS, REFERENCE), 12))


def test_huge_logits_do_not_overflow() -> None:
    rows = per_image(np.array([[1e4, -1e4]], np.float32), np.array([1]), np.array([[0.0, 0.0]], np.float32))
    assert math.isfinite(rows["loss"][0])
    assert rows["cosine"][0] == 0.0
