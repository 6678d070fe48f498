"""What an engine's outputs are worth, one row an image: sums over images come later, so memory grows by a row and not
by an image.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Optional

import numpy as np
import numpy.typing as npt

from enginewright.statistics import Estimate, Floats, resampled

if TYPE_CHECKING:
    import pandas as pd

TOP = 5
SILENCE = 1e-34  # the power of a signal of zeros to that of the noise, so that noise upon nothing has a number

Outputs = npt.NDArray[Any]  # float [n, classes], logits
Labels = npt.NDArray[np.int64]  # [n], indices of classes


def log_softmax(outputs: Outputs) -> npt.NDArray[np.float64]:
    """Log of the softmax over the last axis in float64, shifted by the maximum so that nothing overflows. [n,
    classes].
    """
    from scipy.special import log_softmax as scipy_log_softmax

    shifted: npt.NDArray[np.float64] = scipy_log_softmax(np.asarray(outputs, np.float64), axis=1)
    return shifted


def ranks(outputs: Outputs, labels: Labels) -> npt.NDArray[np.int64]:
    """Place of each label among its image's outputs, 0 for the first; of equal outputs the lower index goes first, as
    in argmax. [n].
    """
    own = np.take_along_axis(outputs, labels[:, None], axis=1)
    before = np.arange(outputs.shape[1])[None, :] < labels[:, None]
    return np.asarray(((outputs > own) | ((outputs == own) & before)).sum(axis=1), np.int64)


def per_image(outputs: Outputs, labels: Optional[Labels], reference: Optional[Outputs]) -> pd.DataFrame:
    """Judge a batch of finite outputs.

    Args:
        outputs: [n, classes] logits of the engine under test.
        labels: [n], or None when there are none: then the columns `correct`, `in_top5` and `loss` are absent.
        reference: [n, classes] logits of FP32 for the same images; without it the columns after `loss` are absent.

    Returns:
        A row an image: `prediction` (argmax); `correct` and `in_top5` (bool); `loss` (cross-entropy in nats); `agrees`
            (argmax equals that of the reference); `signal` and `noise` (sums of squares of the reference and of the
            difference); `cosine`; `kl_divergence` (of the reference's softmax from the engine's, in nats).
    """
    import pandas as pd

    narrow = np.min_scalar_type(outputs.shape[1] - 1)  # a set may have millions of rows
    columns: dict[str, npt.NDArray[Any]] = {"prediction": outputs.argmax(axis=1).astype(narrow)}
    log_probability = log_softmax(outputs)
    if labels is not None:
        place = ranks(outputs, labels)
        columns["correct"] = place == 0
        columns["in_top5"] = place < TOP
        columns["loss"] = -np.take_along_axis(log_probability, labels[:, None], axis=1)[:, 0]
    if reference is not None:
        want, have = np.asarray(reference, np.float64), np.asarray(outputs, np.float64)
        reference_log_probability = log_softmax(want)
        columns["agrees"] = columns["prediction"] == want.argmax(axis=1)
        columns["signal"] = np.square(want).sum(axis=1)
        columns["noise"] = np.square(want - have).sum(axis=1)
        columns["cosine"] = _cosine(want, have)
        difference = reference_log_probability - log_probability
        columns["kl_divergence"] = np.maximum(
            (np.exp(reference_log_probability) * difference).sum(axis=1), 0.0
        )  # rounding may leave -1e-17
    return pd.DataFrame(columns)


def noise_power(figures: Mapping[str, Any]) -> float:
    """Noise over signal, as power: 10^(-SQNR / 10); 0 where the outputs are FP32's."""
    return float(10 ** (-figures["sqnr_db"] / 10)) if "sqnr_db" in figures else 0.0


def noise_metrics(rows: pd.DataFrame) -> dict[str, Any]:
    """The noise that an engine adds to FP32's outputs, of rows with `signal` and `noise` (sums of squares of an image).

    SQNR (signal to quantization noise ratio) is 10 log10(sum of signal / sum of noise) in decibel; equal outputs have
    no noise, so no SQNR either, and say so by `identical_to_fp32`.
    """
    signal, noise = float(rows["signal"].sum()), float(rows["noise"].sum())
    ratio = {"sqnr_db": float(10 * np.log10(signal / noise))} if noise > 0 and signal > 0 else {}
    return {"identical_to_fp32": noise == 0, **ratio}


def noise_estimate(signal: npt.NDArray[Any], noise: npt.NDArray[Any]) -> Optional[Estimate]:
    """The SQNR in dB of images with these sums of squares, [n] each; None where nothing differs from FP32. Where FP32
    answers zeros, it is very low.
    """
    if not noise.any():
        return None
    return resampled(lambda times: decibel(times @ signal, times @ noise), len(noise), -np.inf, np.inf)


def decibel(signal: Floats, noise: Floats) -> Floats:
    """The SQNR of sums of squares, [...] each; infinity without noise, NaN without either."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(10 * np.log10(np.maximum(signal, SILENCE * noise) / noise))


def summary(rows: pd.DataFrame, classes: int) -> dict[str, Any]:
    """Reduce the rows of `per_image` over all images to metrics; what the rows lack is absent."""
    found: dict[str, Any] = {}
    if "correct" in rows:
        found["top1"] = float(rows["correct"].mean())
        if classes > TOP:  # of five classes or fewer, the label is always among the first five
            found["top5"] = float(rows["in_top5"].mean())
        found["cross_entropy_loss"] = float(rows["loss"].mean())
    if "agrees" in rows:
        found.update({"agreement": float(rows["agrees"].mean()), **noise_metrics(rows)})
        found["cosine"] = float(rows["cosine"].mean())
        found["kl_divergence_mean"] = float(rows["kl_divergence"].mean())
    return found


def _cosine(first: npt.NDArray[np.float64], second: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Cosine of the angle between rows; 1 where both are all zero, 0 where one is."""
    lengths = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    both_zero = ~first.any(axis=1) & ~second.any(axis=1)
    cosine = np.divide((first * second).sum(axis=1), lengths, out=np.zeros(len(first)), where=lengths > 0)
    return np.where(both_zero, 1.0, np.clip(cosine, -1.0, 1.0))
