"""One cold `run`, as sampan-runtime does it, with the clock read in between: started by runtimes.py, never imported.

    python timeline.py FD ARGUMENT…      the runtime's arguments; JSON of {moment: CLOCK_MONOTONIC in ns} goes to FD

Imports nothing before the runtime does but `time`, and changes nothing but that some functions tell when they begin
and end.
"""

import time

MOMENTS = {"interpreter": time.monotonic_ns()}
STEPS = []

import os  # noqa: E402
import sys  # noqa: E402


def timed(module, name, moment, took=None):
    function = getattr(module, name)

    def call(*args, **kwargs):
        MOMENTS.setdefault(f"before {moment}", time.monotonic_ns())
        try:
            result = function(*args, **kwargs)
            if took is not None:
                took(result)
            return result
        finally:
            MOMENTS[moment] = time.monotonic_ns()

    setattr(module, name, call)


def main():
    out = int(sys.argv[1])
    from sampan.runtime.command import main as program
    from sampan.runtime.command import run

    MOMENTS["imports"] = time.monotonic_ns()
    timed(run.create, "create", "create", lambda made: STEPS.extend((it.name, it.micros) for it in made.report.steps))
    timed(run.start, "start_created", "start")
    timed(run.foreground.Attached, "follow", "follow")
    timed(run.delete, "delete", "delete")
    end = os._exit

    def told(code):
        MOMENTS["end"] = time.monotonic_ns()
        from sampan.lean.structs import encode

        os.write(out, encode({"moments": MOMENTS, "steps": STEPS, "pid": os.getpid()}))
        end(code)

    if len(sys.argv) > 2:
        os._exit = told
        sys.argv[:2] = ["sampan-runtime"]
        program.main()


main()
