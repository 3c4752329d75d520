"""The one mechanism by which any Keras layer becomes a masked layer."""

import contextlib
import functools

import keras
from keras import ops

from scl_keras.masks import Mask

DEFAULT_MASK_INITIALIZER = 0.03
_masked_class_of = {}


class MaskedKernel:
    """Declares one kernel of a masked layer, as a class attribute of the same name.

    Inside the layer's `call` the attribute reads as the masked kernel `v * H(s)`.
    Everywhere else it reads as the stock layer's own kernel `v`, so that all of
    Keras that handles kernels (saving, LoRA, constraints) finds what it expects.

    Args:
        feature_axes: Axes of the kernel that index its features (output units or
            filters).
    """

    def __init__(self, feature_axes=(-1,)):
        self.feature_axes = feature_axes

    def __set_name__(self, owner, name):
        self.owner, self.name = owner, name

    def __get__(self, layer, owner=None):
        if layer is None:
            return self
        # Some stock layers hold their kernel as an attribute, some as a property.
        if self.name in layer.__dict__:
            kernel = layer.__dict__[self.name]
        else:
            kernel = getattr(super(self.owner, layer), self.name)
        if kernel is not None and layer.__dict__.get("_applies_masks"):
            return layer.mask_of(self.name).mask_kernel(kernel)
        return kernel

    def __set__(self, layer, value):
        layer.__dict__[self.name] = value


class MaskedLayer:
    """Mixin that puts a learned mask over the kernels of a Keras layer.

    Put it before the stock layer and name the kernels. `sparsify` then knows the
    masked layer, for one's own layers too:

    ```python
    @keras.saving.register_keras_serializable("my_package")
    class MaskedDense(MaskedLayer, keras.layers.Dense):
        kernel = MaskedKernel(feature_axes=(-1,))
    ```

    Forward: `w = v * H(s)`. Backward: `dL/dv = dL/dw * H(s)`, so that a cut connection
    keeps its value, and `dL/ds = dL/dw * v * p(s)` with the proxy `p` of `ste`
    (Tang et al., arXiv 2201.05020).

    A kernel's regularizer and constraint act on the masked kernel `w`, since cut
    connections are not part of the network: they add nothing to the penalty, and keep
    their values.

    Args:
        *args: Arguments of the stock layer, in its order.
        mask_initializer: Initializer of the mask variables, a number or a name.
            Positive: the layer starts with all its connections.
        ste: Straight-through estimator: `"identity"`, `"leaky_relu"`, `"softplus"`
            or an `STE`. None for fixed masks, which training doesn't change.
        **kwargs: Keyword arguments of the stock layer.
    """

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        if MaskedLayer in cls.__bases__:
            cls.stock_class = cls.__bases__[cls.__bases__.index(MaskedLayer) + 1]
            _masked_class_of[cls.stock_class] = cls
        stock_call = cls.call

        # Keras reads the signature of `call` to learn what it may pass.
        @functools.wraps(stock_call)
        def call(self, *args, **kwargs):
            with self._applying_masks():
                return stock_call(self, *args, **kwargs)

        cls.call = call

    def __init__(
        self,
        *args,
        mask_initializer=DEFAULT_MASK_INITIALIZER,
        ste="identity",
        **kwargs,
    ):
        super().__init__(*args, **kwargs)
        for name, kernel in self.declared_kernels().items():
            mask = Mask(
                mask_initializer,
                ste,
                kernel.feature_axes,
                name=f"{name}_mask",
                trainable=self.trainable,
            )
            setattr(self, f"{name}_mask", mask)
            self.mask_initializer, self.ste = mask.initializer, mask.ste

    def build(self, input_shape):
        """Builds the stock layer, then one mask a kernel."""
        super().build(input_shape)
        for name in self.declared_kernels():
            variable, mask = getattr(self, name), self.mask_of(name)
            mask.build(variable.shape)
            if not isinstance(variable, keras.Variable):
                continue  # LoRA, enabled at build: a sum with a frozen kernel in it
            if variable.regularizer is not None:
                variable.regularizer = _OnMaskedKernel(variable.regularizer, mask)
            if variable.constraint is not None:
                variable.constraint = _OnKeptConnections(variable.constraint, mask)

    def mask_of(self, kernel_name):
        """The `Mask` over the kernel called `kernel_name`, such as `"kernel"`."""
        return getattr(self, f"{kernel_name}_mask")

    def masked_kernels(self):
        """The kernels as the layer computes with them, by name: tensors `v * H(s)`."""
        with self._applying_masks():
            return {name: getattr(self, name) for name in self.declared_kernels()}

    def get_config(self):
        """Constructor arguments, for serialization."""
        return {
            **super().get_config(),
            "mask_initializer": keras.initializers.serialize(self.mask_initializer),
            "ste": keras.saving.serialize_keras_object(self.ste),
        }

    @classmethod
    def declared_kernels(cls):
        """The class's `MaskedKernel` declarations, by name."""
        return {
            name: attribute
            for base in reversed(cls.__mro__)
            for name, attribute in vars(base).items()
            if isinstance(attribute, MaskedKernel)
        }

    @contextlib.contextmanager
    def _applying_masks(self):
        before = self.__dict__.get("_applies_masks", False)
        self.__dict__["_applies_masks"] = True
        try:
            yield
        finally:
            self.__dict__["_applies_masks"] = before


def masked_class_of(layer):
    """The masked class for a stock layer's exact type, or None if there is none."""
    return _masked_class_of.get(type(layer))


class _OnMaskedKernel(keras.regularizers.Regularizer):
    """A regularizer that sees `v * H(s)` instead of `v`."""

    def __init__(self, regularizer, mask):
        self.regularizer, self.mask = regularizer, mask

    def __call__(self, kernel):
        return self.regularizer(self.mask.mask_kernel(kernel))


class _OnKeptConnections(keras.constraints.Constraint):
    """A constraint that sees `v * H(s)`, and leaves the cut connections' values."""

    def __init__(self, constraint, mask):
        self.constraint, self.mask = constraint, mask

    def __call__(self, kernel):
        kept = self.mask.kept()
        return ops.where(
            ops.cast(kept, "bool"),
            self.constraint(ops.multiply(kernel, ops.cast(kept, kernel.dtype))),
            kernel,
        )
