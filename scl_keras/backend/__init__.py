"""The one place that knows which backend Keras runs on.

Everything that `keras.ops` has no word for is here, one module a backend with the same
names in each: gradients, conditions with side effects, replicas, the training step.
Nothing else branches on the backend.
"""

import importlib

import keras

_NAMES = ("tensorflow", "jax", "torch")
_NAME = keras.backend.backend()
if _NAME not in _NAMES:
    raise ImportError(
        f"scl_keras trains on the Keras backends {', '.join(_NAMES)}: set "
        f"KERAS_BACKEND to one of them. Received: KERAS_BACKEND={_NAME}"
    )
_module = importlib.import_module(f"{__name__}.{_NAME}")

ERRORS = _module.ERRORS
compiled = _module.compiled
cond = _module.cond
count_positive = _module.count_positive
double_precision = _module.double_precision
has_gradient = _module.has_gradient
replicas = _module.replicas
replicated_cond = _module.replicated_cond
sum_over_replicas = _module.sum_over_replicas
synchronize = _module.synchronize
train_step = _module.train_step
unit_step = _module.unit_step
variables_scope = _module.variables_scope
variables_vjp = _module.variables_vjp
vjp = _module.vjp


def can_export():
    """Whether TFLite files can be written and verified here: a bool."""
    return _NAME == "tensorflow"


def check_can_export():
    """Refuses what only TensorFlow can do.

    Raises:
        RuntimeError: On another backend.
    """
    if not can_export():
        raise RuntimeError(
            "TFLite files need the TensorFlow backend. Save the model, "
            "`model.save('model.keras')`, and export the file in a process of its own: "
            "KERAS_BACKEND=tensorflow python -m scl_keras export model.keras "
            "--out=model.tflite --data=samples.npz. "
            f"Received: KERAS_BACKEND={_NAME}"
        )
