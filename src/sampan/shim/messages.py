"""What the engine and a shim say to each other, over one SEQPACKET socket (jobs/channel.py).

    engine                                   shim
      │ job "shim": Setup, Work ────────────────▶│  fds: [network namespace], [client socket]…
      │◀── {"started": Started} + init's pidfd ─┤  the user's program is running
      │◀── {"error": …} ────────────────────────┤  … or could not be started; nothing is left of it
      │ {"do": "exec"|"attach"|"resize"|"status", "n": n, …} ─▶│  answered by {"re": n, …} or {"re": n, "error": …}
      │ {"do": "pause"|"resume"|"update", "n": n, …} ──▶│  of another OCI runtime only (job "external": external/)
      │◀── {"event": "exec_exited", "id", "status"} ───────────┤
      │◀── {"event": "exited", …Exit} ─────────────────────────┤  then the shim ends

A new engine connects to `DIRECTORY/shim.sock` and asks for "status". `DIRECTORY/exit.json` (an `Exit`) is there,
complete, before the exit is told: an engine that was away reads it instead.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass

import msgspec

from sampan.linux.cgroup import Host
from sampan.oci import runtime as oci
from sampan.runtime.rootfs import Directory, Overlay, Rootfs

SOCKET = "shim.sock"
EXIT_FILE = "exit.json"

__all__ = [
    "EXIT_FILE", "SOCKET", "AttachedClient", "ClientOptions", "Directory", "ExecRequest", "Exit", "Log", "Overlay",
    "Rootfs", "Runtime", "Setup", "StartRequest", "Started",
]


class Log(msgspec.Struct):
    """Docker's json-file log: rotated at `max_size` bytes, `max_files` files in all (path, path.1, …)."""

    path: str
    max_size: int = 10 << 20
    max_files: int = 3


class ClientOptions(msgspec.Struct):
    """How an attached client's socket is used; the sockets themselves travel as descriptors."""

    stdin: bool
    stdout: bool
    stderr: bool
    tty: bool
    detach_keys: str = ""
    leftover: str = ""  # base64 of what the client had sent already


class Runtime(msgspec.Struct):
    """Another OCI runtime to run a container with: the path of its program, runc's command line understood.

    `patience`: seconds that one command of it may take before it is killed.
    """

    path: str
    patience: float = 120.0


class StartRequest(msgspec.Struct):
    """Start a container, as the engine asks for it. `directory` (EXEC_ROOT/containers/ID) is made by the shim and
    removed by the engine. `cgroup_host` is `linux.cgroup.Host` as plain data; the group's path is
    `spec.linux.cgroups_path`. `seccomp` is the path of the compiled filter, "" for none. `stdin_once`: close stdin when
    the first client leaves.
    """

    id: str
    directory: str
    spec: oci.Spec
    rootfs: Rootfs
    cgroup_host: dict[str, object]
    seccomp: str = ""
    log: Log | None = None
    open_stdin: bool = False
    stdin_once: bool = False
    init: bool = False
    runtime: Runtime | None = None  # None: our own


class Setup(msgspec.Struct):
    """The shim's own part of a start; `usual`: a process born ahead can become it. That one's part travels beside it,
    as text: what the shim does not decode takes no memory of its own.
    """

    id: str
    directory: str
    cgroup_host: Host
    cgroup_path: str
    usual: bool
    tty: bool
    log: Log | None = None
    open_stdin: bool = False
    stdin_once: bool = False
    network: bool = False  # a network namespace comes as the first descriptor
    own_network: bool = False  # it is to have a new one, with nothing in it but lo
    clients: list[ClientOptions] = []
    runtime: Runtime | None = None


class ExecRequest(msgspec.Struct):
    """Run one more process in the container; `process` as in the OCI spec, its user's name in `user.username`."""

    id: str
    process: oci.Process
    seccomp: str = ""
    open_stdin: bool = False
    client: ClientOptions | None = None


class Started(msgspec.Struct):
    """`report` is the JSON of a `runtime.operation.Report`; `warnings` came after it."""

    pid: int
    started_at: str  # RFC 3339, nanoseconds, UTC
    micros: int  # from the request's arrival at the shim to the program's first instruction
    report: str
    warnings: list[str] = []


class Exit(msgspec.Struct):
    """`status` as a shell has it: the exit code, or 128 + signal."""

    status: int
    finished_at: str
    signal: int = 0
    oom_killed: bool = False
    memory_limit_hit: bool = False
    error: str = ""


@dataclass
class AttachedClient:
    """A client's hijacked connection on its way to a shim. Whoever passes it on closes its own copy."""

    sock: socket.socket
    options: ClientOptions
