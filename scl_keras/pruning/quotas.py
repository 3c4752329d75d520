"""Quotas: the share of its connections that each layer keeps."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from scl_keras import checks
from scl_keras.types import Quotas, Shape


@dataclasses.dataclass(frozen=True)
class Uniform:
    """Every kernel keeps the same share.

    Example:

    ```python
    Uniform().densities([(784, 300), (300, 10)], 0.1)  # [0.1, 0.1]
    ```
    """

    def densities(self, shapes: Sequence[Shape], density: float) -> np.ndarray:
        """Shares to keep.

        Args:
            shapes: List of shapes of kernels.
            density: Float in [0, 1], the share of all connections to keep.

        Returns:
            A list of floats in [0, 1], one a kernel. None of them falls when `density`
            rises. (The same holds for the other quotas.)

        Raises:
            ValueError: If `shapes` are no shapes, or `density` isn't in [0, 1].
        """
        sizes, density = _checked(shapes, density)
        return np.full(len(sizes), density)


@dataclasses.dataclass(frozen=True)
class UniformPlus:
    """`Uniform`, but for a dense first convolution and a denser last layer.

    The first kernel stays dense if it is a convolution's (of rank three or more), and
    the last one keeps at least a share of `last`. The others keep the same share each
    (Gale, Elsen & Hooker, *The State of Sparsity in Deep Neural Networks*, arXiv
    1902.09574).

    Args:
        last: Float in [0, 1], the least share of the last kernel.

    Raises:
        ValueError: If `last` is something else.

    Example:

    ```python
    UniformPlus().densities([(3, 3, 3, 9), (3, 3, 9, 9), (9, 3)], 0.5)  # [1, .34, .34]
    ```
    """

    last: float = 0.2

    def __post_init__(self):
        wanted = "a number in [0, 1]"
        checks.number("last", self.last, wanted, lambda x: 0 <= x <= 1)

    def densities(self, shapes: Sequence[Shape], density: float) -> np.ndarray:
        """Shares to keep, see `Uniform.densities`.

        Raises:
            ValueError: If less than the first and last kernel's share is asked for.
        """
        sizes, density = _checked(shapes, density)
        least = np.zeros(len(shapes))
        if len(shapes) > 1:
            least[-1] = self.last
        if len(shapes[0]) > 2:
            least[0] = 1.0
        if density * sizes.sum() < (least * sizes).sum() * (1 - 1e-12):
            raise ValueError(
                "`uniform_plus` keeps the first convolution dense and a share of "
                f"{self.last:g} of the last kernel, which is a density of "
                f"{(least * sizes).sum() / sizes.sum():.3g} already. Ask for less "
                f"sparsity or use other quotas. Received: density={density:.3g}"
            )
        return _filled(lambda level: np.maximum(least, level), sizes, density)


@dataclasses.dataclass(frozen=True)
class ERK:
    """Erdős-Rényi-Kernel: the share falls with the size of a kernel.

    It is proportional to the sum of the kernel's dimensions over their product, `(n_in
    + n_out + width + height) / (n_in · n_out · width · height)` (Evci et al., *Rigging
    the Lottery*, arXiv 1911.11134). What a kernel would get beyond all of its
    connections goes to the others, in the same proportion.

    Example:

    ```python
    ERK().densities([(784, 300), (300, 100), (100, 10)], 0.1)  # [.080, .23, 1]
    ```
    """

    def densities(self, shapes: Sequence[Shape], density: float) -> np.ndarray:
        """Shares to keep, see `Uniform.densities`."""
        sizes, density = _checked(shapes, density)
        raw = np.array([sum(shape) / math.prod(shape) for shape in shapes])
        return _filled(lambda level: np.minimum(level * raw, 1), sizes, density)


@dataclasses.dataclass(frozen=True)
class IGQ:
    """Ideal gas quotas: kernels are compressed as gas in cylinders by the same force.

    A kernel of `n` connections is compressed by `F · n + 1`, with the one `F` that
    gives the density asked for (Vysogorets & Kempe, *Connectivity Matters*, arXiv
    2107.02306).

    Example:

    ```python
    IGQ().densities([(784, 300), (300, 100), (100, 10)], 0.1)  # [.064, .35, .94]
    ```
    """

    def densities(self, shapes: Sequence[Shape], density: float) -> np.ndarray:
        """Shares to keep, see `Uniform.densities`."""
        sizes, density = _checked(shapes, density)
        if not density:
            return np.zeros(len(sizes))
        # F = 1 / level - 1 for F from infinity to 0.
        return _filled(lambda x: x / (x + (1 - x) * sizes), sizes, density, 1.0)


_BY_NAME = {"uniform": Uniform, "uniform_plus": UniformPlus, "erk": ERK, "igq": IGQ}


def get_quotas(identifier: str | Quotas | Callable[..., Any]) -> Quotas:
    """Finds quotas.

    Args:
        identifier: `"uniform"`, `"uniform_plus"`, `"erk"`, `"igq"`, an object with a
            `densities(shapes, density)` as `Uniform` has it, or that function itself.

    Returns:
        An object with `densities`.

    Raises:
        ValueError: If it is something else.

    Example:

    ```python
    get_quotas("erk").densities([(784, 300), (300, 10)], 0.1)  # [.089, 1]
    ```
    """
    if isinstance(identifier, str) and identifier in _BY_NAME:
        return _BY_NAME[identifier]()
    if hasattr(identifier, "densities") and not isinstance(identifier, type):
        return identifier
    if callable(identifier) and not isinstance(identifier, type):
        return _Custom(identifier)
    raise ValueError(
        f"`quotas` must be one of {sorted(_BY_NAME)}, an object with a method "
        "`densities(shapes, density)`, or such a function. "
        f"Received: quotas={identifier!r}"
    )


def quota_counts(
    quotas: Quotas,
    shapes: Sequence[Shape],
    count: int,
    limits: Sequence[int] | None = None,
) -> list[int]:
    """Numbers of connections to keep: whole, within bounds, and `count` in total.

    Each kernel keeps at least one connection where `count` allows it. When `count`
    rises, no number falls: the connections kept then have those kept before among them.

    Args:
        quotas: Object with `densities`, see `Uniform`.
        shapes: List of shapes of kernels.
        count: Number of connections to keep in total.
        limits: Most that each kernel can keep, a list of ints; by default its size.

    Returns:
        A list of ints.

    Raises:
        ValueError: If the quotas can't be met, `quotas` has no `densities`, `shapes`
            are no shapes, or `count` or `limits` aren't whole numbers from 0 on.

    Example:

    ```python
    quota_counts(Uniform(), [(784, 300), (300, 10)], 1000)  # [987, 13]
    ```
    """
    count = checks.integer("count", count, "a whole number >= 0", least=0)
    sizes = _sizes(shapes)
    quotas = get_quotas(quotas)
    if limits is not None:
        wanted = f"{len(sizes)} whole numbers >= 0, one a kernel"
        limits = checks.integers("limits", limits, wanted, least=0)
        if len(limits) != len(sizes):
            raise checks.refusal("limits", limits, wanted)
    bounds = sizes if limits is None else np.array(limits, float)
    floor = np.minimum(1, bounds) if count >= (bounds > 0).sum() else 0 * bounds
    if not 0 <= count <= bounds.sum():
        raise ValueError(
            f"{count} connections can't be kept of {int(bounds.sum())} that are left."
        )
    _densities(quotas, shapes, count / sizes.sum())  # says what it can't do

    def counts(density):
        try:
            shares = _densities(quotas, shapes, density)
        except ValueError:  # less than the quotas can do
            return floor
        return np.clip(np.floor(shares * sizes + 0.5), floor, bounds)

    low, high = _bracket(lambda density: counts(density).sum(), count)
    least, most = counts(low), counts(high)
    if most.sum() < count or least.sum() > count:
        raise ValueError(
            f"The quotas {quotas!r} can't be met: of {count} connections to keep they "
            f"give {int(most.sum())} to kernels of which {bounds.astype(int).tolist()} "
            f"connections are left, {int(sizes.sum())} with those that were cut before."
        )
    # Several numbers that would rise at the same density do so one after the other.
    missing = count - least.sum()
    for i in range(len(least)):
        step = min(most[i] - least[i], missing)
        least[i] += step
        missing -= step
    return [int(n) for n in least]


def _densities(quotas, shapes, density):
    shares = np.asarray(quotas.densities(shapes, density), float)
    if shares.shape != (len(shapes),) or not np.all((shares >= 0) & (shares <= 1)):
        raise ValueError(
            f"The quotas {quotas!r} must give a share in [0, 1] for each of "
            f"{len(shapes)} kernels. Received: {shares} at a density of {density:.3g}"
        )
    return shares


def _filled(densities, sizes, density, top=None):
    """Shares on a rising one-parameter family, with the total asked for."""
    target = density * sizes.sum()
    if density >= 1:
        return np.ones(len(sizes))
    top = sizes.max() if top is None else top
    low, _ = _bracket(lambda x: (densities(x * top) * sizes).sum(), target)
    return np.clip(densities(low * top), 0, 1)


def _bracket(rising, target):
    """Neighbouring floats in [0, 1] between which a function passes a target.

    The same one twice where it meets the target. Halves their exponents first and then
    their mantissas: a density may be 1e-9.
    """
    low, high = 0.0, 1.0
    if rising(high) <= target:
        return high, high
    while True:
        middle = (low + high) / 2 if high < 4 * low else math.sqrt(low * high)
        middle = middle or high / 1024
        if not low < middle < high:
            return low, high
        value = rising(middle)
        if value == target:
            return middle, middle
        low, high = (middle, high) if value < target else (low, middle)


def _sizes(shapes):
    """Sizes of kernels as an array of floats, of their shapes, which it checks."""
    is_list = isinstance(shapes, (list, tuple)) and shapes
    if not is_list or not all(isinstance(shape, (list, tuple)) for shape in shapes):
        raise checks.refusal("shapes", shapes, "a list of kernels' shapes, as tuples")
    return np.array([math.prod(shape) for shape in shapes], float)


def _checked(shapes, density):
    """Sizes of kernels, and the density: what `densities` was given."""
    wanted = "a number in [0, 1]"
    density = checks.number("density", density, wanted, lambda x: 0 <= x <= 1)
    return _sizes(shapes), density


class _Custom:
    def __init__(self, function):
        self.densities = function

    def __repr__(self):
        return getattr(self.densities, "__name__", repr(self.densities))
