"""layers.yaml, and what leaving a layer in float means for the nodes around it."""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path

import onnx
import pytest

from enginewright.calibration.mixture import FloatLayer, Mixture, float_nodes
from enginewright.errors import ConfigError, ModelError

# conv1 -> SiLU -> conv2 -> sum with the SiLU -> Relu -> MaxPool -> conv3 -> conv4
MODEL = """
<ir_version: 8, opset_import: ["" : 17]>
net (float[n, 2, 8, 8] x) => (float[n, 2, m, k] y) <float[2, 2, 1, 1] w>
{
   [conv1] a = Conv (x, w)
   [sigmoid] s = Sigmoid (a)
   [silu] b = Mul (a, s)
   [conv2] c = Conv (b, w)
   [sum] d = Add (c, b)
   [relu] e = Relu (d)
   [pool] f = MaxPool <kernel_shape = [2, 2]> (e)
   [conv3] g = Conv (f, w)
   [conv4] y = Conv (g, w)
}
"""


@pytest.fixture(scope="module")
def model() -> onnx.ModelProto:
    return onnx.parser.parse_model(MODEL)


@pytest.mark.parametrize(
    ("layers", "nodes"),
    [
        pytest.param([], (), id="none"),
        pytest.param(
            ["conv1"], ("conv1", "sigmoid", "silu", "sum"), id="the activation behind it, and the sum that this joins"
        ),
        pytest.param(
            ["conv2"], ("sigmoid", "silu", "conv2", "sum"), id="the activation before it, and the sum that it ends in"
        ),
        pytest.param(["conv3"], ("sum", "pool", "conv3"), id="the sum that it reads, through Relu and MaxPool"),
        pytest.param(["conv4"], ("conv4",), id="no neighbour but layers"),
        pytest.param(["fc"], (), id="unknown"),
    ],
)
def test_nodes_that_stay_in_float(model: onnx.ModelProto, layers: list[str], nodes: tuple[str, ...]) -> None:
    assert float_nodes(model, layers) == nodes


def test_operators_stay_in_float_wherever_they_stand(model: onnx.ModelProto) -> None:
    assert float_nodes(model, ["conv4"], ["Sigmoid"]) == ("sigmoid", "conv4")


def test_what_is_written_is_read_back(tmp_path: Path, model: onnx.ModelProto) -> None:
    path = tmp_path / "layers.yaml"
    mixture = Mixture((FloatLayer("conv1", "rank 1 of 4: 62.4 % of the noise"), FloatLayer("conv3")), ("Sigmoid",))
    path.write_text(mixture.to_text())
    assert Mixture.read(path) == mixture
    assert mixture.nodes(model) == ("conv1", "sigmoid", "silu", "sum", "pool", "conv3")
    assert "search_mixed.layers=" in path.read_text()


def test_a_list_by_hand_needs_names_alone(tmp_path: Path) -> None:
    path = tmp_path / "layers.yaml"
    path.write_text("version: 1\nlayers: [conv1, {name: conv2, reason: by ear}]\n")
    assert Mixture.read(path) == Mixture((FloatLayer("conv1", "chosen by hand"), FloatLayer("conv2", "by ear")))


def test_the_projects_own_file_asks_for_a_search() -> None:
    assert Mixture.read(Path(__file__).parents[2] / "layers/search.yaml") == Mixture(None)


# names of nodes in exports of ultralytics' and of YOLOX: the last convolutions of the heads, and others
YOLO_LAST = [
    *(f"/model.22/cv{branch}.{level}/cv{branch}.{level}.2/Conv" for branch in (2, 3) for level in (0, 1, 2)),
    "/model.23/one2one_cv2.0/one2one_cv2.0.2/Conv",
    "/0/model.22/cv3.1/cv3.1.2/Conv",
]
YOLO_OTHERS = [
    "/model.0/conv/Conv",
    "/model.2/cv2/conv/Conv",
    "/model.2/m.0/cv2/conv/Conv",
    "/model.22/cv2.0/cv2.0.1/conv/Conv",
    "/model.23/cv3.0/cv3.0.1/cv3.0.1.1/conv/Conv",
    "/model.22/dfl/conv/Conv",
    "/model.22/cv4.0/cv4.0.2/Conv",
]
YOLOX_LAST = [
    f"{scope}/head/{kind}_preds.{level}/Conv"
    for scope in ("", "/0")
    for kind in ("reg", "obj", "cls")
    for level in (0, 1, 2)
]
YOLOX_OTHERS = [
    "/backbone/backbone/stem/conv/conv/Conv",
    "/head/stems.0/conv/Conv",
    "/head/reg_convs.0/reg_convs.0.1/conv/Conv",
    "/head/cls_convs.2/cls_convs.2.1/conv/Conv",
]


@pytest.mark.parametrize(
    ("file", "last", "others"),
    [
        pytest.param("yolo", YOLO_LAST, YOLO_OTHERS, id="YOLO"),
        pytest.param("yolox", YOLOX_LAST, YOLOX_OTHERS, id="YOLOX"),
    ],
)
def test_the_pinned_mixtures_of_detectors_fit_the_last_convolutions_of_a_head(
    file: str, last: list[str], others: list[str]
) -> None:
    names = [*others, *last]
    weight = onnx.helper.make_tensor("w", onnx.TensorProto.FLOAT, [1, 1, 1, 1], [1.0])
    nodes = [
        onnx.helper.make_node("Conv", [f"t{index}", "w"], [f"t{index + 1}"], name) for index, name in enumerate(names)
    ]
    ends = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n", 1, 4, 4])
        for name in ("t0", f"t{len(names)}")
    ]
    head = onnx.helper.make_model(onnx.helper.make_graph(nodes, "g", ends[:1], ends[1:], [weight]))
    pinned = Mixture.read(Path(__file__).parents[2] / f"layers/{file}.yaml").resolved(head, file)
    assert sorted(pinned.names) == sorted(last)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        pytest.param(None, "does not exist; set search_mixed.layers to layers/search.yaml", id="missing"),
        pytest.param("layers: [", "is not valid YAML", id="no YAML"),
        pytest.param("version: 1", "holds no key `layers`", id="no layers"),
        pytest.param("layers: search", "has version None, and this Enginewright reads version 1", id="no version"),
        pytest.param("version: 2\nlayers: search", "has version 2", id="another version"),
        pytest.param("version: 1\nlayers: find", "layers is 'find' and must be `search` or a list", id="a word"),
        pytest.param(
            "version: 1\nlayers: [{layer: conv1}]",
            "the entry {'layer': 'conv1'} of layers must have `name`",
            id="an entry without a name",
        ),
        pytest.param(
            "version: 1\nlayers: []\noperator: [Sigmoid]",
            "operator is no key of layers.yaml; did you mean 'operators'?",
            id="an unknown key",
        ),
        pytest.param(
            "version: 1\nlayers: []\noperators: Sigmoid",
            "operators is 'Sigmoid' and must be a list",
            id="operators that are no list",
        ),
    ],
)
def test_a_file_that_cannot_be_used(content: str, sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "layers.yaml"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigError) as caught:
        Mixture.read(path)
    assert sentence in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("entries", "names"),
    [
        pytest.param(["conv3", "conv1"], ("conv3", "conv1"), id="names"),
        pytest.param(["conv*"], ("conv1", "conv2", "conv3", "conv4"), id="all that fit, in the graph's order"),
        pytest.param(["conv[24]"], ("conv2", "conv4"), id="one of some characters"),
        pytest.param(["conv4", "conv?"], ("conv4", "conv1", "conv2", "conv3"), id="a layer is named once"),
        pytest.param(["*1"], ("conv1",), id="layers alone, not what is beside them"),
        pytest.param([], (), id="none"),
    ],
)
def test_patterns_become_layers(model: onnx.ModelProto, entries: list[str], names: tuple[str, ...]) -> None:
    asked = Mixture(tuple(FloatLayer(entry, f"as {entry}") for entry in entries), ("Sigmoid",))
    found = asked.resolved(model, "layers.yaml")
    assert found.names == names
    assert found.operators == ("Sigmoid",)
    first = {name: next(entry for entry in entries if fnmatchcase(name, entry)) for name in names}
    assert [layer.reason for layer in found.layers or ()] == [f"as {first[name]}" for name in names]
    assert found.resolved(model, "layers.yaml") == found


def test_a_layer_whose_name_holds_a_sign_of_patterns_is_found_by_its_name(model: onnx.ModelProto) -> None:
    odd = onnx.ModelProto()
    odd.CopyFrom(model)
    odd.graph.node[0].name = "conv[1]"
    assert Mixture((FloatLayer("conv[1]"),)).resolved(odd, "layers.yaml").names == ("conv[1]",)


def test_what_asks_for_a_search_names_no_layers(model: onnx.ModelProto) -> None:
    assert Mixture(None).resolved(model, "layers.yaml") == Mixture(None)


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        pytest.param("conv_1", "called 'conv_1'; did you mean 'conv1'?", id="a name"),
        pytest.param("/conv1", "called '/conv1'; did you mean 'conv1'?", id="another scope"),
        pytest.param("convs*", "that fits 'convs*'; did you mean 'conv4'?", id="a pattern"),
        pytest.param("sig*", "that fits 'sig*'; choose one of conv1, conv2, conv3, conv4", id="no layer, but a node"),
        pytest.param("Conv*", "that fits 'Conv*'; did you mean 'conv4'?", id="capitals count"),
    ],
)
def test_a_layer_that_the_model_does_not_have(model: onnx.ModelProto, entry: str, sentence: str) -> None:
    with pytest.raises(ModelError) as caught:
        Mixture((FloatLayer("conv2"), FloatLayer(entry))).resolved(model, "layers.yaml")
    assert str(caught.value) == (
        f"layers.yaml: the model has no Conv, ConvTranspose, Gemm or MatMul {sentence};"
        " correct the name, or search again"
    )


def test_a_long_chain_and_forty_diamonds_take_one_pass() -> None:
    """A recursion ended at a thousand nodes, and took 2^n steps for n diamonds."""
    node = onnx.helper.make_node
    nodes = [node("Conv", ["x", "w"], ["c"], "before")]
    last = "c"
    for step in range(5000):
        nodes.append(node("Sigmoid", [last], [f"s{step}"], f"s{step}"))
        last = f"s{step}"
    for level in range(40):
        nodes += [node("LeakyRelu", [last], [f"{side}{level}"], f"{side}{level}") for side in ("left", "right")]
        nodes.append(node("Add", [f"left{level}", f"right{level}"], [f"sum{level}"], f"sum{level}"))
        last = f"sum{level}"
    nodes.append(node("Conv", [last, "w"], ["y"], "after"))
    ends = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n", 1, 4, 4]) for name in ("x", "y")]
    weight = onnx.helper.make_tensor("w", onnx.TensorProto.FLOAT, [1, 1, 1, 1], [1.0])
    model = onnx.helper.make_model(onnx.helper.make_graph(nodes, "g", ends[:1], ends[1:], [weight]))
    assert float_nodes(model, ["after"]) == ("left39", "right39", "sum39", "after")
    assert float_nodes(model, ["before"])[:5001] == ("before", *(f"s{step}" for step in range(5000)))


def test_nodes_without_a_name_are_told_apart() -> None:
    model = onnx.parser.parse_model(MODEL)
    named = float_nodes(model, ["conv2"])
    outputs = {node.name: node.output[0] for node in model.graph.node}
    for node in model.graph.node:
        node.name = ""
    assert float_nodes(model, [outputs["conv2"]]) == tuple(outputs[name] for name in named)
