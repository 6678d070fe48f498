"""Every kind of operand that a model may have: quantized rightly in both placements, or left in float with the reason.

`int8_below_simulation`: how far INT8, run by ONNX Runtime, lies below the same Q/DQ graph computed in float64, in dB
against the float model.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from enginewright.calibration.cache import CalibrationCache
from enginewright.calibration.recipe import QuantizationRecipe
from enginewright.config import Build, Calibration, CalibrationAlgorithm, Placement, Precision
from enginewright.graph.names import inner_graphs
from enginewright.graph.qdq import insert_qdq, quantizable
from enginewright.graph.reasons import left_in_float
from enginewright.runtimes.base import BuildJob, Capability
from enginewright.runtimes.onnxruntime import RUNTIME
from enginewright.runtimes.onnxruntime.calibrator import calibrate
from enginewright.runtimes.onnxruntime.session import open_session
from enginewright.runtimes.tensorrt_rtx import RUNTIME as RTX
from support.networks import PLACEMENTS
from support.reference import simulated, sqnr_db

Array = npt.NDArray[Any]
node = helper.make_node
random = np.random.default_rng(7)


def stored(name: str, *shape: int, scale: float = 0.3) -> TensorProto:
    return numpy_helper.from_array((random.normal(size=shape) * scale).astype(np.float32), name)


def held(name: str, value: Any, dtype: Any = np.float32) -> TensorProto:
    return numpy_helper.from_array(np.asarray(value, dtype), name)


@dataclass
class Kind:
    """A graph from `x`, float32 [n, *shape], to `y`; `left`: the layers that stay in float, with a part of the
    reason.
    """

    nodes: Sequence[NodeProto]
    constants: Sequence[TensorProto]
    shape: Sequence[int]
    left: Mapping[str, str] = field(default_factory=dict)
    change: Callable[[ModelProto], None] = lambda _: None

    def model(self) -> ModelProto:
        ends = [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", *self.shape]),
            helper.make_tensor_value_info("y", TensorProto.FLOAT, None),
        ]
        graph = helper.make_graph(list(self.nodes), "kind", ends[:1], ends[1:], list(self.constants))
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        self.change(made)
        return onnx.shape_inference.infer_shapes(made)

    def images(self) -> Array:
        return np.random.default_rng(11).normal(size=(8, *self.shape)).astype(np.float32)


def _listed_as_inputs(model: ModelProto) -> None:
    """As old exporters wrote them, of which PyTorch's still has the option keep_initializers_as_inputs."""
    model.ir_version = 3
    model.graph.input.extend(
        helper.make_tensor_value_info(each.name, each.data_type, each.dims) for each in model.graph.initializer
    )


def _sparse(model: ModelProto) -> None:
    """Keep the weight `w` as its values that are not zero."""
    dense = next(each for each in model.graph.initializer if each.name == "w")
    value = numpy_helper.to_array(dense)
    places = np.flatnonzero(value)
    values = numpy_helper.from_array(value.reshape(-1)[places], "w")
    model.graph.sparse_initializer.append(
        helper.make_sparse_tensor(values, numpy_helper.from_array(places, "w_places"), value.shape)
    )
    model.graph.initializer.remove(dense)


def _in_a_function(model: ModelProto) -> None:
    """Let a function of the model's own hold the layer `inside`."""
    imports = [helper.make_opsetid("", 17)]
    model.functions.append(
        helper.make_function("own", "Double", ["a", "k"], ["b"], [node("MatMul", ["a", "k"], ["b"], "inside")], imports)
    )
    model.opset_import.append(helper.make_opsetid("own", 1))


def _returned(model: ModelProto) -> None:
    """Make the input, and a tensor that a layer reads, outputs too."""
    model.graph.output.append(model.graph.input[0])
    model.graph.output.append(helper.make_tensor_value_info("r", TensorProto.FLOAT, ["n", 6, 6, 6]))


CONV = [stored("w", 6, 3, 3, 3), stored("b", 6)]
LINEAR = [node("MatMul", ["x", "w"], ["m"], "first"), node("Relu", ["m"], ["r"], "relu")]
BOTH = "both its factors are constants"
KINDS = {
    "a vector on the right": Kind(
        [*LINEAR, node("MatMul", ["r", "v"], ["y"], "last")], [stored("w", 16, 12), stored("v", 12)], (5, 16)
    ),
    "a stack of matrices": Kind([node("MatMul", ["x", "w"], ["y"], "last")], [stored("w", 5, 16, 3)], (5, 4, 16)),
    "a stack of one matrix": Kind([node("MatMul", ["x", "w"], ["y"], "last")], [stored("w", 1, 16, 3)], (4, 16)),
    "a matrix on the left": Kind(
        [
            node("MatMul", ["w", "x"], ["m"], "first"),
            node("Relu", ["m"], ["r"]),
            node("MatMul", ["r", "v"], ["y"], "last"),
        ],
        [stored("w", 8, 8), stored("v", 16, 4)],
        (8, 16),
    ),
    "a vector on the left": Kind([node("MatMul", ["w", "x"], ["y"], "only")], [stored("w", 8)], (8, 16)),
    "one matrix on both sides": Kind(
        [node("MatMul", ["x", "w"], ["m"], "right"), node("MatMul", ["w", "m"], ["y"], "left")],
        [stored("w", 8, 8)],
        (8, 8),
    ),
    "two constants": Kind(
        [node("MatMul", ["a", "b"], ["c"], "constants"), node("MatMul", ["x", "c"], ["y"], "last")],
        [stored("a", 8, 6), stored("b", 6, 4)],
        (5, 8),
        {"constants": BOTH},
    ),
    "a constant Gemm": Kind(
        [
            node("Gemm", ["a", "b", "d"], ["c"], "constants", transA=1, alpha=0.5),
            node("Gemm", ["x", "c"], ["y"], "last", transB=1),
        ],
        [
            stored("a", 6, 8),
            stored("b", 6, 4),
            stored("d", 4),
        ],
        (4,),
        {"constants": BOTH},
    ),
    "a constant factor before a Gemm": Kind(
        [node("Gemm", ["x", "w"], ["m"], "first"), node("Gemm", ["a", "m"], ["y"], "last")],
        [stored("w", 4, 6), stored("a", 3, 8)],
        (4,),
        {"last": "its weight is computed in the graph"},
    ),
    "the same tensor twice": Kind(
        [
            node("Relu", ["x"], ["r"]),
            node("MatMul", ["r", "r"], ["m"], "square"),
            node("Add", ["m", "m"], ["y"], "double"),
        ],
        [],
        (6, 6),
    ),
    "a depthwise layer read twice by one sum": Kind(
        [
            node("Conv", ["x", "w"], ["c"], "deep", group=3, pads=[1] * 4),
            node("Add", ["c", "c"], ["s"]),
            node("Conv", ["s", "v"], ["y"], "last"),
        ],
        [stored("w", 3, 1, 3, 3), stored("v", 4, 3, 1, 1)],
        (3, 8, 8),
    ),
    "a convolution by itself": Kind(
        [
            node("Conv", ["x", "w", "b"], ["c"], "first"),
            node("ReduceMean", ["x"], ["k"], "mean", axes=[0], keepdims=1),
            node("Conv", ["x", "k"], ["d"], "itself"),
        ]
        + [node("Flatten", ["c"], ["f"]), node("Flatten", ["d"], ["e"]), node("Concat", ["f", "e"], ["y"], axis=1)],
        CONV,
        (3, 6, 6),
        {"itself": "its weight is computed in the graph"},
    ),
    "one weight along two axes": Kind(
        [node("Gemm", ["x", "w"], ["g"], "plain"), node("Gemm", ["g", "w"], ["y"], "transposed", transB=1)],
        [stored("w", 6, 9)],
        (6,),
    ),
    "a weight behind other constants": Kind(
        [
            node(
                "Constant",
                [],
                ["half"],
                value=numpy_helper.from_array(random.normal(size=(3, 6, 3, 3)).astype(np.float16) / 4),
            ),
            node("Cast", ["half"], ["w_single"], to=TensorProto.FLOAT),
            node("Transpose", ["w_single"], ["w_turned"], perm=[1, 0, 2, 3]),
            node("Identity", ["x"], ["same"]),
            node("Conv", ["same", "w_turned", "b"], ["c"], "first", pads=[1] * 4),
            node("Constant", [], ["six"], value_float=6.0),
            node("Constant", [], ["shape"], value_ints=[0, -1]),
            node("Clip", ["c", "zero", "six"], ["r"]),
            node("Reshape", ["r", "shape"], ["f"]),
            node("Identity", ["v"], ["v_same"]),
            node("Gemm", ["f", "v_same"], ["y"], "last"),
        ],
        [CONV[1], held("zero", [0.0]), stored("v", 6 * 64, 5, scale=0.05)],
        (3, 8, 8),
    ),
    "weights that are listed as inputs": Kind(
        [node("Conv", ["x", "w", "b"], ["y"], "only")], CONV, (3, 8, 8), change=_listed_as_inputs
    ),
    "outputs that are read inside": Kind(
        [
            node("Conv", ["x", "w", "b"], ["c"], "first"),
            node("Relu", ["c"], ["r"]),
            node("Conv", ["r", "v"], ["y"], "last"),
        ],
        [*CONV, stored("v", 4, 6, 1, 1)],
        (3, 8, 8),
        change=_returned,
    ),
    "a limit that is computed": Kind(
        [
            node("Conv", ["x", "w", "b"], ["c"], "first"),
            node("ReduceMax", ["x"], ["most"], keepdims=0),
            node("Clip", ["c", "zero", "most"], ["r"]),
        ]
        + [node("Conv", ["r", "v"], ["y"], "last")],
        [*CONV, held("zero", 0), stored("v", 4, 6, 1, 1)],
        (3, 8, 8),
    ),
    "no weight at all": Kind(
        [
            node("Conv", ["x", "w", "b"], ["c"], "first"),
            node("Flatten", ["c"], ["f"]),
            node("Gemm", ["f", "none"], ["e"], "empty"),
            node("Concat", ["f", "e"], ["y"], axis=1),
        ],
        [*CONV, held("none", np.zeros((6 * 36, 0)))],
        (3, 8, 8),
        {"empty": "its constant none holds no value"},
    ),
}


def _query(name: str, *extra: NodeProto) -> list[NodeProto]:
    """A learned query [1, 2, 16] called `name`, expanded over the batch of x [n, 6, 16] and projected."""
    return [
        node("Shape", ["x"], ["all"]),
        node("Gather", ["all", "zeroth"], ["count"]),
        node("Concat", ["count", "two_by_16"], ["wanted"], axis=0),
        *extra,
        node("Expand", [name, "wanted"], ["queries"], "expand"),
        node("MatMul", ["queries", "wq"], ["q"], "project"),
        node("Transpose", ["x"], ["k"], perm=[0, 2, 1]),
        node("MatMul", ["q", "k"], ["scores"], "scores"),
    ]


def _branches(*layers: NodeProto) -> NodeProto:
    """An If, both of whose branches compute these from what lies outside; the last one gives `inner`."""
    body = helper.make_graph(
        list(layers), "branch", [], [helper.make_tensor_value_info("inner", TensorProto.FLOAT, None)]
    )
    return node("If", ["yes"], ["chosen"], "choice", then_branch=body, else_branch=body)


QUERY = [
    held("zeroth", [0], np.int64),
    held("two_by_16", [2, 16], np.int64),
    stored("wq", 16, 16),
    stored("query", 1, 2, 16, scale=2.0),
]
ATTENTION = [
    node("MatMul", ["x", "wq"], ["q"], "q"),
    node("Transpose", ["x"], ["k"], perm=[0, 2, 1]),
    node("MatMul", ["q", "k"], ["s"], "scores"),
]
WEIGHTED = [node("Softmax", ["masked"], ["p"]), node("MatMul", ["p", "x"], ["y"], "values")]
CAUSAL = np.triu(np.full((6, 6), -np.inf), 1)
KINDS.update(
    {
        "a learned query": Kind(
            [*_query("query"), node("Softmax", ["scores"], ["p"]), node("MatMul", ["p", "x"], ["y"], "last")],
            QUERY,
            (6, 16),
        ),
        "a number for each image": Kind(
            [
                node("Shape", ["x"], ["all"]),
                node("Gather", ["all", "nought"], ["count"]),
                node("Range", ["nought", "count", "one"], ["numbers"]),
                node("Cast", ["numbers"], ["real"], to=TensorProto.FLOAT),
                node("Unsqueeze", ["real", "axes"], ["column"]),
                node("MatMul", ["column", "wp"], ["embedded"], "embed"),
                node("Add", ["x", "embedded"], ["sum"]),
                node("MatMul", ["sum", "wq"], ["y"], "last"),
            ],
            [
                held("nought", 0, np.int64),
                held("one", 1, np.int64),
                held("axes", [1, 2], np.int64),
                stored("wp", 1, 16),
                QUERY[2],
            ],
            (6, 16),
        ),
        "zeros of a shape": Kind(
            [
                *_query("state", node("ConstantOfShape", ["wanted"], ["state"], value=held("", [0.5]))),
                node("Identity", ["scores"], ["y"]),
            ],
            QUERY[:3],
            (6, 16),
        ),
        "a mask of minus infinity": Kind(
            [*ATTENTION, node("Add", ["s", "mask"], ["masked"], "mask"), *WEIGHTED],
            [QUERY[2], held("mask", CAUSAL)],
            (6, 16),
        ),
        "a mask that hides a whole row, and what replaces its NaN": Kind(
            [
                *ATTENTION,
                node("Add", ["s", "mask"], ["masked"], "mask"),
                node("Softmax", ["masked"], ["all"]),
                node("IsNaN", ["all"], ["hidden"]),
                node("Where", ["hidden", "nought", "all"], ["p"]),
                node("MatMul", ["p", "x"], ["y"], "values"),
            ],
            [QUERY[2], held("mask", np.where(np.arange(6)[:, None] < 1, -np.inf, CAUSAL)), held("nought", 0)],
            (6, 16),
        ),
        "a mask of the lowest number": Kind(
            [*ATTENTION, node("Add", ["s", "mask"], ["masked"], "mask"), *WEIGHTED],
            [QUERY[2], held("mask", np.maximum(CAUSAL, np.finfo(np.float32).min))],
            (6, 16),
        ),
        "a mask by Where": Kind(
            [*ATTENTION, node("Where", ["keep", "s", "lowest"], ["masked"]), *WEIGHTED],
            [QUERY[2], held("lowest", -np.inf), held("keep", CAUSAL == 0, bool)],
            (6, 16),
        ),
        "a masked tensor that a layer reads": Kind(
            [
                node("Add", ["x", "mask"], ["masked"]),
                node("MatMul", ["masked", "w"], ["m"], "reads"),
                node("Sigmoid", ["m"], ["p"]),
            ]
            + [node("MatMul", ["p", "v"], ["y"], "last")],
            [
                held("mask", [[0], [-np.inf], [0], [0], [0]]),
                held("w", np.abs(random.normal(size=(4, 4)))),
                stored("v", 4, 3),
            ],
            (5, 4),
            {"reads": "masked holds infinity, as 'mask' does"},
        ),
        "half precision inside": Kind(
            [
                node("Cast", ["x"], ["h"], to=TensorProto.FLOAT16),
                node("MatMul", ["h", "w"], ["m"], "half"),
                node("Cast", ["m"], ["f"], to=TensorProto.FLOAT),
            ]
            + [node("MatMul", ["f", "v"], ["y"], "last")],
            [held("w", random.normal(size=(8, 8)) / 4, np.float16), stored("v", 8, 4)],
            (5, 8),
            {"half": "it computes in float16"},
        ),
        "double precision inside": Kind(
            [
                node("Cast", ["x"], ["h"], to=TensorProto.DOUBLE),
                node("MatMul", ["h", "w"], ["m"], "double"),
                node("Cast", ["m"], ["f"], to=TensorProto.FLOAT),
            ]
            + [node("MatMul", ["f", "v"], ["y"], "last")],
            [held("w", random.normal(size=(8, 8)) / 4, np.float64), stored("v", 8, 4)],
            (5, 8),
            {"double": "it computes in double"},
        ),
        "nothing found": Kind(
            [
                node("Greater", ["x", "bound"], ["above"]),
                node("Compress", ["x", "mark"], ["some"], axis=2),
                node("MatMul", ["x", "w"], ["m"], "first"),
            ]
            + [node("MatMul", ["some", "none"], ["e"], "empty"), node("Add", ["m", "e"], ["y"])],
            [held("bound", 100), held("mark", [False] * 8, bool), stored("w", 8, 4), held("none", np.zeros((0, 4)))],
            (5, 8),
            {"empty": "its constant none holds no value"},
        ),
        "a layer in a branch": Kind(
            [node("ReduceMax", ["x"], ["most"], keepdims=0), node("Greater", ["most", "bound"], ["yes"])]
            + [
                node("Conv", ["x", "w", "b"], ["c"], "first"),
                _branches(node("Conv", ["c", "v"], ["inner"], "inside")),
                node("Relu", ["c"], ["r"]),
            ]
            + [node("Conv", ["r", "v"], ["d"], "last"), node("Add", ["chosen", "d"], ["y"])],
            [*CONV, stored("v", 4, 6, 1, 1), held("bound", 0)],
            (3, 8, 8),
            {"inside": "it lies inside a branch or a loop"},
        ),
        "transposes that ONNX Runtime moves": Kind(
            [
                node("Conv", ["x", "w", "b"], ["c"], "first", pads=[1] * 4),
                node("Transpose", ["c"], ["t"], perm=[0, 1, 3, 2]),
                node("Softmax", ["t"], ["s"], axis=1),
            ]
            + [node("Transpose", ["s"], ["u"], perm=[0, 1, 3, 2]), node("Conv", ["u", "v"], ["y"], "last")],
            [*CONV, stored("v", 4, 6, 1, 1)],
            (3, 8, 8),
        ),
        "a layer in a function": Kind(
            [
                node("MatMul", ["x", "w"], ["m"], "first"),
                node("Double", ["m", "v"], ["d"], "call", domain="own"),
                node("MatMul", ["d", "u"], ["y"], "last"),
            ],
            [stored("w", 16, 12), stored("v", 12, 12), stored("u", 12, 4)],
            (5, 16),
            {"inside": "it lies inside a function of the model's own"},
            change=_in_a_function,
        ),
        "odd names": Kind(
            [
                node("Conv", ["x", "w", "b"], ["a\nb: 3f800000"], "first"),
                node("Relu", ["a\nb: 3f800000"], ["\u2028\x0b\x85\r\0%\\"]),
            ]
            + [node("Conv", ["\u2028\x0b\x85\r\0%\\", "v"], ["y"], "last")],
            [*CONV, stored("v", 4, 6, 1, 1)],
            (3, 8, 8),
        ),
    }
)
EACH = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS.keys())


def calibrated(kind: Kind, folder: Path) -> tuple[Path, CalibrationCache]:
    onnx.save(kind.model(), folder / "model.onnx")
    path = folder / "model.onnx"
    return path, calibrate(path, [{"x": kind.images()}], Calibration(algorithm=CalibrationAlgorithm.minmax))


def made_names(graph: Any) -> list[str]:
    """Everything that is made under a name, once for each time."""
    found = [each.name for each in (*graph.initializer, *graph.input)]
    for each in graph.node:
        found += [*each.output, each.name]
        found += [name for inner in inner_graphs(each) for name in made_names(inner)]
    return [name for name in found if name]


@PLACEMENTS
@EACH
def test_a_quantized_graph_is_valid_and_right(kind: Kind, placement: Placement, tmp_path: Path) -> None:
    model, (_, cache) = kind.model(), calibrated(kind, tmp_path)
    quantized = insert_qdq(model, cache.scales, placement)
    onnx.checker.check_model(quantized, full_check=True)
    before, names = Counter(made_names(model.graph)), Counter(made_names(quantized.graph))
    assert sorted(name for name, times in names.items() if times > max(before[name], 1)) == []
    weights = {each.name for each in model.graph.initializer}
    assert list(quantized.graph.input) == [value for value in model.graph.input if value.name not in weights]
    assert list(quantized.graph.output) == list(model.graph.output)
    feeds = {"x": kind.images()}
    reference, exact = simulated(model, feeds), simulated(quantized, feeds)
    found = open_session(quantized.SerializeToString()).run(None, feeds)
    for output, values in zip(model.graph.output, found):
        assert (
            sqnr_db(reference[output.name], values) > min(sqnr_db(reference[output.name], exact[output.name]), 60) - 3
        ), output.name


@PLACEMENTS
@EACH
def test_what_stays_in_float_says_why(kind: Kind, placement: Placement, tmp_path: Path) -> None:
    model, (_, cache) = kind.model(), calibrated(kind, tmp_path)
    left = left_in_float(model, cache.scales, placement)
    cache.write(tmp_path / "calib.cache")
    assert dict(CalibrationCache.read(tmp_path / "calib.cache").scales) == dict(cache.scales)
    assert left.keys() == kind.left.keys()
    assert [name for name in left if kind.left[name] not in left[name]] == []
    nodes = insert_qdq(model, cache.scales, placement).graph.node
    dequantized = {each.output[0] for each in nodes if each.op_type == "DequantizeLinear"}
    for layer in (each for each in nodes if each.op_type in ("Conv", "Gemm", "MatMul")):
        assert (set(layer.input[:2]) <= dequantized) == (layer.name not in left), layer.name


@EACH
def test_an_engine_of_onnx_runtime_is_right(kind: Kind, tmp_path: Path) -> None:
    path, cache = calibrated(kind, tmp_path)
    built = RUNTIME.build(path, BuildJob(Precision.int8, Build(), QuantizationRecipe(cache)))
    session = open_session(built.engine_bytes)
    assert [value.name for value in session.get_inputs()] == ["x"]
    feeds = {"x": kind.images()}
    reference, exact = simulated(kind.model(), feeds), simulated(onnx.load_model_from_string(built.engine_bytes), feeds)
    assert sqnr_db(reference["y"], session.run(["y"], feeds)[0]) > min(sqnr_db(reference["y"], exact["y"]), 60) - 3
    computed = [layer for layer in quantizable(kind.model()) if BOTH not in kind.left.get(layer.name, "")]
    assert built.quantized == len([layer for layer in computed if layer.name not in kind.left]), built.warnings


@pytest.mark.skipif(RTX.why_not(Capability.build) is not None, reason=str(RTX.why_not(Capability.build)))
@EACH
def test_tensorrt_rtx_takes_it(kind: Kind, tmp_path: Path) -> None:
    path, cache = calibrated(kind, tmp_path)
    model = kind.model()
    if len(model.graph.output) > 1 or any(each.op_type == "Compress" for each in model.graph.node):
        pytest.skip("TensorRT wants other names for inputs and outputs, and has no Compress")
    assert RTX.build(path, BuildJob(Precision.int8, Build(), QuantizationRecipe(cache))).engine_bytes


def test_what_an_operator_of_another_domain_makes_is_calibrated_as_what_it_turns_out_to_be(tmp_path: Path) -> None:
    """ONNX's inference does not know the type of it, nor of anything behind it."""
    layers = [
        node("MatMul", ["x", "w"], ["m"], "first"),
        node("Gelu", ["m"], ["g"], "gelu", domain="com.microsoft"),
        node("MatMul", ["g", "v"], ["y"], "last"),
    ]
    kind = Kind(
        layers,
        [stored("w", 16, 12), stored("v", 12, 5)],
        (5, 16),
        change=lambda model: model.opset_import.append(helper.make_opsetid("com.microsoft", 1)),
    )
    path, cache = calibrated(kind, tmp_path)
    assert list(cache.scales) == ["x", "m", "g", "y"]
    built = RUNTIME.build(path, BuildJob(Precision.int8, Build(), QuantizationRecipe(cache)))
    assert (built.quantized, dict(built.left_in_float)) == (2, {})
    feeds = {"x": kind.images()}
    assert (
        sqnr_db(open_session(str(path)).run(["y"], feeds)[0], open_session(built.engine_bytes).run(["y"], feeds)[0])
        > 30
    )


def test_sparse_weights_are_weights(tmp_path: Path) -> None:
    layers = [
        node("MatMul", ["x", "w"], ["m"], "first"),
        node("Relu", ["m"], ["r"]),
        node("MatMul", ["r", "v"], ["y"], "last"),
    ]
    weight = held("w", random.normal(size=(16, 12)) * (random.random((16, 12)) > 0.6))
    kind = Kind(layers, [weight, stored("v", 12, 5)], (5, 16), change=_sparse)
    path, cache = calibrated(kind, tmp_path)
    feeds = {"x": kind.images()}
    reference = open_session(str(path)).run(["y"], feeds)[0]
    built = RUNTIME.build(path, BuildJob(Precision.int8, Build(), QuantizationRecipe(cache)))
    assert (built.quantized, dict(built.left_in_float)) == (2, {})
    plans = [
        built.engine_bytes,
        *(insert_qdq(kind.model(), cache.scales, placement).SerializeToString() for placement in Placement),
    ]
    assert min(sqnr_db(reference, open_session(plan).run(["y"], feeds)[0]) for plan in plans) > 30
    if RTX.why_not(Capability.build) is None:  # its parser knows none, and is given none
        assert RTX.build(path, BuildJob(Precision.int8, Build(), QuantizationRecipe(cache))).quantized == 2


def test_a_file_that_onnx_refuses_and_onnx_runtime_runs_is_built(tmp_path: Path) -> None:
    """A node of the domain `ai.onnx` in a model that imports the empty one."""
    model = Kind(
        [node("MatMul", ["x", "w"], ["r"], "first"), node("Relu", ["r"], ["y"])], [stored("w", 8, 4)], (8,)
    ).model()
    model.graph.node[1].domain = "ai.onnx"
    onnx.save(model, tmp_path / "model.onnx")
    images = {"x": np.random.default_rng(0).normal(size=(16, 8)).astype(np.float32)}
    cache = calibrate(tmp_path / "model.onnx", [images], Calibration(algorithm=CalibrationAlgorithm.minmax))
    built = RUNTIME.build(tmp_path / "model.onnx", BuildJob(Precision.int8, Build(), QuantizationRecipe(cache)))
    (exact,), (found,) = (
        open_session(each).run(None, images) for each in (model.SerializeToString(), built.engine_bytes)
    )
    assert built.quantized == 1
    assert sqnr_db(exact, found) > 30
