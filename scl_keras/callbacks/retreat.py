"""What to do with a network that loses too much while it is fine-tuned."""

from scl_keras.callbacks.held_states import HeldState

_NEARLY = 1.1
_LEAST_STEP = 0.1


def retreat(
    place: float, drop: float, may_lose: float, bound: float, held: HeldState
) -> float | None:
    """Says how far a network goes back that loses more than it may.

    Masks are frozen by then, and the learning rate is low: what isn't mended soon stays
    as it is. So

    - what nearly holds stays, if the last state that held meets the bound already: that
      one needs no more tuning;
    - that state comes back if it had lost less;
    - else the present weights are the best there are. Connections come back to them:
      with `x` the logarithm of the compression and `d` what is lost, until
      `x · bound / (bound + d - may_lose)`, as if `d` grew in proportion to `x`.

    Args:
        place: Logarithm of the compression at present, `x`.
        drop: What the metric has lost, `d > may_lose`, or NaN.
        may_lose: What may be lost at present.
        bound: What may be lost in the end.
        held: The sparsest state below `place` that held.

    Returns:
        The logarithm of the compression to give connections back to, `place` to stay,
        or None to have `held` come back.
    """
    if held.drop <= bound and drop <= _NEARLY * may_lose:
        return place
    if not held.drop > drop:
        return None
    return min(place * bound / (bound + drop - may_lose), place - _LEAST_STEP)
