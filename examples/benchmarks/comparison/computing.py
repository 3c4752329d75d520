"""How the backend computes."""

import keras


def limit_threads(threads):
    """Lets an operation use so many threads; call it before the backend computes.

    On JAX there is no way from inside: start it with `OMP_NUM_THREADS` and on as many
    cores as it may use.

    Args:
        threads: Their number.
    """
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
    elif keras.backend.backend() == "torch":
        import torch

        torch.set_num_threads(threads)


def hurry():
    """Skips what makes graphs faster, which so few steps aren't worth."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
