"""The errors of the system: one type for each boundary that can be crossed.

    RlsdError
    ├── ConfigError      what the user gave (file, key, dataset, model path): fix it and run again
    ├── StreamError      Redis cannot be reached, or it refused
    ├── EngineError      the generation engine failed on a request
    ├── ToolError        a tool could not be asked (never an answer to the policy)
    ├── VerifierError    a verdict could not be had (never a reward of 0)
    │   └── IsolationError   this machine has no sandbox as strong as asked for
    ├── TeacherError     the teacher could not score
    ├── WeightsError     a weight version is missing, torn, or of another run
    ├── StorageError     the run's folder cannot be written (disk full, read-only, gone)
    └── ServiceError     another service cannot be reached or broke its contract
    UnfitError           this process cannot be trusted any more: it gives its work back and ends

A message is one line: what, where, the remedy. A bad group is data (its outcome says so); a broken
invariant is a crash.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import grpc


class RlsdError(Exception):
    """Base of every error that this system raises on purpose."""

    status = grpc.StatusCode.INTERNAL
    exit_code = 1
    """Of a service that it keeps from starting."""


class ConfigError(RlsdError):
    """The user's input is wrong; the message names the field and the remedy."""

    status = grpc.StatusCode.INVALID_ARGUMENT
    exit_code = 78  # EX_CONFIG: starting again would not help


class StreamError(RlsdError):
    """The queues cannot be reached or refused an operation."""

    status = grpc.StatusCode.UNAVAILABLE


class EngineError(RlsdError):
    """The generation engine failed on a request."""

    status = grpc.StatusCode.INTERNAL


class ToolError(RlsdError):
    """A tool could not be asked. The policy has no part in it: its group is tried again."""

    status = grpc.StatusCode.INTERNAL


class VerifierError(RlsdError):
    """A verdict could not be had. Its trajectory leaves the loss and the group's baseline."""

    status = grpc.StatusCode.INTERNAL


class IsolationError(VerifierError):
    """No sandbox of the strength that was asked for: the service does not start."""

    exit_code = ConfigError.exit_code


class TeacherError(RlsdError):
    """The teacher could not score a group."""

    status = grpc.StatusCode.INTERNAL


class WeightsError(RlsdError):
    """A weight version is missing, torn, or belongs to another run."""

    status = grpc.StatusCode.FAILED_PRECONDITION


class StorageError(RlsdError):
    """The run's folder cannot be written; what was there before is kept."""

    status = grpc.StatusCode.RESOURCE_EXHAUSTED


class ServiceError(RlsdError):
    """Another service cannot be reached, or broke its contract."""

    status = grpc.StatusCode.UNAVAILABLE


STOPPED_EXIT_CODE = 75  # EX_TEMPFAIL
"""Of a learner that was asked to stop before its last step: 0 says that the run is done."""


class UnfitError(Exception):
    """The process must not go on. No attempt may be repeated in it, so it is no `RlsdError`."""

    exit_code = 70  # EX_SOFTWARE


@contextlib.contextmanager
def boundary(error: type[RlsdError], what: str, *causes: type[Exception]) -> Iterator[None]:
    """Turn the named causes into `error`; errors that are ours already pass through.

    Args:
        what: the operation, as the first words of the message.
        causes: exception types that belong to this boundary; nothing else is touched.
    """
    try:
        yield
    except RlsdError:
        raise
    except causes as cause:
        raise error(f"{what}: {cause}") from cause
