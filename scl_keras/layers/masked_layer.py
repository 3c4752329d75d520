"""The one mechanism by which any Keras layer becomes a masked layer."""

import copy
import functools
from typing import TYPE_CHECKING, Any, TypeAlias

import keras
from keras import ops

from scl_keras.layers.channels import keeps_zero, switch_channels
from scl_keras.layers.declarations import MaskedBias, MaskedKernel, declarations
from scl_keras.layers.reading import applying_masks
from scl_keras.layers.twins import own_kernels, register_twin
from scl_keras.layers.unbuilt import mask_unbuilt
from scl_keras.layers.weight_functions import OnKeptConnections, OnMaskedKernel
from scl_keras.masks import granularity as granularities
from scl_keras.masks.granularity import Granularity
from scl_keras.masks.layout import follow_layout
from scl_keras.masks.mask import Mask
from scl_keras.masks.settings import DEFAULT_MASK_INITIALIZER, MaskSettings
from scl_keras.masks.ste import STE
from scl_keras.types import Initializer, Tensor

# A mixin of layers, and to type checkers a layer.
if TYPE_CHECKING:
    _Layer: TypeAlias = keras.layers.Layer
else:
    _Layer = object


class MaskedLayer(_Layer):
    """Mixin that puts a learned mask over the kernels of a Keras layer.

    Put it before a layer of your own and name the kernels. From then on `sparsify`
    takes the masked class for that layer, its twin:

    ```python
    class Gain(keras.layers.Layer):
        def build(self, shape):
            self.kernel = self.add_weight((shape[-1], 16), name="kernel")

        def call(self, inputs):
            return inputs @ self.kernel

    @keras.saving.register_keras_serializable("my_package")
    class MaskedGain(MaskedLayer, Gain):
        kernel = MaskedKernel(feature_axes=(-1,))
    ```

    A layer that makes other layers, in its `__init__` or `build`, names only kernels of
    its own, if it has any. Unbuilt layers put into its attributes, also in lists, are
    masked on the way where they have a masked twin:

    ```python
    class Pair(keras.layers.Layer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.first, self.second = Gain(), keras.layers.Dense(10)

        def call(self, inputs):
            return self.second(self.first(inputs))

    @keras.saving.register_keras_serializable("my_package")
    class MaskedPair(MaskedLayer, Pair):  # its two layers have the kernels
        pass
    ```

    A class that derives from a layer of Keras, `MaskedLayer, keras.layers.Dense`, takes
    the place of the twin that the package has for it.

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
        ValueError: If `mask_initializer`, `ste`, `granularity` or `mask_dtype` isn't
            one of those above.
    """

    masked_in_place = False
    """Whether `sparsify` put the masks in, so that a file has to tell of them."""

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        if MaskedLayer in cls.__bases__:
            cls.stock_class = cls.__bases__[cls.__bases__.index(MaskedLayer) + 1]
            register_twin(cls.stock_class, cls)
            if cls.declared_kernels():
                cls.build = _building_masks(cls.build)
        stock_call = cls.call

        # Keras reads the signature of `call` to learn what it may pass.
        @functools.wraps(stock_call)
        def call(self, *args, **kwargs):
            with applying_masks(self):
                outputs = stock_call(self, *args, **kwargs)
            return self._switched(outputs)

        cls.call = call

    def __init__(
        self,
        *args: Any,
        mask_initializer: Initializer = DEFAULT_MASK_INITIALIZER,
        ste: str | STE | None = "identity",
        granularity: str | Granularity = "connection",
        mask_dtype: str = "float32",
        **kwargs: Any,
    ) -> None:
        self.mask_settings = MaskSettings(
            mask_initializer, ste, granularity, mask_dtype
        )
        super().__init__(*args, **kwargs)
        for name in own_kernels(self):
            setattr(self, f"{name}_mask", self.new_mask(name))

    def __setattr__(self, name, value):
        """Masks the layers that the stock layer makes for itself."""
        mask_unbuilt(value, self)
        super().__setattr__(name, value)

    @property
    def ste(self) -> STE | None:
        """Straight-through estimator of the layer's masks, None for fixed ones."""
        return self.mask_settings.ste

    @property
    def granularity(self) -> Granularity:
        """What one mask variable of the layer switches."""
        return self.mask_settings.granularity

    def new_mask(self, kernel_name: str) -> Mask:
        """An unbuilt `Mask` for the kernel called `kernel_name`."""
        settings = self.mask_settings
        return Mask(
            settings.initializer,
            settings.ste,
            own_kernels(self)[kernel_name].axes_of(self),
            granularity=settings.granularity,
            mask_dtype=settings.mask_dtype,
            name=f"{kernel_name}_mask",
        )

    def build_masks(self) -> None:
        """Builds the masks of the built layer, and has them act where they should."""
        for name, declared in own_kernels(self).items():
            variable, mask = getattr(self, name), self.mask_of(name)
            # A function: as an attribute the kernel would be a weight of the mask, too.
            mask.kernel_values = functools.partial(declared.unmasked, self)
            mask.build(variable.shape)
            mask.trainable = self.trainable
            if not isinstance(variable, keras.Variable):
                continue  # LoRA, enabled at build: a sum with a frozen kernel in it
            follow_layout(mask.variable, variable)
            if variable.regularizer is not None:
                variable.regularizer = OnMaskedKernel(variable.regularizer, mask)
            if variable.constraint is not None:
                variable.constraint = OnKeptConnections(variable.constraint, mask)
        # Channels are switched where they are complete: behind the activation, if they
        # are zero there, too.
        if self.channel_mask is not None and keeps_zero(self):
            self.channel_mask.act_behind(self)

    def mask_of(self, kernel_name: str) -> Mask:
        """The `Mask` over the kernel called `kernel_name`, such as `"kernel"`."""
        return getattr(self, f"{kernel_name}_mask")

    def masked_kernels(self) -> dict[str, Tensor]:
        """The kernels as the layer computes with them, by name: tensors `v * H(s)`.

        Those of layers inside of it are not its own, and not among them.
        """
        return {
            name: self.mask_of(name).mask_kernel(getattr(self, name))
            for name in own_kernels(self)
            if getattr(self, name) is not None
        }

    @property
    def channel_axis(self) -> int:
        """The axis of the channels that the layer returns."""
        return 1 if getattr(self, "data_format", None) == "channels_first" else -1

    def _switched(self, outputs):
        mask = self.channel_mask
        if mask is None or mask.acts_behind() is not self:
            return outputs
        return switch_channels(outputs, mask.switches(), self.channel_axis)

    def masked_biases(self) -> dict[str, Tensor]:
        """Biases `b * H(s)`, by name, where the layer's masks switch whole features."""
        mask = self.channel_mask
        if mask is None:
            return {}
        masked = {}
        for name in declarations(type(self), MaskedBias):
            bias = getattr(self, name)
            if bias is not None:
                kept = ops.reshape(mask.switches(bias.dtype), (-1,))
                masked[name] = ops.multiply(bias, kept)
        return masked

    @property
    def channel_mask(self) -> Mask | None:
        """The mask that switches the channels that the layer returns, or None."""
        biases = list(declarations(type(self), MaskedBias).values())
        if not biases or not isinstance(self.granularity, granularities.Channel):
            return None
        mask = self.mask_of(biases[0].kernel)
        return mask if mask.built and mask.switches_channels else None

    def add_weight(self, *args: Any, **kwargs: Any) -> keras.Variable:
        """Has Keras cast kernels after they are masked, not before.

        In mixed precision the gradients of masks and of looked-up rows add up in full
        precision then, as those of the stock layer do.
        """
        name = kwargs.get("name")
        if name in self.declared_kernels() and kwargs.get("autocast", True):
            kwargs["autocast"] = False
            self.__dict__.setdefault("_cast_after", set()).add(name)
        return super().add_weight(*args, **kwargs)

    def quantize(self, *args: Any, **kwargs: Any) -> None:
        """Refuses what would round a kernel and forget its mask.

        Raises:
            ValueError: In any case.
        """
        raise ValueError(
            f"Layer '{self.name}' has masks, and Keras's quantized layers have none. "
            "Take them out first, `strip_masks(model)`: what is zero stays zero. "
            f"Received: {self!r}"
        )

    def get_config(self) -> dict[str, Any]:
        """Constructor arguments, for serialization."""
        return {**super().get_config(), **self.mask_settings.get_config()}

    @classmethod
    def declared_kernels(cls) -> dict[str, MaskedKernel]:
        """The class's `MaskedKernel` declarations, by name."""
        return declarations(cls, MaskedKernel)

    @classmethod
    def make_twin(cls, kind: type[keras.layers.Layer]) -> None:
        """Makes a twin for a subclass of the stock layer, with the same kernels."""
        declared = declarations(cls, MaskedKernel)
        if kind.call is cls.stock_class.call:
            # Otherwise it isn't known to be zero where kernel and bias are.
            declared |= declarations(cls, MaskedBias)
        declared = {name: copy.copy(x) for name, x in declared.items()}
        type(f"Masked{kind.__name__}", (MaskedLayer, kind), declared)

    def read_once(self) -> dict[str, Tensor]:
        """What a call reads as masked, computed once for all of it: a dict of tensors.

        What mixed precision has cast already is left out: that is masked when it is
        read.
        """
        kernels = {k: v.masked(self) for k, v in own_kernels(self).items()}
        full = {
            name: kernel
            for name, kernel in kernels.items()
            if kernel is not None
            and keras.backend.standardize_dtype(kernel.dtype) == self.variable_dtype
        }
        mask = self.channel_mask
        biases = {} if mask is None or mask.acts_behind() else self.masked_biases()
        return full | biases


def _building_masks(stock_build):
    """A `build` that builds the stock layer, then one mask a kernel."""

    # Keras reads its signature, too. Not its attributes, by which Keras marks a `build`
    # that does nothing.
    @functools.wraps(stock_build, updated=())
    def build(self, *args, **kwargs):
        stock_build(self, *args, **kwargs)
        self.build_masks()

    return build
