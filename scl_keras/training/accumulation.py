"""Gradients of masks that are added up over several steps, before one update.

Keras's optimizers do so for weights, if they are asked to. Masks need the mean of the
steps before it is normalized.
"""

from keras import ops

from scl_keras.training.gradients import with_zeros


class Accumulation:
    """Means of mask gradients over a number of steps, as far as they have come.

    Args:
        optimizer: The optimizer that updates the masks, and keeps the sums so far.
        masks: List of mask variables.
        steps: Number of steps for each update.
    """

    def __init__(self, optimizer, masks, steps):
        sums = optimizer.add_optimizer_variables(masks, "accumulated")
        self._sums = {id(v): total for v, total in zip(masks, sums, strict=True)}
        self.steps = steps

    def add(self, gradients, masks):
        """Adds a step, and returns the variables of the sums for these masks."""
        sums = [self._sums[id(v)] for v in masks]
        for total, gradient in zip(sums, with_zeros(gradients, masks), strict=True):
            total.assign_add(gradient / self.steps)
        return sums


def take_means(sums, gradients):
    """The means after the last step, and the sums start from zero again.

    Args:
        sums: What `Accumulation.add` returned at that step.
        gradients: The gradients of that step. A loss that doesn't depend on a mask
            doesn't in any step: where there is None, there is no mean either.

    Returns:
        A list of tensors and Nones.
    """
    pairs = zip(sums, gradients, strict=True)
    means = [None if g is None else total + 0 for total, g in pairs]
    for total in sums:
        total.assign(ops.zeros(total.shape, total.dtype))
    return means
