"""What the commands do: each against the function, or the file, that it stands for."""

import inspect
import json

import keras
import numpy as np
import pytest
from keras import layers

import scl_keras
from scl_keras import backend
from scl_keras.command_line import compress as compress_command
from scl_keras.command_line.main import main
from scl_keras.datasets import load_dataset
from scl_keras.export import ExportError
from scl_keras.export.verification import open_interpreter


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A compiled model, `model.keras`, and its data, `data.npz`."""
    folder = tmp_path_factory.mktemp("trained")
    digits = load_dataset("digits")
    keras.utils.set_random_seed(0)
    stack = [layers.Flatten(), layers.Dense(24, "relu"), layers.Dense(10, "softmax")]
    model = keras.Sequential([keras.Input((8, 8, 1)), *stack])
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(digits.x_train, digits.y_train, epochs=8, verbose=0)
    model.save(folder / "model.keras")
    arrays = {"x_train": digits.x_train, "y_train": digits.y_train}
    arrays |= {"x_val": digits.x_test, "y_val": digits.y_test}
    np.savez(folder / "data.npz", **arrays)
    return folder


@pytest.fixture
def given(folder, tmp_path, monkeypatch):
    """Runs a command in a folder with the model and its data; returns what it says."""
    for name in ("model.keras", "data.npz"):
        (tmp_path / name).symlink_to(folder / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(capsys, *arguments, code=0):
    capsys.readouterr()
    assert main([*arguments, "--json"]) == code
    found = capsys.readouterr()
    return json.loads(found.out) if code < 2 else found.err


def kernels(model):
    return [w for w in model.get_weights() if w.ndim == 2]


def test_prune_is_the_function(given, capsys):
    found = run(capsys, "prune", "model.keras", "--out=p.keras", "--sparsity=0.8")
    assert found["out"] == "p.keras" and found["masked"] is True
    expected = scl_keras.prune(
        keras.saving.load_model("model.keras"), sparsity=0.8, verbose=0
    )
    pruned = keras.saving.load_model("p.keras")
    for a, b in zip(
        scl_keras.find_masks(pruned), scl_keras.find_masks(expected), strict=True
    ):
        np.testing.assert_array_equal(a.values(), b.values())
    assert found["connections"]["kept"] == round(0.2 * (64 * 24 + 240))
    # Trained on, it stays as sparse.
    data = np.load("data.npz")
    pruned.fit(data["x_train"], data["y_train"], verbose=0)
    assert scl_keras.summary(pruned, print_fn=None).kept == found["connections"]["kept"]


def test_prune_to_a_stock_model(given, capsys):
    arguments = ("--out=p.keras", "--compression=4", "--method=magnitude", "--strip")
    found = run(capsys, "prune", "model.keras", *arguments)
    assert found["masked"] is False and found["method"] == "magnitude"
    pruned = keras.saving.load_model("p.keras")
    assert type(pruned) is keras.Sequential and not hasattr(pruned.layers[1], "masks")
    weights = np.concatenate([np.abs(k).ravel() for k in kernels(pruned)])
    dense = kernels(keras.saving.load_model("model.keras"))
    order = np.sort(np.concatenate([np.abs(k).ravel() for k in dense]))[::-1]
    count = round(len(order) / 4)
    assert np.count_nonzero(weights) == count
    np.testing.assert_allclose(np.sort(weights)[::-1][:count], order[:count])


def test_prune_with_data_and_all_that_can_be_said(given, capsys):
    common = ["model.keras", "--out=p.keras", "--sparsity=0.5"]
    snip = [*common, "--method=snip", "--data=data.npz", "--steps=1", "--effective"]
    found = run(capsys, "prune", *snip)["connections"]
    assert found["effective"] == found["kept"] == round((64 * 24 + 240) / 2)
    found = run(capsys, "prune", *common, "--quotas=uniform", "--layers", "dense_1")
    by_layer = {row["layer"]: row["sparsity"] for row in found["connections"]["rows"]}
    assert sorted(by_layer.values()) == pytest.approx([0, 0.5])
    found = run(capsys, "prune", *common[:2], "--granularity=2:4")["connections"]
    assert found["sparsity"] == 0.5


def test_prune_leaves_nothing_after_an_error(given, capsys):
    (given / "p.keras").write_text("before")
    out = "--out=p.keras"
    for wrong, words in (
        (["--sparsity=1.5"], "`sparsity` must be"),
        ([], "sparsity"),
        (["--sparsity=0.5", "--method=snip"], "data"),
        (["--sparsity=0.5", "--method=snip", "--data=none.npz"], "none.npz"),
        (["--sparsity=0.5", "--layers", "nobody"], "nobody"),
    ):
        error = run(capsys, "prune", "model.keras", out, *wrong, code=2)
        assert words in error
    assert (given / "p.keras").read_text() == "before"
    error = run(capsys, "prune", "none.keras", "--out=a.h5", "--sparsity=.5", code=2)
    assert "--out must end in '.keras'" in error  # told before the model is read
    assert sorted(p.name for p in given.iterdir()) == [
        "data.npz",
        "model.keras",
        "p.keras",
    ]


def answers(path, x):
    runner = open_interpreter(path.read_bytes()).get_signature_runner()
    [name] = runner.get_input_details()
    [output] = runner(**{name: x}).values()
    return output


FAST = ("--latency_seconds=0", "--samples=40")


@pytest.mark.slow
def test_export_and_verify(given, capsys):
    out = ["--out=m.tflite", "--data=data.npz", *FAST]
    found = run(capsys, "export", "model.keras", *out)
    assert found["path"] == "m.tflite" and found["random_samples"] is False
    assert found["bytes_written"] == (given / "m.tflite").stat().st_size
    model, x = keras.saving.load_model("model.keras"), np.load("data.npz")["x_val"][:40]
    expected = np.asarray(model(x))
    np.testing.assert_allclose(answers(given / "m.tflite", x), expected, atol=1e-5)
    labels = np.load("data.npz")["y_val"][:40]
    accuracy = np.mean(expected.argmax(-1) == labels)
    assert found["accuracy"] == pytest.approx(accuracy)

    verify = ["m.tflite", "--model=model.keras", "--data=data.npz", "--samples=40"]
    found = run(capsys, "verify", *verify)
    assert found["correct"] is True and found["problems"] == []
    assert found["accuracy"] == found["file_accuracy"] == pytest.approx(accuracy)
    model.layers[-1].bias.assign_add(np.arange(10.0))
    model.save("other.keras")
    other = ["m.tflite", "--model=other.keras", "--data=data.npz", "--samples=40"]
    found = run(capsys, "verify", *other, code=1)
    assert found["correct"] is False and found["problems"]
    distance = np.abs(np.asarray(model(x)) - expected).max()
    assert found["largest_difference"] >= distance - 1e-4
    assert run(capsys, "verify", *other, "--tolerance=1")["correct"] is True
    main(["verify", *verify])
    assert "It computes what the model computes" in capsys.readouterr().out


@pytest.mark.slow
def test_export_without_data(given, capsys):
    found = run(capsys, "export", "model.keras", "--out=m.tflite", *FAST)
    assert found["random_samples"] is True and found["accuracy"] is None
    (given / "m.tflite").unlink()
    arguments = ["model.keras", "--out=m.tflite", "--dtype=int8"]
    assert "give --data" in run(capsys, "export", *arguments, code=2)
    wrong = ["model.keras", "--out=m.bin"]
    assert "must end in '.tflite'" in run(capsys, "export", *wrong, code=2)
    np.savez("wrong.npz", x=np.zeros((4, 3)))
    wrong = ["model.keras", "--out=m.tflite", "--data=wrong.npz"]
    assert "must have the shape" in run(capsys, "export", *wrong, code=2)
    assert not (given / "m.tflite").exists()


@pytest.mark.slow
def test_export_of_what_no_file_computes(given, capsys):
    arguments = ["--out=m.tflite", "--tolerance=1e-30", *FAST]
    found = run(capsys, "export", "model.keras", *arguments, code=1)
    assert found["path"] is None and "No TFLite file" in found["problem"]
    assert not (given / "m.tflite").exists()


def test_verify_refuses_what_can_not_be_compared(given, capsys):
    options = ["--model=model.keras", "--data=data.npz"]
    (given / "text.tflite").write_text("a text, and no file")
    assert "no TFLite file" in run(capsys, "verify", "text.tflite", *options, code=2)
    error = run(capsys, "verify", "none.tflite", *options, code=2)
    assert "FileNotFoundError" in error
    wrong = ["text.tflite", *options, "--inputs", "a"]
    assert "name_in_the_file=" in run(capsys, "verify", *wrong, code=2)


def test_on_other_backends(given, capsys, monkeypatch):
    monkeypatch.setattr(backend, "_NAME", "jax")
    monkeypatch.setattr(backend, "can_export", lambda: False)
    for arguments in (
        ["export", "model.keras", "--out=m.tflite"],
        ["verify", "m.tflite", "--model=model.keras", "--data=data.npz"],
    ):
        error = run(capsys, *arguments, code=2)
        assert "KERAS_BACKEND=tensorflow python -m scl_keras export" in error


COMPRESS = ("model.keras", "--data=data.npz", "--out=small", "--epochs=3")


@pytest.mark.slow
def test_compress(given, capsys):
    found = run(capsys, "compress", *COMPRESS, "--compression=6")
    assert found["out"] == "small" and found["met"] is True
    assert found["connections"]["compression"] == pytest.approx(6, rel=0.01)
    written = json.loads((given / "small" / "report.json").read_text())
    assert {"out": "small", **written} == found
    size = (given / "small" / "model.tflite").stat().st_size
    assert found["export"]["bytes_written"] == size
    stripped = ["small/model.tflite", "--model=small/model.keras", "--data=data.npz"]
    assert main(["verify", *stripped, "--samples=40"]) == 0


def test_compress_beyond_the_bound(given, capsys, monkeypatch):
    """Whatever the training does, the code says that the bound wasn't met."""

    class Result:
        met = False

        def as_dict(self):
            return {"met": False, "drop": float("inf")}

    taken = {}
    known = set(inspect.signature(scl_keras.compress).parameters)

    def compress(model, training, validation, **options):
        taken.update(options)
        print("a report")
        return Result()

    monkeypatch.setattr("scl_keras.pipeline.compress", compress)
    assert main(["compress", *COMPRESS, "--max_drop=0.1"]) == 1
    assert capsys.readouterr().out == "a report\n"
    found = run(capsys, "compress", *COMPRESS, "--max_drop=0.1", code=1)
    assert found == {"out": "small", "met": False, "drop": None}
    assert taken["max_drop"] == 0.1 and taken["sparsity"] is None
    assert taken["epochs"] == 3 and taken["out"] == "small"
    assert not set(taken) & set(compress_command.OWN)
    assert set(taken) <= known
    assert taken["distill"] is True and taken["granularity"] is None
    for text, granularity in (("2:4", scl_keras.masks.NM(2, 4)), ("channel",) * 2):
        more = ["--max_drop=0.1", "--nodistill", f"--granularity={text}"]
        assert main(["compress", *COMPRESS, *more]) == 1
        assert taken["distill"] is False and taken["granularity"] == granularity


def test_compress_that_finds_no_right_file(given, capsys, monkeypatch):
    def compress(*arguments, **options):
        raise failure

    monkeypatch.setattr("scl_keras.pipeline.compress", compress)
    failure = ExportError("No TFLite file is right.")
    found = run(capsys, "compress", *COMPRESS, "--max_drop=0.1", code=1)
    assert found["problem"] == "No TFLite file is right." and found["met"] is False
    failure = RuntimeError("something else")
    error = run(capsys, "compress", *COMPRESS, "--max_drop=0.1", code=3)
    assert "Traceback" in error and "something else" in error


def test_compress_with_bad_input(given, capsys):
    arguments = ["compress", "model.keras", "--data=none.npz", "--out=small"]
    error = run(capsys, *arguments, "--max_drop=0.1", code=2)
    assert "FileNotFoundError" in error
    error = run(capsys, "compress", *COMPRESS, "--max_drop=-1", code=2)
    assert "max_drop" in error
    assert not (given / "small").exists()
