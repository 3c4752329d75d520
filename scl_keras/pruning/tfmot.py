"""Models that TFMOT pruned, which are models of the legacy `tf_keras`."""

import inspect
from typing import Any

import keras
import numpy as np

from scl_keras.conversion.sparsify import sparsify
from scl_keras.graph.kernels import prunable_kernels
from scl_keras.training.model import SCLModel


def from_tf_keras(model: Any) -> SCLModel:
    """Makes a Keras 3 model of a `tf_keras` model: same weights, outputs and names.

    Connections with a weight of zero are cut, and the masks fixed: a model pruned by
    TFMOT and stripped by `tfmot.sparsity.keras.strip_pruning` can be trained on,
    summarized and exported as any `SCLModel`. That its outputs are the same is checked
    on random inputs. `tf_keras` itself is not imported; `scl_keras[tfmot]` installs it,
    with TFMOT.

    Args:
        model: A built functional or Sequential `tf_keras` model of stock layers.

    Returns:
        An `SCLModel`, not compiled.

    Raises:
        ValueError: If the model is none of these, or has a layer without a counterpart
            in Keras 3 (`Lambda`, custom layers, TensorFlow functions), or if the
            outputs of the copy would differ.

    Example:

    ```python
    import tf_keras
    from tensorflow_model_optimization.sparsity import keras as tfmot

    legacy = tf_keras.Sequential([tf_keras.layers.Dense(4, input_shape=(8,))])
    pruned = tfmot.prune_low_magnitude(legacy)
    model = from_tf_keras(tfmot.strip_pruning(pruned))
    ```
    """
    _check_model(model)
    done: dict[Any, Any] = {}
    copy = _model_of(model, model.get_config(), done)
    for legacy, layer in done.values():
        _copy_weights(legacy, layer)
    _compare(model, copy)
    sparse = sparsify(copy, ste=None)
    kernels = [k for k in prunable_kernels(sparse) if k.mask is not None]
    for kernel in kernels:
        values = keras.ops.convert_to_numpy(getattr(kernel.layer, kernel.name))
        kernel.mask.assign(values != 0)
    return sparse


def _check_model(model):
    legacy = any(c.__module__.split(".")[0] == "tf_keras" for c in type(model).__mro__)
    if not legacy or not hasattr(model, "layers"):
        raise ValueError(
            "`from_tf_keras` takes a model of the legacy `tf_keras`, as TFMOT prunes "
            "them. Keras 3 models are pruned by `prune`. "
            f"Received: {model!r} (of type {type(model).__name__})"
        )
    try:
        is_graph = model.built and "layers" in model.get_config()
    except NotImplementedError:
        is_graph = False
    if not is_graph or not getattr(model, "inputs", None):
        raise ValueError(
            "`from_tf_keras` needs a built functional or Sequential model: the calls "
            f"of a subclassed one can't be read. Received: {model!r}"
        )


def _model_of(legacy, config, done):
    """A model of a legacy model's configuration.

    `done` maps the ids of legacy layers to pairs of them and their copies: shared ones
    stay shared.
    """
    if "input_layers" in config:
        return _functional_of(legacy, config, done)
    (tensor,) = legacy.inputs
    inputs = keras.Input(batch_shape=tuple(tensor.shape), dtype=tensor.dtype.name)
    stack = [
        _layer_of(legacy.get_layer(serialized["config"]["name"]), serialized, done)
        for serialized in config["layers"]
        if serialized["class_name"] != "InputLayer"
    ]
    return keras.Sequential([inputs, *stack], name=config["name"])


def _functional_of(legacy, config, done):
    layers = {}
    tensors = {}  # outputs of each call, by the layer's name
    waiting = []  # calls to make
    for serialized in config["layers"]:
        name = serialized["name"]
        if serialized["class_name"] == "InputLayer":
            options = serialized["config"]
            shape, dtype = options["batch_input_shape"], options["dtype"]
            tensors[name] = [keras.Input(batch_shape=shape, dtype=dtype, name=name)]
            continue
        layers[name] = _layer_of(legacy.get_layer(name), serialized, done)
        tensors[name] = []
        waiting += [(name, i, x) for i, x in enumerate(serialized["inbound_nodes"])]
    offsets = _node_offsets(config)

    def tensor(reference):
        name, node, index = reference[:3]
        made = tensors[name][node - offsets.get(name, 0)]
        return keras.tree.flatten(made)[index]

    def resolve(value):
        """Tensors in the place of references to them, in nested arguments."""
        if _is_reference(value, tensors):
            return tensor(value)
        if isinstance(value, dict):
            return {key: resolve(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [resolve(item) for item in value]
        return value

    while waiting:
        left = []
        for name, i, node in waiting:
            try:
                if len(tensors[name]) != i:
                    raise IndexError
                arguments, options = _arguments(node, tensors), _options(node, tensors)
                arguments, options = resolve(arguments), resolve(options)
            except IndexError:  # of a call that has not been made yet
                left.append((name, i, node))
                continue
            tensors[name].append(layers[name](arguments, **options))
        if len(left) == len(waiting):
            raise ValueError(
                f"The calls of layers {sorted({x[0] for x in left})} of model "
                f"'{legacy.name}' can't be read from its configuration."
            )
        waiting = left
    ends = resolve(config["input_layers"]), resolve(config["output_layers"])
    return keras.Model(*map(_unpacked, ends), name=config["name"])


def _unpacked(tensors):
    return tensors[0] if isinstance(tensors, list) and len(tensors) == 1 else tensors


def _is_reference(value, names):
    return (
        isinstance(value, (list, tuple))
        and len(value) in (3, 4)
        and isinstance(value[0], str)
        and value[0] in names
        and isinstance(value[1], int)
        and isinstance(value[2], int)
    )


def _arguments(node, names):
    """The first argument of a call: a reference, or a nest of them."""
    if _is_reference(node, names):
        return node[:3]
    if isinstance(node, dict):
        return {key: _arguments(value, names) for key, value in node.items()}
    arguments = [_arguments(value, names) for value in node]
    return arguments[0] if len(arguments) == 1 else arguments


def _options(node, names):
    """The other arguments of a call, which stand with each reference."""
    if _is_reference(node, names):
        return node[3] if len(node) == 4 else {}
    values = node.values() if isinstance(node, dict) else node
    return {k: v for value in values for k, v in _options(value, names).items()}


def _node_offsets(config):
    """By how much calls are numbered too high: nested models count their making."""
    calls = {x["name"]: len(x["inbound_nodes"]) for x in config["layers"]}
    highest = {}

    def visit(value):
        if _is_reference(value, calls):
            highest[value[0]] = max(highest.get(value[0], 0), value[1])
            visit(value[3:])
        elif isinstance(value, dict):
            visit(list(value.values()))
        elif isinstance(value, (list, tuple)):
            for item in value:
                visit(item)

    visit([x["inbound_nodes"] for x in config["layers"]])
    visit([config["output_layers"]])
    # All calls lead to an output, so that the last one is referred to.
    return {
        name: max(0, highest.get(name, 0) - max(n - 1, 0)) for name, n in calls.items()
    }


def _layer_of(legacy, serialized, done):
    if id(legacy) not in done:
        if "layers" in serialized["config"]:
            layer = _model_of(legacy, serialized["config"], done)
        else:
            translated = _translated(serialized, legacy.name)
            try:
                layer = keras.saving.deserialize_keras_object(translated)
            except (TypeError, ValueError) as error:
                kind = type(legacy).__name__
                raise ValueError(
                    f"Layer '{legacy.name}' ({kind}) can't be made in Keras 3 with its "
                    f"configuration: {translated['config']}"
                ) from error
        done[id(legacy)] = legacy, layer
    return done[id(legacy)][1]


def _translated(serialized, name):
    """A serialized legacy layer as Keras 3 has it."""
    kind, module = serialized["class_name"], serialized.get("module") or ""
    layer_class = getattr(keras.layers, kind, None)
    if kind.startswith("Prune"):
        raise ValueError(
            f"Layer '{name}' is still wrapped by TFMOT. Give the model that "
            "`tfmot.sparsity.keras.strip_pruning(model)` returns."
        )
    if layer_class is None or module != "keras.layers" or kind == "Lambda":
        raise ValueError(
            f"Layer '{name}' ({kind}) has no counterpart in Keras 3 that can be made "
            "of its configuration. Replace it by a stock layer before pruning, or "
            "rebuild the model in Keras 3 and copy the weights."
        )
    known = {"name", "trainable", "dtype", "activity_regularizer"}
    for base in layer_class.__mro__:
        if "__init__" in vars(base):
            known |= set(inspect.signature(base.__init__).parameters)
    config = {k: v for k, v in serialized["config"].items() if k in known}
    if isinstance(config.get("dtype"), dict):  # a policy
        config["dtype"] = config["dtype"]["config"]["name"]
    if kind == "BatchNormalization" and isinstance(config["axis"], (list, tuple)):
        (config["axis"],) = config["axis"]
    for key, value in config.items():
        if isinstance(value, dict) and value.get("module") == "keras.layers":
            config[key] = _translated(value, name)
    return {
        "module": "keras.layers",
        "class_name": kind,
        "config": config,
        "registered_name": None,
    }


def _copy_weights(legacy, layer):
    if isinstance(layer, keras.Model):
        return  # its layers have them
    values = legacy.get_weights()
    shapes = [tuple(w.shape) for w in layer.weights]
    if shapes != [v.shape for v in values]:
        raise ValueError(
            f"Layer '{layer.name}' ({type(layer).__name__}) has other weights in Keras "
            f"3: of shapes {shapes}. Received: {[v.shape for v in values]}"
        )
    layer.set_weights(values)


def _compare(legacy, copy):
    """Compares the outputs of both models on random inputs."""
    rng = np.random.default_rng(0)
    # Zeros and ones are tokens, too, in any vocabulary.
    inputs = [
        rng.integers(0, 2, [size or _SIZE for size in x.shape]).astype(x.dtype)
        for x in copy.inputs
    ]
    given = _unpacked([keras.ops.convert_to_tensor(x) for x in inputs])
    pairs = zip(
        keras.tree.flatten(legacy(given, training=False)),
        keras.tree.flatten(copy(given, training=False)),
        strict=True,
    )
    for old, new in pairs:
        old, new = keras.ops.convert_to_numpy(old), keras.ops.convert_to_numpy(new)
        scale = np.abs(old).max() if old.size else 0.0
        if old.shape != new.shape or not np.allclose(
            old, new, rtol=_TOLERANCE, atol=_TOLERANCE * scale
        ):
            raise ValueError(
                f"Model '{legacy.name}' has other outputs in Keras 3: one of its "
                f"layers does something else there. They are up to {scale:.3g}, "
                f"and differ by up to {np.abs(old - new).max():.3g}."
            )


_SIZE = 4  # of axes of open size
_TOLERANCE = 1e-3
