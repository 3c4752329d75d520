import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from keras import ops

from scl_keras import STE, Identity, LeakyReLU, MaskedDense, Softplus
from scl_keras.masks import ste as step

PROXIES = {
    "identity": lambda s: np.ones_like(s),
    "leaky_relu": lambda s: np.where(s > 0, 1.0, 0.1),
    "softplus": lambda s: 1 / (1 + np.exp(-s.astype("float64"))),
}
FLOATS = st.floats(-1e6, 1e6, width=32, allow_subnormal=False)


@keras.saving.register_keras_serializable("test_step")
class Cauchy(STE):
    def __init__(self, width=1.0):
        self.width = width

    def derivative(self, s):
        return 1 / (1 + ops.square(s / self.width))

    def get_config(self):
        return {"width": self.width}


def function_ste(function):
    class Proxy(STE):
        def derivative(self, s):
            return function(s)

    return Proxy()


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "float64"])
def test_forward_is_exactly_zero_or_one(dtype):
    s = ops.cast([-np.inf, -2, -1e-6, -0.0, 0.0, 1e-6, 0.3, 2, np.inf], dtype)
    for name in PROXIES:
        kept = step.get(name)(s)
        assert keras.backend.standardize_dtype(kept.dtype) == dtype
        np.testing.assert_array_equal(
            ops.convert_to_numpy(ops.cast(kept, "float32")), [0] * 5 + [1] * 4
        )


def test_forward_of_denormals_and_nan_is_zero_or_one():
    kept = ops.convert_to_numpy(
        Identity()(ops.array([1e-40, -1e-40, 1e-45, -1e-45, np.nan]))
    )
    assert set(kept) <= {0.0, 1.0}
    assert kept[1] == kept[3] == kept[4] == 0


UPSTREAM = np.linspace(-3, 3, 6).astype("float32")


def gradient_function(name, jit):
    @tf.function(jit_compile=jit)
    def gradient(s):
        with tf.GradientTape() as tape:
            tape.watch(s)
            loss = tf.reduce_sum(step.get(name)(s) * UPSTREAM)
        return tape.gradient(loss, s)

    return gradient


@pytest.mark.parametrize("jit", [False, True])
def test_backward_is_the_upstream_times_the_proxy(jit):
    gradients = {name: gradient_function(name, jit) for name in PROXIES}

    @settings(max_examples=30)
    @given(s=hnp.arrays("float32", (6,), elements=FLOATS))
    def check(s):
        for name, proxy in PROXIES.items():
            with np.errstate(over="ignore"):
                expected = UPSTREAM * proxy(s)
            actual = gradients[name](tf.constant(s))
            np.testing.assert_allclose(actual, expected, rtol=2e-6, atol=1e-6)

    check()


def test_a_variable_gets_the_same_gradient_as_a_tensor():
    s = keras.Variable([-0.5, 0.0, 0.5])
    with tf.GradientTape() as tape:
        loss = ops.sum(LeakyReLU(0.25)(s) * ops.array([1.0, 2.0, 3.0]))
    np.testing.assert_array_equal(tape.gradient(loss, s.value), [0.25, 0.5, 3.0])


@pytest.mark.parametrize(
    ("identifier", "ste"),
    [
        ("identity", Identity()),
        ("leaky_relu", LeakyReLU(0.1)),
        ("softplus", Softplus()),
        (LeakyReLU(0.7), LeakyReLU(0.7)),
        (Cauchy(2.0), Cauchy(2.0)),
    ],
)
def test_names_objects_and_configs_find_the_estimator(identifier, ste):
    found = step.get(identifier)
    assert found == ste and hash(found) == hash(ste)
    assert found != LeakyReLU(0.123)
    assert step.get(step.serialize(ste)) == ste
    assert type(ste).from_config(ste.get_config()) == ste
    config = keras.saving.serialize_keras_object(ste)
    assert keras.saving.deserialize_keras_object(config) == ste
    assert repr(LeakyReLU(0.7)) == "LeakyReLU(alpha=0.7)"


@pytest.mark.parametrize("ste", [LeakyReLU(0.7), Cauchy(3.0)], ids=repr)
def test_a_saved_model_keeps_its_estimator(ste, tmp_path):
    model = keras.Sequential([keras.Input((2,)), MaskedDense(3, ste=ste)])
    model.save(tmp_path / "model.keras")
    layer = keras.models.load_model(tmp_path / "model.keras").layers[0]
    assert layer.ste == ste
    assert layer.kernel_mask.ste == ste


@pytest.mark.parametrize("identifier", ["relu", 3, ops.ones_like, Identity])
def test_what_is_no_estimator_is_refused(identifier):
    with pytest.raises(ValueError, match=r"must be one of .*identity.*Received"):
        step.get(identifier)


@pytest.mark.parametrize(
    "proxy",
    [
        lambda s: -ops.ones_like(s),
        lambda s: ops.cast(s > 0, s.dtype),  # ReLU
        lambda s: ops.cast(ops.abs(s) <= 1, s.dtype),  # hard tanh
        ops.abs,  # zero in one point
        ops.log,  # NaN and negative
        lambda s: 1 / s,
        lambda s: ops.ones_like(s) * np.nan,
        lambda s: ops.ones_like(s) * np.inf,
    ],
)
def test_a_proxy_that_is_not_positive_everywhere_is_refused(proxy):
    message = r"positive everywhere.*2201\.05020.*Received: derivative\("
    with pytest.raises(ValueError, match=message):
        MaskedDense(3, ste=function_ste(proxy))


@pytest.mark.parametrize("alpha", [0, -0.1, np.nan, np.inf, 1e-60, 1e60])
def test_leaky_relu_refuses_what_is_not_positive(alpha):
    with pytest.raises(ValueError, match=r"alpha.*2201\.05020.*Received"):
        LeakyReLU(alpha)


def test_an_estimator_without_derivative_says_so():
    with pytest.raises(NotImplementedError, match="derivative"):
        step.get(STE())


def test_layers_made_while_tracing_find_their_estimator():
    class Inner(keras.layers.Layer):
        def build(self, input_shape):
            self.dense = MaskedDense(3, ste="leaky_relu")
            self.dense.build(input_shape)

        def call(self, x):
            return self.dense(x)

    class Outer(keras.layers.Layer):
        def __init__(self):
            super().__init__()
            self.inner = Inner()

        def call(self, x):
            return self.inner(x)

    inputs = keras.Input((4,))
    assert Outer()(inputs).shape == (None, 3)


def least_squares(seed):
    """A quadratic in the mask and its minimum, by brute force over all masks."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(64, 6))
    weights = rng.choice([-1, 1], 6) * rng.uniform(0.5, 2, 6)
    truth = np.array([1, 0, 1, 1, 0, 0])
    x, y = x.astype("float32"), (x @ (weights * truth)).astype("float32")
    weights = weights.astype("float32")

    def loss(mask):
        return ops.mean(
            ops.square(ops.matmul(x, ops.expand_dims(weights * mask, 1)) - y[:, None])
        )

    masks = [np.array(m, "float32") for m in itertools.product([0, 1], repeat=6)]
    best = min(masks, key=lambda mask: float(loss(mask)))
    return loss, best


def descend(unit_step, loss, start, rate=0.003):
    @tf.function
    def last(s):
        for _ in tf.range(8000):
            with tf.GradientTape() as tape:
                tape.watch(s)
                value = loss(unit_step(s))
            s -= rate * tape.gradient(value, s)
        return s

    return (last(tf.constant(start)).numpy() > 0).astype("float32")


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", PROXIES)
def test_positive_proxies_reach_the_best_mask_found_by_brute_force(name, seed):
    loss, best = least_squares(seed)
    start = np.where(best > 0, -0.4, 0.4).astype("float32")  # all of it wrong
    np.testing.assert_array_equal(descend(step.get(name), loss, start), best)


@pytest.mark.parametrize("seed", range(3))
def test_a_relu_proxy_gets_stuck_with_the_wrong_connections_cut(seed):
    loss, best = least_squares(seed)
    start = np.where(best > 0, -0.4, 0.4).astype("float32")

    def relu_step(s):
        return step.unit_step(s, lambda s: ops.cast(s > 0, s.dtype))

    stuck = descend(relu_step, loss, start)
    assert not stuck[best > 0].any()
    assert float(loss(stuck)) > float(loss(best)) + 0.1


@pytest.mark.parametrize("name", PROXIES)
def test_one_cut_connection_comes_back_and_only_a_relu_leaves_it(name):
    def loss(mask):
        return ops.sum(ops.square(mask - 1))

    start = np.array([-0.9], "float32")
    assert descend(step.get(name), loss, start, rate=0.02) == 1
    relu = step.unit_step
    assert descend(lambda s: relu(s, lambda s: ops.relu(s)), loss, start) == 0
