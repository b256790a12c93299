"""One cold `run`, as sampan-runtime does it, with the clock read in between: started by runtimes.py, never imported.

    python timeline.py FD PACK ARGUMENT…      JSON of {moment: CLOCK_MONOTONIC in ns} goes to FD

Executes PACK, a .pyc, as the interpreter would, imports nothing before it does but `time`, and changes nothing but that
some functions tell when they begin and end.
"""

import time

MOMENTS = {"interpreter": time.monotonic_ns()}
STEPS = []

import builtins  # noqa: E402
import marshal  # noqa: E402
import os  # noqa: E402
import sys  # noqa: E402

import __main__  # noqa: E402


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


def watch(out):
    """As soon as the program asks for its `main`."""
    from sampan.runtime.command import run

    MOMENTS["pack"] = time.monotonic_ns()
    timed(run.create, "create", "create", lambda made: STEPS.extend((it.name, it.micros) for it in made.report.steps))
    timed(run.start, "start_created", "start")
    timed(run.foreground.Attached, "follow", "follow")
    timed(run.delete, "delete_created", "delete")
    end = os._exit

    def told(code):
        from sampan.lean.structs import encode

        os.write(out, encode({"moments": MOMENTS, "steps": STEPS}))
        end(code)

    os._exit = told


def main():
    out, program = int(sys.argv[1]), sys.argv[2]
    usual = builtins.__import__

    def watching(name, *args, **kwargs):
        module = usual(name, *args, **kwargs)
        if name == "sampan.runtime.command.main":
            builtins.__import__ = usual
            watch(out)
        return module

    builtins.__import__ = watching
    del sys.argv[:2]
    with open(program, "rb") as file:
        file.seek(16)
        code = marshal.load(file)
    __main__.__file__ = program
    exec(code, vars(__main__))


main()
