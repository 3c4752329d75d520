"""The training step, the optimizer of weights and masks, and the update rule."""
