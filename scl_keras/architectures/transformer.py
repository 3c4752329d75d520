"""A transformer for small images."""

from keras import Model, layers

from scl_keras.architectures.blocks import image_input, positive
from scl_keras.types import Shape


def vision_transformer(
    input_shape: Shape,
    num_classes: int,
    *,
    patch: int = 4,
    width: int = 64,
    depth: int = 2,
    heads: int = 4,
    name: str = "vision_transformer",
) -> Model:
    """Builds a small vision transformer (Dosovitskiy et al., 2021).

    Each patch of the image becomes a token of `width` numbers. Then come blocks of
    self-attention and a multilayer perceptron of `2 * width` units, each behind a layer
    normalization and beside a shortcut; the logits are dense on the average of the
    tokens. Where a token stands is told by a depthwise convolution with zero padding
    over the tokens, as in Chu et al. (2021), instead of by a table of positions.

    Example:
    ```python
    from scl_keras.architectures import vision_transformer

    assert vision_transformer((28, 28, 1), 10).output_shape == (None, 10)
    ```

    Args:
        input_shape: Shape of one image, `(height, width, channels)`.
        num_classes: Number of classes, i.e. of logits.
        patch: Side of a patch, in pixels. What is left at the image's border, where it
            isn't a multiple, isn't read.
        width: Size of a token, a multiple of `heads`.
        depth: Number of blocks.
        heads: Attention heads of each block.
        name: Name of the model.

    Returns:
        A functional `keras.Model` from images in [0, 1] to logits.

    Raises:
        ValueError: If `width` isn't a multiple of `heads`, if the image is smaller than
            a patch, or if a size or a number isn't positive.
    """
    heads, width = positive("heads", heads), positive("width", width)
    patch, depth = positive("patch", patch), positive("depth", depth)
    if width % heads:
        raise ValueError(
            "`width` must be a positive multiple of `heads`. "
            f"Received: width={width}, heads={heads}"
        )
    x = inputs = image_input(input_shape, num_classes)
    if min(inputs.shape[1:3]) < patch:
        raise ValueError(
            "`patch` must be at most as large as the image. "
            f"Received: patch={patch}, input_shape={input_shape}"
        )
    x = layers.Conv2D(width, patch, strides=patch, name="patches")(x)
    places = layers.DepthwiseConv2D(3, padding="same", name="positions")(x)
    x = layers.Add(name="positions_add")([x, places])
    x = layers.Reshape((-1, width), name="tokens")(x)
    for block in range(1, depth + 1):
        x = _block(x, heads, f"block{block}")
    x = layers.LayerNormalization(name="final_norm")(x)
    x = layers.GlobalAveragePooling1D(name="pool")(x)
    return Model(inputs, layers.Dense(num_classes, name="logits")(x), name=name)


def _block(x, heads, name):
    """Self-attention and a multilayer perceptron, each beside a shortcut."""
    width = x.shape[-1]
    y = layers.LayerNormalization(name=f"{name}_norm1")(x)
    y = layers.MultiHeadAttention(heads, width // heads, name=f"{name}_attention")(y, y)
    x = layers.Add(name=f"{name}_add1")([x, y])
    y = layers.LayerNormalization(name=f"{name}_norm2")(x)
    y = layers.Dense(2 * width, activation="gelu", name=f"{name}_mlp1")(y)
    y = layers.Dense(width, name=f"{name}_mlp2")(y)
    return layers.Add(name=f"{name}_add2")([x, y])
