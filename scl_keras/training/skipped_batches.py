"""Batches that are skipped: they are counted, and leave no trace.

One with a NaN or infinite gradient moves neither weights nor masks, by `SCLOptimizer`
or by loss scaling before it. But its forward pass has updated statistics such as those
of batch normalization by then.
"""

from keras import ops

from scl_keras.graph.walking import running_statistics
from scl_keras.training.loss_scaling import has_kept_back, loss_scale


def step_without_traces(model, step):
    """Makes a training step that leaves running statistics alone if it is skipped.

    They also stay as they are where `model.statistics_move()` is false, and each one
    that would become NaN or infinite does.

    Args:
        model: A compiled `SCLModel`.
        step: Function without arguments that makes the step.

    Returns:
        What `step` returns.
    """
    optimizer = model.optimizer
    # The step is to read the loss scale there is, and not the first one for good.
    if optimizer is not model.scl_optimizer and model.built and not optimizer.built:
        optimizer.build(model.trainable_variables)
    statistics = running_statistics(model)
    before = [v + 0 for v in statistics]
    skipped = model.scl_optimizer.skipped_updates
    skipped_before, scale = skipped + 0, loss_scale(optimizer)
    moving = model.statistics_move()
    result = step()
    if scale is not None:
        # A batch that loss scaling keeps back never reaches what counts the others.
        kept_back = ops.cast(has_kept_back(optimizer, scale), "int32")
        skipped.assign(ops.maximum(skipped, skipped_before + kept_back))
    # Statistics of a skipped batch may be finite: gradients alone may overflow, and
    # on some processors TensorFlow's `relu` makes 0 of NaN.
    used = ops.equal(skipped + 0, skipped_before)
    moving = ops.logical_and(moving, used)
    for variable, value in zip(statistics, before, strict=True):
        new = ops.convert_to_tensor(variable)
        taken = ops.logical_and(moving, ops.isfinite(new))
        variable.assign(ops.where(taken, new, value))
    return result
