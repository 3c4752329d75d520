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
    freeze_masks,
    thaw_masks,
)

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
SGD, Adam = keras.optimizers.SGD, keras.optimizers.Adam


def _model(ste="identity", **kwargs):
    keras.utils.set_random_seed(7)
    inputs = keras.Input((8,))
    hidden = MaskedDense(6, activation="tanh", ste=ste, mask_initializer=0.01)(inputs)
    outputs = MaskedDense(4, ste=ste, mask_initializer=0.01)(hidden)
    return SCLModel(inputs, outputs, **kwargs)


def _data(count=64):
    rng = np.random.default_rng(0)
    return rng.normal(size=(count, 8)).astype("float32"), rng.integers(0, 4, count)


def _trained(optimizer, *, batch_size=64, epochs=3, **compile_arguments):
    model = _model()
    model.compile(optimizer, LOSS, **{"connection_cost": 0.1, **compile_arguments})
    x, y = _data()
    model.fit(x, y, batch_size=batch_size, epochs=epochs, shuffle=False, verbose=0)
    return model


def _masks(model):
    return [mask.variable.numpy() for mask in find_masks(model)]


def _weights(model):
    variables = model.trainable_variables
    return [v.numpy() for v in variables if not hasattr(v, "connection_mask")]


def _assert_close(some, others, **tolerances):
    for a, b in zip(some, others, strict=True):
        np.testing.assert_allclose(a, b, **tolerances)


def _gradients(model, x, y, scale=lambda loss: loss):
    with tf.GradientTape() as tape:
        loss = scale(LOSS(y, model(x, training=True)))
    return tape.gradient(loss, model.trainable_variables)


@pytest.mark.parametrize("ste", ["identity", "leaky_relu", "softplus"])
def test_a_custom_loop_follows_the_gradient_of_the_whole_objective(ste):
    model, (x, y), price = _model(ste), _data(), 2e-3
    twin = _model(ste)
    optimizer = SCLOptimizer(SGD(0.5), SGD(0.2), price, normalization=None)
    for _ in range(6):
        variables = model.trainable_variables
        optimizer.apply_gradients(zip(_gradients(model, x, y), variables, strict=True))
        variables = twin.trainable_variables
        with tf.GradientTape() as tape:
            objective = LOSS(y, twin(x, training=True))
            for mask in find_masks(twin):
                objective += price * tf.reduce_sum(mask.kept())
        gradients = tape.gradient(objective, variables)
        for variable, gradient in zip(variables, gradients, strict=True):
            is_mask = hasattr(variable, "connection_mask")
            value = variable.numpy() - (0.2 if is_mask else 0.5) * gradient.numpy()
            variable.assign(np.clip(value, -1, 1) if is_mask else value)
    assert 0 < sum(int(m.count()) for m in find_masks(twin)) < 72
    _assert_close(model.get_weights(), twin.get_weights(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("per", ["network", "layer", "feature", None])
def test_accumulated_gradients_are_one_big_batch(per):
    arguments = {"connection_cost": 0.01, "normalization": per}
    big = _trained(SGD(0.2), **arguments)
    small = _trained(
        SGD(0.2, gradient_accumulation_steps=4), batch_size=16, **arguments
    )
    _assert_close(big.get_weights(), small.get_weights(), rtol=1e-4, atol=1e-6)
    assert int(small.mask_optimizer.iterations) == 3


def test_masks_wait_until_a_batch_is_accumulated():
    model, (x, y) = _model(), _data()
    model.compile(SGD(0.2, gradient_accumulation_steps=3), LOSS, connection_cost=0.1)
    before, moved = _masks(model), []
    for _ in range(6):
        model.train_on_batch(x, y)
        after = _masks(model)
        moved.append(not np.array_equal(before[0], after[0]))
        before = after
    assert moved == [False, False, True] * 2


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_loss_scaling_changes_nothing(optimizer):
    def make(**kwargs):
        return {"sgd": SGD, "adam": Adam}[optimizer](0.1, **kwargs)

    plain = _trained(make(), normalization=None)
    scaled = _trained(make(loss_scale_factor=256.0), normalization=None)
    wrapped = _trained(keras.optimizers.LossScaleOptimizer(make()), normalization=None)
    whole = SCLOptimizer(make(), normalization=None, connection_cost=0.1)
    outside = _trained(keras.optimizers.LossScaleOptimizer(whole))
    for other in (scaled, wrapped, outside):
        _assert_close(plain.get_weights(), other.get_weights(), rtol=1e-4, atol=1e-6)
    assert outside.scl_optimizer is whole


def test_a_step_with_infinite_gradients_is_skipped_for_masks_too():
    model, (x, y) = _model(), _data()
    model.compile(
        keras.optimizers.LossScaleOptimizer(SGD(0.1)), LOSS, connection_cost=0.1
    )
    model.train_on_batch(x, y)
    before = model.get_weights()
    model.train_on_batch(np.full_like(x, np.nan), y)
    _assert_close(before, model.get_weights(), rtol=0)
    model.train_on_batch(x, y)
    assert not np.array_equal(before[0], model.get_weights()[0])
    assert all(np.isfinite(w).all() for w in model.get_weights())


@pytest.fixture
def mixed_float16():
    keras.config.set_dtype_policy("mixed_float16")
    yield
    keras.config.set_dtype_policy("float32")


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("bad", ["target", "input"])
@pytest.mark.usefixtures("mixed_float16")
def test_what_loss_scaling_keeps_back_is_counted_and_moves_nothing(bad, jit_compile):
    inputs = keras.Input((8,))
    x = keras.layers.BatchNormalization(momentum=0.5)(MaskedDense(16)(inputs))
    model = SCLModel(inputs, MaskedDense(1, dtype="float32")(x))
    model.compile(Adam(), "mse", jit_compile=jit_compile, connection_cost=0.1)
    x, _ = _data()
    y = x[:, :1]
    model.fit(x, y, verbose=0)
    variables = model.weights + model.optimizer.variables
    before = [v.numpy() for v in variables]
    if bad == "target":
        model.fit(x, y * 1e6, verbose=0)
    else:
        model.fit(np.where(np.arange(64)[:, None] == 40, np.nan, x), y, verbose=0)
    pairs = zip(variables, before, strict=True)
    changed = {v.name for v, old in pairs if not np.array_equal(v.numpy(), old)}
    scaling = {"step_counter", "dynamic_scale"}
    if bad == "target":
        assert changed == {"skipped_updates", *scaling}
        assert int(model.scl_optimizer.skipped_updates) == 2
        assert float(model.optimizer.dynamic_scale) == 2.0**15 / 4
    else:  # the first of both batches is a good one
        assert int(model.scl_optimizer.skipped_updates) == 1
        assert float(model.optimizer.dynamic_scale) == 2.0**15 / 2
    assert all(np.isfinite(w).all() for w in model.get_weights())


@pytest.mark.parametrize(("first", "last"), [(2.0**-148, 0), (np.inf, np.inf)])
def test_skipped_batches_are_counted_where_the_loss_scale_falls_no_more(first, last):
    model, (x, y) = _model(), _data()
    scaled = keras.optimizers.LossScaleOptimizer(SGD(0.1), initial_scale=first)
    model.compile(scaled, LOSS, connection_cost=0.1)
    for number in range(1, 5):
        model.train_on_batch(np.full_like(x, np.nan), y)
        assert int(model.scl_optimizer.skipped_updates) == number
    assert float(model.optimizer.dynamic_scale) == last


def test_a_sum_of_finite_gradients_that_overflows_in_float16_is_no_bad_batch():
    model = SCLSequential(
        [keras.Input((300,)), MaskedDense(300, dtype="float16", use_bias=False)]
    )
    model.compile(SGD(1e-6), lambda y, p: keras.ops.sum(p, -1), connection_cost=0.1)
    x = np.full((4, 300), 4, "float32")
    model.fit(x, x, verbose=0)
    assert int(model.scl_optimizer.skipped_updates) == 0


def test_a_loss_scaling_optimizer_does_not_belong_inside():
    with pytest.raises(ValueError, match="masks' gradients"):
        SCLOptimizer(keras.optimizers.LossScaleOptimizer(SGD()), connection_cost=0.1)


@pytest.mark.parametrize("clip", ["clipnorm", "global_clipnorm", "clipvalue"])
def test_clipping_the_weights_gradients_leaves_those_of_masks_alone(clip):
    free = _trained(SGD(0.1), epochs=1, normalization=None)
    clipped = _trained(SGD(0.1, **{clip: 1e-6}), epochs=1, normalization=None)
    _assert_close(_masks(free), _masks(clipped), rtol=0)
    _assert_close(_weights(clipped), _weights(_model()), atol=1e-6)
    assert not np.allclose(_weights(free)[0], _weights(clipped)[0], atol=1e-4)


def test_averaged_weights_are_put_in_place_and_masks_are_not_averaged():
    plain = _model()
    plain.compile(SGD(0.3), LOSS, connection_cost=0.1)
    (x, y), path = _data(), []
    for _ in range(4):
        plain.train_on_batch(x, y)
        path.append(_weights(plain))
    averaged = path[0]
    for values in path[1:]:
        averaged = [0.5 * a + 0.5 * v for a, v in zip(averaged, values, strict=True)]
    model = _trained(SGD(0.3, use_ema=True, ema_momentum=0.5), epochs=4)
    _assert_close(_masks(model), _masks(plain), rtol=1e-5, atol=1e-7)
    got = _weights(model)
    _assert_close(got, averaged, atol=1e-5)
    assert not np.allclose(got[0], path[-1][0], atol=1e-4)


@pytest.mark.parametrize("mask_optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("jit_compile", [False, True])
def test_frozen_masks_are_bit_identical_while_weights_move(mask_optimizer, jit_compile):
    model, (x, y) = _model(), _data()
    model.compile(
        "adam",
        LOSS,
        mask_optimizer=mask_optimizer,
        jit_compile=jit_compile,
        connection_cost=0.1,
    )
    model.fit(x, y, epochs=2, verbose=0)
    freeze_masks(model)
    masks, weights = _masks(model), _weights(model)
    model.fit(x, y, epochs=2, verbose=0)
    _assert_close(masks, _masks(model), rtol=0)
    assert not np.array_equal(weights[0], _weights(model)[0])
    thaw_masks(model)
    model.fit(x, y, epochs=1, verbose=0)
    assert not np.array_equal(masks[0], _masks(model)[0])


def test_the_learning_rate_is_that_of_the_weights_alone():
    optimizer = SCLOptimizer(SGD(0.5), SGD(0.25), connection_cost=0.1)
    optimizer.learning_rate = 0.125
    assert float(optimizer.optimizer.learning_rate) == 0.125
    assert float(optimizer.learning_rate) == 0.125
    assert float(optimizer.mask_optimizer.learning_rate) == 0.25


def test_both_optimizers_may_have_a_schedule_of_their_own():
    fall = keras.optimizers.schedules.PiecewiseConstantDecay([1], [0.1, 0.0])
    model, (x, y) = _model(), _data()
    model.compile(SGD(0.1), LOSS, mask_optimizer=SGD(fall), connection_cost=0.1)
    for _ in range(2):
        model.train_on_batch(x, y)
    masks, weights = _masks(model), _weights(model)
    model.train_on_batch(x, y)
    _assert_close(masks, _masks(model), rtol=0)
    assert not np.array_equal(weights[0], _weights(model)[0])


def test_the_price_in_flops_is_the_share_of_multiply_accumulates():
    inputs = keras.Input((6, 6, 2))
    conv = MaskedConv2D(3, 3, strides=2, padding="same")
    twice = MaskedConv2D(3, 1)
    x = twice(twice(conv(inputs)))  # 3 x 3 positions, the second layer two times
    dense = MaskedDense(5)
    model = SCLModel(inputs, dense(keras.layers.Flatten()(x)))
    model.compile("sgd", "mse", cost="macs", connection_cost=1.0)
    model.optimizer.build(model.trainable_variables)
    macs = np.array([9 * 54, 2 * 9 * 9, 135])
    sizes = np.array([54, 9, 135])
    prices = macs / sizes * sizes.sum() / macs.sum()
    total = float(model.optimizer.connection_loss())
    assert total == pytest.approx(float((prices * sizes).sum()), rel=1e-6)
    assert total == pytest.approx(sizes.sum(), rel=1e-6)
    for layer, price, size in zip((conv, twice, dense), prices, sizes, strict=True):
        layer.kernel_mask.assign(np.zeros(layer.kernel.shape))
        lost = total - float(model.optimizer.connection_loss())
        assert lost == pytest.approx(price * size, rel=1e-5)
        layer.kernel_mask.assign(np.ones(layer.kernel.shape))


def test_flops_need_a_built_model_of_known_sizes():
    unbuilt = SCLSequential([MaskedDense(2)])
    unbuilt.compile("sgd", "mse", cost="macs")
    with pytest.raises(ValueError, match="built before `compile`"):
        unbuilt.fit(np.ones((4, 3)), np.ones((4, 2)), verbose=0)
    inputs = keras.Input((None, None, 1))
    pooled = keras.layers.GlobalAveragePooling2D()(MaskedConv2D(2, 3)(inputs))
    unknown = SCLModel(inputs, pooled)
    unknown.compile("sgd", "mse", cost="macs")
    with pytest.raises(ValueError, match=r"unknown sizes for: .*conv"):
        unknown.fit(np.ones((4, 8, 8, 1)), np.ones((4, 2)), verbose=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"cost": "bytes"}, "cost='bytes'"),
        ({"connection_cost": -0.1}, "connection_cost=-0.1"),
        ({"connection_cost": float("nan")}, "connection_cost=nan"),
        ({"normalization": "channel"}, "'channel'"),
        ({"optimizer": "no_such_thing"}, "no_such_thing"),
        ({"mask_optimizer": "no_such_thing"}, "no_such_thing"),
    ],
)
def test_bad_arguments_are_refused_and_repeated(arguments, message):
    with pytest.raises(ValueError, match=message):
        SCLOptimizer(**arguments)


@pytest.mark.parametrize("cost", [np.inf, np.nan])
def test_a_cost_that_is_no_number_destroys_no_mask(cost):
    model, (x, y) = _model(), _data()
    model.compile(Adam(0.1), LOSS, connection_cost=0.1)
    model.train_on_batch(x, y)
    before = model.get_weights()
    model.connection_cost.assign(cost)
    model.train_on_batch(x, y)
    _assert_close(before, model.get_weights(), rtol=0)
    assert int(model.scl_optimizer.skipped_updates) == 1
    model.connection_cost.assign(0.1)
    model.train_on_batch(x, y)
    for old, new in zip(before, model.get_weights(), strict=True):
        assert np.isfinite(new).all()
        assert not np.array_equal(old, new)


def test_one_optimizer_cannot_do_both():
    both = SGD()
    with pytest.raises(ValueError, match="two objects"):
        SCLOptimizer(both, both, connection_cost=0.1)


def test_it_survives_serialization_with_its_current_cost():
    before = SCLOptimizer(
        Adam(0.5),
        SGD(0.25, momentum=0.5),
        0.5,
        "macs",
        GradientNormalization("layer"),
    )
    before.connection_cost.assign(0.75)
    config = keras.saving.serialize_keras_object(before)
    after = keras.saving.deserialize_keras_object(config)
    assert keras.saving.serialize_keras_object(after) == config
    assert float(after.connection_cost) == 0.75
    assert after.mask_optimizer.momentum == 0.5
    assert after.normalization.per == "layer"


def test_weights_alone_are_taken_from_a_file_as_by_a_stock_optimizer(tmp_path):
    trained = _trained("adam")
    trained.save_weights(tmp_path / "it.weights.h5")
    fresh = _model()
    fresh.compile("adam", LOSS, connection_cost=0.1)
    with pytest.warns(UserWarning, match="Skipping variable loading"):
        fresh.load_weights(tmp_path / "it.weights.h5")
    _assert_close(trained.get_weights(), fresh.get_weights(), rtol=0)
    uncompiled = _model()
    uncompiled.load_weights(tmp_path / "it.weights.h5")
    _assert_close(trained.get_weights(), uncompiled.get_weights(), rtol=0)


def test_a_built_optimizer_takes_all_its_state_from_a_weights_file(tmp_path):
    trained = _trained("adam", mask_optimizer=SGD(3e-3, momentum=0.9))
    trained.connection_cost.assign(0.7)
    freeze_masks(trained)
    trained.save_weights(tmp_path / "it.weights.h5")
    fresh = _model()
    fresh.compile(
        "adam", LOSS, mask_optimizer=SGD(3e-3, momentum=0.9), connection_cost=0.1
    )
    fresh.optimizer.build(fresh.trainable_variables)
    fresh.load_weights(tmp_path / "it.weights.h5")
    assert len(trained.optimizer.variables) == 25
    for a, b in zip(
        trained.optimizer.variables, fresh.optimizer.variables, strict=True
    ):
        np.testing.assert_array_equal(a.numpy(), b.numpy())


@pytest.mark.parametrize(
    ("normalization", "bad", "jit_compile"),
    [
        ("network", np.nan, False),
        ("network", np.inf, True),
        ("feature", np.nan, False),
        (None, np.inf, False),
    ],
)
def test_one_bad_batch_changes_nothing_and_is_counted(normalization, bad, jit_compile):
    model, (x, y) = _model(), _data()
    model.compile(
        Adam(0.1),
        LOSS,
        normalization=normalization,
        jit_compile=jit_compile,
        connection_cost=0.1,
    )
    model.train_on_batch(x, y)
    variables = model.variables + model.optimizer.variables
    before = [v.numpy() for v in variables]
    model.train_on_batch(np.where(np.arange(len(x))[:, None] == 1, bad, x), y)
    pairs = zip(variables, before, strict=True)
    changed = [v.name for v, old in pairs if not np.array_equal(v.numpy(), old)]
    assert changed == ["skipped_updates"]
    logs = model.train_on_batch(x, y, return_dict=True)
    assert int(logs["skipped_updates"]) == 1
    assert not np.array_equal(before[0], model.variables[0].numpy())
    assert all(np.isfinite(w).all() for w in model.get_weights())


@pytest.mark.parametrize("normalization", ["network", "feature", None])
def test_gradients_whose_squares_overflow_do_not_stop_the_masks_for_good(normalization):
    model, (x, y) = _model(), _data()
    model.compile(SGD(1e-3), "mse", normalization=normalization, connection_cost=0.1)
    targets = np.eye(4, dtype="float32")[y]
    model.train_on_batch(x, targets)
    before, masks = model.get_weights(), _masks(model)
    model.train_on_batch(x, 1e25 * targets)
    _assert_close(before, model.get_weights(), rtol=0)
    assert int(model.scl_optimizer.skipped_updates.numpy()) == 1
    model.train_on_batch(x, targets)
    for old, new in zip(masks, _masks(model), strict=True):
        assert not np.array_equal(old, new)
