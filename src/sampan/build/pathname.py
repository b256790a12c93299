"""Path names as texts, the way Go's `path` package treats them. Nothing here looks at a file system.

For patterns, messages and the image config; whatever reaches the kernel goes through `linux.paths` by directory fds.
"""

from __future__ import annotations


def clean(path: str) -> str:
    """The shortest name for the same place if there were no symlinks: no `.`, no `//`, `..` only at the front."""
    rooted = path.startswith("/")
    parts: list[str] = []
    for part in path.split("/"):
        if part in ("", "."):
            continue
        if part == ".." and parts and parts[-1] != "..":
            parts.pop()
        elif part != ".." or not rooted:
            parts.append(part)
    return "/" * rooted + "/".join(parts) if parts or rooted else "."


def join(*parts: str) -> str:
    """Join and clean; empty parts do not count. A later absolute part does not start over."""
    joined = "/".join(part for part in parts if part)
    return clean(joined) if joined else ""


def below(directory: str, path: str) -> str:
    """`path` seen from `directory` if it is relative, cleaned; a trailing slash stays: it means a directory."""
    slash = path.endswith("/") or path in (".", "..") or path.endswith(("/.", "/.."))
    cleaned = clean(path) if path.startswith("/") else join("/", directory, path)
    return cleaned + "/" if slash and cleaned != "/" else cleaned
