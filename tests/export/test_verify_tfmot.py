"""Files that TFMOT's pipeline makes, compared with the model that they are of."""

import warnings

import numpy as np
import pytest
import tensorflow as tf
from export_models import dense_net, samples

from scl_keras.export import verify_tflite
from scl_keras.export.converter import ConvertedFiles
from scl_keras.export.reference import build_reference
from scl_keras.pruning import from_tf_keras

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import tf_keras
    from tensorflow_model_optimization.sparsity import keras as tfmot

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
DEFAULT, SPARSE = tf.lite.Optimize.DEFAULT, tf.lite.Optimize.EXPERIMENTAL_SPARSITY


@pytest.fixture(scope="module")
def pruned():
    """A network of two inputs and two outputs of the same shapes, half of it zeros."""
    inputs = [tf_keras.Input((40,), name=name) for name in ("left", "right")]
    outputs = [
        tf_keras.layers.Dense(80, name=name)(x)
        for name, x in zip(("up", "down"), inputs, strict=True)
    ]
    model = tf_keras.Model(inputs, outputs)
    rng = np.random.default_rng(0)
    weights = [rng.normal(size=w.shape) for w in model.get_weights()]
    model.set_weights([w * (rng.random(w.shape) < 0.5) for w in weights])
    wrapped = tfmot.prune_low_magnitude(model, tfmot.ConstantSparsity(0.5, 0))
    return tfmot.strip_pruning(wrapped)


@pytest.mark.parametrize(
    ("optimizations", "precision"),
    [([], "float32"), ([SPARSE], "float32"), ([DEFAULT], "int8 dynamic")],
)
def test_files_of_tfmot(pruned, optimizations, precision):
    converter = tf.lite.TFLiteConverter.from_keras_model(pruned)
    converter.optimizations = optimizations
    file = converter.convert()
    x = {"right": samples(40, count=8), "left": samples(40, count=8, seed=2)}
    model = from_tf_keras(pruned)
    found = verify_tflite(file, model, x)
    assert found.correct and found.precision == precision
    assert found.outputs == {"up": "output_0", "down": "output_1"}
    turned = {"up": "output_1", "down": "output_0"}
    assert not verify_tflite(file, model, x, outputs=turned).correct


@pytest.mark.slow
@pytest.mark.parametrize(("inputs", "zeros"), [(50, 0.99), (301, 0.98)])
def test_the_converters_wrong_file_is_found(inputs, zeros):
    """Its blocks of four are wrong where four doesn't divide the inputs."""
    model, x = dense_net(inputs, 300, zeros=zeros), samples(inputs)
    with ConvertedFiles(build_reference(model, x)) as files:
        right, wrong = files.plain, files.sparse()
    assert verify_tflite(right, model, x).correct
    found = verify_tflite(wrong, model, x)
    assert not found.correct and "encoded wrong" in found.problems[0]
    assert found.differences == ()  # nothing was run
    assert np.isnan(found.largest_difference)
    assert "does not compute" in str(found)
