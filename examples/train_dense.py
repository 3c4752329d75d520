r"""Trains a dense network: the reference that a sparse one is compared with.

    python examples/train_dense.py --dataset=mnist --architecture=lenet_5 --epochs=20

Writes dense.keras and dense.json to the folder --out.
"""

import experiment
import keras
from absl import flags

FLAGS = flags.FLAGS
flags.DEFINE_integer("epochs", 20, "Passes over the training data.", lower_bound=1)


def run():
    """Trains and saves one network."""
    data, train, test = experiment.load_data()
    epochs = 2 if FLAGS.smoke else FLAGS.epochs
    keras.utils.set_random_seed(FLAGS.seed)
    model = experiment.build(data)
    experiment.compile_model(model, len(train[0]), epochs)
    history = experiment.fit(model, train, test, epochs)
    accuracy = experiment.accuracy(model, test)

    folder = experiment.out_folder()
    model.save(folder / "dense.keras")
    results = {
        "accuracy": accuracy,
        "parameters": model.count_params(),
        "history": history.history,
    }
    experiment.write_results(folder / "dense.json", results)
    print(
        f"{FLAGS.dataset} {FLAGS.architecture}: accuracy {accuracy:.2%}, "
        f"{model.count_params():,} parameters, saved in {folder}/"
    )


if __name__ == "__main__":
    experiment.main(run)
