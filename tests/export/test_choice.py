"""Which file is written, and what the report says about the others."""

import json

import keras
import numpy as np
import pytest
from export_models import conv_net, dense_net, put_zeros, samples
from keras import layers
from matplotlib.figure import Figure

from scl_keras.export import ExportError, export_tflite, outcome, read_metadata
from scl_keras.export.candidates import Candidate, candidates
from scl_keras.export.latency import Latency
from scl_keras.export.outcome import choose
from scl_keras.export.precisions import PRECISIONS
from scl_keras.export.speed_notes import speed_notes
from scl_keras.export.trials import Trial
from scl_keras.timing import Speed, Timings

FLOAT32 = [c.name for c in candidates("float32")]


def trials(**bytes_of):
    return [
        Trial(Candidate(PRECISIONS[0], name), bytes(size))
        for name, size in bytes_of.items()
    ]


def exact(times):
    """Times that are the same in each round; None for none."""
    return Timings({k: [v / 1000] * 40 for k, v in times.items()}) if times else None


@pytest.mark.parametrize(
    ("optimize_for", "times", "expected"),
    [
        ("size", {"dense": 1, "csr": 3, "rows": 2}, "csr"),
        ("size", {}, "csr"),
        ("latency", {"dense": 1, "csr": 3, "rows": 2}, "dense"),
        ("latency", {"dense": 1.99, "csr": 3, "rows": 2}, "rows"),  # the same
        ("balanced", {"dense": 1, "csr": 3, "rows": 1.4}, "rows"),
        ("balanced", {"dense": 1, "csr": 1, "rows": 1}, "csr"),
        ("balanced", {}, "csr"),
    ],
)
def test_choice(optimize_for, times, expected):
    tried = trials(dense=1000, csr=300, rows=500)
    assert choose(tried, optimize_for, exact(times)).name == expected


@pytest.mark.parametrize("optimize_for", ["size", "latency", "balanced"])
def test_what_times_do_not_show_bytes_decide(optimize_for):
    """Two files that are as fast, timed on a machine that does other things, too."""
    tried, chosen = trials(dense=1000, csr=997, rows=995), set()
    for seed in range(200):
        rng = np.random.default_rng(seed)
        rounds = {t.name: rng.exponential(size=30) + 0.01 for t in tried}
        chosen.add(choose(tried, optimize_for, Timings(rounds)).name)
    assert chosen == {"rows"}


def test_the_report_does_not_contradict_itself():
    """It says that nothing is faster only where no figure of it says otherwise."""

    def notes(times, batch=None):
        latency = batch and Latency(4.88, 1, batch, 32)
        return " ".join(speed_notes("csr", [], times, latency))

    rng = np.random.default_rng(0)
    noise = Timings({name: rng.exponential(size=20) for name in ("dense", "csr")})
    assert "vary too much" in notes(noise) and "Nothing" not in notes(noise)
    assert notes(exact({"dense": 1, "csr": 1}), Speed(4.88, 4.5, 5.1)) == ""
    # 4.88x, but it may as well be slower: no word of "faster".
    assert "Nothing" in notes(exact({"dense": 1, "csr": 1}), Speed(4.88, 0.5, 9))
    assert "Nothing" in notes(exact({"dense": 1, "csr": 1.01}))
    assert notes(exact({"dense": 4.88, "csr": 1})) == ""
    assert "'rows' would be faster" in notes(exact({"dense": 4, "csr": 3, "rows": 1}))
    slow = notes(exact({"dense": 2, "csr": 1}), Speed(0.25, 0.2, 0.3))
    assert "takes 4.0 times as long" in slow


def test_of_equal_sizes_the_faster_and_without_times_the_first():
    tried = trials(csr=1000, rows=995)
    assert choose(tried, "size", exact({"csr": 2, "rows": 1})).name == "rows"
    assert choose(tried, "size", exact({"csr": 1, "rows": 2})).name == "csr"
    assert choose(tried, "size", None).name == "csr"


def test_wrong_files_are_no_choice():
    wrong = Trial(Candidate(PRECISIONS[0], "csr"), b"x", problem="is wrong")
    right = trials(rows=500)
    assert choose([wrong, *right], "size", None).name == "rows"
    with pytest.raises(ExportError, match="- csr: is wrong"):
        choose([wrong], "size", None)


def test_candidates_have_names_of_their_own():
    names = [c.name for c in candidates("int8")]
    assert len(set(names)) == len(names) and names[0] == "dense"
    assert set(c.name for c in candidates("float32")) < set(names)
    for name in ("compact csr", "float16 csr", "int8", "int8 weights compact csr"):
        assert name in names


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A convolutional network with labels, in all precisions."""
    path = tmp_path_factory.mktemp("export") / "m.tflite"
    model, x = conv_net(0.8, last=None), samples(12, 12, 3, count=64)
    outputs = np.asarray(model(x))
    labels = outputs.argmax(-1)
    labels[:16] = (labels[:16] + 1) % 5  # 48 of 64 are right
    report = export_tflite(
        model, path, samples=x, labels=labels, dtype="int8", latency_seconds=0.2
    )
    return model, x, path, report


@pytest.mark.slow
def test_every_candidate_is_in_the_report(exported):
    *_, report = exported
    assert [a.candidate for a in report.attempts] == [
        c.name for c in candidates("int8")
    ]
    assert report.chosen.candidate == report.candidate
    for attempt in report.attempts:
        if attempt.correct:
            assert attempt.bytes > 0 and attempt.gzip_bytes > 0
            assert attempt.latency_ratio > 0
            assert attempt.largest_difference >= attempt.mean_difference >= 0
            assert attempt.accuracy > 0.5
        elif attempt.correct is False:
            assert attempt.gzip_bytes is None
            assert "correct" not in attempt.outcome
    by_name = {a.candidate: a for a in report.attempts}
    assert by_name["dense"].accuracy == report.accuracy == 0.75
    # A coarser precision is farther off.
    names = ["dense", "float16 compact csr", "int8 compact"]
    differences = [by_name[n].largest_difference for n in names]
    assert differences == sorted(differences) and differences[0] < differences[1]
    # Unpacked when it is loaded, "csr" computes as the dense file does.
    half, bytes_of_int8 = by_name["float16 compact"], by_name["int8 compact"].bytes
    assert "'float16 compact csr' is as fast" in half.outcome
    assert half.correct is None and by_name["float16"].correct is None
    assert bytes_of_int8 < half.bytes < 0.7 * by_name["dense"].bytes
    # None of those that lose no accuracy is better for sure.
    chosen = report.chosen
    for a in report.attempts:
        rounds = a.candidate.startswith(("float16", "int8"))
        if a.correct and not a.chosen and (not rounds or a.accuracy_drop <= 0.005):
            assert chosen.bytes / chosen.speed.high < a.bytes / a.speed.low


def test_report_as_text_data_and_picture(exported, tmp_path):
    *_, path, report = exported
    figures = json.loads(json.dumps(report.as_dict(), allow_nan=False))
    assert len(figures["attempts"]) == len(report.attempts)
    text = str(report)
    for attempt in report.attempts:
        assert f"  {attempt.candidate}" in text and attempt.outcome in text
    assert "75.00%" in text
    figure = report.plot()
    assert isinstance(figure, Figure)
    drawn = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    right = sorted((a for a in report.attempts if a.correct), key=lambda a: a.bytes)
    assert report.candidate in drawn and right[0].candidate in drawn
    assert set(drawn) <= {a.candidate for a in right}
    assert len(drawn) == min(12, len(right))
    written = drawn.index(report.candidate)
    colors = [bar.get_facecolor() for bar in figure.axes[0].patches]
    assert colors.count(colors[written]) == 1
    figure.savefig(tmp_path / "report.png")
    assert path.stat().st_size == report.bytes_written


def test_the_file_says_what_it_is(exported, tmp_path):
    *_, path, report = exported
    facts = read_metadata(path)
    assert facts["candidate"] == report.candidate
    assert facts["weights"] == sum(np.prod(t.shape) for t in report.tensors)
    sparsity = 1 - facts["nonzero"] / facts["weights"]
    assert 0.5 < sparsity < 1
    other = tmp_path / "other.tflite"
    other.write_bytes(b"no TFLite file")
    with pytest.raises(ValueError, match="that `export_tflite` wrote"):
        read_metadata(other)


@pytest.mark.slow
def test_dead_units_are_removed(tmp_path):
    model, x = dense_net(40, hidden=60), samples(40)
    kernel = model.layers[0].kernel.numpy()
    kernel[:, 20:] = 0
    model.layers[0].kernel.assign(kernel)
    model.layers[0].bias.assign(np.zeros(60))
    report = export_tflite(model, tmp_path / "m.tflite", samples=x, optimize_for="size")
    assert report.candidate == "compact"
    assert {t.shape for t in report.tensors} == {(20, 40), (10, 20)}
    # Nothing else can win, and so isn't run.
    tried = {a.candidate for a in report.attempts if a.correct is not None}
    assert tried == {"dense", "compact"}
    assert report.bytes_written < 0.5 * report.bytes_dense


@pytest.mark.slow
def test_sparse_kernels_are_faster(tmp_path):
    """98 % of a wide layer: far more than noise could make."""
    model, x = dense_net(1024, hidden=1024, zeros=0.98), samples(1024)
    kernel = model.layers[1].kernel
    kernel.assign(kernel * (np.random.default_rng(0).random(kernel.shape) < 0.1))
    report = export_tflite(
        model, tmp_path / "m.tflite", samples=x, optimize_for="latency"
    )
    assert report.latency_ratio > 2
    assert {t.encoding for t in report.tensors} <= {"csr", "block 1x4"}
    assert report.batch_latency.batch_size == 32


@pytest.mark.parametrize(("milliseconds", "size"), [(1e9, 32), (0.0, 2)])
def test_the_larger_batch_takes_no_longer_than_it_may(
    tmp_path, monkeypatch, milliseconds, size
):
    monkeypatch.setattr(outcome, "_BATCH_MS", milliseconds)
    options = {"samples": samples(16), "latency_seconds": 0.1, "verbose": 0}
    report = export_tflite(dense_net(16), tmp_path / "m.tflite", **options)
    assert report.batch_latency.batch_size == size


@pytest.mark.slow
def test_without_a_gain_the_report_says_so(tmp_path):
    model = keras.Sequential(
        [keras.Input((10, 10, 8)), layers.Conv2D(64, 3), layers.Conv2D(64, 3)]
    )
    report = export_tflite(
        put_zeros(model, 0.9),
        tmp_path / "m.tflite",
        samples=samples(10, 10, 8, count=4),
        latency_seconds=0.5,
    )
    assert report.bytes_written < 0.5 * report.bytes_dense
    speeds = [a.speed for a in report.attempts if a.correct]
    if all(speed.is_close for speed in speeds) and report.batch_latency.ratio < 1.1:
        assert "no sparse kernel" in str(report)


@pytest.mark.slow
def test_int8_falls_back_where_it_is_too_coarse(tmp_path):
    """A tolerance that no int8 file meets: a finer precision is written instead."""
    model, x = dense_net(100, zeros=0.5), samples(100)
    report = export_tflite(
        model,
        tmp_path / "m.tflite",
        samples=x,
        dtype="int8",
        tolerance=1e-4,
        latency_seconds=0,
    )
    assert not {a.candidate for a in report.attempts if a.correct} & {"int8", "float16"}
    assert "int8 was allowed, but a file of float32 is the best." in report.notes


@pytest.mark.slow
def test_labels_of_positions(tmp_path):
    """A map of classes: one label a position."""
    model = keras.Sequential([keras.Input((6, 5)), layers.Dense(4)])
    x = samples(6, 5, count=33)
    labels = np.asarray(model(x)).argmax(-1)
    report = export_tflite(
        model, tmp_path / "m.tflite", samples=x, labels=labels, latency_seconds=0
    )
    assert report.accuracy == report.chosen.accuracy == 1
    with pytest.raises(ValueError, match=r"shape \(33, 6\).*Received.*\(33,\)"):
        export_tflite(model, tmp_path / "m.tflite", samples=x, labels=labels[:, 0])


@pytest.mark.slow
def test_a_model_of_no_operator_at_all(tmp_path):
    inputs = keras.Input((4,))
    model = keras.Model(inputs, layers.Identity()(inputs))
    report = export_tflite(
        model, tmp_path / "m.tflite", samples=samples(4, count=3), latency_seconds=0
    )
    assert report.candidate == "dense" and report.largest_difference == 0
