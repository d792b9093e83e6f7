import base64

import pytest

from rlsd.verifier_contract.signature import (
    WINDOW_S,
    SignatureRefused,
    check_signature,
    read_key,
    sign,
)

NOW = 1_614_265_330
KEY = read_key("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
BODY = b'{"test": 2432232314}'


def headers(keys=(KEY,), *, timestamp=NOW, body=BODY):
    return sign(
        list(keys), message_id="msg_p5jXN8AQM9LWM0D4loKWxJek", timestamp=timestamp, body=body
    )


def test_the_signature_is_that_of_the_published_example():
    """Standard Webhooks, test vector of the reference libraries."""
    expected = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    assert headers()["webhook-signature"] == expected


def test_a_signature_is_accepted_from_either_of_two_keys():
    other = b"another key with enough bytes"
    check_signature([KEY], headers([other, KEY]), BODY, now=NOW)
    check_signature([other, KEY], headers(), BODY, now=NOW)


@pytest.mark.parametrize("shift", [-WINDOW_S, 0, WINDOW_S])
def test_within_the_window_it_is_accepted(shift):
    check_signature([KEY], headers(timestamp=NOW + shift), BODY, now=NOW)


@pytest.mark.parametrize("shift", [-WINDOW_S - 1, WINDOW_S + 1])
def test_outside_the_window_it_is_refused(shift):
    with pytest.raises(SignatureRefused, match="300 s"):
        check_signature([KEY], headers(timestamp=NOW + shift), BODY, now=NOW)


@pytest.mark.parametrize(
    "change",
    [
        {"webhook-signature": ""},
        {"webhook-signature": "v1,"},
        {"webhook-signature": "v1,größer"},
        {"webhook-signature": "v1," + "A" * 44},
        {"webhook-id": "msg_other"},
        {"webhook-id": ""},
        {"webhook-timestamp": str(NOW - 1)},
        {"webhook-timestamp": "soon"},
        {"webhook-timestamp": "9" * 400},
        {"webhook-timestamp": "²"},
    ],
)
def test_a_changed_header_is_refused(change):
    with pytest.raises(SignatureRefused):
        check_signature([KEY], headers() | change, BODY, now=NOW)


def test_a_changed_body_another_key_and_no_key_are_refused():
    for keys, body in (([KEY], BODY + b" "), ([b"x" * 24], BODY), ([], BODY)):
        with pytest.raises(SignatureRefused):
            check_signature(keys, headers(), body, now=NOW)


def test_without_keys_nothing_is_signed():
    assert headers([]) == {}


def test_a_key_is_text_or_base64_with_a_prefix_and_not_short():
    assert read_key("whsec_" + base64.b64encode(b"k" * 24).decode() + "\n") == b"k" * 24
    assert read_key("  a text of twenty-four bytes ") == b"a text of twenty-four bytes"
    for text in ("", "short", "whsec_!!!!", "whsec_QUJD"):
        with pytest.raises(ValueError, match=r"bytes|base64"):
            read_key(text)
