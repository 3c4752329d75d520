"""Normalization of mask gradients: what gives one connection cost a meaning."""

import keras
from keras import ops

_EPSILON = 1e-12


@keras.saving.register_keras_serializable("scl_keras")
class GradientNormalization:
    """Divides mask gradients by their root mean square.

    Mask gradients of different features (output units or filters) differ by orders of
    magnitude. Dividing each feature's by its root mean square (Tang et al., arXiv
    2201.05020) puts them all on one scale, so that a connection cost of 0.1 means "a
    connection must be worth a tenth of a typical mask gradient" in every layer of every
    network. The paper fixes neither the statistic nor its memory; both are open here:

    `m_t = m_{t-1} + max(1 - memory, 1 / t) · (mean_i(g_ij²) - m_{t-1})`

    `ĝ_ij = g_ij / (sqrt(m_t) + ε)`, `ε = 1e-12`

    With `memory=0` this is the RMS of the batch at hand, with `0 < memory < 1` a running
    mean, with `memory=1` the mean over all steps so far. A gradient normalized batch by
    batch never fades, so that late in training it is noise of full size; with a memory
    it fades as the loss does. A feature whose gradients are all zero stays at zero.

    Args:
        per: `"feature"`, `"layer"` (one scale for the whole kernel), or `None` for
            none at all: then the update is the gradient of the plain objective.
        memory: Float in [0, 1], see above.

    Raises:
        ValueError: If an argument is something else.

    Example:

    ```python
    model.compile("adam", "mse", normalization=GradientNormalization("layer"))
    ```
    """

    def __init__(self, per="feature", memory=1.0):
        if per not in ("feature", "layer", None):
            raise ValueError(
                f"`per` must be 'feature', 'layer' or None. Received: per={per!r}"
            )
        if not 0 <= memory <= 1:
            raise ValueError(f"`memory` must be in [0, 1]. Received: memory={memory}")
        self.per = per
        self.memory = float(memory)

    @classmethod
    def get(cls, identifier):
        """Finds a normalization: an object, its config, or a value of `per`."""
        if isinstance(identifier, dict):
            identifier = keras.saving.deserialize_keras_object(identifier)
        return identifier if isinstance(identifier, cls) else cls(identifier)

    def state_shape(self, mask):
        """Shape of the statistic `m` for a mask, or None if it needs none."""
        if self.per is None or self.memory == 0:
            return None
        shape = mask.variable.shape
        reduced = self._reduced_axes(mask)
        return tuple(1 if i in reduced else size for i, size in enumerate(shape))

    def __call__(self, gradient, mask, state, step):
        """Normalizes one mask gradient.

        Args:
            gradient: Tensor of the mask's shape.
            mask: The `Mask` it belongs to.
            state: Variable of shape `state_shape(mask)`, updated in place, or None.
            step: Number of mask updates made so far, a scalar tensor.

        Returns:
            Tensor of the shape of `gradient`.
        """
        if self.per is None:
            return gradient
        mean_square = ops.mean(
            ops.square(gradient), axis=self._reduced_axes(mask), keepdims=True
        )
        if state is not None:
            share = 1 / (ops.cast(step, state.dtype) + 1)
            share = ops.maximum(1 - self.memory, share)
            mean_square = state + share * (mean_square - state)
            state.assign(mean_square)
        return gradient / (ops.sqrt(mean_square) + _EPSILON)

    def _reduced_axes(self, mask):
        rank = len(mask.variable.shape)
        if self.per == "layer":
            return tuple(range(rank))
        features = {axis % rank for axis in mask.feature_axes}
        return tuple(axis for axis in range(rank) if axis not in features)

    def get_config(self):
        """Constructor arguments, for serialization."""
        return {"per": self.per, "memory": self.memory}

    @classmethod
    def from_config(cls, config):
        """The normalization that `get_config` described."""
        return cls(**config)

    def __repr__(self):
        return f"GradientNormalization(per={self.per!r}, memory={self.memory})"
