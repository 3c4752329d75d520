"""What the masks of a layer are made with."""

import dataclasses
import numbers
from typing import Any

import keras
import numpy as np

from scl_keras.masks import granularity as granularities
from scl_keras.masks import ste as estimators

DEFAULT_MASK_INITIALIZER = 0.03


@dataclasses.dataclass(frozen=True)
class MaskSettings:
    """What the masks of a layer are made with.

    Attributes:
        initializer: Initializer of the mask variables, a number or a name.
        ste: Straight-through estimator or its name; None for fixed masks.
        granularity: What one mask variable switches, or its name.
        mask_dtype: Dtype of the mask variables.

    Raises:
        ValueError: If one is something else.
    """

    # Names when they are given; objects from then on.
    initializer: Any = DEFAULT_MASK_INITIALIZER
    ste: Any = "identity"
    granularity: Any = "connection"
    mask_dtype: str = "float32"

    def __post_init__(self):
        """Finds the objects behind names, and refuses what is none."""
        set_once = object.__setattr__
        set_once(self, "initializer", get_initializer(self.initializer))
        set_once(self, "ste", estimators.get(self.ste))
        set_once(self, "granularity", granularities.get(self.granularity))
        set_once(self, "mask_dtype", get_dtype(self.mask_dtype))

    def get_config(self):
        """The arguments of a masked layer that they were given by, for its config."""
        return {
            "mask_initializer": keras.initializers.serialize(self.initializer),
            "ste": keras.saving.serialize_keras_object(self.ste),
            "granularity": granularities.serialize(self.granularity),
            "mask_dtype": self.mask_dtype,
        }

    @classmethod
    def from_config(cls, config):
        """The settings that `get_config` described."""
        config = dict(config)
        return cls(keras.initializers.get(config.pop("mask_initializer")), **config)


def get_initializer(identifier):
    """The initializer of mask variables: a Keras initializer, its name or a number.

    Raises:
        ValueError: If it is something else.
    """
    if isinstance(identifier, numbers.Real) and np.isfinite(identifier):
        return keras.initializers.Constant(float(identifier))
    try:
        found = keras.initializers.get(identifier)
    except (TypeError, ValueError):
        found = None
    if found is None:
        raise ValueError(
            "`mask_initializer` must be a finite number, or a Keras initializer or its "
            f"name. Received: mask_initializer={identifier!r}"
        )
    return found


def get_dtype(mask_dtype):
    """The dtype of mask variables by its name.

    Raises:
        ValueError: If it is another one than float32 and bfloat16.
    """
    if mask_dtype not in ("float32", "bfloat16"):
        raise ValueError(
            "`mask_dtype` must be 'float32' or 'bfloat16': mask gradients are often "
            "too small for float16, where they would vanish. "
            f"Received: mask_dtype={mask_dtype!r}"
        )
    return mask_dtype
