"""OCI runtime spec (`config.json`), the Linux part: runtime-spec 1.2, config.md and config-linux.md.

Field names are the spec's own (camelCase on the wire, snake_case here). Unknown members are ignored, as the spec asks.
Sizes are bytes, cpu times microseconds, unless a member says otherwise.
"""

from __future__ import annotations

from sampan.lean import structs

VERSION = "1.2.0"
"""Of the specification."""


class _Struct(structs.Struct, rename="camel", omit_defaults=True, kw_only=True):
    pass


class User(_Struct, kw_only=True):
    uid: int = 0
    gid: int = 0
    umask: int | None = None
    additional_gids: list[int] = []
    username: str = ""
    additional_groups: list[str] = []  # ours, not the spec's: names or numbers to look up in the container


class Capabilities(_Struct, kw_only=True):
    bounding: list[str] = []
    effective: list[str] = []
    inheritable: list[str] = []
    permitted: list[str] = []
    ambient: list[str] = []


class Rlimit(_Struct, kw_only=True):
    type: str
    hard: int
    soft: int


class ConsoleSize(_Struct, kw_only=True):
    height: int
    width: int


class Scheduler(_Struct, kw_only=True):
    """sched_setattr(2); `policy` is SCHED_OTHER, …; times are nanoseconds."""

    policy: str
    nice: int = 0
    priority: int = 0
    flags: list[str] = []
    runtime: int = 0
    deadline: int = 0
    period: int = 0


class IOPriority(_Struct, kw_only=True):
    """ioprio_set(2); `class` is IOPRIO_CLASS_RT, IOPRIO_CLASS_BE or IOPRIO_CLASS_IDLE."""

    io_class: str = structs.field(name="class", default="")
    priority: int = 0


class ExecCPUAffinity(_Struct, kw_only=True):
    """CPU lists ("0-3,7") for the runtime's part of exec before, and for the program after joining the cgroup."""

    initial: str = ""
    final: str = ""


class Process(_Struct, kw_only=True):
    terminal: bool = False
    console_size: ConsoleSize | None = None
    user: User = structs.field(default_factory=User)
    args: list[str] = []
    env: list[str] = []
    cwd: str = "/"
    capabilities: Capabilities | None = None
    rlimits: list[Rlimit] = []
    no_new_privileges: bool = False
    apparmor_profile: str = ""
    oom_score_adj: int | None = None
    selinux_label: str = ""
    scheduler: Scheduler | None = None
    io_priority: IOPriority | None = None
    exec_cpu_affinity: ExecCPUAffinity | None = structs.field(default=None, name="execCPUAffinity")


class Root(_Struct, kw_only=True):
    path: str
    readonly: bool = False


class IDMapping(_Struct, kw_only=True):
    container_id: int = structs.field(name="containerID")
    host_id: int = structs.field(name="hostID")
    size: int


class Mount(_Struct, kw_only=True):
    destination: str
    type: str = ""
    source: str = ""
    options: list[str] = []
    uid_mappings: list[IDMapping] = []
    gid_mappings: list[IDMapping] = []


class Namespace(_Struct, kw_only=True):
    """`type` is pid, network, mount, ipc, uts, user, cgroup or time; `path` joins an existing one."""

    type: str
    path: str = ""


class Device(_Struct, kw_only=True):
    path: str
    type: str
    major: int = 0
    minor: int = 0
    file_mode: int | None = None
    uid: int = 0
    gid: int = 0


class DeviceCgroup(_Struct, kw_only=True):
    """`type` a, b or c; `major`/`minor` None is any; `access` any of rwm."""

    allow: bool
    type: str = "a"
    major: int | None = None
    minor: int | None = None
    access: str = "rwm"


class Memory(_Struct, kw_only=True):
    limit: int | None = None
    reservation: int | None = None
    swap: int | None = None
    kernel: int | None = None
    kernel_tcp: int | None = structs.field(default=None, name="kernelTCP")
    swappiness: int | None = None
    disable_oom_killer: bool | None = structs.field(default=None, name="disableOOMKiller")
    use_hierarchy: bool | None = None
    check_before_update: bool | None = None


class CPU(_Struct, kw_only=True):
    shares: int | None = None
    quota: int | None = None
    burst: int | None = None
    period: int | None = None
    realtime_runtime: int | None = None
    realtime_period: int | None = None
    cpus: str = ""
    mems: str = ""
    idle: int | None = None


class Pids(_Struct, kw_only=True):
    limit: int = 0


class WeightDevice(_Struct, kw_only=True):
    major: int
    minor: int
    weight: int | None = None
    leaf_weight: int | None = None


class ThrottleDevice(_Struct, kw_only=True):
    major: int
    minor: int
    rate: int


class BlockIO(_Struct, kw_only=True):
    weight: int | None = None
    leaf_weight: int | None = None
    weight_device: list[WeightDevice] = []
    throttle_read_bps_device: list[ThrottleDevice] = []
    throttle_write_bps_device: list[ThrottleDevice] = []
    throttle_read_iops_device: list[ThrottleDevice] = structs.field(
        default_factory=list, name="throttleReadIOPSDevice"
    )
    throttle_write_iops_device: list[ThrottleDevice] = structs.field(
        default_factory=list, name="throttleWriteIOPSDevice"
    )


class HugepageLimit(_Struct, kw_only=True):
    page_size: str
    limit: int


class Rdma(_Struct, kw_only=True):
    hca_handles: int | None = None
    hca_objects: int | None = None


class InterfacePriority(_Struct, kw_only=True):
    name: str
    priority: int


class Network(_Struct, kw_only=True):
    """v1 alone: the class of outgoing packets (net_cls), and their priority per interface (net_prio)."""

    class_id: int | None = structs.field(name="classID", default=None)
    priorities: list[InterfacePriority] = []


class Resources(_Struct, kw_only=True):
    devices: list[DeviceCgroup] = []
    memory: Memory | None = None
    cpu: CPU | None = None
    pids: Pids | None = None
    block_io: BlockIO | None = structs.field(default=None, name="blockIO")
    hugepage_limits: list[HugepageLimit] = []
    rdma: dict[str, Rdma] = {}
    network: Network | None = None
    unified: dict[str, str] = {}


class SeccompArg(_Struct, kw_only=True):
    index: int
    value: int
    value_two: int = 0
    op: str


class SyscallRule(_Struct, kw_only=True):
    names: list[str]
    action: str
    errno_ret: int | None = None
    args: list[SeccompArg] = []


class Seccomp(_Struct, kw_only=True):
    default_action: str
    default_errno_ret: int | None = None
    architectures: list[str] = []
    flags: list[str] = []
    syscalls: list[SyscallRule] = []
    listener_path: str = ""
    listener_metadata: str = ""


class Personality(_Struct, kw_only=True):
    """personality(2): `domain` is LINUX or LINUX32."""

    domain: str
    flags: list[str] = []


class IntelRdt(_Struct, kw_only=True):
    clos_id: str = structs.field(name="closID", default="")
    schemata: list[str] = []
    l3_cache_schema: str = ""
    mem_bw_schema: str = ""
    enable_cmt: bool = structs.field(name="enableCMT", default=False)
    enable_mbm: bool = structs.field(name="enableMBM", default=False)
    enable_monitoring: bool = False


class NetDevice(_Struct, kw_only=True):
    """A network device of the host to move into the container; `name` is its name there, "" keeps it."""

    name: str = ""


class MemoryPolicy(_Struct, kw_only=True):
    """set_mempolicy(2); `nodes` is a list like "0-3,7"."""

    mode: str
    nodes: str = ""
    flags: list[str] = []


class Linux(_Struct, kw_only=True):
    namespaces: list[Namespace] = []
    uid_mappings: list[IDMapping] = []
    gid_mappings: list[IDMapping] = []
    time_offsets: dict[str, dict[str, int]] = {}
    devices: list[Device] = []
    cgroups_path: str = ""
    resources: Resources | None = None
    rootfs_propagation: str = ""
    seccomp: Seccomp | None = None
    sysctl: dict[str, str] = {}
    masked_paths: list[str] = []
    readonly_paths: list[str] = []
    mount_label: str = ""
    personality: Personality | None = None
    intel_rdt: IntelRdt | None = None
    net_devices: dict[str, NetDevice] = {}
    memory_policy: MemoryPolicy | None = None


class Hook(_Struct, kw_only=True):
    """A program run at a point of the container's life, its state on stdin. `timeout` in seconds, None: no limit."""

    path: str
    args: list[str] = []
    env: list[str] = []
    timeout: int | None = None


class Hooks(_Struct, kw_only=True):
    prestart: list[Hook] = []
    create_runtime: list[Hook] = []
    create_container: list[Hook] = []
    start_container: list[Hook] = []
    poststart: list[Hook] = []
    poststop: list[Hook] = []


class Spec(_Struct, kw_only=True):
    oci_version: str = "1.2.0"
    process: Process | None = None
    root: Root | None = None
    hostname: str = ""
    domainname: str = ""
    mounts: list[Mount] = []
    linux: Linux | None = None
    hooks: Hooks | None = None
    annotations: dict[str, str] = {}
