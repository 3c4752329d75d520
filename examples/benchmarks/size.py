r"""Memory and time of a training step of a large network: dense Keras and SCL.

    KERAS_BACKEND=jax python examples/benchmarks/size.py
    python examples/benchmarks/size.py --variant=switcher --connections=1.024e8 \
        --layers=1
    KERAS_BACKEND=jax python examples/benchmarks/size.py --devices=2 --variant=dense \
        --variant=scl --connections=1e8
    KERAS_BACKEND=jax python examples/benchmarks/size.py --network=resnet_18 \
        --network=vision_transformer --dtype_policy=mixed_bfloat16 --steps=30

A stack of Dense layers with --connections connections, ResNet-18 for images of 32 x 32,
or a vision transformer of 12 blocks and 768 numbers a token; and SGD with momentum for
the weights. Each variant runs in a process of its
own. Times are medians without the first two steps. On a GPU, memory is what arrays take
at most, less what they took before the model was made. Without one, it is the peak of
what is resident after --steps steps, less what was before. A second process has the C
library give large blocks back at once (MALLOC_MMAP_THRESHOLD_, of glibc), which it
otherwise keeps for later: that peak is what the step needs. Prints a Markdown row a
variant, and writes the figures to --out as JSON. What is needed at least are 4 bytes a
connection for each of: weights, their gradients and momentum, and with SCL masks, their
gradients and the masked kernels (the mask optimizer is plain SGD, without a state).

With --devices, JAX makes that many of the CPU, and each holds a share of the columns of
each kernel (`keras.distribution.ModelParallel`). What each of them holds between steps
is printed, too, and in the file.
"""

import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))  # of what all share

import keras
import numpy as np
from absl import app, flags
from measuring import Repeated, peak_bytes, resident_bytes
from records import write_json

import scl_keras
from scl_keras.architectures import build_architecture

FLAGS = flags.FLAGS
VARIANTS = ("dense", "scl", "scl bfloat16", "scl momentum", "scl frozen", "switcher")
flags.DEFINE_multi_enum("variant", VARIANTS, VARIANTS, "What to measure.")
NETWORKS = ("dense_stack", "resnet_18", "vision_transformer")
flags.DEFINE_multi_enum("network", ["dense_stack"], NETWORKS, "Of what network.")
flags.DEFINE_float("connections", 50e6, "About how many in a stack.", lower_bound=1)
flags.DEFINE_integer("layers", 8, "Layers of a stack.", lower_bound=1)
flags.DEFINE_string("dtype_policy", "float32", "Such as mixed_bfloat16.")
flags.DEFINE_integer("batch_size", 32, "Samples a step.", lower_bound=1)
flags.DEFINE_integer("devices", 1, "Devices to make of the CPU (JAX).", lower_bound=1)
flags.DEFINE_integer("steps", 8, "Steps, of which the first two don't count.")
flags.DEFINE_bool("smoke", False, "A run of seconds, to see that everything works.")
flags.DEFINE_bool("inner", False, "Measure here, and print JSON: for its own use.")
flags.DEFINE_string("out", "runs/benchmark_size.json", "File to write to.")


class Clock(keras.callbacks.Callback):
    """Seconds of each step."""

    def on_train_begin(self, logs=None):
        """Starts."""
        self.seconds, self.last = [], time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        """Waits for the step, and takes the time."""
        float(logs["loss"])
        now = time.perf_counter()
        self.seconds.append(now - self.last)
        self.last = now


def dense_stack(connections, depth, multiple):
    """Dense layers of equal width, which is a multiple of a number."""
    width = max(round((connections / depth) ** 0.5), 1)
    width += -width % multiple
    model = keras.Sequential([keras.Input((width,))])
    for _ in range(depth):
        model.add(keras.layers.Dense(width, activation="relu", use_bias=False))
    return model


def build(network):
    """A new network, a narrow one in a smoke run."""
    if network == "dense_stack":
        connections = 1e4 if FLAGS.smoke else FLAGS.connections
        return dense_stack(connections, FLAGS.layers, FLAGS.devices)
    if network == "resnet_18":
        options = {"depth": 18, "stages": 4, "width": 0.25 if FLAGS.smoke else 4.0}
        return build_architecture("resnet", (32, 32, 3), 10, **options)
    options = {"depth": 12, "heads": 12, "width": 12 if FLAGS.smoke else 768}
    shape, classes = (224, 224, 3), 1000
    return build_architecture("vision_transformer", shape, classes, patch=16, **options)


def spread_over_devices():
    """Has each device hold a share of the columns of each kernel; masks follow."""
    devices = keras.distribution.list_devices()
    mesh = keras.distribution.DeviceMesh((1, len(devices)), ["batch", "model"], devices)
    layouts = keras.distribution.LayoutMap(mesh)
    layouts[".*kernel"] = (None, "model")
    keras.distribution.set_distribution(
        keras.distribution.ModelParallel(layout_map=layouts, batch_dim_name="batch")
    )


def bytes_by_device():
    """Bytes of the arrays that each of JAX's devices holds."""
    import jax

    held = dict.fromkeys(map(str, jax.devices()), 0)
    for array in jax.live_arrays():
        for shard in array.addressable_shards:
            held[str(shard.device)] += shard.data.nbytes
    return held


def measure(network, variant, steps):
    """Figures of one variant."""
    keras.config.set_dtype_policy(FLAGS.dtype_policy)
    tiny = dense_stack(1, 1, 1)  # what Keras and the backend need anyway
    tiny.compile("sgd", "mse")
    tiny.fit(np.ones((1, 1)), np.ones((1, 1)), verbose=0)
    tiny.get_config()  # on other backends, too, Keras imports TensorFlow here: 0.4 GiB
    before = resident_bytes()
    if FLAGS.devices > 1:
        spread_over_devices()
    model = build(network)
    size = sum(int(np.prod(w.shape)) for w in model.trainable_weights)
    optimizer = keras.optimizers.SGD(0.01, momentum=0.9)
    arguments = {} if variant == "dense" else {"connection_cost": 0.1}
    if variant == "switcher":
        model = scl_keras.SwitcherModel(model)
    elif variant != "dense":
        mask_dtype = "bfloat16" if variant == "scl bfloat16" else "float32"
        scl_keras.sparsify(model, mask_dtype=mask_dtype)
    if variant == "scl momentum":
        arguments["mask_optimizer"] = keras.optimizers.SGD(3e-3, momentum=0.9)
    model.compile(optimizer, "mse", **arguments)
    if variant == "scl frozen":
        scl_keras.freeze_masks(model)
    made = peak_bytes()
    rng = np.random.default_rng(0)
    shapes = model.input_shape[1:], model.output_shape[1:]
    batch = [rng.random((FLAGS.batch_size, *shape), "float32") for shape in shapes]
    clock = Clock()
    model.fit(Repeated(batch, steps), callbacks=[clock], verbose=0)
    by_device = bytes_by_device() if FLAGS.devices > 1 else {}
    return {
        "bytes_by_device": by_device,
        "backend": keras.backend.backend(),
        "network": network,
        "dtype_policy": FLAGS.dtype_policy,
        "variant": variant,
        "connections": size,
        "seconds": statistics.median(clock.seconds[2:]),
        "bytes": peak_bytes() - before,
        "bytes_to_make": made - before,
    }


def measure_apart(network, variant, steps, environment=None):
    """Figures of one variant, from a process of its own."""
    command = [sys.executable, __file__, "--inner", f"--variant={variant}"]
    command += [f"--network={network}", f"--dtype_policy={FLAGS.dtype_policy}"]
    command += [f"--connections={FLAGS.connections}", f"--steps={steps}"]
    command += ["--smoke"] if FLAGS.smoke else []
    command += [f"--layers={FLAGS.layers}", f"--batch_size={FLAGS.batch_size}"]
    command += [f"--devices={FLAGS.devices}"]
    if FLAGS.devices > 1:
        devices = f"--xla_force_host_platform_device_count={FLAGS.devices}"
        environment = (environment or os.environ) | {"XLA_FLAGS": devices}
    run = subprocess.run(command, capture_output=True, text=True, env=environment)
    if run.returncode:
        sys.exit(run.stderr)
    return json.loads(run.stdout.strip().splitlines()[-1])


def figures_of(network, variant, steps):
    """What two processes measured of a variant."""
    what = network, variant, steps
    frugal = os.environ | {"MALLOC_MMAP_THRESHOLD_": str(2**20)}
    needed = measure_apart(*what, frugal)["bytes"]
    return measure_apart(*what) | {"bytes_needed": needed}


def show(result, dense):
    """Prints a row of the table."""
    size = result["connections"]
    print(
        f"| {result['backend']} | {result['network']} | {result['variant']} | "
        f"{result['bytes_needed'] / size:.1f} | {result['bytes'] / size:.1f} | "
        f"{result['seconds']:.3f} s | {result['seconds'] / dense['seconds']:.2f} |"
    )
    for device, held in result["bytes_by_device"].items():
        print(f"  {device}: {held / size:.1f} bytes a weight")


def main(argv):
    """Measures each variant in a process, prints the table, writes the file."""
    if len(argv) > 1:
        raise app.UsageError(f"Unexpected arguments: {argv[1:]}")
    steps = 3 if FLAGS.smoke else FLAGS.steps
    if FLAGS.inner:
        figures = measure(FLAGS.network[0], FLAGS.variant[0], steps)
        print(json.dumps(figures))
        return
    results = []
    print(
        "| backend | network | variant | bytes a weight | resident | step | to dense |"
    )
    print("|---|---|---|---|---|---|---|")
    for network in FLAGS.network:
        first = len(results)
        for variant in FLAGS.variant[1:2] if FLAGS.smoke else FLAGS.variant:
            results.append(figures_of(network, variant, steps))
            show(results[-1], results[first])
    write_json(FLAGS.out, results)


if __name__ == "__main__":
    app.run(main)
