"""The tree in the docstring is the tree, and a wrong word is answered with the nearest right one."""

from __future__ import annotations

import pytest

from enginewright import errors


def test_every_fault_is_in_the_drawn_tree_and_caught_as_one_family() -> None:
    classes = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, Exception)]
    assert len(classes) > 5
    for fault in classes:
        assert issubclass(fault, errors.EnginewrightError)
        assert fault.__name__ in str(errors.__doc__)
        assert fault.__doc__


@pytest.mark.parametrize(
    ("word", "choices", "answer"),
    [
        pytest.param("entropi", ["minmax", "entropy"], "; did you mean 'entropy'?", id="close"),
        pytest.param("zzz", ["minmax", "entropy"], "; choose one of entropy, minmax", id="far"),
        pytest.param("zzz", [], "", id="no-choice"),
        pytest.param(
            "zzz",
            [f"{number:02}" for number in range(23)],
            f"; choose one of {', '.join(f'{number:02}' for number in range(20))} and 3 more",
            id="many",
        ),
    ],
)
def test_nearest(word: str, choices: list[str], answer: str) -> None:
    assert errors.nearest(word, choices) == answer
