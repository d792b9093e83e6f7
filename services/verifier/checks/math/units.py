"""Units behind (and currencies before) a quantity. Pure."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from fractions import Fraction

_KNOWN: dict[str, tuple[str, Fraction]] = {
    **{
        name: ("length", Fraction(metres))
        for names, metres in (
            ("mm millimeter millimetre", "0.001"),
            ("cm centimeter centimetre", "0.01"),
            ("dm decimeter decimetre", "0.1"),
            ("m meter metre", "1"),
            ("km kilometer kilometre", "1000"),
            ("in inch inche", "0.0254"),
            ("ft foot feet", "0.3048"),
            ("yd yard", "0.9144"),
            ("mi mile", "1609.344"),
        )
        for name in names.split()
    },
    **{
        name: ("mass", Fraction(grams))
        for names, grams in (
            ("mg milligram", "0.001"),
            ("g gram gm", "1"),
            ("kg kilogram", "1000"),
            ("lb lbs pound", "453.59237"),
            ("oz ounce", "28.349523125"),
        )
        for name in names.split()
    },
    **{
        name: ("time", Fraction(seconds))
        for names, seconds in (
            ("ms millisecond", "0.001"),
            ("s sec second", "1"),
            ("min minute", "60"),
            ("h hr hour", "3600"),
            ("day", "86400"),
            ("week", "604800"),
        )
        for name in names.split()
    },
    **{name: ("volume", Fraction(1, 1000)) for name in ("ml", "milliliter", "millilitre")},
    **{name: ("volume", Fraction(1)) for name in ("l", "liter", "litre")},
    **{name: ("dollar", Fraction(1)) for name in ("dollar", "usd", "buck")},
    **{name: ("dollar", Fraction(1, 100)) for name in ("cent", "¢")},
    **{name: ("euro", Fraction(1)) for name in ("euro", "eur")},
    **{name: ("gbp", Fraction(1)) for name in ("gbp", "quid")},
    **{name: ("angle", Fraction(1)) for name in ("degree", "deg")},
    "am": ("morning", Fraction(1)),
    "pm": ("afternoon", Fraction(1)),
}
_ABBREVIATIONS = {"mph": "mile/hour", "kmph": "km/hour", "kmh": "km/hour", "kph": "km/hour"}
_IGNORED = frozenset({"unit", "of", "the", "a", "an", "in", "total", "left", "each", "about"})
_MATHEMATICS = (
    "pi ln log sin cos tan cot sec csc exp sqrt inf infty mod and or max gcd lcm arcsin arccos "
    "arctan theta alpha beta if for not is to i e none only undefined infinity dne nan "
    "least most more less than false wrong incorrect never except maybe perhaps but unless over"
)
_MULTIPLIERS = {
    "hundred": 10**2,
    "thousand": 10**3,
    "million": 10**6,
    "billion": 10**9,
    "trillion": 10**12,
}
_NO_UNIT = frozenset(_MATHEMATICS.split(" ")) - {"sec"}
_CURRENCIES = {"$": "dollar", "€": "euro", "£": "gbp"}

_TEXT = r"\\(?:text\w*|mathrm|mathit|mbox|rm|operatorname)\s*\{([^{}]*)\}"
_POWER = r"(?:\s*\^\s*\{?\s*(-?\d)\s*\}?)?"
_TEXT_AT_END = re.compile(rf"^(?P<rest>.*[\w)}}\]%!|])\s*{_TEXT}{_POWER}\s*$", re.DOTALL)
_WORDS_AT_END = re.compile(
    r"^(?P<rest>.*?[\d)}\]!.])\s*(?P<words>[a-zA-Z]+(?:[ /-]+[a-zA-Z]+)*)" + _POWER + r"\s*$",
    re.DOTALL,
)
_DEGREES_AT_END = re.compile(r"^(?P<rest>[^\\]*\d)\s*(?:\^\s*\{?\s*\\circ\s*\}?|\\degree)\s*$")
_MONEY = re.compile(r"^(?P<sign>[+-]?)\s*\\?(?P<symbol>[$€£])\s*(?P<rest>[\d.].*)$", re.DOTALL)
_WORD = re.compile(r"([a-zA-Z¢°]+)\s*(?:\^\s*\{?\s*(-?\d)\s*\}?|([23]))?")
_UNIT_TEXT = re.compile(r"[a-zA-Z¢.,/^{}()\d\s-]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """A product of powers of dimensions, times a factor; a word that is no unit is its own."""

    factor: Fraction
    powers: frozenset[tuple[str, int]]

    @property
    def is_measured(self) -> bool:
        """Whether it is of known dimensions alone."""
        return all(name in _DIMENSIONS for name, _ in self.powers)


_DIMENSIONS = frozenset(dimension for dimension, _ in _KNOWN.values())


def split_unit(text: str) -> tuple[str, Unit | None]:
    """A text in normal form without its unit, and the unit; None when it names none."""
    if money := _MONEY.match(text):
        rest, _ = split_unit(money["rest"])  # "$5 million", "$5 each"
        return money["sign"] + rest, _unit(_CURRENCIES[money["symbol"]])
    if degrees := _DEGREES_AT_END.match(text):
        return degrees["rest"], _unit("degree")
    if found := _TEXT_AT_END.match(text):
        words, power = found[2], found[3]
    elif found := _WORDS_AT_END.match(text):
        words, power = found["words"], found[3]
        if not all(_is_bare_unit(word) for word in re.findall(r"[a-zA-Z]+", words)):
            return text, None
    else:
        return text, None
    if re.fullmatch(r"\s*(?i:percent(?:age)?|pct)\s*", words):
        return found["rest"] + r"\%", None
    if not _is_unit_text(words):
        return text, None
    rest, (first, *others) = found["rest"], words.split()
    multiplier = _MULTIPLIERS.get(_singular(first.lower()))
    if multiplier is None:
        return rest, _unit(words, power)
    return rf"{rest} \cdot {multiplier}", _unit(" ".join(others), power) if others else None


def can_equal(reference: Unit | None, answer: Unit | None) -> Fraction | None:
    """What one of the answer's unit is in the reference's; None when they do not go together."""
    if reference is None or answer is None or not reference.powers or not answer.powers:
        return Fraction(1)
    if reference.powers == answer.powers:
        return answer.factor / reference.factor
    if reference.is_measured or answer.is_measured:
        return None
    # "18 dollars left" and "18 dollars"; but not "3 cats" and "3 dogs".
    is_part = reference.powers <= answer.powers or answer.powers <= reference.powers
    return Fraction(1) if is_part else None


def _is_bare_unit(word: str) -> bool:
    r"""Whether a word without `\text` is a unit and no product of variables."""
    lower = word.lower()
    if lower in _NO_UNIT:
        return False
    if len(word) > 1 and (lower in _KNOWN or _singular(lower) in _KNOWN or lower in _ABBREVIATIONS):
        return True
    return (len(word) >= 3 and re.search("[aeiou]", lower) is not None) or lower in _IGNORED - {"a"}


def _is_unit_text(words: str) -> bool:
    has_digits = re.search(r"(?<![\^{\d-])\d", re.sub(r"(?<=[a-zA-Z])[23]\b", "", words))
    return (
        bool(words.strip())
        and _UNIT_TEXT.fullmatch(words) is not None
        and not has_digits
        and not any(word in _NO_UNIT for word in re.findall("[a-z]+", words.lower()))
    )


def _unit(words: str, power: str | None = None) -> Unit:
    text = re.sub(r"\b[a-z]+\b", lambda m: _ABBREVIATIONS.get(m[0], m[0]), words.lower())
    text = re.sub(r"\bper\b", "/", text).replace(".", "")
    numerator, *denominators = text.split("/")
    powers: Counter[str] = Counter()
    factor = Fraction(1)
    last = int(power) if power else 1
    for sign, part in ((1, numerator), *((-1, d) for d in denominators)):
        is_last = part is (denominators[-1] if denominators else numerator)
        for dimension, exponent, size in _factors(part, last if is_last else 1):
            powers[dimension] += sign * exponent
            factor *= size ** (sign * exponent)
    return Unit(factor=factor, powers=frozenset((n, p) for n, p in powers.items() if p))


def _factors(text: str, power: int) -> list[tuple[str, int, Fraction]]:
    found: list[tuple[str, int, Fraction]] = []
    prefix = 1
    for match in _WORD.finditer(text):
        word = match[1]
        if word in ("square", "squared", "sq", "cubic", "cubed", "cu"):
            prefix = 2 if word.startswith("sq") else 3
            if word in ("squared", "cubed") and found:
                found[-1] = (found[-1][0], prefix, found[-1][2])
                prefix = 1
            continue
        if word in _IGNORED or _singular(word) in _IGNORED:
            continue
        known = _KNOWN.get(word) or _KNOWN.get(_singular(word))
        dimension, size = known or (_singular(word), Fraction(1))
        found.append((dimension, int(match[2] or match[3] or prefix * power), size))
        prefix = 1
    return found


def _singular(word: str) -> str:
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    return word[:-1] if word.endswith("s") and len(word) > 2 and not word.endswith("ss") else word
