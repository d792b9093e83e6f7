import pytest

from services.verifier.checks.schema.cost import weight


def _doubling(levels):
    definitions = {"t0": {"type": "string"}}
    for level in range(1, levels):
        definitions[f"t{level}"] = {"anyOf": [{"$ref": f"#/$defs/t{level - 1}"}] * 2}
    return {"$defs": definitions, "$ref": f"#/$defs/t{levels - 1}"}


def test_each_reference_weighs_as_much_as_what_it_stands_for():
    one = weight({"$defs": {"a": {"type": "string"}}, "$ref": "#/$defs/a"}, formats=False)
    two = weight(
        {"$defs": {"a": {"type": "string"}}, "allOf": [{"$ref": "#/$defs/a"}] * 2}, formats=False
    )
    assert (one, two) == (7, 13)
    assert weight(_doubling(8), formats=False) > 2 * weight(_doubling(7), formats=False)


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#"},
        {"$defs": {"a": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"},
        {"properties": {"child": {"$ref": "#/properties/child"}}},
        {"$ref": "other.json"},
        {"$ref": "#anchor"},
        {"$ref": "#/$defs/none"},
        {"$dynamicRef": "#a"},
        {"$recursiveRef": "#"},
        {"items": {"$id": "http://x/y"}},
        {"unevaluatedProperties": False},
        {"unevaluatedItems": False},
        {"pattern": "(?=a)(a+)+b"},
        {"pattern": r"(a+)\1"},
        {"pattern": "(.{0,100}){0,100}"},
        {"patternProperties": {"(?<!a)b": True}},
        {"enum": list(range(30_000))},
        _doubling(31),
    ],
)
def test_what_has_no_bound_is_known(schema):
    assert weight(schema, formats=False) is None


def test_asserted_formats_have_a_bound_only_where_they_are_linear():
    assert weight({"format": "email"}, formats=True) == 2
    assert weight({"format": "regex"}, formats=True) is None
    assert weight({"format": "regex"}, formats=False) == 2
