"""What the methods start from, and what they are measured on."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from comparison import study
from comparison.augmentation import Augmented
from comparison.methods import METHODS, usual_for, with_own_step
from comparison.plan import STUDY, TASKS
from comparison.store import Store
from comparison.training import compiled, shares, train

import scl_keras
from scl_keras.datasets import load_dataset
from scl_keras.masks import find_masks

SCRIPT = Path(__file__).parents[2] / "examples" / "benchmarks" / "compare_methods.py"
TASK = dataclasses.replace(
    TASKS["finetuned"]["lenet_300_100"],
    dataset="digits",
    dense_epochs=2,
    epochs=1,
    samples=512,
    jit_compile=False,
)


def run_of(method, task=TASK, compression=5.0, seed=0):
    return study.planned(task, method, compression, seed)


@pytest.mark.slow
def test_all_methods_start_from_the_same_trained_weights(tmp_path):
    """The dense training, and the one after it, against Keras alone."""
    data, store = TASK.load(), Store(tmp_path)
    results = {m: train(run_of(m), data, store) for m in ("trained", "dense", "scl")}
    (path,) = tmp_path.glob("pretrained/*.npz")  # one for all

    def accuracy(model):
        guesses = model.predict(data.x_test, verbose=0).argmax(-1)
        return float(np.mean(guesses == data.y_test))

    keras.utils.set_random_seed(0)
    model = TASK.build(data)
    for epochs, method in ((2, "trained"), (1, "dense")):
        rate = keras.optimizers.schedules.CosineDecay(2e-3, 4 * epochs)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.Adam(rate), loss)
        model.fit(data.x_train, data.y_train, 128, epochs=epochs, verbose=0)
        assert results[method]["accuracy"] == pytest.approx(accuracy(model), abs=0.01)
        if method == "trained":
            with np.load(path) as file:
                seconds, *weights = (file[key] for key in file.files)
            assert float(seconds) == results["dense"]["dense_seconds"]
            for a, b in zip(model.get_weights(), weights, strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
        keras.utils.set_random_seed(0)
    assert results["trained"]["accuracy"] < results["dense"]["accuracy"]
    assert results["scl"]["direct_compression"] == pytest.approx(5, rel=0.01)


@pytest.mark.slow
def test_the_dense_network_teaches_and_stays_as_it_was(tmp_path):
    data, run = TASK.load(), run_of("scl_distilled")
    model = TASK.build(data)
    before = model.get_weights()
    prepared = METHODS[run.method].prepare(model, run, data, 1)
    assert prepared.model.teacher is model
    found = train(run, data, Store(tmp_path))
    assert found["direct_compression"] == pytest.approx(5, rel=0.01)
    compiled(prepared, TASK, 4).fit(
        data.x_train, data.y_train, 128, callbacks=prepared.callbacks, verbose=0
    )
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    student = scl_keras.summary(prepared.finish(prepared.model), print_fn=None)
    assert student.compression == pytest.approx(5, rel=0.01)
    assert not any(find_masks(model))


@pytest.mark.slow
def test_a_longer_fine_tuning_takes_the_same_dense_network(tmp_path):
    data, store = TASK.load(), Store(tmp_path)
    for epochs in (1, 2):
        train(run_of("dense", dataclasses.replace(TASK, epochs=epochs)), data, store)
    assert len(list(tmp_path.glob("pretrained/*.npz"))) == 1
    train(run_of("dense", dataclasses.replace(TASK, dense_epochs=1)), data, store)
    assert len(list(tmp_path.glob("pretrained/*.npz"))) == 2


@pytest.mark.parametrize("method", ["dense", "scl", "tfmot", "lamp", "snip"])
def test_the_dense_epochs_of_a_method_are_only_in_the_budget_from_initial_weights(
    method,
):
    assert shares(run_of(method)) == (2, 1)
    initial = dataclasses.replace(TASK, dense_epochs=0, epochs=6)
    dense, own = shares(run_of(method, initial))
    assert dense + own == 6
    assert (dense > 0) == (method in ("tfmot", "lamp"))


def test_validation_takes_the_last_training_samples_and_no_test_samples():
    whole = load_dataset("digits")
    task = dataclasses.replace(TASK, samples=None).validating()
    data = task.load()
    n = len(whole.x_train) - 237
    np.testing.assert_array_equal(data.x_train, whole.x_train[:n])
    np.testing.assert_array_equal(data.x_test, whole.x_train[n:])
    np.testing.assert_array_equal(data.y_test, whole.y_train[n:])
    fewer = dataclasses.replace(task, samples=100).load()
    np.testing.assert_array_equal(fewer.x_train, whole.x_train[:100])
    np.testing.assert_array_equal(fewer.x_test, data.x_test)
    with pytest.raises(ValueError, match="Received: validation=9999"):
        dataclasses.replace(task, validation=9999).load()


@pytest.mark.slow
def test_validating_runs_report_no_test_accuracy(tmp_path):
    task = TASK.validating()
    result = train(run_of("dense", task), task.load(), Store(tmp_path))
    assert "accuracy" not in result
    assert 0.2 < result["validation_accuracy"] <= 1
    assert result["validation_accuracy"] * 237 == pytest.approx(
        round(result["validation_accuracy"] * 237)
    )
    assert run_of("dense", task).name != run_of("dense").name


def test_augmented_images_are_shifts_of_the_image_or_its_mirror():
    rng = np.random.default_rng(0)
    x = rng.random((50, 6, 7, 2), "float32")
    padded = np.pad(x, [(0, 0), (4, 4), (4, 4), (0, 0)])
    mirrored = np.pad(x[:, :, ::-1], [(0, 0), (4, 4), (4, 4), (0, 0)])
    keras.utils.set_random_seed(0)
    data = Augmented(x, np.arange(50), 20, seed=0)
    batches = [data[i] for i in range(len(data))]
    assert [len(labels) for _, labels in batches] == [20, 20, 10]
    labels = np.concatenate([labels for _, labels in batches])
    assert sorted(labels) == list(range(50))
    assert list(labels) != list(range(50))
    found = set()
    for image, label in zip(
        np.concatenate([images for images, _ in batches]), labels, strict=True
    ):
        ways = {
            (which, i, j)
            for which, source in enumerate((padded, mirrored))
            for i in range(9)
            for j in range(9)
            if np.array_equal(source[label, i : i + 6, j : j + 7], image)
        }
        assert ways
        found |= ways
    assert {way[0] for way in found} == {0, 1}
    assert {way[1] for way in found} == {way[2] for way in found} == set(range(9))


@pytest.mark.slow
def test_the_test_images_are_not_augmented(tmp_path):
    task = dataclasses.replace(TASK, augment=True)
    data = task.load()
    result = train(run_of("trained", task), data, Store(tmp_path))
    (path,) = tmp_path.glob("pretrained/*.npz")
    with np.load(path) as file:
        weights = [file[key] for key in file.files][1:]
    model = task.build(data)
    model.set_weights(weights)
    guesses = model.predict(data.x_test, verbose=0).argmax(-1)
    assert result["accuracy"] == pytest.approx(np.mean(guesses == data.y_test))
    train(run_of("trained"), data, Store(tmp_path))
    assert len(list(tmp_path.glob("pretrained/*.npz"))) == 2


@pytest.mark.slow
def test_a_smoke_run_fine_tunes_and_validates(tmp_path):
    options = ["--smoke", "--validate", "--network=vision_transformer"]
    options += ["--protocol=finetuned", "--protocol=initial", f"--out={tmp_path}"]
    command = [sys.executable, str(SCRIPT), *options]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for protocol in ("finetuned", "initial"):
        folder = tmp_path / "runs" / f"vision_transformer_{protocol}_validation"
        results = [json.loads(path.read_text()) for path in folder.glob("*.json")]
        assert len(results) == len({r["setting"]["method"] for r in results})
        found = {result["setting"]["method"] for result in results}
        usual = usual_for(TASKS[protocol]["vision_transformer"])
        assert found == set(usual) & set(with_own_step())
        assert all("validation_accuracy" in result for result in results)
    assert "fine-tuned" in (tmp_path / "validation.md").read_text()
    assert not (tmp_path / "comparison.md").exists()


@pytest.mark.slow
def test_a_smoke_study_has_all_networks_by_the_protocols_of_the_plan(tmp_path):
    command = [sys.executable, str(SCRIPT), "--study", "--smoke", f"--out={tmp_path}"]
    processes = [  # which share the runs
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        for _ in range(2)
    ]
    for process in processes:
        output, _ = process.communicate()
        assert process.returncode == 0, output.decode()
    results = [json.loads(path.read_text()) for path in tmp_path.glob("runs/*/*.json")]
    found = {
        (r["setting"]["task"]["network"], r["setting"]["task"]["dense_epochs"])
        for r in results
    }
    wanted = {(p.network, int(p.protocol == "finetuned")) for p in STUDY}
    assert found == wanted
    assert {network for network, _ in wanted} == set(TASKS["finetuned"])
    assert {r["setting"]["method"] for r in results} == {"trained", "dense", "scl"}
