"""A dataset's own score of an answer; runs in a child process, which can be killed.

Several scorers pass the answer to `eval`, their own or sympy's. Here neither evaluates anything but
literals and arithmetic: an answer that could run code could also write its own score, however well
the process is confined.
"""

from __future__ import annotations

import ast
import functools
import re
import sys
from json import dumps, loads
from typing import Any

from services.verifier.checks.math.screen import Refused, screen

_FAILURES = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    MemoryError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
)
"""What scorers raise on answers that they cannot read."""
_LONGEST = 20_000
"""Characters of an answer."""
_EVALUATE_THE_TASK = frozenset({"bitwise_arithmetic"})
"""Datasets whose scorer evaluates the problem, which is the task's, and not the answer."""
_ARITHMETIC = re.compile(r"(?:[\s+\-*/^(),=]|\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+|[A-Za-z_]\w*)*")
_NAME = re.compile(r"[A-Za-z_]\w*")
_FUNCTIONS = frozenset(
    {
        *("sin", "cos", "tan", "sec", "csc", "cot", "asin", "acos", "atan", "sinh", "cosh", "tanh"),
        *("asinh", "acosh", "atanh", "exp", "log", "ln", "sqrt", "Abs", "pi", "oo", "zoo", "nan"),
    }
)


def warm_up() -> None:
    """Load the library and take evaluation out of it."""
    import reasoning_gym  # noqa: F401
    from sympy.parsing import sympy_parser

    into_code = sympy_parser.stringify_expr

    def arithmetic_only(text: str, *others: Any) -> Any:
        _refuse_code(text)
        return into_code(text, *others)

    sympy_parser.stringify_expr = arithmetic_only


def answer(question: dict[str, Any]) -> dict[str, Any]:
    """The score of `answer` to `entry`, or why there is none: `wrong_task`."""
    name, config, entry = question["dataset"], dumps(question["config"]), question["entry"]
    try:
        _trusted(name, config, dumps(entry))
    except _WrongTask as wrong:
        return {"wrong_task": str(wrong)}
    if len(question["answer"]) > _LONGEST:
        return {"score": 0.0, "reason": f"more than {_LONGEST} characters"}
    try:
        screen(question["answer"])
        score = float(_dataset(name, config).score_answer(question["answer"], entry=entry))
    except Refused as refused:
        return {"score": 0.0, "reason": f"refused: {refused}"}
    except _FAILURES as error:
        return {"score": 0.0, "reason": f"the scorer cannot read it ({type(error).__name__})"}
    return {"score": score, "reason": f"scored by {name}"}


class _WrongTask(Exception):
    """No answer can be scored by this task."""


@functools.lru_cache(maxsize=256)
def _trusted(name: str, config: str, entry: str) -> None:
    """Return when the scorer gives full marks to the entry's own answer, where it has one.

    JSON has no tuples and no numbers as keys: a scorer that needs them would fail every answer.
    """
    dataset, values = _dataset(name, config), loads(entry)
    if values.get("answer") is None:
        return
    try:
        score = dataset.score_answer(values["answer"], entry=values)
    except _FAILURES as error:
        raise _WrongTask(f"entry: the scorer fails on it ({type(error).__name__})") from error
    if score != 1:
        raise _WrongTask(f"entry: its own answer is given {score}, not 1")


@functools.lru_cache(maxsize=64)
def _dataset(name: str, config: str) -> Any:
    from reasoning_gym.factory import DATASETS, create_dataset

    if name not in DATASETS or name == "composite":
        raise _WrongTask(f"dataset: reasoning-gym has no {name[:40]!r} with a scorer of its own")
    module = vars(sys.modules[DATASETS[name][0].__module__])
    if name not in _EVALUATE_THE_TASK:
        module["eval"] = ast.literal_eval
    module["exec"] = module["compile"] = _refuse_code
    try:
        return create_dataset(name, **loads(config))
    except _FAILURES as error:
        raise _WrongTask(f"config: {str(error)[:200]}") from error


def _refuse_code(text: Any, *_: Any) -> None:
    """Raise ValueError unless a text is arithmetic on numbers, letters and known functions."""
    if not isinstance(text, str) or not _ARITHMETIC.fullmatch(text):
        raise ValueError("not arithmetic")
    for name in _NAME.findall(text):
        if len(name) > 1 and name not in _FUNCTIONS:
            raise ValueError(f"unknown name {name[:20]!r}")
