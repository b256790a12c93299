"""Names of images as Docker knows them: `[domain/]path[:tag][@digest]`.

The grammar is that of the distribution project's reference package. It is checked with expressions that cannot
backtrack, on a name whose length was bounded before.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from sampan.errors import InvalidArgument

DEFAULT_DOMAIN = "docker.io"
_MAX_NAME = 255
_MAX_REFERENCE = 1024
_LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
_DOMAIN = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?", re.ASCII)
_COMPONENT = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_ID = re.compile(r"[0-9a-f]{64}")
_ID_PREFIX = re.compile(r"(?:sha256:)?[0-9a-f]{1,64}")


@dataclass(frozen=True)
class Reference:
    """A parsed name. `path` is the repository below the domain ("library/busybox"); `tag` and `digest` may be ""."""

    domain: str
    path: str
    tag: str = ""
    digest: str = ""

    @property
    def repository(self) -> str:
        """Domain and path: "docker.io/library/busybox"."""
        return f"{self.domain}/{self.path}"

    @property
    def familiar_repository(self) -> str:
        """The repository as Docker prints it: "busybox"."""
        if self.domain != DEFAULT_DOMAIN:
            return self.repository
        short = self.path.removeprefix("library/")
        return self.path if "/" in short else short

    @property
    def familiar(self) -> str:
        """The name as Docker prints it: "busybox:latest"."""
        return self.familiar_repository + self._suffix

    def __str__(self) -> str:
        return self.repository + self._suffix

    @property
    def _suffix(self) -> str:
        return (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")

    def tagged(self) -> Reference:
        """With tag `latest` if it has neither tag nor digest."""
        if self.tag or self.digest:
            return self
        return Reference(self.domain, self.path, "latest")


def parse(text: str) -> Reference:
    """A name as a user writes it, completed by Docker's defaults (domain docker.io, path library/…), the tag is not.

    Raises InvalidArgument with Docker's wording.
    """
    if not text:
        raise InvalidArgument("repository name must have at least one component")
    if len(text) > _MAX_REFERENCE:
        raise InvalidArgument(_INVALID)
    if _ID.fullmatch(text):
        raise InvalidArgument(f"invalid repository name ({text}), cannot specify 64-byte hexadecimal strings")
    name, at, digest = text.partition("@")
    if at and not _DIGEST.fullmatch(digest):
        raise InvalidArgument(_INVALID if ":" not in digest else _digest_error(digest))
    domain, rest = _split_domain(name)
    path, colon, tag = rest.partition(":")
    if colon and not _TAG.fullmatch(tag):
        raise InvalidArgument(_INVALID)
    if path != path.lower():
        raise InvalidArgument(f"{_INVALID}: repository name ({path}) must be lowercase")
    if not _DOMAIN.fullmatch(domain) or not all(_COMPONENT.fullmatch(part) for part in path.split("/")):
        raise InvalidArgument(_INVALID)
    if len(domain) + 1 + len(path) > _MAX_NAME:
        raise InvalidArgument(f"repository name must not be more than {_MAX_NAME} characters")
    return Reference(domain, path, tag, digest)


_INVALID = "invalid reference format"


def _digest_error(digest: str) -> str:
    algorithm = digest.partition(":")[0]
    return "invalid checksum digest length" if algorithm == "sha256" else "unsupported digest algorithm"


def _split_domain(name: str) -> tuple[str, str]:
    first, slash, rest = name.partition("/")
    is_domain = "." in first or ":" in first or first == "localhost" or first != first.lower()
    if not slash or not is_domain:
        first, rest = DEFAULT_DOMAIN, name
    if first == "index.docker.io":
        first = DEFAULT_DOMAIN
    if first == DEFAULT_DOMAIN and "/" not in rest:
        rest = "library/" + rest
    return first, rest


def parse_tag(text: str) -> Reference:
    """A name to give to an image: completed with `latest`; a digest cannot be given."""
    reference = parse(text)
    if reference.digest:
        raise InvalidArgument("refusing to create a tag with a digest reference")
    return reference.tagged()


def is_tag(text: str) -> bool:
    """May `text` stand behind the colon?"""
    return _TAG.fullmatch(text) is not None


def id_prefix(text: str) -> str:
    """The hex digits if `text` can be an image id or the start of one (`sha256:` or not), else ""."""
    return text.removeprefix("sha256:") if _ID_PREFIX.fullmatch(text) else ""
