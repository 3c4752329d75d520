r"""Learns masks on several devices or machines, with JAX and `keras.distribution`.

On one machine, on all its accelerators (--cpu_devices makes some of a CPU):

    KERAS_BACKEND=jax python examples/train_jax_distributed.py

On two machines, the first of which is 10.0.0.1, one command on each:

    KERAS_BACKEND=jax python examples/train_jax_distributed.py \
        --coordinator=10.0.0.1:8476 --num_processes=2 --process_id=0
    KERAS_BACKEND=jax python examples/train_jax_distributed.py \
        --coordinator=10.0.0.1:8476 --num_processes=2 --process_id=1

--batch_size is that of all devices together, of which each process feeds its share:
masks and weights are those that one device learns with the same batches. Process 0
writes model.keras to the folder --out. It is exported to TFLite from TensorFlow:

    KERAS_BACKEND=tensorflow python -m scl_keras export model.keras \
        --out=model.tflite --data=samples.npy
"""

import sys

import data_parallel
import keras
from absl import app, flags

import scl_keras

FLAGS = flags.FLAGS
flags.DEFINE_string("coordinator", None, "Address of process 0, as host:port.")
flags.DEFINE_integer("num_processes", 1, "Number of processes.", lower_bound=1)
flags.DEFINE_integer("process_id", 0, "Number of this process.", lower_bound=0)
flags.DEFINE_integer("cpu_devices", 0, "Devices to make of this machine's CPU.")
flags.DEFINE_string("out", "runs/jax_distributed", "Folder to write to.")


def connect():
    """Starts JAX on all devices of all processes."""
    import jax

    if FLAGS.cpu_devices:
        jax.config.update("jax_platforms", "cpu")
        jax.config.update("jax_num_cpu_devices", FLAGS.cpu_devices)
    if FLAGS.num_processes > 1:
        # What processes on CPUs talk with; accelerators have their own.
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        keras.distribution.initialize(
            FLAGS.coordinator, FLAGS.num_processes, FLAGS.process_id
        )
    # Each process feeds its share already; Keras could only split a `tf.data.Dataset`.
    keras.distribution.set_distribution(
        keras.distribution.DataParallel(auto_shard_dataset=False)
    )
    return len(keras.distribution.list_devices())


def main(argv):
    """Trains; process 0 reports and writes."""
    if len(argv) > 1:
        raise app.UsageError(f"Unexpected arguments: {argv[1:]}")
    if keras.backend.backend() != "jax":
        sys.exit("Set KERAS_BACKEND=jax: this is JAX's way to many devices.")
    if (FLAGS.num_processes > 1) != bool(FLAGS.coordinator):
        sys.exit("Several processes need --coordinator, and one must not have it.")
    devices = connect()
    if FLAGS.batch_size % devices:
        sys.exit(f"--batch_size must be a multiple of the {devices} devices.")
    processes = FLAGS.num_processes
    model, share = data_parallel.network_and_share(FLAGS.process_id, processes)
    scl_keras.sparsify(model)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    optimizer = keras.optimizers.Adam(FLAGS.learning_rate)
    model.compile(optimizer, loss)
    target = scl_keras.TargetSparsity(FLAGS.sparsity)
    epochs = data_parallel.epochs()
    model.fit(share, epochs=epochs, callbacks=[target], verbose=0)
    if FLAGS.process_id:
        return
    # Saving makes variables, and would wait for the others to make them, too.
    keras.distribution.set_distribution(None)
    data_parallel.finish(model, share, FLAGS.out, devices, processes)


if __name__ == "__main__":
    app.run(main)
