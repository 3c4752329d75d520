"""What is known of a layer type, in one object, and the registry of these."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from scl_keras import checks
from scl_keras.layers.followers import ChannelFollower
from scl_keras.layers.masked_layer import MaskedLayer


@dataclasses.dataclass(frozen=True)
class KeptChannels:
    """What stays of a layer that gets smaller, for `LayerRule.shrink`.

    Attributes:
        inputs: Boolean array: which channels of its input stay.
        outputs: Boolean array: which channels of its output stay.
        output_shape: Shape of its output then, without the batch axis.
        axis: The axis of the output's channels, the batch's counted.
        shift: Array of the length of `outputs`, to add to its biases since inputs that
            are constants go, or None. Only a rule with `folds_constants` gets one.

    Example:

    ```python
    kept = KeptChannels(np.array([True, False]), np.array([True] * 3), (3,), axis=1)
    kept.units  # 3
    ```
    """

    inputs: np.ndarray
    outputs: np.ndarray
    output_shape: tuple
    axis: int
    shift: np.ndarray | None = None

    @property
    def units(self) -> int:
        """Number of channels of its output that stay."""
        return int(np.sum(self.outputs))


@dataclasses.dataclass(frozen=True)
class Composite:
    """How a layer is followed that computes with the kernels of layers inside of it.

    Attributes:
        plan: `plan(layer, **arguments)`, with the call's `KerasTensor` objects and
            options: a function `run(masks, **tensors)`, or None where what depends on
            what isn't known. `masks` are 0/1 tensors by the ids of the layers and the
            names of the kernels, and `run` returns a list of tensors, positive where
            the outputs are reached. It is linear in all of them, but for
            `composites.binarized`.
        tensors: Names of the arguments of `call` that are tensors.
        options: Names of others that the plan takes.
    """

    plan: Callable
    tensors: tuple
    options: tuple = ()


def _always(layer):
    return True


def _never(layer):
    return False


def _one(layer: keras.layers.Layer) -> int:
    return 1


@dataclasses.dataclass(frozen=True)
class LayerRule:
    """All that is known of a layer type; what isn't given counts as unknown.

    With `reach` its connections are followed and given synaptic flow. With
    `mixes_channels` or `channels`, and `shrink` if it has weights, `compact` makes it
    smaller. (Its kernels, masked and counted, are what its masked twin declares as
    `MaskedKernel`.)

    Attributes:
        reach: `reach(layer, inputs, **kernels)`: what the layer computes without bias
            and activation, on zeros and ones. From 0/1 float32 tensors for its inputs
            ("is this position reached?") and its kernels (masks) to a tensor of the
            output's shape, positive exactly where a path leads. It is linear in each of
            them, with whole non-negative coefficients. An `activation` attribute of the
            layer is applied afterwards.
        kernels: Names of the attributes that hold kernels.
        is_known: `is_known(layer)`, or a bool: whether `reach` holds for the layer as
            it is configured.
        composite: How it is followed if it computes with layers inside of it.
        mixes_channels: Whether each channel of its output is made, by its kernels, of
            all channels of its one input. The last of `kernels` has the output's
            channels as its features, and `reach` is the layer's own linear function.
        folds_constants: `folds_constants(layer)`, or a bool, of a layer that mixes
            channels: whether a constant among its inputs that is the same at all
            positions adds the same to all positions of its outputs, so that it can go
            into the biases. `shrink` then gets what to add as `shift`.
        groups: `groups(layer)`, of a layer that mixes channels: in how many groups, of
            as many consecutive channels each, it does so, if each group of its output's
            is made of that group of its input's. Groups go whole, and as many channels
            go of each group that stays.
        channels: `channels(classes, call, xs)`: the list of the `Channels` of a call's
            outputs, made of the list of those of its inputs, or None where it isn't
            known which can go; `classes` are the `ChannelClasses`. By default new ones
            of a layer that mixes channels, and None of others.
        shrink: `shrink(layer, weights, kept)`, with the weights as a list of NumPy
            arrays and `KeptChannels`: the changes to the layer's config as a dict, and
            the list of its new weights. Not needed by layers without weights.
        takes_fewer_inputs: Whether it may be given only some of its inputs where
            nothing is left of the others. A single one is handed on as it is.
        is_sum: Whether inputs that are zero may be left out.
        input_axis: The axis of its one kernel that indexes the channels of its input,
            if masks may switch them there: see `check_target`.
        flow: `flow(layer, inputs, **kernels)`: what synaptic flow becomes, if that
            isn't what `reach` does with it. Linear, with non-negative coefficients.
        affine: `affine(layer, shape)`: what the layer in inference multiplies an output
            of that shape by, and then adds to it: a pair of arrays that broadcast to
            the shape, either of which may be None. By default the second is its `bias`.

    Raises:
        ValueError: If a field isn't of the kind told above, or if a rule with
            `mixes_channels` lacks what that needs.

    Example:

    ```python
    rule = LayerRule(reach=lambda layer, x: keras.ops.flip(x, axis=1))
    rule.kernels  # ()
    ```
    """

    reach: Callable | None = None
    kernels: Sequence[str] = ()
    is_known: Callable | bool = True
    composite: Composite | None = None
    mixes_channels: bool = False
    folds_constants: Callable | bool = False
    groups: Callable = _one
    channels: Callable | None = None
    shrink: Callable | None = None
    takes_fewer_inputs: bool = False
    is_sum: bool = False
    input_axis: int | None = None
    flow: Callable | None = None
    affine: Callable | None = None

    def __post_init__(self):
        are_names = isinstance(self.kernels, (list, tuple)) and all(
            isinstance(name, str) for name in self.kernels
        )
        if not are_names:
            wanted = "a tuple of attributes' names"
            raise checks.refusal("kernels", self.kernels, wanted)
        for name in ("reach", "groups", "channels", "shrink", "flow", "affine"):
            if (value := getattr(self, name)) is not None:
                checks.function(name, value, "a function, or None")
        object.__setattr__(self, "kernels", tuple(self.kernels))
        for name in ("is_known", "folds_constants"):
            if not isinstance(value := getattr(self, name), bool):
                checks.function(
                    name, value, "a bool, or a function from a layer to one"
                )
            else:
                object.__setattr__(self, name, _always if value else _never)
        if self.mixes_channels and not (self.reach and self.kernels and self.shrink):
            raise ValueError(
                "A rule with `mixes_channels` needs `reach`, `kernels` and `shrink`. "
                f"Received: reach={self.reach}, kernels={self.kernels}, "
                f"shrink={self.shrink}"
            )


UNKNOWN = LayerRule()
_rules: dict[type, LayerRule] = {}


def register_rule(*layer_types: type[keras.layers.Layer], rule: LayerRule) -> None:
    """Registers what is known of layer types, of one's own for example.

    It holds for these types, for their masked twins, and for subclasses that have the
    same `call`. It takes the place of what was registered before.

    Args:
        *layer_types: Classes of layers.
        rule: Their `LayerRule`. `ELEMENTWISE` is that of layers without weights that
            compute each entry of the output from the one at the same place, and
            `rule_of` gives that of another layer.

    Raises:
        ValueError: If a `layer_type` is no class of layers, or `rule` no `LayerRule`.

    Example:

    ```python
    class Snake(keras.layers.Layer):
        def call(self, x):
            return x + keras.ops.square(keras.ops.sin(x))

    class MyDense(keras.layers.Dense):
        pass

    register_rule(Snake, rule=ELEMENTWISE)
    register_rule(MyDense, rule=rule_of(keras.layers.Dense))
    ```
    """
    for layer_type in layer_types:
        if not isinstance(layer_type, type):
            raise checks.refusal("layer_types", layer_type, "classes of layers")
    if not isinstance(rule, LayerRule):
        raise checks.refusal("rule", rule, "a `LayerRule`")
    for layer_type in layer_types:
        _rules[layer_type] = rule


def stand_in(
    *layer_types: type[keras.layers.Layer], kernels: Sequence[str] = ()
) -> Callable[[Callable], Callable]:
    """Registers a rule that has nothing but `LayerRule.reach`, as a decorator.

    It holds for these types, for their masked twins, and for subclasses that have the
    same `call`. An `activation` attribute of the layer is applied afterwards.

    It gets the masks of the layer's own kernels alone. A layer with kernels in layers
    inside of it is followed by what it calls, whatever rule it has; if it has kernels
    of its own, too, or its `call` can't be traced, it counts as fully connected, and
    `summary` says so.

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
        register_rule(*layer_types, rule=LayerRule(reach=function, kernels=kernels))
        return function

    return register


def rule_of(layer: keras.layers.Layer | type[keras.layers.Layer]) -> LayerRule:
    """The rule of a layer or of a layer type; an empty one where none is known.

    Args:
        layer: A layer, stock, masked or one's own, or the type of one. Anything else
            has an empty rule, too.

    Returns:
        A `LayerRule`.

    Example:

    ```python
    rule_of(keras.layers.Dense).kernels  # ('kernel',)
    ```
    """
    layer_type = layer if isinstance(layer, type) else type(layer)
    for base in (layer_type, *_same_calls(stock_type(layer_type))):
        if base in _rules:
            return _rules[base]
    return UNKNOWN


def _same_calls(layer_type):
    """A layer type, and those it is derived from whose `call` is its own, too."""
    call = getattr(layer_type, "call", None)
    return [x for x in layer_type.__mro__ if getattr(x, "call", None) is call]


def stock_type(layer_type: type[Any]) -> type:
    """A layer's type, or the one that it is the masked twin of."""
    bases = layer_type.__bases__
    is_twin = MaskedLayer in bases or ChannelFollower in bases
    return layer_type.stock_class if is_twin else layer_type
