"""PyTorch: everything is eager. See `scl_keras.backend.tensorflow`."""

import contextlib
import functools

import keras
import torch
from keras import ops

_EXACT_IN_FLOAT32 = 2**24
ERRORS = (ValueError, TypeError, LookupError, RuntimeError)


def train_step(model, step, data):
    """Runs a model's training step."""
    # Keras drops the last gradients only after the forward pass: 8 bytes a connection.
    model.zero_grad()
    return model.masked_step(lambda: step(data), data)


def synchronize(model):
    """Nothing to do: variables always are what `fit` has reached."""


def variables_scope(model):
    """A context in which variables are made for the devices of a model."""
    return contextlib.nullcontext()


def replicas():
    """1: Keras has no data parallelism of its own on PyTorch."""
    return 1


def sum_over_replicas(tensors):
    """The tensors as they are."""
    return list(tensors)


def has_gradient(gradient, seen):
    """1: by what a loss doesn't depend on there is none."""
    seen.assign(True)
    return 1.0


def cond(condition, if_true, if_false, variables):
    """Runs one of two functions that assign to variables."""
    return if_true() if bool(condition) else if_false()


def replicated_cond(condition, if_true, if_false, args, variables):
    """Runs one of two functions of `args`."""
    return if_true(*args) if bool(condition) else if_false(*args)


def unit_step(x):
    """1 where `x > 0` and else 0, in the dtype of `x`, without a gradient."""
    x = x.detach()
    # In one pass: booleans and their cast take four times as long.
    return torch.gt(x, 0, out=torch.empty_like(x))


def count_positive(x):
    """The number of positive entries of a tensor, an int32 scalar."""
    columns = unit_step(x).reshape(-1, x.shape[-1])
    # Sums of float32 are exact up to there, and four times as fast as other ones.
    exact = columns.dtype == torch.float32 and len(columns) < _EXACT_IN_FLOAT32
    sums = columns.sum(0) if exact else torch.count_nonzero(columns, 0)
    return sums.to(torch.int64).sum().to(torch.int32)


def compiled(function, variables):
    """The function as it is, without recording for gradients."""

    @functools.wraps(function)
    def run(*args):
        with torch.no_grad():
            return function(*args)

    return run


def double_precision():
    """A context in which float64 is computed in float64: any."""
    return contextlib.nullcontext()


def vjp(function, *args):
    """A function's value, and its vector-Jacobian product."""
    args = keras.tree.map_structure(
        lambda x: ops.convert_to_tensor(x).detach().requires_grad_(True), args
    )
    with torch.enable_grad():
        outputs = [ops.convert_to_tensor(y) for y in function(*args)]

    def pull_back(upstream):
        sources = keras.tree.flatten(args)
        return keras.tree.pack_sequence_as(args, _gradient(outputs, sources, upstream))

    return [y.detach() for y in outputs], pull_back


def variables_vjp(function, variables):
    """A function's value, and its vector-Jacobian product by Keras variables."""
    values = [v.value for v in variables]
    before = [x.requires_grad for x in values]
    for x in values:
        x.requires_grad_(True)
    with torch.enable_grad():
        output = function()

    def pull_back(upstream):
        gradients = _gradient([output], values, [upstream])
        for x, required in zip(values, before, strict=True):
            x.requires_grad_(required)
        return gradients

    return output.detach(), pull_back


def _gradient(outputs, sources, upstream):
    pairs = zip(outputs, upstream, strict=True)
    outputs, upstream = zip(
        *[(y, g) for y, g in pairs if y.requires_grad] or [((), ())], strict=True
    )
    found = [None] * len(sources)
    if outputs != ((),):
        found = torch.autograd.grad(outputs, sources, upstream, allow_unused=True)
    return [
        torch.zeros_like(x) if g is None else g
        for g, x in zip(found, sources, strict=True)
    ]
