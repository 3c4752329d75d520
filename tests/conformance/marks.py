"""How tests go over the models."""

import keras
import pytest
from models import CASES

# What elsewhere compiles for too long stands for no other kind of model.
_ON_ALL_BACKENDS = ("gpt2", "mobilenet", "guide", "custom_fit")


def names(wanted=lambda case: True):
    """The models' names, as parameters."""
    on_tensorflow = keras.backend.backend() == "tensorflow"
    return [
        pytest.param(name, marks=[pytest.mark.slow] if case.slow else [])
        for name, case in CASES.items()
        if wanted(case) and (on_tensorflow or name in _ON_ALL_BACKENDS)
    ]
