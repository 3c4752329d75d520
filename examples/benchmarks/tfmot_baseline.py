"""TFMOT's pruning as a baseline: it takes only models of the legacy `tf_keras`."""

import inspect
import tempfile

import numpy as np
import tensorflow as tf
import tf_keras
from tensorflow_model_optimization.sparsity import keras as tfmot


def legacy_twin(model):
    """Rebuilds a functional Keras 3 model of stock layers in `tf_keras`, same weights.

    Args:
        model: A functional model whose layers have one output each.

    Returns:
        A `tf_keras.Model`, not compiled.
    """
    config, tensors = model.get_config(), {}

    def tensor_of(spec):
        return tensors[spec["config"]["keras_history"][0]]

    for layer in config["layers"]:
        if layer["class_name"] == "InputLayer":
            shape = layer["config"]["batch_shape"][1:]
            tensors[layer["name"]] = tf_keras.Input(shape, name=layer["name"])
            continue
        twin = _legacy_layer(layer["class_name"], layer["config"])
        (node,) = layer["inbound_nodes"]
        arguments = [
            [tensor_of(i) for i in a] if isinstance(a, (list, tuple)) else tensor_of(a)
            for a in node["args"]
        ]
        tensors[layer["name"]] = twin(*arguments)
    ends = (tensors[config[key][0]] for key in ("input_layers", "output_layers"))
    twin = tf_keras.Model(*ends, name=model.name)
    for source, target in zip(model.layers, twin.layers, strict=True):
        target.set_weights(source.get_weights())
    return twin


def _legacy_layer(class_name, config):
    kind = getattr(tf_keras.layers, class_name)
    known = set(inspect.signature(kind).parameters) | {"name"}
    config = {key: value for key, value in config.items() if key in known}
    kept = {key: v for key, v in config.items() if not key.endswith("_initializer")}
    return kind(**kept)


def prune_low_magnitude(model, steps, sparsity, initial_sparsity=0.0, frequency=100):
    """Wraps a `tf_keras` model as TFMOT documents it: polynomial decay of density.

    Args:
        model: A `tf_keras.Model`.
        steps: Number of steps to reach `sparsity` in: a multiple of `frequency`, or
            it isn't quite reached.
        sparsity: Float in (0, 1), the share of zeros in each kernel.
        initial_sparsity: Float in [0, 1), the sparsity to begin with.
        frequency: Steps between two updates of the masks.

    Returns:
        The wrapped model, not compiled; `fit` wants
        `tfmot.UpdatePruningStep()` among its callbacks.
    """
    schedule = tfmot.PolynomialDecay(
        initial_sparsity, sparsity, begin_step=0, end_step=steps, frequency=frequency
    )
    return tfmot.prune_low_magnitude(model, pruning_schedule=schedule)


def sparse_tflite(model, sparsity, block=(1, 1)):
    """A `tf_keras` model as TFMOT's pipeline writes it: prune, strip, convert.

    Args:
        model: A `tf_keras.Model` with one input and one output.
        sparsity: Float in (0, 1), the share of zeros in each kernel.
        block: Shape of the blocks to prune in the kernels of dense layers.

    Returns:
        The bytes of the converter's TFLite file with `EXPERIMENTAL_SPARSITY`.
    """
    # Zero biases, as new layers have them, would be left out of the file.
    rng = np.random.default_rng(0)
    model.set_weights([rng.normal(size=w.shape) for w in model.get_weights()])
    schedule = tfmot.ConstantSparsity(sparsity, begin_step=0, frequency=1)
    pruned = tfmot.prune_low_magnitude(
        model, pruning_schedule=schedule, block_size=block
    )
    pruned.compile("sgd", "mse")
    x = np.zeros((2, *model.input_shape[1:]), "float32")
    y = np.zeros((2, *model.output_shape[1:]), "float32")
    pruned.fit(x, y, callbacks=[tfmot.UpdatePruningStep()], verbose=0)
    stripped = tfmot.strip_pruning(pruned)
    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(stripped, folder)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        converter.optimizations = [tf.lite.Optimize.EXPERIMENTAL_SPARSITY]
        return converter.convert()
