"""Where an infinity of a stored tensor ends: in a mask, which is how attention hides values, or in arithmetic, where it
is a fault.

-inf + x is -inf and its Softmax is 0: a causal mask that PyTorch exports as -inf, or as the least float32, is as it
should be. The same number in the weight of a layer, or in a bias that no Softmax follows, makes every answer infinite
or NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Optional

import onnx

from enginewright.check_onnx.reading import Node, inner_graphs, inputs, walk

Signs = frozenset[int]  # of {-1, 1}: which infinities a tensor may hold
NONE, NEGATIVE, POSITIVE = frozenset[int](), frozenset({-1}), frozenset({1})

# Operators that hand values on as they are.
MOVES = frozenset(
    (
        *(
            "Identity",
            "Reshape",
            "Transpose",
            "Squeeze",
            "Unsqueeze",
            "Flatten",
            "Expand",
            "Tile",
            "Concat",
            "Slice",
            "Split",
        ),
        *("Gather", "GatherElements", "GatherND", "ScatterElements", "ScatterND", "Pad", "Dropout", "Trilu"),
        *("TopK", "Where", "LogSoftmax", "LeakyRelu", "PRelu", "Resize", "CastLike", "Add"),
    )
)
# Operators whose result is finite whatever they get.
ENDS = frozenset(
    (
        *(
            "Sigmoid",
            "Tanh",
            "HardSigmoid",
            "Erf",
            "Softsign",
            "Equal",
            "Greater",
            "GreaterOrEqual",
            "Less",
            "LessOrEqual",
        ),
        *("Not", "IsInf", "IsNaN", "ArgMax", "ArgMin", "Sign", "Shape", "Size", "ConstantOfShape", "Atan"),
    )
)
# Operators that end an infinity of one sign and hand on the other.
ENDS_NEGATIVE = frozenset(("Exp", "Relu", "Softplus", "Elu", "Selu", "Celu", "ReduceMax", "GlobalMaxPool", "MaxPool"))
ENDS_NEGATIVE |= {"ReduceLogSumExp", "Max"}
ENDS_POSITIVE = frozenset(("ReduceMin", "Min"))
# Arithmetic that a large finite number passes through.
SCALES = frozenset(("Mul", "Div"))
# What is true or false, or a number that no image and no weight decides.
CHOOSES = frozenset(("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Not", "And", "Or", "Xor", "Shape"))
FLOATS = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16, onnx.TensorProto.DOUBLE)


def ends(
    graph: onnx.GraphProto,
    tensor: str,
    signs: Collection[int],
    finite: bool = False,
    choices: Collection[str] = frozenset(),
) -> Optional[str]:
    """What becomes of the infinities of a stored tensor: "mask", "output" (they reach one), or None, where they meet
    arithmetic.

    Args:
        graph: the main graph; graphs inside its nodes are followed too.
        tensor: the name of an initializer or of a Constant's output.
        signs: of its infinities.
        finite: they are numbers too large for FP16 instead of infinities.
        choices: tensors that are 0 where nothing is hidden (`chosen`).
    """
    held: dict[str, Signs] = {tensor: frozenset(signs)}
    guards: set[str] = set()
    for node in walk(graph):
        if _guards(node, guards):
            guards.update(node.proto.output)
        if finite and node.operator == "Where" and node.proto.input[0] in guards:
            continue  # torch.nan_to_num: it stands for values that are infinite, or no number, already
        passed = _passed(node, held, finite, choices)
        if passed is None:
            return None
        if passed:
            held.update({name: passed | held.get(name, NONE) for name in node.proto.output if name})
    return "output" if any(held.get(name) for name in _returned(graph)) else "mask"


def _guards(node: Node, guards: Collection[str]) -> bool:
    """Whether a node says where values are infinite or no number, from such an answer as far as it has one."""
    if node.operator in ("IsInf", "IsNaN"):
        return True
    known = [name in guards for name in node.proto.input]
    return any(known) if node.operator == "And" else bool(known) and all(known) if node.operator == "Or" else False


def _returned(graph: onnx.GraphProto) -> Iterator[str]:
    """What the graph returns, and the graphs inside its nodes."""
    yield from (output.name for output in graph.output)
    for node in walk(graph):
        for inner in inner_graphs(node.proto):
            yield from (output.name for output in inner.output)


def _passed(node: Node, held: Mapping[str, Signs], finite: bool, choices: Collection[str]) -> Optional[Signs]:
    """Which infinities a node hands on; None if it computes nonsense with them."""
    found = {index: held[name] for index, name in enumerate(node.proto.input) if held.get(name)}
    if not found:
        return NONE
    operator, signs = node.operator, NONE.union(*found.values())
    if finite and operator == "Mul" and any(name in choices for name in node.proto.input):
        return NEGATIVE  # (1 - mask) * least, as of BERT, and (mask - 1) * greatest: 0, or what hides
    if finite and operator in SCALES:
        return signs | frozenset(-sign for sign in signs)
    if operator in SPECIAL:
        return SPECIAL[operator](node, found)
    if operator == "Add" and len(signs) > 1 and len(found) > 1:
        return None
    return _moved(operator, signs)


def _moved(operator: str, signs: Signs) -> Optional[Signs]:
    if operator in MOVES:
        return signs
    if operator in ENDS or (operator == "Softmax" and signs == NEGATIVE):
        return NONE
    ended = NEGATIVE if operator in ENDS_NEGATIVE else POSITIVE if operator in ENDS_POSITIVE else None
    return None if ended is None else signs - ended


def _clip(node: Node, found: Mapping[int, Signs]) -> Signs:
    """As limits they are none; as values, a limit on their side ends them."""
    given = [bool(name) for name in node.proto.input] + [False] * 3
    limits = {sign for sign, there in ((-1, given[1]), (1, given[2])) if there}
    return found.get(0, NONE) - limits


def _sub(_: Node, found: Mapping[int, Signs]) -> Optional[Signs]:
    turned = frozenset(-sign for sign in found.get(1, NONE))
    return None if turned and 0 in found else found.get(0, NONE) | turned


def _div(_: Node, found: Mapping[int, Signs]) -> Optional[Signs]:
    return NONE if 0 not in found else None


def _cast(node: Node, found: Mapping[int, Signs]) -> Signs:
    return found.get(0, NONE) if any(each.name == "to" and each.i in FLOATS for each in node.proto.attribute) else NONE


def _negated(_: Node, found: Mapping[int, Signs]) -> Signs:
    return frozenset(-sign for sign in found.get(0, NONE))


SPECIAL: Mapping[str, Callable[[Node, Mapping[int, Signs]], Optional[Signs]]] = {
    "Clip": _clip,
    "Sub": _sub,
    "Div": _div,
    "Cast": _cast,
    "Neg": _negated,
}


def masks(
    graph: onnx.GraphProto, large: Mapping[str, Collection[int]], choices: Collection[str] = frozenset()
) -> Iterator[str]:
    """Of stored tensors with numbers too large for FP16, and the signs of these: those that only hide values.

    Args:
        graph: the main graph.
        large: tensor -> the signs of its large numbers.
        choices: what a mask may be multiplied by (`chosen`); nothing, if such a product is no mask.
    """
    for tensor, signs in large.items():
        if ends(graph, tensor, signs, finite=True, choices=choices) == "mask":
            yield tensor


def chosen(graph: onnx.GraphProto) -> set[str]:
    """Tensors that integers and booleans alone decide, such as an attention mask before it is scaled."""
    found = {
        value.name
        for value in inputs(graph)
        if value.type.tensor_type.elem_type not in (*FLOATS, onnx.TensorProto.STRING)
    }
    stored = {tensor.name for tensor in graph.initializer}
    for node in walk(graph):
        if node.operator == "Constant":
            stored.update(node.proto.output)
        read = [name for name in node.proto.input if name and name not in stored]
        moves = node.operator in MOVES and bool(node.proto.input) and node.proto.input[0] in found
        follows = bool(read) and found.issuperset(read) and (moves or node.operator in ("Cast", "Sub", "Add", "Mul"))
        if node.operator in CHOOSES or follows:
            found.update(node.proto.output)
    return found - {""}
