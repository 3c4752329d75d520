"""What layers do to reachability: each has a stand-in that computes on zeros and ones.

A stand-in takes a layer's inputs as 0/1 tensors ("is this position reached?") and its
kernels as 0/1 masks, and returns a tensor of the output's shape that is positive
exactly where a path leads. It must be linear in each of them, with whole non-negative
coefficients, for then its gradient tells the rest: with respect to an input, which of
its positions lead to the outputs asked for; with respect to a kernel, which of its
connections join a position that is reached to one that is asked for.
"""

import dataclasses
import functools
import math
from collections.abc import Callable

from keras import layers, ops

from scl_keras.layers.followers import ChannelFollower
from scl_keras.layers.masked_layer import MaskedLayer


@dataclasses.dataclass(frozen=True)
class StandIn:
    """A stand-in and the names of the kernels that it takes.

    Attributes:
        function: `function(operation, *args, **kernels)`, with 0/1 tensors for the
            tensors among `args`.
        kernels: Names of the layer's attributes that hold its kernels.
    """

    function: Callable
    kernels: tuple = ()


_stand_ins = {}


def stand_in(*layer_types, kernels=()):
    """Registers a function as the stand-in of layer types, of one's own for example.

    It holds for these types alone, and for their masked versions, but for no other
    subclass. An `activation` attribute of the layer is applied afterwards.

    Args:
        *layer_types: Classes of layers.
        kernels: Names of the attributes that hold kernels; the function gets a 0/1
            mask of the kernel's shape for each, as a keyword argument.

    Returns:
        A decorator of a function `function(layer, *inputs, **kernels)`: linear in each
        of its 0/1 float32 tensors, with whole non-negative coefficients, and positive
        where an output depends on an input that is reached.

    Example:

    ```python
    class Bottleneck(keras.layers.Layer):
        def build(self, shape):
            self.squeeze = self.add_weight((shape[-1], 4), name="squeeze")
            self.expand = self.add_weight((4, shape[-1]), name="expand")

        def call(self, x):
            return x @ self.squeeze @ self.expand

    @stand_in(Bottleneck, kernels=("squeeze", "expand"))
    def _(layer, x, squeeze, expand):
        return x @ squeeze @ expand
    ```
    """

    def register(function):
        for layer_type in layer_types:
            _stand_ins[layer_type] = StandIn(function, tuple(kernels))
        return function

    return register


def layer_stand_in(layer):
    """The `StandIn` of a layer, or None where none is known."""
    return _stand_ins.get(type(layer)) or _stand_ins.get(stock_type(layer))


def stock_type(layer):
    """The type of a layer, or of the one that it is the masked twin of."""
    bases = type(layer).__bases__
    is_twin = MaskedLayer in bases or ChannelFollower in bases
    return layer.stock_class if is_twin else type(layer)


def together(x, axes):
    """Stand-in of what makes each position along some axes depend on all of them."""
    return ops.sum(x, axes, keepdims=True) + ops.zeros_like(x)


def named(*names):
    """The Keras layers of these names that the installed Keras has."""
    return [getattr(layers, name) for name in names if hasattr(layers, name)]


def ranks(name, of=(1, 2, 3)):
    """The Keras layers of a name with the rank left out, such as `"Conv{}D"`."""
    return named(*(name.format(rank) for rank in of))


def _channels_last(function):
    """Lets a function see channels last: on CPUs there often is nothing else."""

    @functools.wraps(function)
    def run(layer, x, **kernels):
        if layer.data_format != "channels_first":
            return function(layer, x, **kernels)
        return ops.moveaxis(function(layer, ops.moveaxis(x, 1, -1), **kernels), -1, 1)

    return run


# One output position for each input position, wherever it is not zero for all inputs.
@stand_in(
    *named("Activation", "ReLU", "LeakyReLU", "PReLU", "ELU", "Identity"),
    *named("BatchNormalization", "Normalization", "Rescaling"),
    *named("Dropout", "AlphaDropout", "GaussianDropout", "GaussianNoise"),
    *named("ActivityRegularization"),
    *ranks("SpatialDropout{}D"),
)
def elementwise(layer, x):
    """Stand-in of what depends on the entry at the same place."""
    return x


# Moved, repeated or left out: what the layer does to numbers it does to zeros and ones.
@stand_in(
    *named("Flatten", "Reshape", "Permute", "RepeatVector", "Concatenate"),
    *ranks("Cropping{}D"),
    *ranks("ZeroPadding{}D"),
    *ranks("UpSampling{}D", (1, 3)),
)
def _itself(layer, x):
    return layer.call(x)


@stand_in(*named("Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum"))
def _merge(layer, xs):
    # A factor that depends on no input need not be zero (it may have a bias), so that
    # a product has the paths of both its factors, like a sum.
    return layers.Add()(xs)


@stand_in(layers.Dense, kernels=("kernel",))
def _dense(layer, x, kernel):
    return ops.matmul(x, kernel)


@stand_in(layers.EinsumDense, kernels=("kernel",))
def _einsum_dense(layer, x, kernel):
    return ops.einsum(layer.equation, x, kernel)


@stand_in(layers.Embedding, kernels=("embeddings",))
def _embedding(layer, x, embeddings):
    # A position holds any of the tokens: each is an input of its own.
    return ops.expand_dims(x, -1) * ops.sum(embeddings, axis=0)


@stand_in(*ranks("Conv{}D"), kernels=("kernel",))
@_channels_last
def _convolution(layer, x, kernel):
    return ops.conv(
        _pad_causally(layer, x),
        kernel,
        strides=list(layer.strides),
        padding=_padding(layer),
        dilation_rate=layer.dilation_rate,
        data_format="channels_last",
    )


@stand_in(*ranks("Conv{}DTranspose"), kernels=("kernel",))
@_channels_last
def _transposed_convolution(layer, x, kernel):
    return ops.conv_transpose(
        x,
        kernel,
        strides=list(layer.strides),
        padding=layer.padding,
        output_padding=layer.output_padding,
        dilation_rate=layer.dilation_rate,
        data_format="channels_last",
    )


@stand_in(*ranks("DepthwiseConv{}D", (1, 2)), kernels=("kernel",))
@_channels_last
def _depthwise_convolution(layer, x, kernel):
    return ops.depthwise_conv(
        x,
        kernel,
        strides=layer.strides,
        padding=layer.padding,
        dilation_rate=layer.dilation_rate,
        data_format="channels_last",
    )


_SEPARABLE = ("depthwise_kernel", "pointwise_kernel")


@stand_in(*ranks("SeparableConv{}D", (1, 2)), kernels=_SEPARABLE)
@_channels_last
def _separable_convolution(layer, x, depthwise_kernel, pointwise_kernel):
    return ops.separable_conv(
        _pad_causally(layer, x),
        depthwise_kernel,
        pointwise_kernel,
        strides=layer.strides,
        padding=_padding(layer),
        dilation_rate=layer.dilation_rate,
        data_format="channels_last",
    )


def _padding(layer):
    return "valid" if layer.padding == "causal" else layer.padding


def _pad_causally(layer, x):
    if layer.padding != "causal":
        return x
    before = layer.dilation_rate[0] * (layer.kernel_size[0] - 1)
    return ops.pad(x, [(0, 0), (before, 0), (0, 0)])


# Maximum and mean alike depend on all of a window.
@stand_in(*ranks("MaxPooling{}D"), *ranks("AveragePooling{}D"))
@_channels_last
def _pooling(layer, x):
    means = ops.average_pool(
        x,
        layer.pool_size,
        strides=layer.strides,
        padding=layer.padding,
        data_format="channels_last",
    )
    return means * float(math.prod(layer.pool_size))


@stand_in(*ranks("GlobalMaxPooling{}D"), *ranks("GlobalAveragePooling{}D"))
def _global_pooling(layer, x):
    first = layer.data_format == "channels_first"
    axes = range(2, len(x.shape)) if first else range(1, len(x.shape) - 1)
    return ops.sum(x, tuple(axes), keepdims=layer.keepdims)


@stand_in(*ranks("AdaptiveMaxPooling{}D"), *ranks("AdaptiveAveragePooling{}D"))
def _adaptive_pooling(layer, x):
    means = ops.adaptive_average_pool(x, layer.output_size, layer.data_format)
    return means * float(math.prod(x.shape[1:]))  # at least the size of any window


@stand_in(layers.UpSampling2D)
def _up_sampling(layer, x):
    # Interpolation has fractions for weights; bilinear ones are 1 / (4 h w) at least.
    fraction = 4 * math.prod(layer.size) if layer.interpolation == "bilinear" else 1
    return layer.call(x) * float(fraction)


@stand_in(layers.Softmax, layers.LayerNormalization, *named("RMSNormalization"))
def _along_axis(layer, x):
    axes = layer.axis if isinstance(layer.axis, (list, tuple)) else [layer.axis]
    return together(x, tuple(axes))


@stand_in(layers.UnitNormalization)
def _unit_normalization(layer, x):
    return _along_axis(layer, x)


@stand_in(layers.GroupNormalization)
def _group_normalization(layer, x):
    y = ops.moveaxis(x, layer.axis, -1)
    groups = y.shape[-1] if layer.groups == -1 else layer.groups
    grouped = ops.reshape(y, (*y.shape[:-1], groups, -1))
    axes = (*range(1, len(y.shape) - 1), -1)
    y = ops.reshape(together(grouped, axes), y.shape)
    return ops.moveaxis(y, -1, layer.axis)


@stand_in(layers.Dot)
def _dot(layer, xs):
    return bilinear(lambda *pair: layer.call(list(pair)), xs)


def bilinear(product, xs):
    """Stand-in of a product: it depends on each factor through all of the others."""
    ones = [ops.ones_like(x) for x in xs]
    return sum(product(*ones[:i], xs[i], *ones[i + 1 :]) for i in range(len(xs)))


def is_known(layer):
    """Whether the stand-in holds for the layer as it is configured."""
    if isinstance(layer, layers.UpSampling2D):
        return layer.interpolation in ("nearest", "bilinear")
    if isinstance(layer, layers.Dot):
        return not layer.normalize
    return True
