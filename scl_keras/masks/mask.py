"""One mask: the trainable variable behind a kernel's kept and cut connections."""

import weakref
from collections.abc import Callable, MutableMapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from scl_keras import backend, checks
from scl_keras.masks import granularity as granularities
from scl_keras.masks import ste as estimators
from scl_keras.masks.competing import Competing
from scl_keras.masks.constraint import BARELY_KEPT, BOUND, MaskConstraint
from scl_keras.masks.granularity import Granularity
from scl_keras.masks.owners import collapsed
from scl_keras.masks.settings import get_dtype, get_initializer
from scl_keras.masks.ste import STE
from scl_keras.types import Initializer, Shape, Tensor


@keras.saving.register_keras_serializable("scl_keras")
class Mask(keras.layers.Layer):
    """The mask over one kernel: `w = v * H(s)`.

    It holds the mask variable `s` of the kernel's shape, or of a coarser one where
    `granularity` says so. A connection is kept where `s > 0`. It is float32 in every
    precision policy, or what `mask_dtype` says.

    After every optimizer update `s` is put back into [-1, 1], so that no connection
    drifts so far that it could not come back, and where nothing positive is left, the
    largest entry is lifted to just above zero: a layer can't lose its last
    connection while `min_connections` is 1 (see `is_down_to_last`).

    Where the granularity lets only some connections be kept at a time (`NM`), the mask
    is `H(Π(s))`, see there; `Π(s)` is `deciding()`.

    In a masked layer, `kernel_values()` gives the values `v` that it masks.

    Args:
        initializer: Keras initializer of `s`, a number or a name. Positive values start
            with the connection kept.
        ste: Straight-through estimator, see `scl_keras.masks.ste.get`. None for a
            mask that is not learned: its variable is not trainable, and only
            `assign` changes it.
        feature_axes: Tuple of axes of the kernel that index its features (output units
            or filters); `(-1,)` for `Dense` and `Conv` kernels.
        min_connections: 1 to keep a layer from losing its last connection (block,
            channel), 0 to let it.
        granularity: What one entry of `s` switches: `"connection"`, `"channel"` or a
            `Granularity`.
        mask_dtype: `"float32"`, or `"bfloat16"` to halve the memory of `s` and of its
            gradient. Far from zero `s` then moves in coarse steps or not at all; what
            decides is where it crosses zero, and near zero bfloat16 is fine.
        **kwargs: Keyword arguments of `keras.layers.Layer`.

    Example:

    ```python
    mask = Mask()
    mask.build((784, 300))
    mask.kept()  # tensor of ones, shape (784, 300)
    ```
    """

    def __init__(
        self,
        initializer: Initializer = 0.03,
        ste: str | STE | None = "identity",
        feature_axes: Sequence[int] = (-1,),
        min_connections: int = 1,
        granularity: str | Granularity = "connection",
        mask_dtype: str = "float32",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        least = checks.integer("min_connections", min_connections, "0 or 1", least=0)
        if least > 1:
            raise checks.refusal("min_connections", min_connections, "0 or 1")
        self.initializer = get_initializer(initializer)
        self.ste = estimators.get(ste)
        self.feature_axes = checks.integers(
            "feature_axes",
            feature_axes,
            "a tuple of axes of the kernel",
            may_be_empty=True,
        )
        self.min_connections = least
        self.granularity = granularities.get(granularity)
        self.mask_dtype = get_dtype(mask_dtype)
        self.positions: int | None = None
        self.kernel_values: Callable[[], Tensor] | None = None
        self._acts_behind: weakref.ref | None = None

    still_count: int | None = None
    """How many connections it keeps while it is still, see `StillMasks`; else None."""

    @property
    def is_still(self) -> bool:
        """Whether it is a constant of the training step."""
        return self.still_count is not None

    def build(self, kernel_shape: Shape) -> None:
        """Creates the mask variable for a kernel of shape `kernel_shape`."""
        self.kernel_shape = tuple(kernel_shape)
        layout = self.kernel_shape, self.feature_axes
        self.sizes = self.granularity.sizes(*layout)
        limited = self._limits_what_is_kept
        self.variable = self.add_weight(
            name="mask",
            shape=self.granularity.variable_shape(*layout),
            initializer=Competing(self) if limited else self.initializer,
            constraint=MaskConstraint(self.min_connections),
            dtype=self.mask_dtype,
            autocast=False,
            # Of the variable: a layer's is undone by `model.trainable = True`.
            trainable=self.is_learned,
        )
        # The optimizer only sees variables: this is how it finds the way back.
        self.variable.connection_mask = self
        # Not a weight of the mask: models would have more weights than they had, and on
        # JAX the optimizer, which reads it in its update, has to list it as its own.
        self.variable.frozen = keras.Variable(
            initializer="zeros" if self.is_learned else "ones",
            shape=(),
            dtype="bool",
            trainable=False,
            autocast=False,
            aggregation="only_first_replica",
            name="frozen",
        )

    @property
    def _limits_what_is_kept(self):
        """Whether it is learned, and not all connections may be kept at a time."""
        return self.is_learned and self.capacity < self.size

    @property
    def frozen(self) -> keras.Variable:
        """Whether it stays as it is while weights are trained: a boolean variable.

        `freeze_masks` and `thaw_masks` set it, as do callbacks; files keep it. Fixed
        masks are frozen, but while `GradualPruning` is on its way.
        """
        return self.variable.frozen

    @property
    def is_learned(self) -> bool:
        """Whether training may change it: it has a straight-through estimator."""
        return self.ste is not None

    # A method: what Keras finds in attributes it saves as parts of the mask.
    def acts_behind(self) -> keras.layers.Layer | None:
        """The layer whose outputs it switches; None where it acts on the kernel."""
        return None if self._acts_behind is None else self._acts_behind()

    def act_behind(self, layer: keras.layers.Layer | None) -> None:
        """Has it switch the outputs of a layer, or with None act on the kernel."""
        # Weakly: as an attribute the layer would be one inside of the mask.
        self._acts_behind = None if layer is None else weakref.ref(layer)

    @property
    def size(self) -> int:
        """Number of connections, kept or not."""
        return int(np.prod(self.kernel_shape))

    @property
    def switches_connections(self) -> bool:
        """Whether each entry of `s` switches a single connection."""
        return isinstance(self.sizes, int) and self.sizes == 1

    @property
    def capacity(self) -> int:
        """Number of connections that can be kept at most."""
        return self.granularity.capacity(self.kernel_shape, self.feature_axes)

    def admitted(self, s: np.ndarray) -> np.ndarray:
        """Which mask variables would be kept if they were above zero.

        Args:
            s: Array of the mask variable's shape, its values or others.

        Returns:
            A boolean array: all, unless the mask is learned, and its granularity limits
            how many are kept (see `NM`).
        """
        found = None
        if self.is_learned:
            found = self.granularity.admitted(s, self.kernel_shape, self.feature_axes)
        return np.ones(s.shape, bool) if found is None else found

    def deciding(self) -> Tensor:
        """`Π(s)`: what is kept is where it is above zero. A tensor without a gradient.

        It is `s` itself unless the granularity limits how many are kept (see `NM`).
        """
        s = ops.convert_to_tensor(self.variable)
        if not self._limits_what_is_kept:
            return s
        admitted = self.granularity.admitted(s, self.kernel_shape, self.feature_axes)
        return ops.stop_gradient(ops.where(admitted, s, ops.minimum(s, 0)))

    def switches(self, dtype: str = "float32") -> Tensor:
        """`H(Π(s))`: a 0/1 tensor of the shape of `s`, with the STE's gradient."""
        s = self.variable
        if self._limits_what_is_kept:
            s = s + ops.stop_gradient(self.deciding() - s)  # rounds nothing: 0 or -s
        if not self.is_learned or self.is_still:
            return ops.cast(ops.greater(s, 0), dtype)
        return ops.cast(self.ste(s), dtype)

    def kept(self, dtype: str = "float32") -> Tensor:
        """`H(s)` as a 0/1 tensor of the kernel's shape, with the STE's gradient."""
        return self.granularity.expand(self.switches(dtype), self.kernel_shape)

    @property
    def switches_channels(self) -> bool:
        """Whether each entry of `s` switches a whole feature: a unit or filter."""
        return isinstance(
            self.granularity, granularities.Channel
        ) and self.granularity.switches_features(self.kernel_shape, self.feature_axes)

    def mask_kernel(self, kernel: Tensor) -> Tensor:
        """`v * H(s)` for the kernel values `v`, in the dtype of `kernel`."""
        kernel = ops.convert_to_tensor(kernel)
        return ops.multiply(kernel, self.kept(kernel.dtype))

    def count(self) -> Tensor:
        """Number of kept connections, a scalar int32 tensor."""
        if isinstance(self.sizes, int):
            return backend.count_positive(self.deciding()) * self.sizes
        kept = ops.cast(ops.greater(self.deciding(), 0), "int32")
        return ops.sum(kept * self.sizes)

    def is_down_to_last(self) -> bool:
        """Whether it keeps its last connection only because it must: a bool."""
        highest = float(self.values().max())
        return 0 < highest <= BARELY_KEPT * 1.01  # bfloat16 rounds

    def values(self) -> np.ndarray:
        """The mask variable's values, a float32 NumPy array to keep."""
        return np.array(ops.convert_to_numpy(ops.cast(self.variable, "float32")))

    def assign(self, kept: np.ndarray) -> None:
        """Sets which connections are kept.

        Args:
            kept: Array of the kernel's shape; non-zero or true where kept.

        Raises:
            ValueError: If the shape is another one, if a value is no finite number, if
                part of a block or channel is to be kept and part of it cut, or if a
                learned mask can't keep as many in a group (see `NM`).
        """
        kept = np.asarray(kept)
        if kept.shape != self.kernel_shape:
            raise ValueError(
                f"`kept` must have the kernel's shape {self.kernel_shape}. "
                f"Received: kept.shape={kept.shape}"
            )
        if not _are_finite_numbers(kept):
            raise ValueError(
                "`kept` must be booleans or finite numbers, with zeros where "
                "connections are cut: NaN and infinity say neither. "
                f"Received: kept={checks.short(kept)} of dtype {kept.dtype}"
            )
        switches = collapsed(self, kept != 0)
        if np.any(switches & ~self.admitted(switches.astype("float32"))):
            raise ValueError(
                f"A learned mask of granularity '{self.granularity}' can't keep so "
                "many connections of one group. Received: `kept` with more"
            )
        self.variable.assign(np.where(switches, BOUND, -BOUND).astype("float32"))

    def save_own_variables(self, store: MutableMapping[str, Any]) -> None:
        """Saves the mask variable, and whether it is frozen."""
        super().save_own_variables(store)
        store[_FROZEN] = ops.convert_to_numpy(self.frozen)

    def load_own_variables(self, store: MutableMapping[str, Any]) -> None:
        """Loads what `save_own_variables` saved."""
        keys = list(store.keys())  # Keras's stores can't be iterated over
        super().load_own_variables({k: store[k] for k in keys if k != _FROZEN})
        if _FROZEN in keys:  # not so in files of older models
            self.frozen.assign(np.array(store[_FROZEN]))

    def get_config(self) -> dict[str, Any]:
        """Constructor arguments, for serialization."""
        return {
            **super().get_config(),
            "initializer": keras.initializers.serialize(self.initializer),
            "ste": estimators.serialize(self.ste),
            "feature_axes": self.feature_axes,
            "min_connections": self.min_connections,
            "granularity": granularities.serialize(self.granularity),
            "mask_dtype": self.mask_dtype,
        }


_FROZEN = "frozen"


def _are_finite_numbers(values):
    try:
        return bool(np.isfinite(values).all())
    except TypeError:  # texts and objects
        return False


def find_masks(model: keras.layers.Layer) -> list[Mask]:
    """All `Mask` objects in a model or layer, each once, in the order of its layers.

    Raises:
        ValueError: If it is neither a model nor a layer.

    Example:

    ```python
    kept = sum(int(mask.count()) for mask in find_masks(model))
    ```
    """
    if not isinstance(model, keras.layers.Layer):
        raise checks.refusal("model", model, "a Keras model or layer")
    variables = {id(v): v for v in model.variables}
    found = (getattr(v, "connection_mask", None) for v in variables.values())
    return [mask for mask in found if mask is not None]


def split_masks(variables):
    """Splits variables into a list of weights and one of mask variables."""
    masks = [v for v in variables if hasattr(v, "connection_mask")]
    return [v for v in variables if not hasattr(v, "connection_mask")], masks
