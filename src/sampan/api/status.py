"""The one place where the core's errors become HTTP statuses."""

from __future__ import annotations

import errno

from sampan import errors

STATUS: dict[type[errors.SampanError], int] = {
    errors.InvalidArgument: 400,
    errors.Forbidden: 403,
    errors.NotFound: 404,
    errors.Conflict: 409,
    errors.NotModified: 304,
    errors.Unsupported: 501,
    errors.Unavailable: 503,
    errors.OutOfSpace: 500,
    errors.Internal: 500,
    errors.StartFailed: 400,
}


def of(error: BaseException) -> tuple[int, str]:
    """HTTP status and message. What is not of the family is a defect of ours: 500 with its type and text."""
    if isinstance(error, errors.StartFailed):
        return (400 if error.exit_code in (126, 127) else 500), str(error)
    if isinstance(error, errors.SampanError):
        return STATUS.get(type(error), 500), str(error)
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return 500, f"no space left on device: {error.filename or error}"
    return 500, f"{type(error).__name__}: {error}"
