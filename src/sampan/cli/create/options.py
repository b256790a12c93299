"""The options of `create` and `run`, as a table. What they mean is in `body`."""

from __future__ import annotations

from sampan.cli.create.devices import check_cgroup_rule, check_device, check_rate, check_throttle, check_weight
from sampan.cli.create.environment import check_env, check_label
from sampan.cli.create.mounts import parse_mount
from sampan.cli.create.network import check_alias_address, check_dns_search, check_extra_host, check_ip
from sampan.cli.create.resources import check_sysctl, parse_ulimit
from sampan.cli.flags import (
    BYTES,
    DECIMAL,
    DURATION,
    INT,
    LIST,
    STRING,
    UINT16,
    Kind,
    Option,
    checked_list,
)

STREAMS = ("stdin", "stdout", "stderr")


def _check_attach(text: str) -> str:
    if text.lower() not in STREAMS:
        raise ValueError("valid streams are STDIN, STDOUT and STDERR")
    return text.lower()


PROCESS_OPTIONS = (
    Option("-e", "--env", kind=checked_list("list", check_env), help="Set environment variables"),
    Option("--env-file", kind=LIST, help="Read in a file of environment variables"),
    Option("-w", "--workdir", kind=STRING, help="Working directory inside the container"),
    Option("-u", "--user", kind=STRING, help="Username or UID (format: <name|uid>[:<group|gid>])"),
    Option("--entrypoint", kind=STRING, help="Overwrite the default ENTRYPOINT of the image"),
    Option("-a", "--attach", kind=checked_list("list", _check_attach), help="Attach to STDIN, STDOUT or STDERR"),
    Option("-i", "--interactive", help="Keep STDIN open even if not attached"),
    Option("-t", "--tty", help="Allocate a pseudo-TTY"),
    Option("--init", help="Run an init inside the container that forwards signals and reaps processes"),
    Option("--stop-signal", kind=STRING, help="Signal to stop the container"),
    Option("--stop-timeout", kind=INT, help="Timeout (in seconds) to stop a container"),
    Option("--group-add", kind=LIST, help="Add additional groups to join"),
)
IDENTITY_OPTIONS = (
    Option("--name", kind=STRING, help="Assign a name to the container"),
    Option("--cidfile", kind=STRING, help="Write the container ID to the file"),
    Option("-h", "--hostname", kind=STRING, help="Container host name"),
    Option("--domainname", kind=STRING, help="Container NIS domain name"),
    Option("-l", "--label", kind=checked_list("list", check_label), help="Set meta data on a container"),
    Option("--label-file", kind=LIST, help="Read in a line delimited file of labels"),
    Option("--annotation", kind=checked_list("map", check_label),
           help="Add an annotation to the container (passed through to the OCI runtime)"),
    Option("--platform", kind=STRING, help="Set platform if server is multi-platform capable"),
    Option("--pull", kind=STRING, default="missing",
           help='Pull image before creating ("always", "missing", "never")', shown_default='"missing"'),
    Option("-q", "--quiet", help="Suppress the pull output"),
    Option("--restart", kind=STRING, default="no", help="Restart policy to apply when a container exits",
           shown_default='"no"'),
    Option("--rm", help="Automatically remove the container and its associated anonymous volumes when it exits"),
    Option("--runtime", kind=STRING, help="Runtime to use for this container"),
    Option("--disable-content-trust", default=True, help="Skip image verification", shown_default="true", hidden=True),
    Option("--isolation", kind=STRING, help="Container isolation technology", hidden=True),
    Option("--log-driver", kind=STRING, help="Logging driver for the container"),
    Option("--log-opt", kind=LIST, help="Log driver options"),
)
SECURITY_OPTIONS = (
    Option("--cap-add", kind=LIST, help="Add Linux capabilities"),
    Option("--cap-drop", kind=LIST, help="Drop Linux capabilities"),
    Option("--privileged", help="Give extended privileges to this container"),
    Option("--security-opt", kind=LIST, help="Security Options"),
    Option("--userns", kind=STRING, help="User namespace to use: host, or private for one of its own"),
    Option("--timens", kind=STRING, help="Time namespace to use: host, or private for one of its own"),
    Option("--pid", kind=STRING, help="PID namespace to use"),
    Option("--ipc", kind=STRING, help="IPC mode to use"),
    Option("--uts", kind=STRING, help="UTS namespace to use"),
    Option("--cgroupns", kind=STRING, help="Cgroup namespace to use: host, private, or '' for the engine's default"),
    Option("--cgroup-parent", kind=STRING, help="Optional parent cgroup for the container"),
    Option("--device", kind=checked_list("list", check_device), help="Add a host device to the container"),
    Option("--device-cgroup-rule", kind=checked_list("list", check_cgroup_rule),
           help="Add a rule to the cgroup allowed devices list"),
    Option("--gpus", kind=STRING, help="GPU devices to add to the container ('all' to pass all GPUs)"),
    Option("--sysctl", kind=checked_list("map", check_sysctl), help="Sysctl options"),
    Option("--ulimit", kind=Kind("ulimit", parse_ulimit, many=True), help="Ulimit options"),
    Option("--oom-score-adj", kind=INT, help="Tune host's OOM preferences (-1000 to 1000)"),
    Option("--oom-kill-disable", help="Disable OOM Killer"),
)
RESOURCE_OPTIONS = (
    Option("-m", "--memory", kind=BYTES, help="Memory limit"),
    Option("--memory-reservation", kind=BYTES, help="Memory soft limit"),
    Option("--memory-swap", kind=BYTES, help="Swap limit equal to memory plus swap: '-1' to enable unlimited swap"),
    Option("--memory-swappiness", kind=INT, default=-1, help="Tune container memory swappiness (0 to 100)",
           shown_default="-1"),
    Option("--kernel-memory", kind=BYTES, help="Kernel memory limit (has no effect any more)"),
    Option("--cpus", kind=DECIMAL, help="Number of CPUs"),
    Option("-c", "--cpu-shares", kind=INT, help="CPU shares (relative weight)"),
    Option("--cpu-period", kind=INT, help="Limit CPU CFS (Completely Fair Scheduler) period"),
    Option("--cpu-quota", kind=INT, help="Limit CPU CFS (Completely Fair Scheduler) quota"),
    Option("--cpu-rt-period", kind=INT, help="Limit CPU real-time period in microseconds"),
    Option("--cpu-rt-runtime", kind=INT, help="Limit CPU real-time runtime in microseconds"),
    Option("--cpuset-cpus", kind=STRING, help="CPUs in which to allow execution (0-3, 0,1)"),
    Option("--cpuset-mems", kind=STRING, help="MEMs in which to allow execution (0-3, 0,1)"),
    Option("--cpu-count", kind=INT, help="CPU count (Windows only)", hidden=True),
    Option("--cpu-percent", kind=INT, help="CPU percent (Windows only)", hidden=True),
    Option("--io-maxiops", kind=INT, help="Maximum IOps limit (Windows only)", hidden=True),
    Option("--io-maxbandwidth", kind=BYTES, help="Maximum IO bandwidth (Windows only)", hidden=True),
    Option("--pids-limit", kind=INT, help="Tune container pids limit (set -1 for unlimited)"),
    Option("--blkio-weight", kind=UINT16, help="Block IO (relative weight), between 10 and 1000, or 0 to disable",
           shown_default="0"),
    Option("--blkio-weight-device", kind=checked_list("list", check_weight),
           help="Block IO weight (relative device weight)"),
    Option("--device-read-bps", kind=checked_list("list", check_throttle),
           help="Limit read rate (bytes per second) from a device"),
    Option("--device-write-bps", kind=checked_list("list", check_throttle),
           help="Limit write rate (bytes per second) to a device"),
    Option("--device-read-iops", kind=checked_list("list", check_rate),
           help="Limit read rate (IO per second) from a device"),
    Option("--device-write-iops", kind=checked_list("list", check_rate),
           help="Limit write rate (IO per second) to a device"),
    Option("--shm-size", kind=BYTES, help="Size of /dev/shm"),
)
FILE_OPTIONS = (
    Option("-v", "--volume", kind=LIST, help="Bind mount a volume"),
    Option("--mount", kind=Kind("mount", parse_mount, many=True), help="Attach a filesystem mount to the container"),
    Option("--tmpfs", kind=LIST, help="Mount a tmpfs directory"),
    Option("--volumes-from", kind=LIST, help="Mount volumes from the specified container(s)"),
    Option("--volume-driver", kind=STRING, help="Optional volume driver for the container"),
    Option("--read-only", help="Mount the container's root filesystem as read only"),
    Option("--storage-opt", kind=LIST, help="Storage driver options for the container"),
)
NETWORK_OPTIONS = (
    Option("-p", "--publish", kind=LIST, help="Publish a container's port(s) to the host"),
    Option("-P", "--publish-all", help="Publish all exposed ports to random ports"),
    Option("--expose", kind=LIST, help="Expose a port or a range of ports"),
    Option("--net", "--network", kind=Kind("network", str, many=True), help="Connect a container to a network"),
    Option("--net-alias", "--network-alias", kind=LIST, help="Add network-scoped alias for the container"),
    Option("--ip", kind=Kind("string", check_ip), help="IPv4 address (e.g., 172.30.100.104)"),
    Option("--ip6", kind=Kind("string", check_ip), help="IPv6 address (e.g., 2001:db8::33)"),
    Option("--link-local-ip", kind=checked_list("list", check_alias_address),
           help="Container IPv4/IPv6 link-local addresses"),
    Option("--link", kind=LIST, help="Add link to another container"),
    Option("--mac-address", kind=STRING, help="Container MAC address (e.g., 92:d0:c6:0a:29:33)"),
    Option("--dns", kind=checked_list("list", check_alias_address), help="Set custom DNS servers"),
    Option("--dns-opt", "--dns-option", kind=LIST, help="Set DNS options"),
    Option("--dns-search", kind=checked_list("list", check_dns_search), help="Set custom DNS search domains"),
    Option("--add-host", kind=checked_list("list", check_extra_host), help="Add a custom host-to-IP mapping (host:ip)"),
)
HEALTH_OPTIONS = (
    Option("--health-cmd", kind=STRING, help="Command to run to check health"),
    Option("--health-interval", kind=DURATION, help="Time between running the check (ms|s|m|h)", shown_default="0s"),
    Option("--health-retries", kind=INT, help="Consecutive failures needed to report unhealthy"),
    Option("--health-start-period", kind=DURATION, shown_default="0s",
           help="Start period for the container to initialize before starting health-retries countdown (ms|s|m|h)"),
    Option("--health-start-interval", kind=DURATION, shown_default="0s",
           help="Time between running the check during the start period (ms|s|m|h)"),
    Option("--health-timeout", kind=DURATION, help="Maximum time to allow one check to run (ms|s|m|h)",
           shown_default="0s"),
    Option("--no-healthcheck", help="Disable any container-specified HEALTHCHECK"),
)
CREATE_OPTIONS = (
    *PROCESS_OPTIONS, *IDENTITY_OPTIONS, *SECURITY_OPTIONS, *RESOURCE_OPTIONS, *FILE_OPTIONS, *NETWORK_OPTIONS,
    *HEALTH_OPTIONS,
)
