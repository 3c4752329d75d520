"""Labels: what they may be, and that no precision is chosen that loses them."""

import keras
import numpy as np
import pytest
from export_models import dense_net, samples

from scl_keras.export import ExportError, export_tflite
from scl_keras.export import tflite as tflite_module
from scl_keras.export.accuracy import AccuracyDrop, Labels
from scl_keras.export.candidates import Candidate, candidates
from scl_keras.export.outcome import choose
from scl_keras.export.precisions import PRECISIONS
from scl_keras.export.trials import Trial


@pytest.fixture
def no_conversion(monkeypatch):
    def refuse(*_):
        raise AssertionError("converted before the labels were checked")

    monkeypatch.setattr(tflite_module, "ConvertedFiles", refuse)


RIGHT = np.arange(40) % 10  # a model of ten classes

BAD_LABELS = {
    "too large": (RIGHT + 1, "from 0 to 9.*Received: labels from 1 to 10"),
    "negative": (RIGHT - 1, "from 0 to 9.*Received: labels from -1 to 8"),
    "one hot": (np.eye(10, dtype=int)[RIGHT], r"argmax\(-1\).*shape \(40, 10\)"),
    "one hot floats": (np.eye(10)[RIGHT], r"argmax\(-1\).*dtype float64"),
    "column": (RIGHT[:, None], r"`labels\[\.\.\., 0\]`.*shape \(40, 1\)"),
    "floats": (RIGHT.astype(float), r"astype\(int\).*dtype float64"),
    "booleans": (RIGHT > 4, r"astype\(int\).*dtype bool"),
    "too few": (RIGHT[:-1], r"shape \(40,\).*Received.*shape \(39,\)"),
    "too many": (np.tile(RIGHT, 2), r"shape \(40,\).*Received.*shape \(80,\)"),
    "one": (3, r"shape \(40,\).*Received.*shape \(\)"),
    "text": (["cat"] * 40, "must be integers.*Received.*dtype <U3"),
    "objects": (RIGHT.astype(object), "must be integers.*Received.*dtype object"),
    "ragged": ([[1], [2, 3]], "array of integers. Received: labels of type list"),
}


@pytest.mark.parametrize("case", BAD_LABELS)
def test_bad_labels(tmp_path, no_conversion, case):
    bad, message = BAD_LABELS[case]
    with pytest.raises(ValueError, match=message):
        export_tflite(
            dense_net(8), tmp_path / "m.tflite", samples=samples(8), labels=bad
        )
    assert not list(tmp_path.iterdir())


def test_labels_for_an_output_of_no_classes(tmp_path, no_conversion):
    model = dense_net(8, outputs=1)
    with pytest.raises(ValueError, match=r"two or more.*Received.*shape \(1, 1\)"):
        export_tflite(
            model, tmp_path / "m.tflite", samples=samples(8), labels=[0, 1] * 20
        )


@pytest.mark.parametrize("drop", [-0.1, 1.1, float("nan"), "1 %", [0.1], True])
def test_bad_drop(tmp_path, no_conversion, drop):
    with pytest.raises(ValueError, match="from 0 to 1.*Received"):
        export_tflite(
            dense_net(8),
            tmp_path / "m.tflite",
            samples=samples(8),
            labels=RIGHT,
            max_accuracy_drop=drop,
        )


def test_a_drop_without_labels(tmp_path, no_conversion):
    with pytest.raises(ValueError, match="needs `labels`.*Received"):
        export_tflite(
            dense_net(8),
            tmp_path / "m.tflite",
            samples=samples(8),
            max_accuracy_drop=0.1,
        )


@pytest.mark.slow
def test_every_kind_of_integer(tmp_path, monkeypatch):
    only(monkeypatch, "dense")
    model, x = dense_net(8), samples(8)
    expected = np.asarray(model(x)).argmax(-1)
    for labels in (expected.tolist(), expected.astype("uint8"), expected):
        report = export_tflite(
            model, tmp_path / "m.tflite", samples=x, labels=labels, latency_seconds=0
        )
        assert report.accuracy == report.chosen.accuracy == 1


def only(monkeypatch, *names):
    """Has only some of the candidates tried."""

    def some(dtype):
        return [c for c in candidates(dtype) if c.name in names]

    monkeypatch.setattr(tflite_module, "candidates", some)


def on_the_edge(lost):
    """A layer of 200 samples, of which int8 weights take `lost` for another class.

    What int8 computes is told apart from the code under test: weights are rounded to
    127ths of the largest of their feature.
    """
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(16, 10)).astype("float32")
    step = np.abs(kernel).max(axis=0) / 127
    rounded = np.round(kernel / step) * step
    x = rng.normal(size=(200_000, 16)).astype("float32")
    exact, coarse = x @ kernel, x @ rounded
    best = np.sort(exact, axis=-1)
    margin = best[:, -1] - best[:, -2]
    coarse_margin = np.sort(coarse, axis=-1)
    coarse_margin = coarse_margin[:, -1] - coarse_margin[:, -2]
    flipped = exact.argmax(-1) != coarse.argmax(-1)
    # Far enough from a tie for float16 and for sums in another order.
    flips = np.flatnonzero(flipped & (margin > 4e-3) & (coarse_margin > 1e-3))[:lost]
    assert len(flips) == lost
    clear = np.flatnonzero(margin > 0.5)[: 200 - lost]
    chosen = np.concatenate([flips, clear])
    model = keras.Sequential([keras.Input((16,)), keras.layers.Dense(10)])
    model.layers[0].set_weights([kernel, np.zeros(10)])
    return model, x[chosen], exact[chosen].argmax(-1), coarse[chosen].argmax(-1)


def export(model, path, x, labels, **options):
    return export_tflite(
        model,
        path,
        samples=x,
        labels=labels,
        dtype="int8",
        optimize_for="size",
        latency_seconds=0,
        **options,
    )


@pytest.fixture
def three(monkeypatch):
    only(monkeypatch, "dense", "float16", "int8 weights")


@pytest.mark.slow
def test_a_precision_that_loses_accuracy_is_not_chosen(tmp_path, three):
    model, x, labels, coarse = on_the_edge(lost=6)
    report = export(model, tmp_path / "m.tflite", x, labels)
    assert report.candidate == "float16"
    found = {a.candidate: a for a in report.attempts}["int8 weights"]
    assert found.correct and found.bytes < 0.98 * report.bytes_written
    assert found.accuracy == pytest.approx((coarse == labels).mean())
    assert found.accuracy_drop == pytest.approx(6 / 200)
    assert "6 of 200 labels lost, 0 won" in found.outcome
    [note] = [n for n in report.notes if "int8 weights" in n]
    assert "max_accuracy_drop=0.50%" in note and "chance" not in note
    assert note in str(report)
    assert report.max_accuracy_drop == 0.005


@pytest.mark.slow
@pytest.mark.parametrize(
    ("lost", "allowed", "chosen"),
    [
        (1, None, "int8 weights"),  # half a percent, as allowed
        (2, None, "float16"),
        (2, 0.01, "int8 weights"),
        (6, 0.02, "float16"),
        (6, 0.03, "int8 weights"),
        (6, 1, "int8 weights"),
        (1, 0, "float16"),
        (0, 0, "int8 weights"),
    ],
)
def test_the_largest_drop(tmp_path, three, lost, allowed, chosen):
    model, x, labels, _ = on_the_edge(lost)
    report = export(model, tmp_path / "m.tflite", x, labels, max_accuracy_drop=allowed)
    assert report.candidate == chosen


@pytest.mark.slow
def test_one_label_of_few_may_be_chance(tmp_path, three):
    model, x, labels, _ = on_the_edge(lost=1)
    report = export(model, tmp_path / "m.tflite", x[:20], labels[:20])
    assert report.candidate == "float16"
    assert any("more of them can" in note for note in report.notes)


@pytest.mark.slow
def test_labels_that_it_wins_count_as_well(tmp_path, three):
    model, x, labels, coarse = on_the_edge(lost=6)
    mixed = np.where(np.arange(200) < 3, coarse, labels)  # of the six, three each
    report = export(model, tmp_path / "m.tflite", x, mixed, max_accuracy_drop=0)
    assert report.candidate == "int8 weights"
    assert report.chosen.accuracy_drop == 0 and report.chosen.accuracy_drop_error > 0


def test_without_labels_nothing_is_refused(tmp_path, three):
    model, x, _, _ = on_the_edge(lost=6)
    report = export(model, tmp_path / "m.tflite", x, None)
    assert report.candidate == "int8 weights"
    assert report.max_accuracy_drop is report.chosen.accuracy_drop is None


def labels_of(keras_right, max_drop=0.005):
    return Labels(np.zeros(np.shape(keras_right), int), keras_right, max_drop)


def test_drop_and_its_error():
    """As by the formula for paired shares, and not changed by copies of positions."""
    rng = np.random.default_rng(0)
    ours, files = rng.random(300) < 0.8, rng.random(300) < 0.75
    drop = labels_of(ours).drop(files)
    lost, gained = np.sum(ours & ~files), np.sum(files & ~ours)
    assert (drop.lost, drop.gained, drop.labels) == (lost, gained, 300)
    assert drop.share == pytest.approx(ours.mean() - files.mean())
    variance = lost + gained - (lost - gained) ** 2 / 300
    assert drop.error == pytest.approx(np.sqrt(variance) / 300)
    maps = labels_of(np.tile(ours[:, None, None], (1, 4, 5)))
    same = maps.drop(np.tile(files[:, None, None], (1, 4, 5)))
    assert same.labels == 6000
    assert (same.share, same.error) == (
        pytest.approx(drop.share),
        pytest.approx(drop.error),
    )


def test_float32_is_never_refused_and_an_error_tells_what_was_lost():
    lossy = AccuracyDrop(0.5, 0.1, 5, 0, 10, 0.005)
    by_name = {precision.name: precision for precision in PRECISIONS}
    exact = Trial(Candidate(by_name[""], "csr"), bytes(9), drop=lossy)
    coarse = Trial(Candidate(by_name["float16"], "csr"), bytes(5), drop=lossy)
    assert choose([coarse, exact], "size", None) is exact
    with pytest.raises(ExportError, match=r"float16 csr: loses 50\.00%"):
        choose([coarse], "size", None)
