"""The two LeNets of the pruning literature."""

from keras import Model, layers

from scl_keras import checks
from scl_keras.architectures.blocks import image_input
from scl_keras.types import Shape


def lenet_300_100(
    input_shape: Shape, num_classes: int, *, name: str = "lenet_300_100"
) -> Model:
    """Builds LeNet-300-100, two hidden dense layers (LeCun et al., 1998).

    266,610 parameters on MNIST.

    Example:
    ```python
    from scl_keras.architectures import lenet_300_100

    assert lenet_300_100((28, 28, 1), 10).count_params() == 266_610
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
    inputs = image_input(input_shape, num_classes)
    x = layers.Flatten(name="flatten")(inputs)
    x = layers.Dense(300, activation="relu", name="dense_1")(x)
    x = layers.Dense(100, activation="relu", name="dense_2")(x)
    return Model(inputs, layers.Dense(num_classes, name="logits")(x), name=name)


def lenet_5(
    input_shape: Shape,
    num_classes: int,
    *,
    padding: str | None = None,
    name: str = "lenet_5",
) -> Model:
    """Builds the LeNet-5 that pruning papers compare on, the one shipped with Caffe.

    Two 5x5 convolutions of 20 and 50 filters, each followed by 2x2 max pooling, and a
    dense layer of 500 units, with ReLUs. 431,080 parameters on MNIST.

    Example:
    ```python
    from scl_keras.architectures import lenet_5

    assert lenet_5((28, 28, 1), 10).count_params() == 431_080
    ```

    Args:
        input_shape: Shape of one image, `(height, width, channels)`.
        num_classes: Number of classes, i.e. of logits.
        padding: Padding of the convolutions: `"valid"` as published, which needs
            16x16 pixels; `"same"`, which needs 4x4; or None for `"valid"` where it
            fits, else `"same"`, so that the network also works on 8x8 digits.
        name: Name of the model.

    Returns:
        A functional `keras.Model` from images in [0, 1] to logits.

    Raises:
        ValueError: If `input_shape` is no shape of images or too small for it,
            `num_classes` isn't positive, or `padding` isn't one of these.
    """
    inputs = image_input(input_shape, num_classes)
    side = min(inputs.shape[1:3])
    if padding is None:
        padding = "valid" if side >= 16 else "same"
    checks.one_of("padding", padding, ("valid", "same", None))
    needed = 16 if padding == "valid" else 4
    if side < needed:
        raise ValueError(
            f"LeNet-5 with padding={padding!r} needs images of at least "
            f"{needed}x{needed} pixels. Received: input_shape={input_shape}"
        )
    x = inputs
    for index, filters in enumerate((20, 50), start=1):
        x = layers.Conv2D(
            filters, 5, padding=padding, activation="relu", name=f"conv_{index}"
        )(x)
        x = layers.MaxPooling2D(2, name=f"pool_{index}")(x)
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dense(500, activation="relu", name="dense_1")(x)
    return Model(inputs, layers.Dense(num_classes, name="logits")(x), name=name)
