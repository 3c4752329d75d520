"""The one mechanism by which any Keras layer becomes a masked layer."""

import contextlib
import functools

import keras
from keras import ops

from scl_keras.conversion.copying import copy_layer
from scl_keras.graph.walking import walk_inside, wrapped_layers
from scl_keras.layers.channels import keeps_zero, switch_channels
from scl_keras.layers.declarations import MaskedBias, MaskedKernel
from scl_keras.layers.weight_functions import OnKeptConnections, OnMaskedKernel
from scl_keras.masks import granularity as granularities
from scl_keras.masks import ste as estimators
from scl_keras.masks.mask import Mask, get_dtype, get_initializer

DEFAULT_MASK_INITIALIZER = 0.03
_masked_class_of = {}


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

    In a plain `keras.Model` the optimizer of the weights moves the masks, too, without
    normalization or price: use `SCLModel`, or `SCLOptimizer` in a loop of one's own.

    A kernel's regularizer and constraint act on the masked kernel `w`, since cut
    connections are not part of the network: they add nothing to the penalty, and keep
    their values.

    Args:
        *args: Arguments of the stock layer, in its order.
        mask_initializer: Initializer of the mask variables, a number or a name.
            Positive: the layer starts with all its connections.
        ste: Straight-through estimator: `"identity"`, `"leaky_relu"`, `"softplus"`
            or an `STE`. None for fixed masks, which training doesn't change.
        granularity: What one mask variable switches: `"connection"`, `"channel"` or a
            `Granularity` such as `Block(4)`. With channels that are features a bias is
            masked, too, where the class declares one (`MaskedBias`).
        mask_dtype: Dtype of the mask variables: `"float32"`, or `"bfloat16"` to halve
            their memory and that of their gradients.
        **kwargs: Keyword arguments of the stock layer.

    Raises:
        ValueError: If an argument is something else.
    """

    _switches_outputs = False

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
                outputs = stock_call(self, *args, **kwargs)
            return self._switched(outputs)

        cls.call = call

    def __init__(
        self,
        *args,
        mask_initializer=DEFAULT_MASK_INITIALIZER,
        ste="identity",
        granularity="connection",
        mask_dtype="float32",
        **kwargs,
    ):
        self.mask_initializer = get_initializer(mask_initializer)
        self.ste = estimators.get(ste)
        self.granularity = granularities.get(granularity)
        self.mask_dtype = get_dtype(mask_dtype)
        super().__init__(*args, **kwargs)
        for name, kernel in self.declared_kernels().items():
            mask = Mask(
                self.mask_initializer,
                self.ste,
                kernel.axes_of(self),
                granularity=self.granularity,
                mask_dtype=self.mask_dtype,
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
        return masked_copy(
            value, self.mask_initializer, self.ste, self.granularity, self.mask_dtype
        )

    def mask_of(self, kernel_name):
        """The `Mask` over the kernel called `kernel_name`, such as `"kernel"`."""
        return getattr(self, f"{kernel_name}_mask")

    def masked_kernels(self):
        """The kernels as the layer computes with them, by name: tensors `v * H(s)`.

        Those of layers inside of it are not its own, and not among them.
        """
        with self._applying_masks():
            masked = self.__dict__["_masked"]
            masked = {k: masked[k] for k in self.declared_kernels() if k in masked}
        for name, kernel in masked.items():
            if self.mask_of(name).acts_later:
                masked[name] = self.mask_of(name).mask_kernel(kernel)
        return masked

    @property
    def channel_axis(self):
        """The axis of the channels that the layer returns."""
        return 1 if getattr(self, "data_format", None) == "channels_first" else -1

    def leave_switching(self):
        """Leaves it to layers behind it to switch its channels."""
        self.channel_mask.acts_later = True
        self._switches_outputs = False

    def _switched(self, outputs):
        if not self._switches_outputs:
            return outputs
        return switch_channels(outputs, self.channel_mask.switches(), self.channel_axis)

    def _switch_where_complete(self):
        """Switches channels behind the activation, if they are zero there, too."""
        if self.channel_mask is not None and keeps_zero(self):
            self.channel_mask.acts_later = self._switches_outputs = True

    def masked_biases(self):
        """Biases `b * H(s)`, by name, where the layer's masks switch whole features."""
        mask, masked = self.channel_mask, {}
        for name in self._declared(MaskedBias) if mask is not None else ():
            bias = getattr(self, name)
            if bias is not None:
                kept = ops.reshape(mask.switches(bias.dtype), (-1,))
                masked[name] = ops.multiply(bias, kept)
        return masked

    @property
    def channel_mask(self):
        """The mask that switches the channels that the layer returns, or None."""
        biases = list(self._declared(MaskedBias).values())
        if not biases or not isinstance(self.granularity, granularities.Channel):
            return None
        mask = self.mask_of(biases[0].kernel)
        return mask if mask.switches_channels else None

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
            "granularity": granularities.serialize(self.granularity),
            "mask_dtype": self.mask_dtype,
        }

    @classmethod
    def declared_kernels(cls):
        """The class's `MaskedKernel` declarations, by name."""
        return cls._declared(MaskedKernel)

    @classmethod
    def _declared(cls, kind):
        return {
            name: attribute
            for base in reversed(cls.__mro__)
            for name, attribute in vars(base).items()
            if isinstance(attribute, kind)
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

    def _biases_in_call(self):
        mask = self.channel_mask
        return {} if mask is None or mask.acts_later else self.masked_biases()

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
                    kernels = layer._full_precision_kernels()
                    layer.__dict__["_masked"] = kernels | layer._biases_in_call()
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
                variable.regularizer = OnMaskedKernel(variable.regularizer, mask)
            if variable.constraint is not None:
                variable.constraint = OnKeptConnections(variable.constraint, mask)
        self._switch_where_complete()

    return build


def masked_class_of(layer):
    """The masked class for a stock layer's exact type, or None if there is none."""
    return _masked_class_of.get(type(layer))


def masked_copy(
    layer, mask_initializer, ste, granularity="connection", mask_dtype="float32"
):
    """An unbuilt copy of a layer, with masks where it and those it wraps can have any.

    Args:
        layer: A layer, stock or masked.
        mask_initializer: Initializer of the new mask variables.
        ste: Straight-through estimator of the new masks.
        granularity: What their mask variables switch.
        mask_dtype: Dtype of their mask variables.

    Returns:
        A layer.
    """

    def convert(inner):
        return masked_copy(inner, mask_initializer, ste, granularity, mask_dtype)

    config, masked_class = layer.get_config(), masked_class_of(layer)
    if masked_class:
        config |= {"mask_initializer": mask_initializer, "ste": ste}
        config |= {"granularity": granularity, "mask_dtype": mask_dtype}
    return copy_layer(layer, convert, masked_class, config)
