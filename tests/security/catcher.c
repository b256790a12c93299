/* An attacker inside a container: looks at every other process there, as fast as it can, and keeps what it gets hold of.
 *
 *     catcher MARKER          until a file /stop is there. Then one line for each find:
 *
 *     exe STATE PATH          an executable file that is not ours: "open" if it can be written once nobody executes it,
 *                             "readonly" for its mount, "sealed"
 *     host WAY                MARKER, a path of the host, exists by way of a process's root, cwd or descriptor
 *     traced PID              ptrace(2) let us seize a process that had not executed the user's program yet
 */
#define _GNU_SOURCE
#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MOST = 64 };
static int held[MOST], count;
static char names[MOST][256];
static struct stat own;

static int known(const struct stat *it) {
    struct stat other;
    for (int i = 0; i < count; i++)
        if (!fstat(held[i], &other) && other.st_ino == it->st_ino && other.st_dev == it->st_dev)
            return 1;
    return it->st_ino == own.st_ino && it->st_dev == own.st_dev;
}

static int catch_exe(int process, const char *pid) {
    struct stat it;
    int fd = openat(process, "exe", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    if (fstat(fd, &it) || count == MOST || known(&it)) {
        close(fd);
        return 0;
    }
    char own_way[32]; /* by our descriptor: the process may have ended meanwhile */
    snprintf(own_way, sizeof own_way, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(own_way, names[count], sizeof names[0] - 1);
    names[count][length > 0 ? length : 0] = 0;
    if (strstr(names[count], "busybox")) { /* the user's program runs */
        close(fd);
        return 0;
    }
    held[count++] = fd;
    if (!ptrace(PTRACE_SEIZE, atoi(pid), 0, 0)) {
        printf("traced %s %s\n", pid, names[count - 1]);
        ptrace(PTRACE_DETACH, atoi(pid), 0, 0);
    }
    return 1;
}

static void look_for(int process, const char *way, const char *marker) {
    struct stat it;
    int fd = openat(process, way, O_PATH | O_CLOEXEC);
    if (fd < 0)
        return;
    char path[4096];
    snprintf(path, sizeof path, "../../../../../../../..%s", marker);
    if (!fstatat(fd, marker + 1, &it, 0) || !fstatat(fd, path, &it, 0))
        printf("host %s\n", way);
    close(fd);
}

int main(int argc, char **argv) {
    if (argc < 2)
        return 125;
    stat("/proc/self/exe", &own);
    while (access("/stop", F_OK)) {
        DIR *all = opendir("/proc");
        struct dirent *entry;
        while (all && (entry = readdir(all))) {
            if (!isdigit(entry->d_name[0]) || !strcmp(entry->d_name, "1"))
                continue;
            int process = openat(dirfd(all), entry->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
            if (process < 0)
                continue;
            catch_exe(process, entry->d_name);
            look_for(process, "root", argv[1]);
            look_for(process, "cwd", argv[1]);
            for (int fd = 0; fd < 24; fd++) {
                char way[16];
                snprintf(way, sizeof way, "fd/%d", fd);
                look_for(process, way, argv[1]);
            }
            close(process);
        }
        closedir(all);
        while (waitpid(-1, NULL, WNOHANG) > 0) {}
    }
    for (int i = 0; i < count; i++) { /* to open it would say "busy" as long as anybody executes it */
        struct statvfs mount;
        int sealed = fcntl(held[i], F_GET_SEALS);
        const char *state = fstatvfs(held[i], &mount)      ? "unknown"
                            : mount.f_flag & ST_RDONLY     ? "readonly"
                            : sealed > 0 && sealed & F_SEAL_WRITE ? "sealed"
                                                           : "open";
        printf("exe %s %s\n", state, names[i]);
    }
    fflush(stdout);
    return 0;
}
