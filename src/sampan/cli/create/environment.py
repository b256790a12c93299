"""--env, --env-file, --label, --label-file."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

from sampan.cli.failure import CommandFailed

LINE_LIMIT = 64 << 10


def check_env(text: str) -> str:
    """NAME=VALUE or NAME (taken from the environment). Raises ValueError."""
    if not text.partition("=")[0]:
        raise ValueError(f"invalid environment variable: {text}")
    return text


def check_label(text: str) -> str:
    """NAME=VALUE or NAME. Raises ValueError."""
    if not text.partition("=")[0].strip():
        raise ValueError(f"invalid label '{text}': empty name")
    return text


def from_environment(text: str) -> str:
    """NAME alone becomes NAME=VALUE of our own environment; it stays as it is when it is not set there."""
    return f"{text}={os.environ[text]}" if "=" not in text and text in os.environ else text


def _lines(path: str) -> Iterator[tuple[int, str]]:
    """The lines of a file that say something, with their numbers. Raises CommandFailed."""
    try:
        with open(path, encoding="utf-8-sig") as file:
            for number, line in enumerate(file, 1):
                if len(line) > LINE_LIMIT:
                    raise CommandFailed(f"{path}:{number}: line is longer than {LINE_LIMIT} characters", 125)
                stripped = line.rstrip("\r\n").lstrip()
                if stripped and not stripped.startswith("#"):
                    yield number, stripped
    except UnicodeDecodeError:
        raise CommandFailed(f"{path}: contains bytes that are not UTF-8", 125) from None
    except OSError as error:
        raise CommandFailed(f"open {path}: {(error.strerror or str(error)).lower()}", 125) from None


def _checked_lines(path: str, what: str) -> list[str]:
    result = []
    for number, line in _lines(path):
        name = line.partition("=")[0]
        if not name:
            raise CommandFailed(f"{path}:{number}: no {what} name on line '{line}'", 125)
        if any(character.isspace() for character in name):
            raise CommandFailed(f"{path}:{number}: {what} '{name}' contains whitespaces", 125)
        text = from_environment(line)
        if "=" in text:
            result.append(text)
    return result


def environment(texts: Sequence[str], files: Sequence[str]) -> list[str]:
    """The Env list: files first, then options; later ones win in the engine. Raises CommandFailed.

    A bare NAME of an option that is not set here goes to the engine, which then takes NAME out of the image's
    environment; in a file it means nothing.
    """
    lines = [line for path in files for line in _checked_lines(path, "variable")]
    return [*lines, *(from_environment(text) for text in texts)]


def labels(texts: Sequence[str], files: Sequence[str]) -> dict[str, str]:
    """The Labels map. Raises CommandFailed."""
    lines = [line for path in files for line in _checked_lines(path, "label")]
    return {name: value for name, _, value in (text.partition("=") for text in [*lines, *texts])}


def key_values(texts: Sequence[str]) -> dict[str, str]:
    """`a=b` and `a` as a map."""
    return {name: value for name, _, value in (text.partition("=") for text in texts)}
