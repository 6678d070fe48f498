"""An ONNX file as it is, run by ONNX Runtime: what the model that the pipeline makes of it is compared with."""

from __future__ import annotations

from pathlib import Path
from typing import Optional, Union

import numpy as np
import onnx

from enginewright.errors import ModelError
from enginewright.feeds import Array, Feeds, Outputs
from enginewright.importers.compare import first_line
from enginewright.interface import BATCH, Interface
from enginewright.runtimes.onnxruntime.session import Purpose, open_model, open_session, refusals

NAMED = "ONNX Runtime, the file as it is"
WITHOUT_PAIRS = "ONNX Runtime, the file without its Q/DQ nodes"


class Original:
    """A model before anything was done to it. See `Reference`."""

    def __init__(
        self, source: Union[Path, onnx.ModelProto], called: str, interface: Interface, framework: str = NAMED
    ) -> None:
        """Open it.

        Args:
            source: the file; or a model where only a part of it counts.
            called: the file, for sentences.
            interface: of what is compared with it: which outputs, and which dtypes.
            framework: what a report calls it.

        Raises:
            ModelError: ONNX Runtime does not take it.
        """
        self.framework = framework
        self._called, self._names = called, [spec.name for spec in interface.outputs]
        try:
            self._session = (
                open_session(str(source), Purpose.reference)
                if isinstance(source, Path)
                else open_model(source, Purpose.reference)
            )
        except refusals() as fault:
            raise ModelError(
                f"ONNX Runtime cannot run {called} as it is: {first_line(fault)}; bring it into a form that it runs"
            ) from None
        kinds = {"tensor(float16)": np.float16, "tensor(double)": np.float64}
        self._inputs = {value.name: kinds.get(value.type) for value in self._session.get_inputs()}
        # a batch of 1 that was freed is fed row by row
        self._alone = any(
            value.shape[:1] == [1] and interface.input(value.name).shape[:1] == (BATCH,)
            for value in self._session.get_inputs()
            if value.name in {spec.name for spec in interface.inputs}
        )

    def answer(self, feeds: Feeds) -> dict[str, Array]:
        """See `Reference`."""
        if not self._alone:
            return self._run(feeds)
        rows = [self._run(one) for one in rows_of(feeds)]
        return {name: np.concatenate([row[name] for row in rows]) for name in self._names}

    def exact(self, feeds: Feeds, answered: Outputs) -> Optional[Outputs]:  # noqa: ARG002 - see Reference
        """None: nothing runs an ONNX file in float64."""
        return None

    def _run(self, feeds: Feeds) -> dict[str, Array]:
        fed = {
            name: feeds[name] if kind is None else feeds[name].astype(kind)
            for name, kind in self._inputs.items()
            if name in feeds
        }
        try:
            found = self._session.run(self._names, fed)
        except refusals() as fault:
            shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in fed.items())
            raise ModelError(
                f"ONNX Runtime cannot run {self._called} as it is on {shapes}: {first_line(fault)}; check"
                " model.axis_names and axes"
            ) from None
        return {
            name: array.astype(np.float32) if array.dtype in (np.float16, np.float64) else array
            for name, array in zip(self._names, found)
        }


def rows_of(feeds: Feeds) -> list[dict[str, Array]]:
    """Feeds of one row each."""
    count = len(next(iter(feeds.values())))
    return [{name: array[row : row + 1] for name, array in feeds.items()} for row in range(count)]
