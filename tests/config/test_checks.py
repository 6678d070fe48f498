"""Combinations that cannot work, each in its sentence."""

from __future__ import annotations

import pytest
from omegaconf import DictConfig, OmegaConf

from enginewright import config
from enginewright.errors import ConfigError
from support.project import ROOT


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        pytest.param(
            ["data.calibration_images=2000"],
            "data.calibration_images: 2000 images are asked for and data.calibration_pool sets 1000 apart; raise the"
            " pool or ask for fewer",
            id="more-images-than-the-pool",
        ),
        pytest.param(
            ["axes.batch.opt=500"],
            "axes.batch: min 1 <= opt 500 <= max 128 does not hold",
            id="profile-out-of-order",
        ),
        pytest.param(
            ["accuracy.gated=[int8,fp32]"],
            "accuracy.gated: holds fp32, which the others are measured against; leave it out",
            id="gated-by-itself",
        ),
        pytest.param(
            ["build.precisions=[fp32,fp16]"],
            "accuracy.gated: holds int8_mixed, which build.precisions [fp32, fp16] does not name; add it there, or"
            " leave it out",
            id="gated-and-not-built",
        ),
        pytest.param(
            ["build.precisions=[]", "accuracy.gated=[]"],
            "build.precisions: [] must name one precision at least, and none twice",
            id="nothing-to-build",
        ),
        pytest.param(
            ["build.precisions=[int8_mixed,fp16,fp16]"],
            "build.precisions: [int8_mixed, fp16, fp16] must name one precision at least, and none twice",
            id="built-twice",
        ),
        pytest.param(
            ["accuracy.batch_size=200"],
            "accuracy.batch_size: 200 is over axes.batch.max = 128; raise it or lower the batch",
            id="batch-beyond-the-profile",
        ),
        pytest.param(
            ["benchmark.batch_curve=[1,256]"],
            "benchmark.batch_curve: 256 is over axes.batch.max = 128; raise it or lower the batch",
            id="curve-beyond-the-profile",
        ),
        pytest.param(
            ["axes.batch.min=2", "benchmark.scenarios=[offline]"],
            "benchmark.batch_curve: 1 is under axes.batch.min = 2; leave it out",
            id="curve-below-the-profile",
        ),
        pytest.param(
            ["axes.batch.min=2", "benchmark.batch_curve=[2]"],
            "benchmark.scenarios: [single_stream] would feed one sample at a time, under axes.batch.min = 2; leave that"
            " out, as in [offline]",
            id="one-sample-below-the-profile",
        ),
        pytest.param(
            [
                "axes.batch.min=2",
                "benchmark.batch_size=1",
                "benchmark.batch_curve=[2]",
                "benchmark.scenarios=[offline]",
            ],
            "benchmark.batch_size: 1 is under axes.batch.min = 2; raise it",
            id="load-below-the-profile",
        ),
        pytest.param(
            ["benchmark.scenarios=[server]", "benchmark.server.max_batch=256"],
            "benchmark.server.max_batch: 256 is over axes.batch.max = 128; raise it or lower the batch",
            id="server-beyond-the-profile",
        ),
        pytest.param(
            ["benchmark.scenarios=[multi_stream]", "benchmark.samples_per_query=256"],
            "benchmark.samples_per_query: 256 is over axes.batch.max = 128; raise it or lower the batch",
            id="query-beyond-the-profile",
        ),
        pytest.param(
            ["benchmark.scenarios=[offline,offline]"],
            "benchmark.scenarios: [offline, offline] must name one scenario at least, and none twice",
            id="scenario-twice",
        ),
        pytest.param(
            ["benchmark.scenarios=[]"],
            "benchmark.scenarios: [] must name one scenario at least, and none twice",
            id="no-scenario",
        ),
        pytest.param(
            ["data.preprocessing.size=[28]"],
            "data.preprocessing.size: [28] is not [height, width] in pixels",
            id="preprocessing",
        ),
        pytest.param(
            ["model.inputs.input.shape=[batch,3,28,28]"],
            "model.inputs.input.shape: [batch, 3, 28, 28] is not what data.preprocessing makes, [batch, 1, 28, 28];"
            " change one of the two",
            id="shape",
        ),
        pytest.param(
            ["data.preprocessing.layout=nhwc"],
            "model.inputs.input.shape: [batch, 1, 28, 28] is not what data.preprocessing makes, [batch, 28, 28, 1];"
            " change one of the two",
            id="layout",
        ),
    ],
)
def test_a_contradiction_is_named(changes: list[str], sentence: str) -> None:
    params = OmegaConf.load(ROOT / "params.yaml")
    assert isinstance(params, DictConfig)
    for change in changes:
        key, _, value = change.partition("=")
        OmegaConf.update(params, key, OmegaConf.create(f"x: {value}").x, merge=False)
    with pytest.raises(ConfigError) as fault:
        config.check(params, "params.yaml")
    assert str(fault.value) == f"params.yaml: {sentence}"


@pytest.mark.parametrize(
    "change", ["benchmark.server.max_batch=256", "benchmark.samples_per_query=256"], ids=["server", "multi_stream"]
)
def test_a_batch_of_a_scenario_that_does_not_run_is_not_held_against_the_profile(change: str) -> None:
    params = OmegaConf.load(ROOT / "params.yaml")
    assert isinstance(params, DictConfig)
    params.merge_with_dotlist([change])
    config.check(params, "params.yaml")
