import pytest

from services.learner.lease import FencedError, Lease


def test_the_learner_that_took_the_lease_last_may_write(tmp_path):
    first = Lease(tmp_path)
    first.check()
    second = Lease(tmp_path)
    second.check()
    with pytest.raises(FencedError, match=r"another learner has taken over .* \(lease 2, ours 1\)"):
        first.check()


def test_epochs_only_rise(tmp_path):
    assert [Lease(tmp_path).epoch for _ in range(3)] == [1, 2, 3]
