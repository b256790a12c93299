/* recvtty [--pid-file FILE] [--no-stdin] --mode null|single SOCKET
 *
 * Stands in for the suite's own program: accepts terminals that a runtime sends, and reads what they print until their end.
 * "single" copies it to stdout.
 * In C because the suite does not wait for the socket: it has to be there a moment later, as with a compiled program.
 */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { MOST = 64 }; /* terminals at once */

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static int listening(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (strlen(path) >= sizeof address.sun_path) {
        fprintf(stderr, "recvtty: the path is too long: %s\n", path);
        exit(1);
    }
    strcpy(address.sun_path, path);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) < 0 || listen(fd, 16) < 0)
        die(path);
    return fd;
}

static void write_pid(const char *path)
{
    FILE *file = fopen(path, "w");

    if (!file || fprintf(file, "%d\n", (int)getpid()) < 0 || fclose(file) != 0)
        die(path);
}

/* The terminal that comes over the next connection, -1 if none does. */
static int receive(int listener)
{
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(sizeof(int))];
    } control;
    char name[4096];
    struct iovec data = {name, sizeof name};
    struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    int terminal = -1, connection = accept(listener, NULL, NULL);

    if (connection < 0)
        die("accept");
    if (recvmsg(connection, &message, MSG_CMSG_CLOEXEC) > 0) {
        struct cmsghdr *rights = CMSG_FIRSTHDR(&message);
        if (rights && rights->cmsg_level == SOL_SOCKET && rights->cmsg_type == SCM_RIGHTS)
            memcpy(&terminal, CMSG_DATA(rights), sizeof terminal);
    }
    close(connection);
    return terminal;
}

int main(int argc, char **argv)
{
    struct pollfd fds[1 + MOST] = {{.fd = listening(argv[argc - 1]), .events = POLLIN}};
    char output[65536];
    int count = 1, copied = 0;

    for (int i = 1; i + 1 < argc; i++)
        if (strcmp(argv[i], "--pid-file") == 0)
            write_pid(argv[i + 1]);
        else if (strcmp(argv[i], "--mode") == 0)
            copied = strcmp(argv[i + 1], "single") == 0;
    for (;;) {
        if (poll(fds, count, -1) < 0)
            die("poll");
        for (int i = count - 1; i > 0; i--)
            if (fds[i].revents) {
                ssize_t size = read(fds[i].fd, output, sizeof output);
                if (size <= 0) { /* EIO: the other side is closed */
                    close(fds[i].fd);
                    fds[i] = fds[--count];
                } else if (copied && write(STDOUT_FILENO, output, size) != size) {
                    die("write");
                }
            }
        if (fds[0].revents) {
            int terminal = receive(fds[0].fd);
            if (count > MOST) {
                fprintf(stderr, "recvtty: more than %d terminals\n", MOST);
                return 1;
            }
            if (terminal >= 0)
                fds[count++] = (struct pollfd){.fd = terminal, .events = POLLIN};
        }
    }
}
