"""Networks whose step takes long enough, and memory enough, to measure both."""

import keras
from keras import layers


def dense_stack(connections, depth=8, multiple=1):
    """Dense layers of equal width.

    Args:
        connections: About how many connections, all of them together.
        depth: Number of layers.
        multiple: What the width is a multiple of.
    """
    width = max(round((connections / depth) ** 0.5), 1)
    width += -width % multiple
    model = keras.Sequential([keras.Input((width,))])
    for _ in range(depth):
        model.add(layers.Dense(width, activation="relu", use_bias=False))
    return model


def resnet_18(connections=11e6):
    """ResNet-18 for 1,000 classes (He et al., arXiv 1512.03385), of 11 million weights.

    Args:
        connections: About how many weights convolutions have, at whatever width.
    """
    width = max(round(64 * (connections / 11e6) ** 0.5), 1)

    def convolution(x, filters, size, stride=1):
        x = layers.Conv2D(filters, size, stride, padding="same", use_bias=False)(x)
        return layers.BatchNormalization()(x)

    inputs = keras.Input((224, 224, 3))
    x = layers.ReLU()(convolution(inputs, width, 7, 2))
    x = layers.MaxPooling2D(3, 2, padding="same")(x)
    for stage in range(4):
        filters = width * 2**stage
        for block in range(2):
            stride = 2 if stage and not block else 1
            y = layers.ReLU()(convolution(x, filters, 3, stride))
            y = convolution(y, filters, 3)
            if stride > 1:
                x = convolution(x, filters, 1, stride)
            x = layers.ReLU()(layers.add([x, y]))
    return keras.Model(inputs, layers.Dense(1000)(layers.GlobalAveragePooling2D()(x)))


def transformer(connections=85e6, depth=12, tokens=128):
    """Encoder blocks, at 85 million weights as wide as BERT's (arXiv 1810.04805).

    Args:
        connections: About how many weights, at whatever width.
        depth: Number of blocks.
        tokens: Number of tokens, which are put in as vectors.
    """
    heads = 12
    size = max(round((connections / (12 * depth)) ** 0.5 / heads), 1)  # of a head
    width = heads * size
    inputs = x = keras.Input((tokens, width))
    for _ in range(depth):
        y = layers.LayerNormalization()(x)
        x = layers.add([x, layers.MultiHeadAttention(heads, size)(y, y)])
        y = layers.Dense(4 * width, "gelu")(layers.LayerNormalization()(x))
        x = layers.add([x, layers.Dense(width)(y)])
    return keras.Model(inputs, x)
