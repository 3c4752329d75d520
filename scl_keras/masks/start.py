"""Where mask variables start: higher, the larger the weights that they switch."""

import math
from collections.abc import Sequence

import numpy as np
from keras import ops

from scl_keras import checks
from scl_keras.masks.constraint import BOUND, LEAST_RATIO
from scl_keras.masks.mask import Mask
from scl_keras.masks.owners import means

START_HEIGHT = 0.03
_BEHIND = 0.8


def start_from_magnitudes(masks: Sequence[Mask], height: float = START_HEIGHT) -> None:
    """Starts the mask variables of kept connections in proportion to their weights.

    `s = height · |v| / sqrt(mean(v²)) · sqrt(N / n)`

    with the mean over the kernel's connections that are kept, `n` their number in each
    feature of the kernel, and `N` the mean of `n` over all features of all masks, so
    that the root mean square of all `s` is `height`. A connection is judged by its part
    in what its feature receives: that of a feature with few connections matters more,
    and the scale of a layer's weights, which a normalization behind it may undo, does
    not. Of those that the gradients say the same of, the weakest are then cut first.

    For a mask variable that switches several connections, `|v|` is the root of their
    mean square. Nothing is cut or restored: `s` is at least a hundredth of `height`,
    and cut connections stay as they are. Those that lose in their group (see `NM`)
    start below those that are kept. (This is ours. Tang et al., arXiv 2201.05020,
    start all masks alike.)

    Args:
        masks: Masks of built layers.
        height: Float in (0, 1], where a connection of typical weight starts.

    Raises:
        ValueError: If `masks` aren't masks, one of them isn't a layer's, or `height`
            isn't in (0, 1].

    Example:

    ```python
    start_from_magnitudes(find_masks(model))
    ```
    """
    wanted = f"a number in (0, {BOUND:g}]"
    height = checks.number("height", height, wanted, lambda x: 0 < x <= BOUND)
    if not isinstance(masks, (list, tuple)) or not all(
        isinstance(mask, Mask) for mask in masks
    ):
        raise checks.refusal("masks", masks, "a list of masks: see `find_masks`")
    features = [_features(mask) for mask in masks]
    mean_inputs = sum(mask.size for mask in masks) / max(sum(features), 1)
    for mask, count in zip(masks, features, strict=True):
        s, sizes = mask.values(), _magnitudes(mask)
        kept = (s > 0) & mask.admitted(s)
        typical = np.sqrt(np.mean(np.square(sizes[kept]))) if kept.any() else 0.0
        if typical > 0:  # else there is nothing to tell them by
            scale = height * np.sqrt(mean_inputs * count / mask.size)
            start = np.clip(scale * sizes / typical, LEAST_RATIO * height, BOUND)
            start = np.where(s > 0, start, s)
            losing = (s > 0) & ~kept
            while (wrong := losing & mask.admitted(start)).any():
                start[wrong] *= _BEHIND
            mask.variable.assign(start)


def _features(mask):
    return math.prod(mask.kernel_shape[axis] for axis in mask.feature_axes)


def _magnitudes(mask):
    """The root mean square of the weights under each entry of a mask variable."""
    if mask.kernel_values is None:
        raise ValueError(
            "Masks start from the weights of the layer that they belong to. "
            f"Received: {mask!r}, which belongs to none"
        )
    kernel = ops.cast(ops.convert_to_tensor(mask.kernel_values()), "float32")
    return np.sqrt(means(mask, np.square(ops.convert_to_numpy(kernel))))
