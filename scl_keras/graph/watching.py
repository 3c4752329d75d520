"""Layers watched while a layer around them is called on symbolic tensors."""

import contextlib
import functools

import keras


@contextlib.contextmanager
def watched_calls(layers):
    """Watches which layers are called on nothing but constants.

    And has those whose own `compute_output_spec` isn't for their `call`, as in
    subclasses with more arguments, or leaves sizes open that are known, find out by
    their `call`.

    Yields:
        Set of the ids of layers.
    """
    called = set()

    def watched(layer):
        call, spec = layer.call, layer.compute_output_spec

        @functools.wraps(call)
        def watched_call(*args, **kwargs):
            if not any(map(is_symbolic, keras.tree.flatten((args, kwargs)))):
                called.add(id(layer))
            return call(*args, **kwargs)

        spec = functools.partial(output_spec, layer, spec)
        return {"call": watched_call, "compute_output_spec": spec}

    before = [(layer, dict(vars(layer))) for layer in layers]
    for layer in layers:
        vars(layer).update(watched(layer))
    try:
        yield called
    finally:
        for layer, own in before:
            for name in ("call", "compute_output_spec"):
                if name in own:
                    vars(layer)[name] = own[name]
                else:
                    del vars(layer)[name]


def output_spec(operation, spec, *args, **kwargs):
    """What an operation returns, by its own `compute_output_spec` or else its `call`.

    Args:
        operation: A `keras.Operation`.
        spec: Its `compute_output_spec`.
        *args: Arguments of the call.
        **kwargs: Keyword arguments of the call.

    Returns:
        A structure of `KerasTensor`.
    """
    by_call = functools.partial(keras.Operation.compute_output_spec, operation)
    try:
        outputs = spec(*args, **kwargs)
    except TypeError:
        return by_call(*args, **kwargs)
    if _is_open(outputs) and not _is_open((args, kwargs)):
        # Some layers, like `EinsumDense`, leave sizes open that are known.
        return by_call(*args, **kwargs)
    return outputs


def is_symbolic(x):
    """Whether something is a tensor without a value."""
    return isinstance(x, keras.KerasTensor)


def _is_open(tensors):
    return any(None in getattr(x, "shape", ()) for x in keras.tree.flatten(tensors))
