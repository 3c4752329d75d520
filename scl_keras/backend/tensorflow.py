"""TensorFlow: `tf.distribute`, `tf.GradientTape` and `tf.function`."""

import contextlib

import keras
import tensorflow as tf
from keras import ops

ERRORS = (ValueError, TypeError, LookupError, tf.errors.OpError)
"""What operations raise for tensors that don't fit together."""


def train_step(model, step, data):
    """Runs a model's training step.

    Args:
        model: The `SCLModel`.
        step: The `train_step` of stock Keras.
        data: What `fit` gave.

    Returns:
        What `fit` expects of it.
    """
    return model.masked_step(lambda: step(data), data)


def synchronize(model):
    """Has the variables hold what `fit` has reached, in the midst of an epoch."""


def variables_scope(model):
    """A context in which variables are made for the devices of a model."""
    return model.distribute_strategy.scope()


def replicas():
    """Number of replicas that run the same step, 1 without a strategy."""
    return tf.distribute.get_strategy().num_replicas_in_sync


def sum_over_replicas(tensors):
    """Adds up each tensor over all replicas.

    Args:
        tensors: List of tensors, of which some may be None.

    Returns:
        A list of tensors and Nones.
    """
    if replicas() == 1:
        return list(tensors)
    context = tf.distribute.get_replica_context()
    given = [x for x in tensors if x is not None]
    sums = iter(context.all_reduce(tf.distribute.ReduceOp.SUM, given))
    return [None if x is None else next(sums) for x in tensors]


def has_gradient(gradient, seen):
    """Whether a loss depends on what this is the gradient by.

    Args:
        gradient: A tensor: otherwise it would be None here.
        seen: Boolean variable in which it is noted.

    Returns:
        0 or 1, a float or a scalar tensor.
    """
    seen.assign(True)
    return 1.0


def cond(condition, if_true, if_false, variables):
    """`ops.cond`, whose branches assign to variables.

    Args:
        condition: Scalar bool tensor.
        if_true: Function without arguments, whose result doesn't matter.
        if_false: Another one.
        variables: List of all variables that they assign to.
    """
    ops.cond(condition, if_true, if_false)


def replicated_cond(condition, if_true, if_false, args, variables):
    """`cond`, whose branches may synchronize replicas as optimizers do.

    Args:
        condition: Scalar bool tensor, the same on all replicas.
        if_true: Function of `args`, whose result doesn't matter.
        if_false: Another one.
        args: Tuple of tensors, variables and structures of them.
        variables: List of all variables that they assign to.
    """
    context = tf.distribute.get_replica_context()
    if not tf.distribute.has_strategy() or context is None:
        ops.cond(condition, lambda: if_true(*args), lambda: if_false(*args))
        return

    # Within a branch replicas can't wait for each other. So they meet before it, also
    # where a strategy has a single one.
    def branch(strategy, condition, args):
        run = strategy.extended.call_for_each_replica
        tf.cond(
            strategy.experimental_local_results(condition)[0],
            lambda: run(if_true, args=args),
            lambda: run(if_false, args=args),
        )

    context.merge_call(branch, args=(condition, args))


def unit_step(x):
    """`H(x)`: 1 where `x > 0` and else 0, in the dtype of `x`, without a gradient."""
    return ops.cast(ops.greater(x, 0), x.dtype)


def count_positive(x):
    """The number of positive entries of a tensor, an int32 scalar."""
    return ops.sum(ops.cast(ops.greater(x, 0), "int32"))


def compiled(function, variables):
    """A compiled function of tensors.

    Args:
        function: Function of tensors, or structures of them.
        variables: List of all variables that it reads or assigns to.

    Returns:
        A function.
    """
    return tf.function(function, reduce_retracing=True)


def double_precision():
    """A context in which float64 is computed in float64."""
    return contextlib.nullcontext()


def vjp(function, *args):
    """A function's value, and its vector-Jacobian product.

    Args:
        function: Function of `args`, returning a list of tensors.
        *args: Lists of tensors.

    Returns:
        Its result; and a function from a list of tensors like it to a tuple of lists
        like `args`, the gradients, with zeros where nothing depends on an argument.
    """
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(args)
        outputs = function(*args)
    return outputs, lambda upstream: tuple(_gradient(tape, outputs, args, upstream))


def variables_vjp(function, variables):
    """A function's value, and its vector-Jacobian product by Keras variables.

    Args:
        function: Function without arguments that reads `variables`, returning a tensor.
        variables: List of variables.

    Returns:
        Its result; and a function from a tensor like it to a list of tensors, one a
        variable, with zeros where it doesn't depend on it.
    """
    values = [v.value for v in variables]
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(values)
        output = function()
    return output, lambda upstream: _gradient(tape, output, values, upstream)


def _gradient(tape, outputs, sources, upstream):
    zero = tf.UnconnectedGradients.ZERO
    found = tape.gradient(outputs, sources, upstream, unconnected_gradients=zero)
    # Those of embeddings come as the rows that were used.
    return keras.tree.map_structure(tf.convert_to_tensor, found)
