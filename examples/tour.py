# %% [markdown]
"""# From a dense network to a smaller file, in ten minutes.

Each `# %%` starts a cell: VS Code shows this file as a notebook, and so does Jupyter
with Jupytext. As a plain script it takes about a minute on two cores:

    python examples/tour.py

Pictures and models go to runs/tour. With --smoke it is a run of seconds.
"""

# %%
import os
import pathlib
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # read when TensorFlow starts

import keras
import numpy as np

import scl_keras
from scl_keras import plotting
from scl_keras.architectures import lenet_300_100
from scl_keras.datasets import load_dataset

SMOKE = "--smoke" in sys.argv
OUT = pathlib.Path("runs/tour")
OUT.mkdir(parents=True, exist_ok=True)
keras.utils.set_random_seed(0)

# %% [markdown]
# ## 1. A dense network
#
# Handwritten digits of 8 x 8 pixels, which come with scikit-learn, and the network of
# two hidden layers that most papers on pruning begin with. Nothing here is new: it is
# stock Keras.

# %%
data = load_dataset("digits")
x, y = data.x_train, data.y_train
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

dense = lenet_300_100(data.input_shape, data.num_classes)
dense.compile("adam", loss, metrics=["accuracy"])
dense.fit(x, y, epochs=2 if SMOKE else 15, verbose=0)
dense_accuracy = dense.evaluate(data.x_test, data.y_test, verbose=0)[1]
print(f"dense: accuracy {dense_accuracy:.2%}, {dense.count_params():,} parameters")

# %% [markdown]
# ## 2. The same network with masks
#
# `sparsify` puts a mask over each kernel: a connection is there where its mask variable
# is positive. At first all are, so that the outputs are the same. It works in place:
# the model stays the same object, and learns masks from now on. Here the dense network
# shall stay as it is, to compare with at the end: an independent copy gets the masks.

# %%
model = scl_keras.sparsify(dense, copy=True)
same = np.array_equal(model.predict(x[:8], verbose=0), dense.predict(x[:8], verbose=0))
print(f"same outputs as before: {same}")

# %% [markdown]
# ## 3. Learning which connections matter
#
# You say how sparse, and by which epoch; which connections go, and how many in each
# layer, is learned together with the weights. The callback below draws how many
# connections each pixel has left, so that you can watch: pixels at the border, where
# hardly anybody writes, are the first to go.


# %%
class DrawInputMask(keras.callbacks.Callback):
    """Draws the first layer's mask every few epochs."""

    def __init__(self, every):
        super().__init__()
        self.every = every

    def on_epoch_end(self, epoch, logs=None):
        """Saves a picture."""
        if epoch % self.every == 0:
            figure = plotting.plot_input_mask(self.model)
            figure.savefig(OUT / f"input_mask_{epoch + 1:03d}.png", dpi=80)
            print(
                f"epoch {epoch + 1:3d}: {logs['compression']:5.1f}x fewer connections"
            )


epochs = 6 if SMOKE else 60
model.compile("adam", loss, metrics=["accuracy"])
callbacks = [
    scl_keras.TargetSparsity(0.98),  # by two thirds of the epochs; the rest fine-tunes
    scl_keras.MaskLogger(),  # the density of each layer, in the history
    DrawInputMask(every=max(1, epochs // 6)),
]
history = model.fit(
    x,
    y,
    epochs=epochs,
    validation_data=(data.x_test, data.y_test),
    callbacks=callbacks,
    verbose=0,
)

# %% [markdown]
# ## 4. What is left
#
# The table has each layer's connections. Those that are kept but lie on no path from a
# pixel to a class are dead, and the effective sparsity counts them as cut. In the
# picture: densities over training, accuracy, and what each layer and pixel keeps.

# %%
table = scl_keras.summary(model)
accuracy = model.evaluate(data.x_test, data.y_test, verbose=0)[1]
print(
    f"sparse: accuracy {accuracy:.2%} with {table.compression:.0f}x fewer connections"
)
plotting.plot_training(model, history).savefig(OUT / "training.png", dpi=80)

# %% [markdown]
# ## 5. A model like any other
#
# Within `stripped` the model is a stock one with zeros in its kernels: what is saved
# loads where this package isn't installed. Afterwards it has its masks again;
# `strip_masks` takes them out for good. `compact` makes a new model without the units
# that have no connection left, so that the arrays themselves get smaller.

# %%
with scl_keras.stripped(model) as stock:
    stock.save(OUT / "stripped.keras")
small = scl_keras.compact(model)
print(f"compacted: {dense.count_params():,} -> {small.count_params():,} parameters")
difference = np.abs(small.predict(x, verbose=0) - model.predict(x, verbose=0)).max()
print(f"largest difference of an output: {difference:.1e}")

# %% [markdown]
# ## 6. A file for the phone
#
# `export_tflite` makes every file that may be worth it, compares each with Keras on
# real inputs, times them, and writes the best. The dense network is exported the same
# way, to compare.

# %%
seconds = 0.2 if SMOKE else 2.0
reports = {
    name: scl_keras.export_tflite(
        network,
        OUT / f"{name}.tflite",
        samples=data.x_test,
        labels=data.y_test,
        latency_seconds=seconds,
    )
    for name, network in {"dense": dense, "sparse": model}.items()
}
print(reports["sparse"])
reports["sparse"].plot().savefig(OUT / "export.png", dpi=80)

# %% [markdown]
# ## 7. Side by side

# %%
print(f"| network | accuracy | bytes | beside its plain file |\n{'|---' * 4}|")
for name, value in {"dense": dense_accuracy, "sparse": accuracy}.items():
    report = reports[name]
    speed = report.latency.speed
    print(f"| {name} | {value:.2%} | {report.bytes_written:,} | {speed} |")

# %% [markdown]
# ## Where to go on
#
# - Another network or data set: `python examples/train_scl.py --help`.
# - Whole channels instead of connections, which makes convolutions faster everywhere:
#   `scl_keras.sparsify(model, runtime="compact")`.
# - You come from TFMOT: docs/from_tfmot.md. Your own method or layer:
#   docs/extending.md.
