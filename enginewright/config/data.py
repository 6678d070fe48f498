"""Where images come from, and how many of them serve what."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Optional

from enginewright.config.choices import LIBRARY_CODE, Selection
from enginewright.config.model import MOST_CODE, composed_code, own_code
from enginewright.config.preprocessing import Preprocessing
from enginewright.config.setting import setting
from enginewright.registry import SOURCES


@dataclass
class Data:
    """Disjoint training, calibration, sensitivity and validation images."""

    source: str = setting("digits", choices=SOURCES, help="where the images come from")
    loader: Optional[str] = setting(
        None,
        help="source loader: module.function, which yields {input name: array without the batch axis, target: ...}",
    )
    code: Any = setting(
        LIBRARY_CODE,
        help=f"source loader: file or folder of its code, or a list of up to {MOST_CODE}; DVC hashes them",
    )
    tracked_code: list[str] = setting(
        [LIBRARY_CODE] * MOST_CODE,
        help="filled in from data.code for dvc.yaml: leave it alone",
        composed=composed_code("data"),
    )
    classes: str = setting(
        LIBRARY_CODE,
        help="a file with a class a line, in the order of the model's outputs; without one, the order of the folders'"
        " names is taken",
    )
    labels: str = setting(
        LIBRARY_CODE,
        help="source image_folder: a CSV of file,class instead of a sub-folder for each class; coco: the JSON of boxes",
    )
    max_pixels: int = setting(
        100_000_000, minimum=1, help="an image of more pixels is refused before it is decoded: it may be a trap"
    )
    root: str = setting("data/digits", help="the folder that holds the source; DVC hashes it")
    train_images: int = setting(2700, minimum=0, help="none are needed where the weights are your own")
    calibration_pool: int = setting(
        1000, minimum=1, help="images set apart, from which the calibration images are selected"
    )
    calibration_images: int = setting(500, minimum=1, help="images that the INT8 ranges are taken from")
    sensitivity_images: int = setting(
        300, minimum=1, help="images that rank layers and judge mixtures: neither calibration nor validation"
    )
    validation_images: int = setting(1000, minimum=1, help="images that the accuracy gate judges")
    selection: Selection = setting(Selection.stratified, help="how calibration images are picked from their pool")
    selection_seed: Optional[int] = setting(
        None,
        minimum=0,
        help="of random and stratified; null takes seed; another one draws other images of the same pool",
    )
    preprocessing: Preprocessing = field(default_factory=Preprocessing)

    @property
    def own_code(self) -> list[str]:
        """The user's files and folders in `code`."""
        return own_code(self.code)

    @property
    def classes_file(self) -> Optional[str]:
        """The file `classes`, if there is one."""
        return None if self.classes == LIBRARY_CODE else self.classes

    @property
    def labels_file(self) -> Optional[str]:
        """The file `labels`, if there is one."""
        return None if self.labels == LIBRARY_CODE else self.labels
