r"""The final answer in a completion. Pure, and linear in its length.

The first of these that is there decides: the last box (with the boxes joined to it), `####` on the
last line, `<answer>` tags, "answer is …", a short text without words, the last expression.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from services.verifier.checks.final_answer import joined_boxes, last_box
from services.verifier.checks.math.screen import Refused

ANSWER_LIMIT = 20_000
"""Characters from the last box to the end of a completion."""
_TAIL = 2_000
"""Characters at the end of a completion without a box in which an answer is looked for."""
_BARE_LIMIT = 100

_STATED = re.compile(
    r"(?i)\b(?:answers?|options?|choice)\b(?:\s+(?:to|for|of)\s[^.:\n]{0,80}?)?[\s*_]{0,4}(?:\bis\b|\bare\b|:|=|equals)"
    r"[\s:*_]{0,8}"
)
_SPAN = re.compile(
    r"\$\$(?P<a>[^$]+)\$\$|(?<!\\)\$(?P<b>(?:\\\$|[^$\n])+)(?<!\\)\$"
    r"|\\\((?P<c>(?:[^\\]|\\[^()])+)\\\)|\\\[(?P<d>(?:[^\\]|\\[^\[\]])+)\\\]"
)
"""Text in dollars or LaTeX brackets."""
_JOINT = re.compile(r"(?i)[\s,;]*(?:(?:\band\b|\bor\b|&)[\s,]*)?")
_SENTENCE_END = re.compile(r"[.!?](?=\s|$)|\n")
_ASIDE = re.compile(r"(?i)[,;]?\s+(?:because|since|which|where|as|when|given|so that)\b|;\s|\s\(")
_LEADING_WORDS = re.compile(  # possessive: else many words are split in exponentially many ways
    r"(?:(?:[^\W\d_]{2,}+|a)(?:['’][^\W\d_]*+)?+[\s,:]++)++(?=[-−+]?[\d$€£.\\(\[{|√π½-¾])"
)
_NEGATION = re.compile(r"(?i)\b(?:not|no|never|neither|nor|except|without|either|or)\b|n['’]t\b")
_NUMBER = re.compile(
    r"(?:(?<=[\s=(:$€£])|^)[-−+]?\\?[$€£]?\s?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?"
    r"(?:\s?/\s?\d+)?(?:\s*(?:\\?%|percent\b))?|(?<![\w.])\d+(?:\.\d+)?(?:/\d+)?(?:\s*\\?%)?"
)
_PROSE = re.compile(r"\n|[^\W\d_]{3,}|[^\W\d_]{2,}\s+[^\W\d_]{2,}")
_PLAIN = r"[-−+]?[\d./]*\d"
_LISTED = re.compile(
    rf"(?:\bare|:|=)\s*(?P<list>{_PLAIN}(?:\s*,\s*{_PLAIN})*,?\s+and\s+{_PLAIN})(?![\w/])"
    r"|(?<!\w)(?P<tuple>[(\[{][^()\[\]{}\n]*\d[^()\[\]{}\n]*,[^()\[\]{}\n]*[)\]}])"
)
"""Several numbers: "are 2 and 3", (2, -1), {2, 3}."""
_SECOND_OF_TWO = re.compile(r"(?i)[\d$)%]\W{0,3}\bor\b\W{0,3}(?:\w+\s+){0,2}[$\\(]{0,2}$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The final answer of a completion, not yet in normal form."""

    text: str
    """As mathematics."""
    words: str
    """As words: with those that mathematics does without."""


def final_answer(completion: str) -> Answer:
    """What a completion gives as its answer; empty when it gives none.

    Raises:
        Refused: no answer can be singled out, or it is too long.
    """
    box = last_box(completion)
    if box is None:
        return _unboxed(completion[-_TAIL:], is_whole=len(completion) <= _TAIL)
    if len(completion) - box.start > ANSWER_LIMIT:
        raise Refused(f"more than {ANSWER_LIMIT} characters from the last box on")
    if box.content is None:
        raise Refused("the last box is not closed")
    contents, has_or = joined_boxes(completion, box)
    if has_or:
        raise Refused("two different boxes joined by or")
    return _only(", ".join(re.sub(r"\\(?:boxed|fbox)", "", content) for content in contents))


def _only(text: str) -> Answer:
    return Answer(text=text, words=text)


def _unboxed(tail: str, *, is_whole: bool) -> Answer:
    tail = tail.strip()
    _, marker, marked = tail.rpartition("####")
    if marker and "\n" not in marked.strip():
        return _only(marked.strip("#* \n"))
    end = tail.rfind("</answer>")
    start = tail.rfind("<answer>", 0, end) if end >= 0 else -1
    if start >= 0:
        return _unboxed(tail[start + len("<answer>") : end], is_whole=True)
    if stated := list(_STATED.finditer(tail)):
        return _stated(tail[stated[-1].end() :])
    is_split = _SPAN.search(tail) and not _SPAN.fullmatch(tail.rstrip(". "))
    if is_whole and len(tail) < _BARE_LIMIT and not is_split and not _PROSE.search(tail):
        return _only(tail)
    return Answer(text=_last_expression(tail), words=tail.strip("*_ .") if is_whole else "")


def _stated(rest: str) -> Answer:
    """What follows "the answer is": mathematics in dollars, else the words of the sentence."""
    first = _SPAN.match(rest)
    if first is not None:
        return _only(_joined_spans(rest, first))
    end = next((m.start() for m in _SENTENCE_END.finditer(rest) if rest[: m.start()].strip()), None)
    sentence = rest[:end].replace("**", "").strip()
    words = _ASIDE.split(sentence, maxsplit=1)[0] if not sentence.startswith("(") else sentence
    leading = _LEADING_WORDS.match(words)
    if leading is None:
        return _only(words)
    if _NEGATION.search(leading[0]):
        stripped = re.sub(r"(?i)^either\s+", "", words)
        return Answer(text=stripped, words=words)
    return Answer(text=words[leading.end() :], words=words)


def _joined_spans(text: str, first: re.Match[str]) -> str:
    """The mathematics of a span and of those joined to it ("$1$ and $2$"), with the joints."""
    parts = [_inside(first)]
    position = first.end()
    while len(parts) < 16:
        joint = _JOINT.match(text, position)
        assert joint is not None, "it matches nothing too"
        following = _SPAN.match(text, joint.end())
        if following is None or not joint[0].strip():
            or_more = re.match(r"(?i)[\s,]*\bor\b", text[position : position + 20])
            return " ".join([*parts, "or"] if or_more else parts)
        parts += [joint[0].strip(), _inside(following)]
        position = following.end()
    return " ".join(parts)


def _inside(span: re.Match[str]) -> str:
    return next(part for part in span.groupdict().values() if part is not None).strip()


def _last_expression(tail: str) -> str:
    """The last mathematics in dollars with what it is joined to, or the last number after it.

    Raises:
        Refused: the number is the second of two that are joined by or.
    """
    spans = list(_SPAN.finditer(tail))
    after = spans[-1].end() if spans else 0
    numbers = list(_NUMBER.finditer(tail, after))
    if several := _several(tail, after, numbers[-1].end() if numbers else 0):
        return several
    if numbers:
        if _SECOND_OF_TWO.search(tail[: numbers[-1].start()][-60:]):
            raise Refused("two numbers joined by or")
        return numbers[-1][0]
    for earlier, later in zip(spans[-2::-1], spans[:0:-1], strict=False):
        joint = tail[earlier.end() : later.start()]
        if not (joint.strip() and _JOINT.fullmatch(joint)):
            return _joined_spans(tail, later)
    return _joined_spans(tail, spans[0]) if spans else ""


def _several(tail: str, after: int, last: int) -> str | None:
    """The numbers that stand together at the end of a text; None when they do not."""
    found = list(_LISTED.finditer(tail, after))
    if not found or found[-1].end() < last:
        return None
    text = found[-1]["list"] or found[-1]["tuple"]
    if re.search(r"[^\W\d_]{3,}", text.replace("and", "")):
        return None
    return text.replace("{", r"\{").replace("}", r"\}")
