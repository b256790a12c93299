"""COPY, ADD and WORKDIR on the real kernel: what lands where, whose it is, and what it looks like."""

from __future__ import annotations

import gzip
import os
import stat
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from build_fixture import Item, Link, Yard, open_yard, tar
from sampan.errors import InvalidArgument, NotFound, OutOfSpace, SampanError

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="overlay mounts in the first user namespace need root")
pytestmark = needs_root


@pytest.fixture(scope="module")
def yard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Yard]:
    with open_yard(tmp_path_factory.mktemp("build")) as yard:
        yard.add_busybox()
        yield yard
        assert yard.leftovers() == []


def test_files_go_where_they_are_named(yard: Yard) -> None:
    built = yard.build(
        "FROM scratch\nCOPY a /x\nCOPY a /dir/\nCOPY a b /two/\nWORKDIR /work\nCOPY a .\n"
        'COPY a sub/b\nCOPY ["a", "s p"]\n',
        {"a": "A", "b": "B"},
    )
    assert yard.listing(built) == [
        "dir", "dir/a", "two", "two/a", "two/b", "work", "work/a", "work/s p", "work/sub", "work/sub/b", "x",
    ]
    assert yard.read(built, "/x") == b"A"


def test_into_a_directory_that_is_there(yard: Yard) -> None:
    built = yard.build("FROM busybox\nCOPY a /tmp\nCOPY a /bin/a", {"a": "A"})
    assert yard.read(built, "/tmp/a") == yard.read(built, "/bin/a") == b"A"
    assert stat.S_IMODE(yard.stat(built, "/tmp").st_mode) == 0o1777


def test_directories_are_copied_without_themselves(yard: Yard) -> None:
    files = {"d": Item(kind=tarfile.DIRTYPE, mode=0o750), "d/x": "X", "d/e": None, "d/e/y": "Y", "z": "Z"}
    built = yard.build("FROM scratch\nCOPY d /one\nCOPY d z /two/\nCOPY . /all/\n", files)
    assert yard.listing(built, "/one") == ["e", "e/y", "x"]
    assert yard.listing(built, "/two") == ["e", "e/y", "x", "z"]
    assert yard.listing(built, "/all") == ["Dockerfile", "d", "d/e", "d/e/y", "d/x", "z"]
    assert stat.S_IMODE(yard.stat(built, "/one").st_mode) == 0o750


def test_modes_times_links_and_owners(yard: Yard) -> None:
    files = {
        "d/run": Item(b"x", mode=0o4755, uid=1000, gid=1000, mtime=1_500_000_000),
        "d/hard": Item(kind=tarfile.LNKTYPE, link="d/run"),
        "d/soft": Link("/nowhere"),
        "d/pipe": Item(kind=tarfile.FIFOTYPE, mode=0o600),
    }
    built = yard.build("FROM scratch\nCOPY d /d", files)
    run = yard.stat(built, "/d/run")
    assert (stat.S_IMODE(run.st_mode), run.st_uid, run.st_gid, run.st_mtime) == (0o4755, 0, 0, 1_500_000_000)
    assert run.st_nlink == 2 and yard.stat(built, "/d/hard").st_ino == run.st_ino
    assert stat.S_ISFIFO(yard.stat(built, "/d/pipe").st_mode)
    with yard.files(built) as root:
        assert os.readlink("d/soft", dir_fd=root) == "/nowhere"


def test_wildcards(yard: Yard) -> None:
    files = {"a.txt": "", "b.txt": "", "c.md": "", "d/e.txt": "", "l.txt": Link("c.md"), "k": Link("d"), "[x]": ""}
    built = yard.build("FROM scratch\nCOPY *.txt /one/\nCOPY ?/*.txt /two/\nCOPY [[]x] /three\n", files)
    assert yard.listing(built, "/one") == ["a.txt", "b.txt", "l.txt"]
    assert yard.listing(built, "/two") == ["e.txt"]
    assert yard.stat(built, "/three").st_size == 0


def test_a_link_as_source_is_followed(yard: Yard) -> None:
    built = yard.build("FROM scratch\nCOPY l /f\nCOPY m /d/\n", {"f": "F", "l": Link("f"), "e/x": "X", "m": Link("/e")})
    assert yard.read(built, "/f") == b"F"
    assert yard.listing(built, "/d") == ["x"]


def test_exclude(yard: Yard) -> None:
    built = yard.build("FROM scratch\nCOPY --exclude=*.o --exclude=sub/x d /d", {"d/a": "", "d/b.o": "", "d/sub/x": ""})
    assert yard.listing(built, "/d") == ["a", "sub"]


def test_dockerignore(yard: Yard) -> None:
    files = {".dockerignore": "*\n!keep\n!deep/er/y\n", "keep/a": "", "no/b": "", "deep/er/y": "", "deep/er/z": ""}
    built = yard.build("FROM scratch\nCOPY . /", files)
    assert yard.listing(built) == ["deep", "deep/er", "deep/er/y", "keep", "keep/a"]
    built = yard.build("FROM scratch\nCOPY . /",
        {"Dockerfile.dockerignore": "a\nDocker*", ".dockerignore": "*", "a": "", "b": ""})
    assert yard.listing(built) == [".dockerignore", "b"]


def test_heredocs(yard: Yard) -> None:
    text = 'FROM scratch\nENV v=1\nCOPY <<one <<-"two" /d/\na $v \\$v "\none\n\tb $v\ntwo\nCOPY <<f /g\nf\n'
    built = yard.build(text)
    assert yard.read(built, "/d/one") == b'a 1 $v "\n'
    assert yard.read(built, "/d/two") == b"b $v\n"
    assert yard.read(built, "/g") == b""
    assert stat.S_IMODE(yard.stat(built, "/g").st_mode) == 0o644


@pytest.mark.parametrize(
    ("chown", "owner"), [("1:2", (1, 2)), ("5", (5, 5)), ("www", (33, 34)), ("www:web", (33, 35)), ("0:web", (0, 35))]
)
def test_chown(yard: Yard, chown: str, owner: tuple[int, int]) -> None:
    built = yard.build(f"FROM busybox\nCOPY --chown={chown} --chmod=640 d /new/dir", {"d/f": ""})
    for path in ("/new", "/new/dir", "/new/dir/f"):
        found = yard.stat(built, path)
        assert (found.st_uid, found.st_gid) == owner, path
    assert stat.S_IMODE(found.st_mode) == 0o640
    assert f"COPY --chown={chown} dir:" in built.history[-1][0]


def test_from_a_stage_and_an_image(yard: Yard) -> None:
    built = yard.build(
        "FROM busybox AS one\nCOPY --chown=7:8 --chmod=600 a /opt/a\nFROM scratch\nFROM scratch\n"
        "COPY --from=one /opt/a /a\nCOPY --from=0 --chown=1:1 /opt /opt\nCOPY --from=busybox etc/passwd /p\n",
        {"a": "A"},
    )
    assert yard.listing(built) == ["a", "opt", "opt/a", "p"]
    assert (yard.stat(built, "/a").st_uid, yard.stat(built, "/opt/a").st_uid) == (7, 1)
    assert stat.S_IMODE(yard.stat(built, "/a").st_mode) == 0o600


def test_add_unpacks_local_archives(yard: Yard) -> None:
    inner = tar({"d/f": Item(b"F", uid=9, gid=9, mode=0o600), "l": Link("d/f")})
    files = {"a.tar.gz": gzip.compress(inner), "plain": inner, "b.tar.gz": "no archive", "empty": ""}
    built = yard.build("FROM scratch\nADD a.tar.gz /gz/\nADD plain /plain\nADD b.tar.gz empty /x/\nCOPY a.tar.gz /",
        files)
    assert yard.listing(built) == [
        "a.tar.gz", "gz", "gz/d", "gz/d/f", "gz/l", "plain", "plain/d", "plain/d/f", "plain/l", "x", "x/b.tar.gz",
        "x/empty",
    ]
    assert yard.stat(built, "/gz/d/f").st_uid == 9
    built = yard.build("FROM scratch\nADD --chown=3:3 plain /p\nADD --unpack=false plain /", files)
    assert yard.stat(built, "/p/d/f").st_uid == 3
    assert yard.read(built, "/plain") == inner


def test_links_of_the_image_are_followed_inside_it(yard: Yard) -> None:
    more = {"usr/lib": None, "usr/lib/old": "", "lib": Link("usr/lib"), "abs": Link("/usr/lib"),
        "etc/conf": Link("../usr/conf"),
            "dangling": Link("/usr/made")}
    yard.add_busybox("linked", more)
    files = {"root/lib": Item(kind=tarfile.DIRTYPE, mode=0o700), "root/lib/new": "N", "f": "F"}
    built = yard.build("FROM linked\nCOPY root/ /\nCOPY f /abs/\nCOPY f /etc/conf\nCOPY f /dangling/", files)
    assert yard.listing(built, "/usr") == ["conf", "lib", "lib/f", "lib/new", "lib/old", "made", "made/f"]
    assert stat.S_ISLNK(yard.stat(built, "/lib").st_mode)
    assert stat.S_IMODE(yard.stat(built, "/usr/lib").st_mode) == 0o755
    assert stat.S_ISLNK(yard.stat(built, "/etc/conf").st_mode)


def test_what_is_in_the_way(yard: Yard) -> None:
    files = {"d/etc": "a file", "e/etc/passwd/x": "", "f": "F"}
    with pytest.raises(InvalidArgument, match="COPY failed: cannot replace the directory /etc with a file"):
        yard.build("FROM busybox\nCOPY d /", files)
    with pytest.raises(InvalidArgument, match="COPY failed: cannot copy to non-directory: /etc/passwd"):
        yard.build("FROM busybox\nCOPY e /", files)
    with pytest.raises(InvalidArgument, match="COPY failed: cannot copy to non-directory: /etc/passwd"):
        yard.build("FROM busybox\nCOPY f /etc/passwd/", files)
    with pytest.raises(InvalidArgument, match="Cannot mkdir: /etc/passwd is not a directory"):
        yard.build("FROM busybox\nWORKDIR /etc/passwd", files)


@pytest.mark.parametrize(
    ("instruction", "message"),
    [
        ("COPY x /",
        "COPY failed: file not found in build context or excluded by .dockerignore: stat x: file does not exist"),
        ("ADD d/x /", "ADD failed: file not found in build context"),
        ("COPY ign /", "COPY failed: file not found in build context or excluded by .dockerignore: stat ign: "),
        ("COPY via /", "COPY failed: file not found in build context or excluded by .dockerignore: stat via: "),
        ("COPY *.nope /", "COPY failed: no source files were specified"),
        ("COPY a d /x",
        "When using COPY with more than one source file, the destination must be a directory and end with a /"),
        ("COPY ../x /", r"COPY failed: forbidden path outside the build context: ../x \(\)"),
        ("COPY [a /", "COPY failed: syntax error in pattern"),
        ("COPY --from=nope a /", "invalid from flag value nope: No such image: nope:latest"),
        ("COPY --from=0 a /", "invalid from flag value 0: refers to current build stage"),
        ("COPY --from=7 a /", "invalid from flag value 7: index out of bounds"),
        ("COPY --from=busybox nope /", "COPY failed: stat nope: file does not exist"),
        ("COPY --from=busybox bin/busybox/x /", "COPY failed: stat bin/busybox/x: file does not exist"),
        ("COPY --chown=nobody a /", "can't find uid for user nobody: no such user: nobody"),
        ("COPY --chown=0:nobody a /", "can't find gid for group nobody: no such group: nobody"),
        ("COPY --chown=4294967296 a /", "uids and gids must be in range"),
        ("COPY --chown=: a /", "invalid chown string"),
        ("COPY --chmod=u+x a /", "invalid value for --chmod"),
        ("ADD https://example.com/x /", "ADD failed: https://example.com/x is remote, which is not supported yet"),
        ("ADD --checksum=sha256:00 a /", "ADD --checksum is for remote sources only"),
        ("COPY a $nope", "it is empty after expansion"),
        ("COPY pipe /", "COPY failed: pipe is neither a file nor a directory"),
        ("WORKDIR $nope", "it is empty after expansion"),
        ("ENV a=${", "dockerfile parse error on Dockerfile:2: syntax error: missing '}'"),
        ("EXPOSE 99999", "invalid containerPort: 99999"),
        ("EXPOSE 1/xyz", "invalid proto: xyz"),
        ("STOPSIGNAL SIGNOPE", "invalid signal: SIGNOPE"),
        ("VOLUME /a/..", "destination can't be '/'"),
        ("VOLUME relative", "mount path must be absolute"),
    ],
)
def test_errors(yard: Yard, instruction: str, message: str) -> None:
    files = {"a": "A", "d/f": "", "ign": "", ".dockerignore": "ign", "via": Link("ign"),
        "pipe": Item(kind=tarfile.FIFOTYPE)}
    with pytest.raises(SampanError, match=message):
        yard.build("FROM busybox\n" + instruction, files)


@pytest.mark.parametrize(
    ("dockerfile", "options", "message"),
    [
        ("FROM nope\n", {}, "No such image: nope:latest, which Dockerfile:1 builds FROM"),
        ("ARG e\nFROM $e\n", {}, r"base name \(\$e\) should not be blank"),
        ("FROM scratch\n", {}, "No image was generated. Is your Dockerfile empty?"),
        ("FROM busybox\n", {"target": "nope"}, 'target stage "nope" could not be found'),
        ("FROM --platform=windows/amd64 busybox\n", {}, "cannot build for the platform windows/amd64"),
        ("FROM busybox\n", {"platform": "linux/s390x"}, "cannot build for the platform linux/s390x"),
        ("FROM busybox\n", {"squash": True}, "--squash is not supported"),
        ("FROM busybox\n", {"pull": True}, "--pull is not supported yet"),
        ("FROM busybox\n", {"dockerfile": "Other"}, "Cannot locate specified Dockerfile: Other"),
        ("FROM busybox\n", {"dockerfile": "../Dockerfile"}, "must be within the build context"),
        ("FROM busybox\n", {"dockerfile": "."}, "the Dockerfile . cannot be read: not a regular file"),
        ("FROM busybox\n", {"tags": ("UPPER",)}, "must be lowercase"),
        ("", {}, "dockerfile parse error on Dockerfile:1: file with no instructions"),
    ],
)
def test_builds_that_cannot_be(yard: Yard, dockerfile: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(SampanError, match=message):
        yard.build(dockerfile, **options)
    assert yard.leftovers() == []


def test_broken_contexts(yard: Yard) -> None:
    whole = tar({"Dockerfile": "FROM busybox\n", "big": "x" * 5000})
    for data in (b"no tar at all" * 100, whole[:3000], gzip.compress(whole)[:-30]):
        with pytest.raises(InvalidArgument, match="cannot read the build context: "):
            yard.build_tar(data)
    with pytest.raises(InvalidArgument, match="Cannot locate specified Dockerfile"):
        yard.build_tar(b"")
    assert yard.leftovers() == []


def test_a_directory_as_context(yard: Yard, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM scratch\nCOPY . /\n")
    (tmp_path / ".dockerignore").write_text("secret\nDockerfile\n.dockerignore\n")
    (tmp_path / "secret").write_text("s")
    (tmp_path / "public").write_text("p")
    (tmp_path / "link").symlink_to("secret")
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        built = yard.build_fd(fd)
    finally:
        os.close(fd)
    assert yard.listing(built) == ["link", "public"]
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [".dockerignore", "Dockerfile", "link", "public",
        "secret"]


def test_a_missing_image_is_not_found(yard: Yard) -> None:
    with pytest.raises(NotFound):
        yard.build("FROM nope")


def test_link_does_not_look_at_the_image(yard: Yard) -> None:
    yard.add_busybox("linked2", {"usr/x": None, "x": Link("usr/x")})
    built = yard.build("FROM linked2\nCOPY --link --chown=www a /x/", {"a": "A"})
    assert stat.S_ISDIR(yard.stat(built, "/x").st_mode)
    assert (yard.stat(built, "/x/a").st_uid, yard.stat(built, "/x/a").st_gid) == (33, 34)


def test_disk_full(tmp_path: Path) -> None:
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    root = tmp_path / "small"
    root.mkdir()
    assert libc.mount(b"tmpfs", os.fsencode(root), b"tmpfs", 0, b"size=8m") == 0
    try:
        with open_yard(root) as yard:
            files = {"big": os.urandom(3 << 20)}
            with pytest.raises(OutOfSpace, match="no space left on device"):
                yard.build("FROM scratch\nCOPY big /1\nCOPY big /2\nCOPY big /3\n", files)
            assert yard.leftovers() == []
            small = yard.build("FROM scratch\nCOPY Dockerfile /", {})
            assert yard.listing(small) == ["Dockerfile"]
    finally:
        libc.umount2(os.fsencode(root), 2)
