"""Cgroups for the tests of linux/cgroup: `host` is where they are, `make_group` makes and removes them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from tests import cgroup_fixture

from sampan.linux.cgroup import Group, Host


@pytest.fixture
def host() -> Host:
    return cgroup_fixture.host()


@pytest.fixture
def make_group() -> Iterator[Callable[..., Group]]:
    with cgroup_fixture.groups() as create:
        yield create
