"""Masks are put into all chosen layers of a model, or the model stays as it was."""

import keras
import numpy as np
import pytest
from keras import layers

from scl_keras import Block, SwitcherModel, find_masks, sparsify
from scl_keras.backend.keras_private import autocasts
from scl_keras.graph.walking import walk_inside
from scl_keras.training.optimizer import SCLOptimizer


def made():
    model = keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(5, kernel_regularizer="l2", kernel_constraint="non_neg"),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.Reshape((5, 1)),
            layers.LSTM(4),
            layers.Dense(3, dtype="mixed_float16"),
            layers.Dense(2, name="last"),
        ]
    )
    model.compile("adam", "mse")
    return model


def state(model):
    """All that is known of a model and its layers, by identity; values of weights."""
    inside = walk_inside(model)
    return (
        [(id(x), type(x), {k: id(v) for k, v in vars(x).items()}) for x in inside],
        [[id(w) for w in x.variables] for x in inside],
        [(id(w.regularizer), id(w.constraint), autocasts(w)) for w in model.weights],
        [layer.get_config() for layer in inside[1:]],
        [w.numpy().tolist() for w in model.weights],
    )


def assert_as_before(model, before):
    for new, old in zip(state(model), before, strict=True):
        assert new == old


@keras.saving.register_keras_serializable("all_or_nothing")
class Failing(keras.initializers.Initializer):
    """Starts masks with connections cut, and fails for one kernel."""

    def __init__(self, at, error=MemoryError):
        self.at, self.error = at, error

    def __call__(self, shape, dtype=None):
        if tuple(shape) == self.at:
            raise self.error("none left")
        return -keras.ops.ones(shape, dtype)


KERNELS = {"first": (6, 5), "of a cell": (4, 16), "later": (4, 3), "last": (3, 2)}


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("kernel", KERNELS)
def test_an_error_while_masks_are_made_leaves_the_model_as_it_is(kernel, error):
    model = made()
    x, before = np.ones((2, 6), "float32"), state(model)
    with pytest.raises(error, match="none left"):
        sparsify(model, mask_initializer=Failing(KERNELS[kernel], error))
    assert_as_before(model, before)
    model.fit(x, np.ones((2, 2)), verbose=0)
    assert len(find_masks(sparsify(model))) == 5


def test_an_error_behind_the_last_mask_leaves_the_model_as_it_is(monkeypatch):
    def fail(self, *args, **kwargs):
        raise ValueError("no optimizer")

    model = made()
    before = state(model)
    monkeypatch.setattr(SCLOptimizer, "__init__", fail)
    with pytest.raises(ValueError, match="no optimizer"):
        sparsify(model, granularity="channel")
    assert_as_before(model, before)


def test_masks_from_before_stay():
    model = sparsify(made(), layers=[layers.LSTM], verbose=0)
    before, masks = state(model), find_masks(model)
    with pytest.raises(MemoryError, match="none left"):
        sparsify(model, mask_initializer=Failing((3, 2)))
    assert_as_before(model, before)
    assert [id(x) for x in find_masks(model)] == [id(x) for x in masks]


def test_a_granularity_that_does_not_fit_one_layer_leaves_the_model_as_it_is():
    model = made()
    before = state(model)
    with pytest.raises(ValueError, match="axis"):
        chosen = {"last": Block(2, axis=5), layers.Dense: "channel"}
        sparsify(model, granularity=chosen)
    assert_as_before(model, before)


def test_a_switcher_leaves_it_as_it_is_too():
    model = made()
    before = state(model)
    with pytest.raises(ValueError, match="`ste` must be"):
        SwitcherModel(model, ste="nothing")
    assert_as_before(model, before)


def test_a_copy_with_other_layers_is_refused_and_what_differs_is_said():
    class Given(layers.Layer):
        helper = None

        def build(self, input_shape):
            self.helper = self.helper or layers.Activation("relu")

        def call(self, x):
            return self.helper(x)

    given = Given()
    given.helper = layers.Dropout(0.5, name="from_outside")
    model = keras.Sequential([keras.Input((3,)), given, layers.Dense(2)])
    before = state(model)
    differs = r"\(Activation\) where there was 'from_outside' \(Dropout\)"
    with pytest.raises(ValueError, match=differs):
        sparsify(model, copy=True)
    assert_as_before(model, before)


def test_a_copy_with_other_weights_is_refused_and_what_differs_is_said():
    class Sized(layers.Dense):
        def get_config(self):
            return super().get_config() | {"units": self.units + 1}

    model = keras.Sequential([keras.Input((3,)), Sized(2, name="sized")])
    differs = r"other weights: 'sized/kernel' of shape \(3, 3\) where there was"
    with pytest.raises(ValueError, match=differs):
        sparsify(model, copy=True)
