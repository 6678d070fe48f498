"""The user's own generator: what it yields, and that DVC sees all that decides it."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from enginewright.config import Data, Preprocessing
from enginewright.data import ImageSet
from enginewright.data.indexing import index_source
from enginewright.data.preparation import prepare
from enginewright.data.recipes import recipe_of
from enginewright.data.samples import Source
from enginewright.data.sources import open_source
from enginewright.errors import DataError
from support.image_sets import SETS, output, settings

NONE = Preprocessing(recipe="none")
NUMBERS = itertools.count()


@pytest.fixture
def module(here: Path) -> Iterator[str]:
    """A name that no other test has imported."""
    before, path = set(sys.modules), list(sys.path)
    yield f"my_data_{next(NUMBERS)}"
    for name in set(sys.modules) - before:
        del sys.modules[name]
    sys.path[:] = path


def data(module: str, function: str = "load") -> Data:
    code = f"{module}.py"
    return Data(source="loader", loader=f"{module}.{function}", code=code, root="data", preprocessing=NONE)


def opened(module: str, code: str, function: str = "load") -> Source:
    Path(f"{module}.py").write_text(code)
    return open_source(data(module, function))


def test_what_a_generator_yields_becomes_sets(module: str) -> None:
    Path("data").mkdir()
    np.save("data/all.npy", np.arange(80, dtype=np.float32).reshape(40, 2))
    Path(f"{module}.py").write_text(
        "import numpy as np\n"
        "def load(root):\n"
        "    for index, row in enumerate(np.load(root / 'all.npy')):\n"
        "        yield {'x': row, 'target': index % 2, 'name': f'row {index}'}\n"
    )
    wanted = settings(source="loader", loader=f"{module}.load", code=f"{module}.py", root="data", preprocessing=NONE)
    prepare(open_source(wanted), wanted, 0, {name: Path("out") / name for name in SETS}, output)
    found = ImageSet.open(Path("out/validation"))
    assert found.labels is not None
    for row, name in enumerate(found.names):
        index = int(name.split()[-1].strip(")"))
        assert name == f"sample {index} (row {index})"
        np.testing.assert_array_equal(found.arrays["x"][[row]][0], [2 * index, 2 * index + 1])
        assert found.labels[row] == index % 2


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        pytest.param(
            "def load():\n    yield 3", "yields a int for sample 0; let it yield dictionaries", id="no dictionary"
        ),
        pytest.param("def load():\n    return {}", "returns a dict; let it yield a dictionary", id="one dictionary"),
        pytest.param("def load():\n    return None", "returns a NoneType; let it yield", id="nothing"),
        pytest.param(
            "import numpy as np\ndef load():\n    yield {'x': np.zeros(1)}\n    yield 1 / 0",
            r"fails at sample 1 \(ZeroDivisionError: division by zero\); mend it",
            id="it fails",
        ),
        pytest.param("def load():\n    yield {'x': [1]}", "'x' of sample 0 is a list; give it as a NumPy", id="a list"),
        pytest.param("def load(:", r"cannot be imported \(.*\); give module.function as seen from", id="syntax"),
        pytest.param("def lod(): ...", r"cannot be imported", id="another name"),
        pytest.param("load = 3", "is a int; name a generator function", id="no function"),
        pytest.param(
            "from os.path import join as load", r"lives in .*posixpath.*; add that file", id="of another file"
        ),
        pytest.param(
            "import helper\ndef load():\n    yield {'x': helper.X}",
            r"imports helper\d*.py, which DVC does not see, so a change of it would rerun nothing; add it, or the"
            r" folder that it lies in, to data.code",
            id="an import",
        ),
        pytest.param(
            "from pathlib import Path\nimport numpy as np\ndef load():\n"
            "    yield {'x': np.array(len(Path('beside.txt').read_text()))}",
            "reads beside.txt, which DVC does not see",
            id="a file",
        ),
    ],
)
def test_what_is_refused(module: str, code: str, sentence: str) -> None:
    helper = module.replace("my_data_", "helper")
    Path(f"{helper}.py").write_text("import numpy as np\nX = np.zeros(2)\n")
    Path("beside.txt").write_text("text")
    with pytest.raises(DataError, match=sentence) as told:
        index_source(opened(module, code.replace("helper", helper)), recipe_of(NONE))
    assert "\n" not in str(told.value)


def test_code_that_does_not_exist(module: str) -> None:
    with pytest.raises(DataError, match=rf"data.code names {module}.py, which does not exist; mend the path"):
        open_source(data(module))
