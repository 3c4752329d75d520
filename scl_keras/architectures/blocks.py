"""What the architectures have in common."""

from keras import Input, layers

from scl_keras import checks


def image_input(input_shape, num_classes):
    """Returns the input of a network, or refuses what is no image's or no number."""
    positive("num_classes", num_classes)
    wanted = "(height, width, channels), all positive"
    shape = checks.integers("input_shape", input_shape, wanted, least=1)
    if len(shape) != 3:
        raise checks.refusal("input_shape", input_shape, wanted)
    return Input(shape, name="image")


def positive(name, value):
    """Returns a whole number from 1 on, or refuses what is none."""
    return checks.integer(name, value, "a whole number >= 1", least=1)


def scaled(filters, width):
    """Returns `filters` times the multiplier `width`, and at least one filter."""
    width = checks.number("width", width, "a positive number", lambda x: x > 0)
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
