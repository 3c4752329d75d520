"""Residual networks for small images."""

from keras import Model, layers

from scl_keras.architectures.blocks import (
    image_input,
    logits,
    normalize,
    positive,
    scaled,
)
from scl_keras.types import Shape


def resnet(
    input_shape: Shape,
    num_classes: int,
    *,
    depth: int = 20,
    width: float = 1.0,
    stages: int = 3,
    name: str = "resnet",
) -> Model:
    """Builds a ResNet as it is used on CIFAR (He et al., 2016).

    A 3x3 convolution, then stages of residual blocks of two 3x3 convolutions; each
    stage after the first doubles the filters, from 16, and halves the image. Where the
    shape changes, the shortcut is a 1x1 convolution with batch normalization, the
    paper's option B: unlike option A, which subsamples and pads with zero channels, it
    is made of layers that can be pruned. It adds 2,752 parameters to ResNet-20, which
    has 272,474 trainable ones on CIFAR-10.

    `depth=18, width=4.0, stages=4` is the CIFAR variant of ResNet-18.

    Example:
    ```python
    from scl_keras.architectures import resnet

    assert resnet((32, 32, 3), 10, depth=8).output_shape == (None, 10)
    ```

    Args:
        input_shape: Shape of one image, `(height, width, channels)`.
        num_classes: Number of classes, i.e. of logits.
        depth: Number of layers with weights, shortcuts aside: a multiple of
            `2 * stages`, plus 2. With three stages 8, 14, 20, 32, 56, ...
        width: Multiplier on the number of filters.
        stages: Number of stages.
        name: Name of the model.

    Returns:
        A functional `keras.Model` from images in [0, 1] to logits.

    Raises:
        ValueError: If `depth` does not fit `stages`, `input_shape` is no shape of
            images, or `num_classes`, `width` or `stages` isn't positive.
    """
    stages, depth = positive("stages", stages), positive("depth", depth)
    blocks, remainder = divmod(depth - 2, 2 * stages)
    if blocks < 1 or remainder:
        raise ValueError(
            "`depth` must be a positive multiple of `2 * stages`, plus 2. "
            f"Received: depth={depth}, stages={stages}"
        )
    inputs = image_input(input_shape, num_classes)
    x = _convolve(inputs, scaled(16, width), 3, 1, "stem_conv", "stem_bn")
    x = layers.ReLU(name="stem_relu")(x)
    for stage in range(1, stages + 1):
        filters = scaled(16 * 2 ** (stage - 1), width)
        for block in range(1, blocks + 1):
            strides = 2 if stage > 1 and block == 1 else 1
            x = _residual_block(x, filters, strides, f"stage{stage}_block{block}")
    return Model(inputs, logits(x, num_classes), name=name)


def _residual_block(x, filters, strides, name):
    shortcut = x
    x = _convolve(x, filters, 3, strides, f"{name}_conv1", f"{name}_bn1")
    x = layers.ReLU(name=f"{name}_relu1")(x)
    x = _convolve(x, filters, 3, 1, f"{name}_conv2", f"{name}_bn2")
    if strides > 1 or shortcut.shape[-1] != filters:
        shortcut = _convolve(
            shortcut, filters, 1, strides, f"{name}_shortcut", f"{name}_shortcut_bn"
        )
    x = layers.Add(name=f"{name}_add")([x, shortcut])
    return layers.ReLU(name=f"{name}_relu2")(x)


def _convolve(x, filters, kernel_size, strides, name, bn_name):
    x = layers.Conv2D(
        filters,
        kernel_size,
        strides=strides,
        padding="same",
        use_bias=False,  # batch normalization adds one
        kernel_initializer="he_normal",
        name=name,
    )(x)
    return normalize(x, bn_name)
