r"""Learns masks in several processes, with PyTorch's `DistributedDataParallel`.

On one machine, a process for each of its GPUs, or two on its CPU:

    KERAS_BACKEND=torch torchrun --nproc_per_node=2 examples/train_torch_distributed.py

`torchrun` starts them on several machines, too. Keras has no data parallelism of its
own on PyTorch: its guide wraps the model in `DistributedDataParallel` and loops over
the batches, as is done here. PyTorch gives each process the mean of all gradients, so
that masks are normalized by the gradient of the whole batch, and move alike everywhere.

--batch_size is that of all processes together, of which each feeds its share: masks and
weights are those that one process learns with the same batches. Process 0 writes
model.keras to the folder --out.
"""

import contextlib
import os
import sys

import data_parallel
import keras
from absl import app, flags

import scl_keras

FLAGS = flags.FLAGS
flags.DEFINE_string("out", "runs/torch_distributed", "Folder to write to.")


@contextlib.contextmanager
def process_group():
    """Connects the processes that `torchrun` started: (this one's number, how many)."""
    import torch

    if "WORLD_SIZE" not in os.environ:  # one process, without `torchrun`
        yield 0, 1
        return
    on_gpus = torch.cuda.is_available()
    if on_gpus:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    # What processes on CPUs talk with, and what GPUs do.
    torch.distributed.init_process_group("nccl" if on_gpus else "gloo")
    try:
        yield torch.distributed.get_rank(), torch.distributed.get_world_size()
    finally:
        torch.distributed.destroy_process_group()


class Loop:
    """Trains a compiled model whose gradients are those of all processes.

    Args:
        model: A compiled model with masks.
        processes: How many there are.
    """

    def __init__(self, model, processes):
        from torch.nn.parallel import DistributedDataParallel

        self.model = model
        self.parallel = DistributedDataParallel(model) if processes > 1 else model
        self.loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    def step(self, x, y):
        """One step on this process's share of a batch."""
        import torch

        optimizer, variables = self.model.optimizer, self.model.trainable_variables
        x, y = (keras.ops.convert_to_tensor(array) for array in (x, y))
        self.model.zero_grad()
        loss = self.loss(y, self.parallel(x, training=True))
        optimizer.scale_loss(loss).backward()
        with torch.no_grad():
            optimizer.apply([v.value.grad for v in variables], variables)

    def fit(self, share, epochs, callbacks):
        """Trains, with callbacks as `fit` has them."""
        heard = keras.callbacks.CallbackList(
            callbacks, model=self.model, epochs=epochs, steps=len(share)
        )
        heard.on_train_begin()
        for epoch in range(epochs):
            heard.on_epoch_begin(epoch)
            for i in range(len(share)):
                heard.on_train_batch_begin(i)
                self.step(*share[i])
                heard.on_train_batch_end(i)
            heard.on_epoch_end(epoch)
            share.on_epoch_begin()  # shuffles for the next one
        heard.on_train_end()


def main(argv):
    """Trains; process 0 reports and writes."""
    if len(argv) > 1:
        raise app.UsageError(f"Unexpected arguments: {argv[1:]}")
    if keras.backend.backend() != "torch":
        sys.exit("Set KERAS_BACKEND=torch: this is PyTorch's way to many devices.")
    with process_group() as (rank, processes):
        if FLAGS.batch_size % processes:
            sys.exit(f"--batch_size must be a multiple of the {processes} processes.")
        model, share = data_parallel.network_and_share(rank, processes)
        scl_keras.sparsify(model, verbose=0 if rank else 1)
        model.compile(keras.optimizers.Adam(FLAGS.learning_rate))
        target = scl_keras.TargetSparsity(FLAGS.sparsity, verbose=0 if rank else 1)
        Loop(model, processes).fit(share, data_parallel.epochs(), [target])
        if rank == 0:
            data_parallel.finish(model, share, FLAGS.out, processes, processes)


if __name__ == "__main__":
    app.run(main)
