import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from scl_keras import (
    FEATURES,
    FreezeMasks,
    GradientNormalization,
    MaskedDense,
    SwitcherModel,
    SwitcherOptimizer,
    TurnsByEpoch,
    find_masks,
    freeze_masks,
    switcher_network,
    thaw_masks,
)
from scl_keras.switcher import blocks
from scl_keras.switcher.features import block_features, surroundings

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def _network(ste="identity", **layer):
    inputs = keras.Input((4,))
    x = MaskedDense(5, activation="tanh", ste=ste, **layer)(inputs)
    x = keras.layers.BatchNormalization()(x)
    return SwitcherModel(inputs, MaskedDense(3, ste=ste)(x))


def _data(rng, samples=16):
    return rng.normal(size=(samples, 4)), rng.integers(0, 3, samples)


def _lively_switcher():
    """Some outputs beyond both bounds, all parameters with a gradient."""
    network = switcher_network(units=(6,))
    for v in network.variables:
        v.assign(v + keras.random.normal(v.shape, stddev=0.4))
    return network


def _snapshot(model):
    optimizer = model.optimizer
    masks = [mask.variable for mask in find_masks(model)]
    known = {id(v) for v in masks}
    return {
        "weights": [v.numpy() for v in model.weights if id(v) not in known],
        "task": [v.numpy() for v in optimizer.optimizer.variables],
        "masks": [v.numpy() for v in masks],
        "switcher": [v.numpy() for v in optimizer.switcher.variables]
        + [v.numpy() for v in optimizer.switcher_optimizer.variables]
        + [optimizer.threshold.numpy()]
        + [v.numpy() for v in optimizer._mean_squares.values()],
    }


def _moved(before, after):
    return {
        side
        for side in before
        if any(
            not np.array_equal(a, b)
            for a, b in zip(before[side], after[side], strict=True)
        )
    }


def _one_by_one(model, x, y, steps):
    """The sides that move in each of some steps."""
    moves = []
    for _ in range(steps):
        before = _snapshot(model)
        model.train_on_batch(x, y)
        moves.append(_moved(before, _snapshot(model)))
    return moves


@pytest.mark.slow
@pytest.mark.parametrize("jit", [False, True])
def test_the_frozen_side_rests_bit_for_bit(jit, rng):
    model = _network()
    model.compile(
        keras.optimizers.Adam(weight_decay=0.1),
        LOSS,
        switcher_optimizer=keras.optimizers.Adam(weight_decay=0.1),
        task_steps=2,
        switcher_steps=3,
        jit_compile=jit,
        connection_cost=0.1,
    )
    x, y = _data(rng)
    model.train_on_batch(x, y)
    task, switcher = {"weights", "task"}, {"switcher", "masks"}
    expected = [task] + 3 * [switcher] + 2 * [task] + [switcher]
    assert _one_by_one(model, x, y, 7) == expected


def test_while_masks_are_frozen_every_step_is_the_tasks(rng):
    model = _network()
    model.compile("adam", LOSS, task_steps=1, run_eagerly=True, connection_cost=0.1)
    x, y = _data(rng)
    model.fit(x, y, epochs=2, verbose=0)
    freeze_masks(model)
    assert _one_by_one(model, x, y, 4) == 4 * [{"weights", "task"}]
    thaw_masks(model)
    assert {"switcher", "masks"} in _one_by_one(model, x, y, 2)
    callback = FreezeMasks(0)
    before = _snapshot(model)
    model.fit(x, y, epochs=2, verbose=0, callbacks=[callback])
    assert _moved(before, _snapshot(model)) == {"weights", "task"}


def test_turns_of_whole_epochs(rng):
    model = _network()
    model.compile("adam", LOSS, run_eagerly=True, connection_cost=0.1)
    moves, states = [], []

    class Watch(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            states.append(_snapshot(model))

        def on_epoch_end(self, epoch, logs=None):
            moves.append(_moved(states[-1], _snapshot(model)))

    x, y = _data(rng)
    model.train_on_batch(x, y)
    callbacks = [TurnsByEpoch(task=2, switcher=1), Watch()]
    model.fit(x, y, batch_size=4, epochs=6, verbose=0, callbacks=callbacks)
    task, switcher = {"weights", "task"}, {"switcher", "masks"}
    assert moves == 2 * [task, task, switcher]
    assert model.optimizer.turns.numpy().tolist() == [4, 1]


def test_turns_by_epoch_refuses_what_it_cannot_do():
    with pytest.raises(ValueError, match="at least 1"):
        TurnsByEpoch(task=0)
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match="SwitcherModel"):
        model.fit(np.zeros((2, 2)), np.zeros(2), callbacks=[TurnsByEpoch()], verbose=0)


def _expected_step(model, x, y, rate, price, scale_of):
    """One step of the switcher, by NumPy and one tape over all connections at once."""
    optimizer, masks = model.optimizer, find_masks(model)
    s = [mask.variable.numpy() for mask in masks]
    with tf.GradientTape() as tape:
        loss = LOSS(y, model(x, training=True))
    gradients = tape.gradient(loss, [mask.variable.value for mask in masks])
    scales = scale_of([g.numpy() for g in gradients])
    u, free = [], []
    for g, at, mask, scale in zip(gradients, s, masks, scales, strict=True):
        p = np.broadcast_to(mask.ste.derivative(tf.constant(at)), at.shape)
        u.append(g.numpy() * scale + price * p)
        free.append(~((at >= 1) & (u[-1] < 0)) & ~((at <= -1) & (u[-1] > 0)))
    mean = sum(np.sum(a * f) for a, f in zip(u, free, strict=True))
    mean /= sum(f.sum() for f in free)
    sizes = [mask.size for mask in masks]
    kernels = [layer.kernel for layer in model.layers if isinstance(layer, MaskedDense)]
    parameters = optimizer.switcher.trainable_variables
    with tf.GradientTape() as tape:
        total = 0.0
        for i, (kernel, a, f) in enumerate(zip(kernels, u, free, strict=True)):
            v = ops.convert_to_tensor(kernel)
            features = block_features(v, surroundings(v, i, sizes))
            outputs = tf.reshape(optimizer.switcher(features), v.shape)
            total += tf.reduce_sum(outputs * ((a - mean) * f).astype("float32"))
        total /= sum(sizes)
    gradients = tape.gradient(total, [v.value for v in parameters])
    new = [v - rate * g for v, g in zip(parameters, gradients, strict=True)]
    threshold = optimizer.threshold.numpy()
    return new, threshold + optimizer.threshold_learning_rate * mean, s


def _none(gradients):
    return [1.0] * len(gradients)


def _by_network(gradients):
    rms = np.sqrt(np.mean(np.concatenate([g.ravel() for g in gradients]) ** 2))
    return [1 / rms] * len(gradients)


def _by_feature(gradients):
    rms = [np.sqrt(np.mean(g**2, axis=0, keepdims=True)) for g in gradients]
    return [np.where(r > 0, 1 / np.maximum(r, 1e-30), 0) for r in rms]


@pytest.mark.parametrize("ste", ["identity", "softplus"])
@pytest.mark.parametrize(
    ("per", "scale_of", "block"),
    [(None, _none, 10_000), ("network", _by_network, 6), ("feature", _by_feature, 6)],
)
def test_the_switchers_step_equals_numpy(ste, per, scale_of, block, monkeypatch, rng):
    monkeypatch.setattr(blocks, "CONNECTIONS_A_BLOCK", block)
    model = _network(ste)
    model.compile(
        keras.optimizers.SGD(0.1),
        LOSS,
        switcher=_lively_switcher(),
        switcher_optimizer=keras.optimizers.SGD(0.5),
        connection_cost=0.3,
        normalization=GradientNormalization(per, memory=0),
        task_steps=1,
        run_eagerly=True,
    )
    x, y = _data(rng)
    model.train_on_batch(x, y)
    optimizer = model.optimizer
    optimizer.prepare_step()  # as the next step will do first
    new, threshold, s = _expected_step(model, x, y, 0.5, 0.3, scale_of)
    beyond = np.concatenate([np.abs(value).ravel() for value in s]) == 1
    assert 0 < beyond.sum() < beyond.size
    model.train_on_batch(x, y)
    np.testing.assert_allclose(optimizer.threshold, threshold, rtol=1e-4, atol=1e-6)
    for variable, value in zip(
        optimizer.switcher.trainable_variables, new, strict=True
    ):
        np.testing.assert_allclose(variable, value, rtol=1e-3, atol=1e-5)


def test_switches_are_a_function_of_the_weights_equivariant_to_permutations(rng):
    inputs = keras.Input((6,))
    model = SwitcherModel(inputs, MaskedDense(5)(inputs))
    model.compile("sgd", "mse", switcher=_lively_switcher(), connection_cost=0.1)
    model.optimizer.build(model.trainable_variables)
    (mask,), kernel = find_masks(model), model.layers[1].kernel
    model.optimizer.switch()
    first, v = mask.variable.numpy(), kernel.numpy()
    rows, columns = rng.permutation(6), rng.permutation(5)
    kernel.assign(v[rows][:, columns])
    model.optimizer.switch()
    np.testing.assert_allclose(
        mask.variable, first[rows][:, columns], rtol=1e-4, atol=1e-5
    )
    kernel.assign(v)
    model.optimizer.threshold.assign(0.25)
    model.optimizer.switch()
    inside = np.abs(first) < 0.7
    assert inside.any()
    np.testing.assert_allclose(
        mask.variable.numpy()[inside], first[inside] - 0.25, rtol=1e-4, atol=1e-5
    )


def test_a_layer_keeps_its_last_connection():
    inputs = keras.Input((6,))
    model = SwitcherModel(inputs, MaskedDense(5)(inputs))
    model.compile("sgd", "mse", connection_cost=0.1)
    model.optimizer.build(model.trainable_variables)
    model.optimizer.threshold.assign(3.0)
    model.optimizer.switch()
    (mask,) = find_masks(model)
    assert int(mask.count()) == 1 and mask.is_down_to_last()


@pytest.mark.parametrize(
    ("turn", "mode"),
    [
        ("task", {"run_eagerly": True}),
        ("switcher", {"run_eagerly": True}),
        ("switcher", {"jit_compile": True}),
    ],
)
def test_a_bad_batch_moves_nothing_and_takes_no_turn(turn, mode, rng):
    model = _network()
    model.compile("adam", LOSS, task_steps=1, **mode, connection_cost=0.1)
    x, y = _data(rng)
    for _ in range(2 if turn == "task" else 3):
        model.train_on_batch(x, y)
    before, steps = _snapshot(model), int(model.optimizer.steps)
    if turn == "switcher":  # whose turn begins with a look at the weights
        before.pop("masks")
    bad = x.copy()
    bad[0, 0] = np.nan
    logs = model.train_on_batch(bad, y, return_dict=True)
    after = _snapshot(model)
    after = {key: after[key] for key in before}
    assert _moved(before, after) == set()
    assert int(model.optimizer.steps) == steps
    assert int(logs["skipped_updates"]) == 1
    expected = {"weights", "task"} if turn == "task" else {"switcher", "masks"}
    assert _one_by_one(model, x, y, 1) == [expected]


def test_gradient_accumulation_makes_one_update_of_several_batches(rng):
    x, y = _data(rng)
    results = []
    for parts in (1, 2):
        keras.utils.set_random_seed(0)
        inputs = keras.Input((4,))
        model = SwitcherModel(inputs, MaskedDense(3)(inputs))
        accumulate = {"gradient_accumulation_steps": parts} if parts > 1 else {}
        model.compile(
            keras.optimizers.SGD(0.1, **accumulate),
            LOSS,
            switcher_optimizer=keras.optimizers.SGD(0.1),
            task_steps=parts,
            switcher_steps=parts,
            run_eagerly=True,
            connection_cost=0.1,
        )
        for _ in range(4):
            for part in np.split(np.arange(16), parts):
                model.train_on_batch(x[part], y[part])
        results.append([v.numpy() for v in model.variables + model.switcher.variables])
    for whole, split in zip(*results, strict=True):
        np.testing.assert_allclose(whole, split, rtol=1e-4, atol=1e-5)


def test_a_switcher_without_parameters_is_a_rule(rng):
    log = FEATURES.index("log magnitude")
    rule = keras.Sequential(
        [keras.Input((len(FEATURES),)), _Column(log), keras.layers.Rescaling(0.1, 0.4)]
    )
    model = _network()
    model.compile(
        "adam", LOSS, switcher=rule, task_steps=1, run_eagerly=True, connection_cost=0.1
    )
    x, y = _data(rng)
    model.fit(x, y, epochs=4, verbose=0)
    assert float(model.optimizer.threshold) != 0


class _Column(keras.layers.Layer):
    def __init__(self, column):
        super().__init__()
        self.column = column

    def call(self, x):
        return x[:, self.column : self.column + 1]


def test_its_configuration_makes_the_same_one():
    optimizer = SwitcherOptimizer(
        keras.optimizers.Adam(0.01),
        keras.optimizers.SGD(0.2),
        connection_cost=0.3,
        cost="macs",
        normalization="layer",
        switcher=switcher_network((3,)),
        task_steps=7,
        switcher_steps=2,
        threshold_learning_rate=0.004,
    )
    again = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    assert again.get_config() == optimizer.get_config()
    assert again.turns.numpy().tolist() == [7, 2]
    assert float(again.connection_cost) == pytest.approx(0.3)
