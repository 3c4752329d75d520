import keras
import numpy as np
import pytest

from scl_keras import (
    ConnectionCostScheduler,
    FreezeMasks,
    MaskedDense,
    SCLSequential,
    TargetSparsity,
    find_masks,
    thaw_masks,
)

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(64, 5)).astype("float32"), RNG.normal(size=(64, 3))


def _model(**arguments):
    keras.utils.set_random_seed(0)
    model = SCLSequential(
        [keras.Input((5,)), MaskedDense(8, activation="tanh"), MaskedDense(3)]
    )
    model.compile("adam", "mse", **{"connection_cost": 0.1, **arguments})
    return model


class Snapshots(keras.callbacks.Callback):
    def on_train_begin(self, logs=None):
        self.masks, self.weights = [], []

    def on_epoch_end(self, epoch, logs=None):
        masks = [mask.variable.numpy().ravel() for mask in find_masks(self.model)]
        self.masks.append(np.concatenate(masks))
        self.weights.append(self.model.layers[0].kernel.numpy())


@pytest.mark.slow
@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("mask_optimizer", ["sgd", "adam"])
def test_masks_are_bit_identical_from_the_epoch_on_while_weights_move(
    jit_compile, mask_optimizer
):
    model, seen = _model(jit_compile=jit_compile, mask_optimizer=mask_optimizer), None
    seen = Snapshots()
    model.fit(X, Y, epochs=5, verbose=0, callbacks=[FreezeMasks(2), seen])
    moves = [not np.array_equal(*seen.masks[i : i + 2]) for i in range(4)]
    assert moves == [True, False, False, False]
    assert all(not np.array_equal(*seen.weights[i : i + 2]) for i in range(4))


def test_a_resumed_run_knows_by_its_epoch():
    model, seen = _model(), Snapshots()
    before = np.concatenate([m.variable.numpy().ravel() for m in find_masks(model)])
    callbacks = [FreezeMasks(2), seen]
    model.fit(X, Y, epochs=4, initial_epoch=3, verbose=0, callbacks=callbacks)
    np.testing.assert_array_equal(seen.masks[0], before)
    model.fit(X, Y, epochs=2, initial_epoch=1, verbose=0, callbacks=callbacks)
    np.testing.assert_array_equal(seen.masks[0], before)  # until they are thawed
    thaw_masks(model)
    model.fit(X, Y, epochs=2, initial_epoch=1, verbose=0, callbacks=callbacks)
    assert not np.array_equal(seen.masks[0], before)


def test_frozen_masks_stay_frozen_in_a_saved_model(tmp_path):
    model, seen = _model(), Snapshots()
    model.fit(X, Y, epochs=2, verbose=0, callbacks=[FreezeMasks(1), seen])
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    again = Snapshots()
    loaded.fit(X, Y, epochs=1, verbose=0, callbacks=[again])
    np.testing.assert_array_equal(seen.masks[-1], again.masks[0])


def test_a_negative_epoch_is_refused():
    with pytest.raises(ValueError, match="epoch=-1"):
        FreezeMasks(-1)


def test_it_leaves_frozen_what_a_target_has_frozen():
    model, seen = _model(), Snapshots()
    callbacks = [TargetSparsity(0.5, by_epoch=2), FreezeMasks(4), seen]
    history = model.fit(X, Y, epochs=5, verbose=0, callbacks=callbacks).history
    np.testing.assert_array_equal(seen.masks[1], seen.masks[4])
    assert history["sparsity"][1:] == [0.5] * 4


@pytest.mark.parametrize("callback", [FreezeMasks(1), ConnectionCostScheduler(abs)])
def test_a_stock_model_is_refused(callback):
    model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(3)])
    model.compile("adam", "mse")
    with pytest.raises(ValueError, match="needs a compiled `SCLModel`.*Received: <Seq"):
        model.fit(X, Y, verbose=0, callbacks=[callback])
