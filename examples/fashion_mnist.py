"""The whole path on Fashion-MNIST: from nothing to a file for the phone.

    python examples/fashion_mnist.py

The folder `small` has the file, `model.tflite`, and the report.
"""

import keras

import scl_keras
from scl_keras.datasets import load_dataset

data = load_dataset("fashion_mnist", download=True)
training = data.x_train[:50_000], data.y_train[:50_000]
validation = data.x_train[50_000:], data.y_train[50_000:]

model = keras.Sequential(
    [
        keras.Input(data.input_shape),
        keras.layers.Conv2D(32, 3, strides=2, activation="relu"),
        keras.layers.Conv2D(64, 3, strides=2, activation="relu"),
        keras.layers.Flatten(),
        keras.layers.Dense(10, activation="softmax"),
    ]
)
model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
model.fit(*training, epochs=4, validation_data=validation)

small = scl_keras.compress(model, training, validation, max_drop=0.01, out="small")
print("On test images:", small.model.evaluate(data.x_test, data.y_test)[1])
