"""What the architectures have in common."""

from keras import Input, layers


def image_input(input_shape):
    """Returns the input of a network, or refuses a shape that is not an image's."""
    shape = tuple(input_shape)
    if len(shape) != 3 or not all(size and size > 0 for size in shape):
        raise ValueError(
            "`input_shape` must be (height, width, channels), all positive. "
            f"Received: input_shape={input_shape}"
        )
    return Input(shape, name="image")


def scaled(filters, width):
    """Returns `filters` times the multiplier `width`, and at least one filter."""
    if width <= 0:
        raise ValueError(f"`width` must be positive. Received: width={width}")
    return max(1, int(filters * width))


def normalize(x, name):
    """Batch normalization as the published results of these networks used it.

    Keras's momentum of 0.99 needs hundreds of steps before the moving statistics are
    right, which is more than a short run on a small data set takes.
    """
    return layers.BatchNormalization(momentum=0.9, name=name)(x)


def logits(x, num_classes):
    """The classifier: global average pooling and one dense layer without softmax."""
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return layers.Dense(num_classes, name="logits")(x)
