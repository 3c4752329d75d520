"""Stock Keras networks of the pruning literature, for the examples and the tests.

Every builder has the signature `builder(input_shape, num_classes, *, ...)` and returns
a functional `keras.Model` of stock layers: images of shape `input_shape` with values in
[0, 1], channels last, go in, and logits (no softmax) come out, so losses want
`from_logits=True`. Initial weights depend on `keras.utils.set_random_seed` only.
"""

from typing import Any

import keras

from scl_keras import checks
from scl_keras.architectures.lenet import lenet_5, lenet_300_100
from scl_keras.architectures.mobilenet import mobilenet
from scl_keras.architectures.resnet import resnet
from scl_keras.architectures.transformer import vision_transformer
from scl_keras.architectures.vgg import small_vgg, vgg
from scl_keras.types import Shape

__all__ = [
    "ARCHITECTURES",
    "build_architecture",
    "lenet_5",
    "lenet_300_100",
    "mobilenet",
    "resnet",
    "small_vgg",
    "vgg",
    "vision_transformer",
]

ARCHITECTURES = {
    "lenet_300_100": lenet_300_100,
    "lenet_5": lenet_5,
    "vgg": vgg,
    "small_vgg": small_vgg,
    "resnet": resnet,
    "mobilenet": mobilenet,
    "vision_transformer": vision_transformer,
}
"""The builders by name."""


def build_architecture(
    name: str, input_shape: Shape, num_classes: int, **kwargs: Any
) -> keras.Model:
    """Builds one of `ARCHITECTURES` by name.

    Example:
    ```python
    from scl_keras.architectures import build_architecture

    model = build_architecture("vgg", (32, 32, 3), 10, depth=11)
    assert model.output_shape == (None, 10)
    ```

    Args:
        name: A key of `ARCHITECTURES`.
        input_shape: Shape of one image, `(height, width, channels)`.
        num_classes: Number of classes, i.e. of logits.
        **kwargs: What the builder takes besides.

    Returns:
        A functional `keras.Model`.

    Raises:
        ValueError: If `name` is unknown, or the builder refuses an argument.
    """
    checks.one_of("name", name, ARCHITECTURES)
    return ARCHITECTURES[name](input_shape, num_classes, **kwargs)
