"""The one mechanism by which any Keras layer becomes a masked layer."""

import contextlib
import functools

import keras
from keras import ops

from scl_keras import step
from scl_keras.copying import copy_layer
from scl_keras.graph import walk_inside, wrapped_layers
from scl_keras.masks import Mask, get_initializer
from scl_keras.positions import at_features

DEFAULT_MASK_INITIALIZER = 0.03
_masked_class_of = {}


class MaskedKernel:
    """Declares one kernel of a masked layer, as a class attribute of the same name.

    Inside the layer's `call` the attribute reads as the masked kernel `v * H(s)`.
    Everywhere else it reads as the stock layer's own kernel `v`, so that all of
    Keras that handles kernels (saving, LoRA, constraints) finds what it expects.

    Args:
        feature_axes: Axes of the kernel that index its features (output units or
            filters): a tuple, or a function from the layer to one.
        positions: Rule of `scl_keras.positions` by which the kernel's
            multiply-accumulates are counted.
    """

    def __init__(self, feature_axes=(-1,), positions=at_features):
        self.feature_axes = feature_axes
        self.positions = positions

    def axes_of(self, layer):
        """The feature axes of this kernel in `layer`, masked or stock: a tuple."""
        axes = self.feature_axes
        return tuple(axes(layer) if callable(axes) else axes)

    def __set_name__(self, owner, name):
        self.owner, self.name = owner, name

    def __get__(self, layer, owner=None):
        if layer is None:
            return self
        masked = layer.__dict__.get("_masked")
        if masked and self.name in masked:
            cast = layer.autocast and self.name in layer.__dict__.get("_cast", ())
            kernel = masked[self.name]
            return ops.cast(kernel, layer.compute_dtype) if cast else kernel
        # Some stock layers hold their kernel as an attribute, some as a property.
        if self.name in layer.__dict__:
            kernel = layer.__dict__[self.name]
        else:
            kernel = getattr(super(self.owner, layer), self.name)
        if kernel is None or masked is None:
            return kernel
        return layer.mask_of(self.name).mask_kernel(kernel)

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

    A layer that makes other layers, in its `__init__` or `build`, names only kernels of
    its own, if it has any. Unbuilt layers put into its attributes, also in lists, are
    masked on the way where they have a masked twin:

    ```python
    @keras.saving.register_keras_serializable("my_package")
    class MaskedLSTM(MaskedLayer, keras.layers.LSTM):  # its `cell` has the kernels
        pass
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

    Raises:
        ValueError: If an argument is something else.
    """

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        if MaskedLayer in cls.__bases__:
            cls.stock_class = cls.__bases__[cls.__bases__.index(MaskedLayer) + 1]
            _masked_class_of[cls.stock_class] = cls
            if cls.declared_kernels():
                cls.build = _building_masks(cls.build)
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
        self.mask_initializer = get_initializer(mask_initializer)
        self.ste = step.get(ste)
        super().__init__(*args, **kwargs)
        for name, kernel in self.declared_kernels().items():
            mask = Mask(
                self.mask_initializer,
                self.ste,
                kernel.axes_of(self),
                name=f"{name}_mask",
                trainable=self.trainable,
            )
            setattr(self, f"{name}_mask", mask)

    def __setattr__(self, name, value):
        """Masks the layers that the stock layer makes for itself."""
        super().__setattr__(name, self._with_masks(value))

    def _with_masks(self, value):
        if type(value) in (list, tuple):
            items = type(value)(map(self._with_masks, value))
            # Keras counts on lists of its own to stay the same ones.
            same = all(a is b for a, b in zip(items, value, strict=True))
            return value if same else items
        # A layer that is built has weights, or is another one's.
        if not isinstance(value, keras.layers.Layer) or value.built:
            return value
        if not masked_class_of(value) and not wrapped_layers(value):
            return value
        return masked_copy(value, self.mask_initializer, self.ste)

    def mask_of(self, kernel_name):
        """The `Mask` over the kernel called `kernel_name`, such as `"kernel"`."""
        return getattr(self, f"{kernel_name}_mask")

    def masked_kernels(self):
        """The kernels as the layer computes with them, by name: tensors `v * H(s)`.

        Those of layers inside of it are not its own, and not among them.
        """
        with self._applying_masks():
            return dict(self.__dict__["_masked"])

    def add_weight(self, *args, **kwargs):
        """Has Keras cast kernels after they are masked, not before.

        In mixed precision the gradients of masks and of looked-up rows add up in full
        precision then, as those of the stock layer do.
        """
        name = kwargs.get("name")
        if name in self.declared_kernels() and kwargs.get("autocast", True):
            kwargs["autocast"] = False
            self.__dict__.setdefault("_cast", set()).add(name)
        return super().add_weight(*args, **kwargs)

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

    def _full_precision_kernels(self):
        """Those masked kernels that no mixed precision has cast already."""
        masked = {name: getattr(self, name) for name in self.declared_kernels()}
        return {
            name: kernel
            for name, kernel in masked.items()
            if kernel is not None
            and keras.backend.standardize_dtype(kernel.dtype) == self.variable_dtype
        }

    @contextlib.contextmanager
    def _applying_masks(self):
        """Has kernels read as masked ones, of this layer and of those inside of it.

        Inside too, since some layers hand the kernels of their cell to a fused
        operation, and the others loop over it: there, masking once is enough.
        """
        entered = []
        for layer in walk_inside(self):
            if isinstance(layer, MaskedLayer) and "_masked" not in layer.__dict__:
                layer.__dict__["_masked"] = {}
                entered.append(layer)
        try:
            for layer in entered:
                if layer.built:
                    layer.__dict__["_masked"] = layer._full_precision_kernels()
            yield
        finally:
            for layer in entered:
                del layer.__dict__["_masked"]


def _building_masks(stock_build):
    """A `build` that builds the stock layer, then one mask a kernel."""

    # Keras reads its signature, too. Not its attributes, by which Keras marks a `build`
    # that does nothing.
    @functools.wraps(stock_build, updated=())
    def build(self, *args, **kwargs):
        stock_build(self, *args, **kwargs)
        for name in self.declared_kernels():
            variable, mask = getattr(self, name), self.mask_of(name)
            mask.build(variable.shape)
            # A function: as an attribute the kernel would be a weight of the mask, too.
            mask.kernel_values = functools.partial(getattr, self, name)
            if not isinstance(variable, keras.Variable):
                continue  # LoRA, enabled at build: a sum with a frozen kernel in it
            if variable.regularizer is not None:
                variable.regularizer = _OnMaskedKernel(variable.regularizer, mask)
            if variable.constraint is not None:
                variable.constraint = _OnKeptConnections(variable.constraint, mask)

    return build


def masked_class_of(layer):
    """The masked class for a stock layer's exact type, or None if there is none."""
    return _masked_class_of.get(type(layer))


def masked_copy(layer, mask_initializer, ste):
    """An unbuilt copy of a layer, with masks where it and those it wraps can have any.

    Args:
        layer: A layer, stock or masked.
        mask_initializer: Initializer of the new mask variables.
        ste: Straight-through estimator of the new masks.

    Returns:
        A layer.
    """

    def convert(inner):
        return masked_copy(inner, mask_initializer, ste)

    config, masked_class = layer.get_config(), masked_class_of(layer)
    if masked_class:
        config |= {"mask_initializer": mask_initializer, "ste": ste}
    return copy_layer(layer, convert, masked_class, config)


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
        kernel = ops.convert_to_tensor(kernel)
        kept = self.mask.kept()
        return ops.where(
            ops.cast(kept, "bool"),
            self.constraint(ops.multiply(kernel, ops.cast(kept, kernel.dtype))),
            kernel,
        )
