"""The comparison: its numbers by hand, and sentences that claim no more than they carry."""

import html
import json
import re

import pytest
from report_runs import arm_entry, write_results

from rlsd.errors import ConfigError
from rlsd.report.arms import pair_of, read_comparison, row_of
from rlsd.report.compare import write_compare_report
from rlsd.report.reading import reading

LOW = [0.22, 0.24, 0.3, 0.36, 0.42]
HIGH = [0.22, 0.4, 0.74, 0.88, 0.92]
WOBBLE = (0.0, 0.02, -0.02, 0.01, -0.01)


def entries(name, accuracies, *, seeds=5, wobble=1.0, **settings):
    """Runs of one arm whose later accuracies differ by seed."""
    return [
        arm_entry(
            name,
            seed,
            [accuracies[0], *(a + wobble * WOBBLE[seed] for a in accuracies[1:])],
            **settings,
        )
        for seed in range(seeds)
    ]


def page_of(folder, arms):
    return write_compare_report(write_results(folder, arms)).read_text()


def reading_of(folder, arms):
    comparison = read_comparison(write_results(folder, arms))
    rows = [row_of(arm, comparison) for arm in comparison.arms]
    pairs = [pair_of(comparison.subject, arm, comparison) for arm in comparison.arms[1:]]
    return " ".join(reading(comparison, rows, pairs))


def test_the_table_holds_means_errors_and_every_seed(tmp_path):
    arms = entries("grpo", LOW, seeds=3) + entries("rlsd", HIGH, seeds=3)
    comparison = read_comparison(write_results(tmp_path, arms))
    row = row_of(comparison.arms[0], comparison)
    assert row.arm.name == "rlsd"
    assert comparison.half_step == 100
    assert row.start.by_seed == (0.22, 0.22, 0.22)
    assert row.half.by_seed == pytest.approx((0.74, 0.76, 0.72))
    assert row.end.estimate.mean == pytest.approx(0.92)
    assert row.end.estimate.standard_error == pytest.approx(0.02 / 3**0.5)
    assert row.steps_to_target == (150, 150, 150)
    assert row_of(comparison.arms[1], comparison).steps_to_target == (None, None, None)


def test_the_page_prints_the_numbers_of_the_table(tmp_path):
    page = page_of(tmp_path, entries("grpo", LOW, seeds=3) + entries("rlsd", HIGH, seeds=3))
    table = re.search(r'id="arms">(.*?)</table>', page, re.DOTALL).group(1)
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", table))
    assert "92 ± 1.2 92 / 94 / 90" in text
    assert "150 / 150 / 150" in text
    assert "– / – / –" in text


def test_differences_are_paired_by_seed(tmp_path):
    arms = entries("rlsd", HIGH) + entries("grpo", LOW, seeds=3)
    comparison = read_comparison(write_results(tmp_path, arms))
    pair = pair_of(comparison.subject, comparison.arms[1], comparison)
    assert pair.end.num_seeds == 3
    assert pair.end.differences == pytest.approx((0.5, 0.5, 0.5))


def test_an_arm_that_stopped_early_has_no_value_at_the_end(tmp_path):
    short = entries("grpo", LOW, seeds=1)
    short[0]["evaluations"] = short[0]["evaluations"][:-1]
    comparison = read_comparison(write_results(tmp_path, entries("rlsd", HIGH, seeds=1) + short))
    assert row_of(comparison.arms[1], comparison).end.by_seed == (None,)
    assert pair_of(comparison.subject, comparison.arms[1], comparison).end is None


def test_a_clear_gain_is_stated_with_its_interval(tmp_path):
    text = reading_of(tmp_path, entries("rlsd", HIGH) + entries("grpo", LOW, wobble=-1.0))
    assert re.search(r"rlsd ends ahead of grpo \(\+50 points, 95 % interval \+4\d to \+5\d\)", text)


def test_a_gain_half_way_alone_is_not_called_a_higher_end(tmp_path):
    slower = [0.22, 0.24, 0.4, 0.8, 0.92]
    text = reading_of(tmp_path, entries("rlsd", HIGH) + entries("grpo", slower, wobble=-1.0))
    assert "fewer steps to get there, not a higher end" in text


def test_a_difference_within_noise_supports_no_claim(tmp_path):
    text = reading_of(tmp_path, entries("rlsd", LOW) + entries("grpo", LOW, wobble=-1.0))
    assert "Between rlsd and grpo nothing is shown" in text
    assert "rlsd ends ahead" not in text


def test_a_wrong_reference_that_does_as_well_takes_the_content_claim_away(tmp_path):
    control = entries("rlsd:other-reference", HIGH, wobble=-1.0, **{"teacher.reference": '"other"'})
    arms = entries("rlsd", HIGH) + entries("grpo", LOW) + control
    text = reading_of(tmp_path, arms)
    assert "the teacher's content is not shown to explain the gain" in text
    assert "The control rlsd:other-reference itself ends ahead of grpo" in text


def test_a_permuted_control_that_falls_behind_shows_that_placement_matters(tmp_path):
    control = entries("rlsd:permuted", LOW, **{"method.permute": "true"})
    text = reading_of(tmp_path, entries("rlsd", HIGH) + entries("grpo", LOW) + control)
    assert "the placement of credit on tokens matters here" in text


def test_the_page_carries_the_reading(tmp_path):
    arms = entries("rlsd", HIGH) + entries("grpo", LOW)
    page = html.unescape(page_of(tmp_path, arms))
    assert reading_of(tmp_path, arms).split(". ")[-1] in page


def test_without_controls_the_page_says_what_cannot_be_said(tmp_path):
    text = reading_of(tmp_path, entries("rlsd", HIGH) + entries("grpo", LOW))
    assert "No control arm ran" in text


def test_few_seeds_are_called_few(tmp_path):
    three = reading_of(tmp_path, entries("rlsd", HIGH, seeds=3) + entries("grpo", LOW, seeds=3))
    assert "With 3 seeds an interval is itself rough" in three
    one = reading_of(tmp_path, entries("rlsd", HIGH, seeds=1) + entries("grpo", LOW, seeds=1))
    assert "one seed" in one
    assert "ends ahead" not in one


def test_leakage_is_named(tmp_path):
    arms = entries("rlsd", HIGH) + entries("opsd", LOW)
    for entry in arms[5:]:
        entry["evaluations"][-1]["leakage"] = 0.98
    assert "opsd cites what only the teacher has read in up to 98 %" in reading_of(
        tmp_path, arms
    ).replace("\u00a0", " ")


def test_a_run_that_lost_groups_raises_the_alarm(tmp_path):
    arms = entries("rlsd", HIGH)
    arms[2]["outcomes"]["trained"] = 7
    assert 'role="alert"' in page_of(tmp_path, arms)


def test_page_and_picture_are_written_beside_the_results(tmp_path):
    arms = entries("rlsd", HIGH) + entries("<b>grpo</b>", LOW)
    assert write_compare_report(write_results(tmp_path, arms)) == tmp_path / "compare.html"
    assert (tmp_path / "compare.png").read_bytes().startswith(b"\x89PNG")
    page = (tmp_path / "compare.html").read_text()
    assert "<b>grpo" not in page
    assert not re.search(r"https?://|<(link|img)\b|\bsrc=|@import|url\(", page)


def test_the_same_results_give_the_same_page(tmp_path):
    arms = entries("rlsd", HIGH) + entries("grpo", LOW)
    assert page_of(tmp_path, arms) == page_of(tmp_path, arms)


def test_without_samples_greedy_accuracy_is_compared(tmp_path):
    arms = entries("rlsd", HIGH, seeds=1)
    for row in arms[0]["evaluations"]:
        row |= {"mean_at_k": None, "k": 0}
    assert "held-out greedy accuracy after 200 steps" in page_of(tmp_path, arms)


def test_arms_with_almost_nothing_in_them_still_have_a_page(tmp_path):
    assert "</html>" in page_of(tmp_path, [{"name": "rlsd", "seed": 0}])


@pytest.mark.parametrize("content", ["", "[]", json.dumps({"arms": []})])
def test_results_without_an_arm_are_refused(tmp_path, content):
    (tmp_path / "results.json").write_text(content)
    with pytest.raises(ConfigError, match=r"results\.json"):
        write_compare_report(tmp_path / "results.json")
