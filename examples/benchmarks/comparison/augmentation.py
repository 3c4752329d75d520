"""Images mirrored and shifted at random, as it is usual on CIFAR."""

import tensorflow as tf

SHIFT = 4  # pixels at most, to each side


def augmented(x, y, batch_size):
    """Batches of shuffled images, each time another way mirrored and shifted.

    What moves in at a border is black. Order, mirrors and shifts depend on
    TensorFlow's global seed.

    Args:
        x: Images, `(samples, height, width, channels)`.
        y: Labels, `(samples,)`.
        batch_size: Images a batch; the last one may have fewer.

    Returns:
        A `tf.data.Dataset` of pairs of images and labels, an epoch long.
    """
    images, labels = tf.constant(x), tf.constant(y)

    def batch_of(indices):
        return _moved(tf.gather(images, indices)), tf.gather(labels, indices)

    indices = tf.data.Dataset.range(len(x)).shuffle(len(x)).batch(batch_size)
    return indices.map(batch_of)


def _moved(images):
    count, height, width = (tf.shape(images)[axis] for axis in range(3))
    is_mirrored = tf.random.uniform([count, 1, 1, 1]) < 0.5
    images = tf.where(is_mirrored, images[:, :, ::-1], images)
    images = tf.pad(images, [[0, 0], [SHIFT, SHIFT], [SHIFT, SHIFT], [0, 0]])
    for axis, size in ((1, height), (2, width)):
        first = tf.random.uniform([count, 1], maxval=2 * SHIFT + 1, dtype=tf.int32)
        images = tf.gather(images, first + tf.range(size), axis=axis, batch_dims=1)
    return images
