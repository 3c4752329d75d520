"""What the masks of a layer are made with."""

import contextlib
import dataclasses
import numbers
from typing import Any

import keras

from scl_keras import checks
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
    wanted = "a finite number, or a Keras initializer or its name"
    if isinstance(identifier, numbers.Real):
        value = checks.number("mask_initializer", identifier, wanted)
        return keras.initializers.Constant(value)
    found = None
    # Keras makes constants of arrays, which don't fit other kernels.
    if isinstance(identifier, (str, dict)) or callable(identifier):
        with contextlib.suppress(TypeError, ValueError):
            found = keras.initializers.get(identifier)
    if not callable(found):
        raise checks.refusal("mask_initializer", identifier, wanted)
    return found


def get_dtype(mask_dtype):
    """The dtype of mask variables by its name.

    Raises:
        ValueError: If it is another one than float32 and bfloat16.
    """
    if not isinstance(mask_dtype, str) or mask_dtype not in ("float32", "bfloat16"):
        wanted = (
            "'float32' or 'bfloat16': mask gradients are often too small for float16, "
            "where they would vanish"
        )
        raise checks.refusal("mask_dtype", mask_dtype, wanted)
    return mask_dtype
