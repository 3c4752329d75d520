"""What can be imported, from where, and in which order modules need each other."""

import ast
import importlib
import inspect
import pathlib
import subprocess
import sys

import pytest

import scl_keras

PACKAGE = pathlib.Path(scl_keras.__file__).parent
PATHS = {
    ".".join(path.with_suffix("").parts).removesuffix(".__init__"): PACKAGE.parent
    / path
    for path in (p.relative_to(PACKAGE.parent) for p in PACKAGE.rglob("*.py"))
}
# Heavy, of the extra `examples`, and only for who loads these data.
LATER = {
    "scl_keras.datasets": {"sklearn.datasets", "tensorflow_datasets"},
    "scl_keras.packed_dataset": {"PIL"},
    # What imports TensorFlow.
    "scl_keras.callbacks.file_budget": {"scl_keras.export.meter"},
    "scl_keras.pipeline.phone_file": {
        "scl_keras.export.tflite",
        "scl_keras.export",
        "scl_keras.export.accuracy",
        "scl_keras.export.metrics",
    },
    # What puts masks in, for which `sparsify` asks `check_target`.
    "scl_keras.targets.check": {"scl_keras.targets.reach"},
}
# What a command needs: its `--help` does without.
LATER |= {
    f"scl_keras.command_line.{name}": modules
    for name, modules in {
        "compress": {
            "scl_keras.backend",
            "scl_keras.export",
            "scl_keras.masks",
            "scl_keras.pipeline",
        },
        "data": {"keras", "scl_keras.pipeline.data", "scl_keras.pipeline.dense"},
        "export": {"scl_keras.export"},
        "main": {"scl_keras.rendering"},
        "models": {"keras", "scl_keras.backend"},
        "prune": {
            "scl_keras.conversion",
            "scl_keras.masks",
            "scl_keras.pruning.prune",
            "scl_keras.report.summary",
        },
        "summary": {"scl_keras.report.summary"},
        "verify": {"scl_keras.export"},
    }.items()
}
# By name, when it is asked for: TensorFlow and matplotlib, and the backend in use.
BY_NAME = {"scl_keras", "scl_keras.backend"}
BY_NAME |= {"scl_keras.command_line.main"}  # modules of users


def imports(tree, modules, later=False):
    """The modules that a syntax tree imports, at module level or within functions."""
    found = set()

    def visit(node, is_later):
        for child in ast.iter_child_nodes(node):
            if is_for_types(child):
                continue
            if is_later == later and isinstance(child, ast.Import):
                found.update(alias.name for alias in child.names)
            elif is_later == later and isinstance(child, ast.ImportFrom):
                assert not child.level, "relative imports aren't followed here"
                names = {f"{child.module}.{alias.name}" for alias in child.names}
                found.update(n if n in modules else child.module for n in names)
            function = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
            visit(child, is_later or isinstance(child, function))

    visit(tree, False)
    return found


def is_for_types(node):
    """Whether a statement is `if TYPE_CHECKING:`, which isn't run."""
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def circle(graph):
    """A circle of a graph, a dict of sets: a list of its nodes, or None."""
    done, path = set(), []

    def visit(node):
        if node in path:
            return path[path.index(node) :]
        if node in done:
            return None
        path.append(node)
        found = next(filter(None, map(visit, sorted(graph.get(node, ())))), None)
        path.pop()
        done.add(node)
        return found

    return next(filter(None, map(visit, sorted(graph))), None)


TREES = {name: ast.parse(path.read_text()) for name, path in PATHS.items()}


def test_modules_do_not_need_each_other_in_a_circle():
    assert len(TREES) > 100
    assert circle({name: imports(tree, TREES) for name, tree in TREES.items()}) is None


def test_no_circle_hides_in_functions():
    later = {n: imports(tree, TREES, later=True) for n, tree in TREES.items()}
    assert {name: found for name, found in later.items() if found} == LATER
    by_name = {
        name
        for name, tree in TREES.items()
        if any("import_module" in ast.unparse(n) for n in tree.body)
    }
    assert by_name == BY_NAME


def test_circles_are_found():
    assert circle({"a": {"b"}, "b": {"c", "x"}, "c": {"b"}}) == ["b", "c"]
    assert circle({"a": {"b", "c"}, "b": {"c"}}) is None
    code = "import m\nfrom p import q, f\ndef g():\n    import n\n    from p import f\n"
    assert imports(ast.parse(code), {"p.q"}) == {"m", "p.q", "p"}
    assert imports(ast.parse(code), {"p.q"}, later=True) == {"n", "p"}


def test_the_top_level_has_what_most_programs_need():
    names = set(scl_keras.__all__)
    modules = set(dir(scl_keras)) - names
    assert len(names) <= 25
    assert all(inspect.ismodule(getattr(scl_keras, name)) for name in modules)
    for name in names - {"__version__"}:
        value = getattr(scl_keras, name)
        homes = [m for m in modules if name in getattr(scl_keras, m).__all__]
        assert [getattr(getattr(scl_keras, m), name) for m in homes] == [value], name


# All that `scl_keras` listed once, and no longer does.
ELSEWHERE = """
callbacks: ConnectionCostScheduler EffectiveSparsityLogger ramp
connectivity: CompactionReport ConnectionGraph LayerRule compaction_report
connectivity: register_rule stand_in
conversion: unmasked_layers
export: ExportError ExportReport read_metadata
layers: MaskedKernel MaskedLayer
masks: Connection Granularity Identity LeakyReLU Mask STE Softplus
pruning: ConstantSparsity DisconnectedError PolynomialDecay PruningMethod
pruning: WeightRewinding from_tf_keras
report: SparsitySummary
switcher: FEATURES SwitcherOptimizer TurnsByEpoch switcher_network
targets: TargetCheck fit_to_target
training: GradientNormalization SCLOptimizer SCLSequential
"""


@pytest.mark.parametrize("line", ELSEWHERE.split("\n")[1:-1])
def test_other_names_belong_to_subpackages(line):
    home, _, names = line.partition(": ")
    module = importlib.import_module(f"scl_keras.{home}")
    for name in names.split():
        assert name in module.__all__
        assert name not in dir(scl_keras)
        assert getattr(scl_keras, name) is getattr(module, name)


def test_what_is_not_there_is_no_attribute():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        scl_keras.nothing  # noqa: B018


@pytest.mark.slow
@pytest.mark.parametrize(
    "code",
    [
        "import scl_keras; module = scl_keras.plotting",
        "import scl_keras.plotting; module = scl_keras.plotting",
        "import scl_keras.plotting as module",
        "from scl_keras import plotting as module",
        "import scl_keras.report.plotting as module",
    ],
)
def test_pictures_can_be_imported_in_each_way(code):
    check = "; import scl_keras.report.plotting as home"
    check += "; assert module.plot_kept is home.plot_kept"
    check += "; assert module.__all__ == home.__all__"
    command = [sys.executable, "-W", "error::ImportWarning", "-c", code + check]
    subprocess.run(command, check=True)
