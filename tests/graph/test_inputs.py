"""Models made anew take what the model takes that they are made of."""

import keras
import numpy as np
import pytest
from keras import layers

from scl_keras import compact, prune, sparsify, strip_masks, summary
from scl_keras.graph.inputs import input_like
from scl_keras.graph.tracing import trace


@pytest.mark.parametrize("kind", ["sparse", "ragged", "optional"])
def test_an_input_like_another_takes_the_same(kind):
    x = keras.Input((3,), dtype="int32", name="x", **{kind: True})
    for y in (input_like(x), input_like(x, (1, 3))):
        assert (y.dtype, y.name) == ("int32", "x")
        assert y.shape in ((None, 3), (1, 3))
        assert [y.sparse, y.ragged] == [kind == "sparse", kind == "ragged"]
        (layer,) = keras.Model(y, y).layers
        assert layer.optional == (kind == "optional")


def two_inputs(**kwargs):
    class Sum(layers.Layer):
        def call(self, x, y=None):
            return x if y is None else x + y

        def build(self, x_shape, y_shape=None):
            pass

        def compute_output_spec(self, x, y=None):
            return keras.KerasTensor(x.shape, x.dtype)

    a, b = keras.Input((6,), name="a"), keras.Input((6,), name="b", **kwargs)
    x = layers.Dense(8, "relu")(Sum()(a, b))
    return keras.Model({"a": a, "b": b}, layers.Dense(2)(x))


def test_an_optional_input_stays_optional_in_a_compact_model_and_in_a_copy(rng):
    model = two_inputs(optional=True)
    x = {"a": rng.normal(size=(3, 6)).astype("float32"), "b": None}
    prune(model, "random", 0.8, verbose=0)
    assert summary(model, print_fn=None).effective_sparsity is not None
    expected = model(x)
    for other in (compact(model), sparsify(model, copy=True), strip_masks(model)):
        np.testing.assert_allclose(other(x), expected, rtol=1e-6)
        other({"a": x["a"], "b": x["a"]})
    with pytest.raises(ValueError, match="not optional"):
        compact(prune(two_inputs(), "random", 0.5, verbose=0))(x)


def test_a_sparse_input_stays_sparse_in_a_compact_model():
    inputs = keras.Input((6,), sparse=True)
    x = layers.Dense(8, "relu")(inputs)
    model = prune(keras.Model(inputs, layers.Dense(2)(x)), "random", 0.8, verbose=0)
    assert trace(model).inputs[0].sparse
    assert compact(model).inputs[0].sparse
