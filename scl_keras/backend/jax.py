"""JAX: everything is a function of states. See `scl_keras.backend.tensorflow`.

Code that assigns to variables becomes such a function in a `keras.StatelessScope`:
variables read as the values given there, and what is assigned to them is collected.
"""

import contextlib
import functools

import jax
import keras
from keras import ops

ERRORS = (ValueError, TypeError, LookupError, RuntimeError)


class _Scope(keras.StatelessScope):
    """A stateless scope in which variables it isn't given read as they do outside.

    Those of Keras hide the scopes around them.
    """

    def __init__(self, state_mapping=()):
        super().__init__(state_mapping)
        self.assigned = {}

    def add_update(self, update):
        self.assigned[id(update[0])] = update[0]
        super().add_update(update)

    def get_current_value(self, variable):
        scope, value = self, super().get_current_value(variable)
        while value is None and (scope := scope.original_scope) is not None:
            value = scope.state_mapping.get(id(variable))
        return value

    def updates(self):
        """Two lists: the variables that were assigned to, and their values."""
        variables = list(self.assigned.values())
        return variables, [self.state_mapping[id(v)] for v in variables]


def train_step(model, step, state, data):
    """Runs a model's training step as if it assigned to variables."""
    lists = [
        model.trainable_variables,
        model.non_trainable_variables,
        model.optimizer.variables,
        model.metrics_variables,
    ]
    variables = [v for variables in lists for v in variables]
    values = [x for values in state for x in values]

    def assigning_step():
        now = tuple([v.value for v in variables] for variables in lists)
        logs, new = step(now, data)
        _assign(variables, [x for values in new for x in values])
        return logs

    with _Scope(zip(variables, values, strict=True)) as scope:
        logs = model.masked_step(assigning_step, data)
        new = tuple([scope.get_current_value(v) for v in some] for some in lists)
    return logs, new


def synchronize(model):
    """Has the variables hold what `fit` has reached: it keeps the state to itself."""
    model.jax_state_sync()


def variables_scope(model):
    """A context in which variables are made for the devices of a model."""
    return contextlib.nullcontext()


def replicas():
    """1: under `keras.distribution` a step computes with the global batch."""
    return 1


def sum_over_replicas(tensors):
    """The tensors as they are: those of the global batch."""
    return list(tensors)


def has_gradient(gradient, seen):
    """Whether it wasn't zero all the time: what a loss doesn't depend on has zeros."""
    seen.assign(ops.logical_or(seen, ops.any(ops.not_equal(gradient, 0))))
    return ops.cast(seen, "float32")


def cond(condition, if_true, if_false, variables):
    """Runs one of two functions that assign to variables, and to no others."""

    def run(function):
        with _Scope() as scope:
            function()
            unknown = scope.assigned.keys() - {id(v) for v in variables}
            if unknown:
                names = [scope.assigned[key].path for key in unknown]
                raise ValueError(f"`variables` must have all. Received no {names}")
            return [v.value for v in variables]

    if isinstance(condition, jax.core.Tracer):
        values = jax.lax.cond(
            condition,
            functools.partial(run, if_true),
            functools.partial(run, if_false),
        )
    else:
        values = run(if_true if condition else if_false)
    _assign(variables, values)


def replicated_cond(condition, if_true, if_false, args, variables):
    """`cond` with functions of `args`."""
    cond(condition, lambda: if_true(*args), lambda: if_false(*args), variables)


def unit_step(x):
    """1 where `x > 0` and else 0, in the dtype of `x`, without a gradient."""
    return ops.cast(ops.greater(x, 0), x.dtype)


def count_positive(x):
    """The number of positive entries of a tensor, an int32 scalar."""
    return ops.sum(ops.cast(ops.greater(x, 0), "int32"))


def compiled(function, variables):
    """A compiled function of tensors that reads `variables`, and may assign to them."""
    assigned = []

    @jax.jit
    def stateless(values, args):
        with _Scope(zip(variables, values, strict=True)) as scope:
            outputs = function(*args)
        assigned[:], updates = scope.updates()
        return outputs, updates

    def run(*args):
        outputs, updates = stateless([v.value for v in variables], args)
        _assign(assigned, updates)
        return outputs

    return run


def double_precision():
    """A context in which float64 is computed in float64: elsewhere it is float32."""
    return jax.enable_x64(True)


def vjp(function, *args):
    """A function's value, and its vector-Jacobian product."""
    args = keras.tree.map_structure(ops.convert_to_tensor, args)
    return jax.vjp(lambda *args: list(function(*args)), *args)


def variables_vjp(function, variables):
    """A function's value, and its vector-Jacobian product by Keras variables."""
    assigned = []

    def stateless(values):
        with _Scope(zip(variables, values, strict=True)) as scope:
            output = function()
        assigned[:], updates = scope.updates()
        return output, updates

    values = [v.value for v in variables]
    output, pull_back, updates = jax.vjp(stateless, values, has_aux=True)
    _assign(assigned, updates)
    return output, lambda upstream: pull_back(upstream)[0]


def _assign(variables, values):
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
