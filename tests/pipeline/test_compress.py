"""One call from a trained model to the file."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from scl_keras import SCLModel, backend, compress, find_masks
from scl_keras.datasets import load_dataset
from scl_keras.export.meter import FileMeter
from scl_keras.pipeline.data import Data
from scl_keras.pipeline.dense import check_is_trained
from scl_keras.pipeline.goal import Goal
from scl_keras.pipeline.progress import Progress
from scl_keras.pipeline.training import default_epochs

EPOCHS = 8


@pytest.fixture(scope="module")
def digits():
    data = load_dataset("digits")
    return (data.x_train, data.y_train), (data.x_test, data.y_test)


def dense(shape=(8, 8, 1), activation="softmax"):
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input(shape),
            layers.Flatten(),
            layers.Dense(48, activation="relu"),
            layers.Dense(10, activation=activation),
        ],
        name="small",
    )


@pytest.fixture(scope="module")
def model(digits):
    model = dense()
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(*digits[0], epochs=12, verbose=0)
    return model


def run(path, x):
    """The classes that a file gives, sample by sample."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path))
    interpreter.allocate_tensors()
    given, found = interpreter.get_input_details()[0], interpreter.get_output_details()
    classes = []
    for sample in x:
        interpreter.set_tensor(given["index"], sample[None].astype(given["dtype"]))
        interpreter.invoke()
        classes.append(interpreter.get_tensor(found[0]["index"])[0].argmax())
    return np.array(classes)


def test_from_a_model_to_the_file(model, digits, tmp_path):
    before, trainable = model.get_weights(), [x.trainable for x in model.layers]
    accuracy = model.evaluate(*digits[1], verbose=0)[1]
    out = tmp_path / "small"
    result = compress(model, *digits, max_drop=0.03, epochs=EPOCHS, out=out, verbose=0)
    assert result.met and result.drop <= 0.03
    assert result.before["accuracy"] == pytest.approx(accuracy)
    assert result.connections.compression > 2
    x, y = digits[1]
    found = np.mean(run(out / "model.tflite", x) == y)
    assert found >= accuracy - 0.03 - 1e-6
    assert result.export.bytes_written == (out / "model.tflite").stat().st_size
    assert result.export.bytes_written < result.export.bytes_dense
    loaded = keras.models.load_model(out / "model.keras")
    assert type(loaded) is keras.Sequential
    assert loaded.evaluate(x, y, verbose=0)[1] == pytest.approx(
        result.after["accuracy"]
    )
    for name in ("model.keras", "compact.keras"):
        answers = keras.models.load_model(out / name).predict(x, verbose=0)
        expected = result.model.predict(x, verbose=0)
        np.testing.assert_allclose(answers, expected, atol=1e-5)
    report = json.loads((out / "report.json").read_text())
    assert report["drop"] == pytest.approx(result.drop)
    assert "connections" in (out / "report.txt").read_text()
    assert (out / "report.png").stat().st_size > 5000
    # The model is as it was.
    assert [x.trainable for x in model.layers] == trainable
    assert type(model) is keras.Sequential
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize("distill", [True, False])
def test_a_sparsity(model, digits, distill):
    result = compress(
        model, *digits, sparsity=0.8, epochs=4, distill=distill, verbose=0
    )
    table = result.connections
    assert table.kept == round(0.2 * table.connections)
    kernels = [w for w in result.model.get_weights() if w.ndim == 2]
    assert sum(np.count_nonzero(k) for k in kernels) == table.kept
    assert not find_masks_of(result.model)
    assert result.export is None and result.looks == ()
    assert result.after["accuracy"] > 0.8


def find_masks_of(model):
    try:
        return find_masks(model)
    except ValueError:
        return []


class Batches(keras.utils.PyDataset):
    """Batches of 32."""

    def __init__(self, x, y):
        super().__init__()
        self.x, self.y = x, y

    def __len__(self):
        return -(-len(self.x) // 32)

    def __getitem__(self, index):
        part = slice(index * 32, index * 32 + 32)
        return self.x[part], self.y[part]


KINDS = {
    "arrays": lambda x, y: (x, y),
    "with weights": lambda x, y: (x, y, np.ones(len(x))),
    "tf.data": lambda x, y: tf.data.Dataset.from_tensor_slices((x, y)).batch(32),
    "of open length": lambda x, y: (
        tf.data.Dataset.from_tensor_slices((x, y)).batch(32).filter(lambda a, b: True)
    ),
    "PyDataset": Batches,
}


@pytest.mark.filterwarnings("ignore:Your input ran out of data")  # of open length
@pytest.mark.parametrize("kind", list(KINDS))
def test_data_of_every_kind(model, digits, kind):
    training, validation = (KINDS[kind](*pair) for pair in digits)
    result = compress(model, training, validation, compression=5, epochs=3, verbose=0)
    assert result.connections.compression == pytest.approx(5, rel=1e-2)
    assert result.after["accuracy"] > 0.8


def test_what_pytorch_loads(model, digits):
    torch = pytest.importorskip("torch")
    x, y = map(torch.from_numpy, digits[0])
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), 32)
    result = compress(model, loader, digits[1], compression=5, epochs=3, verbose=0)
    assert result.connections.compression == pytest.approx(5, rel=1e-2)


def press_ctrl_c(monkeypatch, epochs):
    """Has a training interrupted after so many epochs, and ten steps."""

    def press(progress, batch, logs=None):
        if progress.model.optimizer.iterations == epochs * progress.steps + 10:
            raise KeyboardInterrupt

    monkeypatch.setattr(Progress, "on_train_batch_end", press)


def test_an_interruption_keeps_the_best(model, digits, monkeypatch):
    press_ctrl_c(monkeypatch, 5)
    with pytest.warns(UserWarning, match="interrupted"):
        result = compress(model, *digits, max_drop=0.2, epochs=EPOCHS)
    assert result.met and result.drop <= 0.2
    assert result.connections.compression > 1.5


@pytest.mark.parametrize(("epochs", "met"), [(1, False), (2, True)])
def test_an_interruption_tells_whether_the_sparsity_is_there(
    model, digits, monkeypatch, epochs, met
):
    press_ctrl_c(monkeypatch, epochs)
    with pytest.warns(UserWarning, match="interrupted"):
        result = compress(model, *digits, sparsity=0.9, epochs=3, verbose=0)
    assert result.met is met
    assert (result.connections.sparsity > 0.89) is met
    assert "was interrupted" in str(result)


def test_an_interrupted_training_goes_on_where_it_was(
    model, digits, monkeypatch, tmp_path
):
    monkeypatch.setattr(backend, "can_export", lambda: False)  # nor takes time to
    asked = {"sparsity": 0.9, "epochs": 3, "out": tmp_path, "verbose": 0}
    with monkeypatch.context() as patch:
        press_ctrl_c(patch, 2)
        with pytest.warns(UserWarning, match="goes on where it was"):
            compress(model, *digits, **asked)
    assert "goes on where it was" in (tmp_path / "report.txt").read_text()
    begun, show = [], Progress._show

    def told(bar, what, done, until_export):
        begun.append(done / bar.steps)
        show(bar, what, done, until_export)

    monkeypatch.setattr(Progress, "_show", told)
    result = compress(model, *digits, **asked)
    assert begun == [2] and result.met
    assert "was interrupted" not in (tmp_path / "report.txt").read_text()
    assert not (tmp_path / "training").exists()


def test_an_interruption_while_the_file_is_made_leaves_no_report(
    model, digits, monkeypatch, tmp_path
):
    def press(*arguments):
        raise KeyboardInterrupt

    asked = {"sparsity": 0.9, "epochs": 2, "out": tmp_path, "verbose": 0}
    for name in ("report.txt", "report.json", "report.png", "model.tflite"):
        (tmp_path / name).write_text("of another training")
    with monkeypatch.context() as patch:
        patch.setattr("scl_keras.pipeline.writing.export", press)
        with pytest.raises(KeyboardInterrupt):
            compress(model, *digits, **asked)
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"model.keras", "compact.keras", "training"}


def test_a_regression_by_its_loss(rng):
    x = rng.normal(size=(256, 12)).astype("float32")
    y = (x[:, :3] @ rng.normal(size=(3, 2))).astype("float32")
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((12,)), layers.Dense(32, activation="relu"), layers.Dense(2)]
    )
    model.compile(keras.optimizers.Adam(0.01), "mse")
    model.fit(x, y, epochs=30, verbose=0)
    result = compress(model, (x, y), (x, y), max_drop=0.05, epochs=15, verbose=0)
    assert result.monitor == "val_loss" and not result.larger_is_better
    assert result.met and result.drop <= 0.05
    assert result.connections.compression > 1.5


def own_loss(true, predicted):
    return keras.losses.sparse_categorical_crossentropy(true, predicted)


def own_metric(true, predicted):
    return keras.metrics.sparse_categorical_accuracy(true, predicted)


def test_a_loss_and_a_metric_of_ones_own(model, digits):
    mine = dense()
    mine.set_weights(model.get_weights())
    mine.compile("adam", own_loss, metrics=[own_metric])
    options = {"monitor": "val_own_metric", "mode": "max", "epochs": 4, "verbose": 0}
    with pytest.raises(ValueError, match="Register those of your own"):
        compress(mine, *digits, max_drop=0.2, **options)
    with keras.saving.CustomObjectScope({"own_metric": own_metric}):
        result = compress(mine, *digits, max_drop=0.2, **options)
    assert result.met and result.drop <= 0.2


def test_out_of_reach(model, digits):
    with pytest.warns(UserWarning, match="no sparse network within the bound"):
        result = compress(
            model, *digits, max_drop=1e-6, epochs=3, learning_rate=1.0, verbose=0
        )
    assert not result.met
    assert result.connections.compression == 1
    assert "out of reach" in str(result)


def test_bad_calls(model, digits):
    training, validation = digits
    with pytest.raises(ValueError, match="Say one thing that is wanted"):
        compress(model, training, validation)
    with pytest.raises(ValueError, match="Say one thing that is wanted"):
        compress(model, training, validation, max_drop=0.1, sparsity=0.5)
    with pytest.raises(ValueError, match="read only once"):
        compress(model, (b for b in [training]), validation, sparsity=0.5)
    with pytest.raises(ValueError, match="must be a pair"):
        compress(model, training, (validation[0],), sparsity=0.5)
    with pytest.raises(ValueError, match="is empty"):
        compress(model, (training[0][:0], training[1][:0]), validation, sparsity=0.5)
    wrong = validation[0][:, :4], validation[1]
    with pytest.raises(ValueError, match="can't be evaluated on `validation_data`"):
        compress(model, training, wrong, sparsity=0.5)
    wrong = training[0][:, :4], training[1]
    with pytest.raises(ValueError, match="can't be evaluated on `train_data`"):
        compress(model, wrong, validation, sparsity=0.5)
    wrong = training[0], training[1][:-5]
    with pytest.raises(ValueError, match="of `train_data` must all .* same number"):
        compress(model, wrong, validation, sparsity=0.5)
    with pytest.raises(ValueError, match="isn't compiled with the metric"):
        compress(model, training, validation, sparsity=0.5, monitor="val_auc")
    with pytest.raises(ValueError, match="has no loss"):
        compress(dense(), training, validation, sparsity=0.5)
    new = dense()
    new.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    new.layers[-1].kernel.assign(np.zeros((48, 10)))
    with pytest.raises(ValueError, match="doesn't look trained"):
        compress(new, training, validation, sparsity=0.5)


def test_a_model_that_was_never_trained(model, digits):
    new, labels = dense(), digits[1][1]
    new.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    for accuracy in (0.08, 0.125, 0.256):  # by luck
        with pytest.raises(ValueError, match="doesn't look trained"):
            check_is_trained(new, "val_accuracy", {"accuracy": accuracy}, labels)
        if accuracy > 0.11:  # as far as a trained one had come
            check_is_trained(model, "val_accuracy", {"accuracy": accuracy}, labels)
    new.set_weights(model.get_weights())  # trained, and compiled anew
    check_is_trained(new, "val_accuracy", {"accuracy": 0.9}, labels)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"max_drop": 0.02, "epochs": 2}, "needs an epoch to look"),
        pytest.param(
            {"max_bytes": 500, "epochs": 5}, "can't be of 500", marks=pytest.mark.slow
        ),
    ],
)
def test_a_refused_call_leaves_nothing(model, digits, tmp_path, wrong, words):
    out = tmp_path / "small"
    with pytest.raises(ValueError, match=words):
        compress(model, *digits, **wrong, out=out, verbose=0)
    assert not out.exists()


def test_what_a_killed_call_hadnt_begun_is_no_hindrance(model, digits, tmp_path):
    wrong = {"max_drop": 0.02, "epochs": 2, "out": tmp_path, "verbose": 0}
    (tmp_path / "training").mkdir()
    (tmp_path / "training" / "request.json").write_text('{"goal": "another"}')
    with pytest.raises(ValueError, match="needs an epoch to look"):
        compress(model, *digits, **wrong)


def test_where_no_folder_can_be(model, digits, tmp_path):
    (tmp_path / "file").write_text("a text")
    for out in (tmp_path / "file", tmp_path / "file" / "small"):
        with pytest.raises(ValueError, match=r"`out` must be a folder.*file is a file"):
            compress(model, *digits, sparsity=0.5, out=out, verbose=0)


def test_batches_and_samples_of_nested_data():
    x = {"a": np.arange(10), "b": np.arange(20).reshape(10, 2)}
    data = Data((x, np.arange(10)), 4, "train_data")
    assert data.steps == 3
    assert [len(y) for _, y, _ in data.batches()] == [4, 4, 2]
    inputs, targets = data.first(6)
    np.testing.assert_array_equal(inputs["b"], x["b"][:6])
    np.testing.assert_array_equal(targets, np.arange(6))
    assert len(data.first(99)[1]) == 10


class Endless(keras.utils.PyDataset):
    """One batch, again and again."""

    num_batches = None

    def __getitem__(self, index):
        return np.zeros((4, 2)), np.zeros(4)


@pytest.mark.parametrize("kind", ["tf.data", "PyDataset"])
def test_data_without_an_end(kind):
    x, y = np.zeros((8, 2)), np.zeros(8)
    finite = tf.data.Dataset.from_tensor_slices((x, y)).batch(4)
    data = finite.repeat() if kind == "tf.data" else Endless()
    with pytest.raises(ValueError, match="`train_data` repeats forever"):
        Data(data, 4, "train_data")
    assert Data(finite.repeat().take(3), 4, "train_data").steps == 3


def test_as_many_bytes_as_one_likes():
    assert Goal.of(max_bytes=2**40).value == 2**40
    with pytest.raises(ValueError, match="a whole number of bytes >= 1"):
        Goal.of(max_bytes=0)


@pytest.mark.parametrize(
    ("steps", "epochs"), [(1, 100), (10, 100), (50, 30), (100, 15), (5000, 15)]
)
def test_epochs_by_default(steps, epochs):
    assert default_epochs(steps) == epochs


@pytest.mark.slow
def test_a_number_of_bytes(model, digits, tmp_path):
    result = compress(
        model, *digits, max_bytes=4_000, epochs=4, out=tmp_path, verbose=0
    )
    size = (tmp_path / "model.tflite").stat().st_size
    assert 3_700 <= size <= 4_000  # few bytes go by several per cent at a time
    assert result.met and result.as_dict()["goal"]["kind"] == "max_bytes"
    text = (tmp_path / "report.txt").read_text()
    assert "Most bytes: " in text and "Most multiply-accumulates: " in text
    with pytest.raises(ValueError, match="can't be of 900 bytes"):
        compress(model, *digits, max_bytes=900, epochs=4, verbose=0)


@pytest.mark.slow
def test_a_file_that_rounding_makes_worse_is_still_of_so_many_bytes(
    model, digits, tmp_path, monkeypatch
):
    from scl_keras import export

    allowed = []

    def report(sparse, path, max_accuracy_drop=None, **options):
        allowed.append(max_accuracy_drop)
        options |= {"latency_seconds": 0}
        if max_accuracy_drop < 1:
            sparse = keras.models.clone_model(sparse)
            sparse.set_weights(model.get_weights())
        return original(sparse, path, **options)

    original = export.export_tflite
    monkeypatch.setattr(export, "export_tflite", report)
    result = compress(
        model, *digits, max_bytes=5_000, epochs=3, out=tmp_path, verbose=0
    )
    assert allowed == [0.005, 1.0]
    assert result.met and result.export.bytes_written <= 5_000


@pytest.mark.slow
def test_a_speed_by_channels(model, digits, tmp_path, monkeypatch):
    monkeypatch.setattr(FileMeter, "time", lambda meter: units_of(meter._model) / 48)
    result = compress(
        model, *digits, speedup=3.0, epochs=4, out=tmp_path, verbose=0, distill=False
    )
    units = [w.shape for w in result.compact.get_weights() if w.ndim == 2]
    assert units == [(64, 16), (16, 10)] or units[0][1] in range(14, 17)
    assert result.export.candidate == "compact"


def units_of(model):
    """How many of the hidden units have a connection."""
    from scl_keras import compact, stripped

    with stripped(model) as stock:
        return compact(stock).layers[-1].kernel.shape[0]


@pytest.mark.slow
def test_something_else_isnt_what_goes_on(model, digits, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(keras.Model, "evaluate", fail_after(3, keras.Model.evaluate))
        with pytest.raises(MemoryError):
            compress(model, *digits, sparsity=0.8, epochs=3, out=tmp_path, verbose=0)
    with pytest.raises(ValueError, match=r"begun for something else.*Goal"):
        compress(model, *digits, sparsity=0.7, epochs=3, out=tmp_path, verbose=0)
    with pytest.raises(ValueError, match="epochs: 4, not 3"):
        compress(model, *digits, sparsity=0.8, epochs=4, out=tmp_path, verbose=0)
    result = compress(model, *digits, sparsity=0.8, epochs=3, out=tmp_path, verbose=0)
    assert result.connections.sparsity == pytest.approx(0.8, abs=1e-3)
    assert not (tmp_path / "training").exists()
    compress(model, *digits, sparsity=0.7, epochs=3, out=tmp_path, verbose=0)


@pytest.mark.slow
@pytest.mark.parametrize("goal", [{"sparsity": 0.8}, {"max_drop": 0.05}])
def test_an_export_that_fails_doesnt_cost_the_training(
    model, digits, tmp_path, monkeypatch, goal
):
    asked = {**goal, "epochs": 4, "out": tmp_path, "verbose": 0}
    with monkeypatch.context() as patch:
        patch.setattr(keras.Model, "save", fail_after(0, None))
        with pytest.raises(MemoryError):
            compress(model, *digits, **asked)
    trained = []
    with monkeypatch.context() as patch:
        step = SCLModel.train_step
        patch.setattr(SCLModel, "train_step", lambda *a: trained.append(a) or step(*a))
        result = compress(model, *digits, **asked)
    assert not trained
    assert result.met and result.connections.compression > 1.5
    assert (tmp_path / "model.tflite").exists()
    assert not (tmp_path / "training").exists()


def fail_after(count, function):
    """A function that is called so often, and then is out of memory."""
    calls = []

    def failing(*arguments, **options):
        calls.append(arguments)
        if len(calls) > count:
            raise MemoryError
        return function(*arguments, **options)

    return failing
