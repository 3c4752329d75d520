"""N:M sparse models as TFLite files: the same outputs, and groups that hold there."""

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from keras import layers

from scl_keras import NM, TargetSparsity, prune, sparsify
from scl_keras.export import export_tflite
from scl_keras.export import tflite as tflite_module
from scl_keras.export.candidates import candidates
from scl_keras.export.weights import read_weights

RESOLVERS = (OpResolverType.AUTO, OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES)


def network():
    stack = [
        *(layers.Conv2D(16, 3, activation="relu"), layers.Conv2D(10, 1, strides=2)),
        *(layers.Flatten(), layers.Dense(30, "relu"), layers.Dense(6)),
    ]
    return keras.Sequential([keras.Input((8, 8, 7)), *stack])


def outputs(file, x, resolver):
    interpreter = Interpreter(
        model_content=file, experimental_op_resolver_type=resolver, num_threads=1
    )
    runner = interpreter.get_signature_runner()
    (name,) = runner.get_input_details()
    return runner(**{name: x})["output_0"]


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "int8"])
@pytest.mark.parametrize("how", ["pruned", "learned"])
def test_the_file_computes_the_same_and_its_groups_hold(
    how, dtype, tmp_path, rng, monkeypatch
):
    def whole(dtype):  # compaction moves inputs to other groups
        return [c for c in candidates(dtype) if "compact" not in c.name]

    monkeypatch.setattr(tflite_module, "candidates", whole)
    x = rng.normal(size=(48, 8, 8, 7)).astype("float32")
    if how == "pruned":
        model = prune(network(), granularity=NM(2, 4), verbose=0)
    else:
        model = sparsify(network(), granularity=NM(2, 4), verbose=0)
        model.compile("adam", "mse")
        y, target = x[:, 0, 0, :6], TargetSparsity(0.5)
        model.fit(x, y, 8, 3, verbose=0, callbacks=[target])
    path = tmp_path / "model.tflite"
    report = export_tflite(model, path, samples=x, latency_seconds=0, dtype=dtype)
    expected, file = np.asarray(model(x)), path.read_bytes()
    tolerance = 1e-5 if dtype == "float32" else 0.1
    for resolver in RESOLVERS:
        difference = np.abs(outputs(file, x, resolver) - expected).max()
        assert difference < tolerance * np.abs(expected).max()
    assert report.bytes_written < report.bytes_dense
    kernels = [w for w in read_weights(file) if w.values.size > 1]
    assert len(kernels) == 4
    for weights in kernels:  # inputs come last in files
        features = tuple(range(weights.values.ndim - 1))
        assert NM(2, 4).most_kept(weights.values, features) == 2
