"""Networks that others have trained, from packages on PyPI, to files for a phone.

    python -m pytest -m slow -s tests/pipeline/test_foreign_models.py

Prints how good each is before and after, how small, and how fast.
"""

import faces
import keras
import numpy as np
import pytest
import thai
from ai_edge_litert.interpreter import Interpreter

from scl_keras import compress

pytestmark = pytest.mark.slow
MAX_DROP = 0.01


@pytest.fixture(scope="module")
def face_files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("faces")
    faces.fetch(folder)
    return folder


@pytest.fixture(scope="module")
def thai_files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("thai")
    thai.fetch(folder)
    return folder


def run(path, inputs, threads, batch):
    """A file's outputs in the order of the model's, by an app's own means.

    Args:
        path: Of the file.
        inputs: Arrays by the names of the model's inputs.
        threads: How many the runtime has.
        batch: Samples at once.
    """
    call = Interpreter(str(path), num_threads=threads).get_signature_runner()
    count = len(next(iter(inputs.values())))
    found = [
        call(**{name: array[i : i + batch] for name, array in inputs.items()})
        for i in range(0, count, batch)
    ]
    return [np.concatenate([f[name] for f in found]) for name in sorted(found[0])]


def check(result, model, inputs, accuracy_of, path):
    """Whether the file keeps to the bound, is smaller, and right however it is run.

    Args:
        result: What `compress` gave.
        model: The dense model.
        inputs: All validation inputs, in the order of the model's.
        accuracy_of: Function of the outputs, gives the share that is right.
        path: Of the file.
    """
    named = {one.name: x for one, x in zip(result.model.inputs, inputs, strict=True)}
    outputs = {
        (threads, batch): run(path, named, threads, batch)
        for threads, batch in ((1, 1), (1, 32), (4, 1), (4, 32))
    }
    first = outputs[1, 1]
    for others in outputs.values():
        for one, other in zip(first, others, strict=True):
            np.testing.assert_allclose(other, one, atol=1e-3 * np.abs(one).max())
    after = accuracy_of(first)
    assert result.met
    assert after >= 1 - MAX_DROP  # the labels are what the dense model answers
    size, weights = path.stat().st_size, 4 * model.count_params()
    assert size < weights / 2
    assert result.connections.compression > 3
    print(
        f"\n{path.parent.name}: {after:.2%} of "
        f"{len(inputs[0]):,} labels, {result.export.bytes_dense:,} -> {size:,} bytes, "
        f"{result.export.candidate}, {result.export.latency.speed}\n{result}"
    )


@pytest.mark.parametrize(
    ("name", "copies", "epochs"), [("rnet", 20, 12), ("onet", 10, 10)]
)
def test_faces(face_files, tmp_path, name, copies, epochs):
    rng, size = np.random.default_rng(0), faces.SIZES[name]
    model = faces.network(face_files, name)
    grey, is_face = faces.pictures(face_files)
    answers = model.predict(faces.as_inputs(grey, size), verbose=0)[-1].argmax(axis=1)
    assert np.mean(answers == is_face) > 0.97

    def data(pictures, copies):
        x = faces.variants(grey[pictures], size, copies, rng)
        *places, shares = model.predict(x, verbose=0)
        return x, [*places, shares.argmax(axis=1)]

    order = rng.permutation(len(grey))  # no picture is on both sides
    training, validation = data(order[:140], copies), data(order[140:], copies // 2)
    places = len(model.outputs) - 1
    model.compile(
        keras.optimizers.Adam(1e-3),
        ["mse"] * places + ["sparse_categorical_crossentropy"],
        metrics=[[]] * places + [["accuracy"]],
    )
    out = tmp_path / name
    result = compress(
        *(model, training, validation),
        max_drop=MAX_DROP,
        epochs=epochs,
        out=out,
        verbose=0,
    )
    x, y = validation
    file = out / "model.tflite"
    check(result, model, [x], lambda found: np.mean(found[-1].argmax(1) == y[-1]), file)


@pytest.mark.filterwarnings("ignore:Argument `input_length` is deprecated")
@pytest.mark.filterwarnings("ignore:Do not pass an `input_shape`")
def test_thai_words(thai_files, tmp_path):
    rng, model = np.random.default_rng(0), thai.network(thai_files)
    sentences = list(thai.sentences(400, rng))

    def data(sentences):
        x = thai.windows(thai_files, ["".join(words) for words in sentences])
        truth = np.concatenate([thai.beginnings(words) for words in sentences])
        y = model.predict(x, verbose=0)[:, 0] > 0.5
        return x, y.astype("int64"), truth

    (x, y, truth), (x_new, y_new, _) = data(sentences[:340]), data(sentences[340:])
    # It splits some compounds that the grammar takes for one word.
    assert np.mean(y == truth) > 0.92 > 0.85 > 1 - np.mean(truth)
    known = {row.tobytes() for row in x[0]}
    is_new = np.array([row.tobytes() not in known for row in x_new[0]])
    x_new, y_new = [a[is_new] for a in x_new], y_new[is_new]
    out = tmp_path / "deepcut"
    result = compress(
        *(model, (x, y), (x_new, y_new)),
        max_drop=MAX_DROP,
        epochs=8,
        out=out,
        verbose=0,
    )
    file = out / "model.tflite"
    check(result, model, x_new, lambda a: np.mean((a[0][:, 0] > 0.5) == y_new), file)
