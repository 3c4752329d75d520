import keras
import numpy as np
import pytest

from scl_keras import (
    FreezeMasks,
    MaskLogger,
    SafeBackup,
    SCLOptimizer,
    TargetSparsity,
    find_masks,
    fix_masks,
    freeze_masks,
    sparsify,
    strip_masks,
    stripped,
    thaw_masks,
)

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(64, 6)).astype("float32"), RNG.normal(size=(64, 3))


def _dense():
    keras.utils.set_random_seed(0)
    hidden = keras.layers.Dense(16, "relu")
    return keras.Sequential([keras.Input((6,)), hidden, keras.layers.Dense(3)])


def _fit(model, epochs=1, callbacks=(), **options):
    options = {"verbose": 0, "shuffle": False, **options}
    return model.fit(X, Y, 8, epochs=epochs, callbacks=list(callbacks), **options)


def _at_target(rate=0.01, **arguments):
    model = sparsify(_dense())
    model.compile(keras.optimizers.Adam(rate), "mse", **arguments)
    _fit(model, 3, [TargetSparsity(0.8)])
    return model


def _masks(model):
    return [np.array(mask.variable) for mask in find_masks(model)]


def _assert_same(masks, others):
    for a, b in zip(masks, others, strict=True):
        np.testing.assert_array_equal(a, b)


def _in_a_file(model, path):
    model.save(path / "model.keras")
    return keras.models.load_model(path / "model.keras", compile=False)


def _as_weights(model, path):
    model.save_weights(path / "model.weights.h5")
    other = sparsify(_dense())
    other.load_weights(path / "model.weights.h5")
    return other


def _within_another(model, path):
    inputs = keras.Input((6,))
    outer = keras.Model(inputs, model(inputs))
    return sparsify(outer)


LATER = {
    "recompiled": lambda model, path: model,
    "in a file": _in_a_file,
    "as weights": _as_weights,
    "copied": lambda model, path: sparsify(model, copy=True),
    "within another model": _within_another,
}


@pytest.mark.parametrize("later", LATER)
@pytest.mark.parametrize("mask_optimizer", [None, "adam"])
def test_masks_at_their_target_stay_so_until_they_are_thawed(
    later, mask_optimizer, tmp_path
):
    model = _at_target(mask_optimizer=mask_optimizer)
    masks, kernel = _masks(model), np.array(model.layers[-1].kernel)
    model = LATER[later](model, tmp_path)
    # The recipe of transfer: a smaller learning rate, and on.
    smaller = keras.optimizers.Adam(1e-3)
    model.compile(smaller, "mse", mask_optimizer=mask_optimizer, connection_cost=5.0)
    _fit(model, 2)
    _fit(model, 2, [FreezeMasks(9), MaskLogger()])
    _assert_same(masks, _masks(model))
    weights = [w for w in model.weights if w.shape == kernel.shape]
    assert not np.array_equal(kernel, weights[0])
    thaw_masks(model)
    _fit(model)
    assert not np.array_equal(masks[0], _masks(model)[0])


def test_one_layer_may_be_frozen():
    model = sparsify(_dense())
    model.compile("adam", "mse", connection_cost=1.0)
    freeze_masks(model.layers[0])
    before = _masks(model)
    _fit(model, 2)
    after = _masks(model)
    np.testing.assert_array_equal(before[0], after[0])
    assert not np.array_equal(before[1], after[1])
    thaw_masks(model.layers[0])
    _fit(model)
    assert not np.array_equal(before[0], _masks(model)[0])


def test_a_training_killed_after_its_target_goes_on_bit_for_bit(tmp_path):
    class Kill(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 4:
                raise KeyboardInterrupt

    def train(*callbacks, **options):
        model = sparsify(_dense())
        own = keras.optimizers.SGD(3e-3, momentum=0.9)
        model.compile("adam", "mse", mask_optimizer=own)
        target = TargetSparsity(0.8, by_epoch=3)
        _fit(model, 6, [target, *callbacks], **options)
        return model

    whole = train()
    with pytest.raises(KeyboardInterrupt):
        train(SafeBackup(tmp_path), Kill())
    again = train(SafeBackup(tmp_path))
    for a, b in zip(whole.variables, again.variables, strict=True):
        np.testing.assert_array_equal(a, b)
    pairs = zip(whole.optimizer.variables, again.optimizer.variables, strict=True)
    for a, b in pairs:
        np.testing.assert_array_equal(a, b)
    assert all(bool(mask.frozen.numpy()) for mask in find_masks(again))


def test_no_weight_is_added_to_a_model():
    model = _dense()
    masked = sparsify(_dense())
    assert len(masked.weights) == len(model.weights) + 2
    assert len(masked.trainable_variables) == len(model.trainable_variables) + 2


def test_stripping_for_a_while_leaves_them_frozen_and_for_good_leaves_nothing():
    model = _at_target()
    with stripped(model):
        pass
    masks = _masks(model)
    _fit(model)
    _assert_same(masks, _masks(model))
    assert not find_masks(strip_masks(model))


def test_fixed_masks_count_as_frozen_and_thawing_does_not_touch_them():
    model = fix_masks(_at_target())
    thaw_masks(model)
    assert all(bool(mask.frozen.numpy()) for mask in find_masks(model))


def test_a_loop_of_ones_own_leaves_frozen_masks_alone():
    import tensorflow as tf

    model = sparsify(_dense())
    freeze_masks(model)
    optimizer, masks = SCLOptimizer("adam", connection_cost=1.0), _masks(model)
    for _ in range(2):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((model(X, training=True) - Y) ** 2)
        variables = model.trainable_variables
        values = [v.value for v in variables]
        optimizer.apply(tape.gradient(loss, values), variables)
    _assert_same(masks, _masks(model))
    assert float(optimizer.connection_loss()) > 0 and bool(optimizer.frozen)


@pytest.mark.parametrize("function", [freeze_masks, thaw_masks])
def test_a_model_without_masks_is_refused(function):
    with pytest.raises(
        ValueError, match=f"`{function.__name__}` needs.*Received: <Seq"
    ):
        function(_dense())
