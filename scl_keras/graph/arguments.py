"""What a call gives a layer, told apart by how much of it says something.

Keras writes down what it filled in, too, such as `training=False` for a `Dropout`: an
argument at its default is none.
"""

import inspect

import keras


def given_arguments(call):
    """The arguments of a layer's call by their names, without those at their defaults.

    `training=False` is none either: what is asked of a graph is what it does in
    inference.

    Args:
        call: A `scl_keras.graph.recording.Call` of a layer.

    Returns:
        A dict of values by the names of the parameters of the layer's `call`.
    """
    operation = call.operation
    try:
        signature = inspect.signature(operation.call)
        bound = signature.bind(*call.args, **call.kwargs).arguments
    except TypeError:  # a `call` that takes something else than its signature says
        return {**dict(enumerate(call.args)), **call.kwargs}
    given = {}
    for name, value in bound.items():
        parameter = signature.parameters[name]
        if parameter.kind is parameter.VAR_KEYWORD:
            given |= value
        elif parameter.kind is parameter.VAR_POSITIONAL:
            given |= dict(enumerate(value))
        elif not _is_alike(value, parameter.default):
            given[name] = value
    if given.get("training", True) in (False, None):
        del given["training"]
    return given


def inputs_and_options(call):
    """The first argument of a layer's call, and a dict of others that say something.

    Args:
        call: As of `given_arguments`.
    """
    given = given_arguments(call)
    first = next(iter(given), None)
    return given.pop(first, None), given


def filled(argument, xs, constant):
    """An argument of a layer's call with other tensors in the places of the graph's.

    Args:
        argument: As of `inputs_and_options`.
        xs: List of tensors.
        constant: Function of what else stands among them, such as an array.
    """
    xs = iter(xs)
    return keras.tree.map_structure(
        lambda x: next(xs) if isinstance(x, keras.KerasTensor) else constant(x),
        argument,
    )


def reads_constants(call):
    """Whether arrays, or other values, stand among the inputs of a layer's call."""
    first, _ = inputs_and_options(call)
    flat = keras.tree.flatten(first)
    return not all(isinstance(x, keras.KerasTensor) for x in flat)


def _is_alike(value, default):
    """Whether a value is a parameter's default; of tensors no value is asked."""
    if value is default:
        return True
    plain = (bool, int, float, str)
    return (
        type(value) is type(default) and isinstance(value, plain) and value == default
    )
