"""Reaching a file of so many bytes, or of such a speed."""

import warnings
import zlib
from typing import Any

from scl_keras import backend, checks
from scl_keras.callbacks.file_budget import FileBudget
from scl_keras.callbacks.plan import Plan
from scl_keras.callbacks.steered_target import SteeredTarget
from scl_keras.export_choices import DTYPES
from scl_keras.targets.limits import Limit, MaxBytes, Speedup
from scl_keras.types import Logs


class TargetFile(SteeredTarget):
    """A target that is measured: on the file that the model would become.

    How many connections a file may have depends on the layers that they are in. So the
    number is estimated when `fit` begins, as if all layers kept the same share;
    it is corrected 1, 4, 16, ... epochs before `by_epoch`, and then once more, before
    the number is made exact and the masks are frozen.

    Args:
        limit: The `Limit`.
        dtype: See `TargetBytes`.
        by_epoch: See `TargetSparsity`.
        verbose: See `TargetSparsity`.
        start: See `TargetSparsity`.
        samples: As for `export_tflite`, needed for a model with open sizes.
    """

    def __init__(
        self,
        limit: Limit,
        dtype: str,
        by_epoch: int | None,
        verbose: int,
        start: str | None,
        samples: Any,
    ) -> None:
        super().__init__(by_epoch, verbose, None, "masks", start)
        self.dtype = checks.one_of("dtype", dtype, DTYPES)
        self.samples, self._limit = samples, limit

    def on_train_begin(self, logs: Logs = None) -> None:
        """Checks that files can be made, and the length of the training."""
        backend.check_can_export()
        super().on_train_begin(logs)

    def _check(self):
        self._file = FileBudget.of(
            self._network, self._budget, self._limit, self.dtype, self.samples
        )

    def _goal(self):
        return zlib.crc32(repr((self._limit, self.dtype)).encode())

    def _is_met(self):
        if Plan.read(self._optimizer.plan).goal == self._goal():
            return self._budget.is_met()
        self._budget.target = self._budget.kept()
        return self._file.is_met()

    def _aim(self):
        file, budget, limit = self._file, self._budget, self._limit
        refusal = limit.refusal(file.least())
        if refusal is not None:
            raise ValueError(f"{refusal} See `check_target`.")
        all_of_it = file.most()
        if all_of_it <= limit.cost:
            budget.target = budget.most
            warnings.warn(
                f"Nothing has to be cut: without it the file is "
                f"{limit.say(all_of_it)}, and it was asked to be "
                f"{limit.say(limit.cost)}.",
                stacklevel=2,
            )
            return
        budget.target = file.count(limit.guess(budget.most), file.alike, roughly=True)

    def _correct(self, roughly):
        budget, heights = self._budget, self._descent.heights
        if budget.target < budget.most:
            budget.target = self._file.count(budget.target, heights, roughly)
        if not roughly and budget.target <= budget.least:
            self._warn_if_larger(self._file.cost(budget.target, heights))

    def _warn_if_larger(self, cost):
        limit = self._limit
        if cost > limit.cost:
            warnings.warn(
                f"The file is {limit.say(cost)}, and it was asked to be "
                f"{limit.say(limit.cost)}: the few connections that are left are too "
                "far apart for what is dead to be removed. Ask for a little more.",
                stacklevel=2,
            )


class TargetBytes(TargetFile):
    """Reaches a TFLite file of at most so many bytes, by steering the connection cost.

    As `TargetSparsity`, but for the number of connections: that is found by making the
    file, as `export_tflite` would with `optimize_for="size"`, and is corrected while
    the masks are learned. The file is between 95 and 100 % of what was asked for.

    Args:
        max_bytes: The most that the file may have, an int.
        dtype: The coarsest precision of the file, as for `export_tflite`.
        by_epoch: See `TargetSparsity`.
        verbose: See `TargetSparsity`.
        start: See `TargetSparsity`.
        samples: As for `export_tflite`, needed for a model with open sizes.

    Raises:
        ValueError: As `TargetSparsity`; and at the start of `fit`, if the file can't
            become as small (see `check_target`), or `samples` are missing.
        RuntimeError: At the start of `fit`, if Keras runs on another backend than
            TensorFlow, which files are made with.

    Example:

    ```python
    model.fit(x, y, epochs=9, callbacks=[TargetBytes(3_000, by_epoch=6)])
    ```
    """

    def __init__(
        self,
        max_bytes: int,
        dtype: str = "int8",
        by_epoch: int | None = None,
        verbose: int = 0,
        start: str | None = "magnitudes",
        samples: Any = None,
    ) -> None:
        limit = MaxBytes.of(max_bytes)
        super().__init__(limit, dtype, by_epoch, verbose, start, samples)


class TargetSpeed(TargetFile):
    """Reaches a speed of the TFLite file, by steering the connection cost.

    As `TargetSparsity`, but for the number of channels: that is found by making
    the file without those that are cut, and timing it beside the dense one, on this
    machine, with one thread. It is corrected while the masks are learned. The file of
    float32 is at least as fast as asked for, and at most by 5 % faster, but for what
    timing is off by; coarser precisions may be faster still.

    Single connections make no file faster: put in masks of channels,
    `sparsify(model, runtime="compact")`, and compile with `cost="macs"`, so that
    channels that take more time have a higher price.

    Args:
        speedup: How many times as fast as the dense model, above 1.
        by_epoch: See `TargetSparsity`.
        verbose: See `TargetSparsity`.
        start: See `TargetSparsity`.
        samples: As for `export_tflite`, needed for a model with open sizes.

    Raises:
        ValueError: As `TargetSparsity`; and at the start of `fit`, if the file can't
            become as fast (see `check_target`), or `samples` are missing.
        RuntimeError: At the start of `fit`, if Keras runs on another backend than
            TensorFlow, which files are made with.

    Example:

    ```python
    wide = keras.layers.Dense(2048, activation="relu")
    model = keras.Sequential([keras.Input((64,)), wide, keras.layers.Dense(10)])
    sparsify(model, runtime="compact")
    model.compile("adam", "mse", cost="macs")
    model.fit(x, y, epochs=9, callbacks=[TargetSpeed(2.0, by_epoch=6)])
    ```
    """

    def __init__(
        self,
        speedup: float,
        by_epoch: int | None = None,
        verbose: int = 0,
        start: str | None = "magnitudes",
        samples: Any = None,
    ) -> None:
        limit = Speedup.of(speedup)
        super().__init__(limit, "float32", by_epoch, verbose, start, samples)
