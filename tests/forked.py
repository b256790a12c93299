"""What a test does to a process it does in a forked child."""

from __future__ import annotations

import json
import os
from collections.abc import Callable


def in_child(action: Callable[[], object]) -> object:
    """What `action` returns in a forked child, through JSON; the name of its exception if it raises one."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(writer, json.dumps(action()).encode())
        except BaseException as error:
            os.write(writer, json.dumps(type(error).__name__).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader, "rb") as file:
        answer: object = json.load(file)
    os.waitpid(pid, 0)
    return answer
