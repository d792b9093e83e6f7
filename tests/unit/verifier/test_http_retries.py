import pytest

from rlsd.verifier_client.retries import is_retryable, parse_retry_after, pause_s

NOW = 1_000_000_000.0


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 599])
def test_what_may_pass_is_tried_again(status):
    assert is_retryable(status)


@pytest.mark.parametrize("status", [200, 301, 400, 401, 403, 404, 409, 413, 422, 451])
def test_what_will_not_pass_is_not_tried_again(status):
    assert not is_retryable(status)


def test_pauses_are_fully_jittered_below_a_ceiling_that_doubles_up_to_five_seconds():
    ceilings = [pause_s(n, retry_after_s=0, random=lambda: 1.0) for n in range(7)]
    assert ceilings == [0.25, 0.5, 1.0, 2.0, 4.0, 5.0, 5.0]
    assert pause_s(3, retry_after_s=0, random=lambda: 0.0) == 0.0


def test_what_the_server_asks_for_is_the_shortest_pause():
    assert pause_s(0, retry_after_s=7, random=lambda: 1.0) == 7


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, 0),
        ("", 0),
        ("12", 12),
        (" 0 ", 0),
        ("-5", 0),
        ("nonsense", 0),
        ("9" * 400, float("9" * 64)),
        ("Sun, 09 Sep 2001 01:46:50 GMT", 10),
        ("Sun, 09 Sep 2001 01:46:30 GMT", 0),
        ("Sun, 99 Sep 2001 01:46:30 GMT", 0),
    ],
)
def test_retry_after_is_seconds_or_a_date(value, seconds):
    assert parse_retry_after(value, now=NOW) == seconds
