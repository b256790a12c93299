"""Docker's exit codes for a program that could not be started."""

from __future__ import annotations

from sampan.cli.failure import EngineError

# The API has no field for it; Docker's own client goes by these words too.
NOT_FOUND = ("executable file not found", "no such file or directory", "system cannot find the file specified")
NOT_EXECUTABLE = ("permission denied", "is a directory", "exec format error")


def start_exit_code(error: EngineError) -> int:
    """127: no such program; 126: it cannot be executed; 125: anything else."""
    message = str(error)
    if any(words in message for words in NOT_FOUND):
        return 127
    if any(words in message for words in NOT_EXECUTABLE):
        return 126
    return 125
