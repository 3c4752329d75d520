"""One progress bar over a whole `compress`, with the time that is left."""

from typing import Any

import keras
from tqdm import tqdm

from scl_keras.types import Logs

_SECONDS = 1.0  # of a step of the export, as reckoned before there is one


class Progress(keras.callbacks.Callback):
    """A bar over the steps of `fit` and of the export that follows.

    It counts steps of the training. One of the export counts as many as were trained in
    a second of the first epoch: so the time that is left is about right from then on.

    Args:
        steps: Steps of an epoch.
        monitor: The metric to show, by its name in the logs.
        export_steps: Steps of the export, 0 if there is none.
        disable: Whether to show nothing.
    """

    async_safe = True  # Keras need not wait for each batch because of it

    def __init__(
        self, steps: int, monitor: str, export_steps: int, disable: bool
    ) -> None:
        super().__init__()
        self.steps, self.monitor = steps, monitor
        self.export_steps, self.disable = export_steps, disable
        self._bar: Any = None  # a `tqdm` as soon as the number of steps is known
        self._exporting: int | None = None  # what a step of the export counts
        self._is_exporting = False

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *exception: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        """Begins, in a resumed training with what is done already."""
        done, all_steps = epoch * self.steps, self.params["epochs"] * self.steps
        self._show("training", done, all_steps)

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        """Moves on."""
        self._bar.update()

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Shows the metric, and reckons, once, what an export counts."""
        known = {
            "sparsity": "sparsity",
            self.monitor.removeprefix("val_"): self.monitor,
        }
        found = {name: (logs or {}).get(key) for name, key in known.items()}
        shown = {name: f"{x:.4g}" for name, x in found.items() if x is not None}
        self._bar.set_postfix(shown)
        rate = self._bar.format_dict["rate"]  # None before there is one
        if self._exporting is None and rate is not None:
            self._exporting = max(1, round(rate * _SECONDS))

    def exported(self, step: str) -> None:
        """Moves on; what `export_tflite` calls after each step."""
        done = 0 if self._bar is None else self._bar.n
        # The training may have ended early, or long ago, and another file be made.
        if not self._is_exporting or done >= self._bar.total:
            self._show("export", done, done)
            self._is_exporting = True
        self._bar.set_postfix_str(step, refresh=False)
        self._bar.update(self._exporting or 1)

    def _show(self, what: str, done: int, until_export: int) -> None:
        total = until_export + self.export_steps * (self._exporting or 1)
        if self._bar is None:
            options = {"initial": done, "total": total, "unit": "step"}
            self._bar = tqdm(desc=what, disable=self.disable, **options)
        self._bar.total = total
        self._bar.set_description(what)
