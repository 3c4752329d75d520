"""Callbacks that know what `fit` was called with."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras


class FitListener(keras.callbacks.Callback):
    """Keeps the callbacks and the arguments of the `fit` that it is given to.

    `fit` of a model with masks tells them: see `fit_with_hooks`.
    """

    def __init__(self) -> None:
        super().__init__()
        self._others: Sequence[keras.callbacks.Callback] = ()
        self._arguments: Mapping[str, Any] = {}

    def before_fit(
        self,
        callbacks: Sequence[keras.callbacks.Callback],
        arguments: Mapping[str, Any],
    ) -> None:
        """Is told, before anything else, of all callbacks and arguments of `fit`."""
        self._others, self._arguments = callbacks, arguments
