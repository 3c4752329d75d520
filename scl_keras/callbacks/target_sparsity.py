"""Reaching a sparsity that the user names."""

from scl_keras.callbacks.steered_target import SteeredTarget
from scl_keras.masks.density import target_density


class TargetSparsity(SteeredTarget):
    """Reaches a sparsity by an epoch, by steering the connection cost.

    No connection cost has to be found, and no sparsity per layer: one price holds for
    all connections, and this callback moves it so that the number kept follows

    `log N(t) = log N_0 + (1 - (1 - t)³) · (log N_target - log N_0)`

    from the first step of `fit` (`t = 0`) to the end of epoch `by_epoch` (`t = 1`),
    `N_0` being the number kept at first.

    Mask variables start in proportion to the magnitudes of the weights that they switch
    (`start_from_magnitudes`), so that what a trained network knows is used. Their
    rate falls by a cosine to zero at `t = 1` (`MaskRate`), so that
    they come to rest in a state that the weights have adapted to. It falls from `t = 0`
    on, or from `1 - 1 / log10(N_0 / N_target)` if that is later. Both are ours, and
    can be left out: `start=None`, and `compile(mask_optimizer="sgd")` or any other
    optimizer, whose rate stays what it is. The rule of Tang et al. (arXiv 2201.05020)
    itself has no target: `compile(connection_cost=0.1, normalization="feature")`.

    The callback looks at the distance by which all mask variables would have to fall
    to meet the plan: how that moved since the last look tells the cost that would hold
    it, and what is added to this cost makes it vanish within the next steps. The last
    such distance is gone in one stroke, which makes the number exact, and the masks are
    frozen: what epochs are left fine-tune the weights. They stay frozen in a later
    `fit`, until `thaw_masks` or another target: one that is met by frozen masks has
    nothing to do.
    (Where a later target keeps more, the cost goes to zero, and what is missing in the
    end comes back in one stroke, first what is nearest to being kept.)

    `N` counts what `compile` puts a price on: connections, or with `cost="macs"`
    multiply-accumulates. (A target of connections with a price on multiply-accumulates
    takes convolutions first, and where single connections are switched all of these may
    be gone before the number is met: that is refused.) Masks of layers with
    `trainable=False`, and fixed ones, count, and stay as they are.

    A layer keeps its last connection (see `Mask`). Layers that would have lost it are
    printed. Where a mask variable switches several connections (see `Granularity`), the
    number is met up to one switch. With `NM(2, 4)` masks `TargetSparsity(0.5)` keeps
    two of every four, and a higher sparsity at most two.

    A loss or accuracy is best before connections go. So have a callback that keeps the
    best weights look only at what comes after the target:
    `AfterTarget(EarlyStopping(restore_best_weights=True))`. If training ends with
    another number of connections there is a warning, also for weights that another
    callback restored. No other callback should set the connection cost.

    Args:
        sparsity: Float in [0, 1), the share of masked connections to cut.
        compression: Instead: number of connections over number kept, at least 1.
        by_epoch: Number of epochs, from 1, after which it is reached, counted as
            `initial_epoch` is. By default after two thirds of the epochs of `fit`.
        verbose: 1 to print when it is reached, 0 not to.
        of: What there is to be less of: `"connections"`, or `"macs"`. By default what
            the model is compiled to pay for.
        over: `"masks"`: the target is one of all that has masks. `"model"`: of all
            weights of the model, biases and what has no masks included.
        start: `"magnitudes"`, or None to leave mask variables where they are. (Where a
            switcher network decides on masks, they have no start.)

    Raises:
        ValueError: If not exactly one target is given or one is out of range, or
            `by_epoch` is no whole number, or `of`, `over` or `start` is something else;
            at the start of `fit`, if it ends before `by_epoch` or begins after it, if
            the model pays for multiply-accumulates of single connections and the target
            is of these, if the target leaves less than a connection a layer or more
            than masks can keep (see `NM`), or if multiply-accumulates can't be counted;
            later, if there are no data, or every batch of an epoch was skipped: nothing
            is cut at random.

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
