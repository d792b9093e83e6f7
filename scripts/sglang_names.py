"""The names of SGLang's server that the client uses, read out of a wheel: tests/golden/sglang.json.

    pip download --no-deps sglang==0.5.23
    python scripts/sglang_names.py sglang-0.5.23-*.whl            # write it
    python scripts/sglang_names.py --check sglang-0.5.23-*.whl    # or exit 1 when it differs

The source is parsed and not imported: it does not import without CUDA.
"""

from __future__ import annotations

import ast
import json
import sys
import zipfile
from pathlib import Path

GOLDEN = Path(__file__).resolve().parent.parent / "tests" / "golden" / "sglang.json"

_SERVER = "sglang/srt/entrypoints/http_server.py"
_MESSAGES = "sglang/srt/managers/io_struct.py"
_SAMPLING = "sglang/srt/sampling/sampling_params.py"
_ROUTES = (
    "/abort_request",
    "/continue_generation",
    "/generate",
    "/model_info",
    "/pause_generation",
    "/update_weights_from_disk",
)
_CLASSES = (
    "AbortReq",
    "ContinueGenerationReqInput",
    "GenerateReqInput",
    "PauseGenerationReqInput",
    "UpdateWeightFromDiskReqInput",
)
_ANSWERED = {
    "sglang/srt/managers/tokenizer_manager.py": (
        "input_token_logprobs",
        "input_top_logprobs",
        "output_token_logprobs",
        "cached_tokens",
        "finish_reason",
    ),
    "sglang/srt/utils/weight_versions.py": ("weight_versions", "version", "start", "end"),
}


def names(wheel: Path) -> dict[str, object]:
    """Routes, fields and answers, as far as the wheel has them."""
    with zipfile.ZipFile(wheel) as archive:

        def tree(path: str) -> ast.Module:
            return ast.parse(archive.read(path))

        messages = tree(_MESSAGES)
        fields = {name: _fields(messages, name) for name in _CLASSES}
        return {
            "wheel": wheel.name.split("-cp")[0],
            "routes": sorted(_routes(tree(_SERVER)) & set(_ROUTES)),
            "fields": fields | {"SamplingParams": _fields(tree(_SAMPLING), "SamplingParams")},
            "pause_modes": _literals(messages, "PauseGenerationReqInput", "mode"),
            "answered": sorted(
                name
                for path, wanted in _ANSWERED.items()
                for name in set(wanted) & _strings(tree(path))
            ),
        }


def _routes(module: ast.Module) -> set[str]:
    """First arguments of the decorators `@app.get`, `@app.post`, `@app.api_route`."""
    return {
        decorator.args[0].value
        for node in ast.walk(module)
        if isinstance(node, ast.AsyncFunctionDef)
        for decorator in node.decorator_list
        if isinstance(decorator, ast.Call)
        and decorator.args
        and isinstance(decorator.args[0], ast.Constant)
        and isinstance(decorator.args[0].value, str)
    }


def _class(module: ast.Module, name: str) -> ast.ClassDef:
    return next(n for n in module.body if isinstance(n, ast.ClassDef) and n.name == name)


def _fields(module: ast.Module, name: str) -> list[str]:
    """Of a class and of its bases in the same file."""
    found: set[str] = set()
    node = _class(module, name)
    for statement in node.body:
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            found.add(statement.target.id)
    known = {n.name for n in module.body if isinstance(n, ast.ClassDef)}
    for base in node.bases:
        if isinstance(base, ast.Name) and base.id in known:
            found |= set(_fields(module, base.id))
    return sorted(found)


def _literals(module: ast.Module, name: str, attribute: str) -> list[str]:
    for statement in _class(module, name).body:
        if (
            isinstance(statement, ast.AnnAssign)
            and isinstance(statement.target, ast.Name)
            and statement.target.id == attribute
        ):
            return sorted(
                n.value
                for n in ast.walk(statement.annotation)
                if isinstance(n, ast.Constant) and isinstance(n.value, str)
            )
    return []


def _strings(module: ast.Module) -> set[str]:
    return {
        n.value
        for n in ast.walk(module)
        if isinstance(n, ast.Constant) and isinstance(n.value, str)
    }


if __name__ == "__main__":
    found = names(Path(sys.argv[-1]))
    if "--check" not in sys.argv:
        GOLDEN.write_text(json.dumps(found, indent=2) + "\n")
    elif found != json.loads(GOLDEN.read_text()):
        raise SystemExit(f"{GOLDEN} is not what this wheel says; write it again")
