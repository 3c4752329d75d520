"""Which mask variable switches a connection, for arrays over kernels."""

import numpy as np
from keras import ops


def collapsed(mask, kept):
    """The boolean array of the mask variable's shape that expands to `kept`.

    Args:
        mask: A built `Mask`.
        kept: Boolean array of the kernel's shape.

    Raises:
        ValueError: If connections that are switched together differ.
    """
    owners = _owners(mask)
    switches = np.zeros(int(np.prod(mask.variable.shape)), bool)
    switches[owners[kept]] = True
    if not np.array_equal(switches[owners], kept):
        raise ValueError(
            f"A mask of granularity '{mask.granularity}' keeps or cuts all "
            "connections that are switched together. Received: `kept` with some of "
            "them kept and others cut."
        )
    return switches.reshape(mask.variable.shape)


def means(mask, values):
    """Means over what is switched together.

    Args:
        mask: A built `Mask`.
        values: Array of the kernel's shape.

    Returns:
        An array of the mask variable's shape.
    """
    if mask.switches_connections:
        return values
    shape = tuple(mask.variable.shape)
    owners, count = _owners(mask).ravel(), int(np.prod(shape))
    sums = np.bincount(owners, values.ravel(), count)
    return (sums / np.bincount(owners, minlength=count)).reshape(shape)


def _owners(mask):
    """Which entry of the mask variable, flat, switches each connection."""
    count = int(np.prod(mask.variable.shape))
    owners = np.arange(count, dtype="int32").reshape(mask.variable.shape)
    owners = ops.convert_to_tensor(owners, "int32")
    spread = mask.granularity.expand(owners, mask.kernel_shape)
    return ops.convert_to_numpy(spread)
