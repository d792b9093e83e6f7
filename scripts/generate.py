"""Write the generated files of the repository, or check that they are up to date.

python scripts/generate.py            # rlsd/wire/v1/*_pb2*.py(i), docs/config.schema.json, …
python scripts/generate.py --check    # exit 1 and name the stale files
"""

from __future__ import annotations

import argparse
import filecmp
import json
import shutil
import sys
import tempfile
from pathlib import Path

import metrics_page
from grpc_tools import protoc

from rlsd.config import RunConfig

ROOT = Path(__file__).resolve().parent.parent
WIRE = Path("rlsd/wire/v1")
SCHEMA = Path("docs/config.schema.json")
METRICS = Path("docs/metrics.md")


def generate(target: Path) -> list[Path]:
    """Write every generated file below `target`; returns their paths relative to it."""
    (target / WIRE).mkdir(parents=True, exist_ok=True)
    protos = sorted((ROOT / "protos").rglob("*.proto"))
    arguments = ["protoc", f"-I{ROOT / 'protos'}", f"-I{Path(protoc.__file__).parent / '_proto'}"]
    # mypy-protobuf writes both stubs; it is found beside this interpreter.
    binaries = Path(sys.executable).parent
    arguments += [
        f"--plugin=protoc-gen-mypy={binaries / 'protoc-gen-mypy'}",
        f"--plugin=protoc-gen-mypy_grpc={binaries / 'protoc-gen-mypy_grpc'}",
    ]
    arguments += [f"--{k}_out={target}" for k in ("python", "grpc_python", "mypy", "mypy_grpc")]
    if protoc.main([*arguments, *map(str, protos)]):
        raise SystemExit("protoc failed; its message is above")
    (target / WIRE / "__init__.py").write_text('"""Generated from protos/; never edited."""\n')
    (target / SCHEMA).parent.mkdir(parents=True, exist_ok=True)
    schema = json.dumps(RunConfig.model_json_schema(), indent=2)
    (target / SCHEMA).write_text(schema + "\n")
    (target / METRICS).write_text(metrics_page.page())
    return sorted(p.relative_to(target) for p in target.rglob("*") if p.is_file())


def main() -> None:
    """Generate into a temporary folder, then compare or copy."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    with tempfile.TemporaryDirectory() as folder:
        files = generate(Path(folder))
        kept = [WIRE / p.name for p in (ROOT / WIRE).glob("*.py*")]
        stale = [f for f in files if not _same(Path(folder) / f, ROOT / f)]
        orphans = [f for f in kept if f not in files]
        if check and (stale or orphans):
            names = ", ".join(map(str, stale + orphans))
            raise SystemExit(f"generated files are out of date: {names}; run `make protos`")
        if not check:
            for file in files:
                (ROOT / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(Path(folder) / file, ROOT / file)


def _same(left: Path, right: Path) -> bool:
    return right.exists() and filecmp.cmp(left, right, shallow=False)


if __name__ == "__main__":
    main()
