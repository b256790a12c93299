"""Image names as the API's two parameters. The engine checks them; here they are only taken apart."""

from __future__ import annotations


def split_reference(text: str) -> tuple[str, str]:
    """(name, tag or digest): `host:5000/a/b:v1` → ("host:5000/a/b", "v1"); no tag: ""."""
    if "@" in text:
        name, _, digest = text.partition("@")
        return name, digest
    slash = text.rfind("/")
    colon = text.rfind(":")
    return (text[:colon], text[colon + 1 :]) if colon > slash else (text, "")
