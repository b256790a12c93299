/* floor: the kernel's share of a container start. Makes the kernel calls that a start with default options needs, in
 * C and with nothing around them, and prints the time of each phase:
 *
 *     floor [-n RUNS] [-s SECCOMP_BPF] [-N] ROOT PROGRAM [ARG...]
 *
 * ROOT is an unpacked image, used as overlay's only lower directory. -N: no network. -s: a compiled filter; without it
 * one is made that is as long as a usual one. Needs root; uses its own bridge, cgroups and /tmp directory, removes all.
 * One line of JSON: medians in microseconds by phase; "known", from the directories being there to the program's exit
 * status; and "total", from the first call to everything removed.
 *
 * parent                                      child
 *   dirs     upper, work, hosts, ...
 *   cgroups  mkdir in every hierarchy, limits
 *   clone    clone3 with all namespaces ------> join     "0" into every tasks file (v1) or born in it (v2)
 *   veth     one rtnetlink message              mounts   overlay, proc, dev, ..., masks, pivot_root
 *            go ------------------------------> network  lo and eth0 up, address, default route
 *   wait     for the pidfd                      caps     bounding, effective, no_new_privs, seccomp; execve
 *   clean    rmdir everything
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <linux/veth.h>
#include <arpa/inet.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { DIRS, CGROUPS, CLONE, VETH, JOIN, MOUNTS, NETWORK, CAPS, EXEC, CLEAN, KNOWN, TOTAL, PHASES };
static const char *const phase_names[PHASES] = {
    "dirs", "cgroups", "clone", "veth", "join", "mounts", "network", "caps", "exec_exit", "clean", "known", "total"};

struct hierarchy { char mountpoint[256], options[64]; int v2; };
static struct hierarchy hierarchies[32];
static int hierarchy_count;
static char base[64], bridge[IFNAMSIZ];
static int bridge_index, with_network = 1;
static struct sock_fprog filter;
static pid_t parent; /* ourselves; in a new pid namespace getpid() says 1 */
static int current;  /* the run under way, -1: none */
static double *child_times; /* shared: what the child measured, by phase; [TOTAL] is when it called execve */

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static void must(int ok, const char *what) {
    if (!ok) {
        fprintf(stderr, "floor: %s: %s\n", what, strerror(errno));
        if (getpid() != parent)
            _exit(1);
        exit(1); /* atexit: sweep */
    }
}

static void put(const char *path, const char *text) {
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    must(fd >= 0 && write(fd, text, strlen(text)) >= 0, path);
    close(fd);
}

#include "floor_network.h"

/* ---- cgroups ---- */

static void find_hierarchies(void) {
    FILE *mounts = fopen("/proc/self/mounts", "re");
    char source[256], point[256], type[64], options[512];
    must(mounts != NULL, "/proc/self/mounts");
    while (fscanf(mounts, "%255s %255s %63s %511s %*d %*d", source, point, type, options) == 4) {
        if (strncmp(type, "cgroup", 6) || hierarchy_count == 32)
            continue;
        struct hierarchy *h = &hierarchies[hierarchy_count++];
        const char *last = strrchr(options, ',');
        snprintf(h->mountpoint, sizeof h->mountpoint, "%s", point);
        snprintf(h->options, sizeof h->options, "%s", last ? last + 1 : "");
        h->v2 = type[6] == '2';
    }
    fclose(mounts);
}

static void group_path(char *path, size_t size, const struct hierarchy *h, int run, const char *file) {
    must((size_t)snprintf(path, size, "%s/%s.%d/%s", h->mountpoint, bridge, run, file) < size, "path");
}

static void copy_setting(const struct hierarchy *h, int run, const char *file) {
    char from[512], to[512], value[128] = "";
    snprintf(from, sizeof from, "%s/%s", h->mountpoint, file);
    int fd = open(from, O_RDONLY | O_CLOEXEC);
    must(fd >= 0 && read(fd, value, sizeof value - 1) >= 0, from);
    close(fd);
    group_path(to, sizeof to, h, run, file);
    put(to, value);
}

/* The device list every engine writes: nothing, then the usual ones (v1; on v2 it is one eBPF program). */
static void allow_devices(const struct hierarchy *h, int run) {
    static const char *const rules[] = {"c *:* m", "b *:* m", "c 1:3 rwm", "c 1:5 rwm", "c 1:7 rwm", "c 1:8 rwm",
                                        "c 1:9 rwm", "c 5:0 rwm", "c 5:2 rwm", "c 136:* rwm", "c 5:1 rwm"};
    char path[512];
    group_path(path, sizeof path, h, run, "devices.deny");
    put(path, "a");
    group_path(path, sizeof path, h, run, "devices.allow");
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++)
        must(write(fd, rules[i], strlen(rules[i])) > 0, path);
    close(fd);
}

static void make_cgroups(int run) {
    char path[512];
    for (int i = 0; i < hierarchy_count; i++) {
        struct hierarchy *h = &hierarchies[i];
        group_path(path, sizeof path, h, run, "");
        must(mkdir(path, 0755) == 0, path);
        if (!h->v2 && strstr(h->options, "cpuset")) {
            copy_setting(h, run, "cpuset.cpus");
            copy_setting(h, run, "cpuset.mems");
        }
        if (!h->v2 && strstr(h->options, "devices"))
            allow_devices(h, run);
    }
}

static int join_fds[32];

static void open_join_fds(int run) {
    char path[512];
    for (int i = 0; i < hierarchy_count; i++) {
        struct hierarchy *h = &hierarchies[i];
        group_path(path, sizeof path, h, run, h->v2 ? "" : "tasks");
        join_fds[i] = open(path, (h->v2 ? O_RDONLY | O_DIRECTORY : O_WRONLY) | O_CLOEXEC);
        must(join_fds[i] >= 0, path);
    }
}

static void remove_cgroups(int run) {
    char path[512];
    for (int i = 0; i < hierarchy_count; i++) {
        group_path(path, sizeof path, &hierarchies[i], run, "");
        must(rmdir(path) == 0, path);
    }
}

#include "floor_child.h"

/* ---- one run ---- */

static void remove_tree(int at, const char *name) {
    int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    must(fd >= 0, name);
    DIR *dir = fdopendir(fd);
    for (struct dirent *entry; (entry = readdir(dir));) {
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
            continue;
        if (unlinkat(fd, entry->d_name, 0) != 0)
            remove_tree(fd, entry->d_name);
    }
    closedir(dir);
    must(unlinkat(at, name, AT_REMOVEDIR) == 0, name);
}

static void make_dirs(int run, int make) {
    static const char *const names[] = {"", "/upper", "/work", "/merged"};
    char path[256];
    for (int i = 0; make && i < 4; i++) {
        snprintf(path, sizeof path, "%s/%d%s", base, run, names[i]);
        must(mkdir(path, 0755) == 0, path);
    }
    static const char *const files[] = {"hosts", "hostname", "resolv.conf"};
    for (int i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "%s/%d/%s", base, run, files[i]);
        if (make)
            put(path, "127.0.0.1 localhost\n");
        else
            unlink(path);
    }
    if (!make) { /* what overlay and the mounts left in upper and work */
        char command[512];
        snprintf(command, sizeof command, "%s/%d", base, run);
        remove_tree(AT_FDCWD, command);
    }
}

/* After a failure: the run's groups, its directory, the bridge. */
static void sweep(void) {
    char path[512];
    if (current >= 0) {
        for (int i = 0; i < hierarchy_count; i++) {
            group_path(path, sizeof path, &hierarchies[i], current, "");
            rmdir(path);
        }
        snprintf(path, sizeof path, "%s/%d", base, current);
        if (access(path, F_OK) == 0)
            remove_tree(AT_FDCWD, path);
    }
    if (bridge_index)
        remove_bridge();
    rmdir(base);
}

static void run_once(int run, const char *root, char **program, double *times) {
    int go[2], sock = rtnetlink(), status, v2 = -1;
    double start = now(), t = start, asked;
#define LAP(phase) do { double n = now(); times[phase] = n - t; t = n; } while (0)
    make_dirs(run, 1);
    LAP(DIRS);
    asked = t;
    make_cgroups(run);
    open_join_fds(run);
    LAP(CGROUPS);
    for (int i = 0; i < hierarchy_count; i++)
        if (hierarchies[i].v2)
            v2 = join_fds[i];
    must(pipe2(go, O_CLOEXEC) == 0, "pipe");
    int pidfd = -1;
    struct clone_args args = {.exit_signal = SIGCHLD, .pidfd = (uintptr_t)&pidfd,
                              .flags = CLONE_PIDFD | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWUTS | CLONE_NEWIPC |
                                       CLONE_NEWNET | (v2 >= 0 ? CLONE_INTO_CGROUP : 0),
                              .cgroup = (uint64_t)(v2 >= 0 ? v2 : 0)};
    pid_t child = (pid_t)syscall(SYS_clone3, &args, sizeof args);
    must(child >= 0, "clone3");
    if (child == 0)
        be_child(run, root, program, go[0]);
    LAP(CLONE);
    if (with_network)
        make_veth(sock, run, child);
    must(write(go[1], "g", 1) == 1, "go");
    LAP(VETH);
    struct pollfd ready = {.fd = pidfd, .events = POLLIN};
    must(poll(&ready, 1, 20000) == 1, "the child does not end");
    must(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0, "the child failed");
    double ended = now();
    times[EXEC] = ended - child_times[TOTAL];
    times[KNOWN] = ended - asked;
    for (int i = JOIN; i <= CAPS; i++)
        times[i] = child_times[i];
    t = ended;
    for (int i = 0; i < hierarchy_count; i++)
        close(join_fds[i]);
    close(go[0]), close(go[1]), close(pidfd), close(sock);
    remove_cgroups(run);
    make_dirs(run, 0);
    LAP(CLEAN);
    times[TOTAL] = now() - start;
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv) {
    int runs = 20, option;
    const char *filter_file = NULL;
    while ((option = getopt(argc, argv, "+n:s:N")) != -1) {
        if (option == 'n') runs = atoi(optarg);
        else if (option == 's') filter_file = optarg;
        else if (option == 'N') with_network = 0;
        else return 125;
    }
    if (argc - optind < 2 || runs < 1) {
        fprintf(stderr, "usage: floor [-n RUNS] [-s SECCOMP_BPF] [-N] ROOT PROGRAM [ARG...]\n");
        return 125;
    }
    parent = getpid();
    current = -1;
    atexit(sweep);
    signal(SIGPIPE, SIG_IGN);
    snprintf(bridge, sizeof bridge, "floor%d", getpid());
    snprintf(base, sizeof base, "/tmp/%s", bridge);
    must(mkdir(base, 0700) == 0, base);
    child_times = mmap(NULL, sizeof(double) * PHASES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    find_hierarchies();
    load_filter(filter_file);
    if (with_network)
        make_bridge(rtnetlink());
    double (*times)[PHASES] = calloc((size_t)runs, sizeof *times);
    for (current = 0; current < runs; current++)
        run_once(current, argv[optind], argv + optind + 1, times[current]);
    current = -1;
    sweep();
    double *column = calloc((size_t)runs, sizeof *column);
    printf("{\"runs\": %d, \"hierarchies\": %d", runs, hierarchy_count);
    for (int phase = 0; phase < PHASES; phase++) {
        for (int i = 0; i < runs; i++)
            column[i] = times[i][phase];
        qsort(column, (size_t)runs, sizeof *column, by_value);
        printf(", \"%s\": %.1f", phase_names[phase], column[runs / 2]);
    }
    printf("}\n");
    return 0;
}
