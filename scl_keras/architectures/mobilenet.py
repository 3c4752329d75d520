"""MobileNet, in the form that runs on XNNPACK's sparse kernels."""

from keras import Model, layers

from scl_keras.architectures.blocks import image_input, logits, normalize, scaled
from scl_keras.types import Shape

# Filters and stride of each pair of a depthwise and a 1x1 convolution.
_BLOCKS = (
    (64, 1),
    (128, 2),
    (128, 1),
    (256, 2),
    (256, 1),
    (512, 2),
    *((512, 1),) * 5,
    (1024, 2),
    (1024, 1),
)
# Images are not made smaller than this on a side.
_SMALLEST = 4


def mobilenet(
    input_shape: Shape,
    num_classes: int,
    *,
    width: float = 0.25,
    name: str = "mobilenet",
) -> Model:
    """Builds MobileNetV1 (Howard et al., 2017), nearly all of it 1x1 convolutions.

    On ARM, XNNPACK runs the 1x1 convolutions of a sparse TFLite file on sparse kernels
    only if the whole network, from image to pooling, is made of what it has such
    kernels for. So here the first layer is a 3x3 convolution with stride 2 on three
    channels; layers with stride 2 are `"valid"` after one explicit row and column of
    zeros on each side, because `"same"` pads on one side only; and global average
    pooling comes last.

    The paper's network makes images 32 times smaller. This one leaves out the strides
    that would make them smaller than 4x4, so that it also works on small images; from
    97x97 pixels up all strides are the paper's.

    Example:
    ```python
    from scl_keras.architectures import mobilenet

    assert mobilenet((28, 28, 1), 10).output_shape == (None, 10)
    ```

    Args:
        input_shape: Shape of one image, `(height, width, channels)`, with three
            channels, or with one, which is then repeated three times.
        num_classes: Number of classes, i.e. of logits.
        width: Multiplier on the number of filters, 1.0 in the paper.
        name: Name of the model.

    Returns:
        A functional `keras.Model` from images in [0, 1] to logits.

    Raises:
        ValueError: If there are neither one nor three channels, or an argument is
            something else.
    """
    x = inputs = image_input(input_shape, num_classes)
    channels = inputs.shape[-1]
    if channels == 1:
        x = layers.Concatenate(name="repeat_channel")([x, x, x])
    elif channels != 3:
        raise ValueError(
            "MobileNet takes images with one or three channels. "
            f"Received: input_shape={input_shape}"
        )
    x = layers.ZeroPadding2D(1, name="stem_pad")(x)
    x = layers.Conv2D(
        scaled(32, width),
        3,
        strides=2,
        use_bias=False,  # batch normalization adds one
        kernel_initializer="he_normal",
        name="stem_conv",
    )(x)
    x = _activate(x, "stem")
    for index, (filters, strides) in enumerate(_BLOCKS, start=1):
        if (min(x.shape[1:3]) + 1) // 2 < _SMALLEST:
            strides = 1
        x = _separable_block(x, scaled(filters, width), strides, f"block{index}")
    return Model(inputs, logits(x, num_classes), name=name)


def _separable_block(x, filters, strides, name):
    if strides == 2:
        x = layers.ZeroPadding2D(1, name=f"{name}_pad")(x)
    x = layers.DepthwiseConv2D(
        3,
        strides=strides,
        padding="valid" if strides == 2 else "same",
        use_bias=False,
        name=f"{name}_depthwise",
    )(x)
    x = _activate(x, f"{name}_depthwise")
    x = layers.Conv2D(
        filters,
        1,
        use_bias=False,
        kernel_initializer="he_normal",
        name=f"{name}_pointwise",
    )(x)
    return _activate(x, f"{name}_pointwise")


def _activate(x, name):
    x = normalize(x, f"{name}_bn")
    return layers.ReLU(6.0, name=f"{name}_relu")(x)
