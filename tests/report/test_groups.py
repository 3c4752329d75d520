import json

import keras
import numpy as np
import pytest
from keras import layers

from scl_keras import NM, prune, sparsify, strip_masks, summary
from scl_keras.report import check_groups


def small():
    inputs = keras.Input((6, 6, 5))
    x = layers.Flatten()(layers.Conv2D(4, 3, name="conv")(inputs))
    return keras.Model(inputs, layers.Dense(2, name="last")(x), name="small")


def test_one_connection_too_many_in_one_group_is_found():
    model = prune(small(), granularity=NM(2, 4), verbose=0)
    check = check_groups(model)
    assert check.holds and [row.groups for row in check.rows] == [72, 32]
    assert [row.most_kept for row in check.rows] == [2, 2]
    stock = strip_masks(model)
    kernel = stock.get_layer("conv").kernel
    value = np.array(kernel)
    value[1, 2, :4, 3] = [1, 0, 2, 3]
    kernel.assign(value)
    check = check_groups(stock, NM(2, 4))
    assert not check.holds and [row.holds for row in check.rows] == [False, True]
    assert check.rows[0].most_kept == 3
    data = json.loads(json.dumps(check.as_dict()))
    assert data["rows"][0]["granularity"] == "2:4"
    assert data["holds"] is False and data["rows"][1]["holds"] is True
    lines = [line for line in str(check).splitlines() if "conv/kernel" in line]
    assert "no" in lines[0] and "72" in lines[0] and "3" in lines[0]
    assert check_groups(stock, NM(3, 4)).holds


def test_the_summary_names_the_granularity():
    model = sparsify(small(), granularity={"conv": NM(2, 4)}, verbose=0)
    table = summary(model, None)
    assert table.rows[0].granularity == "2:4"
    assert "2:4" in str(table)
    assert [row.layer for row in check_groups(model).rows] == ["conv/kernel"]
    assert len(check_groups(model, NM(1, 2)).rows) == 2


def test_what_cannot_be_checked_says_so():
    with pytest.raises(ValueError, match="has no kernels to check"):
        check_groups(small())
    with pytest.raises(ValueError, match="an `NM`.*Received: granularity='channel'"):
        check_groups(small(), "channel")
