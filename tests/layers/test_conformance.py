"""Every masked layer is a full citizen of Keras."""

import zipfile
from functools import partial

import keras
import numpy as np
import pytest
from backend_modes import (
    DIFFERENCE,
    MODES,
    TOLERANCE,
    assert_same_gradients,
    run,
    skip_what_stock_layers_cannot,
)
from cases import CASES, plain_weights, random_masks
from keras import ops

import scl_keras.layers
from scl_keras import (
    MaskedLayer,
    backend,
    find_masks,
    sparsify,
    strip_masks,
    summary,
)
from scl_keras.graph.kernels import prunable_kernels

every_layer = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def kernels(layer):
    """Pairs of a kernel's variable and its mask, at any depth."""
    return [(getattr(k.layer, k.name), k.mask) for k in prunable_kernels(layer)]


def array(x):
    return ops.convert_to_numpy(x)


def step(case, layer, x, mode):
    """Outputs, loss, and gradients of the plain weights, then those of masks."""
    variables = plain_weights(layer) + [mask.variable for mask in find_masks(layer)]

    def gradients(x):
        outputs = []

        def loss():
            outputs[:] = [case.call(layer, x)]
            task = ops.sum(ops.sin(ops.cast(outputs[0], "float32")))
            return task + sum(layer.losses)

        value, pull_back = backend.variables_vjp(loss, variables)
        return value, *pull_back(ops.ones_like(value))

    found = [case.call(layer, x), *run(gradients, x, mode)]
    return [array(value) for value in found]


def test_there_is_a_case_of_every_masked_layer():
    public = {name for name in scl_keras.layers.__all__ if name.startswith("Masked")}
    declarations = {"MaskedKernel", "MaskedBias", "MaskedLayer"}
    # They have no masks of their own: see tests/layers/test_channels.py.
    followers = {"MaskedBatchNormalization", "MaskedReLU", "MaskedActivation"}
    classes = public - declarations - followers
    assert {f"Masked{case.name}" for case in CASES} >= classes
    for name in classes:
        cls = getattr(scl_keras.layers, name)
        assert issubclass(cls, MaskedLayer)
        assert keras.saving.get_registered_name(cls) == f"scl_keras>{name}"
        assert cls.stock_class.__module__.startswith("keras.")


@every_layer
def test_configs_make_the_same_layer_again(case):
    layer = case.masked(mask_initializer="ones", ste="softplus")
    case.call(layer, case.symbolic())
    again = keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object(layer)
    )
    copy = type(layer).from_config(layer.get_config())
    case.call(copy, case.symbolic())
    for other in (again, copy):
        assert other.get_config() == layer.get_config()
        assert len(other.weights) == len(layer.weights)
        for mask in find_masks(other):
            assert type(mask.ste).__name__ == "Softplus"
            assert np.all(mask.variable.numpy() == 1)


@every_layer
def test_shapes_and_weights_are_those_of_the_stock_layer(case, rng):
    masked, stock = case.twins()
    shapes = [case.shape] * (2 if case.self_attention else 1)
    for layer in (masked, stock):
        fresh = (case.masked if layer is masked else case.stock)()
        fresh.build(*shapes)
        assert fresh.built
        assert [w.shape for w in fresh.weights] == [w.shape for w in layer.weights]
    expected = case.call(stock, case.inputs(rng)).shape
    assert case.call(masked, case.inputs(rng)).shape == expected
    shape = stock.compute_output_shape(*shapes)
    assert masked.compute_output_shape(*shapes) == shape
    symbolic = case.call(masked, case.symbolic())
    assert symbolic.shape == case.call(stock, case.symbolic()).shape
    assert [w.shape for w in plain_weights(masked)] == [w.shape for w in stock.weights]
    assert len(kernels(masked)) == len(find_masks(masked)) == len(kernels(stock)) > 0
    for variable, mask in kernels(masked):
        assert any(variable is w for w in masked.trainable_weights)
        assert mask.variable.shape == variable.shape
        assert mask.variable.dtype == "float32"
    weights = masked.get_weights()
    masked.set_weights([w + 0.25 for w in weights])
    for now, before in zip(masked.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(now, before + 0.25)


@pytest.mark.parametrize("mode", MODES)
@every_layer
def test_with_all_masks_on_it_is_the_stock_layer_bit_for_bit(case, mode, rng):
    masked, stock = case.twins()
    x = case.inputs(rng)
    got, expected = step(case, masked, x, mode), step(case, stock, x, mode)
    assert len(got) == len(expected) + len(find_masks(masked))
    np.testing.assert_array_equal(got[0], expected[0])
    for value, other in zip(got, expected, strict=False):
        assert_same_gradients(value, other)
    outputs = [run(partial(case.call, y), x, mode) for y in (masked, stock)]
    np.testing.assert_array_equal(*map(array, outputs))


@every_layer
def test_gradients_agree_with_finite_differences(case, rng):
    """dL/dv = dL/dw · H(s) and dL/ds = dL/dw · v · p(s), dL/dw of the stock layer."""
    skip_what_stock_layers_cannot(case, "float64")
    with backend.double_precision():
        _compare_with_finite_differences(case, rng)


def _compare_with_finite_differences(case, rng):
    masked, stock = case.twins(dtype="float64")
    x = case.inputs(rng, "float64")
    random_masks(masked)
    pairs = list(zip(kernels(masked), kernels(stock), strict=True))
    for (v, mask), (w, _) in pairs:
        w.assign(v.numpy() * (mask.variable.numpy() > 0))
    outputs = [case.call(layer, x) for layer in (masked, stock)]
    np.testing.assert_array_equal(*map(array, outputs))

    def loss(layer):
        return ops.sum(ops.sin(case.call(layer, x)))

    variables = [t for (v, mask), _ in pairs for t in (v, mask.variable)]
    value, pull_back = backend.variables_vjp(lambda: loss(masked), variables)
    gradients = [array(g) for g in pull_back(ops.ones_like(value))]
    for i, ((v, mask), (w, _)) in enumerate(pairs):
        dv, ds = gradients[2 * i : 2 * i + 2]
        values, h = w.numpy(), DIFFERENCE
        for index in rng.choice(values.size, 4, replace=False):
            index = np.unravel_index(index, values.shape)
            sides = []
            for sign in (1, -1):
                moved = values.copy()
                moved[index] += sign * h
                w.assign(moved)
                sides.append(float(array(loss(stock))))
            w.assign(values)
            dw = (sides[0] - sides[1]) / (2 * h)
            kept = mask.variable.numpy()[index] > 0
            np.testing.assert_allclose(dv[index], dw * kept, **TOLERANCE)
            expected = dw * v.numpy()[index]  # identity: p(s) = 1
            np.testing.assert_allclose(ds[index], expected, **TOLERANCE)


@every_layer
def test_files_and_clones_bring_masks_back(case, rng, tmp_path):
    model = case.model(case.masked(ste="leaky_relu"))
    random_masks(model)
    x = case.inputs(rng)
    expected = model(x)
    model.save(tmp_path / "m.keras")
    model.save_weights(tmp_path / "m.weights.h5")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    clone = keras.models.clone_model(model)
    assert [type(y) for y in clone.layers] == [type(y) for y in model.layers]
    assert len(find_masks(clone)) == len(find_masks(model)) > 0
    clone.load_weights(tmp_path / "m.weights.h5")
    for other in (loaded, clone):
        np.testing.assert_array_equal(array(other(x)), array(expected))
        for a, b in zip(other.weights, model.weights, strict=True):
            np.testing.assert_array_equal(a, b)
        assert all(type(m.ste).__name__ == "LeakyReLU" for m in find_masks(other))


@every_layer
def test_it_is_sparsified_trained_and_stripped(case, rng, tmp_path):
    stock = case.model(case.stock())
    sparse = sparsify(stock, copy=True)
    assert isinstance(sparse.layers[-1], MaskedLayer) or find_masks(sparse)
    x = case.inputs(rng)
    np.testing.assert_array_equal(array(sparse(x)), array(stock(x)))
    random_masks(sparse)
    sparse.compile("sgd", "mse", run_eagerly=True, connection_cost=0.1)
    before = [mask.variable.numpy() for mask in find_masks(sparse)]
    sparse.train_on_batch(array(x), np.zeros(sparse(x).shape, "float32"))
    for mask, old in zip(find_masks(sparse), before, strict=True):
        assert np.any(mask.variable.numpy() != old)
    expected = sparse(x)
    stripped = strip_masks(sparse, copy=True)
    assert [type(y) for y in stripped.layers] == [type(y) for y in stock.layers]
    stripped.save(tmp_path / "m.keras")
    with zipfile.ZipFile(tmp_path / "m.keras") as file:
        assert b"scl_keras" not in file.read("config.json")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    for other in (stripped, loaded):
        assert find_masks(other) == []
        np.testing.assert_array_equal(array(other(x)), array(expected))
    tables = [summary(net, None) for net in (sparse, stripped)]
    rows = [[(r.layer, r.kept, r.macs) for r in table.rows] for table in tables]
    assert [r[1:] for r in rows[0]] == [r[1:] for r in rows[1]]
    assert len({r[0] for r in rows[0]}) == len(rows[0]) == len(before)


@pytest.mark.parametrize(
    "policy",
    ["mixed_float16", pytest.param("mixed_bfloat16", marks=pytest.mark.slow)],
)
@every_layer
def test_in_mixed_precision_it_is_the_stock_layer_and_masks_are_float32(
    case, policy, rng
):
    skip_what_stock_layers_cannot(case, policy)
    masked, stock = case.twins(dtype=policy)
    x = case.inputs(rng)
    got, expected = (step(case, y, x, MODES[0]) for y in (masked, stock))
    assert got[0].dtype == expected[0].dtype != np.float32
    np.testing.assert_array_equal(got[0], expected[0])
    for value, other in zip(got, expected, strict=False):
        assert_same_gradients(value, other, mixed=True)
    for gradient, mask in zip(got[len(expected) :], find_masks(masked), strict=True):
        assert mask.variable.dtype == gradient.dtype == "float32"
        assert np.any(gradient != 0)


@every_layer
def test_the_summary_of_keras_counts_its_masks(case):
    model, lines = case.model(case.masked()), []
    model.summary(print_fn=lines.append, line_length=200)
    table = "".join(lines)
    assert model.layers[-1].name in table
    size = sum(mask.size for mask in find_masks(model))
    stock = case.model(case.stock()).count_params()
    assert model.count_params() == stock + size
    assert f"Total params: {stock + size} " in table


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ({"ste": "nope"}, "`ste` must be one of.*Received: ste='nope'"),
        ({"mask_initializer": "nope"}, "must be a finite.*Received: .*'nope'"),
        ({"mask_initializer": float("nan")}, "must be a finite.*Received: .*nan"),
        ({"mask_initializer": None}, "must be a finite.*Received: .*None"),
        ({"nonsense": 1}, "nonsense"),
    ],
)
@every_layer
def test_wrong_arguments_are_refused(case, argument, message):
    with pytest.raises((ValueError, TypeError), match=message):
        case.masked(**argument)
