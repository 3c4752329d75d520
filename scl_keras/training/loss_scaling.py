"""What stands between a model and its optimizer in mixed precision."""

import keras


def unscaled(optimizer):
    """An optimizer without the `LossScaleOptimizer` around it, if there is one."""
    scaled = isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
    return optimizer.inner_optimizer if scaled else optimizer


def scaled_like(scaler, optimizer):
    """The loss scaling of one `LossScaleOptimizer` around another optimizer."""
    return keras.optimizers.LossScaleOptimizer(
        optimizer, scaler.initial_scale, scaler.dynamic_growth_steps
    )
