"""Loads models from files in a process of its own, and compares outputs.

Usage: `python load_process.py FOLDER masked|stock`. With "stock" scl_keras can't be
imported.
"""

import pathlib
import sys

folder, kind = pathlib.Path(sys.argv[1]), sys.argv[2]


class Refuse:
    def find_spec(self, name, path=None, target=None):
        assert not name.startswith("scl_keras"), name


if kind == "stock":
    sys.meta_path.insert(0, Refuse())

import keras  # noqa: E402
import models  # noqa: E402, F401  (registers classes of KerasHub and those in it)
import numpy as np  # noqa: E402
from keras import ops  # noqa: E402

if kind == "masked":
    import scl_keras

for file in sorted(folder.glob(f"*.{kind}.keras")):
    name = file.name.split(".")[0]
    with np.load(folder / f"{name}.npz") as stored:
        given = dict(stored)
    class_name, expected = str(given.pop("class_name")), given.pop("expected")
    y = given.pop("y")
    x = given.get("x", given)
    model = keras.saving.load_model(file, compile=kind == "masked")
    found = ops.convert_to_numpy(model(x, training=False))
    np.testing.assert_array_equal(found, expected, err_msg=name)
    if kind == "masked":
        assert type(model).__name__ == f"SCL{class_name}", type(model)
        (granularity,) = {m.granularity for m in scl_keras.find_masks(model)}
        assert granularity == scl_keras.Block(2), granularity
        if name in ("guide", "custom_fit", "bert"):
            model.fit(x, y, verbose=0)
            again = ops.convert_to_numpy(model(x, training=False))
            assert np.any(again != expected)
    else:
        assert type(model).__name__ == class_name, type(model)
        assert "scl_keras" not in sys.modules
    print("loaded", name)
