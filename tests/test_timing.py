"""What `scl_keras.timing` calls faster is faster, whatever else the machine does."""

import math
import multiprocessing
import time

import numpy as np
import pytest

from scl_keras.timing import SAME, Speed, Timings, _rank, take_turns


def test_the_same_is_not_called_faster():
    """Rounds of which half are interrupted, for several times as long as they take."""
    wrong = 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        slow = 1 + 9 * (rng.random((2, 60)) < 0.5) * rng.random((2, 60))
        a, b = slow * rng.normal(1, 0.02, (2, 60))
        wrong += Timings({"a": a, "b": b}).speed("a", "b").is_decided
    assert wrong <= 2  # 0.3 are expected


@pytest.mark.parametrize("true", [1.2, 4.0])
def test_what_is_faster_is_called_faster(true):
    for seed in range(50):
        rng = np.random.default_rng(seed)
        a = rng.normal(1, 0.05, 200)
        b = true * rng.normal(1, 0.05, 200)
        for times in (a, b):
            busy = rng.random(200) < 0.2
            times[busy] *= rng.uniform(1, 8, busy.sum())
        speed = Timings({"a": a, "b": b}).speed("a", "b")
        assert speed.is_faster and speed.low < true < speed.high
        reverse = Timings({"a": a, "b": b}).speed("b", "a")
        assert reverse.is_slower
        assert reverse.ratio == pytest.approx(1 / speed.ratio, rel=1e-2)


@pytest.mark.parametrize("count", [3, 10, 11, 12, 50, 201])
def test_the_interval_misses_the_median_one_time_in_a_thousand(count):
    ways = [math.comb(count, k) for k in range(count + 1)]

    def chance(rank):  # that the median is out of the interval, exactly
        return 2 * sum(ways[: rank + 1]) / 2**count

    rank = _rank(count)
    if rank is None:
        assert chance(0) > 0.001
    else:
        assert chance(rank) <= 0.001 < chance(rank + 1)


def test_few_rounds_show_nothing():
    speed = Timings({"a": [1.0] * 10, "b": [5.0] * 10}).speed("a", "b")
    assert speed.ratio == 5 and not speed.is_decided


def test_words():
    assert str(Speed(4.1, 3.9, 4.2)) == "4.10x as fast (3.90 to 4.20)"
    assert str(Speed(4.1, 0.9, 9)) == "no difference shown (0.90 to 9.00)"
    timings = Timings({"a": [1.0, 2.0]})
    assert timings.speed("a", "a") == SAME and not SAME.is_decided


def test_they_take_turns_in_both_orders():
    called = []
    functions = {name: (lambda name=name: called.append(name)) for name in "abc"}
    ticks = iter(range(10**6))
    timings = take_turns(functions, 0, clock=lambda: next(ticks))
    # Each reading is a second later, so that one call is enough for a turn.
    assert called == [*"abc", *"cba"] * 5 + [*"abc"]
    assert {len(rounds) for rounds in timings.rounds.values()} == {11}


def test_one_call_is_no_turn_of_what_takes_little():
    called = []
    functions = {name: (lambda name=name: called.append(name)) for name in "ab"}
    ticks = iter(range(10**6))
    timings = take_turns(functions, 0, clock=lambda: next(ticks) * 2.0**-12)
    assert called == [*"ab"] + [*"aaaabbbb", *"bbbbaaaa"] * 5 + [*"aaaabbbb"]
    assert {len(rounds) for rounds in timings.rounds.values()} == {11}


def spin():
    while True:
        pass


def test_a_busy_machine_changes_nothing():
    """Twice and once the same work, while two other programs use the processors."""
    spawn = multiprocessing.get_context("spawn")
    others = [spawn.Process(target=spin, daemon=True) for _ in range(2)]
    x = np.random.default_rng(0).random(20_000)
    functions = {
        "once": lambda: x.cumsum(),
        "again": lambda: x.cumsum(),
        "twice": lambda: (x.cumsum(), x.cumsum()),
    }
    for other in others:
        other.start()
    try:
        timings = take_turns(functions, 1.0, time.thread_time)
    finally:
        for other in others:
            other.kill()
    assert timings.speed("once", "twice").is_faster
    assert 1.5 < timings.speed("once", "twice").ratio < 2.7
    assert timings.speed("again", "once").low < 1.1
    assert timings.speed("again", "once").high > 0.9
