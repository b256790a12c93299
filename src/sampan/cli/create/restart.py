"""--restart."""

from __future__ import annotations

from sampan.cli.failure import CommandFailed


def restart_policy(text: str) -> dict[str, object]:
    """`on-failure:3` as the API's RestartPolicy. The engine checks the name. Raises CommandFailed."""
    name, colon, count = text.partition(":")
    policy: dict[str, object] = {"Name": name, "MaximumRetryCount": 0}
    if colon and not name:
        raise CommandFailed(f"invalid restart policy format: no policy provided before colon: {text}", 125)
    if count:
        if not count.isdigit():
            raise CommandFailed(f"invalid restart policy format: maximum retry count must be an integer: {text}", 125)
        policy["MaximumRetryCount"] = int(count)
    return policy
