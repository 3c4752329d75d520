"""Code blocks of Markdown and of docstrings: found, run, and checked.

Run is every Python block but those that say why not, in a comment in front of them:
`<!-- not run: takes two machines -->`.
"""

import ast
import dataclasses
import pathlib
import re
import textwrap

import numpy as np

ROOT = pathlib.Path(__file__).parents[2]
_FENCE = re.compile(
    r"(?:<!-- not run: (?P<reason>[^>]+) -->\n)?"
    r"^(?P<indent> *)```(?P<language>\w*)[^\n]*\n(?P<code>.*?)^(?P=indent)```$",
    re.DOTALL | re.MULTILINE,
)


@dataclasses.dataclass(frozen=True)
class Block:
    """A block of code: where it starts, what it's written in, and why it isn't run."""

    line: int
    language: str
    code: str
    reason: str | None = None


def blocks_of(text):
    """The fenced blocks of a text."""
    return [
        Block(
            text.count("\n", 0, match.start("indent")) + 2,
            match["language"],
            textwrap.dedent(match["code"]),
            match["reason"],
        )
        for match in _FENCE.finditer(text)
    ]


def run(block, namespace, path="<block>"):
    """Runs a block, and checks what its comments say that expressions give.

    Tracebacks have the lines of the file. A comment behind an expression is checked if
    it's a Python literal: `layer.units  # 10`.
    """
    code = "\n" * (block.line - 1) + block.code
    for statement in ast.parse(code).body:
        if not isinstance(statement, ast.Expr):
            tree = ast.Module([statement], type_ignores=[])
            exec(compile(tree, str(path), "exec"), namespace)
            continue
        tree = ast.Expression(statement.value)
        value = eval(compile(tree, str(path), "eval"), namespace)
        last = code.splitlines()[statement.end_lineno - 1][statement.end_col_offset :]
        expected = _literal(last.strip().removeprefix("#").strip())
        if expected is not None:
            _compare(value, expected, f"{path}:{statement.lineno}")


def _literal(text):
    text = re.sub(r"(?<![\d.])\.(?=\d)", "0.", text)
    try:
        return ast.literal_eval(text) if text else None
    except (SyntaxError, ValueError):
        return None


def _compare(value, expected, where):
    try:
        found, numbers = np.asarray(value, "float64"), np.asarray(expected, "float64")
    except (TypeError, ValueError):
        assert value == expected, where
        return
    assert found.shape == numbers.shape or not numbers.shape, where
    # Comments round to two digits, and one number may stand for many equal ones.
    np.testing.assert_allclose(found, numbers, rtol=0.05, err_msg=where)


def commands_of(text):
    """The command lines that start a binary of examples/, in blocks or in text.

    Returns:
        List of pairs of the binary's file name and its arguments, a list of strings.
    """
    fenced = [b.code for b in blocks_of(text) if b.language in ("bash", "")]
    spans = re.findall(r"`([^`]+)`", _FENCE.sub("", text))
    lines = [
        line
        for code in fenced
        for line in code.replace("\\\n", " ").splitlines()
        if "python examples/" in line
    ]
    lines += [" ".join(s.split()) for s in spans if "python examples/" in s]
    commands = []
    for line in lines:
        command = line.split("python examples/", 1)[1].split("  #")[0]
        command = re.split(r"\s(?:&&|\||>)\s", command)[0]
        name, *arguments = command.split()
        commands.append((name, arguments))
    return commands
