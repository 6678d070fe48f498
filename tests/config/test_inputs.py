"""What cannot work of a model's inputs, outputs and axes, each in its sentence."""

from __future__ import annotations

import pytest
from omegaconf import DictConfig, OmegaConf

from enginewright import config
from enginewright.errors import ConfigError
from support.project import ROOT

DYNAMIC = "model.inputs.input.shape=[batch,1,height,28]"
HEIGHT = "axes.height={min: 20, opt: 28, max: 40}"


def changed(changes: list[str]) -> DictConfig:
    params = OmegaConf.load(ROOT / "params.yaml")
    assert isinstance(params, DictConfig)
    for change in changes:
        key, _, value = change.partition("=")
        OmegaConf.update(params, key, OmegaConf.create(f"x: {value}").x, force_add=True, merge=False)
    return params


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        pytest.param(
            [DYNAMIC, "axes.heigth={min: 20, opt: 28, max: 40}"],
            "model.inputs.input.shape: the axis 'height' in [batch, 1, height, 28] has no range; set"
            " axes.height={min: ...,"
            " opt: ..., max: ...}, or write its size; did you mean 'heigth'?; axes.heigth: no input in model.inputs"
            " has an"
            " axis of that name; did you mean 'height'?",
            id="axis without a range",
        ),
        pytest.param(
            [HEIGHT],
            "axes.height: no input in model.inputs has an axis of that name; choose one of batch",
            id="unused range",
        ),
        pytest.param(
            [DYNAMIC, "axes.height={min: 20, opt: 18, max: 40}"],
            "axes.height: min 20 <= opt 18 <= max 40 does not hold",
            id="range out of order",
        ),
        pytest.param(
            [DYNAMIC, "axes.height={min: 0, opt: 28, max: 40}"],
            "axes.height.min: 0 is below 1 (allowed: at least 1)",
            id="size of nothing",
        ),
        pytest.param(
            [DYNAMIC, "axes.height={min: 20, max: 40}"],
            "axes.height has no opt, and must be a section with min, opt, max",
            id="range without opt",
        ),
        pytest.param(
            [DYNAMIC, "axes.height=28"], "axes.height is 28 and must be a section with min, opt, max", id="number"
        ),
        pytest.param(["axes=3"], "axes is 3 and must map names to a section with min, opt, max each", id="no mapping"),
        pytest.param(
            ["model.inputs.input.dtype=float23"],
            "model.inputs.input.dtype: 'float23' is not a choice; did you mean 'float32'?",
            id="unknown dtype",
        ),
        pytest.param(
            ["model.inputs.input.shap=[batch,1]"],
            "model.inputs.input.shap is not a setting; did you mean 'shape'?",
            id="unknown key",
        ),
        pytest.param(
            ["model.inputs.input={dtype: float32}"],
            "model.inputs.input has no shape, and must be a section with shape, dtype",
            id="no shape",
        ),
        pytest.param(
            ["model.inputs.input.shape=[1,1,28,28]"],
            "model.inputs.input.shape: [1, 1, 28, 28] does not begin with the axis `batch`, along which samples are put"
            " together; write [batch, 1, 28, 28]",
            id="fixed batch",
        ),
        pytest.param(
            ["model.inputs.input.shape=[batch,1,-1,28]"],
            "model.inputs.input.shape: -1 in [batch, 1, -1, 28] is neither a size, from 1 on, nor the name of an axis",
            id="size below one",
        ),
        pytest.param(
            ["model.inputs.input.shape=[batch,1,'28',28]"],
            "model.inputs.input.shape: '28' in [batch, 1, 28, 28] is not the name of an axis; use letters, digits and"
            " _",
            id="text for a size",
        ),
        pytest.param(["model.inputs={}"], "model.inputs: is empty; name what the model takes, such as", id="no input"),
        pytest.param(
            ["model.outputs=[]"],
            "model.outputs: is empty; name what the model returns, such as [logits]",
            id="no output",
        ),
        pytest.param(
            ["model.outputs=[boxes,boxes]", "model.judged=boxes"],
            "model.outputs: [boxes, boxes] names 'boxes' twice, or as model.inputs does; give it another name",
            id="one name twice",
        ),
        pytest.param(
            ["model.outputs=[logits,features]"],
            "model.judged: the task classification judges one output, and model.outputs names 2; set it to one of"
            " logits, features, or set model.task=outputs, which judges them all",
            id="none is judged",
        ),
        pytest.param(
            ["model.outputs=[logits,features]", "model.judged=logit"],
            "model.judged: 'logit' is not in model.outputs; did you mean 'logits'?",
            id="another is judged",
        ),
        pytest.param(
            ["model.task=outputs", "model.judged=logits"],
            "model.judged: 'logits' is named and model.task=outputs judges every output; set it to null",
            id="all are judged",
        ),
        pytest.param(
            ["model.inputs={image: {shape: [batch,1,28,28]}, mask: {shape: [batch,1,28,28]}}"],
            "data.preprocessing.recipe: crop makes one input of an image, and model.inputs names 2 (image, mask); feed"
            " arrays of these names, with data.source arrays and recipe none",
            id="two inputs of one image",
        ),
        pytest.param(
            [DYNAMIC, "axes.height={min: 30, opt: 30, max: 40}"],
            "model.inputs.input.shape: [batch, 1, height, 28] is not what data.preprocessing makes, [batch, 1, 28, 28];"
            " change one of the two",
            id="images outside the range",
        ),
        pytest.param(
            ["data.preprocessing.recipe=whole", "model.inputs.input.shape=[batch,3,28,28]"],
            "model.inputs.input.shape: [batch, 3, 28, 28] is not what data.preprocessing makes,"
            " [batch, 1, height, width]; change one of the two",
            id="whole images of other channels",
        ),
    ],
)
def test_what_cannot_work_is_named(changes: list[str], sentence: str) -> None:
    with pytest.raises(ConfigError) as fault:
        config.check(changed(changes), "params.yaml")
    assert str(fault.value).startswith(f"params.yaml: {sentence}")


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param([DYNAMIC, HEIGHT], id="a dynamic axis that images fit"),
        pytest.param([DYNAMIC, HEIGHT, "data.preprocessing.recipe=whole"], id="images of any size"),
        pytest.param(
            [
                "data.source=arrays",
                "data.preprocessing.recipe=none",
                "model.inputs={a: {shape: [batch, 9], dtype: int64}, b: {shape: [batch], dtype: bool}}",
            ],
            id="arrays",
        ),
        pytest.param(["model.outputs=[logits,features]", "model.judged=features"], id="one of two is judged"),
        pytest.param(["model.outputs=[logits,features]", "model.task=outputs"], id="both are judged"),
    ],
)
def test_what_can_work_is_taken(changes: list[str]) -> None:
    config.check(changed(changes), "params.yaml")
