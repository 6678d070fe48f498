"""What a pass over samples sees of them, and refuses."""

from __future__ import annotations

import numpy as np
import pytest

from enginewright.data.observed import Observed
from enginewright.errors import DataError
from enginewright.feeds import Array

X, Y = np.zeros((2, 3), np.float32), np.zeros(4, np.int64)


def test_shapes_are_kept_only_where_they_vary() -> None:
    observed = Observed()
    for size in (3, 3, 5):
        observed.add(str(size), {"x": X, "y": np.zeros((1, size))})
    assert not observed.arrays["x"].ragged
    assert observed.arrays["x"].of(np.arange(2)).tolist() == [[2, 3], [2, 3]]
    assert observed.arrays["y"].ragged
    assert observed.arrays["y"].of(np.array([2, 0])).tolist() == [[1, 5], [1, 3]]


@pytest.mark.parametrize(
    ("second", "sentence"),
    [
        pytest.param({"x": X}, "b has no 'y', which the samples before it have; give all samples the same", id="less"),
        pytest.param(
            {"x": X, "y": Y, "z": Y}, "b has 'z', which the samples before it do not have; give all", id="more"
        ),
        pytest.param(
            {"x": X.astype(np.float64), "y": Y},
            r"'x' of b is float64 \[2, 3\], and of the samples before it float32 with 2 axes; give all samples one",
            id="dtype",
        ),
        pytest.param({"x": X[None], "y": Y}, r"'x' of b is float32 \[1, 2, 3\], and of the samples", id="rank"),
    ],
)
def test_samples_that_differ_are_refused(second: dict[str, Array], sentence: str) -> None:
    observed = Observed()
    observed.add("a", {"x": X, "y": Y})
    with pytest.raises(DataError, match=sentence):
        observed.add("b", second)


def test_a_dtype_that_no_set_holds_is_refused() -> None:
    with pytest.raises(DataError, match="'x' of a is complex64; an image set holds float32, float16, float64, int64"):
        Observed().add("a", {"x": X.astype(np.complex64)})
