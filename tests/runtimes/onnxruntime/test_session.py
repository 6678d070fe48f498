"""The options of a session, and the fusions that it goes without."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from enginewright.runtimes.onnxruntime.session import Purpose, needs_exact_products, open_session, session_options


@pytest.mark.parametrize(
    ("available", "exact"),
    [
        pytest.param(("avx2",), True, id="AVX2 alone saturates in 16 bits"),
        pytest.param(("avx2", "avx512f"), True, id="AVX-512 without VNNI"),
        pytest.param(("avx2", "avx512f", "avx512_vnni"), False, id="AVX512-VNNI"),
        pytest.param(("avx2", "avx_vnni"), False, id="AVX-VNNI"),
        pytest.param(("avx2", "avx512f", "amx_int8"), False, id="AMX"),
        pytest.param(("asimd",), False, id="Arm"),
    ],
)
def test_products_are_exact_where_they_would_saturate(available: tuple[str, ...], exact: bool) -> None:
    assert needs_exact_products(available) is exact
    options = session_options(Purpose.run, available)
    if exact:
        assert options.get_session_config_entry("session.x64quantprecision") == "1"
    else:
        with pytest.raises(RuntimeError, match="x64quantprecision"):
            options.get_session_config_entry("session.x64quantprecision")


def test_a_transposed_map_by_a_vector_is_not_the_map_by_that_vector() -> None:
    """ONNX Runtime 1.32 drops the Transpose in one of its fusions."""
    vector = np.linspace(-1, 2, 5, dtype=np.float32)
    graph = onnx.helper.make_graph(
        [
            onnx.helper.make_node("Transpose", ["input"], ["turned"], perm=[0, 2, 1]),
            onnx.helper.make_node("MatMul", ["turned", "vector"], ["output"]),
        ],
        "vector",
        [onnx.helper.make_tensor_value_info("input", onnx.TensorProto.FLOAT, ["n", 5, 10])],
        [onnx.helper.make_tensor_value_info("output", onnx.TensorProto.FLOAT, ["n", 10])],
        [onnx.numpy_helper.from_array(vector, "vector")],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    pixels = np.random.default_rng(0).normal(size=(2, 5, 10)).astype(np.float32)
    (answer,) = open_session(model.SerializeToString()).run(None, {"input": pixels})
    np.testing.assert_allclose(answer, pixels.transpose(0, 2, 1) @ vector, rtol=1e-4, atol=1e-5)
