"""What a container inherits of the process that runs the engine: nothing."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from engine_fixture import Engine, engine

SECRET = "SAMPAN_TEST_TOKEN"


@pytest.fixture(scope="module")
def boat() -> Iterator[Engine]:
    """Started as by `TOKEN=… nohup sampan serve &`."""
    ignored = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1)
    before = [signal.signal(number, signal.SIG_IGN) for number in ignored]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(SECRET, "hunter2")
        try:
            with engine() as made:
                yield made
        finally:
            for number, handler in zip(ignored, before, strict=True):
                signal.signal(number, handler)


def test_cve_2021_3602_process_1_of_init_shows_no_environment_of_the_engine(boat: Engine) -> None:
    seen = boat.docker(
        "run", "--rm", "--init", "--cap-add", "SYS_PTRACE", "busybox", "sh", "-c",
        "cat /proc/1/comm; cat /proc/*/environ",
    ).stdout
    assert seen.startswith("sampan-init\n") and SECRET not in seen


@pytest.mark.parametrize("how", ["run", "init", "exec"])
def test_no_ignored_signal_of_the_engine_is_inherited(boat: Engine, how: str) -> None:
    show = ("grep", "Sig[BI]", "/proc/self/status")
    if how == "exec":
        id = boat.run("sleep", "1000")
        seen = boat.docker("exec", id, *show).stdout
        boat.docker("rm", "-f", id)
    else:
        seen = boat.docker("run", "--rm", f"--init={str(how == 'init').lower()}", "busybox", *show).stdout
    assert seen == f"SigBlk:\t{0:016x}\nSigIgn:\t{0:016x}\n"
