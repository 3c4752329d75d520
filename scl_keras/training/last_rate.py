"""The learning rate that a training ends with."""

import keras


def last_rate(optimizer: keras.optimizers.Optimizer, steps: int) -> float:
    """The learning rate of the weights after so many steps of a schedule.

    Without a schedule it is what it is now: callbacks may move it, nobody knows how.

    Args:
        optimizer: An `SCLOptimizer`.
        steps: Number of steps.
    """
    config = optimizer.optimizer.get_config()["learning_rate"]
    if not isinstance(config, dict):
        return float(keras.ops.convert_to_numpy(optimizer.learning_rate))
    schedule = keras.saving.deserialize_keras_object(config)
    return float(keras.ops.convert_to_numpy(schedule(steps)))
