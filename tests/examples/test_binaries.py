"""The binaries, run as a user runs them: in processes of their own."""

import json
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest

from scl_keras import find_masks
from scl_keras.datasets import load_dataset

EXAMPLES = pathlib.Path(__file__).parents[2] / "examples"


def run(name, *arguments, cwd=None):
    command = [sys.executable, str(EXAMPLES / f"{name}.py"), *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=900)


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    """Folder and output of a run of seconds."""
    folder = tmp_path_factory.mktemp("smoke")
    result = run("train_scl", "--smoke", f"--out={folder}/a")
    assert result.returncode == 0, result.stderr
    return folder / "a", result.stdout


@pytest.mark.slow
def test_train_scl_prints_and_writes_what_it_says(smoke):
    folder, output = smoke
    names = ("dense.keras", "scl.keras", "stripped.keras", "model.tflite")
    names += ("training.png", "results.json")
    assert sorted(p.name for p in folder.iterdir()) == sorted(names)
    results = json.loads((folder / "results.json").read_text())
    last = output.strip().splitlines()[-1]
    for figure in ("accuracy", "dense_accuracy"):
        assert f"{results[figure]:.2%}" in last
    size = (folder / "model.tflite").stat().st_size
    assert f"{size:,} bytes" in last
    assert "1,004 of 50,200 connections kept (50.0x)" in last
    assert "Kept / all" in output and "dense_1" in output
    assert results["flags"]["seed"] == 0
    assert results["flags"]["smoke"] is True
    assert set(results["versions"]) >= {"keras", keras.backend.backend(), "scl_keras"}
    assert results["summary"]["kept"] == 1004


def test_the_models_written_are_those_that_were_measured(smoke):
    folder, _ = smoke
    results = json.loads((folder / "results.json").read_text())
    data = load_dataset("digits")
    x, y = data.x_test[:512], data.y_test[:512]
    figures = {"dense": "dense_accuracy", "scl": "accuracy", "stripped": "accuracy"}
    for name, figure in figures.items():
        model = keras.models.load_model(folder / f"{name}.keras")
        found = np.argmax(model.predict(x, verbose=0), axis=-1)
        assert np.mean(found == y) == pytest.approx(results[figure])


@pytest.mark.slow
def test_the_same_seed_makes_the_same_masks_and_another_does_not(smoke, tmp_path):
    folder, _ = smoke
    masks = [_masks(folder)]
    for seed in (0, 1):
        out = tmp_path / str(seed)
        run("train_scl", "--smoke", "--noexport", f"--seed={seed}", f"--out={out}")
        masks.append(_masks(out))
    for first, again in zip(masks[0], masks[1], strict=True):
        np.testing.assert_array_equal(first, again)
    assert not np.array_equal(masks[0][0] > 0, masks[2][0] > 0)


def _masks(folder):
    model = keras.models.load_model(folder / "scl.keras")
    return [mask.variable.numpy() for mask in find_masks(model)]


@pytest.mark.slow
def test_train_dense_writes_a_model(tmp_path):
    result = run("train_dense", "--smoke", "--out=o", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert keras.models.load_model(tmp_path / "o" / "dense.keras").built


@pytest.mark.slow
@pytest.mark.parametrize("method", ["switcher", "magnitude"])
def test_train_switcher_writes_what_it_says(method, tmp_path):
    flags = ["--smoke", "--noexport", "--start=scratch", f"--method={method}"]
    result = run("train_switcher", *flags, "--out=o", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    results = json.loads((tmp_path / "o" / "results.json").read_text())
    last = result.stdout.strip().splitlines()[-1]
    assert "2,510 of 50,200 connections kept (20.0x)" in last
    assert f"{results['accuracy']:.2%}" in last
    assert results["masked"]["kept"] == 2510
    assert (tmp_path / "o" / "training.png").exists()
    for name in ("sparse", "stripped"):
        model = keras.models.load_model(tmp_path / "o" / f"{name}.keras")
        kept = sum(int(np.sum(w != 0)) for w in model.get_weights() if w.ndim == 2)
        assert name == "sparse" or kept <= 2510


@pytest.mark.slow
def test_a_sweep_compares_and_does_not_repeat_what_is_there(tmp_path):
    arguments = ["--vary=ste=softplus", "--seeds=0,1", "--out=s", "--"]
    arguments += ["--smoke", "--noexport", "--dataset=digits"]
    first = run("sweep", *arguments, cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    results = sorted(tmp_path.glob("s/*.json"))
    assert len(results) == 2
    times = [path.stat().st_mtime_ns for path in results]
    results[0].unlink()
    again = run("sweep", *arguments, cwd=tmp_path)
    assert [p.stat().st_mtime_ns for p in results[1:]] == times[1:]
    assert results[0].exists()
    table = first.stdout.strip().splitlines()
    assert table == again.stdout.strip().splitlines()
    assert (tmp_path / "s" / "sweep.png").exists()
    accuracies = [
        json.loads(path.read_text())["accuracy"]
        for path in results
        if "softplus" in path.name
    ]
    row = next(line for line in table if line.startswith("| softplus | 2 "))
    assert f"{np.mean(accuracies):.2%} ± {100 * np.std(accuracies, ddof=1):.2f}" in row


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("train_scl", ["--dataset=mnist", "--data_dir=nowhere"], "download"),
        ("sweep", ["--vary=ste"], "--vary"),
        *(
            pytest.param(*mistake, marks=pytest.mark.slow)
            for mistake in [
                ("train_scl", ["--compression=0.5"], "compression"),
                ("train_scl", ["one"], "Unexpected"),
                ("sweep", ["--", "--nothing"], "nothing"),
            ]
        ),
    ],
)
def test_mistakes_end_in_one_line_and_no_traceback(name, arguments, words, tmp_path):
    result = run(name, *arguments, "--smoke" if name != "sweep" else "--", cwd=tmp_path)
    assert result.returncode != 0
    assert words in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.slow
def test_the_benchmark_of_exports_writes_what_it_prints(tmp_path):
    arguments = ["--smoke", "--case=lenet_300_100", "--out=o"]
    result = run("benchmarks/export", *arguments, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    out = tmp_path / "o"
    row = json.loads((out / "benchmark_export.json").read_text())["cases"][
        "lenet_300_100"
    ]
    assert row["bytes"] == (out / "lenet_300_100.tflite").stat().st_size
    assert row["TFMOT's bytes"] > row["bytes"]
    [line] = [x for x in result.stdout.splitlines() if x.startswith("| lenet_300_100")]
    assert f"| {row['bytes']:,} |" in line
    assert f"| {row['times as fast']:.2f} |" in line
    (model,) = (out / "models").glob("lenet_300_100_*.keras")
    assert model.with_suffix(".json").exists()


@pytest.mark.slow
def test_the_benchmark_times_every_variant(tmp_path):
    arguments = ["--smoke", "--network=lenet_300_100", "--out=b.json"]
    result = run("benchmarks/training", *arguments, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    graph, jit = json.loads((tmp_path / "b.json").read_text())
    for results in (graph, jit):
        names = {"dense", "scl", "scl + target", "scl frozen", "tf_keras", "tfmot"}
        assert set(results["seconds"]) == names
        assert min(results["seconds"].values()) > 0


@pytest.mark.slow
def test_the_benchmark_of_size_measures_every_variant(tmp_path):
    out = tmp_path / "size.json"
    few = ("--variant=dense", "--variant=scl", "--connections=1e4", "--steps=3")
    result = run("benchmarks/size", *few, f"--out={out}")
    assert result.returncode == 0, result.stderr
    figures = json.loads(out.read_text())
    assert [f["variant"] for f in figures] == ["dense", "scl"]
    assert figures[1]["connections"] == figures[0]["connections"] > 9000
    assert min(f[key] for f in figures for key in ("seconds", "bytes_needed")) > 0
    assert result.stdout.count("| tensorflow | ") == len(figures)


@pytest.mark.slow
def test_the_benchmark_of_connectivity_writes_what_it_prints(tmp_path):
    out = tmp_path / "figures.json"
    result = run("benchmarks/connectivity", "--smoke", "--turns=1", f"--out={out}")
    assert result.returncode == 0, result.stderr
    figures = json.loads(out.read_text())
    (line,) = [x for x in result.stdout.splitlines() if "| MobileNet |" in x]
    found = figures["MobileNet"]
    assert f"{found['connections']:,}" in line
    assert found["effective s"] > 0 and found["graph"] > 0
    (line,) = [x for x in result.stdout.splitlines() if "magnitude, 10x" in x]
    (found,) = figures["pruning"].values()
    assert f"{found['effective']:,}" in line
    assert found["effective"] == found["asked for"]


@pytest.mark.slow
def test_the_benchmark_of_depth_writes_what_it_prints(tmp_path):
    out = tmp_path / "figures.json"
    result = run("benchmarks/depth", "--smoke", f"--out={out}")
    assert result.returncode == 0, result.stderr
    figures = json.loads(out.read_text())
    (line,) = [x for x in result.stdout.splitlines() if x.startswith("| 4 |")]
    assert line.endswith(f"{1000 * figures['4']['compact'] / 4:.2f} |")


@pytest.mark.slow
def test_effective_sparsity_prunes_trains_and_draws(tmp_path):
    arguments = ["--smoke", "--accuracy", "--compressions=10", "--out=o"]
    result = run("benchmarks/effective_sparsity", *arguments, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert len(list(tmp_path.glob("o/results/*.json"))) == 7 + 8
    assert {p.name for p in tmp_path.glob("o/*.png")} == {
        "effective.png",
        "accuracy.png",
    }
    assert "| lenet_300_100, SynFlow | 10x |" in result.stdout
    assert "| lenet_300_100, SCL | " in result.stdout
