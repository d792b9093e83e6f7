"""The text of tests: what it needs, and the same with every reached `assert` counted."""

from __future__ import annotations

import ast
import types
from typing import Final

COUNT: Final = "__reached__"
_FILE_NAME: Final = "tests.py"


class TestsUnreadable(Exception):
    """The tests are wrong themselves, whatever the answer is."""

    __test__ = False


class TestSource:
    """Tests, ready to be executed."""

    __test__ = False

    def __init__(self, text: str) -> None:
        """Raises TestsUnreadable."""
        try:
            tree = ast.parse(text, _FILE_NAME)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as cause:
            raise TestsUnreadable(f"the tests cannot be read ({cause})") from cause
        nodes = list(ast.walk(tree))
        self.num_asserts = sum(isinstance(node, ast.Assert) for node in nodes)
        self.raises = any(isinstance(node, ast.Raise) for node in nodes) or any(
            "assert" in _called_name(node) for node in nodes
        )
        self.wanted = {n.id for n in nodes if isinstance(n, ast.Name)} - _bound(tree)
        self.called_at_top = _called_at_top(tree)
        if not self.num_asserts and not self.raises and not _defines_tests(nodes):
            raise TestsUnreadable("the tests check nothing")
        counted = ast.fix_missing_locations(_Counting().visit(tree))
        self.code: types.CodeType = compile(counted, _FILE_NAME, "exec")
        import linecache

        linecache.cache[_FILE_NAME] = (len(text), None, text.splitlines(True), _FILE_NAME)


class _Counting(ast.NodeTransformer):
    """Counts after each `assert` that held."""

    def visit_Assert(self, node: ast.Assert) -> list[ast.stmt]:
        call = ast.Expr(ast.Call(ast.Name(COUNT, ast.Load()), [], []))
        return [node, ast.copy_location(call, node)]

    def visit_Try(self, node: ast.Try) -> ast.AST:
        """What had to raise is checked by the handler that is reached, not by the assert."""
        if any(map(_is_failure, node.body)):
            for handler in node.handlers:
                call = ast.Expr(ast.Call(ast.Name(COUNT, ast.Load()), [], []))
                handler.body.insert(0, ast.copy_location(call, handler))
        return self.generic_visit(node)


def _is_failure(node: ast.stmt) -> bool:
    """`assert False`, which is there not to be reached."""
    return (
        isinstance(node, ast.Assert) and isinstance(node.test, ast.Constant) and not node.test.value
    )


def _bound(tree: ast.Module) -> set[str]:
    """Names that the module itself makes at its top."""
    names = set()
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names.update((a.asname or a.name).split(".")[0] for a in node.names)
    return names


def _called_at_top(tree: ast.Module) -> set[str]:
    """Names of functions that are called outside of any definition."""
    found = set()
    waiting: list[ast.AST] = list(tree.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
            continue
        found.add(_called_name(node))
        waiting.extend(ast.iter_child_nodes(node))
    return found - {""}


def _called_name(node: ast.AST) -> str:
    """Of a call: the last part of the function's name, in small letters kept as they are."""
    if not isinstance(node, ast.Call):
        return ""
    function = node.func
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""


def _defines_tests(nodes: list[ast.AST]) -> bool:
    return any(isinstance(n, ast.Attribute) and n.attr in ("raises", "TestCase") for n in nodes)
