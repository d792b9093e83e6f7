"""A verifier as an HTTP service, from one function.

    from rlsd.verifier_sdk import Submission, serve

    def check(submission: Submission) -> float:
        return float(submission.completion.strip() == submission.reference)

    if __name__ == "__main__":
        serve(check, name="equal", bind="127.0.0.1:8900")

The one rule: what goes wrong is answered as an error, never as 0.
"""

from rlsd.verifier_contract.native import VerifyRequest as Submission
from rlsd.verifier_sdk.app import create_app, serve
from rlsd.verifier_sdk.judging import CannotDecide, Score

__all__ = ["CannotDecide", "Score", "Submission", "create_app", "serve"]
