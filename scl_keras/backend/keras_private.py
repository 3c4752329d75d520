"""What Keras has no public name for: each private one stands here, with its reason."""

import contextlib


def direct_sublayers(layer):
    """The layers directly inside of a layer, in its lists and dicts, too.

    Keras tells them of models alone (`model.layers`), and of those only the graph's.
    """
    return layer._flatten_layers(include_self=False, recursive=False)


@contextlib.contextmanager
def _unlocked(layer):
    """Lets a built layer be given layers: Keras's own `enable_lora` does the same."""
    tracker = layer._tracker
    was_locked = tracker.locked
    tracker.unlock()
    try:
        yield tracker
    finally:
        if was_locked:
            tracker.lock()


def attach(layer, name, inner):
    """Gives a built layer another one in an attribute."""
    with _unlocked(layer):
        setattr(layer, name, inner)


def detach(layer, name):
    """Takes a layer out of an attribute again, and returns it."""
    inner = getattr(layer, name)
    delattr(layer, name)
    with _unlocked(layer) as tracker:
        tracker.untrack(inner)  # which deleting the attribute of a layer doesn't do
    return inner


def autocasts(variable):
    """Whether a variable reads in the compute dtype inside of a layer's call."""
    return variable._autocast


def set_autocast(variable, value):
    """Has a variable read in the compute dtype inside of a layer's call, or not.

    Keras takes it when a variable is made, and never again.
    """
    variable._autocast = value


def use_own_quantize(layer):
    """Has an object whose class was changed use the `quantize` of its class now.

    Keras wraps it when an object is made, and keeps it in the object.
    """
    wrapped = vars(layer).pop("quantize", None)
    if wrapped is not None:
        vars(layer)["_quantize_as_made"] = wrapped


def use_first_quantize(layer):
    """Takes `use_own_quantize` back."""
    wrapped = vars(layer).pop("_quantize_as_made", None)
    if wrapped is not None:
        vars(layer)["quantize"] = wrapped


def kernel_under_lora(layer, name):
    """The variable of a kernel that reads as its sum with LoRA's product, or None."""
    return getattr(layer, f"_{name}", None)


@contextlib.contextmanager
def without_new_nodes(layers):
    """Takes back which symbolic calls layers remember, so that `output` stays theirs.

    Args:
        layers: List of layers that may be called on `KerasTensor` objects within.
    """
    nodes = [layer._inbound_nodes for layer in layers]
    counts = [len(made) for made in nodes]
    try:
        yield
    finally:
        for made, count in zip(nodes, counts, strict=True):
            del made[count:]


def is_optional(tensor):
    """Whether an input of a model may be None: its `keras.Input` said so.

    A model's inputs are tensors, which know their input layers by this alone.
    """
    return getattr(tensor._keras_history.operation, "optional", False)


def averages_of(optimizer):
    """A Keras optimizer's moving averages, a dict by the ids of their variables."""
    if not getattr(optimizer, "use_ema", False) or not optimizer.built:
        return {}
    variables = optimizer._trainable_variables
    averages = optimizer._model_variables_moving_average
    return {id(v): a for v, a in zip(variables, averages, strict=True)}


def track_parameters(layer):
    """Has PyTorch's `parameters` and `zero_grad` know the variables of a layer now.

    On PyTorch, Keras lists a layer's variables when it is built. On the other backends
    there is no such list, and nothing is done.
    """
    if hasattr(layer, "_torch_params"):
        layer._track_variables()


def set_layout(variable, layout):
    """Spreads a variable that exists over devices, as a `TensorLayout` says.

    Keras takes a layout when a variable is made, and `Layer.add_weight` passes none on.
    """
    variable._layout = layout
    variable.assign(variable.value)
