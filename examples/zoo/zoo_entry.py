"""Entries of the zoo: what `make_card.py` writes and `verify_models.py` checks."""

import dataclasses
import hashlib

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from records import write_text

import scl_keras
from scl_keras import zoo
from scl_keras.export.converter import ConvertedFiles
from scl_keras.export.latency import measure_latencies
from scl_keras.export.reference import build_reference
from scl_keras.graph.kernels import prunable_kernels

FILES = (".keras", ".tflite", ".masks.npz")
"""The files that a card vouches for, by their ends."""
MOST_BYTES = 2_000_000
_BATCH = 1000
# Another processor adds up in another order, which may turn a borderline image.
_IMAGES = 2


@dataclasses.dataclass(frozen=True)
class Check:
    """One figure of a card, and what was found of it."""

    what: str
    card: object
    found: object
    passed: bool


def connections(model):
    """What is left of a model's connections: figures of a card, all of them exact."""
    table = scl_keras.summary(model, print_fn=None)
    small = scl_keras.compact(model)
    return {
        "connections": table.connections,
        "kept": table.kept,
        "effective": table.effective,
        "direct_compression": table.compression,
        "effective_compression": table.effective_compression,
        "macs": table.macs,
        "kept_macs": table.sparse_macs,
        "parameters": model.count_params(),
        "compact_parameters": small.count_params(),
        "compact_macs": scl_keras.summary(small, print_fn=None).macs,
        "layers": {
            row.layer: [row.kept, row.effective, row.connections] for row in table.rows
        },
    }


def nonzero(model):
    """Which connections of a model aren't zero: dict of boolean arrays by label."""
    return {kernel.label: kernel.kept() for kernel in prunable_kernels(model)}


def file_figures(paths):
    """Bytes and SHA-256 of files: a dict by the same keys."""
    return {
        key: {
            "bytes": path.stat().st_size,
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        }
        for key, path in paths.items()
    }


def keras_accuracy(model, data):
    """Share of test images that a Keras model gets right."""
    logits = model.predict(data.x_test, batch_size=_BATCH, verbose=0)
    return float(np.mean(logits.argmax(-1) == data.y_test))


def tflite_accuracy(path, data):
    """Share of test images that a TFLite file gets right, on one thread."""
    run = Interpreter(model_path=str(path), num_threads=1).get_signature_runner()
    (name,) = run.get_input_details()
    right = 0
    for start in range(0, len(data.y_test), _BATCH):
        part = slice(start, start + _BATCH)
        (logits,) = run(**{name: data.x_test[part]}).values()
        right += int(np.sum(logits.argmax(-1) == data.y_test[part]))
    return right / len(data.y_test)


def against_dense(model, path, seconds):
    """What a TFLite file is beside that of the same network without any encoding.

    Args:
        model: The stripped model, of the full size.
        path: The TFLite file.
        seconds: How long to time both, in alternation, one image at a time.

    Returns:
        Bytes of the plain converter's file, and how many times as fast as it the other
        one is: a `scl_keras.timing.Speed`.
    """
    sample = np.random.default_rng(0).random((1, *model.input_shape[1:]), "float32")
    reference = build_reference(model, sample)
    with ConvertedFiles(reference) as converted:
        files = {"dense": converted.plain, "written": path.read_bytes()}
    timings = measure_latencies(files, reference.batches[0].inputs, seconds)
    return len(files["dense"]), timings.speed("written", "dense")


def verify(name, folder=None, data=None):
    """Checks all that an entry's card says, but for times.

    Args:
        name: Name of the entry.
        folder: Folder of the zoo, as for `scl_keras.zoo.load`.
        data: Its data set; None to leave the accuracies out.

    Returns:
        A list of `Check`.
    """
    card = zoo.load_card(name, folder)
    paths = {end: zoo.path_of(name, end, folder) for end in FILES}
    found = file_figures(paths)
    checks = [
        _same(f"{end} {figure}", card["files"][end][figure], found[end][figure])
        for end in FILES
        for figure in ("bytes", "sha256")
    ]
    text = zoo.path_of(name, ".md", folder).read_text()
    checks.append(Check("card to read", "as JSON", "", text == as_markdown(card)))
    model, masks = zoo.load(name, folder), zoo.load_masks(name, folder)
    pattern = nonzero(model)
    alike = masks.keys() == pattern.keys() and all(
        np.array_equal(masks[label], pattern[label]) for label in masks
    )
    checks.append(Check("masks", "nonzero weights", "", alike))
    left = connections(model)
    checks += [_same(figure, card[figure], left[figure]) for figure in left]
    if data is not None:
        accuracies = {
            "accuracy": keras_accuracy(model, data),
            "tflite_accuracy": tflite_accuracy(paths[".tflite"], data),
        }
        for figure, value in accuracies.items():
            images = abs(value - card[figure]) * len(data.y_test)
            passed = images < _IMAGES + 0.5
            checks.append(Check(figure, card[figure], value, passed))
    return checks


def _same(what, card, found):
    return Check(what, card, found, card == found)


def as_markdown(card):
    """A card as people read it."""
    files, tflite = card["files"], card["files"][".tflite"]["bytes"]
    rows = {
        "data": f"{card['dataset']}, {card['test_images']:,} test images",
        "network": f"`{card['architecture']}`",
        "accuracy, dense, where it began": f"{card['dense_accuracy']:.2%}",
        "accuracy": f"{card['accuracy']:.2%}",
        "accuracy of the TFLite file": f"{card['tflite_accuracy']:.2%}",
        "connections": f"{card['kept']:,} of {card['connections']:,} kept, "
        f"{card['effective']:,} effective",
        "compression": f"{card['direct_compression']:.1f}x direct, "
        f"{card['effective_compression']:.1f}x effective",
        "multiply-accumulates": f"{card['kept_macs']:,} of {card['macs']:,}",
        "by `compact`": f"{card['compact_parameters']:,} of {card['parameters']:,} "
        f"parameters, {card['compact_macs']:,} multiply-accumulates",
        "TFLite file": f"{tflite:,} bytes (`{card['candidate']}`), "
        f"dense {card['dense_bytes']:,}",
        "speed": f"{card['latency_ratio']:.2f}x that of the dense file",
        "seed": str(card["seed"]),
        "versions": ", ".join(f"{k} {v}" for k, v in card["versions"].items()),
    }
    lines = [f"# {card['name']}", "", "| | |", "|---|---|"]
    lines += [f"| {key} | {value} |" for key, value in rows.items()]
    lines += ["", "Trained by", "", "```bash", card["command"], "```", ""]
    lines += ["| file | bytes | SHA-256 |", "|---|---|---|"]
    lines += [
        f"| {card['name']}{end} | {files[end]['bytes']:,} | `{files[end]['sha256']}` |"
        for end in FILES
    ]
    lines += ["", "| layer | kept | effective | of |", "|---|---|---|---|"]
    lines += [
        f"| {layer} | " + " | ".join(f"{n:,}" for n in numbers) + " |"
        for layer, numbers in card["layers"].items()
    ]
    return "\n".join(lines) + "\n"


def write_index(folder):
    """Writes the table of all entries, as the README.md of the zoo's folder."""
    lines = [
        "# Trained sparse networks",
        "",
        '`scl_keras.zoo.load("NAME")` loads one. '
        "`python examples/zoo/verify_models.py` checks every figure here against the "
        "files and the data. *Dense* is the accuracy of the network before masks were "
        "learned, after `--dense_epochs` of the card's command. The sparse network has "
        "trained for `--epochs` more, and may be ahead for that reason alone.",
        "",
        "An entry is replaced only by one that is more accurate at the same "
        "compression. Its card names the version that made it.",
        "",
        "| name | dense | sparse | TFLite file | effective compression | bytes | "
        "dense bytes |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in zoo.names(folder):
        card = zoo.load_card(name, folder)
        lines.append(
            f"| [{name}]({name}.md) | {card['dense_accuracy']:.2%} | "
            f"{card['accuracy']:.2%} | {card['tflite_accuracy']:.2%} | "
            f"{card['effective_compression']:.1f}x | "
            f"{card['files']['.tflite']['bytes']:,} | {card['dense_bytes']:,} |"
        )
    write_text(folder / "README.md", "\n".join(lines) + "\n")
