"""Going through a kernel block by block, so that memory doesn't grow with its size."""

from keras import ops

CONNECTIONS_A_BLOCK = 32_768
"""A block is as many whole rows as hold so many connections, and at least one."""


def as_matrix(x, feature_axes):
    """A kernel as a matrix: a row for each input, a column for each feature.

    Args:
        x: Tensor of a kernel's shape.
        feature_axes: Its axes that index features.

    Returns:
        Tensor of shape `(connections a feature, features)`.
    """
    order = _order(len(x.shape), feature_axes)
    columns = 1
    for axis in order[len(x.shape) - len(feature_axes) :]:
        columns *= x.shape[axis]
    if order != list(range(len(x.shape))):
        x = ops.transpose(x, order)
    return ops.reshape(x, (-1, columns))


def as_kernel(matrix, shape, feature_axes):
    """The inverse of `as_matrix`, for a kernel of shape `shape`."""
    order = _order(len(shape), feature_axes)
    x = ops.reshape(matrix, [shape[axis] for axis in order])
    if order == list(range(len(shape))):
        return x
    return ops.transpose(x, [order.index(axis) for axis in range(len(shape))])


def _order(rank, feature_axes):
    features = [axis % rank for axis in feature_axes]
    return [axis for axis in range(rank) if axis not in features] + features


def rows_a_block(shape):
    """Number of rows in a block of a matrix of shape `(rows, columns)`."""
    rows, columns = shape
    return min(max(CONNECTIONS_A_BLOCK // columns, 1), rows)


def fold_blocks(function, start, shape):
    """Folds a function over the blocks of a matrix.

    Args:
        function: From what was folded so far, a block's first row and its number of
            rows to what is folded now.
        start: What to begin with, a tensor or a list of tensors.
        shape: `(rows, columns)` of the matrix.

    Returns:
        What `function` gave last.
    """
    rows, size = shape[0], rows_a_block(shape)
    if rows >= 2 * size:
        folded = ops.fori_loop(
            0, rows // size, lambda i, x: function(x, i * size, size), start
        )
    else:
        folded = function(start, 0, size)
    rest = rows % size
    return function(folded, rows - rest, rest) if rest else folded


def map_blocks(function, shape):
    """A matrix made block by block.

    Args:
        function: From a block's first row and its number of rows to the block.
        shape: `(rows, columns)` of the matrix.

    Returns:
        A float32 tensor of shape `shape`.
    """
    (rows, columns), size = shape, rows_a_block(shape)
    if rows >= 2 * size:
        starts = ops.arange(0, rows - size + 1, size, dtype="int32")
        blocks = ops.map(lambda first: function(first, size), starts)
        done = ops.reshape(blocks, (-1, columns))
    else:
        done = function(0, size)
    rest = rows % size
    if not rest:
        return done
    return ops.concatenate([done, function(rows - rest, rest)], axis=0)


def block_of(matrix, first, rows):
    """Rows `first` to `first + rows` of a matrix, in float32."""
    columns = matrix.shape[1]
    return ops.cast(ops.slice(matrix, [first, 0], [rows, columns]), "float32")
