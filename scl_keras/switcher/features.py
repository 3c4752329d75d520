"""What the switcher network is told about a connection."""

import dataclasses
import math
from typing import Any

from keras import ops

from scl_keras.switcher.blocks import block_of, fold_blocks

FEATURES = (
    "value",
    "magnitude",
    "log magnitude",
    "log row rms",
    "log row maximum",
    "log column rms",
    "log column maximum",
    "log layer rms",
    "position",
    "log share",
)
"""The features of a connection, in the order of the switcher network's input.

`v` is the connection's value, `r` the root mean square of its layer's values:

- value: `v / r`, clipped to [-4, 4]; magnitude: `|v| / r`, clipped to 4.
- log magnitude: `log(|v| / r + 0.001) / 2`.
- log row (column) rms and maximum: the same of the root mean square, and of the largest
  magnitude, among the connections of its input (of its output unit or filter).
- log layer rms: `log(r · sqrt(fan_in) + 0.001) / 2`.
- position: of its layer, from -1 (the first switched one) to 1 (the last); 0 if single.
- log share: `log(connections of its layer / of all switched layers) / 2`.

All are of the current values, those of cut connections included. Permuting inputs or
outputs of the layer permutes the features alike. A convolution's row is one input
channel at one position of the kernel.
"""

_EPSILON = 1e-3
_TINY = 1e-30
_LIMIT = 4.0


@dataclasses.dataclass
class Surroundings:
    """What all connections of a kernel have in common, and those of each column.

    Attributes:
        scale: `r`, a scalar tensor.
        columns: Two features of each column, of shape `(columns, 2)`.
        layer: Three features of the layer, of shape `(3,)`.
    """

    scale: Any
    columns: Any
    layer: Any


def surroundings(matrix, index, sizes):
    """Goes through a kernel once, and sums up its columns and the layer.

    Args:
        matrix: The kernel's values, as `as_matrix` gives them.
        index: Number of the kernel among those that are switched.
        sizes: Number of connections of each of these.

    Returns:
        `Surroundings`.
    """
    rows, columns = matrix.shape

    def add(sums, first, count):
        squares, largest = sums
        magnitude = ops.abs(block_of(matrix, first, count))
        squares = squares + ops.sum(ops.square(magnitude), axis=0)
        return squares, ops.maximum(largest, ops.max(magnitude, axis=0))

    nothing = ops.zeros((columns,), "float32")
    start = nothing, nothing
    squares, largest = fold_blocks(add, start, (rows, columns))
    scale = ops.sqrt(ops.mean(squares) / rows)
    rms = ops.sqrt(squares / rows)
    position = 2 * index / (len(sizes) - 1) - 1 if len(sizes) > 1 else 0.0
    share = sizes[index] / sum(sizes)
    layer = [_log(scale * math.sqrt(rows)), position, math.log(share) / 2]
    return Surroundings(
        scale,
        ops.stack([_log(_over(rms, scale)), _log(_over(largest, scale))], axis=-1),
        ops.stack([ops.cast(x, "float32") for x in layer]),
    )


def block_features(block, around):
    """The features of some rows' connections.

    Args:
        block: Values of whole rows, float32 of shape `(rows, columns)`.
        around: The kernel's `Surroundings`.

    Returns:
        Tensor of shape `(rows * columns, len(FEATURES))`, float32.
    """
    shape = tuple(block.shape)
    value = _over(block, around.scale)
    magnitude = ops.abs(value)
    rms = ops.sqrt(ops.mean(ops.square(magnitude), axis=1, keepdims=True))
    largest = ops.max(magnitude, axis=1, keepdims=True)
    own = [ops.clip(value, -_LIMIT, _LIMIT), ops.minimum(magnitude, _LIMIT)]
    of_row = [ops.broadcast_to(_log(x), shape) for x in (rms, largest)]
    features = ops.concatenate(
        [
            ops.stack([*own, _log(magnitude), *of_row], axis=-1),
            ops.broadcast_to(around.columns[None], (*shape, 2)),
            ops.broadcast_to(around.layer[None, None], (*shape, 3)),
        ],
        axis=-1,
    )
    return ops.reshape(features, (-1, len(FEATURES)))


def _over(x, scale):
    return x / (scale + _TINY)


def _log(x):
    return ops.log(x + _EPSILON) / 2
