"""How a command ends other than well. `main` turns each into one sentence on stderr and an exit code."""

from __future__ import annotations

from sampan.errors import SampanError


class UsageError(SampanError):
    """The command line cannot be understood; `main` adds the usage line.

    Exit code as Docker's: 125 for a bad flag, 1 for a wrong number of arguments.
    """

    def __init__(self, message: str, exit_code: int = 125) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class CommandFailed(SampanError):
    """A command's own failure: the message is complete."""

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class EngineError(SampanError):
    """The engine answered with an HTTP error. `status` is the HTTP status, the text the engine's own message."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Unreachable(SampanError):
    """No engine answers at the address; the message says what to do."""


class ConnectionLost(SampanError):
    """The engine closed the connection in the middle of an answer, or what it said is not HTTP."""


class Quit(SampanError):
    """Leave with this exit code; the message, if any, is printed as it is."""

    def __init__(self, exit_code: int, message: str = "") -> None:
        super().__init__(message)
        self.exit_code = exit_code
