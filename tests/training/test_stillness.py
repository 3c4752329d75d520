"""Frozen masks are no part of the step, which updates weights as it did with them."""

import keras
import numpy as np
import pytest
from keras import layers

from scl_keras import (
    Channel,
    TargetSparsity,
    find_masks,
    freeze_masks,
    sparsify,
    thaw_masks,
)
from scl_keras.training.optimizer import SCLOptimizer
from scl_keras.training.stillness import StillMasks


def data(count=96):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(count, 6, 6, 2)).astype("float32")
    return x, (x.mean((1, 2, 3)) > 0).astype("int32")


def network(granularity="connection", **options):
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((6, 6, 2)),
            layers.Conv2D(8, 3, use_bias=False),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.Flatten(),
            layers.Dropout(0.2),
            layers.Dense(2),
        ]
    )
    sparsify(model, granularity=granularity, verbose=0)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(**{"optimizer": "adam", "loss": loss, **options})
    return model


class Learned(keras.callbacks.Callback):
    """By epoch, whether the step that was built last learns masks."""

    def __init__(self, monkeypatch):
        super().__init__()
        self.by_epoch, self.built = [], True
        apply = SCLOptimizer.apply

        def watched(optimizer, grads, trainable_variables=None):
            found = list(trainable_variables or optimizer._trainable_variables)
            owners = [getattr(v, "connection_mask", None) for v in found]
            self.built = any(m is not None and not m.is_still for m in owners)
            return apply(optimizer, grads, trainable_variables)

        monkeypatch.setattr(SCLOptimizer, "apply", watched)

    def on_epoch_end(self, epoch, logs=None):
        self.by_epoch.append(self.built)


@pytest.mark.parametrize("granularity", ["connection", Channel()])
@pytest.mark.parametrize("mixed", [False, True])
def test_weights_are_updated_as_with_masks_in_the_step(monkeypatch, granularity, mixed):
    policy = "mixed_float16" if mixed else "float32"
    weights = []
    for is_left_out in (True, False):
        with monkeypatch.context() as patch:
            keras.config.set_dtype_policy(policy)
            model = network(granularity)
            learned = Learned(patch)
            if not is_left_out:
                patch.setattr(StillMasks, "on_epoch_begin", lambda *a, **k: None)
            target = TargetSparsity(0.5, by_epoch=2)
            model.fit(*data(), epochs=4, callbacks=[target, learned], verbose=0)
            assert learned.by_epoch == [True, True, *2 * [not is_left_out]]
            weights.append(model.get_weights())
    keras.config.set_dtype_policy("float32")
    for one, other in zip(*weights, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-7)


def test_masks_learn_again_when_they_are_thawed(monkeypatch):
    model, learned = network(connection_cost=0.5), Learned(monkeypatch)
    freeze_masks(model)
    model.fit(*data(), epochs=2, callbacks=[learned], verbose=0)
    assert learned.by_epoch == [False, False]
    assert not any(mask.is_still for mask in find_masks(model))
    before = [mask.values() for mask in find_masks(model)]
    model.train_on_batch(*data())  # still frozen
    for mask, values in zip(find_masks(model), before, strict=True):
        np.testing.assert_array_equal(mask.values(), values)
    thaw_masks(model)
    model.fit(*data(), epochs=1, verbose=0)
    for mask, values in zip(find_masks(model), before, strict=True):
        assert np.any(mask.values() != values)


def test_masks_thawed_by_a_callback_learn_in_the_next_epoch(monkeypatch):
    model, learned = network(connection_cost=0.5), Learned(monkeypatch)
    freeze_masks(model)

    class Thaw(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1:
                thaw_masks(self.model)

    callbacks = [Thaw(), learned]
    model.fit(*data(), epochs=3, callbacks=callbacks, verbose=0)
    assert learned.by_epoch == [False, True, True]


def test_frozen_masks_that_a_callback_changes_are_counted_anew():
    model = network()
    freeze_masks(model)

    class Change(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1:
                (*_, last) = find_masks(self.model)
                last.assign(np.eye(*last.kernel_shape))

    history = model.fit(*data(), epochs=3, callbacks=[Change()], verbose=0).history
    kept = sum(int(mask.count()) for mask in find_masks(model))
    size = sum(mask.size for mask in find_masks(model))
    np.testing.assert_allclose(history["sparsity"], [0, *2 * [1 - kept / size]])


def test_a_fit_that_fails_leaves_masks_that_learn():
    model = network(connection_cost=0.5)
    freeze_masks(model)

    class Fail(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            raise MemoryError

    with pytest.raises(MemoryError):
        model.fit(*data(), callbacks=[Fail()], verbose=0)
    assert not any(mask.is_still for mask in find_masks(model))
    thaw_masks(model)
    before = [mask.values() for mask in find_masks(model)]
    model.fit(*data(), verbose=0)
    for mask, values in zip(find_masks(model), before, strict=True):
        assert np.any(mask.values() != values)


@pytest.mark.parametrize(
    "options",
    [
        {"mask_optimizer": keras.optimizers.SGD(1e-3, momentum=0.9)},
        {
            "mask_optimizer": keras.optimizers.SGD(
                keras.optimizers.schedules.CosineDecay(1e-3, 100)
            )
        },
        {"optimizer": keras.optimizers.Adam(gradient_accumulation_steps=2)},
    ],
    ids=["momentum", "schedule", "accumulation"],
)
def test_what_goes_on_while_masks_are_frozen_is_left_in(monkeypatch, options):
    model, learned = network(**options), Learned(monkeypatch)
    freeze_masks(model)
    model.fit(*data(), epochs=1, callbacks=[learned], verbose=0)
    assert learned.by_epoch == [True]


def test_a_train_step_of_ones_own_has_all_gradients(monkeypatch):
    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.hidden = layers.Dense(3)

        def call(self, x):
            return self.hidden(layers.Flatten()(x))

        def train_step(self, *args):
            return super().train_step(*args)

    model = Own()
    model(data()[0])
    sparsify(model, verbose=0)
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    learned = Learned(monkeypatch)
    freeze_masks(model)
    model.fit(*data(), epochs=1, callbacks=[learned], verbose=0)
    assert learned.by_epoch == [True]
