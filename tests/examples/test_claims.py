"""Which cells SCL wins: by hand, at the edges of what is promised."""

import dataclasses

import pytest
from comparison import study, tables
from comparison.cells import groups
from comparison.claims import claims_of
from comparison.plan import TASKS

TASK = TASKS["finetuned"]["lenet_5"]


def result_of(method, compression, seed, percent, effective=None, task=TASK):
    """A result as the store gives it back; `percent` None: cut off."""
    run = study.planned(task, method, compression, seed)
    return {
        "setting": run.setting(),
        task.metric: None if percent is None else percent / 100,
        "cut_off": percent is None,
        "effective_compression": None if percent is None else effective or compression,
        "macs": 1000,
        "effective_macs": 10,
    }


def cell(compression, **accuracies):
    """Results of a cell: for each method its accuracies over seeds."""
    return [
        result_of(method, compression, seed, percent)
        for method, values in accuracies.items()
        for seed, percent in enumerate(values)
    ]


def only_claim(results):
    (claim,) = claims_of(groups(results))
    return claim


def test_the_best_other_may_be_ahead_by_a_little_or_by_a_deviation():
    near = only_claim(cell(30, scl=[97.0], lamp=[97.29], snip=[90.0]))
    assert near.other == "lamp"
    assert near.ahead == pytest.approx(-0.29)
    assert near.failures() == []
    far = only_claim(cell(30, scl=[97.0], lamp=[97.31]))
    assert far.failures() == ["0.31 points below LAMP, one-shot"]
    # Deviations 2 and 0: sqrt((4 + 0) / 2) = 1.41 points.
    wide = only_claim(cell(30, scl=[94, 96, 98], lamp=[97.4, 97.4, 97.4]))
    assert wide.deviation == pytest.approx(2**0.5)
    assert wide.failures() == []
    assert only_claim(cell(30, scl=[94, 96, 98], lamp=[97.5] * 3)).failures()


def test_dense_counts_up_to_10x_and_the_plain_rule_from_100x_on():
    for compression, dense, plain in [
        (5, True, False),
        (10, True, False),
        (30, False, False),
        (100, False, True),
        (1000, False, True),
    ]:
        accuracies = {"scl": [90.0], "lamp": [80.0]}
        claim = only_claim(cell(compression, dense=[90.6], **accuracies))
        assert claim.failures() == (["0.60 points below dense"] if dense else [])
        claim = only_claim(cell(compression, scl_plain=[90.3], **accuracies))
        expected = ["0.30 points below the plain rule"] if plain else []
        assert claim.failures() == expected
        fine = cell(compression, dense=[90.4], scl_plain=[90.1], **accuracies)
        assert only_claim(fine).failures() == []


def test_those_that_kept_more_are_no_others_and_scl_loses_by_it():
    results = cell(100, scl=[90.0], lamp=[89.0])
    results.append(result_of("snip", 100, 0, 99.0, effective=50))
    results += cell(100, synflow=[99.5, None])
    assert only_claim(results).other == "lamp"
    results = [result_of("scl", 100, 0, 99.0, effective=50), *cell(100, lamp=[50])]
    assert only_claim(results).failures() == ["cut off, or less sparse than asked for"]
    assert only_claim(cell(100, scl=[None], lamp=[50])).failures()


def test_methods_are_compared_by_the_seeds_that_both_have():
    # By its only seed LAMP is behind, although its mean is above all of SCL's.
    claim = only_claim(cell(30, scl=[97, 91, 91], lamp=[96]))
    assert claim.ahead == pytest.approx(1)
    assert only_claim(cell(30, scl=[91, 97, 97], lamp=[92])).ahead == pytest.approx(-1)


def test_other_ways_of_scl_are_none_to_be_beaten_by():
    results = cell(30, scl=[90], lamp=[89], scl_feature=[99], scl_plain=[99])
    assert only_claim(results).other == "lamp"
    assert claims_of(groups(cell(30, scl=[90], scl_plain=[99], dense=[99]))) == []


def test_the_report_lists_what_is_lost():
    results = cell(10, scl=[97.0], lamp=[97.0]) + cell(30, scl=[80.0], lamp=[97.0])
    text = tables.report(results)
    assert "1 of 2 cells are lost:" in text
    assert (
        "- LeNet-5, trained, then fine-tuned, 30x: 17.00 points below LAMP, one-shot"
    ) in text.splitlines()
    assert "Nowhere" in tables.report(cell(10, scl=[97.0], lamp=[97.0]))


def test_results_of_other_days_and_of_validation_are_kept_apart():
    old = result_of("scl", 10, 0, 12.0)
    del old["setting"]["edition"]  # as runs were kept before
    older = result_of("scl", 10, 0, 13.0)
    del older["setting"]["task"]["dense_epochs"]
    held_out = result_of("scl", 10, 0, 14.0, task=TASK.validating())
    gone = result_of("scl", 10, 0, 15.0)
    gone["setting"]["method"] = "scl_slow"
    now = result_of("scl", 10, 0, 16.0)
    results = [old, older, held_out, gone, now]
    text = tables.report(results)
    assert "16.00" in text
    assert not any(number in text for number in ("12.00", "13.00", "14.00", "15.00"))
    text = tables.report(results, validation=True)
    assert "Validation accuracy" in text
    assert "14.00" in text
    assert "16.00" not in text
    with pytest.raises(ValueError, match="No results of today's tasks"):
        tables.report([old, older, gone])
    other = dataclasses.replace(TASK, samples=77)
    assert len(groups([now, result_of("scl", 10, 0, 1.0, task=other)])) == 2
