"""A container's Config and HostConfig: merged, checked, completed; names, policies, limits, words."""

from __future__ import annotations

import signal

import pytest

from sampan.engine import config, duration, hostconfig, limits, names, restart
from sampan.engine.record import Record
from sampan.errors import InvalidArgument
from sampan.oci.image import ContainerConfig

IMAGE = ContainerConfig(
    env=["PATH=/bin", "A=1"], cmd=["serve"], entrypoint=["/start"], user="app", working_dir="/srv/",
    exposed_ports={"80": None}, volumes={"/data": None}, labels={"a": "1", "b": "2"}, stop_signal="SIGQUIT",
)


@pytest.mark.parametrize(("said", "entrypoint", "cmd"), [
    ({}, ["/start"], ["serve"]),
    ({"Cmd": ["other"]}, ["/start"], ["other"]),
    ({"Entrypoint": ["/mine"]}, ["/mine"], None),
    ({"Entrypoint": ["/mine"], "Cmd": ["x"]}, ["/mine"], ["x"]),
    ({"Entrypoint": [""], "Cmd": ["x"]}, None, ["x"]),
    ({"Entrypoint": [], "Cmd": ["x"]}, ["/start"], ["x"]),
])
def test_command_over_the_images(said: dict[str, list[str]], entrypoint: object, cmd: object) -> None:
    merged = config.merge(said, IMAGE)
    assert (merged["Entrypoint"], merged["Cmd"]) == (entrypoint, cmd)


def test_everything_else_over_the_images() -> None:
    merged = config.merge({"Env": ["A=2", "B=3", "PATH"], "Labels": {"b": "x"}, "ExposedPorts": {"53/udp": {}}}, IMAGE)
    assert merged["Env"] == ["A=2", "B=3"] and merged["Labels"] == {"a": "1", "b": "x"}
    assert merged["ExposedPorts"] == {"80/tcp": {}, "53/udp": {}} and merged["Volumes"] == {"/data": {}}
    assert merged["User"] == "app" and merged["WorkingDir"] == "/srv" and merged["StopSignal"] == "SIGQUIT"


@pytest.mark.parametrize("said", [
    {"Entrypoint": [""]}, {"Env": ["=x"]}, {"Hostname": "a b"}, {"Hostname": "x" * 64}, {"WorkingDir": "x"},
    {"StopSignal": "X"}, {"Cmd": ["a\0b"]}, {"ExposedPorts": {"x": {}}},
])
def test_wrong_settings(said: dict[str, object]) -> None:
    with pytest.raises(InvalidArgument):
        config.merge(dict(said), IMAGE)


@pytest.mark.parametrize(("text", "number"), [
    ("SIGTERM", 15), ("term", 15), ("9", 9), ("SIGRTMIN+3", signal.SIGRTMIN + 3), ("RTMAX", signal.SIGRTMAX),
])
def test_signals(text: str, number: int) -> None:
    assert config.signal_number(text) == number


@pytest.mark.parametrize("text", ["", "0", "65", "999999999", "SIGNONE", "RTMIN+99", "-1", "SIG"])
def test_wrong_signals(text: str) -> None:
    with pytest.raises(InvalidArgument):
        config.signal_number(text)


def test_host_config_is_completed() -> None:
    kept = hostconfig.host_config({"Memory": 100 << 20, "Binds": None, "Unknown": 1, "CapAdd": "NET_ADMIN"})
    assert kept["MemorySwap"] == 200 << 20 and kept["Binds"] is None and "Unknown" not in kept
    assert kept["CapAdd"] == ["NET_ADMIN"] and kept["ShmSize"] == 64 << 20 and kept["NetworkMode"] == "default"
    assert kept["RestartPolicy"] == {"Name": "no", "MaximumRetryCount": 0}
    assert kept["LogConfig"] == {"Type": "json-file", "Config": {}} and kept["PidsLimit"] is None
    kept["PortBindings"]["x"] = []
    assert hostconfig.host_config(None)["PortBindings"] == {}  # nothing is shared between requests (CVE-2020-14370)


@pytest.mark.parametrize("given", [
    [], {"Memory": "1"}, {"Binds": "x"}, {"PortBindings": {"80/tcp": {}}}, {"Ulimits": [1]},
    {"LogConfig": {"Type": "syslog"}}, {"LogConfig": {"Config": {"max-size": "x"}}}, {"Links": ["a:b"]},
    {"LogConfig": {"Config": {"max-file": "0"}}}, {"LogConfig": {"Config": {"nosuch": "1"}}},
])
def test_wrong_host_configs(given: object) -> None:
    with pytest.raises(InvalidArgument):
        hostconfig.host_config(given)


def test_the_wrong_member_is_named() -> None:
    with pytest.raises(InvalidArgument, match=r"invalid HostConfig: .*`HostConfig\.Memory`"):
        hostconfig.host_config({"Memory": "1"})


@pytest.mark.parametrize("given", [
    {"Memory": 1}, {"MemorySwap": 100 << 20}, {"Memory": 100 << 20, "MemorySwap": 50 << 20}, {"CpuPeriod": 1},
    {"MemorySwappiness": 101}, {"CpuQuota": 1}, {"NanoCpus": 1}, {"NanoCpus": 10**9, "CpuPeriod": 10**5},
    {"CpusetCpus": "0-"}, {"CpusetCpus": "1-0"}, {"CpusetCpus": "0,8191"}, {"CpusetCpus": "a"}, {"BlkioWeight": 1},
    {"CpusetMems": "77"}, {"ShmSize": -1}, {"CpusetCpus": "0-18446744073709551615"},
])
def test_limits_that_cannot_be(given: dict[str, object]) -> None:
    with pytest.raises(InvalidArgument):
        limits.check(given)


def test_names() -> None:
    assert names.check("/web.1_a-b") == "web.1_a-b"
    taken: set[str] = set()
    for _ in range(300):
        name = names.generate(taken)
        assert names.check(name) == name and name not in taken
        taken.add(name)
    for wrong in ("", "a", "/", "-ab", "a/b", "a b", "ä1", "x" * 256, "ab\n"):
        with pytest.raises(InvalidArgument, match="Invalid container name"):
            names.check(wrong)


def ended(policy: str, count: int = 0, **members: object) -> Record:
    record = Record("id", "name", 0, "", "", {}, {"RestartPolicy": {"Name": policy, "MaximumRetryCount": count}})
    record.started_at = "2026-01-01T00:00:00Z"
    for name, value in members.items():
        setattr(record, name, value)
    return record


@pytest.mark.parametrize(("record", "now", "later"), [
    (ended("no", exit_code=1), False, False),
    (ended("always"), True, True),
    (ended("always", stopped_by_user=True), False, True),
    (ended("unless-stopped"), True, True),
    (ended("unless-stopped", stopped_by_user=True), False, False),
    (ended("on-failure"), False, False),
    (ended("on-failure", exit_code=1), True, True),
    (ended("on-failure", 3, exit_code=1, restart_count=2), True, True),
    (ended("on-failure", 3, exit_code=1, restart_count=3), False, False),
    (ended("always", started_at="0001-01-01T00:00:00Z"), True, False),
])
def test_restart_policies(record: Record, now: bool, later: bool) -> None:
    assert (restart.wanted(record), restart.wanted_by_new_engine(record)) == (now, later)


def test_restart_delay_doubles_and_is_forgotten() -> None:
    delays = [0.0]
    for _ in range(12):
        delays.append(restart.delay(delays[-1], 0.5))
    assert delays[1:4] == [0.1, 0.2, 0.4] and delays[-1] == 60
    assert restart.delay(60, 11) == 0.1


@pytest.mark.parametrize(("seconds", "words"), [
    (0.5, "Less than a second"), (1, "1 second"), (59, "59 seconds"), (60, "About a minute"), (3599, "59 minutes"),
    (3600, "About an hour"), (3 * 3600, "3 hours"), (3 * 86400, "3 days"), (20 * 86400, "2 weeks"),
    (100 * 86400, "3 months"), (800 * 86400, "2 years"),
])
def test_durations_in_words(seconds: float, words: str) -> None:
    assert duration.words(seconds) == words
