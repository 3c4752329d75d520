import inspect

import keras
import numpy as np
import pytest
import tensorflow as tf

from scl_keras import (
    ConnectionCostScheduler,
    FreezeMasks,
    GradientNormalization,
    MaskedConv2D,
    MaskedDense,
    MaskLogger,
    SCLModel,
    SCLOptimizer,
    SCLSequential,
    find_masks,
    freeze_masks,
    ramp,
    sparsify,
    thaw_masks,
)
from scl_keras.datasets import load_dataset

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
LOGS = {"sparsity", "skipped_updates"}


@pytest.fixture(scope="module")
def digits():
    return load_dataset("digits")


def _network(ste="identity"):
    inputs = keras.Input((8, 8, 1))
    x = MaskedConv2D(4, 3, activation="relu", ste=ste, mask_initializer=0.01)(inputs)
    x = keras.layers.Flatten()(x)
    outputs = MaskedDense(10, ste=ste, kernel_regularizer="l2")(x)
    return SCLModel(inputs, outputs)


class Subclassed(SCLModel):
    def __init__(self):
        super().__init__()
        self.flatten = keras.layers.Flatten()
        self.dense = MaskedDense(10)

    def call(self, inputs):
        return self.dense(self.flatten(inputs))


def _sequential():
    return SCLSequential([keras.layers.Flatten(), MaskedDense(10)])


def _sparsified():
    layers = [keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(10)]
    return sparsify(keras.Sequential(layers))


@pytest.mark.parametrize("make", [_network, Subclassed, _sequential, _sparsified])
def test_every_kind_of_model_trains_beside_the_others(make, digits):
    _network()  # a functional one must not break subclassing
    model = make()
    model.compile("adam", LOSS, metrics=["accuracy"], connection_cost=0.1)
    history = model.fit(digits.x_train, digits.y_train, epochs=2, verbose=0).history
    keys = {"loss", "accuracy", *LOGS}
    assert set(history) == keys
    kept = sum(int(mask.count()) for mask in find_masks(model))
    size = sum(mask.size for mask in find_masks(model))
    assert history["sparsity"][-1] == pytest.approx(1 - kept / size)
    assert len(model.evaluate(digits.x_test, digits.y_test, verbose=0)) == 2


@pytest.mark.parametrize("ste", ["identity", "leaky_relu", "softplus"])
@pytest.mark.parametrize("cost", ["connections", "macs"])
def test_without_normalization_the_update_is_the_objectives_gradient(ste, cost, digits):
    model, price = _network(ste), 3e-4
    model.compile(
        keras.optimizers.SGD(0.1),
        LOSS,
        mask_optimizer=keras.optimizers.SGD(0.01),
        connection_cost=price,
        cost=cost,
        normalization=None,
        run_eagerly=True,
    )
    masks = find_masks(model)
    masks[1].assign(np.random.default_rng(0).random(masks[1].variable.shape) < 0.5)
    x, y = digits.x_train[:32], digits.y_train[:32]
    # 36 positions use each of the 36 convolution weights, 1 each of the 1,440 others.
    mean = (36 * 36 + 1440) / (36 + 1440)
    prices = [36 / mean, 1 / mean] if cost == "macs" else [1, 1]
    with tf.GradientTape() as tape:
        objective = LOSS(y, model(x, training=True)) + sum(model.losses)
        for mask, c in zip(masks, prices, strict=True):
            objective += price * c * tf.reduce_sum(mask.kept())
    variables = model.trainable_variables
    gradients = tape.gradient(objective, [v.value for v in variables])
    rates = [0.01 if hasattr(v, "connection_mask") else 0.1 for v in variables]
    expected = [
        np.clip(v - r * g, -1, 1) if r == 0.01 else v - r * g
        for v, r, g in zip(variables, rates, gradients, strict=True)
    ]
    model.train_on_batch(x, y)
    for variable, value in zip(variables, expected, strict=True):
        np.testing.assert_allclose(variable, value, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("per", ["network", "layer", "feature"])
@pytest.mark.parametrize("memory", [0, 0.9, 1])
def test_normalization_equals_numpy(per, memory):
    masks = find_masks(_network())
    optimizer = SCLOptimizer(
        "sgd",
        keras.optimizers.SGD(1e-3),
        connection_cost=0.2,
        normalization=GradientNormalization(per, memory),
    )
    variables = [mask.variable for mask in masks]
    optimizer.build(variables)
    rng, statistics = np.random.default_rng(0), None
    values = [v.numpy() for v in variables]
    for t in range(1, 5):
        gradients = [rng.normal(size=v.shape).astype("float32") * t for v in values]
        if per == "network":
            everything = np.concatenate([g.ravel() for g in gradients])
            means = [np.mean(everything**2)] * 2
        else:
            axes = [tuple(range(g.ndim - (per == "feature"))) for g in gradients]
            means = [np.mean(g**2, a) for g, a in zip(gradients, axes, strict=True)]
        share = max(1 - memory, 1 / t)
        old = statistics or means
        statistics = [
            o + share * (np.minimum(m, 4 * o) - o)
            for o, m in zip(old, means, strict=True)
        ]
        largest = map(np.maximum, statistics, means)
        for i, (g, m) in enumerate(zip(gradients, largest, strict=True)):
            values[i] = np.clip(values[i] - 1e-3 * (g / np.sqrt(m) + 0.2), -1, 1)
        optimizer.apply([tf.constant(g) for g in gradients], variables)
        for variable, value in zip(variables, values, strict=True):
            np.testing.assert_allclose(variable, value, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("per", ["network", "layer", "feature", None])
def test_zero_gradients_and_dead_features_never_make_a_nan(per):
    inputs = keras.Input((4,))
    model = SCLModel(inputs, MaskedDense(2)(MaskedDense(3, activation="relu")(inputs)))
    model.compile("sgd", "mse", normalization=per, connection_cost=0.1)
    find_masks(model)[0].assign(np.eye(4, 3) * [1, 0, 0])
    zeros = np.zeros((8, 4), "float32")
    model.fit(zeros, np.zeros((8, 2)), epochs=3, verbose=0)
    assert all(np.isfinite(w).all() for w in model.get_weights())


def test_masks_stay_bounded_and_a_layer_keeps_its_last_connection(digits):
    model = _network()
    model.compile("adam", LOSS, connection_cost=1e6)
    model.fit(digits.x_train, digits.y_train, epochs=1, verbose=0)
    for mask in find_masks(model):
        assert np.abs(mask.variable.numpy()).max() <= 1
        assert int(mask.count()) >= 1


def test_a_cut_connection_comes_back_when_it_is_needed():
    inputs = keras.Input((2,))
    layer = MaskedDense(1, use_bias=False, kernel_initializer="ones")
    model = SCLModel(inputs, layer(inputs))
    model.compile(
        "sgd", "mse", mask_optimizer=keras.optimizers.SGD(0.05), connection_cost=0.1
    )
    model.optimizer.learning_rate = 0.0
    layer.kernel_mask.assign([[1], [0]])
    x = np.random.default_rng(0).normal(size=(256, 2)).astype("float32")
    model.fit(x, x.sum(axis=1), epochs=20, verbose=0)
    assert layer.kernel_mask.variable.numpy()[1, 0] > 0


def test_eager_graph_and_jit_agree(digits):
    results = []
    for mode in ({"run_eagerly": True}, {"jit_compile": False}, {"jit_compile": True}):
        keras.utils.set_random_seed(1)
        model = _network()
        model.compile(keras.optimizers.Adam(1e-3), LOSS, **mode, connection_cost=0.1)
        x, y = digits.x_train[:256], digits.y_train[:256]
        model.fit(x, y, epochs=2, shuffle=False, verbose=0)
        results.append(model.get_weights())
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)


def test_a_loaded_model_goes_on_bit_for_bit(digits, tmp_path):
    x, y = digits.x_train[:320], digits.y_train[:320]
    model = _network()
    model.compile("adam", LOSS, connection_cost=0.3)
    model.fit(x, y, epochs=2, shuffle=False, verbose=0)
    model.scl_optimizer.connection_cost.assign(0.5)
    model.save(tmp_path / "model.keras")
    model.fit(x, y, epochs=2, shuffle=False, verbose=0)
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert float(loaded.connection_cost) == 0.5
    loaded.fit(x, y, epochs=2, shuffle=False, verbose=0)
    for a, b in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_trains(policy, digits):
    keras.config.set_dtype_policy(policy)
    try:
        model = _network()
    finally:
        keras.config.set_dtype_policy("float32")
    model.compile("adam", LOSS, metrics=["accuracy"], connection_cost=0.1)
    x, y = digits.x_train, digits.y_train
    history = model.fit(x, y, epochs=8, verbose=0).history
    assert history["accuracy"][-1] > 0.8
    assert model.scl_optimizer.mask_optimizer is model.mask_optimizer


def test_accumulated_micro_batches_equal_one_big_batch(digits):
    x, y = digits.x_train[:64], digits.y_train[:64]
    results = []
    for steps, batch in ((None, 64), (4, 16)):
        keras.utils.set_random_seed(3)
        model = _network()
        weights = keras.optimizers.SGD(0.1, gradient_accumulation_steps=steps)
        model.compile(weights, LOSS, cost="connections", connection_cost=0.1)
        model.fit(x, y, batch_size=batch, epochs=3, shuffle=False, verbose=0)
        results.append(model.get_weights())
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_a_custom_loop_with_the_optimizer_is_what_fit_does(digits):
    x, y = digits.x_train[:64], digits.y_train[:64]
    fitted, looped = _network(), _network()
    looped.set_weights(fitted.get_weights())
    fitted.compile(keras.optimizers.SGD(0.1), LOSS, connection_cost=0.1)
    fitted.train_on_batch(x, y)
    optimizer = SCLOptimizer(keras.optimizers.SGD(0.1), connection_cost=0.1)
    with tf.GradientTape() as tape:
        loss = LOSS(y, looped(x, training=True)) + sum(looped.losses)
    variables = looped.trainable_variables
    optimizer.apply(tape.gradient(loss, [v.value for v in variables]), variables)
    for a, b in zip(fitted.get_weights(), looped.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_keras_callbacks_keep_working(digits, tmp_path):
    model = _network()
    model.compile("adam", LOSS, metrics=["accuracy"], connection_cost=0.1)
    callbacks = [
        keras.callbacks.LearningRateScheduler(lambda epoch: 1e-3 / (epoch + 1)),
        keras.callbacks.ReduceLROnPlateau(patience=0),
        keras.callbacks.ModelCheckpoint(tmp_path / "best.keras", save_best_only=True),
        keras.callbacks.EarlyStopping(patience=5, restore_best_weights=True),
        keras.callbacks.CSVLogger(tmp_path / "log.csv"),
        keras.callbacks.TensorBoard(tmp_path / "board"),
    ]
    data = (digits.x_test, digits.y_test)
    model.fit(*data, epochs=3, validation_data=data, callbacks=callbacks, verbose=0)
    assert float(model.mask_optimizer.learning_rate) == pytest.approx(3e-3)
    assert float(model.optimizer.learning_rate) < 1e-3
    assert "sparsity" in (tmp_path / "log.csv").read_text()
    assert list((tmp_path / "board").rglob("events*"))
    best = keras.models.load_model(tmp_path / "best.keras")
    assert isinstance(best, SCLModel)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"cost": "bytes"}, "Received: cost='bytes'"),
        ({"connection_cost": -1}, "Received: connection_cost=-1"),
        ({"connection_cost": float("nan")}, "Received: connection_cost=nan"),
        ({"normalization": "batch"}, "Received: normalization='batch'"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        _network().compile("adam", LOSS, **arguments)


def test_an_uncompiled_model_says_so():
    with pytest.raises(AttributeError, match="no optimizer yet"):
        _ = _network().scl_optimizer
    assert getattr(_network(), "scl_optimizer", None) is None


@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
def test_averaged_weights_are_swapped_as_in_the_dense_model(policy, digits):
    """With masks that stay, the averages are those of the dense model's weights."""
    data = (digits.x_test[:128], digits.y_test[:128])
    found = []
    for masked in (False, True):
        keras.utils.set_random_seed(0)
        layers = [keras.Input((8, 8, 1)), keras.layers.Flatten()]
        layers.append(keras.layers.Dense(10, dtype=policy))
        model = keras.Sequential(layers)
        if masked:
            sparsify(model)
        optimizer = keras.optimizers.SGD(0.1, use_ema=True, ema_momentum=0.9)
        extra = {"mask_optimizer": keras.optimizers.SGD(0.0)} if masked else {}
        model.compile(optimizer, LOSS, jit_compile=False, **extra)
        losses = []
        swap = keras.callbacks.SwapEMAWeights()
        logger = keras.callbacks.LambdaCallback(
            on_epoch_end=lambda epoch, logs, losses=losses: losses.append(
                logs["val_loss"]
            )
        )
        model.fit(
            *data,
            32,
            3,
            0,
            callbacks=[swap, logger],
            validation_data=data,
            shuffle=False,
        )
        weights = [w for w in model.weights if not hasattr(w, "connection_mask")]
        found.append([losses, *[np.array(w) for w in weights]])
    for dense, sparse in zip(*found, strict=True):
        np.testing.assert_allclose(sparse, dense, rtol=1e-3, atol=1e-5)


@keras.saving.register_keras_serializable("tests")
class OwnStep(SCLModel):
    def train_step(self, data):
        return {**super().train_step(data), "own": 1.0}


@keras.saving.register_keras_serializable("tests")
class OwnGraph(OwnStep):
    def __init__(self, units=10, **kwargs):
        inputs = keras.Input((8, 8, 1))
        x = keras.layers.Flatten()(inputs)
        super().__init__(inputs=inputs, outputs=MaskedDense(units)(x), **kwargs)
        self.units = units

    def get_config(self):
        return {"units": self.units}


@keras.saving.register_keras_serializable("tests")
class OwnCall(SCLModel):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.flatten, self.dense = keras.layers.Flatten(), MaskedDense(10)

    def call(self, inputs):
        return self.dense(self.flatten(inputs))

    def get_config(self):
        return {}


def _own_step():
    inputs = keras.Input((8, 8, 1))
    return OwnStep(inputs, MaskedDense(10)(keras.layers.Flatten()(inputs)))


def _half_by_name():
    inputs = keras.Input((8, 8, 1))
    outputs = MaskedDense(10)(keras.layers.Flatten()(inputs))
    return SCLModel(inputs, outputs=outputs)


KINDS = [_own_step, OwnGraph, _half_by_name, OwnCall, _sequential, _network]


@pytest.mark.parametrize("first", KINDS)
def test_no_way_to_make_a_model_spoils_another(first, digits, tmp_path):
    x, y = digits.x_train[:64], digits.y_train[:64]
    for make in (first, *KINDS):
        model = make()
        model(x)
    assert SCLModel.__bases__ == (keras.Model,)
    model = first()
    model.compile("adam", LOSS, connection_cost=0.1)
    history = model.fit(x, y, epochs=1, verbose=0).history
    assert ("own" in history) == isinstance(model, OwnStep)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert type(loaded) is type(model)
    np.testing.assert_array_equal(
        model.predict(x, verbose=0), loaded.predict(x, verbose=0)
    )


def test_compile_takes_what_keras_takes_in_the_same_order():
    stock = list(inspect.signature(keras.Model.compile).parameters.values())
    ours = list(inspect.signature(SCLModel.compile).parameters.values())
    assert [(p.name, p.default) for p in ours[: len(stock)]] == [
        (p.name, p.default) for p in stock
    ]
    assert all(p.kind is p.KEYWORD_ONLY for p in ours[len(stock) :])


def _twins(optimizer=keras.optimizers.Adam, **compile_arguments):
    """An SCL model with all its connections, which it keeps, and its dense model."""
    layers = [keras.Input((8, 8, 1)), keras.layers.Conv2D(4, 3, activation="relu")]
    layers += [keras.layers.Flatten(), keras.layers.Dropout(0.2, seed=1)]
    dense = keras.Sequential([*layers, keras.layers.Dense(10, kernel_regularizer="l2")])
    sparse = sparsify(dense, copy=True)
    for model in (dense, sparse):
        model.compile(
            optimizer(1e-2),
            LOSS,
            metrics=["accuracy"],
            **compile_arguments,
        )
    freeze_masks(sparse)
    return dense, sparse


def _weights(model):
    variables = model.trainable_variables
    return [v.numpy() for v in variables if not hasattr(v, "connection_mask")]


@pytest.mark.parametrize(
    ("fit", "compiled"),
    [
        ({}, {}),
        ({"sample_weight": np.linspace(0, 2, 128)}, {}),
        ({"class_weight": {i: 0.5 + i for i in range(10)}}, {}),
        ({}, {"steps_per_execution": 2}),
        ({"validation_split": 0.25}, {}),
    ],
)
def test_with_all_connections_it_is_the_dense_model(fit, compiled, digits):
    dense, sparse = _twins(**compiled)
    x, y = digits.x_train[:128], digits.y_train[:128]
    arguments = {"epochs": 3, "shuffle": False, "verbose": 0, **fit}
    expected = dense.fit(x, y, **arguments).history
    logs = sparse.fit(x, y, **arguments).history
    extra = LOGS
    assert set(logs) == set(expected) | extra
    for key, values in expected.items():
        np.testing.assert_allclose(logs[key], values, rtol=1e-4)
    for a, b in zip(_weights(dense), _weights(sparse), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)
    x, y = digits.x_test, digits.y_test
    np.testing.assert_allclose(
        sparse.evaluate(x, y, verbose=0), dense.evaluate(x, y, verbose=0), rtol=1e-4
    )


def test_several_steps_an_execution_are_the_same_steps(digits):
    x, y, results = digits.x_train[:256], digits.y_train[:256], []
    for steps in (1, 3, 8):
        keras.utils.set_random_seed(2)
        model = _network()
        model.compile("adam", LOSS, connection_cost=0.5, steps_per_execution=steps)
        history = model.fit(x, y, epochs=3, shuffle=False, verbose=0).history
        results.append([*model.get_weights(), history["sparsity"], history["loss"]])
        kept = sum(int(mask.count()) for mask in find_masks(model))
        assert 0 < kept < 1476
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_examples_of_weight_zero_do_not_move_masks(digits):
    x, y, results = digits.x_train[:64], digits.y_train[:64], []
    for count in (32, 64):
        keras.utils.set_random_seed(2)
        model = _network()
        mask_optimizer = keras.optimizers.SGD(0.1)
        model.compile(
            "sgd",
            LOSS,
            mask_optimizer=mask_optimizer,
            normalization=None,
            connection_cost=0.1,
        )
        weight = (np.arange(count) < 32) * (count / 32)
        model.train_on_batch(x[:count], y[:count], sample_weight=weight)
        results.append(model.get_weights())
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_many_inputs_and_outputs_train(digits):
    first, second = keras.Input((8, 8, 1), name="first"), keras.Input((3,), name="two")
    x = MaskedDense(8, activation="relu")(keras.layers.Flatten()(first))
    x = keras.layers.Concatenate()([x, MaskedDense(2)(second)])
    outputs = {"label": MaskedDense(10, name="label")(x), "sum": MaskedDense(1)(x)}
    model = SCLModel({"first": first, "two": second}, outputs)
    model.compile(
        "adam",
        {"label": LOSS, "sum": "mse"},
        loss_weights={"label": 1, "sum": 0.1},
        connection_cost=0.1,
    )
    inputs = {"first": digits.x_train[:128], "two": np.ones((128, 3), "float32")}
    targets = {
        "label": digits.y_train[:128],
        "sum": digits.x_train[:128].mean(axis=(1, 2, 3))[:, None],
    }
    before = [mask.variable.numpy() for mask in find_masks(model)]
    history = model.fit(inputs, targets, epochs=5, verbose=0).history
    assert history["loss"][-1] < history["loss"][0]
    assert len(before) == 4
    for old, mask in zip(before, find_masks(model), strict=True):
        assert not np.array_equal(old, mask.variable)


def test_a_layer_that_is_not_trainable_keeps_weights_and_masks(digits):
    model = _network()
    layer = model.layers[1]
    layer.trainable = False
    model.compile("adam", LOSS, connection_cost=0.1)
    held, moved = layer.get_weights(), find_masks(model)[1].variable.numpy()
    x, y = digits.x_train[:64], digits.y_train[:64]
    history = model.fit(x, y, epochs=2, verbose=0).history
    for a, b in zip(held, layer.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(moved, find_masks(model)[1].variable)
    kept = sum(int(mask.count()) for mask in find_masks(model))
    assert history["sparsity"][-1] == pytest.approx(1 - kept / 1476)
    layer.trainable = True
    model.compile("adam", LOSS, connection_cost=0.1)
    model.fit(x, y, epochs=1, verbose=0)
    for a, b in zip(held, layer.get_weights(), strict=True):
        assert not np.array_equal(a, b)


def test_train_on_batch_gives_the_figures_of_fit(digits):
    model = _network()
    model.compile("adam", LOSS, metrics=["accuracy"], connection_cost=0.1)
    x, y = digits.x_train[:64], digits.y_train[:64]
    logs = model.train_on_batch(x, y, return_dict=True)
    kept = sum(int(mask.count()) for mask in find_masks(model))
    assert logs["sparsity"] == pytest.approx(1 - kept / 1476)
    results = model.test_on_batch(x, y, return_dict=True)
    assert set(results) == {"loss", "accuracy"}


def test_what_is_cut_comes_back_when_the_data_change():
    inputs = keras.Input((2,))
    layer = MaskedDense(1, use_bias=False, kernel_initializer="ones")
    model = SCLModel(inputs, layer(inputs))
    # A strong learning rate cuts the useless input before its weight has vanished.
    model.compile(
        keras.optimizers.SGD(0.01),
        "mse",
        mask_optimizer=keras.optimizers.SGD(0.05),
        connection_cost=0.1,
    )
    x = np.random.default_rng(0).normal(size=(256, 2)).astype("float32")
    model.fit(x, x[:, 0], epochs=3, verbose=0)
    np.testing.assert_array_equal(layer.kernel_mask.kept(), [[1], [0]])
    assert abs(float(layer.kernel[1, 0])) > 0.1  # a cut connection keeps its value
    model.fit(x, x[:, 1], epochs=40, verbose=0)
    np.testing.assert_array_equal(layer.kernel_mask.kept(), [[0], [1]])


@pytest.mark.parametrize(
    ("policy", "weights", "masks"),
    [
        ("float32", {}, {}),
        ("float32", {"gradient_accumulation_steps": 3}, {"momentum": 0.9}),
        (
            "float32",
            {"use_ema": True, "ema_overwrite_frequency": 3},
            {"nesterov": True},
        ),
        ("mixed_float16", {}, {}),
    ],
)
def test_two_halves_with_a_file_between_are_one_training(
    policy, weights, masks, digits, tmp_path
):
    x, y, results = digits.x_train[:320], digits.y_train[:320], []
    for halves in (False, True):
        keras.utils.set_random_seed(4)
        keras.config.set_dtype_policy(policy)
        try:
            model = _network()
        finally:
            keras.config.set_dtype_policy("float32")
        model.compile(
            keras.optimizers.Adam(1e-3, **weights),
            LOSS,
            mask_optimizer=keras.optimizers.SGD(3e-3, **masks),
            normalization=GradientNormalization("feature", 0.9),
            cost="macs",
            connection_cost=0.1,
        )
        # Ten steps an epoch do not divide by three: the file holds half a batch.
        model.fit(x, y, epochs=1, shuffle=False, verbose=0)
        if halves:
            if policy != "float32":
                assert type(model.optimizer) is keras.optimizers.LossScaleOptimizer
            model.save(tmp_path / "model.keras")
            model = keras.models.load_model(tmp_path / "model.keras")
            assert type(model.optimizer).__name__ in (
                "SCLOptimizer",
                "LossScaleOptimizer",
            )
            assert isinstance(model.scl_optimizer, SCLOptimizer)
        model.fit(x, y, epochs=2, initial_epoch=1, shuffle=False, verbose=0)
        results.append(model.get_weights())
    for a, b in zip(*results, strict=True):
        np.testing.assert_array_equal(a, b)


class Break(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 2:
            raise KeyboardInterrupt


def test_backup_and_restore_takes_up_an_interrupted_training(digits, tmp_path):
    x, y, results = digits.x_train[:320], digits.y_train[:320], []

    def fit(*callbacks):
        keras.utils.set_random_seed(5)
        model = _network()
        model.compile("adam", LOSS, connection_cost=0.1)
        callbacks = [ConnectionCostScheduler(ramp(0.4, 3)), FreezeMasks(3), *callbacks]
        arguments = {"epochs": 4, "shuffle": False, "verbose": 0}
        model.fit(x, y, callbacks=callbacks, **arguments)
        results.append(model.get_weights())

    fit()
    backup = tmp_path / "backup"
    with pytest.raises(KeyboardInterrupt):
        fit(keras.callbacks.BackupAndRestore(backup), Break())
    fit(keras.callbacks.BackupAndRestore(backup))
    for a, b in zip(*results, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_plateau_lowers_the_rate_of_the_weights_alone(digits):
    model = _network()
    model.compile(keras.optimizers.SGD(0.0), LOSS, connection_cost=0.1)
    plateau = keras.callbacks.ReduceLROnPlateau("loss", factor=0.5, patience=1)
    freeze_masks(model)
    model.optimizer.learning_rate = 1e-12
    x, y = digits.x_train[:64], digits.y_train[:64]
    plateau.min_lr = 0
    model.fit(x, y, epochs=4, shuffle=False, verbose=0, callbacks=[plateau])
    assert float(model.optimizer.learning_rate) < 1e-12
    assert float(model.mask_optimizer.learning_rate) == pytest.approx(3e-3)


def test_the_best_epoch_is_kept_in_weight_files_and_by_early_stopping(digits, tmp_path):
    model, path = _network(), tmp_path / "best.weights.h5"
    model.compile("adam", LOSS, connection_cost=0.2)

    class Scores(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            self.weights = []

        def on_epoch_end(self, epoch, logs):
            self.weights.append(self.model.get_weights())
            logs["score"] = [0.0, 2.0, 1.0, 0.5][epoch]

    scores = Scores()
    best = {"monitor": "score", "mode": "max"}
    callbacks = [
        scores,
        MaskLogger(),
        keras.callbacks.ModelCheckpoint(
            path, save_best_only=True, save_weights_only=True, **best
        ),
        keras.callbacks.EarlyStopping(patience=2, restore_best_weights=True, **best),
        keras.callbacks.TensorBoard(tmp_path / "board", update_freq=1),
    ]
    x, y = digits.x_train[:64], digits.y_train[:64]
    model.fit(x, y, epochs=4, verbose=0, callbacks=callbacks)
    other = _network()
    other.load_weights(path)
    for a, b, c in zip(
        scores.weights[1], model.get_weights(), other.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(a, c)
    assert not np.array_equal(scores.weights[1][0], scores.weights[3][0])
    tags = set()
    for file in (tmp_path / "board").rglob("events*"):
        for event in tf.compat.v1.train.summary_iterator(str(file)):
            tags |= {value.tag for value in event.summary.value}
    assert {"batch_sparsity", "epoch_sparsity", "epoch_connection_loss"} <= tags


def test_an_absurd_cost_leaves_one_connection_a_layer(digits):
    model = _network()
    model.compile("adam", LOSS, connection_cost=1e6)
    model.fit(digits.x_train[:64], digits.y_train[:64], epochs=2, verbose=0)
    assert [int(mask.count()) for mask in find_masks(model)] == [1, 1]


@pytest.mark.parametrize("suffix", [".keras", ".weights.h5"])
def test_random_layers_go_on_where_they_were(suffix, digits, tmp_path):
    def make():
        keras.utils.set_random_seed(3)
        inputs = keras.Input((8, 8, 1))
        noise = keras.layers.GaussianNoise(0.1)(keras.layers.Flatten()(inputs))
        inner_inputs = keras.Input((64,))
        inner = keras.layers.Dropout(0.5)(MaskedDense(16)(inner_inputs))
        outputs = MaskedDense(10)(keras.Model(inner_inputs, inner)(noise))
        model = SCLModel(inputs, outputs)
        model.compile("adam", LOSS, connection_cost=0.1)
        return model

    def fit(model):
        x, y = digits.x_train[:64], digits.y_train[:64]
        return model.fit(x, y, shuffle=False, verbose=0)

    model, path = make(), tmp_path / f"model{suffix}"
    fit(model)
    if suffix == ".keras":
        model.save(path)
        loaded = keras.models.load_model(path)
    else:
        model.save_weights(path)
        loaded = make()
        loaded.optimizer.build(loaded.trainable_variables)
        loaded.load_weights(path)
    fit(model)
    fit(loaded)
    for a, b in zip(model.variables, loaded.variables, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_bad_batch_does_not_spoil_batch_normalization(bad, jit_compile, digits):
    inputs = keras.Input((8, 8, 1))
    x = MaskedConv2D(4, 3)(inputs)
    x = keras.layers.BatchNormalization(momentum=0.5)(x)
    model = SCLModel(inputs, MaskedDense(10)(keras.layers.Flatten()(x)))
    model.compile("adam", LOSS, jit_compile=jit_compile, connection_cost=0.1)
    x, y = digits.x_train[:32], digits.y_train[:32]
    model.train_on_batch(x, y)
    before = model.get_weights()
    broken = x.copy()
    broken[3, 2, 2] = bad
    model.train_on_batch(broken, y)
    overflowing = np.full(len(x), 3e38)  # of outputs and statistics that are finite
    model.train_on_batch(x[::-1] / 2, y, sample_weight=overflowing)
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert int(model.scl_optimizer.skipped_updates.numpy()) == 2
    model.train_on_batch(x, y)
    assert np.isfinite(model.predict(x, verbose=0)).all()
    normalization = model.layers[2]
    assert not np.array_equal(before[3], normalization.get_weights()[0])


def test_class_weights_weigh_the_masks_gradients_too(digits):
    x, y = digits.x_train[:64], digits.y_train[:64]

    def trained(**arguments):
        keras.utils.set_random_seed(0)
        model = _network()
        model.compile("sgd", LOSS, normalization=None, connection_cost=0.1)
        model.fit(x, y, shuffle=False, batch_size=64, verbose=0, **arguments)
        return model.get_weights()

    weights = {label: 0.5 + 0.1 * label for label in range(10)}
    by_class = trained(class_weight=weights)
    by_sample = trained(sample_weight=np.array([weights[int(label)] for label in y]))
    for a, b, c in zip(by_class, by_sample, trained(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)
        assert not np.array_equal(a, c)


def test_frozen_masks_learn_again_once_they_are_unfrozen(digits):
    model = _network()
    model.compile("adam", LOSS, connection_cost=0.1)
    x, y = digits.x_train[:64], digits.y_train[:64]

    def masks():
        return [mask.variable.numpy() for mask in find_masks(model)]

    model.fit(x, y, verbose=0, callbacks=[FreezeMasks(0)])
    frozen = masks()
    model.fit(x, y, verbose=0)
    for a, b in zip(frozen, masks(), strict=True):
        np.testing.assert_array_equal(a, b)
    thaw_masks(model)
    model.fit(x, y, verbose=0)
    for a, b in zip(frozen, masks(), strict=True):
        assert not np.array_equal(a, b)


def test_a_model_compiled_without_an_optimizer_is_evaluated(tmp_path):
    """For `evaluate` alone: masks then have nothing that moves them."""
    stack = [keras.Input((4,)), keras.layers.Dense(3)]
    model = sparsify(keras.Sequential(stack), verbose=0)
    model.compile(None, "mse")
    x, y = np.ones((8, 4)), np.ones((8, 3))
    loss = model.evaluate(x, y, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.evaluate(x, y, verbose=0) == pytest.approx(loss)
    with pytest.raises(AttributeError, match="has no optimizer"):
        model.fit(x, y, verbose=0)
    with pytest.raises(ValueError, match="Received: optimizer=None, connection_cost"):
        model.compile(None, "mse", connection_cost=0.1)
