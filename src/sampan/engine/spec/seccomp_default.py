"""The system calls a container may make unless told otherwise: the same set as Docker's default policy.

What is not named answers EPERM. Grouped by what the calls are for; `WITH_CAPABILITY` opens more to containers that
were given that capability, because then the kernel's own check decides.
"""

from __future__ import annotations

from typing import Final

from sampan.oci.runtime import SeccompArg

FILES: Final = """
access brk cachestat chdir chmod chown chown32 close close_range copy_file_range creat dup dup2 dup3 faccessat
faccessat2 fadvise64 fadvise64_64 fallocate fchdir fchmod fchmodat fchmodat2 fchown fchown32 fchownat fcntl fcntl64
fdatasync fgetxattr flistxattr flock fremovexattr fsetxattr fstat fstat64 fstatat64 fstatfs fstatfs64 fsync ftruncate
ftruncate64 futimesat getcwd getdents getdents64 getxattr getxattrat ioctl lchown lchown32 lgetxattr link linkat
listmount listxattr listxattrat llistxattr _llseek lremovexattr lseek lsetxattr lstat lstat64 mkdir mkdirat mknod
mknodat name_to_handle_at newfstatat open openat openat2 pread64 preadv preadv2 pwrite64 pwritev pwritev2 read
readahead readlink readlinkat readv removexattr removexattrat rename renameat renameat2 rmdir sendfile sendfile64
setxattr setxattrat splice stat stat64 statfs statfs64 statmount statx symlink symlinkat sync sync_file_range syncfs
tee truncate truncate64 umask unlink unlinkat utime utimensat utimensat_time64 utimes vmsplice write writev
fanotify_mark inotify_add_watch inotify_init inotify_init1 inotify_rm_watch
"""

MEMORY: Final = """
madvise map_shadow_stack membarrier memfd_create memfd_secret mincore mlock mlock2 mlockall mmap mmap2 mprotect mremap
mseal msync munlock munlockall munmap pkey_alloc pkey_free pkey_mprotect process_mrelease remap_file_pages
"""

PROCESSES: Final = """
execve execveat exit exit_group fork getpgid getpgrp getpid getppid getpriority getrlimit get_robust_list getrusage
getsid get_thread_area gettid ioprio_get ioprio_set kill pause pidfd_open pidfd_send_signal prctl prlimit64
restart_syscall riscv_hwprobe rseq rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn
rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo sched_getaffinity sched_getattr sched_getparam
sched_get_priority_max sched_get_priority_min sched_getscheduler sched_rr_get_interval sched_rr_get_interval_time64
sched_setaffinity sched_setattr sched_setparam sched_setscheduler sched_yield setpgid setpriority setrlimit
set_robust_list setsid set_thread_area set_tid_address sigaltstack sigprocmask sigreturn signalfd signalfd4 tgkill
times tkill ugetrlimit uretprobe vfork wait4 waitid waitpid getcpu uname sysinfo getrandom
"""

IDENTITY: Final = """
capget capset getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups getgroups32 getresgid getresgid32
getresuid getresuid32 getuid getuid32 landlock_add_rule landlock_create_ruleset landlock_restrict_self seccomp
setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32 setgroups setgroups32 setregid setregid32 setresgid
setresgid32 setresuid setresuid32 setreuid setreuid32 setuid setuid32
"""

TIME: Final = """
adjtimex alarm clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime clock_gettime64
clock_nanosleep clock_nanosleep_time64 getitimer gettimeofday nanosleep setitimer time timer_create timer_delete
timer_getoverrun timer_gettime timer_gettime64 timer_settime timer_settime64 timerfd_create timerfd_gettime
timerfd_gettime64 timerfd_settime timerfd_settime64
"""

TALKING: Final = """
accept accept4 bind connect epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait
epoll_wait_old eventfd eventfd2 futex futex_requeue futex_time64 futex_wait futex_waitv futex_wake getpeername
getsockname getsockopt io_cancel io_destroy io_getevents io_pgetevents io_pgetevents_time64 io_setup io_submit ipc
listen mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend mq_timedsend_time64
mq_unlink msgctl msgget msgrcv msgsnd _newselect pipe pipe2 poll ppoll ppoll_time64 pselect6 pselect6_time64 recv
recvfrom recvmmsg recvmmsg_time64 recvmsg select semctl semget semop semtimedop semtimedop_time64 send sendmmsg
sendmsg sendto setsockopt shmat shmctl shmdt shmget shutdown socketcall socketpair
"""

ALWAYS: Final = tuple(sorted(" ".join((FILES, MEMORY, PROCESSES, IDENTITY, TIME, TALKING)).split()))

SINCE_4_8: Final = ("process_vm_readv", "process_vm_writev", "ptrace")
"""Before Linux 4.8 ptrace could be used to leave a seccomp filter."""

SOCKET_FAMILIES_BELOW: Final = 12
SOCKET_FAMILIES: Final = (
    13, 14, 15, 16, 17, 18, 21, 22, 24, 26, 27, 28, 29, 30, 31, 32, 33, 35, 36, 39, 41, 42, 43, 44, 45,
)
"""Address families for socket(2), besides those below 12. Not among them: AF_VSOCK (40), which knows no network
namespace and reaches the hypervisor; AF_ALG (38), a wide entry to the kernel's crypto; and those the kernel dropped."""

PERSONALITIES: Final = (0x0, 0x8, 0x20000, 0x20008, 0xFFFFFFFF)
"""Linux, LINUX32, both with UNAME26, and "only ask"."""

NEW_NAMESPACES: Final = 0x7E020000
"""CLONE_NEW… flags: clone(2) with any of them needs CAP_SYS_ADMIN in the container."""

BY_MACHINE: Final[dict[str, tuple[str, ...]]] = {
    "ppc64le": ("sync_file_range2", "swapcontext"),
    "aarch64": (
        "arm_fadvise64_64", "arm_sync_file_range", "sync_file_range2", "breakpoint", "cacheflush", "set_tls",
    ),
    "x86_64": ("arch_prctl", "modify_ldt"),
    "s390x": ("s390_pci_mmio_read", "s390_pci_mmio_write", "s390_runtime_instr"),
    "riscv64": ("riscv_flush_icache",),
}

SYS_ADMIN: Final = "CAP_SYS_ADMIN"
WITH_CAPABILITY: Final[dict[str, tuple[str, ...]]] = {
    "CAP_DAC_READ_SEARCH": ("open_by_handle_at",),
    SYS_ADMIN: (
        "bpf", "clone", "clone3", "fanotify_init", "fsconfig", "fsmount", "fsopen", "fspick", "lookup_dcookie",
        "lsm_get_self_attr", "lsm_list_modules", "lsm_set_self_attr", "mount", "mount_setattr", "move_mount",
        "open_tree", "perf_event_open", "quotactl", "quotactl_fd", "setdomainname", "sethostname", "setns", "syslog",
        "umount", "umount2", "unshare",
    ),
    "CAP_SYS_BOOT": ("reboot",),
    "CAP_SYS_CHROOT": ("chroot",),
    "CAP_SYS_MODULE": ("delete_module", "init_module", "finit_module"),
    "CAP_SYS_PACCT": ("acct",),
    "CAP_SYS_PTRACE": (
        "kcmp", "pidfd_getfd", "process_madvise", "process_vm_readv", "process_vm_writev", "ptrace",
    ),
    "CAP_SYS_RAWIO": ("iopl", "ioperm"),
    "CAP_SYS_TIME": ("settimeofday", "stime", "clock_settime", "clock_settime64"),
    "CAP_SYS_TTY_CONFIG": ("vhangup",),
    "CAP_SYS_NICE": ("get_mempolicy", "mbind", "set_mempolicy", "set_mempolicy_home_node"),
    "CAP_SYSLOG": ("syslog",),
    "CAP_BPF": ("bpf",),
    "CAP_PERFMON": ("perf_event_open",),
}

ARCHITECTURES: Final[dict[str, tuple[str, ...]]] = {
    "x86_64": ("SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"),
    "aarch64": ("SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"),
    "s390x": ("SCMP_ARCH_S390X", "SCMP_ARCH_S390"),
    "riscv64": ("SCMP_ARCH_RISCV64",),
    "ppc64le": ("SCMP_ARCH_PPC64LE",),
    "loongarch64": ("SCMP_ARCH_LOONGARCH64",),
}
"""os.uname().machine → the ABIs a program may use; the first is the native one."""


def equal(index: int, value: int) -> SeccompArg:
    return SeccompArg(index=index, value=value, op="SCMP_CMP_EQ")
