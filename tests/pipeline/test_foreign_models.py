"""Networks that others have trained, from packages on PyPI, to files for a phone.

    python -m pytest -m slow -s tests/pipeline/test_foreign_models.py

Prints how good each is before and after, how small, and how fast.
"""

import time

import faces
import keras
import numpy as np
import pytest
import thai
from ai_edge_litert.interpreter import Interpreter

from scl_keras import compress, export_tflite

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


def runner(path, threads):
    return Interpreter(str(path), num_threads=threads).get_signature_runner()


def run(path, inputs, threads, batch):
    """A file's outputs in the order of the model's, by an app's own means."""
    call = runner(path, threads)
    names = list(call.get_input_details())
    found = [
        call(**{n: a[i : i + batch] for n, a in zip(names, inputs, strict=True)})
        for i in range(0, len(inputs[0]), batch)
    ]
    return [np.concatenate([f[name] for f in found]) for name in sorted(found[0])]


def milliseconds(paths, inputs):
    """The shortest time of one sample, the files in turn, on one thread."""
    calls, best = [runner(path, 1) for path in paths], [np.inf] * len(paths)
    one = [a[:1] for a in inputs]
    for _ in range(200):
        for place, call in enumerate(calls):
            given = dict(zip(call.get_input_details(), one, strict=True))
            start = time.perf_counter()
            call(**given)
            best[place] = min(best[place], 1000 * (time.perf_counter() - start))
    return best


def check(result, model, inputs, accuracy_of, folder):
    """Whether the file keeps to the bound, is smaller, and right however it is run.

    Args:
        result: What `compress` gave.
        model: The dense model.
        inputs: All validation inputs, one after the other.
        accuracy_of: Function of the outputs, gives the share that is right.
        folder: Where the file is.
    """
    path, plain = folder / "model.tflite", folder / "dense.tflite"
    dense = export_tflite(
        model, plain, samples=[a[:64] for a in inputs], latency_seconds=0, verbose=0
    )
    outputs = {
        (threads, batch): run(path, inputs, threads, batch)
        for threads, batch in ((1, 1), (1, 32), (4, 1), (4, 32))
    }
    first = outputs[1, 1]
    for others in outputs.values():
        for one, other in zip(first, others, strict=True):
            np.testing.assert_allclose(other, one, atol=1e-3 * np.abs(one).max())
    before = accuracy_of(run(plain, inputs, 1, 32))
    after = accuracy_of(first)
    assert result.met
    assert after >= before - MAX_DROP
    bytes_before, bytes_after = dense.bytes_written, path.stat().st_size
    assert bytes_after < bytes_before / 2
    assert result.connections.compression > 3
    slow, fast = milliseconds([plain, path], inputs)
    print(
        f"\n{folder.name}: accuracy {before:.2%} -> {after:.2%}, {bytes_before:,} -> "
        f"{bytes_after:,} bytes ({bytes_before / bytes_after:.1f}x), {slow:.3f} -> "
        f"{fast:.3f} ms ({slow / fast:.2f}x)\n{result}"
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
    check(result, model, [x], lambda found: np.mean(found[-1].argmax(1) == y[-1]), out)


@pytest.mark.filterwarnings("ignore:Argument `input_length` is deprecated")
@pytest.mark.filterwarnings("ignore:Do not pass an `input_shape`")
def test_thai_words(thai_files, tmp_path):
    rng, model = np.random.default_rng(0), thai.network(thai_files)
    sentences = list(thai.sentences(230, rng))

    def data(sentences):
        x = thai.windows(thai_files, ["".join(words) for words in sentences])
        truth = np.concatenate([thai.beginnings(words) for words in sentences])
        y = model.predict(x, verbose=0)[:, 0] > 0.5
        return x, y.astype("int64"), truth

    (x, y, truth), (x_new, y_new, _) = data(sentences[:170]), data(sentences[170:])
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
    check(result, model, x_new, lambda a: np.mean((a[0][:, 0] > 0.5) == y_new), out)
