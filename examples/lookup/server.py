"""The tool as a service: `python -m examples.lookup.server`, then POST / answers calls.

{"tool": "lookup", "arguments": {"key": " 4 7 1 "}, "trajectory": …}   →   {"answer": "8"}
"""

import argparse

import uvicorn
from fastapi import FastAPI, Response
from pydantic import BaseModel

from examples.lookup import task

PORT = 8910


class Arguments(BaseModel):
    """What the schema in `rlsd.toml` lets through."""

    key: str


class Question(BaseModel):
    """A call of the policy; who called is not read here."""

    arguments: Arguments


class Answer(BaseModel):
    """What the policy is told."""

    answer: str


app = FastAPI(title="lookup")


@app.post("/")
async def lookup(question: Question, response: Response) -> Answer:
    """The value of a key; a key that the table has not is refused in words."""
    digits = question.arguments.key.split()
    if len(digits) != 3 or not all(len(d) == 1 and d in "0123456789" for d in digits):
        response.status_code = 404
        return Answer(answer=task.REFUSAL)
    return Answer(answer=str(task.value_of(int("".join(digits)))))


def main() -> None:
    """Serve on this machine until interrupted."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--port", type=int, default=PORT)
    port: int = parser.parse_args().port
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning")


if __name__ == "__main__":
    main()
