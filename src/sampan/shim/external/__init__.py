"""Containers that another OCI runtime runs (runc, crun, …), as `docker run --runtime NAME` asks for.

    document.py  the spec and a process as config.json wants them: plain OCI, nothing left to look up
    bundle.py    a private mount namespace with the overlay at RUN/rootfs; config.json beside it
    command.py   one run of the runtime's program, never without an end
    console.py   the socket on which the runtime hands over a terminal
    failure.py   the runtime's log → the error that dockerd's users know
    start.py     the starter's part: create, start, hand over
    shim.py      the shim's part: exec, pause, resume, update, the end
    execs.py     processes that `exec` put into the container
    undo.py      nothing half-made stays
    forget.py    the same for the engine, when the shim was killed
    hierarchies.py   every cgroup hierarchy of the host, also those that only a runtime uses

RUN is EXEC_ROOT/containers/ID: the bundle, the runtime's state (RUN/runtime, its --root) and its logs are all in it.
Imported only by those who need it: the shims of our own runtime stay small.
"""
