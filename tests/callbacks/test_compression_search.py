"""The rule that decides how far to compress next, on made-up networks."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scl_keras.callbacks.compression_search import CompressionSearch


def search(knee, epochs, bound=0.01, sharpness=3.0, recovers=0.5):
    """Searches on a network that loses `bound` at `x = knee`, and more beyond.

    Fresh cuts cost more; half of that comes back in an epoch.
    """
    rule = CompressionSearch(epochs)
    x, fresh, best = 0.0, 0.0, 0.0
    following = rule.speed
    for _ in range(epochs):
        fresh = recovers * fresh + 0.002 * (following - x)
        x = following
        drop = bound * math.exp(sharpness * (x - knee)) + fresh
        following, goes_back = rule.look(x, drop, bound)
        if drop <= bound:
            best = x
        if goes_back:
            x = rule.held
    return best, rule


@pytest.mark.parametrize("knee", [math.log(c) for c in (3, 10, 60, 300, 900)])
def test_a_search_ends_near_the_knee(knee):
    best, _ = search(knee, epochs=12)
    assert 0.85 * knee < best <= knee


@given(
    knee=st.floats(0.5, 7.0),
    epochs=st.integers(1, 60),
    sharpness=st.floats(0.5, 20.0),
    recovers=st.floats(0.0, 0.9),
)
def test_what_held_is_never_beyond_the_knee(knee, epochs, sharpness, recovers):
    best, rule = search(knee, epochs, sharpness=sharpness, recovers=recovers)
    assert best <= knee
    assert rule.held <= knee
    assert rule.lost > rule.held


def test_more_epochs_are_slower_and_go_as_far():
    short, long = (CompressionSearch(epochs) for epochs in (8, 40))
    assert long.speed < short.speed
    for rule in (short, long):
        x = 0.0
        for _ in range(rule.epochs):
            x, goes_back = rule.look(x + 0, 0.0, 0.01)
            assert not goes_back
        assert x >= math.log(1000)


def test_the_nearer_the_bound_the_slower():
    steps = [
        CompressionSearch(10).look(1.0, drop, 0.01)[0] - 1.0
        for drop in (0.0, 0.004, 0.008, 0.01)
    ]
    assert steps == sorted(steps, reverse=True)
    assert steps[0] == pytest.approx(CompressionSearch(10).speed)
    assert steps[-1] > 0


def test_a_network_gets_an_epoch_to_recover():
    rule = CompressionSearch(10)
    rule.look(1.0, 0.0, 0.01)
    speed = rule.speed
    assert rule.look(2.0, 0.015, 0.01) == (2.0, False)
    following, goes_back = rule.look(2.0, 0.009, 0.01)
    assert following > 2.0 and not goes_back
    assert rule.speed == speed / 2


def test_it_gets_more_while_it_recovers_fast_enough():
    rule = CompressionSearch(10)
    rule.look(1.0, 0.0, 0.01)
    for drop in (0.026, 0.014, 0.0105):
        assert rule.look(2.0, drop, 0.01) == (2.0, False)
    assert rule.look(2.0, 0.0103, 0.01) == (1.5, True)  # 0.0001 more, not 0.0003


def test_without_recovery_it_goes_back_and_half_of_the_way():
    rule = CompressionSearch(10)
    rule.look(1.0, 0.0, 0.01)
    rule.look(2.0, 0.015, 0.01)
    assert rule.look(2.0, 0.015, 0.01) == (1.5, True)
    following, goes_back = rule.look(1.5, 0.0, 0.01)
    assert (following, goes_back) == (1.75, False)  # not again to what was given up


@pytest.mark.parametrize("drop", [0.2, math.nan, math.inf])
def test_what_is_far_off_is_given_up_at_once(drop):
    rule = CompressionSearch(10)
    rule.look(1.0, 0.0, 0.01)
    assert rule.look(3.0, drop, 0.01) == (2.0, True)


def test_where_nothing_ever_held_it_begins_anew_with_less():
    rule = CompressionSearch(10)
    assert rule.look(1.0, 0.012, 0.01) == (1.0, False)
    assert rule.look(1.0, 0.0118, 0.01) == (0.5, True)
    assert rule.look(0.5, 0.5, 0.01) == (0.25, True)


def test_what_holds_beside_a_place_that_was_given_up_opens_the_way_beyond():
    rule = CompressionSearch(10)
    rule.look(1.0, 0.0, 0.01)
    rule.look(2.0, 0.5, 0.01)
    assert rule.look(1.5, 0.0, 0.01)[0] == 1.75
    assert rule.look(1.75, 0.0, 0.01)[0] == 1.875
    assert rule.look(1.95, 0.0, 0.01)[0] == pytest.approx(1.95 + rule.speed)
