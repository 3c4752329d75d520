import itertools

import numpy as np
import pytest

from scl_keras.targets.placing import placed


def is_possible(chosen):
    """Whether each mask switches what its layer makes, or what it reads, not both."""
    at = [mask for key, mask in chosen.items() if mask == key]
    return not any(mask in at for key, mask in chosen.items() if mask != key)


def most(order, readers, makers):
    """By trying all."""
    choices = []
    for key in order:
        masks = [None]
        masks += [readers[key]] if key in readers else []
        masks += [key] if key in makers else []
        choices.append(masks)
    tried = (
        {key: mask for key, mask in zip(order, masks, strict=True) if mask is not None}
        for masks in itertools.product(*choices)
    )
    return max(len(chosen) for chosen in tried if is_possible(chosen))


@pytest.mark.parametrize("seed", range(60))
def test_as_many_have_a_mask_as_can_have_one(seed):
    rng = np.random.default_rng(seed)
    order = list("abcdefg")
    readers = {
        key: str(rng.choice(order[number + 1 :]))
        for number, key in enumerate(order[:-1])
        if rng.random() < 0.8
    }
    makers = {key for key in order if rng.random() < 0.7}
    found = placed(order, readers, makers)
    assert all(
        (mask == key and key in makers) or mask == readers[key]
        for key, mask in found.items()
    )
    assert is_possible(found)
    assert len(found) == most(order, readers, makers)


def test_what_is_read_is_preferred():
    readers = {"a": "b", "b": "c"}
    assert placed("abc", readers, {"a", "b"}) == readers
    assert placed("abc", readers, set()) == readers
    assert placed("abc", readers, {"a", "b", "c"}) == {x: x for x in "abc"}
