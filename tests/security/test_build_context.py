"""Attacks on the builder: a context, an archive, a Dockerfile or a base image that wants out of its place."""

from __future__ import annotations

import gzip
import os
import stat
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from build_fixture import Item, Link, Yard, open_yard, tar
from sampan.errors import InvalidArgument, SampanError
from sampan.image.layout import LayerRef
from sampan.oci.image import ContainerConfig, ImageConfig

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="overlay mounts in the first user namespace need root")


@pytest.fixture(scope="module")
def yard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Yard]:
    with open_yard(tmp_path_factory.mktemp("attack")) as yard:
        yard.add_busybox()
        yield yard
        assert yard.leftovers() == []


@pytest.fixture
def victim(tmp_path: Path) -> Iterator[Path]:
    """A directory of the host; nothing in it may be read or changed."""
    (tmp_path / "secret").write_text("the host's secret")
    yield tmp_path
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["secret"]
    assert (tmp_path / "secret").read_text() == "the host's secret"


def test_symlinks_of_the_context_stay_in_it(yard: Yard, victim: Path) -> None:
    files = {
        "abs": Link(str(victim / "secret")), "up": Link("../../../../../../../" + str(victim / "secret")),
        "dir": Link(str(victim)),
        "p": Link("/proc/self/root"),
    }
    for source in ("abs", "up", "dir/secret", "p/etc/hostname", "dir"):
        with pytest.raises(InvalidArgument, match="file not found in build context"):
            yard.build(f"FROM scratch\nCOPY {source} /x", files)
    inside = {**files, str(victim)[1:] + "/secret": "the context's"}
    built = yard.build("FROM scratch\nCOPY abs /a\nCOPY up /b\nCOPY dir /c/", inside)
    assert {yard.read(built, name) for name in ("/a", "/b", "/c/secret")} == {b"the context's"}


def test_sources_above_the_context(yard: Yard, victim: Path) -> None:
    for up in ("../../../..", "/../../../..", "a/../../../../.."):
        with pytest.raises(InvalidArgument, match="forbidden path outside the build context"):
            yard.build(f"FROM scratch\nCOPY {up}{victim}/secret /x", {})
    with pytest.raises(InvalidArgument, match="no source files were specified"):
        yard.build(f"FROM scratch\nCOPY /*{victim}/secre? /x", {})


@pytest.mark.parametrize(
    "entries",
    [
        {"../escaped": "x"}, {"a/../../escaped": "x"}, {"l": Link("/"), "l/escaped": "x"},
        {"l": Link("../../.."), "l/escaped": "x"}, {".": Link("/tmp")},
    ],
)
def test_hostile_context_archives_cve_2014_6407_2021_29136(yard: Yard, victim: Path,
    entries: dict[str, object]) -> None:
    try:
        built = yard.build("FROM scratch\nCOPY . /", entries)  # type: ignore[arg-type]
    except InvalidArgument:
        return
    assert "escaped" in yard.listing(built)[1]


@pytest.mark.parametrize("place", ["{victim}", "../../../../../../../..{victim}"])
def test_hostile_archives_of_add_cve_2014_6407_2024_26_17106(yard: Yard, victim: Path, place: str) -> None:
    target = place.format(victim=victim)
    inner = tar({
        "l": Link(target), "l/planted": "x", "l/secret": "overwritten",
        "hard": Item(kind=tarfile.LNKTYPE, link="l/secret"),
    })
    try:
        built = yard.build("FROM busybox\nADD a.tar.gz /x/y/", {"a.tar.gz": gzip.compress(inner)})
    except InvalidArgument:
        return
    assert any(name.endswith("planted") for name in yard.listing(built))


def test_a_link_left_by_an_archive_leads_nowhere_cve_2026_44517(yard: Yard, victim: Path) -> None:
    """ADD leaves a symlink to the host, the next COPY writes through it: into the image."""
    inner = tar({"out": Link(str(victim)), "file": Link(str(victim / "secret"))})
    built = yard.build("FROM scratch\nADD a.tar /\nCOPY f /out/planted\nCOPY f /file\n", {"a.tar": inner, "f": "mine"})
    assert yard.read(built, f"{victim}/planted") == yard.read(built, f"{victim}/secret") == b"mine"


def test_dockerfile_as_a_link(yard: Yard, victim: Path) -> None:
    (victim / "secret").write_text("FROM busybox\n")
    with pytest.raises(InvalidArgument, match="Cannot locate specified Dockerfile"):
        yard.build_tar(tar({"Dockerfile": Link(str(victim / "secret"))}))
    (victim / "secret").write_text("the host's secret")
    for kind in (tarfile.FIFOTYPE, tarfile.CHRTYPE):
        with pytest.raises(InvalidArgument, match="the Dockerfile Dockerfile cannot be read: not a regular file"):
            yard.build_tar(tar({"Dockerfile": Item(kind=kind, device=(1, 5))}))


def test_dockerignore_as_a_link_cve_2022_4122(yard: Yard, victim: Path,
    tmp_path_factory: pytest.TempPathFactory) -> None:
    for target in (str(victim / "secret"), "plain"):
        with pytest.raises(InvalidArgument, match=r".dockerignore is a symbolic link"):
            yard.build("FROM scratch\nCOPY . /", {".dockerignore": Link(target), "plain": "x"})
    context = tmp_path_factory.mktemp("context")
    (context / "Dockerfile").write_text("FROM scratch\nCOPY . /")
    (context / ".dockerignore").symlink_to(victim / "secret")
    fd = os.open(context, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with pytest.raises(InvalidArgument, match=r".dockerignore is a symbolic link"):
            yard.build_fd(fd)
    finally:
        os.close(fd)


def test_devices_are_never_read(yard: Yard) -> None:
    """/dev/zero would never end, a FIFO never begin."""
    files = {"d/zero": Item(kind=tarfile.CHRTYPE, device=(1, 5)), "d/pipe": Item(kind=tarfile.FIFOTYPE),
        "l": Link("d/zero")}
    built = yard.build("FROM scratch\nCOPY d /d", files)
    assert stat.S_ISCHR(yard.stat(built, "/d/zero").st_mode) and yard.stat(built, "/d/zero").st_rdev == os.makedev(1, 5)
    for source in ("d/zero", "l", "d/pipe"):
        with pytest.raises(InvalidArgument, match="is neither a file nor a directory"):
            yard.build(f"FROM scratch\nCOPY {source} /x", files)


@pytest.mark.parametrize("target", ["/proc/self/fd/5", "/proc/self/root/tmp", "../../../../../..{victim}/new"])
def test_workdir_through_links_cve_2024_21626_2026_55686(yard: Yard, victim: Path, target: str) -> None:
    yard.add_busybox("trap", {"w": Link(target.format(victim=victim))})
    built = yard.build("FROM trap\nWORKDIR /w/deep\nCOPY f here\n", {"f": "F"})
    inside = target.format(victim=victim).replace("../", "")
    assert yard.read(built, f"{inside}/deep/here") == b"F"


def test_destinations_through_links_of_the_image(yard: Yard, victim: Path) -> None:
    up = "../" * 9
    yard.add_busybox("trap2",
        {"a": Link(str(victim)), "b": Link(f"{up}{victim}/secret"), "c/d": Link(str(victim / "secret"))})
    built = yard.build("FROM trap2\nCOPY f /a/secret\nCOPY t /c/\nCOPY f /../..//a/other\n",
        {"f": "mine", "t/d": "mine"})
    assert yard.read(built, f"{victim}/secret") == yard.read(built, f"{victim}/other") == b"mine"
    assert not stat.S_ISLNK(yard.stat(built, "/c/d").st_mode)
    built = yard.build("FROM trap2\nCOPY f /b\n", {"f": "mine"})
    assert yard.read(built, f"{victim}/secret") == b"mine"


def test_link_loops_end(yard: Yard) -> None:
    yard.add_busybox("loop", {"a": Link("b"), "b": Link("a")})
    for instruction in ("COPY f /a/x", "COPY f /a", "WORKDIR /a/x", "COPY --from=loop a /x"):
        with pytest.raises(InvalidArgument):
            yard.build(f"FROM loop\n{instruction}", {"f": "F"})


def test_layers_of_a_stage_are_not_written(yard: Yard) -> None:
    """COPY over files of the base image changes the new layer only."""
    before = yard.build("FROM busybox\n")
    yard.build("FROM busybox\nCOPY f /etc/passwd\nRUN rm -r /etc\n", {"f": "changed"})
    assert yard.read(before, "/etc/passwd").startswith(b"root:")


def test_from_another_image_stays_in_it(yard: Yard, victim: Path) -> None:
    yard.add_image("leaky", {"l": Link(str(victim)), "m": Link("../../../.." + str(victim / "secret"))})
    for source in ("l/secret", "m", f"../../..{victim}/secret"):
        with pytest.raises(InvalidArgument, match="file does not exist"):
            yard.build(f"FROM scratch\nCOPY --from=leaky {source} /x")


def test_numeric_owners_are_numbers_cve_2016_3697_2026_46680(yard: Yard) -> None:
    passwd = "1000:x:0:0::/:/bin/sh\nroot2:x:4294967296:0::/:\nneg:x:-1:0::/:\n"
    yard.add_busybox("names", {"etc/passwd": passwd, "etc/group": "1000:x:0:\n"})
    built = yard.build("FROM names\nCOPY --chown=1000:1000 f /f", {"f": ""})
    assert (yard.stat(built, "/f").st_uid, yard.stat(built, "/f").st_gid) == (1000, 1000)
    with pytest.raises(InvalidArgument, match="must be in range"):
        yard.build("FROM names\nCOPY --chown=root2 f /f", {"f": ""})
    with pytest.raises(InvalidArgument, match="no such user: neg"):
        yard.build("FROM names\nCOPY --chown=neg f /f", {"f": ""})


def test_passwd_that_is_no_file_cve_2024_9676_2026_46680(yard: Yard) -> None:
    for name, item in {
        "fifo": Item(kind=tarfile.FIFOTYPE), "zero": Item(kind=tarfile.CHRTYPE, device=(1, 5)),
        "giant": Item(b"#" * (11 << 20)),
    }.items():
        yard.add_image(name, {"etc/passwd": item})
        with pytest.raises(InvalidArgument, match="/etc/passwd of the image cannot be read"):
            yard.build(f"FROM {name}\nCOPY --chown=www f /f", {"f": ""})
    yard.add_image("outside", {"etc/passwd": Link("/etc/shadow")})
    with pytest.raises(InvalidArgument, match="no such user: root"):
        yard.build("FROM outside\nCOPY --chown=root f /f", {"f": ""})


def test_a_loaded_image_is_no_cache_cve_2024_24557(yard: Yard) -> None:
    """An image that claims to come from the same base by the same step is not taken for that step's result."""
    base = yard.store.resolve("busybox")
    poison = yard.add_image("poison", {"pwned": "x"})
    forged = ImageConfig(
        os="linux", architecture=base.config.architecture, created="2020-01-01T00:00:00Z",
        config=ContainerConfig(env=["PATH=/bin"], cmd=["/bin/sh", "-c", "touch /safe"]),
        history=[*(base.config.history or [])],
    )
    layers: list[LayerRef] = [*base.layers, *poison.layers]
    yard.store.register(forged, layers, ["forged"], parent=base.id)
    built = yard.build("FROM busybox\nRUN touch /safe\n")
    assert built.cached == 0 and "pwned" not in yard.listing(built)
    assert yard.build("FROM scratch\nCOPY f /\n", {"f": ""}).cached == 0


def test_names_that_mean_deletion(yard: Yard) -> None:
    """A file called .wh.x would delete x when the layer is unpacked elsewhere."""
    with pytest.raises(SampanError, match="cannot be part of an image"):
        yard.build("FROM busybox\nCOPY d /", {"d/.wh.bin": ""})


def test_overlay_attributes_of_a_context_do_not_count(yard: Yard) -> None:
    data = tar({"Dockerfile": "FROM busybox\nCOPY d /etc/\n", "d": None, "d/f": ""})
    import io

    out = io.BytesIO()
    with tarfile.open(fileobj=io.BytesIO(data)) as old, tarfile.open(fileobj=out, mode="w",
        format=tarfile.PAX_FORMAT) as new:
        for member in old:
            if member.name == "d":
                member.pax_headers = {"SCHILY.xattr.trusted.overlay.opaque": "y", "SCHILY.xattr.user.mine": "kept"}
            new.addfile(member, old.extractfile(member) if member.isfile() else None)
    built = yard.build_tar(out.getvalue())
    assert yard.read(built, "/etc/passwd").startswith(b"root:")


def test_labels_and_triggers_do_not_reach_the_host(yard: Yard) -> None:
    """What an image says about itself is data: an ONBUILD trigger is bound by the same rules as a line of the file."""
    yard.add_image("trigger", {"x": ""}, ContainerConfig(on_build=["COPY ../../etc/shadow /x"]))
    with pytest.raises(InvalidArgument, match="forbidden path outside the build context"):
        yard.build("FROM trigger\n")


def test_a_deep_context(yard: Yard) -> None:
    """Deeper than the number of files a process may have open."""
    deep = "/".join(["d"] * 1500)
    built = yard.build("FROM scratch\nCOPY d /d\n", {deep: None, deep + "/f": "F"})
    assert yard.read(built, "/" + deep + "/f") == b"F"
