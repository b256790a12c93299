"""Ports, resolver and hosts files, columns of top, patterns of ps: what is computed for a container."""

from __future__ import annotations

from typing import Any

import pytest

from sampan.engine import files, listing, networking, top
from sampan.engine.archive import go_mode
from sampan.engine.mounts import destination
from sampan.engine.record import Endpoint, Record
from sampan.errors import InvalidArgument
from sampan.network.endpoint import PortMapping


def record(config: dict[str, Any] | None = None, **host_config: Any) -> Record:
    return Record("id", "name", 0, "", "", config or {}, {"NetworkMode": "default", **host_config})


def test_ports_to_publish() -> None:
    exposed = {"ExposedPorts": {"53/udp": {}, "80/tcp": {}}}
    found = networking.mappings(record(exposed, PublishAllPorts=True, PortBindings={
        "80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8080"}, {"HostPort": "9000-9010"}], "443": None,
    }))
    assert found == [
        PortMapping("tcp", "127.0.0.1", 8080, 80), PortMapping("tcp", "0.0.0.0", 9000, 80, 9010),
        PortMapping("tcp", "0.0.0.0", 0, 443), PortMapping("udp", "0.0.0.0", 0, 53),
    ]


@pytest.mark.parametrize("bindings", [
    {"0": []}, {"65536/tcp": []}, {"80/xyz": []}, {"80-90/tcp": []}, {"80": {}}, {"80": [7]}, {"": []},
    {"80": [{"HostPort": "90-80"}]}, {"80": [{"HostPort": "-1"}]}, {"80": [{"HostPort": "99999"}]},
])
def test_wrong_ports(bindings: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument):
        networking.mappings(record(PortBindings=bindings))


def test_servers_on_the_hosts_loopback_are_of_no_use_inside() -> None:
    host = "# made by x\nnameserver 127.0.0.53\nnameserver ::1\nnameserver 192.0.2.1\nsearch a b\noptions ndots:2\n"
    assert files.resolv_conf({}, host) == "nameserver 192.0.2.1\nsearch a b\noptions ndots:2\n"
    assert files.resolv_conf({}, "nameserver 127.0.0.1\n") == "nameserver 8.8.8.8\nnameserver 8.8.4.4\n"
    assert files.resolv_conf({}, "nameserver 127.0.0.1\n", on_host=True) == "nameserver 127.0.0.1\n"
    own = {"Dns": ["192.0.2.9"], "DnsSearch": ["."], "DnsOptions": ["rotate"]}
    assert files.resolv_conf(own, host) == "nameserver 192.0.2.9\noptions rotate\n"


def test_hosts_file() -> None:
    extra = ["a:192.0.2.1", "b:[2001:db8::1]", "g:host-gateway"]
    known = record({"Hostname": "boat", "Domainname": "sea"}, ExtraHosts=extra)
    known.endpoint = Endpoint("192.0.2.4", 24, "192.0.2.254", "", "", "")
    text = files.hosts(known, "192.0.2.254", "127.0.0.1\tlocalhost\n")
    assert text == (
        "127.0.0.1\tlocalhost\n192.0.2.1\ta\n2001:db8::1\tb\n192.0.2.254\tg\n192.0.2.4\tboat.sea boat\n"
    )


@pytest.mark.parametrize(("arguments", "titles"), [
    ("-ef", "UID PID PPID C STIME TTY TIME CMD"), ("aux", "USER PID %CPU %MEM VSZ RSS TTY STAT START TIME COMMAND"),
    ("-e", "PID TTY TIME CMD"), ("-o pid,comm", "PID COMMAND"), ("-eo pid -o user=WHO", "PID WHO"),
    ("axo %cpu,args", "%CPU COMMAND"),
])
def test_columns_of_top(arguments: str, titles: str) -> None:
    assert " ".join(title for title, _ in top.columns(arguments)) == titles


@pytest.mark.parametrize("arguments", ["-o nosuch", "--sort", "-p 1", "'", "-o", "$(reboot)"])
def test_wrong_columns(arguments: str) -> None:
    if arguments == "-o":
        assert top.columns(arguments)  # no list: the usual ones
        return
    with pytest.raises(InvalidArgument):
        top.columns(arguments)


@pytest.mark.parametrize(("pattern", "matches"), [
    ("web", True), ("^/web", True), ("^web", True), ("^/?web-1$", True), ("b-1$", True), ("^b", False), ("w.*1", True),
    ("x|web", True), ("^web$", False),
])
def test_patterns_of_names(pattern: str, matches: bool) -> None:
    assert bool(listing._pattern(pattern).search("/web-1")) is matches


@pytest.mark.parametrize("pattern", ["(a+)+$", "[a-z]*", "a{9}", ".*.*.*.*.*", "x" * 2000, "\\d"])
def test_patterns_that_could_take_for_ever(pattern: str) -> None:
    with pytest.raises(InvalidArgument):
        listing._pattern(pattern)


def test_modes_as_go_has_them() -> None:
    assert go_mode(0o100644) == 0o644 and go_mode(0o040755) == 1 << 31 | 0o755
    assert go_mode(0o120777) == 1 << 27 | 0o777 and go_mode(0o104755) == 1 << 23 | 0o755
    assert go_mode(0o041777) == 1 << 31 | 1 << 20 | 0o777 and go_mode(0o020666) == 1 << 26 | 1 << 21 | 0o666


@pytest.mark.parametrize(("path", "clean"), [("/a/../b/", "/b"), ("//a", "/a"), ("/a/./b", "/a/b"), ("/../a", "/a")])
def test_destinations(path: str, clean: str) -> None:
    assert destination(path) == clean


@pytest.mark.parametrize("path", ["", "a", "/", "//", "/..", "/a\0b", "/" + "x" * 5000])
def test_wrong_destinations(path: str) -> None:
    with pytest.raises(InvalidArgument):
        destination(path)
