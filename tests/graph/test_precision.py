"""Half and double precision as float32."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from enginewright.graph.precision import other_floats, to_float32
from support.onnx_files import answers, normal, parsed

TYPES = {"float16": np.float16, "double": np.float64}
ONE = {"float16": np.float16(1).view(np.int16), "double": 1.0}


@pytest.mark.parametrize("kind", TYPES)
def test_the_same_numbers_in_float32(kind: str) -> None:
    weights = normal(4, 3).astype(TYPES[kind])
    model = parsed(
        f"g ({kind}[n, 4] x) => ({kind}[n, 3] y) {{ m = MatMul(x, w) c = Constant<value = {kind}[1] {{{ONE[kind]}}}>() "
        f"a = Add(m, c) l = Cast<to=1>(a) e = Exp(l) s = Sqrt(e) y = Cast<to={10 if kind == 'float16' else 11}>(s) }}",
        {"w": weights},
    )
    assert other_floats(model) == ("float64" if kind == "double" else "float16",)
    fed = normal(5, 4).astype(TYPES[kind])
    (before,) = answers(model, x=fed)
    to_float32(model)
    assert other_floats(model) == ()
    onnx.checker.check_model(model, full_check=True)
    (after,) = answers(model, x=fed.astype(np.float32))
    assert after.dtype == np.float32
    np.testing.assert_allclose(after, before, rtol=5e-3 if kind == "float16" else 1e-5)


def test_a_branch_is_converted_too() -> None:
    model = parsed(
        "g (float16[n, 4] x, bool c) => (float16[n, 4] y) { y = If(c) <then_branch = a () => (float16[n, 4] p) "
        "{ p = Relu(x) }, else_branch = b () => (float16[n, 4] q) { k = Constant<value = float16[1] {16384}>() "
        "q = Mul(x, k) }> }"
    )
    to_float32(model)
    (got,) = answers(model, x=normal(2, 4), c=np.array(False))
    np.testing.assert_array_equal(got, normal(2, 4) * 2)


def test_bfloat16_is_named_first() -> None:
    model = parsed("g (float16[n] x) => (bfloat16[n] y) { y = Cast<to=16>(x) }")
    assert other_floats(model) == ("bfloat16", "float16")
    to_float32(model)
    assert model.graph.output[0].type.tensor_type.elem_type == TensorProto.FLOAT
