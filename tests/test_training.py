import keras
import numpy as np
import pytest
import tensorflow as tf

from scl_keras import (
    GradientNormalization,
    MaskedConv2D,
    MaskedDense,
    SCLModel,
    SCLOptimizer,
    SCLSequential,
    find_masks,
    sparsify,
)

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


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
    model.compile("adam", LOSS, metrics=["accuracy"])
    history = model.fit(digits.x_train, digits.y_train, epochs=2, verbose=0).history
    keys = {"loss", "accuracy", "connection_loss", "density", "sparsity", "compression"}
    assert set(history) == keys
    kept = sum(int(mask.count()) for mask in find_masks(model))
    size = sum(mask.size for mask in find_masks(model))
    assert history["density"][-1] == pytest.approx(kept / size)
    assert history["compression"][-1] == pytest.approx(size / kept)
    assert history["connection_loss"][-1] == pytest.approx(0.1 * kept, rel=1e-5)
    assert len(model.evaluate(digits.x_test, digits.y_test, verbose=0)) == 2


@pytest.mark.parametrize("ste", ["identity", "leaky_relu", "softplus"])
@pytest.mark.parametrize("cost", ["connections", "flops"])
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
    prices = [36 / mean, 1 / mean] if cost == "flops" else [1, 1]
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
        statistics = [o + share * (m - o) for o, m in zip(old, means, strict=True)]
        for i, (g, m) in enumerate(zip(gradients, statistics, strict=True)):
            values[i] = np.clip(values[i] - 1e-3 * (g / np.sqrt(m) + 0.2), -1, 1)
        optimizer.apply([tf.constant(g) for g in gradients], variables)
        for variable, value in zip(variables, values, strict=True):
            np.testing.assert_allclose(variable, value, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("per", ["network", "layer", "feature", None])
def test_zero_gradients_and_dead_features_never_make_a_nan(per):
    inputs = keras.Input((4,))
    model = SCLModel(inputs, MaskedDense(2)(MaskedDense(3, activation="relu")(inputs)))
    model.compile("sgd", "mse", normalization=per)
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
    model.compile("sgd", "mse", mask_optimizer=keras.optimizers.SGD(0.05))
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
        model.compile(keras.optimizers.Adam(1e-3), LOSS, **mode)
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
    model.compile("adam", LOSS, metrics=["accuracy"])
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
        model.compile(weights, LOSS, cost="connections")
        model.fit(x, y, batch_size=batch, epochs=3, shuffle=False, verbose=0)
        results.append(model.get_weights())
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_a_custom_loop_with_the_optimizer_is_what_fit_does(digits):
    x, y = digits.x_train[:64], digits.y_train[:64]
    fitted, looped = _network(), _network()
    looped.set_weights(fitted.get_weights())
    fitted.compile(keras.optimizers.SGD(0.1), LOSS)
    fitted.train_on_batch(x, y)
    optimizer = SCLOptimizer(keras.optimizers.SGD(0.1))
    with tf.GradientTape() as tape:
        loss = LOSS(y, looped(x, training=True)) + sum(looped.losses)
    variables = looped.trainable_variables
    optimizer.apply(tape.gradient(loss, [v.value for v in variables]), variables)
    for a, b in zip(fitted.get_weights(), looped.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_keras_callbacks_keep_working(digits, tmp_path):
    model = _network()
    model.compile("adam", LOSS, metrics=["accuracy"])
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
    assert "compression" in (tmp_path / "log.csv").read_text()
    assert list((tmp_path / "board").rglob("events*"))
    best = keras.models.load_model(tmp_path / "best.keras")
    assert isinstance(best, SCLModel)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"cost": "bytes"}, "Received: cost='bytes'"),
        ({"connection_cost": -1}, "Received: connection_cost=-1"),
        ({"connection_cost": float("nan")}, "Received: connection_cost=nan"),
        ({"normalization": "batch"}, "Received: 'batch'"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        _network().compile("adam", LOSS, **arguments)


def test_an_uncompiled_model_says_so():
    with pytest.raises(ValueError, match="no optimizer yet"):
        _ = _network().scl_optimizer
