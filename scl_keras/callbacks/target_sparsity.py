"""Reaching a sparsity that the user names."""

from scl_keras.callbacks.steered_target import SteeredTarget
from scl_keras.masks.density import target_density


class TargetSparsity(SteeredTarget):
    """Reaches a sparsity by an epoch, by steering the connection cost.

    You name neither a connection cost nor a sparsity per layer. One price holds for all
    connections, and this callback adjusts it so that the number kept follows

    `log N(t) = log N_0 + (1 - (1 - t)³) · (log N_target - log N_0)`

    from the first step of `fit` (`t = 0`) to the end of epoch `by_epoch` (`t = 1`).
    `N_0` is the number kept at first.

    Mask variables start in proportion to the magnitudes of the weights that they switch
    (`start_from_magnitudes`), which uses what a trained network knows. Their learning
    rate falls by a cosine to zero at `t = 1` (`MaskRate`), so they come to rest in a
    state to which the weights have adapted. It falls from `t = 0`, or from
    `1 - 1 / log10(N_0 / N_target)` if that is later. Both are our additions. To leave
    them out, pass `start=None`, and `compile(mask_optimizer="sgd")` or any other
    optimizer, whose rate is left alone. The rule of Tang et al. (arXiv 2201.05020)
    itself has no target: `compile(connection_cost=0.1, normalization="feature")`.

    The callback measures how far all mask variables would have to fall to meet the
    plan. How this distance moved since the last look tells which cost would hold it;
    what is added to that cost closes the distance within the next steps. At `t = 1` the
    rest is closed at once, which makes the number exact, and the masks are frozen. The
    remaining epochs fine-tune the weights. Masks stay frozen in a later `fit`, until
    `thaw_masks` or another target. A target that frozen masks already meet has nothing
    to do. (If a later target keeps more, the cost goes to zero. At the end, the missing
    connections come back at once, those nearest to being kept first.)

    `N` counts what `compile` puts a price on: connections, or with `cost="macs"`
    multiply-accumulates. (With a price on multiply-accumulates, a target of connections
    takes convolutions first. Where single connections are switched, all of these may be
    gone before the number is met, so that is refused.) Masks of layers with
    `trainable=False`, and fixed masks, count, and stay as they are.

    A layer keeps its last connection (see `Mask`). Layers that would have lost it are
    printed. Where a mask variable switches several connections (see `Granularity`), the
    number is met to within one switch. With `NM(2, 4)` masks, `TargetSparsity(0.5)`
    keeps two of every four, and a higher sparsity at most two.

    A loss or accuracy is best before connections go. So wrap a callback that keeps the
    best weights, and it looks only at the epochs after the target:
    `AfterTarget(EarlyStopping(restore_best_weights=True))`. If training ends with
    another number of connections, there is a warning, also when another callback
    restored the weights. No other callback should set the connection cost.

    Args:
        sparsity: Float in [0, 1), the share of masked connections to cut.
        compression: Instead: number of connections over number kept, at least 1.
        by_epoch: Number of epochs, at least 1, after which the target is reached,
            counted as `initial_epoch` is. By default two thirds of the epochs of `fit`.
        verbose: 1 to print when it is reached, 0 not to.
        of: What to reduce: `"connections"` or `"macs"`. By default what the model is
            compiled to pay for.
        over: `"masks"`: the target counts only what has masks. `"model"`: it counts all
            weights of the model, including biases and what has no masks.
        start: `"magnitudes"`, or None to leave mask variables where they are. (Where a
            switcher network decides on masks, it is ignored.)

    Raises:
        ValueError: If not exactly one target is given or it is out of range, or if
            `by_epoch`, `of`, `over` or `start` isn't one of these. When `fit` begins:
            if it ends before `by_epoch` or begins after it; if the model pays for
            multiply-accumulates of single connections and the target is one of
            connections; if the target leaves less than one connection per layer, or
            more than masks can keep (see `NM`); or if multiply-accumulates can't be
            counted. Later: if there are no data, or every batch of an epoch was
            skipped, since nothing is cut at random.

    Example:

    ```python
    model.fit(x, y, epochs=9, callbacks=[TargetSparsity(0.98, by_epoch=6)])
    ```
    """

    def __init__(
        self,
        sparsity: float | None = None,
        compression: float | None = None,
        by_epoch: int | None = None,
        verbose: int = 0,
        of: str | None = None,
        over: str = "masks",
        start: str | None = "magnitudes",
    ) -> None:
        super().__init__(by_epoch, verbose, of, over, start)
        self.density = target_density("TargetSparsity", sparsity, compression)

    def _check(self):
        self._budget.aim(self.density)
