"""What is read out of a `/metrics` page, by a page that Prometheus' own client wrote."""

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from rlsd.watching.samples import Samples, Span


class Page:
    def __init__(self):
        self.registry = CollectorRegistry()
        self.verdicts = Counter("verdicts", "x", ["kind", "outcome"], registry=self.registry)
        self.lam = Gauge("lam", "x", registry=self.registry)
        self.late = Histogram("late", "x", buckets=(0, 1, 2, 4), registry=self.registry)

    def samples(self):
        return Samples.parse(generate_latest(self.registry).decode())


def test_what_was_not_measured_is_none_and_not_zero():
    samples = Page().samples()
    assert samples.value("verdicts_total") is None
    assert samples.value("lam") == 0.0
    assert Span(samples).mean("late") is None
    assert Span(samples).largest("late") is None


def test_values_are_summed_over_the_labels_that_were_not_asked_for():
    page = Page()
    page.verdicts.labels("math", "pass").inc(3)
    page.verdicts.labels("code", "pass").inc(4)
    page.verdicts.labels("code", "error").inc(1)
    samples = page.samples()
    assert samples.value("verdicts_total", outcome="pass") == 7
    assert samples.by("outcome", "verdicts_total") == {"pass": 7, "error": 1}


def test_a_span_counts_what_was_gained_in_it():
    page = Page()
    page.verdicts.labels("math", "pass").inc(3)
    page.verdicts.labels("math", "fail").inc(2)
    page.late.observe(4)
    before = page.samples()
    page.verdicts.labels("math", "pass").inc(5)
    page.late.observe(1)
    page.late.observe(2)
    span = Span(page.samples(), before)
    assert span.gains("outcome", "verdicts_total") == {"pass": 5}
    assert span.mean("late") == 1.5
    assert span.largest("late").at_most == 2


def test_a_process_that_was_started_again_counts_from_nothing():
    old, new = Page(), Page()
    old.verdicts.labels("math", "pass").inc(100)
    new.verdicts.labels("math", "pass").inc(7)
    assert Span(new.samples(), old.samples()).gain("verdicts_total") == 7


@pytest.mark.parametrize(
    ("value", "above", "at_most"), [(0, float("-inf"), 0), (1, 0, 1), (3, 2, 4), (9, 4, None)]
)
def test_the_largest_of_a_histogram_lies_in_its_highest_bucket(value, above, at_most):
    page = Page()
    page.late.observe(0)
    page.late.observe(value)
    largest = Span(page.samples()).largest("late")
    assert (largest.above, largest.at_most) == (above, at_most)


def test_a_page_that_is_none_is_an_error():
    with pytest.raises(ValueError, match="<html>"):
        Samples.parse("<html>not found</html>")
