/* restart.c: the host goes down, as far as a demo may do that: all processes of the platform are killed in one moment,
 * and the bus's memory is thrown away. What is left are files: the bus's state folder, and the services' databases.
 *
 *   when     order-payment-service has just published an order, and noted neither that nor the order's payment as sent:
 *            between these two the one has to be known again, and the other must still be sent
 *   before   we close the bus, which we never keep: nothing of it is written by somebody who lives on
 *   after    all are started again, in no order. The first of them that opens the bus brings it back
 *   found    by a reader from the earliest: is each event that was acknowledged there? All of the demo's ask for ack
 *            disk (outbox.c), so all of them must be
 *
 * It is not a power cut: what the kernel has not written yet is not lost. That one is tests/crash/test_power.c. */
#include "conductor.h"

#include <evbus/admin.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MEMORY "/dev/shm"

/* The letter was published before, so that the faults of before and this one do not mix. */
static bool is_time_to_restart(struct demo *demo)
{
    return atomic_load(&demo->board->restart_me) && see_groups(demo) && demo->groups[NOTIFICATION].dead_letters == 1;
}

static bool bus_is_back(struct demo *demo)
{
    return atomic_load(&demo->board->back_ns) != 0;
}

/* Unlinks the files of this bus, and of no other: a bus's name has no dot. */
static bool throw_away(struct demo *demo, unsigned *out_files, uint64_t *out_bytes)
{
    char prefix[128];
    struct stat found;
    const struct dirent *entry;
    int len = snprintf(prefix, sizeof prefix, "evbus.%.64s.", demo->bus_name);
    DIR *dir = opendir(MEMORY);
    bool is_good = dir != NULL;
    *out_files = 0;
    *out_bytes = 0;
    while (is_good && (entry = readdir(dir)) != NULL) {
        if (strncmp(entry->d_name, prefix, (size_t)len) != 0)
            continue;
        is_good = fstatat(dirfd(dir), entry->d_name, &found, AT_SYMLINK_NOFOLLOW) == 0 &&
                  unlinkat(dirfd(dir), entry->d_name, 0) == 0;
        *out_files += 1;
        *out_bytes += (uint64_t)found.st_size;
    }
    if (!is_good)
        complain("%s: %s", MEMORY, strerror(errno));
    if (dir != NULL)
        (void)closedir(dir);
    return is_good && *out_files > 0;
}

static int see_bus(void *context, const struct evbus_listed *listed)
{
    struct demo *demo = context;
    if (strcmp(listed->bus, demo->bus_name) == 0)
        demo->restart.is_memory_gone = listed->state == EVBUS_ENOBUS;
    return 0;
}

/* What stands in the journal of before that moment. */
static bool read_journal(struct demo *demo, uint64_t killed_ns)
{
    struct evbus_reader *reader = NULL;
    struct evbus_delivery event = {.size = sizeof event};
    int rc = evbus_reader_open(
        &reader, demo->bus,
        &(struct evbus_reader_options){.size = sizeof(struct evbus_reader_options), .from = EVBUS_FROM_EARLIEST});
    while (rc == EVBUS_OK && (rc = evbus_reader_next(reader, &event, 0)) == EVBUS_OK) {
        enum topic topic = topic_of(event.topic);
        if (topic != N_TOPICS && event.timestamp_ns < killed_ns)
            demo->restart.found[topic]++;
    }
    evbus_reader_close(reader);
    if (rc != EVBUS_ETIMEOUT)
        complain("the journal: %s", evbus_message(demo->bus));
    return rc == EVBUS_ETIMEOUT;
}

/* Those that were alive. */
static bool start_again(struct demo *demo, const struct child *before, size_t n)
{
    bool is_good = true;
    for (size_t i = 0; is_good && i < n; i++)
        if (before[i].pid != 0)
            is_good = child_start(demo, before[i].kind, before[i].member) != NULL;
    return is_good;
}

static void say_who_came_first(struct demo *demo)
{
    char time[32];
    uint32_t pid = atomic_load(&demo->board->back_pid);
    const char *name = "somebody";
    for (size_t i = 0; i < demo->n_children; i++)
        if ((uint32_t)demo->children[i].pid == pid)
            name = demo->children[i].kind->name;
    uint64_t n = 0;
    for (int topic = 0; topic < N_TOPICS; topic++)
        n += demo->restart.found[topic];
    format_ns(atomic_load(&demo->board->back_ns), time);
    progress_say(demo,
                 "%s (%" PRIu32 ") was the first to open the bus: it came back from its journal in %s, with %" PRIu64
                 " events; all go on",
                 name, pid, time, n);
}

bool restart_host(struct demo *demo)
{
    struct child before[CHILDREN_MAX];
    size_t n = demo->n_children;
    unsigned n_files;
    uint64_t n_bytes;
    if (!await(demo, is_time_to_restart,
               "order-payment-service is in the chosen publish, and the dead letter is there"))
        return false;
    memcpy(before, demo->children, sizeof before);
    evbus_close(demo->bus);
    demo->bus = NULL;
    demo->restart.n_killed = children_kill(demo);
    uint64_t killed_ns = wall_ns();
    for (int topic = 0; topic < N_TOPICS; topic++)
        demo->restart.noted[topic] = value(&demo->board->published[topic]);
    if (!throw_away(demo, &n_files, &n_bytes))
        return false;
    if (evbus_list(see_bus, demo) != EVBUS_OK || !demo->restart.is_memory_gone) {
        complain("the bus's memory is still there, or its folder is not");
        return false;
    }
    progress_say(demo,
                 "the host restarts: all %u processes killed with SIGKILL, the bus's memory thrown away (%u files, "
                 "%" PRIu64 " MiB)",
                 demo->restart.n_killed, n_files, n_bytes >> 20);
    if (!start_again(demo, before, n) || !await(demo, bus_is_back, "the bus is back") || !open_bus(demo) ||
        !read_journal(demo, killed_ns))
        return false;
    say_who_came_first(demo);
    return await(demo, consumers_are_there, "all groups have their members again");
}
