"""Tables and the lines in them."""

from __future__ import annotations

import pytest

from sampan.cli.container_row import CONTAINERS, container_fields, ellipsis, format_ports, short_id
from sampan.cli.filters import to_query
from sampan.cli.listing import format_table
from sampan.cli.reference import split_reference
from sampan.cli.usage import cpu_percent, memory_used, stats_fields

CONTAINER = {
    "Id": "abcdef0123456789abcdef", "Names": ["/web", "/other/web"], "Image": "busybox", "ImageID": "sha256:1",
    "Command": "sh -c 'echo a very long command line'", "Created": 0, "State": "running", "Status": "Up 2 seconds",
    "Ports": [], "Labels": {"a": "b", "c.d": "e"}, "Mounts": [{"Type": "volume", "Name": "v" * 64, "Driver": "local"}],
    "NetworkSettings": {"Networks": {"bridge": {}}}, "SizeRw": 0, "SizeRootFs": 1_984_162,
}


def port(private: int, public: int = 0, address: str = "", kind: str = "tcp") -> dict[str, object]:
    return {"PrivatePort": private, "PublicPort": public, "IP": address, "Type": kind}


@pytest.mark.parametrize(("ports", "text"), [
    ([], ""),
    ([port(80)], "80/tcp"),
    ([port(80, 8080, "0.0.0.0")], "0.0.0.0:8080->80/tcp"),
    ([port(80, 8080, "::"), port(80, 8080, "0.0.0.0")], "0.0.0.0:8080->80/tcp, [::]:8080->80/tcp"),
    ([port(80), port(81), port(82), port(90)], "80-82/tcp, 90/tcp"),
    ([port(n, n, "0.0.0.0", "udp") for n in (9000, 9001)], "0.0.0.0:9000-9001->9000-9001/udp"),
    ([port(80, 8080, "0.0.0.0"), port(443)], "443/tcp, 0.0.0.0:8080->80/tcp"),
])
def test_ports(ports: list[dict[str, object]], text: str) -> None:
    assert format_ports(ports) == text


def test_table_columns() -> None:
    assert format_table([["A", "LONG TITLE", "C"], ["aaaaaaaaaa", "b", "c"]]) == (
        "A            LONG TITLE   C\naaaaaaaaaa   b            c\n"
    )
    assert format_table([["A", "B"]]) == "A         B\n"


def test_a_line_of_ps() -> None:
    fields = container_fields(CONTAINER, truncate=True)
    assert fields["ID"]() == "abcdef012345"
    assert fields["Command"]() == '"sh -c \'echo a very …"'
    assert fields["Names"]() == "web"
    assert fields["Mounts"]() == "v" * 14 + "…"
    assert fields["Size"]() == "0B (virtual 1.98MB)"
    assert fields["Label"]("c.d") == "e"
    whole = container_fields(CONTAINER, truncate=False)
    assert whole["ID"]() == CONTAINER["Id"] and "…" not in whole["Command"]()


def test_formats() -> None:
    rows = [CONTAINERS.row(container_fields(CONTAINER, truncate=True))]
    assert CONTAINERS.format("{{.ID}}:{{.Names}}", rows) == "abcdef012345:web\n"
    assert CONTAINERS.format(r"table {{.ID}}\t{{.Label \"c.d\"}}".replace(r"\"", '"'), rows) == (
        "CONTAINER ID   d\nabcdef012345   e\n"
    )
    assert CONTAINERS.format("", []).split("   ")[:3] == ["CONTAINER ID", "IMAGE", "  COMMAND"]
    assert '"Names":"web"' in CONTAINERS.format("json", rows)


def test_small_things() -> None:
    assert ellipsis("abc", 3) == "abc" and ellipsis("abcd", 3) == "ab…"
    assert short_id("sha256:0123456789abcdef") == "0123456789ab"
    assert to_query(["a=b", "a=c", "label=x=y"]) == {"a": ["b", "c"], "label": ["x=y"]}
    assert to_query([]) is None
    assert split_reference("host:5000/a/b:v1") == ("host:5000/a/b", "v1")
    assert split_reference("host:5000/a") == ("host:5000/a", "")
    assert split_reference("a@sha256:1") == ("a", "sha256:1")


def test_usage() -> None:
    before = {"cpu_usage": {"total_usage": 0}, "system_cpu_usage": 0}
    now = {"cpu_usage": {"total_usage": 500}, "system_cpu_usage": 2000, "online_cpus": 2}
    assert cpu_percent(before, now) == 50.0
    assert cpu_percent(now, now) == 0.0
    assert memory_used({"usage": 100, "stats": {"inactive_file": 30}}) == 70
    assert memory_used({"usage": 100, "stats": {"total_inactive_file": 200}}) == 100
    assert stats_fields("web", None, None, True)["MemUsage"]() == "-- / --"
