"""Which commands there are, and in which file each is. Data only: listing them imports nothing."""

from __future__ import annotations

COMMON: dict[str, str] = {
    "run": "Create and run a new container from an image",
    "exec": "Execute a command in a running container",
    "ps": "List containers",
    "build": "Build an image from a Dockerfile",
    "images": "List images",
    "version": "Show the version of the command and of the engine",
    "info": "Display system-wide information",
}

INSIGHT: dict[str, str] = {
    "explain": "Show what a container is made of, why it was killed, who throttles it",
    "verify": "Check that a container's isolation holds as its configuration says",
    "doctor": "Check what this host's kernel has, what is missing and how to get it",
    "serve": "Run the engine in the foreground",
}

OTHERS: dict[str, str] = {
    "attach": "Attach local standard input, output, and error streams to a running container",
    "commit": "Create a new image from a container's changes",
    "cp": "Copy files/folders between a container and the local filesystem",
    "create": "Create a new container",
    "diff": "Inspect changes to files or directories on a container's filesystem",
    "events": "Get real time events from the engine",
    "export": "Export a container's filesystem as a tar archive",
    "history": "Show the history of an image",
    "import": "Import the contents from a tarball to create a filesystem image",
    "inspect": "Return low-level information on containers, images, networks and volumes",
    "kill": "Kill one or more running containers",
    "load": "Load an image from a tar archive or STDIN",
    "logs": "Fetch the logs of a container",
    "pause": "Pause all processes within one or more containers",
    "port": "List port mappings or a specific mapping for the container",
    "rename": "Rename a container",
    "restart": "Restart one or more containers",
    "rm": "Remove one or more containers",
    "rmi": "Remove one or more images",
    "save": "Save one or more images to a tar archive (streamed to STDOUT by default)",
    "start": "Start one or more stopped containers",
    "stats": "Display a live stream of container(s) resource usage statistics",
    "stop": "Stop one or more running containers",
    "tag": "Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE",
    "top": "Display the running processes of a container",
    "unpause": "Unpause all processes within one or more containers",
    "update": "Update configuration of one or more containers",
    "wait": "Block until one or more containers stop, then print their exit codes",
}

GROUPS: dict[str, str] = {
    "builder": "Manage builds",
    "container": "Manage containers",
    "image": "Manage images",
    "network": "Manage networks",
    "system": "Manage the engine",
    "volume": "Manage volumes",
}

CONTAINER_COMMANDS = (
    "attach", "commit", "cp", "create", "diff", "exec", "export", "kill", "logs", "pause", "port", "rename", "restart",
    "rm", "run", "start", "stats", "stop", "top", "unpause", "update", "wait",
)
IMAGE_COMMANDS = ("build", "history", "import", "load", "save", "tag")

# Two words → the module in `commands/`. Several words for one thing are Docker's own.
GROUPED: dict[str, dict[str, str]] = {
    "builder": {"build": "build", "prune": "builder_prune"},
    "container": {
        **{name: name for name in CONTAINER_COMMANDS},
        "inspect": "container_inspect", "ls": "ps", "list": "ps", "ps": "ps", "prune": "container_prune",
        "remove": "rm",
    },
    "image": {
        **{name: name for name in IMAGE_COMMANDS},
        "inspect": "image_inspect", "ls": "images", "list": "images", "prune": "image_prune", "remove": "rmi",
        "rm": "rmi",
    },
    "network": {"inspect": "network_inspect", "list": "network_ls", "ls": "network_ls"},
    "system": {"df": "system_df", "events": "events", "info": "info", "prune": "system_prune"},
    "volume": {
        "create": "volume_create", "inspect": "volume_inspect", "list": "volume_ls", "ls": "volume_ls",
        "prune": "volume_prune", "remove": "volume_rm", "rm": "volume_rm",
    },
}

HIDDEN_WORDS = frozenset(("list", "ps", "remove"))

SUMMARIES: dict[str, str] = {
    **COMMON, **INSIGHT, **OTHERS,
    "builder_prune": "Remove build cache",
    "container_inspect": "Display detailed information on one or more containers",
    "container_prune": "Remove all stopped containers",
    "image_inspect": "Display detailed information on one or more images",
    "image_prune": "Remove unused images",
    "network_inspect": "Display detailed information on one or more networks",
    "network_ls": "List networks",
    "system_df": "Show disk usage",
    "system_prune": "Remove unused data",
    "volume_create": "Create a volume",
    "volume_inspect": "Display detailed information on one or more volumes",
    "volume_ls": "List volumes",
    "volume_prune": "Remove unused local volumes",
    "volume_rm": "Remove one or more volumes",
}


def module_of(words: list[str]) -> tuple[str, int]:
    """The module for a command line's words and how many words name it; ("", 0) for no such command."""
    if words and (words[0] in COMMON or words[0] in INSIGHT or words[0] in OTHERS):
        return ("import_" if words[0] == "import" else f"{words[0]}_" if words[0] == "exec" else words[0]), 1
    if len(words) > 1 and words[1] in GROUPED.get(words[0], {}):
        module = GROUPED[words[0]][words[1]]
        return f"{module}_" if module in ("import", "exec") else module, 2
    return "", 0


def aliases(module: str) -> list[str]:
    """All ways to say a command, when there is more than one."""
    plain = module.rstrip("_")
    pairs = ((group, word) for group, words in GROUPED.items() for word, name in words.items() if name == plain)
    names = [f"sampan {group} {word}" for group, word in pairs]
    if plain in COMMON or plain in OTHERS:
        names.append(f"sampan {plain}")
    return names if len(names) > 1 else []
