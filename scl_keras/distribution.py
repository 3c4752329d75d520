"""The one place that knows of `tf.distribute`: several replicas, one update."""

import tensorflow as tf
from keras import ops


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


def cond(condition, if_true, if_false, args):
    """`ops.cond`, whose branches may synchronize replicas as optimizers do.

    Args:
        condition: Scalar bool tensor, the same on all replicas.
        if_true: Function of `args`, whose result doesn't matter.
        if_false: Another one.
        args: Tuple of tensors, variables and structures of them.
    """
    if replicas() == 1:
        ops.cond(condition, lambda: if_true(*args), lambda: if_false(*args))
        return

    # Within a branch replicas can't wait for each other. So they meet before it.
    def branch(strategy, condition, args):
        run = strategy.extended.call_for_each_replica
        tf.cond(
            strategy.experimental_local_results(condition)[0],
            lambda: run(if_true, args=args),
            lambda: run(if_false, args=args),
        )

    context = tf.distribute.get_replica_context()
    context.merge_call(branch, args=(condition, args))
