"""The unit step `H` and the straight-through estimators (STEs) behind it.

A learned mask is `H(s)`: 1 where the mask variable `s` is positive, else 0. The
derivative of `H` is zero almost everywhere, so the backward pass uses a *proxy
derivative* `p(s)` in its place. Tang et al., *Automatic Sparse Connectivity Learning
for Neural Networks* (IEEE TNNLS 34(10), 2023; arXiv 2201.05020), prove that mask
variables reach their minima when `p` is positive everywhere, and may get stuck where
it is not. Every estimator here is therefore a positive `p`, and anything else is
refused.
"""

from typing import Any, Self

import keras
import numpy as np
from keras import ops

from scl_keras import backend, checks
from scl_keras.types import Tensor

_PACKAGE = "scl_keras"
_THEOREM = (
    "Mask variables are only guaranteed to reach their minima when the derivative of "
    "the proxy is positive everywhere; where it is zero or negative a cut connection "
    "can never come back (Tang et al., arXiv 2201.05020)."
)


def unit_step(s, proxy_derivative):
    """Unit step with a proxy derivative.

    Forward: `H(s) = 1 if s > 0 else 0`, exactly. Backward: `dL/ds = dL/dH * p(s)`.

    Args:
        s: Float tensor of any shape, the mask variable's value.
        proxy_derivative: Callable `p`, from a tensor to one of the same shape, or to a
            scalar; None for `p = 1`. It isn't checked here: use an `STE` for that.

    Returns:
        Tensor of the shape and dtype of `s`, holding only 0 and 1.

    Example:

    ```python
    unit_step(keras.ops.array([-0.5, 0.0, 0.5]), keras.ops.ones_like)  # [0., 0., 1.]
    ```
    """

    @ops.custom_gradient
    def step(s):
        # Given alone, or by name after the arguments, as Keras does it on PyTorch.
        def backward(*args, upstream=None):
            upstream = args[0] if upstream is None else upstream
            if proxy_derivative is None:
                return upstream
            return ops.multiply(upstream, proxy_derivative(s))

        return backend.unit_step(s), backward

    # A cast to its own dtype reads a variable: custom gradients take tensors only.
    return step(ops.cast(s, keras.backend.standardize_dtype(s.dtype)))


class STE:
    """Base class of straight-through estimators.

    A subclass gives one method, `derivative`, the proxy `p(s)`. Calling the object is
    the unit step with that proxy.

    Masked layers take it through `get`, which refuses a `derivative` that isn't
    positive everywhere.

    Example:

    ```python
    @keras.saving.register_keras_serializable("my_package")
    class Hyperbolic(STE):
        def derivative(self, s):
            return 1 / (1 + keras.ops.square(s))

    layer = MaskedDense(10, ste=Hyperbolic())
    ```
    """

    def derivative(self, s: Tensor) -> Tensor:
        """The proxy derivative `p(s)`, of the shape of `s`; a scalar if constant."""
        raise NotImplementedError(f"{type(self).__name__} must define `derivative(s)`.")

    def __call__(self, s: Tensor) -> Tensor:
        """`H(s)`, with `p(s)` for a derivative."""
        return unit_step(s, self.derivative)

    def get_config(self) -> dict[str, Any]:
        """Constructor arguments, for serialization."""
        return {}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """The estimator that `get_config` described."""
        return cls(**config)

    def __eq__(self, other):
        return type(self) is type(other) and self.get_config() == other.get_config()

    def __hash__(self):
        return hash((type(self), tuple(sorted(self.get_config().items()))))

    def __repr__(self):
        arguments = ", ".join(f"{k}={v!r}" for k, v in self.get_config().items())
        return f"{type(self).__name__}({arguments})"


@keras.saving.register_keras_serializable(_PACKAGE)
class Identity(STE):
    """Identity proxy: `p(s) = 1`. The classical STE (Bengio et al., arXiv 1308.3432).

    Example:

    ```python
    Identity().derivative(keras.ops.array([-1.0, 1.0]))  # 1.
    ```
    """

    def derivative(self, s: Tensor) -> Tensor:
        """`p(s) = 1`, a scalar."""
        return ops.ones((), s.dtype)

    def __call__(self, s: Tensor) -> Tensor:
        """`H(s)`, with the gradient as it comes."""
        return unit_step(s, None)


@keras.saving.register_keras_serializable(_PACKAGE)
class LeakyReLU(STE):
    """Leaky ReLU proxy: `p(s) = 1 if s > 0 else α` (Tang et al., arXiv 2201.05020).

    Args:
        alpha: Positive float, the derivative for `s <= 0`: how fast a cut connection's
            mask variable moves, relative to a kept one's.

    Raises:
        ValueError: If `alpha` isn't positive and finite in float32.

    Example:

    ```python
    LeakyReLU(0.2).derivative(keras.ops.array([-1.0, 1.0]))  # [0.2, 1.]
    ```
    """

    def __init__(self, alpha: float = 0.1) -> None:
        tiny = float(np.finfo("float32").tiny)
        wanted = f"a positive and finite number. {_THEOREM}"
        self.alpha = checks.number("alpha", alpha, wanted, lambda x: x >= tiny)

    def derivative(self, s: Tensor) -> Tensor:
        """`p(s) = 1 if s > 0 else α`."""
        return ops.where(
            ops.greater(s, 0), ops.ones_like(s), ops.full_like(s, self.alpha)
        )

    def get_config(self) -> dict[str, Any]:
        """Constructor arguments, for serialization."""
        return {"alpha": self.alpha}


@keras.saving.register_keras_serializable(_PACKAGE)
class Softplus(STE):
    """Softplus proxy: `p(s) = sigmoid(s)` (Tang et al., arXiv 2201.05020).

    Example:

    ```python
    Softplus().derivative(keras.ops.array([0.0]))  # [0.5]
    ```
    """

    def derivative(self, s: Tensor) -> Tensor:
        """`p(s) = sigmoid(s)`."""
        return ops.sigmoid(s)


_BY_NAME = {"identity": Identity, "leaky_relu": LeakyReLU, "softplus": Softplus}


def get(identifier):
    """Finds a straight-through estimator.

    Args:
        identifier: `"identity"`, `"leaky_relu"`, `"softplus"`, an `STE`, or what
            `serialize` gave. None, for masks that aren't learned, has none.

    Returns:
        An `STE`, or None.

    Raises:
        ValueError: If there is no such estimator, or its derivative isn't positive.

    Example:

    ```python
    get("softplus")  # Softplus()
    ```
    """
    if identifier is None:
        return None
    if isinstance(identifier, dict):
        identifier = keras.saving.deserialize_keras_object(identifier)
    if isinstance(identifier, str) and identifier in _BY_NAME:
        identifier = _BY_NAME[identifier]()
    if not isinstance(identifier, STE):
        raise ValueError(
            f"`ste` must be one of {sorted(_BY_NAME)}, an `STE` object, or None. "
            f"Received: ste={identifier!r}"
        )
    if type(identifier) not in _BY_NAME.values():
        _check_positive(identifier)
    return identifier


def serialize(ste):
    """The estimator as a JSON-able dict, which `get` reads."""
    return keras.saving.serialize_keras_object(ste)


def _check_positive(ste):
    grid = np.linspace(-20, 20, 4001, dtype="float32")
    values = ste.derivative(ops.convert_to_tensor(grid, "float32"))
    values = ops.convert_to_numpy(values)
    values = np.broadcast_to(values, grid.shape)
    bad = ~(np.isfinite(values) & (values > 0))
    if bad.any():
        where, value = grid[bad][0], values[bad][0]
        raise ValueError(
            f"The proxy derivative of {ste!r} is not positive everywhere. {_THEOREM} "
            f"Received: derivative({where:.3g}) = {value:.3g}"
        )
