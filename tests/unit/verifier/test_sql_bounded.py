from services.verifier.checks.sql.bounded import Bounded


def test_what_was_used_longest_ago_is_forgotten():
    held = Bounded(entries=2, weight=0)
    held.put("a", 1)
    held.put("b", 2)
    assert held.get("a") == 1
    held.put("c", 3)
    assert (held.get("a"), held.get("b"), held.get("c")) == (1, None, 3)


def test_the_weight_of_all_has_a_bound():
    held = Bounded(entries=10, weight=10)
    held.put("a", 1, weight=6)
    held.put("b", 2, weight=6)
    held.put("c", 3, weight=11)
    assert (held.get("a"), held.get("b"), held.get("c")) == (None, 2, None)
    held.put("b", 4, weight=1)
    held.put("d", 5, weight=9)
    assert (held.get("b"), held.get("d")) == (4, 5)
