import pytest
from builders import make_group

from rlsd.batch_log import BatchLog, BatchLogError
from rlsd.trajectory import GroupOutcome


def trained(index):
    return make_group(index=index, outcome=GroupOutcome.TRAINED)


@pytest.fixture
def log(tmp_path):
    return BatchLog(tmp_path / "batches", "run")


def test_a_logged_step_reads_back_with_its_groups_and_chain(log):
    first = log.append(1, [trained(0)], previous_sha256="")
    second = log.append(2, [trained(1), trained(2)], previous_sha256=first)
    batch = log.read(2, previous_sha256=first)
    assert [g.index for g in batch.groups] == [1, 2]
    assert batch.sha256 == second
    assert log.steps() == [1, 2]


def test_a_step_that_does_not_follow_the_one_before_is_refused(log):
    log.append(1, [trained(0)], previous_sha256="")
    with pytest.raises(BatchLogError, match="does not follow"):
        log.read(1, previous_sha256="abc")


def test_a_gap_is_refused(log):
    log.append(1, [], previous_sha256="")
    log.append(3, [], previous_sha256="")
    with pytest.raises(BatchLogError, match="gap"):
        log.steps()


def test_another_runs_log_is_refused(log, tmp_path):
    log.append(1, [], previous_sha256="")
    with pytest.raises(BatchLogError, match="of run 'run'"):
        BatchLog(tmp_path / "batches", "other").read(1)


def test_a_torn_file_is_refused(log):
    log.append(1, [trained(0)], previous_sha256="")
    path = log.path(1)
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(BatchLogError, match="cannot be read"):
        log.read(1)


def test_a_step_can_be_written_once_only(log):
    log.append(1, [trained(0)], previous_sha256="")
    before = log.path(1).read_bytes()
    with pytest.raises(BatchLogError, match="written by another learner"):
        log.append(1, [trained(7)], previous_sha256="")
    assert log.path(1).read_bytes() == before
