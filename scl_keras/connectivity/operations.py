"""Stand-ins of the functions of `keras.ops`, where a model's graph calls them.

Each takes the `Call` and a 0/1 tensor for each of its `inputs`. What is not a tensor of
the graph (a number, a constant) is no path from the model's inputs.
"""

import inspect

import keras
from keras import ops

from scl_keras.connectivity.reach import mixed_along, product, resized


def operation_stand_in(operation):
    """The stand-in of an operation of `keras.ops`, or None where none is known.

    Keras exports its functions and not the classes behind them, which are named alike:
    they are known by their names.
    """
    if not type(operation).__module__.startswith("keras."):
        return None
    if getattr(operation, "crop_to_aspect_ratio", False) or getattr(
        operation, "pad_to_aspect_ratio", False
    ):
        return None
    return _stand_ins.get(type(operation).__name__)


def is_product(operation):
    """Whether a layer or operation multiplies its inputs, entry by entry."""
    if isinstance(operation, keras.layers.Layer):
        return type(operation) is keras.layers.Multiply
    return _is_operation(operation, "Multiply")


def is_split(operation):
    """Whether an operation of `keras.ops` splits a tensor."""
    return _is_operation(operation, "Split")


def is_concatenation(operation):
    """Whether an operation of `keras.ops` joins tensors along one of their axes."""
    return _is_operation(operation, "Concatenate")


def _is_operation(operation, name):
    is_layer = isinstance(operation, keras.layers.Layer)
    known = not is_layer and operation_stand_in(operation) is not None
    return known and type(operation).__name__ == name


def elementwise(call, xs):
    """Stand-in of what depends on the entry at the same place in each tensor."""
    shape = call.outputs[0].shape
    return sum(ops.broadcast_to(x, shape) for x in xs)


def _itself(call, xs):
    args, kwargs = _filled(call, xs)
    return call.operation.call(*args, **kwargs)


def _padding(call, xs):
    return call.operation.call(xs[0])  # with zeros: what it pads with is no input


def _reduction(call, xs):
    (x,) = xs
    return ops.sum(x, axis=call.operation.axis, keepdims=call.operation.keepdims)


def _along_axis(call, xs):
    return mixed_along(xs[0], call.operation.axis)


def _constant(call, xs):
    """A tensor of that shape, whatever is in it."""
    return ops.zeros(call.outputs[0].shape, "float32")


def _resized(call, xs):
    return resized(call.operation, xs[0], call.outputs[0].shape)


def _product(call, xs):
    def compute(*xs):
        args, kwargs = _filled(call, xs, constant=_ones)
        return call.operation.call(*args, **kwargs)

    return product(compute, xs)


def _attention(call, xs):
    """Each position attends to all, by how query and keys compare; see `attention`."""
    given = dict(zip(map(id, call.inputs), xs, strict=True))
    signature = inspect.signature(ops.dot_product_attention)
    arguments = signature.bind(*call.args, **call.kwargs).arguments
    found = {k: given[id(x)] for k, x in arguments.items() if id(x) in given}
    shape = call.outputs[0].shape
    reached = ops.sum(found["value"], axis=1, keepdims=True)
    for name, axes in (("query", -1), ("key", (1, -1))):
        reached = reached + ops.sum(found[name], axis=axes, keepdims=True)
    for name in ("bias", "mask"):  # (batch, heads, targets, sources)
        if name in found:
            over = ops.sum(found[name], axis=-1, keepdims=True)
            reached = reached + ops.swapaxes(over, 1, 2)
    return ops.broadcast_to(reached, shape)


def _ones(x):
    return ops.ones(x.shape, "float32") if hasattr(x, "shape") else x


def _filled(call, xs, constant=lambda x: x):
    """The call's arguments with other tensors in the place of the graph's."""
    xs = iter(xs)
    return keras.tree.map_structure(
        lambda x: next(xs) if isinstance(x, keras.KerasTensor) else constant(x),
        (call.args, call.kwargs),
    )


_FAMILIES = {
    elementwise: "Add Subtract Multiply Divide TrueDivide DivideNoNan Power Maximum "
    "Minimum Negative Absolute Abs Square Sqrt Rsqrt Exp Expm1 Log Log1p Sin Cos Tanh "
    "Arctan Erf Clip Reciprocal Sign Floor Ceil Round Relu Relu6 Sigmoid Softplus "
    "Softsign SoftShrink Silu LogSigmoid LeakyRelu HardSigmoid HardSilu HardTanh "
    "HardShrink Elu Selu Celu Gelu Squareplus SparsePlus SparseSigmoid TanhShrink "
    "Threshold Where Cast Copy ConvertToTensor StopGradient Logaddexp Hypot Mod "
    "Equal NotEqual Greater GreaterEqual Less LessEqual LogicalAnd LogicalOr "
    "LogicalNot",
    _itself: "GetItem Reshape Transpose Squeeze ExpandDims Concatenate Stack Hstack "
    "Vstack Dstack Split ArraySplit Unstack Flip Roll Repeat Tile Moveaxis Swapaxes "
    "BroadcastTo Ravel Slice Rot90 DepthToSpace SpaceToDepth",
    _padding: "Pad",
    _resized: "Resize",
    _constant: "ZerosLike OnesLike FullLike",
    _reduction: "Sum Mean Max Amax Min Amin Any All Prod Logsumexp Median Std Var",
    _along_axis: "Softmax LogSoftmax",
    _product: "Matmul Einsum Dot Tensordot",
    _attention: "DotProductAttention",
}
_stand_ins = {
    name: function for function, names in _FAMILIES.items() for name in names.split()
}
