import keras
import numpy as np
import pytest

from scl_keras import FEATURES, SwitcherOptimizer, switcher_network


def test_the_default_keeps_all_and_ranks_by_magnitude(rng):
    network = switcher_network()
    features = rng.normal(size=(50, len(FEATURES))).astype("float32")
    log = features[:, FEATURES.index("log magnitude")] = rng.uniform(-3.45, 0.7, 50)
    outputs = network(features).numpy()[:, 0]
    assert outputs.min() > 0
    np.testing.assert_array_equal(np.argsort(outputs), np.argsort(log))


def test_the_default_is_float32_and_has_the_units_asked_for():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        network = switcher_network(units=(5, 3))
    finally:
        keras.config.set_dtype_policy("float32")
    assert network(np.zeros((1, len(FEATURES)), "float32")).dtype == "float32"
    shapes = [tuple(v.shape) for v in network.trainable_variables]
    n = len(FEATURES)
    assert sorted(shapes) == sorted([(n, 5), (5,), (5, 3), (3,), (3, 1), (n, 1), (1,)])


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (lambda x: x, "must be a Keras model"),
        (keras.layers.Dense(2), r"outputs of shape \(2, 2\)"),
        (keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)]), "that fails"),
    ],
)
def test_other_signatures_are_refused(network, message):
    with pytest.raises(ValueError, match=message):
        SwitcherOptimizer("adam", switcher=network, connection_cost=0.1)


@pytest.mark.parametrize("steps", [{"task_steps": 0}, {"switcher_steps": 0}])
def test_turns_of_no_step_are_refused(steps):
    with pytest.raises(ValueError, match="at least 1"):
        SwitcherOptimizer("adam", **steps, connection_cost=0.1)
