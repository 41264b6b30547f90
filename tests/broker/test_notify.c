/* test_notify.c: the service manager hears in its own words what it has asked to hear. */
#include "notify.h"

#include "folder.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define S UINT64_C(1000000000)

/* The manager's end. is_abstract: a name that is no file. */
static int manager(bool is_abstract)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char name[100];
    static struct folder folder;
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (is_abstract) {
        snprintf(name, sizeof name, "@evbus-notify-%d", (int)getpid());
    } else {
        folder = folder_make();
        snprintf(name, sizeof name, "%.80s/notify", folder.path);
    }
    memcpy(address.sun_path, name, strlen(name));
    if (is_abstract)
        address.sun_path[0] = '\0';
    cr_assert_eq(
        bind(fd, (const struct sockaddr *)&address, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(name))),
        0);
    setenv("NOTIFY_SOCKET", name, 1);
    return fd;
}

/* The next datagram; "": there is none. */
static const char *heard(int fd)
{
    static char text[600];
    ssize_t len = recv(fd, text, sizeof text - 1, 0);
    text[len > 0 ? len : 0] = '\0';
    return text;
}

static void hears_all(bool is_abstract)
{
    struct notify notify;
    int fd = manager(is_abstract);
    notify_open(&notify);
    cr_assert_null(getenv("NOTIFY_SOCKET"), "it is for us alone");
    notify_status(&notify, "waits for %s", "the bus");
    cr_assert_str_eq(heard(fd), "STATUS=waits for the bus");
    notify_status(&notify, "waits for %s", "the bus");
    cr_assert_str_eq(heard(fd), "", "the same is not told again");
    notify_status(&notify, "two\nREADY=1");
    cr_assert_str_eq(heard(fd), "STATUS=two READY=1", "no variable is smuggled in");
    notify_starting(&notify, 10 * S);
    cr_assert_str_eq(heard(fd), "EXTEND_TIMEOUT_USEC=10000000");
    notify_ready(&notify);
    cr_assert_str_eq(heard(fd), "READY=1");
    notify_reloading(&notify);
    unsigned long long usec = 0;
    cr_assert_eq(sscanf(heard(fd), "RELOADING=1\nMONOTONIC_USEC=%llu", &usec), 1);
    cr_assert_gt(usec, 0);
    notify_stopping(&notify);
    cr_assert_str_eq(heard(fd), "STOPPING=1");
    notify_close(&notify);
    notify_ready(&notify);
    cr_assert_str_eq(heard(fd), "");
}

Test(notify, tells_a_manager_what_happens)
{
    hears_all(false);
}

Test(notify, tells_a_manager_whose_socket_is_abstract)
{
    hears_all(true);
}

Test(notify, feeds_the_watchdog_after_half_of_its_time)
{
    struct notify notify;
    int fd = manager(true);
    char pid[20];
    snprintf(pid, sizeof pid, "%d", (int)getpid());
    setenv("WATCHDOG_USEC", "30000000", 1);
    setenv("WATCHDOG_PID", pid, 1);
    notify_open(&notify);
    cr_assert_eq(notify.watchdog_ns, 30 * S);
    cr_assert_eq(notify_watchdog(&notify, 100 * S), 15001);
    cr_assert_str_eq(heard(fd), "WATCHDOG=1");
    cr_assert_eq(notify_watchdog(&notify, 114 * S), 1001);
    cr_assert_str_eq(heard(fd), "");
    cr_assert_eq(notify_watchdog(&notify, 115 * S), 15001);
    cr_assert_str_eq(heard(fd), "WATCHDOG=1");
    cr_assert_null(getenv("WATCHDOG_USEC"));
    cr_assert_null(getenv("WATCHDOG_PID"));
}

Test(notify, leaves_a_watchdog_alone_that_is_another_s_or_nonsense)
{
    static const char *const rows[][2] = {{"1", "30000000"},
                                          {NULL, "x"},
                                          {NULL, "-5"},
                                          {NULL, ""},
                                          {NULL, "99999999999999999999"},
                                          {NULL, "18446744073709551615"}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct notify notify;
        int fd = manager(true);
        if (rows[i][0] != NULL)
            setenv("WATCHDOG_PID", rows[i][0], 1);
        setenv("WATCHDOG_USEC", rows[i][1], 1);
        notify_open(&notify);
        cr_assert_eq(notify_watchdog(&notify, 100 * S), -1, "%zu", i);
        cr_assert_str_eq(heard(fd), "");
        notify_close(&notify);
        close(fd);
    }
}

Test(notify, says_nothing_where_nobody_asks_or_is_there)
{
    static const char *const names[] = {"", "relative", "/nowhere/at/all", "vsock:2:1"};
    struct notify notify;
    unsetenv("NOTIFY_SOCKET");
    notify_open(&notify);
    notify_ready(&notify);
    notify_close(&notify);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        setenv("NOTIFY_SOCKET", names[i], 1);
        notify_open(&notify);
        notify_ready(&notify);
        notify_status(&notify, "x");
        cr_assert_eq(notify_watchdog(&notify, 1), -1);
        notify_close(&notify);
    }
}
