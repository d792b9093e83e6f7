"""What quotes a text is cut out of an error, however it is escaped, and nothing else is."""

import json

import pytest

from rlsd.telemetry.withholding import GAP, Withholding

TEXT = 'Anna says:\n"forty two apples"\tand é'
OTHER = ["a reference without anything in common"]


def escaped_twice(text):
    return repr(json.dumps(text))


WAYS = [str, repr, json.dumps, lambda t: " ".join(t.split()), escaped_twice, ascii]


@pytest.mark.parametrize("write", WAYS)
@pytest.mark.parametrize(
    "text", [TEXT, r"\frac{1}{2} \nabla \theta, \beta", "四十二个苹果，不多也不少，请数一数"]
)
def test_a_quote_is_cut_out_as_it_is_and_escaped(write, text):
    said = Withholding([*OTHER, text])(f"HTTP 400: cannot take {write(text)}; shorten it")
    assert said.startswith("HTTP 400: cannot take ")
    assert said.endswith("; shorten it")
    assert said.count(GAP) == 1
    rest = said.removeprefix("HTTP 400: cannot take ").removesuffix("; shorten it")
    assert not any(c.isalnum() for c in rest.replace(r"\f", ""))


def test_a_part_of_a_text_is_a_quote_too():
    assert Withholding([TEXT])("near 'forty two appl'") == f"near '{GAP}'"


def test_eleven_letters_in_common_are_chance_and_twelve_are_a_quote():
    assert Withholding([TEXT])("forty two app") == "forty two app"
    assert Withholding([TEXT])("forty two appl") == GAP


def test_a_short_text_is_withheld_where_it_stands_whole():
    assert Withholding(["12345"])("expected '12345', got 1234") == f"expected '{GAP}', got 1234"
    assert Withholding(["42"])("status 42") == "status 42"
    assert Withholding([""])("status 42") == "status 42"


def test_each_quote_leaves_one_gap():
    words = "one two three four | never | five six seven eight"
    said = Withholding(["one two three four", "five six seven eight"])(words)
    assert said == f"{GAP} | never | {GAP}"


def test_many_long_texts_are_no_burden():
    texts = [f"{n} " * 20_000 for n in range(8)]
    assert len(Withholding(texts)("nothing of it" * 100)) == 1300
