"""A verifier of the chain task as a service of its own."""

from pathlib import Path

from rlsd.verifier_sdk import CannotDecide, Score, Submission, serve


def check(submission: Submission) -> Score:
    """Compare what follows the marker with the reference; also say how long the work was."""
    if not submission.reference:
        raise CannotDecide("no_reference")
    work, _, answer = submission.completion.partition(submission.task.get("after", "#"))
    right = answer.strip() == submission.reference
    return Score(score=float(right), detail=f"{work.count(';') + 1} steps")


if __name__ == "__main__":
    serve(check, name="chain", version="1", bearer_file=Path("runs/token"))
