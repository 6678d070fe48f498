"""Whether the classes of the data can be those of the model."""

from __future__ import annotations

from enginewright.data import ImageSet
from enginewright.data.classes import BY_FILE
from enginewright.errors import DataError
from enginewright.interface import Interface
from enginewright.tasks.base import Task


def require_classes(task: Task, judged: Interface, images: ImageSet) -> None:
    """Refuse data whose classes cannot be the model's: as many names, and no label beyond them.

    Of as many classes in another order nothing is known, so the order that is taken is said (`ImageSet.class_order`).

    Raises:
        DataError: with both numbers, and what to do.
    """
    count = task.class_count(judged)
    if count is None:
        return
    output = f"the output '{judged.outputs[0].name}' of the model has {count} classes"
    if images.classes and len(images.classes) != count:
        if images.class_order == BY_FILE:
            raise DataError(
                f"{output}, and the file data.classes names {len(images.classes)}; name each class of the model in a"
                " line, in the order of its outputs"
            )
        raise DataError(
            f"{output}, and the data has {len(images.classes)} ({', '.join(images.classes[:3])}, ...), so that labels"
            " would not be the indices of its outputs; name all classes of the model in a file, a line each in the"
            " order of its outputs, and set data.classes to it"
        )
    if images.labels is not None and len(images.labels) and images.labels.max() >= count:
        place = int(images.labels.argmax())
        raise DataError(
            f"{output}, from 0 on, and {images.names[place]} has the label {images.labels[place]}; labels must be the"
            " indices of its outputs"
        )
