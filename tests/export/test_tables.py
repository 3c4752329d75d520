"""Tables of embeddings: sparse in the file, in all precisions and runtimes."""

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from export_models import dense_net, samples
from keras import layers

from scl_keras.export import export_tflite

RESOLVERS = (OpResolverType.AUTO, OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES)


def words(zeros=0.94, seed=0):
    """Embeds 1,000 words: 128,000 bytes of float32."""
    rng = np.random.default_rng(seed)
    inputs = keras.Input((None,), dtype="int32")
    embedding = layers.Embedding(1000, 32)
    x = layers.GlobalAveragePooling1D()(embedding(inputs))
    model = keras.Model(inputs, layers.Dense(4)(x))
    table = rng.normal(size=(1000, 32))
    table[rng.random(table.shape) < zeros] = 0
    embedding.embeddings.assign(table)
    return model, rng.integers(0, 1000, (50, 7)).astype("int32")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("dtype", "bytes_at_most", "tolerance"),
    [("float32", 16_500, 1e-6), ("float16", 13_000, 1e-3), ("int8", 11_500, 0.06)],
)
def test_zeros_of_a_table_take_no_bytes(tmp_path, dtype, bytes_at_most, tolerance):
    (model, x), path = words(), tmp_path / "m.tflite"
    report = export_tflite(
        model, path, samples=x, dtype=dtype, optimize_for="size", latency_seconds=0
    )
    assert report.bytes_dense > 128_000
    assert path.stat().st_size < bytes_at_most, report
    # Every word is looked up, by one thread and several, in runtimes of our own.
    every = np.arange(1000, dtype="int32").reshape(-1, 4)
    expected = model.predict(every, verbose=0)
    for resolver in RESOLVERS:
        for threads in (1, 4):
            run = Interpreter(
                str(path), experimental_op_resolver_type=resolver, num_threads=threads
            ).get_signature_runner()
            [name] = run.get_input_details()
            found = run(**{name: every})["output_0"]
            assert np.abs(found - expected).max() < tolerance * np.abs(expected).max()


@pytest.mark.slow
def test_all_precisions_load(tmp_path):
    model, x = words()
    report = export_tflite(
        model, tmp_path / "m.tflite", samples=x, dtype="int8", latency_seconds=0
    )
    found = {a.candidate: a for a in report.attempts}
    for name in ("csr", "float16 csr", "int8 weights csr", "int8 dynamic csr"):
        assert found[name].correct, (name, found[name].outcome)
        assert found[name].bytes < 16_500


@pytest.mark.slow
def test_a_table_without_zeros_stays_as_it_is(tmp_path):
    model, x = words(zeros=0)
    report = export_tflite(model, tmp_path / "m.tflite", samples=x, latency_seconds=0)
    assert report.candidate == "dense"
    assert report.dominant.shape == (1000, 32)
    assert "1000x32, dense: 98% of the file" in str(report)


@pytest.mark.slow
def test_what_dominates_is_named_in_any_case(tmp_path):
    model, x = dense_net(3, hidden=2, outputs=2), samples(3)
    report = export_tflite(model, tmp_path / "m.tflite", samples=x, latency_seconds=0)
    assert report.dominant is None
    assert "no kernel, but operators" in str(report)
