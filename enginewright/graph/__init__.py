"""ONNX in, ONNX out. Nothing here knows a file, a calibration cache or a runtime; scales are plain mappings.

- `index` is a graph with producers, consumers and constants; `constants`, `values`, `shapes` and `multiplications` say
  what is known of its tensors before it runs; `names` makes names that the model does not have.
- `fold` and `shapes` leave out nodes; `bias` lowers biases; `qdq` inserts scales where `placements` has them, and
  leaves in float what `reasons` gives a reason for; `activations` are the tensors that want a scale.
- `fp16` and its parts convert to half precision.
"""
