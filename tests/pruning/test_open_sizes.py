"""Whether a path is left is checked, also where a model leaves sizes open."""

import keras
import numpy as np
import pytest
from keras import layers

from scl_keras import DisconnectedError, SCLModel, find_masks, prune, sparsify
from scl_keras.pruning import PrunableNetwork
from scl_keras.pruning.open_sizes import on_accepted_sizes


def signal():
    x = inputs = keras.Input((None, 4))
    for name in ("first", "faint"):
        x = layers.Conv1D(16, 3, name=name)(x)
    return keras.Model(inputs, layers.Dense(3)(layers.GlobalAveragePooling1D()(x)))


def images():
    """Accepts sizes that 64 divides alone: what comes back up is joined."""
    x = inputs = keras.Input((None, None, 2))
    down = layers.Conv2D(8, 3, strides=64, padding="same")(x)
    down = layers.Conv2D(8, 1, name="faint")(down)
    joined = layers.Concatenate()([layers.UpSampling2D(64)(down), inputs])
    joined = layers.Lambda(lambda x: x[..., :8])(joined)
    return keras.Model(inputs, layers.Conv2D(2, 1)(joined))


def texts():
    """Accepts up to ten tokens."""
    inputs = keras.Input((None,), dtype="int32")
    x = layers.Embedding(20, 8)(inputs)

    class Places(layers.Layer):
        def build(self, shape):
            self.table = self.add_weight((1, 10, shape[-1]), name="table")

        def call(self, x):
            if x.shape[1] is not None and x.shape[1] > 10:
                raise RuntimeError("too many tokens")
            return x + self.table[:, : x.shape[1]]

    x = layers.Dense(8, name="faint")(Places()(x))
    return keras.Model(inputs, layers.Dense(2)(layers.GlobalMaxPooling1D()(x)))


def long_signal():
    """Accepts a few hundred steps at least."""
    x = inputs = keras.Input((None, 2))
    for name in ("first", "faint"):
        x = layers.Conv1D(8, 10, strides=10, name=name)(x)
    return keras.Model(inputs, layers.Conv1D(3, 2)(x))


@pytest.mark.parametrize(
    ("build", "size"), [(signal, 32), (images, 64), (texts, 8), (long_signal, 224)]
)
def test_paths_are_checked_on_a_size_that_the_layers_accept(build, size):
    keras.utils.set_random_seed(0)
    model = build()
    faint = model.get_layer("faint")
    faint.kernel.assign(faint.kernel * 1e-5)
    network = PrunableNetwork(sparsify(model, ste=None, copy=True, verbose=0))
    assert on_accepted_sizes(network).input_shapes[0][0] == size
    # So much goes that nothing is left of the faint kernel.
    sparsity = 1.2 * np.prod(faint.kernel.shape) / network.size
    with pytest.raises(DisconnectedError, match="lamp.*quotas.*without.*faint/kernel"):
        prune(model, "magnitude", sparsity, verbose=0)
    assert not isinstance(model, SCLModel) and not find_masks(model)
    found = prune(model, "lamp", sparsity, verbose=0)
    assert all(int(mask.count()) for mask in find_masks(found))


def test_it_is_said_where_paths_can_not_be_checked():
    """No one size serves both inputs: one is twice as long."""
    inputs = [keras.Input((None, 4)), keras.Input((None, 4))]
    halved = layers.Conv1D(4, 2, strides=2, name="halved")(inputs[0])
    joined = layers.Dense(1, name="joined")(layers.Concatenate()([halved, inputs[1]]))
    model = keras.Model(inputs, joined)
    halved = model.get_layer("halved").kernel
    halved.assign(halved * 1e-5)
    model.get_layer("joined").kernel.assign(np.arange(8.0)[:, None])
    with pytest.warns(
        UserWarning, match=r"(?s)can't tell.*halved/kernel\..*`input_shapes`"
    ):
        found = prune(model, "magnitude", 1 - 4 / 40, verbose=0, copy=True)
    assert [int(mask.count()) for mask in find_masks(found)] == [0, 4]
    shapes = [(8, 4), (4, 4)]
    # A path leads by the other input.
    prune(model, "magnitude", 1 - 4 / 40, input_shapes=shapes, verbose=0, copy=True)


def test_a_call_that_can_not_be_followed_is_said_too():
    class Opaque(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(4)

        def call(self, x):
            return self.dense(x) * float(keras.ops.convert_to_numpy(x).max())

    model = Opaque()
    model(np.ones((2, 3), "float32"))
    with pytest.warns(UserWarning, match=r"(?s)can't tell.*can't be followed"):
        prune(model, "magnitude", 0.5, verbose=0)
    assert [int(mask.count()) for mask in find_masks(model)] == [6]


def test_the_default_method_does_not_cut_a_network_off():
    """Normalization undoes the scale of a kernel: magnitudes don't tell its worth."""
    keras.utils.set_random_seed(0)
    stack = [layers.Dense(30), layers.BatchNormalization(), layers.ReLU()]
    model = keras.Sequential([keras.Input((20,)), *stack, layers.Dense(30, "relu")])
    model.add(layers.Dense(4))
    faint = model.layers[0].kernel
    faint.assign(faint * 1e-3)
    for sparsity in (0.5, 0.8, 0.95):
        with pytest.raises(DisconnectedError):
            prune(model, "magnitude", sparsity, verbose=0, copy=True)
        masks, expected = (
            find_masks(prune(model, *method, sparsity=sparsity, verbose=0, copy=True))
            for method in ([], ["lamp"])
        )
        for mask, other in zip(masks, expected, strict=True):
            np.testing.assert_array_equal(mask.values(), other.values())
