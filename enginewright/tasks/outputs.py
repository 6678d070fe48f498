"""Any numbers: every output of an engine against FP32's, by the cosine between them and by SQNR. It needs no targets,
and knows no classes.

Both are taken over the whole set. The cosine is taken about FP32's mean over the images: what all images have in
common, such as the anchors of a detector or the offset of a regression, would make every engine look alike, also one
that answers the same whatever it sees.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Optional

import numpy as np
import numpy.typing as npt

from enginewright.config import Model
from enginewright.data import ImageSet
from enginewright.data.columns import Column
from enginewright.data.geometry import Geometry
from enginewright.feeds import Array
from enginewright.interface import Interface
from enginewright.statistics import Estimate, Lowest, Resampled, resampled
from enginewright.tasks.base import (
    FP32,
    Evaluation,
    Figures,
    Outputs,
    Shown,
    Size,
    Tables,
    Targets,
    Task,
    require_outputs,
    together,
)
from enginewright.tasks.metrics import decibel, noise_estimate, noise_power

if TYPE_CHECKING:
    import pandas as pd

CONSTANT = 1e-9  # of an output's power: varies less from image to image, and it is rounding
SUMS = (
    "signal",
    "noise",
    "varying",
    "own",
    "product",
)  # of an image and output, each a column behind which the output's name stands
WORST_IMAGES = 100  # of each engine in changed.csv

Floats = npt.NDArray[np.float64]


class AllOutputs:
    """Outputs are structured arrays, [n] with a field for each output, [...]; there are no targets."""

    metric = "lowest_cosine"
    title = "cosine of the worst output"
    name = "outputs"
    judges = "[N, ...]"
    class_metric = "cosine"
    without_targets = "lowest_cosine"
    without_targets_title = title
    float_decoding = False
    every_output = True
    shown: Sequence[Shown] = (
        Shown("lowest_cosine", "cosine of the worst output", ".6f"),
        Shown("sqnr_db", "SQNR of the worst output (dB)", ".1f"),
    )

    def configured(self, model: Model) -> Task:
        """It has no settings."""
        del model
        return self

    def choose(self, interface: Interface, named: Optional[str]) -> tuple[str, ...]:
        """All outputs, whatever is named."""
        del named
        return tuple(spec.name for spec in interface.outputs)

    def takes_for(self, judged: Interface) -> str:
        """There is one way to read them."""
        del judged
        return ""

    def class_count(self, judged: Interface) -> Optional[int]:
        """Numbers have no classes."""
        del judged
        return None

    def check(self, interface: Interface, of: str) -> None:
        """See `base.require_outputs`."""
        require_outputs(self, interface, of)

    def decode(self, outputs: Mapping[str, Array], geometry: Sequence[Geometry], size: Optional[Size]) -> Outputs:
        """All outputs together, [n], a field for each."""
        del geometry, size
        return together(outputs)

    def targets(self, images: ImageSet) -> Optional[Column]:
        """None: labels say nothing of numbers."""
        del images
        return None

    def check_batch(self, outputs: Outputs, targets: Optional[Targets], names: Sequence[str]) -> None:
        """There are no targets to check."""
        del outputs, targets, names

    def baseline(self, targets: Column) -> Optional[float]:
        """There are no targets to guess."""
        del targets
        return None

    def answers_alike(self, fp32: Evaluation) -> bool:
        """Whether every output is the same for all images, to the last bit."""
        return fp32.alike

    def score(
        self, outputs: Outputs, targets: Optional[Targets], reference: Optional[Outputs], mean: Optional[Outputs] = None
    ) -> pd.DataFrame:
        """Judge a batch of finite outputs.

        Args:
            outputs: [n], a field for each output of the engine under test.
            targets: None.
            reference: the same of FP32 for the same images; without it only `worst` is there, 1.
            mean: FP32's over all images, [1].

        Returns:
            A row an image: `worst` (the lowest cosine of its outputs), and for each output, behind its name: `signal`
                and `noise` (sums of squares of the reference and of the difference); `varying` and `own` (of the
                reference's and of the engine's distance from the mean), `product` (of both).
        """
        import pandas as pd

        del targets
        if reference is None or mean is None:
            return pd.DataFrame({"worst": np.ones(len(outputs))})
        columns: dict[str, Floats] = {}
        cosines = []
        for name in outputs.dtype.names or ():
            middle = np.asarray(mean[name], np.float64).reshape(-1)
            sums = np.array([_terms(want, have, middle) for want, have in zip(reference[name], outputs[name])])
            columns.update({f"{column} {name}": sums[:, index] for index, column in enumerate(SUMS)})
            cosines.append(_alike(sums))
        return pd.DataFrame({"worst": np.min(cosines, axis=0), **columns})

    def summary(self, rows: pd.DataFrame, classes: int) -> dict[str, Any]:
        """Cosine and SQNR of every output, and of the worst one in each."""
        del classes
        each: dict[str, dict[str, Any]] = {}
        for name in _names(rows):
            sums = _sums(rows, name).sum(axis=0)
            each[name] = {
                "cosine": float(_alike(sums, _constant(sums))),
                **({"sqnr_db": float(decibel(sums[0], sums[1]))} if sums[1] > 0 else {}),
            }
        if not each:
            return {}
        noises = [found["sqnr_db"] for found in each.values() if "sqnr_db" in found]
        found = {
            "lowest_cosine": min(found["cosine"] for found in each.values()),
            "identical_to_fp32": not noises,
            "outputs": each,
        }
        return {**found, "sqnr_db": min(noises)} if noises else found

    def compare(self, rows: pd.DataFrame, fp32: pd.DataFrame, confidence: float) -> dict[str, Any]:
        """The interval of the worst output's cosine, by the bootstrap over images."""
        if not _names(rows):
            return {}
        low, high = self.estimate(rows, fp32, 0.0).interval(confidence)
        return {"lowest_cosine_low": low, "lowest_cosine_high": high}

    def estimate(self, rows: pd.DataFrame, fp32: pd.DataFrame, ratio: float) -> Estimate:
        """By the bootstrap over images; of several outputs all must hold, so each limit is the lowest of theirs."""
        del fp32
        names = _names(rows)
        return (
            Lowest([_of(rows, name, ratio) for name in names])
            if names
            else Resampled(1 - ratio, len(rows), np.full(1, 1 - ratio), -1 - ratio, 1 - ratio)
        )

    def noise(self, rows: pd.DataFrame) -> Optional[Estimate]:
        """The lowest SQNR of those outputs that differ from FP32's."""
        found = [
            noise_estimate(rows[f"signal {name}"].to_numpy(), rows[f"noise {name}"].to_numpy()) for name in _names(rows)
        ]
        differing = [estimate for estimate in found if estimate is not None]
        return Lowest(differing) if differing else None

    def noise_of(self, figures: Figures) -> float:
        """See `metrics.noise_power`."""
        return noise_power(figures)

    def tables(self, images: ImageSet, rows: Mapping[str, pd.DataFrame], classes: int) -> Tables:
        """Cosine of each output, the images that an engine answers worst, no confusion, the worst cosine of each
        image.
        """
        import pandas as pd

        del classes
        others = {precision: frame for precision, frame in rows.items() if precision != FP32}
        names = _names(next(iter(others.values()))) if others else []
        columns = {
            f"cosine_{precision}": [
                float(_alike(total, _constant(total))) for total in (_sums(frame, name).sum(axis=0) for name in names)
            ]
            for precision, frame in others.items()
        }
        outputs = pd.DataFrame({"class": names, **columns})
        changed = []
        for precision, frame in others.items():
            worst = pd.DataFrame(
                {"precision": precision, "name": list(images.names), FP32: 1.0, "predicted": frame["worst"].to_numpy()}
            )
            changed.append(worst.sort_values("predicted", kind="stable").head(WORST_IMAGES))
        series = outputs.rename(columns={f"cosine_{precision}": precision for precision in others})
        return {
            "classes.csv": outputs,
            "recall.csv": series.melt(
                id_vars="class", value_vars=list(others), var_name="precision", value_name="share_right"
            ),
            "changed.csv": (
                pd.concat(changed, ignore_index=True)
                if changed
                else pd.DataFrame(columns=["precision", "name", FP32, "predicted"])
            ),
            **{f"confusion_{precision}.csv": pd.DataFrame(columns=["actual", "predicted"]) for precision in rows},
            "predictions.csv": pd.DataFrame(
                {"name": list(images.names), **{name: frame["worst"].to_numpy() for name, frame in rows.items()}}
            ),
        }


def _terms(want: npt.NDArray[Any], have: npt.NDArray[Any], middle: Floats) -> list[float]:
    """SUMS of one output for one image, which alone may hold a million numbers: none of its images are in float64 at
    once.
    """
    wanted, had = (np.array(values, np.float64).reshape(-1) for values in (want, have))
    signal, noise = float(np.square(wanted).sum()), float(np.square(wanted - had).sum())
    wanted -= middle
    had -= middle
    return [signal, noise, float(np.square(wanted).sum()), float(np.square(had).sum()), float((wanted * had).sum())]


def _names(rows: pd.DataFrame) -> list[str]:
    return [str(column)[len("signal ") :] for column in rows if str(column).startswith("signal ")]


def _sums(rows: pd.DataFrame, name: str) -> Floats:
    """[images, SUMS] of an output."""
    return np.stack([rows[f"{column} {name}"].to_numpy() for column in SUMS], axis=1)


def _constant(sums: Floats) -> bool:
    """Whether FP32 gives every image the same, of the sums of all."""
    return bool(sums[2] <= CONSTANT * sums[0])


def _of(rows: pd.DataFrame, name: str, minus: float) -> Estimate:
    """The cosine of one output over a set of images, less a constant."""
    sums = _sums(rows, name)
    constant = _constant(sums.sum(axis=0))
    return resampled(lambda times: _alike(times @ sums, constant) - minus, len(rows), -1 - minus, 1 - minus)


def _alike(sums: Floats, constant: bool = False) -> Floats:
    """The cosine about FP32's mean of [..., SUMS]: 1 where nothing varies in either, 0 where it does in one.

    Where FP32 gives every image the same, all that varies is the engine's rounding. Then it is the cosine about zero of
    two vectors of FP32's length that lie as far apart: 1 - noise / (2 signal).
    """
    signal, noise, varying, own, product = np.moveaxis(sums, -1, 0)
    if constant:
        ratio = np.divide(noise, 2 * signal, out=np.where(noise > 0, 2.0, 0.0), where=signal > 0)
        return np.asarray(np.clip(1 - ratio, -1.0, 1.0))
    lengths = np.sqrt(varying * own)
    cosine = np.divide(product, lengths, out=np.zeros(np.shape(product)), where=lengths > 0)
    return np.where((varying == 0) & (own == 0), 1.0, np.clip(cosine, -1.0, 1.0))


TASK = AllOutputs()
