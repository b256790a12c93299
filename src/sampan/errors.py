"""The one error family. Raised in the core; mapped once per edge (HTTP status in api/, exit code in cli/).

Every message is one sentence a user can act on. An OSError that reaches a user always carries its path.
"""

from __future__ import annotations


class SampanError(Exception):
    """Base of all errors a user may see. `str(error)` is the message, complete and on one line."""


class InvalidArgument(SampanError):
    """What was asked for can never work as asked (HTTP 400)."""


class Forbidden(SampanError):
    """The host or a policy says no (HTTP 403)."""


class NotFound(SampanError):
    """No such container, image, network, exec, file (HTTP 404)."""


class Conflict(SampanError):
    """The object's present state does not allow it: name in use, container running (HTTP 409)."""


class NotModified(SampanError):
    """Already so: start of a running, stop of a stopped container (HTTP 304, no body)."""


class Unsupported(SampanError):
    """Sampan or this host's kernel does not have it; the message names it (HTTP 501)."""


class Unavailable(SampanError):
    """Cannot be had now (HTTP 503)."""


class OutOfSpace(SampanError):
    """No room left on the device; nothing half-made stays (HTTP 500)."""


class Internal(SampanError):
    """A defect of ours or an unexpected answer of the kernel (HTTP 500)."""


class StartFailed(SampanError):
    """A container's program could not be started. `exit_code` is 125, 126 or 127 as Docker's (HTTP 400 for 126/127)."""

    def __init__(self, message: str, exit_code: int = 125) -> None:
        super().__init__(message)
        self.exit_code = exit_code


KINDS: dict[str, type[SampanError]] = {
    kind.__name__: kind
    for kind in (
        InvalidArgument, Forbidden, NotFound, Conflict, NotModified, Unsupported, Unavailable, OutOfSpace, Internal,
        StartFailed,
    )
}


def to_message(error: BaseException) -> dict[str, object]:
    """The wire form of an error between Sampan's own processes: `{"kind", "message"[, "exit_code"]}`."""
    if isinstance(error, SampanError):
        message: dict[str, object] = {"kind": type(error).__name__, "message": str(error)}
        if isinstance(error, StartFailed):
            message["exit_code"] = error.exit_code
        return message
    if isinstance(error, OSError) and error.errno == 28:  # ENOSPC
        return {"kind": "OutOfSpace", "message": f"no space left on device: {error.filename or error}"}
    return {"kind": "Internal", "message": f"{type(error).__name__}: {error}"}


def from_message(message: dict[str, object]) -> SampanError:
    """The error that `to_message` described."""
    kind = KINDS.get(str(message.get("kind")), Internal)
    text = str(message.get("message"))
    if kind is StartFailed:
        code = message.get("exit_code")
        return StartFailed(text, code if isinstance(code, int) else 125)
    return kind(text)
