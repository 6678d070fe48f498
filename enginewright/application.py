"""An engine as an application holds it: it feeds itself images and names its classes, by what its sidecar says."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Optional, Union

from enginewright import manifest
from enginewright.config import Preprocessing
from enginewright.data.geometry import Geometry
from enginewright.data.recipes import AnySample, feeds_of
from enginewright.errors import DataError, StaleArtifact
from enginewright.feeds import Array, Feeds, Outputs
from enginewright.interface import Axes, Interface
from enginewright.runtimes import RUNTIMES, get_runtime
from enginewright.runtimes.base import Capability, LoadOptions, TimedEngine


class LoadedEngine:
    """An engine, and how to use it: held from `enginewright.load` until `close` or the end of the `with` block.

    What its runtime offers beside this, such as `device_seconds`, is reached through it.
    """

    def __init__(self, engine: TimedEngine, usage: manifest.Usage, name: str) -> None:
        """Join an engine with what its sidecar says of its use; `name` is what errors call it."""
        self._engine, self._name = engine, name
        self.interface: Interface = engine.interface
        self.axes: Axes = engine.axes
        self.classes: tuple[str, ...] = usage.classes
        self._made_with = usage.preprocessing

    @property
    def preprocessing(self) -> Optional[Preprocessing]:
        """How an image becomes the input; None for a model that was not made for images.

        Raises:
            StaleArtifact: a version made the engine that knows other preprocessing.
        """
        if self._made_with is None:
            return None
        try:
            return Preprocessing.from_dict(self._made_with)
        except (KeyError, TypeError):
            raise StaleArtifact(
                f"{self._name} was made with the preprocessing {dict(self._made_with)}, which this version does not"
                " know; update Enginewright, or feed it arrays"
            ) from None

    def preprocess(self, images: Union[AnySample, Iterable[AnySample]]) -> dict[str, Array]:
        """Make feeds of images, as calibration and validation made them.

        Args:
            images: one or several, as `enginewright.preprocess` takes them.

        Returns:
            input name -> [N, ...] in the dtype of the input, for `infer`.

        Raises:
            DataError: an image cannot be read or is too small, or the model was not made for images.
            StaleArtifact: see `preprocessing`.
        """
        return self.preprocess_with_geometry(images)[0]

    def preprocess_with_geometry(
        self, images: Union[AnySample, Iterable[AnySample]]
    ) -> tuple[dict[str, Array], list[Geometry]]:
        """Make feeds as `preprocess` does, and say of each image where it lies in them.

        `Geometry.boxes_to_image` and `Geometry.mask_to_image` take what an engine found back to the image.
        """
        preprocessing = self.preprocessing
        if preprocessing is None:
            raise DataError(f"the sidecar of {self._name} does not say how an image becomes its input; feed it arrays")
        return feeds_of(images, preprocessing, self.interface.inputs)

    def infer(self, feeds: Feeds) -> Outputs:
        """See `Engine.infer`."""
        return self._engine.infer(feeds)

    def infer_many(self, batches: Iterable[Feeds]) -> Iterator[Outputs]:
        """See `Engine.infer_many`."""
        return self._engine.infer_many(batches)

    def close(self) -> None:
        """Give everything back; a second call does nothing."""
        self._engine.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def __enter__(self) -> LoadedEngine:
        self._engine.__enter__()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._engine.__exit__(*exc_info)


def load(path: Union[str, Path], options: Optional[LoadOptions] = None) -> LoadedEngine:
    """Load an engine: see `enginewright.load`."""
    sidecar = manifest.read(Path(path))
    if sidecar.target is None:
        raise StaleArtifact(
            f"the sidecar of {path} names no target, so it is no engine; give the file under artifacts/engines/"
        )
    if sidecar.target.runtime not in RUNTIMES:
        raise StaleArtifact(
            f"the sidecar of {path} names the runtime {sidecar.target.runtime}, which is not installed here; update"
            " Enginewright, or install the package that brings it"
        )
    loader = get_runtime(sidecar.target.runtime, Capability.run)
    return LoadedEngine(loader.load(Path(path), options), sidecar.usage, Path(path).name)
