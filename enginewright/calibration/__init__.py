"""From activations to scales, and from scales to what INT8 is made by.

`cache` and `correction` are the two files, `recipe` puts them together, `quantize` applies a recipe to a model.
`histogram`, `entropy` and `ranges` choose a range from magnitudes and say what it does to them. `mixture` is
layers.yaml: what INT8 leaves in FP16. Who runs the model is elsewhere: `runtimes.onnxruntime`, or TensorRT's own
calibrators in `runtimes.tensorrt.calibrator`.

Promises:
- The names in calib.cache are names of artifacts/onnx/model.onnx, not of an optimized copy.
- Equal images and settings give equal bytes. No clock, no hash order, no thread count is in them.
- A scale is a positive float32: real = scale * int8, scale = amax / 127. A tensor that is zero on every image gets the
  range 1.
- NaN and infinity, in an image or in an activation, stop calibration with the tensor's name. The -inf of an attention
  mask does not: that tensor has no scale, and what reads it stays in float.
"""
