"""A kernel's switches, and the gradients of what they are computed with."""

from keras import ops

from scl_keras import backend
from scl_keras.masks.constraint import BOUND
from scl_keras.switcher.blocks import (
    as_kernel,
    as_matrix,
    block_of,
    fold_blocks,
    map_blocks,
)
from scl_keras.switcher.features import block_features, surroundings


class SwitchedKernel:
    """The values of one kernel at one moment, as the switcher network reads them.

    Args:
        mask: The kernel's `Mask`.
        index: Its number among the masks that are switched.
        sizes: Number of connections of each of these.
    """

    def __init__(self, mask, index, sizes):
        self.mask = mask
        self._values = self._matrix(mask.kernel_values())
        self.shape = tuple(self._values.shape)
        self._around = surroundings(self._values, index, sizes)

    def _matrix(self, x):
        return as_matrix(ops.convert_to_tensor(x), self.mask.feature_axes)

    def _outputs(self, network, first, rows):
        features = block_features(block_of(self._values, first, rows), self._around)
        outputs = ops.cast(network(features, training=False), "float32")
        return ops.reshape(outputs, (rows, self.shape[1]))

    def outputs(self, network):
        """The network's output for every connection, of the kernel's shape."""
        matrix = map_blocks(lambda *block: self._outputs(network, *block), self.shape)
        return as_kernel(matrix, self.mask.variable.shape, self.mask.feature_axes)

    def switch(self, network, threshold):
        """Sets a mask that isn't frozen: output less threshold, put into [-1, 1]."""
        s, frozen = self.mask.variable, ops.convert_to_tensor(self.mask.frozen)
        new = s.constraint(self.outputs(network) - threshold)
        s.assign(ops.where(frozen, ops.convert_to_tensor(s), ops.cast(new, s.dtype)))

    def objective(self, gradient, scale, price):
        """The objective's gradient with respect to `s`, block by block.

        What would push an `s` further out of [-1, 1] is dropped, since it is put back:
        gradients back into the interval pass whole.

        Args:
            gradient: That of the task loss, of the kernel's shape.
            scale: What normalizes it: a scalar, or a tensor like the kernel with size 1
                along all axes, or all but the features'.
            price: `λ · c`, a scalar tensor.

        Returns:
            A function from a block's first row and number of rows to two tensors:
            `scale · gradient + λ · c · p(s)`, or 0 where dropped; and 1, or 0 there.
        """
        derivative = self.mask.ste.derivative
        gradient, s = self._matrix(gradient), self._matrix(self.mask.variable)
        # One number, or one for each feature: a row.
        scale = ops.convert_to_tensor(scale, "float32")
        scale = self._matrix(scale) if len(scale.shape) else scale

        def block(first, rows):
            at = block_of(s, first, rows)
            upstream = block_of(gradient, first, rows) * scale + price * derivative(at)
            up = ops.logical_and(at >= BOUND, upstream < 0)
            down = ops.logical_and(at <= -BOUND, upstream > 0)
            free = ops.cast(ops.logical_not(ops.logical_or(up, down)), "float32")
            return upstream * free, free

        return block

    def sums(self, objective):
        """Sum of an `objective` over all connections, and how many it moves."""

        def add(sums, first, rows):
            upstream, free = objective(first, rows)
            return sums[0] + ops.sum(upstream), sums[1] + ops.sum(free)

        nothing = ops.zeros((), "float32")
        return fold_blocks(add, (nothing, nothing), self.shape)

    def backpropagate(self, network, objective, mean, start):
        """Adds up the gradient of the network's parameters, block by block.

        Only one block's activations are held at a time: they are computed again here.

        Args:
            network: The switcher network.
            objective: What `objective` gave.
            mean: Scalar tensor to subtract from it.
            start: List of tensors to add the gradients to, one a parameter.

        Returns:
            A list of tensors.
        """
        parameters = network.trainable_variables

        def add(sums, first, rows):
            _, pull_back = backend.variables_vjp(
                lambda: self._outputs(network, first, rows), parameters
            )
            upstream, free = objective(first, rows)
            pairs = zip(sums, pull_back(upstream - mean * free), strict=True)
            return [total + ops.cast(g, total.dtype) for total, g in pairs]

        return fold_blocks(add, start, self.shape)
