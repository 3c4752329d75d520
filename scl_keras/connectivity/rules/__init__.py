"""What is known of Keras' layers: one file a family, registered when imported."""

from scl_keras.connectivity.rules import (  # noqa: F401
    activation,
    attention,
    convolution,
    dense,
    embedding,
    merging,
    normalization,
    pooling,
    recurrent,
    regularization,
    reshaping,
    time_distributed,
)
