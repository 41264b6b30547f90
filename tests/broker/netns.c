/* netns.c: hosts of a test's own.
 *
 *     host 0  [home 10.213.0.2] -- [host0 10.213.0.1]
 *     host 1  [home 10.213.1.2] -- [host1 10.213.1.1]   the test's namespace, in which its Redis listens
 *
 * Nothing has a name outside: a namespace lasts as long as a descriptor or a process is in it, and takes its ends of links along. So
 * whatever ends the test leaves no namespace, no link and no address behind, and tests that run side by side do not meet. A
 * thread that moved and came back is as it was. Unix sockets in the file system are of no network: they are reached from everywhere. */
#include "netns.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

static int hub_fd = -1;

__attribute__((format(printf, 1, 2))) static void run(const char *format, ...)
{
    char command[1000];
    va_list list;
    va_start(list, format);
    vsnprintf(command, sizeof command, format, list);
    va_end(list);
    cr_assert_eq(system(command), 0, "%s", command);
}

static int own_namespace(void)
{
    int fd = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
    cr_assert_geq(fd, 0, "/proc/thread-self/ns/net: %s", strerror(errno));
    return fd;
}

const char *netns_begin(void)
{
    static char why[200];
    if (system("ip -V >/dev/null 2>&1") != 0)
        return "there is no ip (Debian: iproute2)";
    if (unshare(CLONE_NEWNET) != 0) {
        snprintf(why, sizeof why, "no network namespace: %s", strerror(errno));
        return why;
    }
    hub_fd = own_namespace();
    run("ip link set lo up");
    return NULL;
}

bool netns_enter(const struct netns_host *host)
{
    return setns(host->fd, CLONE_NEWNET) == 0;
}

struct netns_host netns_make(unsigned number)
{
    struct netns_host host = {0};
    snprintf(host.link, sizeof host.link, "host%u", number);
    snprintf(host.hub, sizeof host.hub, "10.213.%u.1", number);
    cr_assert_eq(unshare(CLONE_NEWNET), 0, "%s", strerror(errno));
    host.fd = own_namespace();
    cr_assert_eq(setns(hub_fd, CLONE_NEWNET), 0, "%s", strerror(errno));
    run("ip link add %s type veth peer name home netns /proc/%d/fd/%d && ip address add %s/24 dev %s", host.link,
        (int)getpid(), host.fd, host.hub, host.link);
    cr_assert(netns_enter(&host), "%s", strerror(errno));
    run("ip link set lo up && ip address add 10.213.%u.2/24 dev home && ip link set home up", number);
    cr_assert_eq(setns(hub_fd, CLONE_NEWNET), 0, "%s", strerror(errno));
    netns_mend(&host);
    return host;
}

static void set_flags(const struct netns_host *host, bool is_up)
{
    struct ifreq request = {0};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    cr_assert_geq(fd, 0);
    memcpy(request.ifr_name, host->link, sizeof host->link);
    cr_assert_eq(ioctl(fd, SIOCGIFFLAGS, &request), 0, "%s: %s", host->link, strerror(errno));
    request.ifr_flags = (short)(is_up ? request.ifr_flags | IFF_UP : request.ifr_flags & ~IFF_UP);
    cr_assert_eq(ioctl(fd, SIOCSIFFLAGS, &request), 0, "%s: %s", host->link, strerror(errno));
    close(fd);
}

void netns_cut(const struct netns_host *host)
{
    set_flags(host, false);
}

void netns_mend(const struct netns_host *host)
{
    set_flags(host, true);
}
