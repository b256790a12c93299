"""The command line of `sampan-runtime` as far as it needs no kernel: flags, numbers, layout, the log's lines."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.errors import InvalidArgument, Unsupported
from sampan.oci import runtime as oci
from sampan.runtime.command import creating, events, exec_, kill, layout, log, main, ps, quantity, update, usage
from sampan.runtime.command.arguments import BOOL, INT, INTS, LIST, Command, Flag, UsageError, check_count, parse
from sampan.runtime.command.call import GLOBALS, Call, root_directory
from sampan.runtime.command.catalog import MODULES
from sampan.runtime.lifecycle import bundle, specfile, updating
from sampan.runtime.lifecycle import events as lifecycle_events

FLAGS = (
    Flag(("bundle", "b"), "a directory"),
    Flag(("detach", "d"), "", BOOL),
    Flag(("count",), "", INT, default="0"),
    Flag(("env", "e"), "", LIST),
    Flag(("gid", "g"), "", INTS),
)


@pytest.mark.parametrize("spelling", [["-b", "x"], ["--bundle", "x"], ["--bundle=x"], ["-bundle", "x"], ["-b=x"]])
def test_a_flag_is_spelled_as_in_go(spelling: list[str]) -> None:
    parsed = parse(FLAGS, [*spelling, "id"], True)
    assert (parsed.text("bundle"), parsed.arguments, parsed.given) == ("x", ["id"], {"bundle"})


@pytest.mark.parametrize(("word", "value"), [
    ("-d", True), ("--detach", True), ("--detach=true", True), ("--detach=false", False), ("-d=0", False),
    ("-d=T", True),
])
def test_a_bool_takes_its_value_after_the_equals_sign(word: str, value: bool) -> None:
    parsed = parse(FLAGS, [word, "id"], True)
    assert parsed.flag("detach") is value and parsed.arguments == ["id"]


def test_lists_grow_and_numbers_are_numbers() -> None:
    parsed = parse(FLAGS, ["-e", "A=1", "--env=B=2", "-g", "5", "-g=6", "--count", "-3"], True)
    assert parsed.texts("env") == ["A=1", "B=2"]
    assert parsed.numbers("gid") == [5, 6] and parsed.number("count") == -3


def test_two_dashes_end_the_flags() -> None:
    assert parse(FLAGS, ["id", "--", "-d", "--nonsense"], True).arguments == ["id", "-d", "--nonsense"]


def test_flags_may_follow_arguments_unless_these_are_a_command_line() -> None:
    mixed = parse(FLAGS, ["id", "-d", "-9"], True)
    assert mixed.flag("detach") and mixed.arguments == ["id", "-9"]
    in_order = parse(FLAGS, ["-d", "id", "ls", "-d", "--", "-e"], False)
    assert in_order.arguments == ["id", "ls", "-d", "--", "-e"]


@pytest.mark.parametrize(("arguments", "words"), [
    (["--bogus"], "flag provided but not defined: -bogus"),
    (["--bundle"], "flag needs an argument: -bundle"),
    (["--detach=maybe"], 'invalid boolean value "maybe" for -detach: parse error'),
    (["--count", "x"], 'invalid value "x" for flag -count: parse error'),
    (["--count", "9" * 30], 'invalid value "' + "9" * 30 + '" for flag -count: parse error'),
    (["--count", "9" * 20], 'invalid value "' + "9" * 20 + '" for flag -count: value out of range'),
    (["---x"], "bad flag syntax: ---x"),
    (["-=x"], "bad flag syntax: -=x"),
])
def test_what_go_says_of_a_bad_flag(arguments: list[str], words: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(FLAGS, arguments, True)
    assert str(caught.value) == words


def test_help_is_a_flag_of_every_command() -> None:
    assert parse((), ["-h"], True).help and parse((), ["--help"], False).help


@pytest.mark.parametrize(("least", "most", "count", "words"), [
    (1, 1, 0, 'requires exactly 1 argument(s)'),
    (1, 1, 2, 'requires exactly 1 argument(s)'),
    (1, None, 0, 'requires a minimum of 1 argument(s)'),
    (1, 2, 3, 'requires a maximum of 2 argument(s)'),
])
def test_arguments_are_counted(least: int, most: int | None, count: int, words: str) -> None:
    with pytest.raises(UsageError, match="requires") as caught:
        check_count("runtime", Command("it", "", "", least=least, most=most), count)
    assert str(caught.value) == f'runtime: "it" {words}'


@pytest.mark.parametrize("name", sorted(MODULES))
def test_every_command_and_flag_explains_itself(name: str) -> None:
    command = main._module(name).COMMAND
    assert command.name == name and command.summary
    text = usage.command("sampan-runtime", command)
    for flag in command.flags:
        assert flag.help, f"{name} --{flag.names[0]}"
        assert flag.hidden or f"--{flag.names[0]}" in text
    assert max(map(len, text.splitlines())) <= 120


@pytest.mark.parametrize(("text", "number"), [
    ("9", 9), ("0", 0), ("TERM", 15), ("SIGTERM", 15), ("sigkill", 9), ("usr1", 10), ("RTMIN", 34), ("SIGRTMIN+3", 37),
    ("RTMAX-1", 63), ("SIGCLD", 17),
])
def test_a_signal_by_name_or_number(text: str, number: int) -> None:
    assert kill.parse_signal(text) == number


@pytest.mark.parametrize("text", ["XX", "", "-9", "65", "9x", "SIGRTMIN+99", "TERM+1", "SIG_DFL", "⑨", "99999999999"])
def test_no_such_signal(text: str) -> None:
    with pytest.raises(InvalidArgument, match="unknown signal"):
        kill.parse_signal(text)


@pytest.mark.parametrize(("text", "seconds"), [
    ("5s", 5), ("1m30s", 90), ("500ms", 0.5), ("1.5h", 5400), ("0", 0), ("-1s", -1), ("20us", 2e-5), ("1µs", 1e-6),
    ("+5s", 5), ("2562047h", 2562047 * 3600),
])
def test_a_duration_as_go_has_it(text: str, seconds: float) -> None:
    assert events.seconds(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "5", "s", "1x", "1.1.1s", "5s5", "1e9s", ".s", "-+5s", "+-5s", "2562048h"])
def test_no_duration(text: str) -> None:
    with pytest.raises(UsageError, match="invalid value"):
        events.seconds(text)


def test_the_longest_duration_is_one_that_can_be_waited_for() -> None:
    with subprocess.Popen(["true"]) as child:
        pidfd = os.pidfd_open(child.pid)
        assert list(lifecycle_events._until_end("boat", {}, events.seconds("2562047h"), pidfd, None)) == []
        os.close(pidfd)


@pytest.mark.parametrize(("text", "size"), [
    ("0", 0), ("1048576", 1 << 20), ("64m", 64 << 20), ("64M", 64 << 20), ("64MiB", 64 << 20), ("64mb", 64 << 20),
    ("1.5g", 3 << 29), ("10b", 10), ("2 k", 2048), ("1p", 1 << 50),
])
def test_a_size(text: str, size: int) -> None:
    assert quantity.size(text, "x") == size


@pytest.mark.parametrize("text", ["", "xx", "m", "1..2m", "1.m", ".5m", "-5", "5mm", "5ix", "9" * 30, "9999999t"])
def test_no_size(text: str) -> None:
    with pytest.raises(InvalidArgument, match="size"):
        quantity.size(text, "x")


def test_numbers_say_what_go_says() -> None:
    assert quantity.integer("5", "x", False) == 5 and quantity.integer("-5", "x", True) == -5
    with pytest.raises(InvalidArgument, match='parsing "-5": invalid syntax'):
        quantity.integer("-5", "x", False)
    with pytest.raises(InvalidArgument, match="value out of range"):
        quantity.integer("9" * 40, "x", True)
    largest = 2**64 - 1
    assert quantity.integer(str(largest), "x", False) == largest
    assert quantity.integer(str(2**63 - 1), "x", True) == 2**63 - 1 and quantity.integer(str(-(2**63)), "x", True) < 0
    for number, signed in ((largest + 1, False), (2**63, True), (-(2**63) - 1, True), (10**20, False)):
        with pytest.raises(InvalidArgument, match="value out of range"):
            quantity.integer(str(number), "x", signed)


def test_a_table_has_wide_columns() -> None:
    text = layout.table([["ID", "PID", "OWNER"], ["a-rather-long-id", "7", "root"]])
    assert text == "ID                 PID         OWNER\na-rather-long-id   7           root\n"


def test_json_for_people() -> None:
    value = {"a": 1, "b": {"c": ["x", {}]}, "d": [], "e": None}
    text = layout.indented(value, "  ")
    assert json.loads(text) == value
    assert text.splitlines()[:4] == ["{", '  "a": 1,', '  "b": {', '    "c": [']


@pytest.mark.parametrize(("text", "quoted"), [
    ("plain", "plain"), ("two words", '"two words"'), ('say "x"\n', '"say \\"x\\"\\n"'), ("", '""'),
    ("\x1b[0m", '"\\x1b[0m"'),
])
def test_a_log_value_is_quoted_as_logrus_does(text: str, quoted: str) -> None:
    assert log.quoted(text) == quoted


def test_a_message_as_long_as_a_config_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "log"
    messages = log.Log(str(path), "json")
    for length in (4096, 4097):
        messages.warning("x" * length)
    assert [json.loads(line)["msg"] for line in path.read_text().splitlines()] == ["x" * 4096, "x" * 4096 + "…"]


def test_a_form_that_no_log_has(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="invalid log-format: xml"):
        log.Log(str(tmp_path / "log"), "xml")
    assert list(tmp_path.iterdir()) == []


def test_ps_shows_the_containers_processes_alone() -> None:
    output = "UID   PID CMD\nroot   11 sleep 12\nroot   12 sh 11\nroot    x y\n"
    assert ps.filtered(output, {12}) == "UID   PID CMD\nroot   12 sh 11\n"
    with pytest.raises(Unsupported, match="couldn't find PID field in ps output"):
        ps.filtered("COMMAND\nsleep\n", {12})


def test_update_names_only_what_the_flags_name() -> None:
    assert update.from_flags(parse(update.COMMAND.flags, ["id"], True)) == oci.Resources()
    parsed = parse(update.COMMAND.flags, ["--memory", "64m", "--cpu-quota", "-1", "--pids-limit=7", "id"], True)
    wanted = update.from_flags(parsed)
    assert wanted.memory == oci.Memory(limit=64 << 20) and wanted.cpu == oci.CPU(quota=-1)
    assert wanted.pids == oci.Pids(limit=7) and wanted.block_io is None
    unlimited = update.from_flags(parse(update.COMMAND.flags, ["--memory", "-1", "id"], True))
    assert unlimited.memory == oci.Memory(limit=-1, swap=-1)


def test_updates_add_up() -> None:
    before = oci.Resources(memory=oci.Memory(limit=5, swap=9), unified={"a": "1"}, pids=oci.Pids(limit=3))
    wanted = oci.Resources(memory=oci.Memory(limit=6), cpu=oci.CPU(shares=2), unified={"b": "2"})
    assert updating.merge(before, wanted) == oci.Resources(
        memory=oci.Memory(limit=6, swap=9), cpu=oci.CPU(shares=2), pids=oci.Pids(limit=3), unified={"a": "1", "b": "2"}
    )


def test_what_takes_an_update_back() -> None:
    unset: dict[str, dict[str, object]] = {"memory": {"limit": -1, "swap": -1}, "cpu": {"shares": 1024, "cpus": "0-1"}}
    before = oci.Resources(
        memory=oci.Memory(limit=5, reservation=3), pids=oci.Pids(limit=3), cpu=oci.CPU(shares=0, mems="0"),
        block_io=oci.BlockIO(throttle_read_bps_device=[oci.ThrottleDevice(major=8, minor=0, rate=7)]),
    )
    wanted = oci.Resources(
        memory=oci.Memory(swap=6), cpu=oci.CPU(shares=2, cpus="1", realtime_period=5),
        block_io=oci.BlockIO(throttle_read_bps_device=[oci.ThrottleDevice(major=8, minor=16, rate=1)]),
    )
    old = updating.undoing(before, wanted, unset)
    assert old.block_io is not None
    throttles = [(each.minor, each.rate) for each in old.block_io.throttle_read_bps_device]
    assert throttles == [(16, 0), (0, 7)]  # none, then what there was
    assert (old.memory, old.cpu, old.pids) == (
        oci.Memory(limit=5, swap=-1, reservation=3), oci.CPU(shares=1024, cpus="0-1", mems="0"), None,
    )


def test_exec_changes_what_its_flags_say() -> None:
    sets = oci.Capabilities(bounding=["CAP_KILL"], effective=["CAP_KILL"], permitted=["CAP_KILL"])
    own = oci.Process(args=["x"], env=["A=1"], terminal=True, capabilities=sets, user=oci.User(uid=1, gid=2))
    words = ["-e", "B=2", "-u", "7:8", "-g", "9", "--cap", "CAP_CHOWN", "--cwd", "/tmp", "--no-new-privs"]
    process = exec_.changed(own, parse(exec_.COMMAND.flags, [*words, "id", "ls", "-l"], False))
    assert process.args == ["ls", "-l"] and process.env == ["A=1", "B=2"] and not process.terminal
    assert (process.user.uid, process.user.gid, process.user.additional_gids) == (7, 8, [9])
    assert process.capabilities is not None and process.capabilities.bounding == ["CAP_KILL", "CAP_CHOWN"]
    assert process.capabilities.ambient == [] and process.no_new_privileges and process.cwd == "/tmp"


def test_sockets_of_systemd_are_passed_on_when_they_are_for_us() -> None:
    ours = str(os.getpid())
    assert creating.listen_fds({"LISTEN_PID": ours, "LISTEN_FDS": "2"}) == 2
    for environment in (
        {}, {"LISTEN_FDS": "2"}, {"LISTEN_PID": "1", "LISTEN_FDS": "2"}, {"LISTEN_PID": ours, "LISTEN_FDS": "x"},
        {"LISTEN_PID": ours, "LISTEN_FDS": "-1"}, {"LISTEN_PID": ours, "LISTEN_FDS": "9" * 20}, {"LISTEN_PID": ours},
    ):
        assert creating.listen_fds(environment) == 0


def test_exec_chooses_cgroups_by_controller() -> None:
    assert exec_.cgroups(["a/b"]) == {"": "a/b"}
    assert exec_.cgroups(["cpu,memory:a", "b"]) == {"cpu": "a", "memory": "a", "": "b"}
    for wrong in (["a", "b"], ["cpu:a", "cpu:b"], [":a"], ["cpu,:a"]):
        with pytest.raises(InvalidArgument, match="--cgroup"):
            exec_.cgroups(wrong)


@pytest.mark.parametrize("user", ["root", "-1", "5:wheel", "4294967295", "1e3", "٣"])
def test_numeric_users_are_numbers_cve_2016_3697(user: str) -> None:
    parsed = parse(exec_.COMMAND.flags, ["-u", user, "id", "ls"], False)
    with pytest.raises(InvalidArgument, match="as int for"):
        exec_.changed(oci.Process(), parsed)


@pytest.mark.parametrize("document", [specfile.default(), specfile.rootless()])
def test_the_spec_to_begin_with_is_one(document: dict[str, object]) -> None:
    spec = bundle.decode_spec(layout.indented(document, "\t").encode())
    bundle.check(spec)
    assert spec.process is not None and spec.process.args == ["sh"]
    assert {mount.destination for mount in spec.mounts} >= {"/proc", "/dev", "/dev/pts", "/sys"}


def test_nothing_that_is_zero_is_shown_where_go_leaves_it_out() -> None:
    assert lifecycle_events._present({"a": 0, "b": 1, "c": [], "d": None}) == {"b": 1}


def test_an_error_of_the_system_is_one_line() -> None:
    assert main.in_words(OSError(2, "No such file or directory", "/x")) == "/x: no such file or directory"
    assert main.in_words(OSError(9, "Bad file descriptor")) == "bad file descriptor"


def test_rootless_takes_gos_words_for_a_bool() -> None:
    options = parse(GLOBALS, ["--rootless=true", "list"], False)
    call = Call(options, parse((), [], True), log.Log())
    assert call.rootless
    options.values["rootless"] = "maybe"
    with pytest.raises(UsageError, match="invalid boolean value"):
        assert call.rootless
    assert root_directory(parse(GLOBALS, ["--root", "/x", "list"], False), True) == "/x"


WORDS = st.lists(st.one_of(
    st.text(max_size=12),
    st.sampled_from(["-b", "--bundle", "-d", "--detach=", "--", "-", "--count", "-e", "-g", "=", "-h"]),
))


@given(WORDS, st.booleans())
def test_any_command_line_is_understood_or_refused(words: list[str], mixed: bool) -> None:
    try:
        parsed = parse(FLAGS, words, mixed)
    except UsageError as error:
        assert "\n" not in str(error) or any("\n" in word for word in words)
    else:
        assert len(parsed.arguments) <= len(words) and set(parsed.values) == {flag.names[0] for flag in FLAGS}


@given(st.text(max_size=30))
def test_any_text_is_a_value_or_refused(text: str) -> None:
    for read in (kill.parse_signal, events.seconds, lambda it: quantity.size(it, "x"), lambda it: exec_.cgroups([it])):
        try:
            read(text)  # type: ignore[operator]
        except InvalidArgument:
            pass
    json.loads(f'[{layout.indented({text: [text]}, " ")}]')
    assert "\n" not in log.quoted(text)


def test_a_process_is_as_confined_as_the_container_where_it_says_nothing() -> None:
    limit = oci.Rlimit(type="RLIMIT_CORE", soft=0, hard=0)
    own = oci.Process(
        capabilities=oci.Capabilities(bounding=["CAP_KILL"]), apparmor_profile="docker-default",
        selinux_label="system_u:object_r:container_t:s0", rlimits=[limit], no_new_privileges=True,
    )
    silent, talking = oci.Process(args=["sh"]), oci.Process(
        capabilities=oci.Capabilities(), apparmor_profile="unconfined", selinux_label="x", rlimits=[limit, limit],
    )
    exec_.confine(silent, own)
    assert (silent.capabilities, silent.apparmor_profile, silent.selinux_label, silent.rlimits) == (
        own.capabilities, own.apparmor_profile, own.selinux_label, own.rlimits)
    assert not silent.no_new_privileges and silent.args == ["sh"]
    exec_.confine(talking, own)
    assert (talking.capabilities, talking.apparmor_profile, talking.selinux_label, len(talking.rlimits)) == (
        oci.Capabilities(), "unconfined", "x", 2)
