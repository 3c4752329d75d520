"""The search for a number of effective connections, against going through all."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scl_keras import sparsify
from scl_keras.pruning import ERK, Uniform
from scl_keras.pruning.effective import search_effective, total
from scl_keras.pruning.network import PrunableNetwork
from scl_keras.pruning.ranking import keep_best, ranking


def chain(*units):
    layers = [keras.layers.Dense(n) for n in units[1:]]
    return keras.Sequential([keras.Input((units[0],)), *layers])


def skipping():
    inputs = keras.Input((4,))
    x = keras.layers.Dense(5, activation="relu")(inputs)
    y = keras.layers.Dense(5, activation="relu")(x)
    y = keras.layers.Concatenate()([keras.layers.Add()([x, y]), inputs])
    return keras.Model(inputs, keras.layers.Dense(2)(y))


def convolutions():
    return keras.Sequential(
        [
            keras.Input((6, 6, 1)),
            keras.layers.Conv2D(3, 3, strides=2),
            keras.layers.Conv2D(2, 2),
            keras.layers.Flatten(),
            keras.layers.Dense(2),
        ]
    )


MODELS = [
    lambda: chain(4, 5, 5, 3),
    lambda: chain(3, 1, 6, 1, 4),
    skipping,
    convolutions,
]


@pytest.fixture(scope="module", params=range(len(MODELS)))
def network(request):
    return PrunableNetwork(sparsify(MODELS[request.param](), ste=None))


def by_going_through(network, order):
    """What is effective of the best connections, for each number of them."""
    numbers = range(total(order.candidates) + 1)
    return [network.effective(order.keep(number)) for number in numbers]


@pytest.mark.parametrize("quotas", [None, Uniform(), ERK()])
@pytest.mark.parametrize("seed", range(2))
def test_finds_what_going_through_all_numbers_finds(network, quotas, seed):
    rng = np.random.default_rng(seed)
    scores = [rng.integers(0, 40, shape).astype(float) for shape in network.shapes]
    candidates = [rng.random(shape) < 0.95 for shape in network.shapes]
    order = ranking(scores, candidates, quotas)
    by_number = by_going_through(network, order)
    for count in range(3, total(network.effective(candidates)) + 1, 11):
        expected = next(masks for masks in by_number if total(masks) >= count)
        found = search_effective(network, order, count)
        assert total(found) == total(network.effective(found))  # no dead ones
        if total(expected) == count:
            assert all(map(np.array_equal, found, expected))
        else:  # a jump: filled from below, or as near as a bridge gets
            assert total(found) <= total(expected)


def test_few_passes_lead_to_the_number():
    network = PrunableNetwork(sparsify(chain(64, 100, 100, 10), ste=None))
    scores = [np.abs(w) for w in network.weights()]
    order = ranking(scores, [np.ones_like(s, bool) for s in scores])
    passes, spread = [], network.spread
    network.spread = lambda masks: passes.append(1) or spread(masks)
    for density in (0.5, 0.2, 0.1):
        passes.clear()
        count = round(density * network.size)
        assert total(search_effective(network, order, count)) == count
        assert len(passes) <= 5


@settings(max_examples=50, deadline=None)
@given(st.data())
@pytest.mark.parametrize("quotas", [None, Uniform()])
def test_the_number_to_keep_for_some_of_the_wanted(quotas, data):
    sizes = data.draw(st.lists(st.integers(1, 6), min_size=1, max_size=3))

    def arrays(values):
        return [
            np.array(data.draw(st.lists(values, min_size=n, max_size=n))) for n in sizes
        ]

    scores = arrays(st.integers(0, 3))
    candidates, wanted = arrays(st.booleans()), arrays(st.booleans())
    order = ranking([s.astype(float) for s in scores], candidates, quotas)
    count = data.draw(st.integers(1, sum(sizes)))

    def reached(number):
        pairs = zip(order.keep(number), wanted, strict=True)
        return total([kept & w for kept, w in pairs]) >= count

    expected = [n for n in range(total(candidates) + 1) if reached(n)]
    found = order.number_for(wanted, count)
    assert found == (expected[0] if expected else None)
    if quotas is None:
        number = data.draw(st.integers(0, total(candidates)))
        pairs = zip(
            order.keep(number),
            keep_best(order.scores, number, None, candidates),
            strict=True,
        )
        assert all(np.array_equal(a, b) for a, b in pairs)
