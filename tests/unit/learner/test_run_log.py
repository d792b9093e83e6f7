import pytest

from rlsd.errors import StorageError
from services.learner.run_log import RunLog


def test_a_restart_drops_metrics_that_it_will_make_again_and_keeps_evaluations(tmp_path):
    log = RunLog(tmp_path)
    for step in (1, 2, 3):
        log.metrics({"step": step})
        log.evaluation({"step": step})
    log.rewind(2)
    assert [e["step"] for e in log.evaluations()] == [1, 2, 3]
    assert (tmp_path / "metrics.jsonl").read_text() == '{"step": 1}\n{"step": 2}\n'


def test_a_torn_last_line_does_not_stop_a_restart(tmp_path):
    log = RunLog(tmp_path)
    log.evaluation({"step": 1})
    with (tmp_path / "evaluations.jsonl").open("a") as file:
        file.write('{"step": 2, "greedy')
    log.rewind(9)
    assert log.evaluations() == [{"step": 1}]


def test_a_folder_that_cannot_be_made_is_named_in_one_line(tmp_path):
    (tmp_path / "runs").write_text("a file")
    with pytest.raises(StorageError, match=r"runs/demo: cannot be written \(Not a directory\)"):
        RunLog(tmp_path / "runs" / "demo")
