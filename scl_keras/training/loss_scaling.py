"""What stands between a model and its optimizer in mixed precision."""

import keras
from keras import ops


def unscaled(optimizer):
    """An optimizer without the `LossScaleOptimizer` around it, if there is one."""
    scaled = isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
    return optimizer.inner_optimizer if scaled else optimizer


def scaled_like(scaler, optimizer):
    """The loss scaling of one `LossScaleOptimizer` around another optimizer."""
    return keras.optimizers.LossScaleOptimizer(
        optimizer, scaler.initial_scale, scaler.dynamic_growth_steps
    )


def loss_scale(optimizer):
    """By what a `LossScaleOptimizer` multiplies the loss now, or None for others."""
    if not isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        return None
    if not optimizer.built:
        return ops.convert_to_tensor(optimizer.initial_scale, "float32")
    return optimizer.dynamic_scale + 0


def has_kept_back(optimizer, scale_before):
    """Whether a `LossScaleOptimizer` has skipped the last step: a boolean scalar.

    The optimizer inside of it isn't told of gradients that are NaN or infinite.

    Args:
        optimizer: The `LossScaleOptimizer`.
        scale_before: Its `loss_scale` before the step.
    """
    scale = loss_scale(optimizer)
    # Half of zero is zero, and half of infinity infinity: such scales stay, and with
    # them no gradient is finite.
    stays = ops.logical_or(ops.equal(scale, 0), ops.isinf(scale_before))
    return ops.logical_or(scale < scale_before, stays)


def is_looking_for_its_scale(optimizer):
    """Whether batches may be skipped only because the loss scale is too high yet.

    Each of them halves it. Below 1 it isn't the scale that makes gradients overflow.
    """
    scale = loss_scale(optimizer)
    return scale is not None and float(ops.convert_to_numpy(scale)) >= 1
