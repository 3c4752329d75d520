"""Images mirrored and shifted at random, as it is usual on CIFAR."""

import keras
import numpy as np

SHIFT = 4  # pixels at most, to each side


class Augmented(keras.utils.PyDataset):
    """Batches of shuffled images, in each epoch mirrored and shifted another way.

    What moves in at a border is black.

    Args:
        x: Images, `(samples, height, width, channels)`.
        y: Labels, `(samples,)`.
        batch_size: Images a batch; the last one may have fewer.
        seed: Seed of orders, mirrors and shifts.
    """

    def __init__(self, x, y, batch_size, seed):
        super().__init__()
        self.x, self.y, self.batch_size = x, y, batch_size
        self.random = np.random.default_rng(seed)
        self.on_epoch_end()

    def on_epoch_end(self):
        """Shuffles."""
        self.order = self.random.permutation(len(self.x))

    def __len__(self):
        return -(-len(self.x) // self.batch_size)

    def __getitem__(self, index):
        chosen = self.order[index * self.batch_size :][: self.batch_size]
        return self._moved(self.x[chosen]), self.y[chosen]

    def _moved(self, images):
        is_mirrored = self.random.random((len(images), 1, 1, 1)) < 0.5
        images = np.where(is_mirrored, images[:, :, ::-1], images)
        images = np.pad(images, [(0, 0), (SHIFT, SHIFT), (SHIFT, SHIFT), (0, 0)])
        first = self.random.integers(2 * SHIFT + 1, size=(2, len(images), 1))
        samples = np.arange(len(images))[:, None, None]
        height, width = (size - 2 * SHIFT for size in images.shape[1:3])
        rows, columns = first[0] + np.arange(height), first[1] + np.arange(width)
        return images[samples, rows[:, :, None], columns[:, None, :]]
