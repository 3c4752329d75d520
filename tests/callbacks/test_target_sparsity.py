import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from scl_keras import (
    MaskedDense,
    MaskLogger,
    SCLSequential,
    TargetSparsity,
    find_masks,
    sparsify,
    summary,
)
from scl_keras.architectures import build_architecture
from scl_keras.datasets import load_dataset

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
DIGITS = load_dataset("digits")


def _sparse(name, **kwargs):
    keras.utils.set_random_seed(0)
    return sparsify(build_architecture(name, (8, 8, 1), 10, **kwargs))


def _small():
    keras.utils.set_random_seed(0)
    layers = [keras.Input((8, 8, 1)), keras.layers.Flatten()]
    layers += [MaskedDense(16, activation="relu"), MaskedDense(10)]
    return SCLSequential(layers)  # 1,184 connections


def _counts(model):
    return [int((mask.variable.numpy() > 0).sum()) for mask in find_masks(model)]


def _size(model):
    return sum(mask.size for mask in find_masks(model))


def _fit(model, *callbacks, count=192, epochs=4, batch_size=32, **compile_arguments):
    model.compile(keras.optimizers.Adam(2e-3), LOSS, **compile_arguments)
    return model.fit(
        DIGITS.x_train[:count],
        DIGITS.y_train[:count],
        epochs=epochs,
        batch_size=batch_size,
        verbose=0,
        callbacks=list(callbacks),
    ).history


def _assert_reached(model, density):
    counts = _counts(model)
    assert min(counts) >= 1
    assert sum(counts) == pytest.approx(density * _size(model), rel=0.02, abs=1)
    assert all(mask.frozen.numpy() for mask in find_masks(model))


@pytest.mark.parametrize("sparsity", [0.5, 0.9, 0.98])
@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("lenet_300_100", {}),
        pytest.param("lenet_5", {}, marks=pytest.mark.slow),
        pytest.param("vgg", {"width": 0.125}, marks=pytest.mark.slow),
        pytest.param("resnet", {"depth": 8, "width": 0.5}, marks=pytest.mark.slow),
        pytest.param("mobilenet", {}, marks=pytest.mark.slow),
    ],
)
def test_every_architecture_gets_the_sparsity_it_is_asked_for(
    name, arguments, sparsity
):
    model = _sparse(name, **arguments)
    history = _fit(model, TargetSparsity(sparsity), epochs=3)
    _assert_reached(model, 1 - sparsity)
    for epoch in (1, 2):  # reached after two of three epochs, and kept
        assert history["sparsity"][epoch] == pytest.approx(sparsity, abs=0.001)


@pytest.mark.parametrize("compression", [1, 2.5, 40])
def test_compression_is_another_way_to_say_it(compression):
    model = _small()
    history = _fit(model, TargetSparsity(compression=compression), epochs=3)
    _assert_reached(model, 1 / compression)
    assert 1 / (1 - history["sparsity"][-1]) == pytest.approx(compression, rel=0.02)


@pytest.mark.parametrize(
    ("epochs", "by_epoch", "count", "batch_size"),
    [
        (2, 2, 192, 32),
        (1, None, 192, 32),
        (1, 1, 96, 32),
        (1, 1, 32, 32),
        (3, 1, 64, 8),
    ],
)
def test_short_trainings_reach_it_too(epochs, by_epoch, count, batch_size):
    model = _small()
    controller = TargetSparsity(0.9, by_epoch=by_epoch)
    arguments = {"count": count, "batch_size": batch_size}
    history = _fit(model, controller, epochs=epochs, **arguments)
    _assert_reached(model, 0.1)
    assert history["sparsity"][-1] == pytest.approx(1 - sum(_counts(model)) / 1184)


@pytest.mark.parametrize("logger_first", [True, False])
def test_the_logs_of_its_last_epoch_are_those_of_the_masks(logger_first):
    model, callbacks = _small(), [TargetSparsity(0.8, by_epoch=2), MaskLogger()]
    callbacks = callbacks[::-1] if logger_first else callbacks
    history = _fit(model, *callbacks, epochs=2)
    kept = sum(_counts(model))
    assert history["density"][-1] == pytest.approx(kept / 1184)
    assert history["sparsity"][-1] == pytest.approx(1 - kept / 1184)
    assert history["compression"][-1] == pytest.approx(1184 / kept)
    cost = float(model.connection_cost)
    assert history["connection_loss"][-1] == pytest.approx(cost * kept, rel=1e-5)
    if logger_first:
        return  # the densities of kernels are those before the last stroke
    by_layer = [v[-1] for k, v in history.items() if k.startswith("density/")]
    sizes = [mask.size for mask in find_masks(model)]
    np.testing.assert_allclose(np.multiply(by_layer, sizes), _counts(model))


class Watch(keras.callbacks.Callback):
    """Counts and costs, at every batch end before the callback's own stroke."""

    def __init__(self, controller):
        super().__init__()
        self.controller, self.counts, self.costs, self.masks = controller, [], [], []

    def on_train_batch_end(self, batch, logs=None):
        self.counts.append(sum(_counts(self.model)))
        self.costs.append(float(self.model.connection_cost))

    def on_epoch_end(self, epoch, logs=None):
        self.masks.append([m.variable.numpy() for m in find_masks(self.model)])


@pytest.mark.parametrize("steps_per_execution", [2, 4, 8])
def test_it_also_steers_with_many_steps_an_execution(steps_per_execution):
    model, controller = _small(), TargetSparsity(0.9, by_epoch=20)
    watch = Watch(controller)
    arguments = {"batch_size": 8, "steps_per_execution": steps_per_execution}
    _fit(model, controller, watch, epochs=20, **arguments)
    _assert_reached(model, 0.1)
    assert len(watch.costs) == 20 * 24 / steps_per_execution
    assert len(set(watch.costs)) > 20


# Keras says so of every generator, at the end of its first epoch.
@pytest.mark.filterwarnings("ignore:Your input ran out of data")
@pytest.mark.parametrize("epochs", [1, 6])
def test_data_of_unknown_length_will_do(epochs):
    def batches():
        for start in range(0, 192, 16):
            stop = start + 16
            yield DIGITS.x_train[start:stop], DIGITS.y_train[start:stop]

    signature = (tf.TensorSpec((16, 8, 8, 1)), tf.TensorSpec((16,), tf.int64))
    data = tf.data.Dataset.from_generator(batches, output_signature=signature)
    model, controller = _small(), TargetSparsity(0.9, by_epoch=epochs)
    model.compile("adam", LOSS)
    history = model.fit(
        data, epochs=epochs, shuffle=False, verbose=0, callbacks=[controller]
    ).history
    _assert_reached(model, 0.1)
    if epochs > 1:  # it does not rush to the target while the length is unknown
        assert history["sparsity"][0] < 0.5


def test_masks_are_frozen_after_it_and_a_resumed_run_keeps_them():
    model, controller = _small(), TargetSparsity(0.9, by_epoch=2)
    watch = Watch(controller)
    _fit(model, controller, watch, epochs=4)
    for later in watch.masks[2:]:
        for a, b in zip(watch.masks[1], later, strict=True):
            np.testing.assert_array_equal(a, b)
    x, y = DIGITS.x_train[:64], DIGITS.y_train[:64]
    weights = model.get_weights()
    again = [TargetSparsity(0.9, by_epoch=2)]
    model.fit(x, y, epochs=5, initial_epoch=4, verbose=0, callbacks=again)
    for before, after in zip(watch.masks[1], find_masks(model), strict=True):
        np.testing.assert_array_equal(before, after.variable)
    assert not np.array_equal(weights[0], model.get_weights()[0])


def test_the_final_stroke_cuts_the_weakest_and_only_as_many_as_needed():
    model, controller = _small(), TargetSparsity(0.5, start=None)
    model.compile("sgd", LOSS, mask_optimizer=keras.optimizers.SGD(0.0))
    rng = np.random.default_rng(0)
    before = []
    for mask in find_masks(model):
        mask.variable.assign(rng.uniform(-1, 1, mask.variable.shape))
        before.append(mask.variable.numpy().ravel())
    x, y = DIGITS.x_train[:32], DIGITS.y_train[:32]
    model.fit(x, y, verbose=0, callbacks=[controller])
    after = [mask.variable.numpy().ravel() for mask in find_masks(model)]
    before, after = np.concatenate(before), np.concatenate(after)
    threshold = np.sort(before)[-592]
    np.testing.assert_array_equal(after > 0, before >= threshold)
    assert np.abs(after).max() <= 1


def test_no_layer_collapses_and_those_down_to_last_are_named(capsys):
    model = _small()
    _fit(model, TargetSparsity(compression=1184 / 2), epochs=3)
    assert _counts(model) == [1, 1]
    model = _small()
    controller = TargetSparsity(0.9, by_epoch=1, start=None)
    model.compile("sgd", LOSS, mask_optimizer=keras.optimizers.SGD(0.0))
    weak, strong = find_masks(model)[::-1]
    rng = np.random.default_rng(0)
    strong.variable.assign(rng.uniform(0.2, 1, strong.variable.shape))
    weak.variable.assign(rng.uniform(0.01, 0.1, weak.variable.shape))
    capsys.readouterr()
    x, y = DIGITS.x_train[:32], DIGITS.y_train[:32]
    model.fit(x, y, verbose=0, callbacks=[controller])
    assert _counts(model) == [117, 1]
    label = f"{model.layers[-1].name}/kernel"
    told = capsys.readouterr().out
    assert "Down to their last connection: " in told and label in told
    assert weak.is_down_to_last() and not strong.is_down_to_last()


# Connections of pixels that are always black have no gradient. They move in one crowd,
# which waits just above zero at a sparsity that leaves some of them.
@pytest.mark.parametrize(("sparsity", "end"), [(0.5, 0.2), (0.9, 0.05), (0.98, 0.05)])
def test_the_count_follows_the_plan_on_the_way(sparsity, end):
    model, controller = _sparse("lenet_300_100"), TargetSparsity(sparsity, by_epoch=6)
    watch = Watch(controller)
    _fit(model, controller, watch, count=1437, epochs=6)
    steps = 6 * math.ceil(1437 / 32)
    curve = 1 - (1 - np.arange(1, steps + 1) / steps) ** 3
    planned = _size(model) * (1 - sparsity) ** curve
    ratios = np.array(watch.counts) / planned
    assert np.min(ratios) > 0.85  # masks start at one value: they leave it in a crowd
    assert np.median(np.abs(ratios - 1)) < 0.1
    assert ratios[-1] == pytest.approx(1, abs=end)  # before the last stroke


def test_a_training_that_is_resumed_steers_as_if_it_had_not_stopped(tmp_path):
    def train(model, **arguments):
        x, y = DIGITS.x_train[:512], DIGITS.y_train[:512]
        target = [TargetSparsity(0.9, by_epoch=6)]
        model.fit(x, y, shuffle=False, verbose=0, callbacks=target, **arguments)

    whole, first = _small(), _small()
    for model in (whole, first):
        model.compile(keras.optimizers.Adam(2e-3), LOSS)
    train(whole, epochs=7)

    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.stop_training = epoch == 2

    x, y = DIGITS.x_train[:512], DIGITS.y_train[:512]
    callbacks = [TargetSparsity(0.9, by_epoch=6), Stop()]
    with pytest.warns(UserWarning, match="stopped early"):
        first.fit(x, y, shuffle=False, verbose=0, epochs=7, callbacks=callbacks)
    first.save(tmp_path / "model.keras")
    second = keras.models.load_model(tmp_path / "model.keras")
    train(second, epochs=7, initial_epoch=3)
    for a, b in zip(whole.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "either"),
        ({"sparsity": 0.5, "compression": 2}, "either"),
        ({"sparsity": 1}, "sparsity=1"),
        ({"sparsity": -0.1}, "sparsity=-0.1"),
        ({"sparsity": float("nan")}, "sparsity=nan"),
        ({"compression": 0.5}, "compression=0.5"),
        ({"compression": float("nan")}, "compression=nan"),
        ({"sparsity": 0.5, "by_epoch": 0}, "by_epoch=0"),
        ({"sparsity": 0.5, "of": "bytes"}, "of='bytes'"),
    ],
)
def test_bad_arguments_are_refused_and_repeated(arguments, message):
    with pytest.raises(ValueError, match=message):
        TargetSparsity(**arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sparsity": 0.5, "by_epoch": 3}, "ends earlier"),
        ({"sparsity": 0.9999}, "less than one"),
        ({"compression": 1184}, "less than one"),
    ],
)
def test_what_cannot_be_reached_is_refused_when_fit_begins(arguments, message):
    with pytest.raises(ValueError, match=message):
        _fit(_small(), TargetSparsity(**arguments), epochs=2)


@pytest.mark.parametrize("by_epoch", [1.5, 0, -1, 0.5])
def test_an_epoch_that_never_comes_is_refused(by_epoch):
    with pytest.raises(ValueError, match=f"by_epoch={by_epoch}"):
        TargetSparsity(0.5, by_epoch=by_epoch)


def test_an_epoch_may_be_a_whole_float():
    model = _small()
    _fit(model, TargetSparsity(0.9, by_epoch=2.0), epochs=3)
    _assert_reached(model, 0.1)


class StopAfterFirst(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        self.model.stop_training = True


def test_a_training_that_stops_before_it_is_told_of():
    with pytest.warns(UserWarning, match="stopped early.*`AfterTarget"):
        _fit(_small(), TargetSparsity(0.9, by_epoch=2), StopAfterFirst())


def test_weights_restored_from_before_it_are_told_of():
    class Restore(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            self.weights = self.model.get_weights()

        def on_train_end(self, logs=None):
            self.model.set_weights(self.weights)

    with pytest.warns(UserWarning, match="1,184 connections, not the 118 asked for"):
        _fit(_small(), Restore(), TargetSparsity(0.9, by_epoch=2))


def test_early_stopping_from_its_epoch_on_keeps_the_target():
    model, controller = _small(), TargetSparsity(0.9, by_epoch=2)
    best = keras.callbacks.EarlyStopping(
        "loss", patience=9, restore_best_weights=True, start_from_epoch=2
    )
    _fit(model, best, controller, epochs=4)
    _assert_reached(model, 0.1)


def _macs(model):
    """Multiply-accumulates of the connections kept, and of all, by hand."""
    kept = total = 0
    for layer in model.layers:
        if (mask := getattr(layer, "kernel_mask", None)) is not None:
            pixels = math.prod(layer.output.shape[1:-1])
            kept += int((mask.variable.numpy() > 0).sum()) * pixels
            total += mask.size * pixels
    return kept, total


@pytest.mark.slow
def test_multiply_accumulates_are_counted_where_they_are_the_target():
    shares = {}
    for cost in ("macs", "connections"):
        model = _sparse("lenet_5")
        target = TargetSparsity(compression=8, of="macs")
        _fit(model, target, count=512, epochs=6, cost=cost)
        kept, total = _macs(model)
        largest = 8 * 8  # positions that one connection of the first layer serves
        assert kept == pytest.approx(total / 8, abs=largest)
        shares[cost] = sum(_counts(model)) / _size(model)
    # Where work is paid for, the many connections that do little of it stay longer.
    assert shares["macs"] > 2 * shares["connections"]


def test_a_target_follows_what_is_paid_for_and_contradictions_are_refused():
    model = _sparse("lenet_5")
    with pytest.raises(ValueError, match="to nothing before.*of='connections'.*'macs'"):
        _fit(model, TargetSparsity(0.5, of="connections"), epochs=1, cost="macs")
    with pytest.raises(ValueError, match="counts weights.*over='model'"):
        _fit(model, TargetSparsity(0.5, over="model"), epochs=1, cost="macs")
    _fit(model, TargetSparsity(compression=2), count=256, epochs=3, cost="macs")
    kept, total = _macs(model)
    assert kept == pytest.approx(total / 2, abs=8 * 8)


def test_frozen_layers_count_and_do_not_move():
    dense = build_architecture("lenet_300_100", (8, 8, 1), 10)
    model = sparsify(dense)
    frozen = next(x for x in model.layers if isinstance(x, MaskedDense))
    frozen.trainable = False
    kept = np.random.default_rng(0).random((64, 300)) < 0.5
    frozen.kernel_mask.assign(kept)
    before = [np.array(w) for w in frozen.weights]
    _fit(model, TargetSparsity(0.7), count=256, epochs=3)
    for weight, value in zip(frozen.weights, before, strict=True):
        np.testing.assert_array_equal(weight, value)
    assert sum(_counts(model)) == round(0.3 * _size(model))
    with pytest.raises(ValueError, match="can't be cut.*Ask for less"):
        _fit(model, TargetSparsity(0.9), count=256, epochs=3)
    model.trainable = False
    with pytest.raises(ValueError, match="no mask that training moves"):
        _fit(model, TargetSparsity(0.7), count=256, epochs=3)
    model.trainable = True
    _fit(model, TargetSparsity(0.9), count=256, epochs=3)
    assert sum(_counts(model)) == round(0.1 * _size(model))


def test_a_target_may_be_one_of_the_whole_model():
    dense = build_architecture("lenet_300_100", (8, 8, 1), 10)
    size = dense.count_params()
    model = sparsify(dense, layers=[x.name for x in dense.layers if x.weights][:-1])
    _fit(model, TargetSparsity(0.8, over="model"), count=256, epochs=3)
    cut = _size(model) - sum(_counts(model))
    assert size - cut == round(0.2 * size)
    assert summary(model, None).model_sparsity == pytest.approx(cut / size)
    with pytest.raises(ValueError, match="weights, less than.*can't be cut"):
        _fit(model, TargetSparsity(0.99, over="model"), count=256, epochs=3)


@pytest.mark.slow
def test_work_that_is_paid_for_goes_without_the_accuracy():
    model = _sparse("lenet_5")
    target = TargetSparsity(compression=10, of="macs", by_epoch=16)
    _fit(model, target, count=1437, epochs=24, cost="macs")
    predicted = model.predict(DIGITS.x_test, verbose=0).argmax(-1)
    assert np.mean(predicted == DIGITS.y_test) > 0.9


def test_work_of_unknown_size_cannot_be_a_target():
    layers = [keras.Input((None, None, 1)), keras.layers.Conv2D(10, 3)]
    layers += [keras.layers.GlobalAveragePooling2D()]
    with pytest.raises(ValueError, match="of='macs'.*known size.*conv2d"):
        _fit(sparsify(keras.Sequential(layers)), TargetSparsity(0.5, of="macs"))
