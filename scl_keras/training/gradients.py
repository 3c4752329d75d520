"""Gradients as lists with None for variables that a loss doesn't depend on."""

from keras import ops


def with_zeros(gradients, variables):
    """Gradients by all variables, with zeros where there is None."""
    pairs = zip(gradients, variables, strict=True)
    return [ops.zeros(v.shape, v.dtype) if g is None else g for g, v in pairs]


def are_finite(gradients):
    """Whether there is no NaN or infinity in a list of tensors and Nones."""
    # Gradients of embeddings may come as the rows that were used.
    rows = [getattr(g, "values", None) for g in gradients if g is not None]
    given = [g for g in gradients if g is not None]
    given = [v if ops.is_tensor(v) else g for v, g in zip(rows, given, strict=True)]
    # A sum is the cheapest pass that they survive. One in float16 may overflow itself.
    return ops.isfinite(sum(ops.sum(ops.cast(g, "float32")) for g in given))
