"""systemd's manager over D-Bus (org.freedesktop.systemd1(5)): units made, changed and stopped, each job waited for.

jeepney knows the wire format; the connection is made here, because systemd's own socket is no bus: nobody answers Hello
there, and its signals come without being asked for.
"""

from __future__ import annotations

import os
import socket
import time

from jeepney import (  # type: ignore[import-untyped]
    DBusAddress,
    HeaderFields,
    Message,
    MessageType,
    Parser,
    new_method_call,
)

from sampan.errors import Conflict, Forbidden, Internal, InvalidArgument, NotFound, SampanError, Unavailable
from sampan.linux import userns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from sampan.linux.cgroup.unit_properties import Property

_PATIENCE = 30.0
_LARGEST_ANSWER = 4096

_SYSTEMD = "org.freedesktop.systemd1"
_MANAGER = DBusAddress("/org/freedesktop/systemd1", _SYSTEMD, f"{_SYSTEMD}.Manager")
_BUS = DBusAddress("/org/freedesktop/DBus", "org.freedesktop.DBus", "org.freedesktop.DBus")
_PROPERTIES = "org.freedesktop.DBus.Properties"
_JOB_REMOVED = f"type='signal',sender='{_SYSTEMD}',interface='{_SYSTEMD}.Manager',member='JobRemoved'"

_KINDS: dict[str, type[SampanError]] = {
    f"{_SYSTEMD}.NoSuchUnit": NotFound,
    f"{_SYSTEMD}.UnitExists": Conflict,
    "org.freedesktop.DBus.Error.AccessDenied": Forbidden,
    "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired": Forbidden,
    "org.freedesktop.DBus.Error.InvalidArgs": InvalidArgument,
    "org.freedesktop.DBus.Error.PropertyReadOnly": InvalidArgument,
    "org.freedesktop.DBus.Error.UnknownProperty": InvalidArgument,
    "org.freedesktop.DBus.Error.ServiceUnknown": Unavailable,
}


class Manager:
    """A connection to the system's manager, or to the calling user's. Not thread-safe; `close` it."""

    def __init__(self, user: bool) -> None:
        """Raises Unavailable when no manager can be reached, with the addresses that were tried."""
        self._parser = Parser()
        self._serial = 0
        self._ended_jobs: dict[str, str] = {}
        self._deadline = time.monotonic() + _PATIENCE
        self._sock, direct = _connect(user)
        try:
            self._authenticate()
            if not direct:
                self._call(_BUS, "Hello")
                self._call(_BUS, "AddMatch", "s", _JOB_REMOVED)
                self._call(_MANAGER, "Subscribe")
            version = str(self.get(_MANAGER.object_path, "Manager", "Version"))  # "252.39-1~deb12u1", "v245.4-4"
        except BaseException:
            self._sock.close()
            raise
        digits = version.lstrip("v").partition(".")[0].partition("-")[0].partition("~")[0]
        self.version = int(digits) if digits.isdigit() else 0

    def close(self) -> None:
        self._sock.close()

    def start_transient(self, unit: str, properties: Sequence[Property]) -> None:
        """Make and start a unit; returns when it is. Raises Conflict when it exists, InvalidArgument, Unavailable."""
        self._run_job(unit, "StartTransientUnit", "ssa(sv)a(sa(sv))", unit, "replace", list(properties), [])

    def set_properties(self, unit: str, properties: Sequence[Property]) -> None:
        """Change a unit until it ends. Raises NotFound, InvalidArgument."""
        self._start_clock()
        self._call(_MANAGER, "SetUnitProperties", "sba(sv)", unit, True, list(properties))

    def stop(self, unit: str) -> None:
        """Stop a unit, ending its processes; returns when it has. No error when there is none."""
        try:
            self._run_job(unit, "StopUnit", "ss", unit, "replace")
        except NotFound:
            return

    def reset_failed(self, unit: str) -> None:
        """Forget a unit that ended badly, so that its name is free. No error when there is none."""
        self._start_clock()
        try:
            self._call(_MANAGER, "ResetFailedUnit", "s", unit)
        except NotFound:
            return

    def control_group(self, unit: str) -> str:
        """The unit's cgroup, "/system.slice/a.scope", from the root of the hierarchy."""
        self._start_clock()
        kind = unit.rpartition(".")[2].capitalize()
        return str(self.get(f"/org/freedesktop/systemd1/unit/{_escape(unit)}", kind, "ControlGroup"))

    def get(self, path: str, interface: str, name: str) -> object:
        """A property of an object, of systemd's interface of that name."""
        address = DBusAddress(path, _SYSTEMD, _PROPERTIES)
        (value,) = self._call(address, "Get", "ss", f"{_SYSTEMD}.{interface}", name)
        return value[1]  # type: ignore[index]

    def _start_clock(self) -> None:
        self._deadline = time.monotonic() + _PATIENCE

    def _run_job(self, unit: str, method: str, signature: str, *arguments: object) -> None:
        self._start_clock()
        (job,) = self._call(_MANAGER, method, signature, *arguments)
        while str(job) not in self._ended_jobs:
            self._take(self._receive())
        result = self._ended_jobs.pop(str(job))
        if result not in ("done", "skipped"):
            raise Unavailable(f"systemd could not {'stop' if method == 'StopUnit' else 'start'} {unit}: {result}")

    def _call(
        self, address: DBusAddress, method: str, signature: str | None = None, *body: object
    ) -> tuple[object, ...]:
        self._serial += 1
        serial = self._serial
        self._send(new_method_call(address, method, signature, body).serialise(serial=serial))
        while True:
            message = self._receive()
            if message.header.fields.get(HeaderFields.reply_serial) == serial:
                break
            self._take(message)
        if message.header.message_type is MessageType.error:
            raise _failed(method, body, message)
        return tuple(message.body)

    def _take(self, message: Message) -> None:
        """Note which jobs have ended: a job may be over before the reply that names it has come."""
        if message.header.fields.get(HeaderFields.member) == "JobRemoved" and len(message.body) == 4:
            _, job, _, result = message.body
            self._ended_jobs[str(job)] = str(result)

    def _send(self, data: bytes) -> None:
        self._sock.settimeout(self._left())
        try:
            self._sock.sendall(data)
        except OSError as error:
            raise Unavailable(f"the connection to systemd broke: {error}") from error

    def _receive(self) -> Message:
        while (message := self._parser.get_next_message()) is None:
            self._parser.add_data(self._read())
        return message

    def _read(self) -> bytes:
        self._sock.settimeout(self._left())
        try:
            data = self._sock.recv(65536)
        except OSError as error:
            raise Unavailable(f"the connection to systemd broke: {error}") from error
        if not data:
            raise Unavailable("the connection to systemd broke: it was closed")
        return data

    def _left(self) -> float:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise Unavailable(f"systemd did not answer within {_PATIENCE:.0f} s")
        return left

    def _authenticate(self) -> None:
        """SASL EXTERNAL: the other side takes our id from the socket.

        Inside a user namespace our own idea of it is another, so it is not named there. All lines go in one write, as
        sd-bus itself does it: a message that reaches systemd together with BEGIN waits there for the next one.
        """
        if userns.is_initial():
            ours = b"\0AUTH EXTERNAL " + str(os.geteuid()).encode().hex().encode() + b"\r\nBEGIN\r\n"
        else:
            ours = b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n"
        self._send(ours)
        said = b""
        while not said.endswith(b"\r\n") or said == b"DATA\r\n":
            said += self._read()
            if len(said) > _LARGEST_ANSWER:
                raise Internal("systemd's D-Bus socket does not speak D-Bus")
        if not said.removeprefix(b"DATA\r\n").startswith(b"OK"):
            raise Forbidden(f"systemd's D-Bus socket refuses us: {said.decode(errors='replace').strip()}")


def _failed(method: str, body: tuple[object, ...], message: Message) -> SampanError:
    name = str(message.header.fields.get(HeaderFields.error_name))
    said = str(message.body[0]) if message.body else name
    about = f" {body[0]}" if body and isinstance(body[0], str) else ""
    return _KINDS.get(name, Internal)(f"systemd refuses {method}{about}: {said}")


def _escape(unit: str) -> str:
    """A unit's name in an object path: all but letters and digits by their number; no digit in front."""
    return "".join(
        chr(byte) if chr(byte).isalnum() and byte < 128 and (index or not chr(byte).isdigit()) else f"_{byte:02x}"
        for index, byte in enumerate(unit.encode())
    )


def _addresses(user: bool) -> list[tuple[str, bool]]:
    """Sockets to try, and whether each is systemd's own. An abstract one begins with a zero byte."""
    if not user:
        return [("/run/systemd/private", True), ("/run/dbus/system_bus_socket", False)]
    directory = os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}"
    found = [(f"{directory}/systemd/private", True)]
    for address in os.environ.get("DBUS_SESSION_BUS_ADDRESS", "").split(";"):
        kind, _, rest = address.partition(":")
        options = dict(pair.partition("=")[::2] for pair in rest.split(","))
        if kind == "unix" and "path" in options:
            found.append((_unquote(options["path"]), False))
        elif kind == "unix" and "abstract" in options:
            found.append(("\0" + _unquote(options["abstract"]), False))
    found.append((f"{directory}/bus", False))
    return list(dict.fromkeys(found))


def _unquote(value: str) -> str:
    """D-Bus writes unusual bytes of an address as %xx."""
    first, *rest = value.encode().split(b"%")
    try:
        return (first + b"".join(bytes.fromhex(part[:2].decode()) + part[2:] for part in rest)).decode()
    except ValueError:
        return value


def _connect(user: bool) -> tuple[socket.socket, bool]:
    tried = []
    for path, direct in _addresses(user):
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            sock.settimeout(_PATIENCE)
            sock.connect(path)
        except OSError as error:
            sock.close()
            tried.append(f"{path.replace(chr(0), '@')}: {error.strerror or error}")
        else:
            return sock, direct
    raise Unavailable(f"cannot reach {'the user' if user else 'the system'}'s systemd ({'; '.join(tried)})")
