"""--security-opt and --userns, --pid…: what the command does before the engine sees them."""

from __future__ import annotations

import json
from collections.abc import Sequence

from sampan.cli.failure import CommandFailed

PROFILE_LIMIT = 1 << 20
BUILT_IN = ("unconfined", "builtin")


def security_options(texts: Sequence[str]) -> tuple[list[str] | None, list[str] | None, list[str] | None]:
    """SecurityOpt, MaskedPaths, ReadonlyPaths.

    A seccomp profile's file becomes its content, as the engine may not see the file; `systempaths=unconfined` becomes
    empty path lists. Raises CommandFailed.
    """
    result: list[str] = []
    masked: list[str] | None = None
    readonly: list[str] | None = None
    for text in texts:
        if text == "systempaths=unconfined":
            masked, readonly = [], []
            continue
        separator = "=" if "=" in text else ":"
        name, found, value = text.partition(separator)
        if not found and name != "no-new-privileges":
            raise CommandFailed(f'invalid --security-opt: "{text}"', 125)
        if name == "seccomp" and value not in BUILT_IN:
            text = f"seccomp={_profile(value)}"
        result.append(text)
    return result if texts else None, masked, readonly


def capabilities(texts: Sequence[str]) -> list[str] | None:
    """CAP_NET_ADMIN for net_admin, each once, sorted; ALL stays."""
    upper = {text.strip().upper() for text in texts}
    return sorted({name if name == "ALL" or name.startswith("CAP_") else f"CAP_{name}" for name in upper}) or None


def _profile(path: str) -> str:
    try:
        with open(path, "rb") as file:
            data = file.read(PROFILE_LIMIT + 1)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise CommandFailed(f"opening seccomp profile ({path}) failed: {reason}", 125) from None
    if len(data) > PROFILE_LIMIT:
        raise CommandFailed(f"opening seccomp profile ({path}) failed: larger than {PROFILE_LIMIT} bytes", 125)
    try:
        return json.dumps(json.loads(data), separators=(",", ":"), ensure_ascii=False)
    except ValueError as error:
        raise CommandFailed(f"compacting json for seccomp profile ({path}) failed: {error}", 125) from None


def check_mode(option: str, text: str, words: Sequence[str], prefixes: Sequence[str] = ("container:",)) -> str:
    """A namespace mode: one of `words`, or a prefix with a name. Raises CommandFailed."""
    if not text or text in words or any(text.startswith(prefix) and text != prefix for prefix in prefixes):
        return text
    raise CommandFailed(f"--{option}: invalid {option.upper()} mode", 125)
