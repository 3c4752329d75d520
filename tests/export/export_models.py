"""Small plain Keras models with zeros in their kernels."""

import keras
import numpy as np
from keras import layers


def put_zeros(model, share, seed=0):
    """Cuts random connections of every kernel of a model or layer."""
    rng = np.random.default_rng(seed)
    for variable in model.trainable_variables:
        if len(variable.shape) >= 2:
            kernel = rng.normal(size=variable.shape)
            kernel[rng.random(kernel.shape) < share] = 0
            variable.assign(kernel)
        else:
            variable.assign(rng.normal(size=variable.shape))
    return model


def dense_net(inputs, hidden=50, outputs=10, zeros=0.0, seed=0):
    """Two Dense layers, with zeros in the first: no unit of it is unused."""
    model = keras.Sequential(
        [
            keras.Input((inputs,)),
            layers.Dense(hidden, activation="relu"),
            layers.Dense(outputs),
        ]
    )
    put_zeros(model.layers[0], zeros, seed)
    put_zeros(model.layers[1], 0, seed)
    return model


def conv_net(zeros, last="softmax"):
    return put_zeros(
        keras.Sequential(
            [
                keras.Input((12, 12, 3)),
                layers.Conv2D(16, 3, strides=2, padding="same", use_bias=False),
                layers.BatchNormalization(),
                layers.ReLU(),
                layers.DepthwiseConv2D(3),
                layers.Conv2D(300, 1, activation="relu"),
                layers.Conv2DTranspose(8, 3),
                layers.GlobalAveragePooling2D(),
                layers.Dense(5, activation=last),
            ]
        ),
        zeros,
    )


def two_by_two(zeros):
    left, right = keras.Input((40,), name="left"), keras.Input((33,), name="right")
    shared = layers.Dense(64, activation="tanh")
    both = layers.Concatenate()(
        [shared(layers.Dense(30)(left)), shared(layers.Dense(30)(right))]
    )
    return put_zeros(
        keras.Model([left, right], [layers.Dense(7)(both), layers.Dense(1)(both)]),
        zeros,
    )


def samples(*shape, count=40, seed=1):
    return np.random.default_rng(seed).normal(size=(count, *shape)).astype("float32")
