import keras
import numpy as np
import pytest
from keras import layers

from scl_keras import (
    AfterTarget,
    ConstantSparsity,
    GradualPruning,
    PolynomialDecay,
    find_masks,
    fix_masks,
    sparsify,
)

SCHEDULE = PolynomialDecay(0.2, 0.8, begin_step=2, end_step=10, frequency=4)
X = np.random.default_rng(1).normal(size=(32, 6)).astype("float32")
Y = np.ones((32, 2), "float32")


def model_of(seed=0, **options):
    keras.utils.set_random_seed(seed)
    model = keras.Sequential(
        [keras.Input((6,)), layers.Dense(5, activation="relu"), layers.Dense(2)]
    )
    model = sparsify(model, ste=None, copy=True)
    model.compile(keras.optimizers.Adam(0.05), "mse", **options)
    return model


def kept(model):
    return [keras.ops.convert_to_numpy(mask.kept()) for mask in find_masks(model)]


def fit(model, epochs, callbacks, first=0, **options):
    model.fit(
        *(X, Y),
        batch_size=8,  # 4 steps an epoch
        shuffle=False,
        initial_epoch=first,
        epochs=epochs,
        callbacks=callbacks,
        verbose=0,
        **options,
    )


class Watch(keras.callbacks.Callback):
    """Masks and values before each step."""

    def __init__(self):
        super().__init__()
        self.masks, self.values = [], []

    def on_train_batch_begin(self, batch, logs=None):
        self.masks.append(kept(self.model))
        self.values.append(
            [keras.ops.convert_to_numpy(x.kernel) for x in self.model.layers[-2:]]
        )


def brute_force(values, density):
    flat = np.abs(np.concatenate([v.ravel() for v in values]))
    mask = np.zeros(flat.size)
    mask[np.argsort(-flat, kind="stable")[: round(density * flat.size)]] = 1
    return np.split(mask, [values[0].size])


@pytest.mark.parametrize("quotas", [None, "uniform"])
def test_masks_follow_the_schedule_and_stay_in_between(quotas):
    watch = Watch()
    fit(model_of(), 4, [GradualPruning(SCHEDULE, quotas=quotas), watch])
    for step, masks in enumerate(watch.masks):
        if SCHEDULE.is_due(step):
            density = 1 - SCHEDULE(step)
            if quotas is None:
                expected = brute_force(watch.values[step], density)
                found = [mask.ravel() for mask in masks]
                np.testing.assert_array_equal(
                    np.concatenate(found), np.hstack(expected)
                )
            else:
                for mask in masks:
                    assert abs(mask.sum() - density * mask.size) <= 1
        elif step:
            for mask, before in zip(masks, watch.masks[step - 1], strict=True):
                np.testing.assert_array_equal(mask, before)
        else:
            assert all(mask.all() for mask in masks)
    assert [SCHEDULE.is_due(step) for step in range(12)].count(True) == 3


def test_the_first_step_is_pruned_and_the_logs_tell():
    watch, model = Watch(), model_of()
    history = keras.callbacks.History()
    pruning = GradualPruning(ConstantSparsity(0.5, 0, frequency=100))
    fit(model, 1, [pruning, watch, history])
    assert sum(mask.sum() for mask in watch.masks[0]) == 20
    assert history.history["sparsity"] == [pytest.approx(0.5)]


def test_steps_per_execution_makes_up_for_what_was_due():
    model = model_of(steps_per_execution=4)
    fit(model, 1, [GradualPruning(ConstantSparsity(0.5, 3, 3))])
    assert sum(mask.sum() for mask in kept(model)) == 20


def test_training_resumed_from_a_file_gives_the_same_masks(tmp_path):
    whole = model_of()
    fit(whole, 4, [GradualPruning(SCHEDULE)])
    part = model_of()
    with pytest.warns(UserWarning, match="unless another `fit` follows"):
        fit(part, 2, [GradualPruning(SCHEDULE)])
    part.save(tmp_path / "part.keras")
    part = keras.models.load_model(tmp_path / "part.keras")
    fit(part, 4, [GradualPruning(SCHEDULE)], first=2)
    for a, b in zip(whole.weights, part.weights, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)
    for a, b in zip(kept(whole), kept(part), strict=True):
        np.testing.assert_array_equal(a, b)


class Interruption(Exception):
    pass


class Interrupt(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 2:
            raise Interruption


@pytest.mark.parametrize("first", [True, False])
def test_backup_and_restore_gives_the_same_masks(first, tmp_path):
    whole = model_of()
    fit(whole, 4, [GradualPruning(SCHEDULE)])

    def callbacks():
        both = [GradualPruning(SCHEDULE), keras.callbacks.BackupAndRestore(tmp_path)]
        return both if first else both[::-1]

    with pytest.raises(Interruption):
        fit(model_of(), 4, [*callbacks(), Interrupt()])
    again = model_of(seed=5)
    fit(again, 4, callbacks())
    for a, b in zip(kept(whole), kept(again), strict=True):
        np.testing.assert_array_equal(a, b)


def test_models_that_it_cannot_prune():
    dense = keras.Sequential([keras.Input((6,)), layers.Dense(2)])
    learned = sparsify(dense, copy=True)
    for model, kind in ((dense, "no masks"), (learned, "that are learned")):
        model.compile("sgd", "mse")
        with pytest.raises(ValueError, match=f"masks are fixed.*{kind}"):
            fit(model, 1, [GradualPruning(SCHEDULE)])
    fixed = fix_masks(learned, copy=True)
    fixed.compile("sgd", "mse")
    fit(fixed, 3, [GradualPruning(SCHEDULE, "lamp")])
    with pytest.raises(ValueError, match="`schedule` must be.*Received"):
        GradualPruning(0.5)
    with pytest.raises(ValueError, match="`data` is missing"):
        fit(fixed, 3, [GradualPruning(ConstantSparsity(0.5, 0, frequency=1), "snip")])


def test_the_last_update_comes_whatever_the_frequency():
    # TFMOT's updates, every 100 steps, would prune nothing of this.
    schedule = PolynomialDecay(0.0, 0.85, begin_step=0, end_step=9)
    model, watch = model_of(), Watch()
    fit(model, 3, [GradualPruning(schedule), watch])
    size = sum(mask.size for mask in kept(model))
    assert sum(mask.sum() for mask in kept(model)) == round(0.15 * size)
    for a, b in zip(watch.masks[9], brute_force(watch.values[9], 0.15), strict=True):
        np.testing.assert_array_equal(a.ravel(), b)
    for a, b in zip(watch.masks[9], kept(model), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        (PolynomialDecay(0, 0.9, 0, 60), "after 60 .* after 8, .* 0 instead of 0.9"),
        (ConstantSparsity(0.9, 9), "after 9 .* after 8, .* 0 instead of 0.9"),
        (PolynomialDecay(0, 0.9, 0, 9, frequency=4), "0.899 instead of 0.9"),
    ],
)
def test_a_schedule_that_does_not_come_to_its_end_is_told_at_the_start(
    schedule, message
):
    class Never(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            raise Interruption  # after the first step

    with (
        pytest.warns(UserWarning, match=message),
        pytest.raises(Interruption),
    ):
        fit(model_of(), 2, [GradualPruning(schedule), Never()])
    # Up to the last step it is enough.
    ends = ConstantSparsity(0.9, 8)
    model = model_of()
    fit(model, 2, [GradualPruning(ends)])
    assert sum(mask.sum() for mask in kept(model)) == 4


class Stop(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        self.model.stop_training = True


@pytest.mark.filterwarnings("ignore:Your input ran out of data")
@pytest.mark.parametrize(
    ("kind", "end", "step"), [("generator", 9, 8), ("skipped", 8, 6), ("stopped", 8, 4)]
)
def test_a_schedule_that_did_not_come_to_its_end_is_told_at_the_end(kind, end, step):
    spoiled = np.where(np.arange(32)[:, None] == 9, np.nan, X)  # one batch of four
    batches = ((X[i : i + 8], Y[i : i + 8]) for i in range(0, 32, 4))
    data = {"x": X, "y": Y, "batch_size": 8, "epochs": 2}
    data |= {"x": spoiled} if kind == "skipped" else {}
    data = {"x": batches} if kind == "generator" else data
    schedule = PolynomialDecay(0.0, 0.5, 0, end, power=1, frequency=2)
    callbacks = [GradualPruning(schedule), *([Stop()] if kind == "stopped" else [])]
    model = model_of()
    message = f"after step {step}, .* last update after {end}: .* instead of 0.5"
    with pytest.warns(UserWarning, match=message):
        model.fit(**data, shuffle=False, verbose=0, callbacks=callbacks)
    assert 20 < sum(mask.sum() for mask in kept(model)) < 40


def test_frozen_layers_count_and_do_not_move():
    model = model_of()
    first, second = model.layers[-2:]
    first.trainable = False
    model.compile("sgd", "mse")
    pattern = np.arange(30).reshape(6, 5) % 2 == 0
    first.kernel_mask.assign(pattern)
    fit(model, 3, [GradualPruning(ConstantSparsity(0.5, 0))])
    np.testing.assert_array_equal(kept(model)[0], pattern)
    assert kept(model)[1].sum() == 20 - 15
    with pytest.raises(
        ValueError, match="than the 15 of layers with `trainable=False`"
    ):
        fit(model, 3, [GradualPruning(ConstantSparsity(0.7, 0))])
    second.trainable = False
    with pytest.raises(ValueError, match="no mask to prune.*Received: 2 masks"):
        fit(model, 3, [GradualPruning(ConstantSparsity(0.5, 0))])


def test_weights_restored_from_before_its_end_are_told_of():
    class Scores(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            logs["score"] = -epoch

    def best(wrap):
        stop = keras.callbacks.EarlyStopping(
            "score", patience=9, mode="max", restore_best_weights=True
        )
        return [Scores(), wrap(stop)]

    schedule = ConstantSparsity(0.5, 5)
    with pytest.warns(
        UserWarning, match="40 connections, not the 20 that the schedule"
    ):
        fit(model_of(), 4, [GradualPruning(schedule), *best(lambda x: x)])
    model = model_of()
    fit(model, 4, [GradualPruning(schedule), *best(AfterTarget)])
    assert sum(mask.sum() for mask in kept(model)) == 20


@pytest.mark.parametrize("first", [True, False])
def test_after_target_sees_what_comes_after_the_schedule_in_any_order(first):
    seen = []
    log = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs=None: seen.append(epoch)
    )
    both = [GradualPruning(ConstantSparsity(0.5, 5)), AfterTarget(log)]
    fit(model_of(), 4, both if first else both[::-1])
    assert seen == [2, 3]


def cut_off(model):
    """A first layer that magnitudes rank last."""
    model.layers[-2].kernel.assign(model.layers[-2].kernel * 1e-6)
    return model


def warnings_of(run):
    with pytest.warns(UserWarning) as caught:
        run()
    messages = [str(w.message) for w in caught]
    return [x for x in messages if "GradualPruning" in x]  # others' are caught, too


def test_an_update_that_leaves_no_path_is_told_of_once():
    model = cut_off(model_of())
    name = model.layers[-2].name
    model.optimizer.learning_rate = 0.0
    (message,) = warnings_of(lambda: fit(model, 3, [GradualPruning(SCHEDULE)]))
    # At 20 % the last two layers still have paths, at the update after that not.
    assert "after its update at step 10, no path is left from the inputs" in message
    assert f"Kernels without a connection: {name}/kernel." in message
    assert "'lamp' or 'synflow'" in message and "'erk'" in message
    assert sum(mask.sum() for mask in kept(model)) == 8  # it has gone on
    fit(cut_off(model_of()), 3, [GradualPruning(SCHEDULE, quotas="uniform")])


def test_paths_are_asked_for_on_sizes_that_a_model_leaves_open():
    inputs = keras.Input((None, 6))
    x = layers.GlobalAveragePooling1D()(layers.Conv1D(5, 3)(inputs))
    model = keras.Model(inputs, layers.Dense(2)(x))
    model = sparsify(model, ste=None)
    model.compile("sgd", "mse")
    conv, dense = model.layers[1], model.layers[-1]
    conv.kernel.assign(conv.kernel * 0)
    dense.kernel.assign(dense.kernel + 1)
    schedule = ConstantSparsity(0.9, 0, frequency=2)
    x, y = np.ones((8, 12, 6)), np.ones((8, 2))
    pruning = [GradualPruning(schedule)]
    (message,) = warnings_of(
        lambda: model.fit(x, y, 2, epochs=3, callbacks=pruning, verbose=0)
    )
    assert "no path is left" in message and f"{conv.name}/kernel" in message


class NotFollowed(keras.Model):
    """A model whose `call` takes none of Keras's symbolic tensors."""

    def __init__(self):
        super().__init__()
        self.first, self.last = layers.Dense(5), layers.Dense(2)

    def call(self, x):
        if isinstance(x, keras.KerasTensor):
            raise TypeError("no tensor")
        return self.last(self.first(x))


def test_where_paths_can_not_be_told_empty_kernels_are():
    model = NotFollowed()
    model(X)
    model = sparsify(model, ste=None)
    model.compile(keras.optimizers.SGD(0.0), "mse")
    model.first.kernel.assign(model.first.kernel * 1e-6)
    (message,) = warnings_of(lambda: fit(model, 3, [GradualPruning(SCHEDULE)]))
    assert "it can't be told whether a path is left" in message
    assert f"{model.first.name}/kernel. Training goes on" in message
