"""`python tests/echoing_verifier.py PORT`: a verifier that repeats all it reads, as some do."""

import sys
import zlib

from rlsd.verifier_sdk import Score, Submission, serve


def check(submission: Submission) -> Score:
    """Half of all completions are right, whatever they say."""
    read = f"{submission.completion} is not {submission.reference}"
    return Score(score=float(zlib.crc32(submission.completion.encode()) % 2), detail=read)


if __name__ == "__main__":
    serve(check, name="echoing", bind=f"127.0.0.1:{sys.argv[1]}")
