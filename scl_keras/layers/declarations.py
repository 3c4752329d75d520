"""What a masked layer says of its weights: which are kernels, which go with them."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

from scl_keras import checks
from scl_keras.layers.positions import at_features
from scl_keras.types import Tensor


class MaskedKernel:
    """Declares one kernel of a masked layer, as a class attribute of the same name.

    Inside the layer's `call` the attribute reads as the masked kernel `v * H(s)`.
    Everywhere else it reads as the stock layer's own kernel `v`, so that all of
    Keras that handles kernels (saving, LoRA, constraints) finds what it expects.

    Args:
        feature_axes: Axes of the kernel that index its features (output units or
            filters): a tuple, or a function from the layer to one.
        positions: Rule of `scl_keras.layers.positions` by which the kernel's
            multiply-accumulates are counted.
        when: Function from the layer to whether it has this kernel; by default it has.

    Raises:
        ValueError: If `feature_axes` aren't axes, or `positions` or `when` is no
            function.

    Example:

    ```python
    class MyDense(keras.layers.Dense):
        pass

    class MaskedMyDense(MaskedLayer, MyDense):
        kernel = MaskedKernel()

    layer = MaskedMyDense(10)
    layer.build((None, 64))
    layer.kernel_mask.size  # 640
    ```
    """

    def __init__(
        self,
        feature_axes: Sequence[int] | Callable[[Any], Sequence[int]] = (-1,),
        positions: Callable[..., int | None] = at_features,
        when: Callable[[Any], bool] | None = None,
    ) -> None:
        if not callable(feature_axes):
            wanted = "a tuple of axes of the kernel, or a function from a layer to one"
            feature_axes = checks.integers("feature_axes", feature_axes, wanted)
        self.feature_axes = feature_axes
        self.positions = checks.function("positions", positions, "a function")
        self.when = when and checks.function("when", when, "a function, or None")

    def axes_of(self, layer: keras.layers.Layer) -> tuple[int, ...]:
        """The feature axes of this kernel in `layer`, masked or stock: a tuple."""
        axes = self.feature_axes
        return tuple(axes(layer) if callable(axes) else axes)

    def __set_name__(self, owner, name):
        self.owner, self.name = owner, name

    def __get__(self, layer, owner=None):
        if layer is None:
            return self
        computed = vars(layer).get("_masked")  # None outside of calls
        if computed is None:
            return self.unmasked(layer)
        kernel = computed.get(self.name)
        if kernel is None and (kernel := self.masked(layer)) is None:
            return None
        cast = layer.autocast and self.name in vars(layer).get("_cast_after", ())
        return ops.cast(kernel, layer.compute_dtype) if cast else kernel

    def unmasked(self, layer: Any) -> Any:
        """The stock layer's own kernel `v`, also inside of the layer's call."""
        # Some stock layers hold their kernel as an attribute, some as a property.
        if self.name in vars(layer):
            return vars(layer)[self.name]
        return getattr(super(self.owner, layer), self.name)

    def masked(self, layer: Any) -> Tensor | None:
        """The kernel as the layer's call has it, before mixed precision casts it."""
        kernel = self.unmasked(layer)
        if kernel is None:
            return None
        mask = layer.mask_of(self.name)
        if mask.acts_behind() is not None:
            return ops.convert_to_tensor(kernel)
        return mask.mask_kernel(kernel)

    def __set__(self, layer, value):
        layer.__dict__[self.name] = value


class MaskedBias:
    """Declares the bias that goes with a kernel's features, as a class attribute.

    Where a mask switches whole features, a feature that is cut has no bias either, and
    is what the activation makes of zero. If that is zero, the layer's outputs are
    switched, and else (`"sigmoid"`) the attribute reads as `b * H(s)` inside of `call`.
    Otherwise it reads as the stock layer's own.

    Args:
        kernel: Name of the kernel whose features are the channels that the layer
            returns, in the order of the bias.

    Raises:
        ValueError: If `kernel` is no name.

    Example:

    ```python
    class MyDense(keras.layers.Dense):
        pass

    class MaskedMyDense(MaskedLayer, MyDense):
        kernel = MaskedKernel()
        bias = MaskedBias("kernel")
    ```
    """

    def __init__(self, kernel: str = "kernel") -> None:
        if not isinstance(kernel, str):
            raise checks.refusal("kernel", kernel, "the name of a kernel")
        self.kernel = kernel

    def __set_name__(self, owner, name):
        self.name = name

    def __get__(self, layer, owner=None):
        if layer is None:
            return self
        masked = layer.__dict__.get("_masked") or {}
        if self.name in masked:
            return masked[self.name]
        if self.name not in layer.__dict__:
            raise AttributeError(f"{layer!r} has no attribute '{self.name}' yet.")
        return layer.__dict__[self.name]

    def __set__(self, layer, value):
        layer.__dict__[self.name] = value


def declarations(cls: type, kind: type) -> dict[str, Any]:
    """What a class and its bases declare of a kind, such as `MaskedKernel`, by name."""
    return {
        name: attribute
        for base in reversed(cls.__mro__)
        for name, attribute in vars(base).items()
        if isinstance(attribute, kind)
    }
