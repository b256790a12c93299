"""An instruction's arguments taken apart: flags, the JSON (exec) form, `name=value` pairs, words."""

from __future__ import annotations

import json
import re

from sampan.errors import InvalidArgument

_BLANKS = re.compile(r"[\t\v\f\r ]+")


def split_blanks(text: str, times: int = 0) -> list[str]:
    """Split at runs of blanks, at most `times` times (0: at all). An empty text has no words."""
    return _BLANKS.split(text, times) if text else []


def take_flags(text: str) -> tuple[list[str], str]:
    """The leading words that begin with `--`, without their quotes, and the rest. A lone `--` ends them."""
    flags: list[str] = []
    at = 0
    while True:
        while at < len(text) and text[at].isspace():
            at += 1
        if not text.startswith("--", at):
            return flags, text[at:]
        flag, at, quoted = _flag(text, at)
        if flag == "--":
            return flags, text[at:]
        if flag or quoted:
            flags.append(flag)


def _flag(text: str, at: int) -> tuple[str, int, bool]:
    """One word: quotes removed, a backslash takes the next character as it is. Returns word, end, was it quoted."""
    result: list[str] = []
    quote = ""
    quoted = False
    while at < len(text) and (quote or not text[at].isspace()):
        char = text[at]
        at += 1
        if char == quote:
            quote = ""
        elif not quote and char in "'\"":
            quote, quoted = char, True
        elif char == "\\":
            result.append(text[at : at + 1])
            at += 1
        else:
            result.append(char)
    return "".join(result), min(at, len(text)), quoted


def json_form(text: str) -> list[str] | None:
    """`["a", "b"]` as a list; None if it is not JSON, which makes it a text for the shell.

    Raises InvalidArgument for a JSON array that holds something else than strings.
    """
    text = text.lstrip()
    if not text.startswith("["):
        return None
    try:
        value, _ = _decoder.raw_decode(text)  # what follows the array is ignored, as Docker does
    except (ValueError, RecursionError):
        return None
    if not all(isinstance(item, str) for item in value):
        raise InvalidArgument("when using JSON array syntax, arrays must be comprised of strings only")
    return [item.encode("utf-16", "surrogatepass").decode("utf-16", "replace") for item in value]  # half a pair: U+FFFD


def _no_constant(name: str) -> object:
    raise ValueError(name)


_decoder = json.JSONDecoder(parse_constant=_no_constant)


def quoted_words(text: str, escape: str) -> list[str]:
    """Split at blanks that are neither quoted nor escaped; quotes and escapes stay for the expansion."""
    result: list[str] = []
    word: list[str] = []
    quote = ""
    inside = False
    at = 0
    while at < len(text):
        char = text[at]
        at += 1
        if not quote and char.isspace():
            if inside:
                result.append("".join(word))
            word, inside = [], False
            continue
        inside = True
        if char == quote:
            quote = ""
        elif not quote and char in "'\"":
            quote = char
        elif char == escape and quote != "'":
            if at == len(text):
                continue  # nothing to escape
            char += text[at]
            at += 1
        word.append(char)
    if inside:
        result.append("".join(word))
    return result


def name_values(text: str, escape: str, keyword: str) -> list[tuple[str, str]]:
    """`name=value …`, or the old form `name value`, still quoted. Raises InvalidArgument."""
    found = quoted_words(text, escape)
    if not found:
        return []
    if "=" not in found[0]:
        name, *value = split_blanks(text, 1)
        if not value:
            raise InvalidArgument(f"{keyword} must have two arguments")
        return [(name, value[0])]
    pairs = []
    for word in found:
        name, equals, rest = word.partition("=")
        if not equals:
            raise InvalidArgument(f'Syntax error - can\'t find = in "{word}". Must be of the form: name=value')
        pairs.append((name, rest))
    return pairs
