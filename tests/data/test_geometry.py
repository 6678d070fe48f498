"""Where an image lies in the model's input, and boxes and masks that find the way back."""

from __future__ import annotations

import numpy as np
import pytest

from enginewright.data.geometry import Geometry

BOXES = np.array([[0.0, 0.0, 40.0, 30.0], [10.0, 12.0, 14.0, 20.5]])
GEOMETRIES = [
    pytest.param(Geometry((30, 40)), id="nothing moves"),
    pytest.param(Geometry((30, 40), (2.0, 0.5), (-7.0, 3.0)), id="resized and cut"),
    pytest.param(Geometry((30, 40), (1.5, 1.5), (12.0, 0.0)), id="padded"),
]


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_boxes_find_the_way_back(geometry: Geometry) -> None:
    np.testing.assert_allclose(geometry.boxes_to_image(geometry.boxes_to_input(BOXES)), BOXES)


def test_boxes_go_where_the_pixels_go_and_end_at_the_edges_of_the_image() -> None:
    geometry = Geometry((30, 40), (2.0, 0.5), (-7.0, 3.0))
    np.testing.assert_allclose(geometry.boxes_to_input(BOXES[1]), [8.0, 17.0, 10.0, 34.0])
    np.testing.assert_allclose(geometry.boxes_to_image(np.array([-100.0, -100.0, 100.0, 100.0])), [0, 0, 40, 30])


def test_a_mask_covers_what_the_input_showed() -> None:
    inside = Geometry((4, 6), offset=(-1.0, -2.0)).mask_to_image(np.array([[1, 2, 3], [4, 5, 6]], np.uint8), outside=9)
    assert inside.tolist() == [[9] * 6, [9, 9, 1, 2, 3, 9], [9, 9, 4, 5, 6, 9], [9] * 6]
    twice = Geometry((1, 2), (2.0, 2.0)).mask_to_image(np.array([[1, 1, 2, 2], [1, 1, 2, 2]], np.uint8), outside=9)
    assert twice.tolist() == [[1, 2]]
