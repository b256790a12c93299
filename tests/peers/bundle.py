"""A bundle to run: Debian's busybox, `runc spec`'s configuration, and a program that prints what it sees."""

from __future__ import annotations

import copy
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, cast

from peers import runtimes

Config = dict[str, Any]
Change = Callable[["Bundle"], None]

APPLETS = (
    "cat", "echo", "env", "false", "find", "hostname", "id", "ionice", "kill", "ln", "ls", "mkdir", "mknod", "mount",
    "readlink", "sed", "sh", "sleep", "stat", "stty", "taskset", "test", "touch", "tr", "true", "tty", "umount",
    "uname", "unshare",
)

WATCHED = (  # masked, read-only and ordinary paths: what kind of thing is there, may it be read, may it be written
    "/ /etc /tmp /new /ro /rw /proc /proc/sys /proc/sys/kernel /proc/sysrq-trigger /proc/irq /proc/bus /proc/fs"
    " /proc/asound /proc/kcore /proc/keys /proc/timer_list /proc/acpi /proc/scsi /proc/interrupts /sys /sys/firmware"
    " /sys/fs/cgroup /sys/fs/cgroup/pids /sys/fs/cgroup/memory /dev /dev/shm /dev/mqueue /dev/null /dev/console"
    " /dev/tty /etc/secret"
)

VIEW = f"""\
p=/proc/$$
show() {{ printf '\\n#### %s\\n' $1; }}
for name in status limits mountinfo cgroup stat oom_score_adj loginuid timens_offsets uid_map gid_map setgroups \
    personality attr/current coredump_filter; do
    show $name; cat $p/$name 2>/dev/null
done
show environ; tr '\\0' '\\n' <$p/environ
show cwd; readlink $p/cwd
show ns; for n in $p/ns/*; do echo "${{n##*/}} $(readlink $n)"; done
show fd; for f in $p/fd/*; do [ ! -L $f ] || echo "${{f##*/}} $(readlink $f)"; done
show id; id -u; id -g; umask; tty; stty size 2>/dev/null
show uname; uname -m; cat /proc/sys/kernel/hostname /proc/sys/kernel/domainname
show scheduler; ionice -p $$; taskset -p $$ 2>&1 | sed 's/.*: //'
show network; ls /sys/class/net 2>/dev/null
show keys; cat /proc/keys
show dev; find /dev -exec stat -c '%n|%F|%t:%T|%a|%u:%g' {{}} +
show links; find /dev -type l | while read -r l; do echo "$l $(readlink $l)"; done
show watched; for f in {WATCHED}; do
    r=-; [ -r $f ] && r=r; w=$(touch -c $f 2>&1) && w=w || w=${{w##*: }}; k=$(stat -c '%F %a' $f 2>&1) || k=absent
    echo "$f $r, $w, $k"
done
show kernel; for f in msgmax shmmax; do echo "$f $(cat /proc/sys/kernel/$f)"; done
show ports; cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/net/ipv4/ping_group_range 2>/dev/null
show tree; find / -xdev -type d -o -xdev -type f | while read -r f; do stat -c '%n %F %a %u:%g' "$f"; done
show end
"""
"""Prints "#### NAME" and raw text, again and again; some files of /proc lack a last newline. `$$` is the process that
the runtime started."""


@dataclass
class Bundle:
    """A directory with config.json and rootfs, made anew, at the same path, for each runtime."""

    directory: Path
    config: Config = field(default_factory=dict)

    @property
    def rootfs(self) -> Path:
        return self.directory / "rootfs"

    def make(self, change: Change) -> None:
        """The default configuration after `change`, and a fresh root file system."""
        if self.directory.exists():
            shutil.rmtree(self.directory)
        self.rootfs.mkdir(parents=True)
        make_rootfs(self.rootfs)
        self.config = default_config()
        change(self)
        self.write()

    @property
    def process(self) -> Config:
        return cast(Config, self.config["process"])

    @property
    def linux(self) -> Config:
        return cast(Config, self.config["linux"])

    def mount(self, target: str, *options: str, type: str = "bind", source: str = "") -> None:
        """One mount more. `source`: made below the bundle, if there is a "/" in it (a directory when it ends so)."""
        if "/" in source:
            path = self.directory / "source" / source.strip("/")
            (path if source.endswith("/") else path.parent).mkdir(parents=True, exist_ok=True)
            if not source.endswith("/"):
                path.write_text("cargo\n")
            source = str(path)
        self.config["mounts"].append(
            {"destination": target, "type": type, "source": source or type, "options": list(options)}
        )

    def namespaces(self, *kinds: str, **paths: str) -> None:
        """These and no others: new ones by `kinds`, joined ones by `paths`."""
        joined = [{"type": kind, "path": path} for kind, path in paths.items()]
        self.linux["namespaces"] = [{"type": kind} for kind in kinds] + joined

    def write(self) -> None:
        (self.directory / "config.json").write_text(json.dumps(self.config))


def make_rootfs(rootfs: Path) -> None:
    """busybox, users, a file that has a mode of its own, and directories to mount on."""
    for name in ("bin", "dev", "etc", "proc", "root", "sys", "home", "mnt"):
        (rootfs / name).mkdir()
    (rootfs / "tmp").mkdir()
    (rootfs / "tmp").chmod(0o1777)
    shutil.copy("/bin/busybox", rootfs / "bin" / "busybox")
    for applet in APPLETS:
        (rootfs / "bin" / applet).symlink_to("busybox")
    (rootfs / "etc" / "passwd").write_text("root:x:0:0:root:/root:/bin/sh\nsailor:x:1000:1000::/home:/bin/sh\n")
    (rootfs / "etc" / "group").write_text("root:x:0:\nsailor:x:1000:\nharbour:x:50:sailor\n")
    (rootfs / "etc" / "secret").write_text("treasure\n")
    (rootfs / "etc" / "secret").chmod(0o640)


@cache
def _spec(*options: str) -> str:
    directory = Path(os.environ.get("TMPDIR", "/tmp")) / f"spec-{os.getpid()}"
    directory.mkdir()
    try:
        subprocess.run([runtimes.find("runc"), "spec", *options], cwd=directory, check=True)
        return (directory / "config.json").read_text()
    finally:
        shutil.rmtree(directory)


def default_config(*options: str) -> Config:
    """What `runc spec` writes, with the program that shows the view, without a terminal, and a group of the tests'."""
    config: Config = copy.deepcopy(json.loads(_spec(*options)))
    config["process"]["args"] = ["sh", "-c", VIEW]
    config["process"]["terminal"] = False
    config["root"]["readonly"] = False
    return config
