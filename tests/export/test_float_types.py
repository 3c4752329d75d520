"""Models of other float types than float32."""

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from export_models import put_zeros, samples
from keras import layers

from scl_keras import ExportError, check_target, export_tflite, find_masks, sparsify
from scl_keras.export.samples import read_samples

POLICIES = ["mixed_float16", "mixed_bfloat16", "float16", "bfloat16", "float64"]


@pytest.fixture(autouse=True)
def defaults():
    yield
    set_defaults("float32")


def set_defaults(policy, floatx="float32"):
    keras.config.set_floatx(floatx)
    keras.config.set_dtype_policy(policy)


def network():
    """Of layers that compute in their own way in lower precision."""
    inner = keras.Sequential([keras.Input((6,)), layers.Dense(8, "relu")], name="inner")
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(6, 3, use_bias=False)(inputs)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    x = layers.GlobalAveragePooling2D()(layers.LayerNormalization()(x))
    model = keras.Model(inputs, layers.Dense(3)(keras.ops.tanh(inner(x))))
    put_zeros(model, 0.5)
    for w in model.weights:
        if "variance" in w.path:
            w.assign(np.ones(w.shape))
    return model


def answer(path, x):
    run = Interpreter(str(path)).get_signature_runner()
    [output] = run(**dict.fromkeys(run.get_input_details(), x)).values()
    return output


def state(model):
    policies = [x.dtype_policy.name for x in model.layers]
    defaults = keras.config.floatx(), keras.config.dtype_policy().name
    return policies, [w.dtype for w in model.weights], defaults


def check(model, path, rounding):
    x, before = samples(8, 8, 3), state(model)
    report = export_tflite(model, path, samples=x, latency_seconds=0)
    assert state(model) == before
    expected = keras.ops.convert_to_numpy(model(x)).astype("float64")
    found = answer(path, x[:1])
    assert found.dtype == "float32"
    scale = 32 * rounding * np.abs(expected).max()
    np.testing.assert_allclose(found, expected[:1], atol=scale)
    # All of the rounding is the model's own.
    assert max(d.relative for d in report.differences) < 1e-5
    return report


ROUNDINGS = {"float16": 2**-11, "bfloat16": 2**-8, "float64": 2**-20}


@pytest.mark.slow
@pytest.mark.parametrize("policy", POLICIES)
def test_a_policy(policy, tmp_path):
    set_defaults(policy)
    name = policy.removeprefix("mixed_")
    report = check(network(), tmp_path / "a.tflite", ROUNDINGS[name])
    assert f"The Keras model computes in {name}" in report.notes[0]


@pytest.mark.slow
@pytest.mark.parametrize("floatx", ["float16", "bfloat16", "float64"])
def test_a_default_type_with_masks(floatx, tmp_path, rng):
    set_defaults(floatx, floatx)
    model = sparsify(network())
    for mask in find_masks(model):
        mask.assign(rng.random(mask.variable.shape) < 0.4)
    check(model, tmp_path / "a.tflite", ROUNDINGS[floatx])


@pytest.mark.parametrize("floatx", ["float16", "bfloat16", "float64"])
def test_a_file_of_so_many_bytes_by_default_types(floatx):
    set_defaults(floatx, floatx)
    table = check_target(network(), "size", max_bytes=4_000)
    assert all(row.gains for row in table.rows)


def test_samples_of_bfloat16():
    model = keras.Sequential([keras.Input((5,)), layers.Dense(2)])
    x = samples(5)
    rounded = x.astype(keras.ops.convert_to_numpy(keras.ops.ones(1, "bfloat16")).dtype)
    for given in (rounded, [rounded], list(rounded)):
        found = read_samples(model, given).arrays[0]
        assert found.dtype == "float32"
        np.testing.assert_array_equal(found, rounded.astype("float32"))


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.hidden, self.end = layers.Dense(8, "relu"), layers.Dense(3)

    def call(self, x):
        return self.end(self.hidden(x))


def subclassed(policy):
    set_defaults(policy)
    model = Subclassed()
    model(np.zeros((1, 5), "float32"))
    return model


@pytest.mark.slow
def test_a_subclassed_model_of_mixed_precision(tmp_path):
    model, x = subclassed("mixed_bfloat16"), samples(5)
    before = state(model)
    export_tflite(model, tmp_path / "a.tflite", samples=x, latency_seconds=0)
    assert state(model) == before
    expected = np.maximum(x[:1] @ model.hidden.kernel.numpy(), 0)
    expected = expected @ model.end.kernel.numpy()
    np.testing.assert_allclose(answer(tmp_path / "a.tflite", x[:1]), expected, 1e-4)


def test_what_can_not_be_rebuilt_says_what_to_do(tmp_path):
    model = subclassed("float64")
    with pytest.raises(ExportError, match="new.set_weights.*Received: it has a `call`"):
        export_tflite(model, tmp_path / "a.tflite", samples=samples(5))
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_more_than_rounding_is_refused(tmp_path):
    set_defaults("mixed_float16")
    model = keras.Sequential([keras.Input((4,)), layers.Dense(64), layers.Dense(2)])
    first, last = model.layers
    first.kernel.assign(np.full((4, 64), 100.0))
    first.bias.assign(np.tile([4000.0, -4000.0], 32))
    last.kernel.assign(np.full((64, 2), 1.0))
    x = np.full((3, 4), 0.011, "float32")  # sums of 4, out of terms of 4000
    with pytest.raises(ExportError, match="computes something else.*Received: a diff"):
        export_tflite(model, tmp_path / "a.tflite", samples=x)
    report = export_tflite(
        model, tmp_path / "a.tflite", samples=x, tolerance=2.0, latency_seconds=0
    )
    assert "differ by" in report.notes[0]
