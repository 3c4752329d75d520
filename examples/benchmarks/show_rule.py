"""Draws SCL's default rule: where masks start, and how they come to rest.

    python examples/benchmarks/show_rule.py --out=docs

Fine-tunes LeNet-300-100 on `digits` to a tenth of its connections, by the default rule
and by one whose masks start alike and learn at a constant rate. Writes rule.png to
--out: where mask variables start, the rate and the number of connections on the way,
and how many connections are switched on or off in each step.
"""

import os
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))  # of what all share
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # read when TensorFlow starts

import keras
import matplotlib.figure
import numpy as np
from absl import app, flags

import scl_keras
from scl_keras.architectures import build_architecture
from scl_keras.datasets import load_dataset
from scl_keras.report.style import QUIET, STRONG, styled

FLAGS = flags.FLAGS
flags.DEFINE_integer("epochs", 15, "Epochs with masks, a third with frozen ones.")
flags.DEFINE_integer("dense_epochs", 20, "Epochs before.", lower_bound=1)
flags.DEFINE_bool("smoke", False, "A run of seconds, to see that everything works.")
flags.DEFINE_string("out", "runs/show_rule", "Folder to write to.")
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


class Watching(keras.callbacks.Callback):
    """Writes down what masks do in each step."""

    def on_train_begin(self, logs=None):
        """Begins anew."""
        self.start, self.kept = None, []
        self.flips, self.rates, self.counts = [], [], []

    def on_train_batch_begin(self, batch, logs=None):
        """Keeps where masks start."""
        if self.start is None:
            self.start = [mask.values() for mask in scl_keras.find_masks(self.model)]
            self.kept = [s > 0 for s in self.start]

    def on_train_batch_end(self, batch, logs=None):
        """Counts what was switched."""
        masks = scl_keras.find_masks(self.model)
        kept = [mask.values() > 0 for mask in masks]
        pairs = zip(kept, self.kept, strict=True)
        self.flips.append(sum(int(np.sum(a != b)) for a, b in pairs))
        self.kept = kept
        self.counts.append(sum(int(k.sum()) for k in kept))
        frozen = all(bool(mask.frozen.numpy()) for mask in masks)
        rate = float(self.model.mask_optimizer.learning_rate)
        self.rates.append(0.0 if frozen else rate)


def train(model, data, epochs, **rule):
    """What masks do while a copy of a trained model is fine-tuned."""
    keras.utils.set_random_seed(0)
    sparse = scl_keras.sparsify(model, copy=True, verbose=0)
    start = rule.pop("start", "magnitudes")
    sparse.compile("adam", LOSS, **rule)
    watching = Watching()
    target = scl_keras.TargetSparsity(0.9, start=start)
    sparse.fit(data.x_train, data.y_train, 32, epochs, 0, callbacks=[target, watching])
    return watching


@styled
def draw(model, default, plain):
    """The picture, a `matplotlib` figure of three panels."""
    figure = matplotlib.figure.Figure(figsize=(12, 3.4))
    left, middle, right = figure.subplots(1, 3)
    kernels = [w.numpy() for w in model.weights if len(w.shape) == 2]
    for kernel, s in zip(kernels, default.start, strict=True):
        some = slice(None, None, max(1, kernel.size // 500))
        label = f"{kernel.shape[0]} inputs a unit"
        values = np.abs(kernel).ravel()[some], s.ravel()[some]
        left.plot(*values, ".", ms=3, label=label)
    left.axhline(0.03, color=QUIET, lw=1, ls="--")
    left.set(xlabel="|weight|", ylabel="mask variable", title="Where masks start")
    left.legend(markerscale=3)

    steps = np.arange(1, len(default.rates) + 1)
    middle.plot(steps, default.counts, color=STRONG)
    middle.set(yscale="log", xlabel="step", title="Rate and connections")
    ticks = [5_000, 10_000, 20_000, 50_000]
    middle.set_yticks(ticks, [f"{tick:,}" for tick in ticks], minor=False)
    middle.minorticks_off()
    middle.set_ylabel("connections kept", color=STRONG)
    rate = middle.twinx()
    rate.grid(visible=False)
    rate.plot(steps, default.rates, color=QUIET)
    rate.set_ylabel("rate of the masks", color="0.5")

    right.plot(steps, plain.flips, color=QUIET, lw=1, label="alike, constant rate")
    right.plot(steps, default.flips, color=STRONG, label="default")
    right.set(xlabel="step", title="Connections switched in a step")
    right.set_ylim(0, 1.2 * np.percentile(plain.flips, 99))
    right.legend()
    return figure


def main(argv):
    """Trains, draws."""
    if len(argv) > 1:
        raise app.UsageError(f"Unexpected arguments: {argv[1:]}")
    data = load_dataset("digits")
    keras.utils.set_random_seed(0)
    model = build_architecture("lenet_300_100", data.input_shape, data.num_classes)
    model.compile("adam", LOSS)
    epochs = 3 if FLAGS.smoke else FLAGS.epochs
    dense_epochs = 1 if FLAGS.smoke else FLAGS.dense_epochs
    model.fit(data.x_train, data.y_train, epochs=dense_epochs, verbose=0)
    default = train(model, data, epochs)
    constant = keras.optimizers.SGD(3e-3)
    plain = train(model, data, epochs, start=None, mask_optimizer=constant)
    path = pathlib.Path(FLAGS.out) / "rule.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    draw(model, default, plain).savefig(path, dpi=100)
    for name, seen in (("default", default), ("alike, constant rate", plain)):
        print(f"{name}: {sum(seen.flips):,} switches")
    print(f"Written: {path}")


if __name__ == "__main__":
    app.run(main)
