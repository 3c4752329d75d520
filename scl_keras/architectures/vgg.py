"""VGG for small images, with batch normalization."""

from collections.abc import Sequence

from keras import Model, layers

from scl_keras import checks
from scl_keras.architectures.blocks import image_input, logits, normalize, scaled
from scl_keras.types import Shape

_FILTERS = (64, 128, 256, 512, 512)
# 3x3 convolutions in each of the five stages.
_CONVOLUTIONS = {
    8: (1, 1, 1, 1, 1),
    11: (1, 1, 2, 2, 2),
    13: (2, 2, 2, 2, 2),
    16: (2, 2, 3, 3, 3),
    19: (2, 2, 4, 4, 4),
}


def vgg(
    input_shape: Shape,
    num_classes: int,
    *,
    depth: int = 8,
    width: float = 0.5,
    dense_units: Sequence[int] = (),
    name: str = "vgg",
) -> Model:
    """Builds a VGG as it is used on CIFAR (Simonyan & Zisserman, 2015).

    Five stages of 3x3 convolutions with batch normalization and ReLU, each followed by
    2x2 max pooling, then the dense layers. `depth=16, width=1.0` is the VGG-16 of the
    pruning literature, with 14,710,464 connections in 13 convolutions. The default is
    small enough to train on a CPU. A stage is not pooled where only one pixel is left,
    so images smaller than 32x32 work, too.

    Example:
    ```python
    from scl_keras.architectures import vgg

    assert vgg((32, 32, 3), 10).output_shape == (None, 10)
    ```

    Args:
        input_shape: Shape of one image, `(height, width, channels)`.
        num_classes: Number of classes, i.e. of logits.
        depth: 8, 11, 13, 16 or 19: as in the paper's names the convolutions plus 3,
            although by default one dense layer stands in for the three.
        width: Multiplier on the number of filters.
        dense_units: Units of the hidden dense layers, `(4096, 4096)` in the paper. By
            default there are none, and the logits follow on global average pooling.
        name: Name of the model.

    Returns:
        A functional `keras.Model` from images in [0, 1] to logits.

    Raises:
        ValueError: If there is no such `depth`, `input_shape` is no shape of images, or
            `num_classes`, `width` or `dense_units` isn't positive.
    """
    wanted = f"one of {tuple(_CONVOLUTIONS)}"
    if checks.integer("depth", depth, wanted) not in _CONVOLUTIONS:
        raise checks.refusal("depth", depth, wanted)
    if dense_units != ():
        wanted = "a tuple of whole numbers >= 1, one a layer"
        dense_units = checks.integers("dense_units", dense_units, wanted, least=1)
    x = inputs = image_input(input_shape, num_classes)
    stages = zip(_FILTERS, _CONVOLUTIONS[depth], strict=True)
    for stage, (filters, count) in enumerate(stages, start=1):
        for index in range(1, count + 1):
            x = layers.Conv2D(
                scaled(filters, width),
                3,
                padding="same",
                use_bias=False,  # batch normalization adds one
                kernel_initializer="he_normal",
                name=f"stage{stage}_conv{index}",
            )(x)
            x = normalize(x, f"stage{stage}_bn{index}")
            x = layers.ReLU(name=f"stage{stage}_relu{index}")(x)
        if min(x.shape[1:3]) > 1:
            x = layers.MaxPooling2D(2, name=f"stage{stage}_pool")(x)
    if not dense_units:
        return Model(inputs, logits(x, num_classes), name=name)
    x = layers.Flatten(name="flatten")(x)
    for index, units in enumerate(dense_units, start=1):
        x = layers.Dense(units, activation="relu", name=f"dense_{index}")(x)
    return Model(inputs, layers.Dense(num_classes, name="logits")(x), name=name)


def small_vgg(
    input_shape: Shape, num_classes: int, *, name: str = "small_vgg"
) -> Model:
    """Builds a VGG of quarter width with the paper's two hidden dense layers, of 512.

    On 28x28 images of one channel more than half of its connections are in the dense
    layers, as it is in the paper's networks: it is for methods that cut only those.

    Example:
    ```python
    from scl_keras.architectures import small_vgg

    assert small_vgg((28, 28, 1), 10).get_layer("dense_1").units == 512
    ```

    Args:
        input_shape: Shape of one image, `(height, width, channels)`.
        num_classes: Number of classes, i.e. of logits.
        name: Name of the model.

    Returns:
        A functional `keras.Model` from images in [0, 1] to logits.

    Raises:
        ValueError: If `input_shape` is no shape of images, or `num_classes` isn't
            positive.
    """
    units = (512, 512)
    return vgg(input_shape, num_classes, width=0.25, dense_units=units, name=name)
