/* floor.c, the child's side: from the new namespaces to execve. Part of floor.c, apart for its length. */

static void mount_or_die(const char *source, const char *target, const char *type, unsigned long flags, const char *data) {
    if (mount(source, target, type, flags, data) != 0) {
        fprintf(stderr, "floor: mount %s: %s\n", target, strerror(errno));
        _exit(1);
    }
}

static void make_devices(void) {
    static const struct { const char *name; int major, minor; } devices[] = {
        {"dev/null", 1, 3}, {"dev/zero", 1, 5}, {"dev/full", 1, 7}, {"dev/random", 1, 8}, {"dev/urandom", 1, 9},
        {"dev/tty", 5, 0}};
    for (size_t i = 0; i < sizeof devices / sizeof *devices; i++) {
        mode_t old = umask(0);
        must(mknod(devices[i].name, S_IFCHR | 0666, makedev(devices[i].major, devices[i].minor)) == 0, devices[i].name);
        umask(old);
    }
    must(symlink("/proc/self/fd", "dev/fd") == 0 && symlink("/proc/self/fd/0", "dev/stdin") == 0 &&
         symlink("/proc/self/fd/1", "dev/stdout") == 0 && symlink("/proc/self/fd/2", "dev/stderr") == 0 &&
         symlink("pts/ptmx", "dev/ptmx") == 0, "dev links");
}

static void mount_cgroups(void) {
    unsigned long flags = MS_NOSUID | MS_NODEV | MS_NOEXEC;
    char target[256];
    if (hierarchy_count == 1 && hierarchies[0].v2) {
        mount_or_die("cgroup", "sys/fs/cgroup", "cgroup2", flags | MS_RDONLY, NULL);
        return;
    }
    mount_or_die("tmpfs", "sys/fs/cgroup", "tmpfs", flags, "mode=755");
    for (int i = 0; i < hierarchy_count; i++) {
        const char *name = strrchr(hierarchies[i].mountpoint, '/') + 1;
        snprintf(target, sizeof target, "sys/fs/cgroup/%s", name);
        must(mkdir(target, 0755) == 0, target);
        mount_or_die("cgroup", target, hierarchies[i].v2 ? "cgroup2" : "cgroup", flags | MS_RDONLY,
                     hierarchies[i].v2 ? NULL : hierarchies[i].options);
    }
    mount_or_die(NULL, "sys/fs/cgroup", NULL, MS_REMOUNT | MS_RDONLY | flags, "mode=755");
}

static void bind_files(int run) {
    static const char *const files[] = {"hosts", "hostname", "resolv.conf"};
    char source[256], target[64];
    for (int i = 0; i < 3; i++) {
        snprintf(source, sizeof source, "%s/%d/%s", base, run, files[i]);
        snprintf(target, sizeof target, "etc/%s", files[i]);
        close(open(target, O_WRONLY | O_CREAT | O_CLOEXEC, 0644));
        mount_or_die(source, target, NULL, MS_BIND | MS_REC, NULL);
        mount_or_die(NULL, target, NULL, MS_PRIVATE | MS_REC, NULL);
    }
}

static void mask(void) {
    static const char *const readonly[] = {"proc/bus", "proc/fs", "proc/irq", "proc/sys", "proc/sysrq-trigger"};
    static const char *const masked[] = {"proc/asound", "proc/acpi", "proc/kcore", "proc/keys", "proc/latency_stats",
        "proc/timer_list", "proc/timer_stats", "proc/sched_debug", "proc/scsi", "sys/firmware",
        "sys/devices/virtual/powercap"};
    struct stat found;
    for (size_t i = 0; i < sizeof readonly / sizeof *readonly; i++) {
        if (stat(readonly[i], &found) != 0)
            continue;
        mount_or_die(readonly[i], readonly[i], NULL, MS_BIND | MS_REC, NULL);
        mount_or_die(NULL, readonly[i], NULL, MS_BIND | MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
    }
    for (size_t i = 0; i < sizeof masked / sizeof *masked; i++) {
        if (stat(masked[i], &found) != 0)
            continue;
        if (S_ISDIR(found.st_mode))
            mount_or_die("tmpfs", masked[i], "tmpfs", MS_RDONLY, NULL);
        else
            mount_or_die("dev/null", masked[i], NULL, MS_BIND, NULL);
    }
}

static void make_mounts(int run, const char *root) {
    unsigned long flags = MS_NOSUID | MS_NODEV | MS_NOEXEC;
    char options[1024], merged[256];
    mount_or_die(NULL, "/", NULL, MS_SLAVE | MS_REC, NULL);
    snprintf(merged, sizeof merged, "%s/%d/merged", base, run);
    snprintf(options, sizeof options, "lowerdir=%s,upperdir=%s/%d/upper,workdir=%s/%d/work", root, base, run, base, run);
    mount_or_die("overlay", merged, "overlay", 0, options);
    must(chdir(merged) == 0, merged);
    mount_or_die("proc", "proc", "proc", flags, NULL);
    mount_or_die("tmpfs", "dev", "tmpfs", MS_NOSUID | MS_STRICTATIME, "mode=755,size=65536k");
    must(mkdir("dev/pts", 0755) == 0 && mkdir("dev/shm", 01777) == 0 && mkdir("dev/mqueue", 01777) == 0, "dev");
    mount_or_die("devpts", "dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620,gid=5");
    mount_or_die("sysfs", "sys", "sysfs", flags | MS_RDONLY, NULL);
    mount_cgroups();
    mount_or_die("mqueue", "dev/mqueue", "mqueue", flags, NULL);
    mount_or_die("shm", "dev/shm", "tmpfs", flags, "mode=1777,size=65536k");
    bind_files(run);
    make_devices();
    mask();
    must(syscall(SYS_pivot_root, ".", ".") == 0, "pivot_root");
    must(umount2(".", MNT_DETACH) == 0 && chdir("/") == 0, "old root");
}

/* A filter as long as Docker's usual one: 340 numbers allowed, everything else refused. */
static void load_filter(const char *file) {
    static struct sock_filter code[4096];
    filter.filter = code;
    if (file) {
        int fd = open(file, O_RDONLY | O_CLOEXEC);
        ssize_t size = fd < 0 ? -1 : read(fd, code, sizeof code);
        must(size > 0, file);
        close(fd);
        filter.len = (unsigned short)((size_t)size / sizeof *code);
        return;
    }
    unsigned short n = 0, numbers = 340;
    code[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
    for (int nr = 0; nr < numbers; nr++) {
        code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)(nr < 335 ? nr : nr + 89), 0, 1);
        code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    }
    code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM);
    filter.len = n;
}

static void drop_rights(void) {
    uint64_t keep = 0xa80425fb; /* Docker's fourteen */
    for (int cap = 0; cap <= 40; cap++)
        if (!(keep >> cap & 1))
            prctl(PR_CAPBSET_DROP, cap, 0, 0, 0);
    must(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &filter) == 0, "seccomp");
    must(setgroups(0, NULL) == 0 && setresgid(0, 0, 0) == 0 && setresuid(0, 0, 0) == 0, "ids");
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct caps[2] = {{.effective = (uint32_t)keep, .permitted = (uint32_t)keep}};
    must(syscall(SYS_capset, &head, caps) == 0, "capset");
}

static void be_child(int run, const char *root, char **program, int go) {
    double t = now(), n;
    char *const environment[] = {"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", NULL};
    char byte;
#define CHILD_LAP(phase) (n = now(), child_times[phase] = n - t, t = n)
    for (int i = 0; i < hierarchy_count; i++)
        if (!hierarchies[i].v2)
            must(write(join_fds[i], "0", 1) == 1, "tasks");
    must(unshare(CLONE_NEWCGROUP) == 0, "cgroup namespace");
    CHILD_LAP(JOIN);
    must(sethostname("floor", 5) == 0, "sethostname");
    make_mounts(run, root);
    CHILD_LAP(MOUNTS);
    must(read(go, &byte, 1) == 1, "go");
    t = now();
    set_up_network();
    CHILD_LAP(NETWORK);
    setsid();
    drop_rights();
    CHILD_LAP(CAPS);
    child_times[TOTAL] = now();
    execve(program[0], program, environment);
    _exit(127);
}
