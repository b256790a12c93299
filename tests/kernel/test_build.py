"""The builder from Dockerfile to image: steps, cache, stages, messages, failures."""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from build_fixture import Built, Item, Yard, open_yard, tar
from sampan.build.options import BuildOptions
from sampan.build.progress import StepFailed, failure
from sampan.errors import NotFound, SampanError
from sampan.image.store import Garbage
from sampan.oci.image import ContainerConfig

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="overlay mounts in the first user namespace need root")


@pytest.fixture
def yard(tmp_path: Path) -> Iterator[Yard]:
    with open_yard(tmp_path) as yard:
        yard.add_busybox()
        yield yard
        assert yard.leftovers() == []


def test_messages_are_dockers(yard: Yard) -> None:
    text = "FROM busybox\nRUN echo hello\nENV a=b\n"
    built = yard.build(text, tags=("one:v1", "two"))
    short = built.image.id[7:19]
    lines = built.text.splitlines()
    assert lines[0] == "Step 1/3 : FROM busybox"
    assert lines[1] == f" ---> {yard.store.resolve('busybox').id[7:19]}"
    assert lines[2] == "Step 2/3 : RUN echo hello"
    assert lines[3].startswith(" ---> Running in ") and lines[4] == "hello"
    assert lines[5] == lines[3].replace("Running in", "Removed intermediate container")
    assert lines[7:9] == ["Step 3/3 : ENV a=b", f" ---> {short}"]
    assert lines[9:] == [f"Successfully built {short}", "Successfully tagged one:v1", "Successfully tagged two:latest"]
    assert {"aux": {"ID": built.image.id}} in built.messages
    assert built.image.names == ("one:v1", "two:latest")


def test_quiet_tells_the_id(yard: Yard) -> None:
    built = yard.build("FROM busybox\nRUN echo hello\n", quiet=True)
    assert built.text == built.image.id + "\n"


def test_config_and_history(yard: Yard) -> None:
    built = yard.build(
        'FROM scratch\nMAINTAINER me\nLABEL b="1 2" a=$X\nENV A=1 B="x y"\nENV A=2 C=$A\nARG X=arg\nLABEL x=$X\n'
        "WORKDIR /w\nWORKDIR sub\nUSER 1:2\nVOLUME /v /v2\nVOLUME [\"/v 3\"]\nEXPOSE 80 53/udp 90-91\n"
        'STOPSIGNAL sigwinch\nSHELL ["/bin/sh", "-ec"]\nCMD run me\nENTRYPOINT ["/e", "x"]\n'
        "HEALTHCHECK --interval=5s CMD a b\nONBUILD RUN x\nCOPY Dockerfile /\n",
        labels={"z": "$A", "a": "cli"},
    )
    config = built.config
    assert config.labels == {"b": "1 2", "a": "cli", "x": "arg", "z": "$A"}
    assert config.env == ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "A=2", "B=x y", "C=1"]
    assert (config.working_dir, config.user, config.stop_signal) == ("/w/sub", "1:2", "sigwinch")
    assert config.volumes == {"/v": {}, "/v2": {}, "/v 3": {}}
    assert set(config.exposed_ports or ()) == {"80/tcp", "53/udp", "90/tcp", "91/tcp"}
    assert (config.cmd, config.entrypoint) == (["/bin/sh", "-ec", "run me"], ["/e", "x"])
    assert config.shell == ["/bin/sh", "-ec"] and config.on_build == ["RUN x"]
    assert config.healthcheck is not None and config.healthcheck.test == ["CMD-SHELL", "a b"]
    assert built.image.config.author == "me"
    assert built.history[:3] == [
        ("/bin/sh -c #(nop)  MAINTAINER me", True),
        ("/bin/sh -c #(nop)  LABEL b=1 2 a=", True),
        ("/bin/sh -c #(nop)  ENV A=1 B=x y", True),
    ]
    shown = [line for line, _ in built.history]
    assert "/bin/sh -c #(nop) WORKDIR /w" in shown
    assert '/bin/sh -ec #(nop)  CMD ["/bin/sh" "-ec" "run me"]' in shown
    assert "/bin/sh -ec #(nop)  ENTRYPOINT [\"/e\" \"x\"]" in shown
    health = "/bin/sh -ec #(nop)  HEALTHCHECK &{[\"CMD-SHELL\" \"a b\"] \"5s\" \"0s\" \"0s\" \"0s\" '\\x00'}"
    assert health in shown
    assert [line for line, empty in built.history if not empty][-1].startswith("/bin/sh -ec #(nop) COPY file:")
    assert len(built.image.config.rootfs.diff_ids) == sum(not empty for _, empty in built.history)


def test_built_again_is_all_cache_and_the_same_image(yard: Yard) -> None:
    text = "FROM busybox\nARG v=1\nENV a=$v\nWORKDIR /w\nRUN echo $v > f\nCOPY d /d\nADD x /x\nCMD [\"a\"]\n"
    files = {"d/1": "1", "d/2": "2", "x": "x"}
    first = yard.build(text, files)
    start = time.monotonic()
    second = yard.build(text, files)
    assert time.monotonic() - start < 0.3
    assert second.image.id == first.image.id
    assert (first.cached, second.cached) == (0, 7)
    assert len(yard.runner.steps) == 1


def test_after_a_change_only_what_depends_on_it_is_built(yard: Yard) -> None:
    text = "FROM busybox\nCOPY a /a\nRUN true\nCOPY b /b\nRUN touch /made\n"
    yard.build(text, {"a": "1", "b": "1"})
    changed = yard.build(text, {"a": "1", "b": "2"})
    assert changed.cached == 2
    assert yard.build(text, {"a": "1", "b": "1"}).cached == 4, "what was before is still known"
    assert yard.build(text, {"a": "2", "b": "1"}).cached == 0
    assert yard.build(text, {"a": "1", "b": "1"}, no_cache=True).cached == 0


def test_what_counts_for_the_cache(yard: Yard) -> None:
    text = "FROM busybox\nCOPY --chown=0:0 a /a\n"
    yard.build(text, {"a": "1"})
    assert yard.build(text, {"a": Item(b"1", mtime=5, uid=7)}).cached == 1, "neither times nor owners"
    assert yard.build(text, {"a": Item(b"1", mode=0o755)}).cached == 0
    assert yard.build(text.replace("0:0", "1:1"), {"a": "1"}).cached == 0
    assert yard.build(text.replace(" /a", " /a/"), {"a": "1"}).cached == 0
    assert yard.build("FROM busybox\nARG v\nRUN echo hi\n", build_args={"v": "1"}).cached == 0
    assert yard.build("FROM busybox\nARG v\nRUN echo hi\n", build_args={"v": "1"}).cached == 2
    assert yard.build("FROM busybox\nARG v\nRUN echo hi\n", build_args={"v": "2"}).cached == 1
    assert yard.build("FROM busybox\nRUN echo hi\n", build_args={"http_proxy": "1"}).cached == 0
    assert yard.build("FROM busybox\nRUN echo hi\n", build_args={"http_proxy": "2"}).cached == 1


def test_arguments(yard: Yard) -> None:
    built = yard.build(
        "ARG base=busybox\nARG both=global\nFROM $base\nARG both\nARG own=default\nARG none\n"
        "ENV set=env\nARG set=arg\n"
        'RUN echo "$base|$both|$own|${none-unset}|$set|$http_proxy|$TARGETARCH"\n'
        "ARG TARGETARCH\nRUN echo $TARGETARCH\n",
        build_args={"own": "given", "http_proxy": "p", "unused": "x"},
    )
    assert "|global|given|unset|env|p|\n" in built.text
    assert yard.runner.steps[0].env[-3:] != [] and "own=given" in yard.runner.steps[0].env
    assert "[Warning] One or more build-args [unused] were not consumed\n" in built.text
    assert any(line.startswith("|2 both=global own=given /bin/sh -c echo") for line, _ in built.history)
    assert "p" not in [entry.partition("=")[2] for entry in built.config.env or []]
    assert "amd64\n" in built.text or "arm64\n" in built.text


def test_run_sees_the_config_and_keeps_its_changes(yard: Yard) -> None:
    built = yard.build(
        'FROM busybox\nENV GREETING="hello you"\nWORKDIR /w/x\nRUN echo $GREETING > out && rm /etc/group\n'
        'RUN ["/bin/touch", "exec"]\n'
        'SHELL ["/bin/sh", "-ec"]\nRUN cat out; true || touch never\n'
    )
    assert yard.read(built, "/w/x/out") == b"hello you\n"
    assert "etc/group" not in yard.listing(built) and "w/x/exec" in yard.listing(built)
    assert yard.runner.steps[1].args == ["/bin/touch", "exec"]
    assert yard.runner.steps[2].args[:2] == ["/bin/sh", "-ec"]
    assert yard.runner.steps[0].workdir == "/w/x"


def test_a_run_that_changes_nothing_makes_no_layer(yard: Yard) -> None:
    built = yard.build("FROM busybox\nRUN true\n")
    assert built.history == [("/bin/sh -c true", True)]
    assert len(built.image.layers) == 1


def test_run_heredocs(yard: Yard) -> None:
    built = yard.build(
        "FROM busybox\nRUN <<E\necho one\n  echo two > /two\nE\nRUN cat <<A > /x; cat <<-B >> /x\n$HOME a\nA\n\tb\nB\n"
    )
    assert yard.read(built, "/two") == b"two\n" and "one\n" in built.text
    assert yard.read(built, "/x").endswith(b" a\nb\n")
    assert "Step 2/3 : RUN <<E\n" in built.text


def test_a_script_with_its_own_interpreter(yard: Yard) -> None:
    """The engine binds the file; this runner has no mounts, so only what it is asked for is looked at."""
    with pytest.raises((SampanError, OSError)):
        yard.build("FROM busybox\nRUN <<E\n#!/bin/cat\nhello\nE\n")
    (step,) = yard.runner.steps
    assert step.args == ["/dev/pipes/E"] and step.files[0].target == "/dev/pipes/E"


def test_a_failed_step(yard: Yard) -> None:
    with pytest.raises(StepFailed) as caught:
        yard.build("FROM busybox\nRUN touch /kept\nRUN echo oh no; exit 7\nRUN never\n")
    message = "The command '/bin/sh -c echo oh no; exit 7' returned a non-zero code: 7"
    assert failure(caught.value) == {"errorDetail": {"code": 7, "message": message}, "error": message}
    assert "oh no\n" in "".join(str(it.get("stream", "")) for it in yard.messages)
    assert yard.build("FROM busybox\nRUN touch /kept\nRUN true").cached == 1, "finished steps stay"
    assert failure(NotFound("x")) == {"errorDetail": {"message": "x"}, "error": "x"}


def test_output_is_text_whatever_comes(yard: Yard) -> None:
    built = yard.build("FROM busybox\nRUN echo -ne 'a\\xc3'; echo -ne '\\xa9\\xff'\n")
    assert "aé\ufffd" in built.text


def test_stages_that_nobody_needs_are_left_out(yard: Yard) -> None:
    text = (
        "FROM busybox AS a\nRUN touch /a\nFROM busybox AS unused\nRUN false\nFROM a AS b\nRUN touch /b\n"
        "FROM busybox AS last\nCOPY --from=b /b /b\nFROM scratch\nCOPY Dockerfile /\n"
    )
    built = yard.build(text, target="LAST")
    assert yard.listing(built)[0] == "b" and len(yard.runner.steps) == 2
    assert "Step 6/6 : COPY --from=b /b /b" in built.text
    assert yard.listing(yard.build(text)) == ["Dockerfile"]
    assert yard.listing(yard.build(text, target="2"), "/") == sorted(yard.listing(yard.build(text, target="b")))


def test_from_an_image_alone_is_that_image(yard: Yard) -> None:
    built = yard.build("FROM busybox\n", tags=("again",))
    assert built.image.id == yard.store.resolve("busybox").id
    assert built.image.names == ("again:latest", "busybox:latest")


def test_onbuild(yard: Yard) -> None:
    yard.build("FROM busybox\nONBUILD COPY f /f\nONBUILD RUN cat /f\nONBUILD COPY <<E /g\n$v\nE\n", tags=("parent",))
    built = yard.build("FROM parent\nRUN touch /after\n", {"f": "content\n"})
    assert "# Executing 3 build triggers\n" in built.text and "content\n" in built.text
    assert {"f", "g", "after"} <= set(yard.listing(built))
    assert built.config.on_build is None
    yard.build("FROM busybox\nONBUILD COPY --from=helper /h /h\n", tags=("with-helper",))
    built = yard.build("FROM busybox AS helper\nRUN touch /h\nFROM with-helper\n")
    assert "h" in yard.listing(built)


def test_triggers_of_a_foreign_image_are_checked(yard: Yard) -> None:
    for trigger in ("FROM busybox", "ONBUILD RUN x", "RUN a\nRUN b", "NOPE", ""):
        yard.add_image("bad", {"x": ""}, ContainerConfig(on_build=[trigger]))
        with pytest.raises(SampanError):
            yard.build("FROM bad\n")


def test_entrypoint_takes_the_inherited_command_away(yard: Yard) -> None:
    yard.build("FROM busybox\nCMD [\"old\"]\n", tags=("base",))
    assert yard.build("FROM base\nENTRYPOINT [\"e\"]\n").config.cmd is None
    assert yard.build("FROM base\nCMD [\"new\"]\nENTRYPOINT [\"e\"]\n").config.cmd == ["new"]


def test_broken_layers_are_no_hits(yard: Yard) -> None:
    text = "FROM busybox\nRUN touch /x\nRUN touch /y\n"
    first = yard.build(text)
    layout = yard.store.layout
    gone = first.image.layers[1].diff_id
    yard.store.remove(first.image.id)
    taken = layout.discard(layout.layer_dir(gone))
    assert taken is not None
    layout.remove_temporary(taken)
    again = yard.build(text)
    assert again.cached == 0 and "y" in yard.listing(again)


def test_damaged_cache_entries_are_no_hits(yard: Yard) -> None:
    text = "FROM busybox\nENV a=b\nENV c=d\n"
    first = yard.build(text)
    cache = yard.root / "data/build/cache"
    one, two = sorted(cache.glob("*.json"))
    one.write_text("{")
    two.write_text(two.read_text().replace('"image_id":"sha256:', '"image_id":"sha256:00')[:-3])
    assert yard.build(text).cached == 0
    assert yard.build(text).image.id != first.image.id
    for file in cache.iterdir():
        file.write_bytes(file.read_bytes().replace(b'"a=b"', b'"a=x"'))
    assert yard.build(text).cached == 0


def sweep(yard: Yard) -> Garbage:
    garbage = yard.store.collect(yard.builder.cache.layers())
    for name in garbage.names:
        yard.store.layout.remove_temporary(name)
    return garbage


def test_collecting_keeps_what_the_cache_holds(yard: Yard) -> None:
    text = "FROM busybox\nRUN touch /x\n"
    built = yard.build(text)
    yard.store.remove(built.image.id)
    assert sweep(yard).layers == ()
    assert yard.build(text).cached == 1
    (record,) = yard.builder.cache.records()
    assert record["Description"] == "RUN touch /x" and record["UsageCount"] == 1
    yard.store.remove(yard.build(text).image.id)
    assert [step.instruction for step in yard.builder.cache.prune()] == ["RUN touch /x"]
    assert sweep(yard).layers == (built.image.layers[-1].diff_id,)
    assert yard.build(text).cached == 0


def test_prune_by_age_and_key(yard: Yard) -> None:
    yard.build("FROM busybox\nENV a=1\nENV b=1\n")
    cache = yard.builder.cache
    assert cache.prune(unused_since=time.time() - 100) == []
    first = next(cache.steps())
    assert [step.key for step in cache.prune(keys=[first.key])] == [first.key]
    assert len(cache.prune(unused_since=time.time() + 1)) == 1


def test_a_cancelled_build_leaves_nothing(yard: Yard) -> None:
    async def scenario() -> None:
        started = asyncio.Event()

        def emit(message: dict[str, object]) -> None:
            messages.append(message)
            if message == {"stream": "here\n"}:
                started.set()

        with tempfile.TemporaryFile(dir=yard.root) as file:
            file.write(tar({"Dockerfile": "FROM busybox\nRUN touch /kept\nRUN echo here; exec cat /wait\n"}))
            file.seek(0)
            task = asyncio.ensure_future(yard.builder.build(BuildOptions(), file.fileno(), emit))
            await asyncio.wait_for(started.wait(), 20)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    messages: list[dict[str, object]] = []
    yard.add_busybox("busybox", {"wait": Item(kind=b"6")})
    asyncio.run(scenario())
    assert yard.leftovers() == []
    assert yard.build("FROM busybox\nRUN touch /kept\n").cached == 1


def test_two_builds_at_once(yard: Yard) -> None:
    async def both() -> list[str]:
        with tempfile.TemporaryFile(dir=yard.root) as one, tempfile.TemporaryFile(dir=yard.root) as two:
            for file, name in ((one, "a"), (two, "b")):
                file.write(tar({"Dockerfile": f"FROM busybox\nRUN touch /same\nRUN touch /{name}\nCOPY f /\n",
                    "f": "F"}))
                file.seek(0)
            options = BuildOptions()
            ignore = list[dict[str, object]]().append
            return await asyncio.gather(*(yard.builder.build(options, it.fileno(), ignore) for it in (one, two)))

    one, two = asyncio.run(both())
    assert one != two
    assert {"a", "f", "same"} <= set(yard.listing(Built(yard.store.get(one), [])))
