"""Rows of a catalogue that another package holds: `datasets:NAME?…`, `reasoning_gym:TASK?…`.

Both packages are optional and imported only here.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from rlsd.data.records import did_you_mean
from rlsd.data.rows import LocatedRow, Rows
from rlsd.errors import ConfigError

DATASETS_KEYS = ("split", "name", "revision")

ANSWER_MARKER = "Answer:"
ANSWER_FORM = (
    f"You may think first. End with '{ANSWER_MARKER}' and the final answer alone after it."
)

ONE_ANSWER = frozenset(
    {
        *("ab", "binary_matrix", "bitwise_arithmetic", "chain_sum", "circuit_logic"),
        *("color_cube_rotation", "dice", "emoji_mystery", "family_relationships"),
        *("figlet_font", "gsm_symbolic", "letter_jumble", "manipulate_matrix"),
        *("needle_haystack", "path_star", "products", "rectangle_count", "self_reference"),
        *("sentence_reordering", "spell_backward", "spiral_matrix", "string_insertion"),
        *("tsumego", "word_sorting", "zebra_puzzles"),
    }
)
"""Tasks whose own scorer gives the full reward to one text alone, forms of writing it aside."""

CHANGING = frozenset(
    {
        *("isomorphic_strings", "knight_swap", "list_functions"),
        *("polynomial_multiplication", "ransom_note", "word_ladder"),
    }
)
"""Tasks whose items differ from process to process in spite of their seed (reasoning-gym 0.1.25):
a resumed or compared run would see other prompts."""

UNSUITED = frozenset(
    {
        *("boxnet", "graph_color", "propositional_logic", "rubiks_cube", "rush_hour"),
        *("arc_agi", "rearc"),
    }
)
"""Tasks that come without an answer, and two whose scorer refuses its own once it has been JSON."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalogue:
    """A parsed URI, `package:name?key=value&…`."""

    uri: str
    name: str
    query: Mapping[str, str]


def parse_uri(uri: str) -> Catalogue:
    """The parts of a catalogue's URI.

    Raises:
        ConfigError: no name, or a query that is not `key=value&…`.
    """
    package, _, rest = uri.partition(":")
    name, _, query = rest.partition("?")
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
    except ValueError as cause:
        raise ConfigError(
            f"data {uri}: {query!r} is not a query; write key=value&key=value"
        ) from cause
    if not name:
        raise ConfigError(f"data {uri}: no name; write {package}:NAME?key=value")
    return Catalogue(uri=uri, name=name, query=dict(pairs))


def datasets_rows(catalogue: Catalogue) -> Rows:
    """Rows of a dataset of the `datasets` package: a hub name or a folder.

    Query: `split` (default train), `name` (the dataset's configuration), `revision`.

    Raises:
        ConfigError: `datasets` is not installed, an unknown key, or it cannot load the dataset.
    """
    for key in catalogue.query:
        if key not in DATASETS_KEYS:
            _refuse(catalogue, f"unknown key {key!r}", key, DATASETS_KEYS)
    try:
        import datasets
    except ImportError as cause:
        raise ConfigError(
            f"data {catalogue.uri}: datasets is not installed; run pip install 'rlsd[datasets]'"
        ) from cause
    try:
        rows = datasets.load_dataset(catalogue.name, **{"split": "train", **catalogue.query})
    except (OSError, ValueError) as cause:
        what = " ".join(str(cause).split())
        raise ConfigError(
            f"data {catalogue.uri}: cannot be loaded ({what}); correct name and split"
        ) from cause
    return _numbered(catalogue, rows)


def reasoning_gym_rows(catalogue: Catalogue, *, default_verifier: str | None) -> Rows:
    """Records, in our own shape, of a procedurally made reasoning-gym task.

    The query is the task's own configuration; `size` is 500 and `seed` is 0 where it has none. The
    prompt asks for the answer after a marker; the teacher reads the answer.

    A task with one right answer is checked by `exact`, which knows no partial credit and no other
    ways to write it (letter case, thousands separators). One whose scorer may accept several
    (countdown, sudoku, …) is checked by that scorer, kind `reasoning_gym`.

    Args:
        default_verifier: the kind that the user has named. One that is neither `exact` nor
            `reasoning_gym` is theirs to judge: any task is then let through and its records name
            no verifier.

    Raises:
        ConfigError: reasoning-gym is not installed, an unknown task, a configuration it refuses, or
            a task with several right answers that `exact` would check, that has no answer to show
            to a teacher, or that its seed does not fix.
    """
    try:
        import reasoning_gym
        from reasoning_gym.factory import DATASETS
    except ImportError as cause:
        raise ConfigError(
            f"data {catalogue.uri}: reasoning-gym is not installed; "
            "run pip install 'rlsd[reasoning-gym]'"
        ) from cause
    if catalogue.name not in DATASETS:
        _refuse(catalogue, f"unknown task {catalogue.name!r}", catalogue.name, sorted(DATASETS))
    kind = _kind(catalogue.name, DATASETS[catalogue.name][0], default_verifier)
    _refuse_unsuitable(catalogue, DATASETS[catalogue.name][0], kind)
    settings = {"size": 500, "seed": 0} | {k: _value(v) for k, v in catalogue.query.items()}
    try:
        task = reasoning_gym.create_dataset(catalogue.name, **settings)
    except (AssertionError, AttributeError, TypeError, ValueError) as cause:
        raise ConfigError(
            f"data {catalogue.uri}: reasoning-gym refuses this ({cause}); correct the query"
        ) from cause
    verifiers = _Verifiers(kind=kind, dataset=catalogue.name, config=settings)
    records = (_reasoning_gym_record(item, verifiers.of(item)) for item in task)
    return _numbered(catalogue, records)


def _kind(name: str, task_class: Any, default_verifier: str | None) -> str:
    """What checks a task: the user's choice, or `exact` where one answer is right."""
    if default_verifier is not None:
        return default_verifier
    is_exact = name in ONE_ANSWER or "score_answer" not in vars(task_class)
    return "exact" if is_exact else "reasoning_gym"


def _refuse_unsuitable(catalogue: Catalogue, task_class: Any, kind: str) -> None:
    """Refuse what no run could learn from."""
    name = catalogue.name
    if name in CHANGING:
        raise ConfigError(
            f"data {catalogue.uri}: {name} makes other items in each process, whatever the seed; "
            "write them to a .jsonl file once and give that"
        )
    if kind == "reasoning_gym" and name in UNSUITED:
        raise ConfigError(
            f"data {catalogue.uri}: {name} has no answer that its own scorer accepts; choose "
            "another task, or set data.verifier to a verifier of yours"
        )
    if kind == "exact" and name not in ONE_ANSWER and "score_answer" in vars(task_class):
        raise ConfigError(
            f"data {catalogue.uri}: {name} may accept several answers, and exact knows one; "
            "set data.verifier to reasoning_gym, or choose another task"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Verifiers:
    """What checks the items of a reasoning-gym task."""

    kind: str
    dataset: str
    config: Mapping[str, Any]

    def of(self, item: Mapping[str, Any]) -> dict[str, Any] | None:
        """The verifier of an item; None when it is the user's."""
        match self.kind:
            case "exact":
                params: dict[str, Any] = {"after": ANSWER_MARKER, "last": True}
            case "reasoning_gym":
                entry = {"answer": item["answer"], "metadata": item["metadata"]}
                params = {
                    "dataset": self.dataset,
                    "entry": json.loads(json.dumps(entry)),  # the metadata has tuples
                    "config": dict(self.config),
                    "after": ANSWER_MARKER,
                }
            case _:
                return None
        return {"kind": self.kind, "params": params}


def _reasoning_gym_record(
    item: Mapping[str, Any], verifier: dict[str, Any] | None
) -> dict[str, Any]:
    record = {"prompt": f"{item['question']}\n\n{ANSWER_FORM}", "reference": item["answer"]}
    return record if verifier is None else record | {"verifier": verifier}


def _numbered(catalogue: Catalogue, rows: Iterable[object]) -> Rows:
    for line, values in enumerate(rows, start=1):
        yield LocatedRow(file=catalogue.uri, line=line, values=values)


def _refuse(catalogue: Catalogue, what: str, word: str, known: Sequence[str]) -> None:
    close = did_you_mean(word, known)
    remedy = f"did you mean {close!r}?" if close else f"known: {', '.join(known)}"
    raise ConfigError(f"data {catalogue.uri}: {what}; {remedy}")


def _value(text: str) -> Any:
    """A number, truth value or list where the text is JSON of one, else the text."""
    try:
        return json.loads(text)
    except ValueError:
        return text
