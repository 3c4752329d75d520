"""One progress bar over a whole training, with the time that is left."""

import keras
from tqdm import tqdm

from scl_keras.types import Logs


class Progress(keras.callbacks.Callback):
    """A bar over all steps of `fit`; behind it how sparse, and how good, it is by now.

    Args:
        steps: Steps of an epoch.
        monitor: The metric to show, by its name in the logs.
    """

    async_safe = True  # Keras need not wait for each batch because of it

    def __init__(self, steps: int, monitor: str) -> None:
        super().__init__()
        self.steps, self.monitor = steps, monitor
        self._bar: tqdm | None = None

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        """Begins, in a resumed training with what is done already."""
        if self._bar is None:
            total, done = self.params["epochs"] * self.steps, epoch * self.steps
            self._bar = tqdm(desc="training", total=total, initial=done, unit="step")

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        """Moves on."""
        if self._bar is not None:
            self._bar.update()

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Shows the metric."""
        known = {
            "sparsity": "sparsity",
            self.monitor.removeprefix("val_"): self.monitor,
        }
        found = {name: (logs or {}).get(key) for name, key in known.items()}
        shown = {name: f"{x:.4g}" for name, x in found.items() if x is not None}
        if self._bar is not None:
            self._bar.set_postfix(shown)

    def close(self) -> None:
        """Leaves the bar as it is."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
