"""examples/httpd is complete as it lies there: the archive holds the pages beside it, the Dockerfile what it claims."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

from sampan.build import dockerfile, grammar, ignore
from sampan.build.instruction import Cmd, Copy

HTTPD = Path(__file__).parents[2] / "examples" / "httpd"


def test_the_archive_is_the_pages() -> None:
    """After a change of pages/: examples/httpd/pack."""
    with tarfile.open(fileobj=io.BytesIO((HTTPD / "pages.tar.gz").read_bytes())) as archive:
        packed = {}
        for member in archive:
            content = archive.extractfile(member)
            assert content is not None and (member.mode, member.uid, member.gid, member.mtime) == (0o644, 0, 0, 0)
            packed[member.name] = content.read()
    assert packed == {page.name: page.read_bytes() for page in (HTTPD / "pages").iterdir()}


def test_every_source_is_there() -> None:
    plan = grammar.plan(dockerfile.parse((HTTPD / "Dockerfile").read_bytes()))
    (stage,) = plan.stages
    excluded = ignore.Ignore(ignore.parse((HTTPD / ".dockerignore").read_bytes()))
    sources = [source for it in stage.instructions if isinstance(it, Copy) for source in it.sources]
    assert len(sources) == 3
    for source in sources:
        assert (HTTPD / source).is_file() and not excluded.excludes(source)
    assert isinstance(stage.instructions[-1], Cmd) and stage.instructions[-1].exec
