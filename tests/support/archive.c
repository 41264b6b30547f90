/* archive.c: a bus of the test's own that remembers. See archive.h. */
#include "archive.h"

#include "clock.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static char to_remove[64];
static pid_t made_by;

static void remove_at_exit(void)
{
    if (to_remove[0] != '\0' && getpid() == made_by)
        evbus_remove(to_remove);
}

struct evbus *archive_open(const struct archive *archive, bool keeper)
{
    struct evbus *bus = NULL;
    struct evbus_options options = {.size = sizeof options,
                                    .bus = archive->name,
                                    .service = "tester",
                                    .keeper = keeper ? EVBUS_KEEPER_VOLUNTEER : EVBUS_KEEPER_NEVER};
    return evbus_open(&bus, &options) == EVBUS_OK ? bus : NULL;
}

struct archive archive_make(struct archive_options options)
{
    static unsigned count;
    static struct folder folder; /* one for all of this process */
    char catalogue[1024];
    if (made_by != getpid())
        folder = folder_make();
    folder_clear(&folder);
    struct archive archive = {.folder = folder};
    snprintf(archive.name, sizeof archive.name, "test-%d-archive%u", (int)getpid(), count++);
    snprintf(catalogue, sizeof catalogue,
             "{\"namespace\":\"test\",\"open\":true,\"tests\":true,"
             "\"defaults\":{%s\"partitions\":1,\"ring\":\"%s\",\"journal\":true},"
             "\"topics\":{\"test.a.one\":{\"groups\":[\"team\"]},\"test.b.one\":{}}}",
             options.settings != NULL ? options.settings : "", options.ring != NULL ? options.ring : "16KiB");
    setenv("EVBUS_STATE_DIR", archive.folder.path, 1);
    evbus_remove(archive.name);
    cr_assert_eq(evbus_init(&(struct evbus_init_options){
                     .size = sizeof(struct evbus_init_options), .bus = archive.name, .catalogue = catalogue}),
                 EVBUS_OK, "%s", evbus_message(NULL));
    if (made_by != getpid())
        atexit(remove_at_exit);
    made_by = getpid();
    memcpy(to_remove, archive.name, sizeof to_remove);
    archive.bus = archive_open(&archive, options.keeper);
    cr_assert_not_null(archive.bus, "%s", evbus_message(NULL));
    return archive;
}

void archive_forget_memory(const struct archive *archive)
{
    char prefix[80];
    int len = snprintf(prefix, sizeof prefix, "evbus.%s.", archive->name);
    DIR *dir = opendir("/dev/shm");
    for (struct dirent *entry; dir != NULL && (entry = readdir(dir)) != NULL;) {
        char name[300];
        if (strncmp(entry->d_name, prefix, (size_t)len) != 0)
            continue;
        snprintf(name, sizeof name, "/%s", entry->d_name);
        shm_unlink(name);
    }
    if (dir != NULL)
        closedir(dir);
}

int archive_publish(struct evbus *bus, const char *topic, unsigned seq, size_t len)
{
    char payload[4096];
    cr_assert_lt(len, sizeof payload);
    memset(payload, ' ', sizeof payload);
    int n = snprintf(payload, sizeof payload, "{\"seq\":%u}", seq);
    payload[n] = ' ';
    payload[len > (size_t)n ? len : (size_t)n] = '\0';
    return evbus_publish(bus,
                         &(struct evbus_event){.size = sizeof(struct evbus_event),
                                               .topic = topic,
                                               .payload = payload,
                                               .key = "k",
                                               .timeout_ns = 5 * CLOCK_NS_PER_S},
                         NULL);
}

unsigned archive_seq(const char *payload)
{
    return (unsigned)strtoul(payload + 7, NULL, 10);
}

unsigned archive_read(struct evbus *bus, uint64_t *out_lost)
{
    struct evbus_reader *reader = NULL;
    const char *pattern = "test.a.one";
    unsigned n = 0;
    cr_assert_eq(evbus_reader_open(&reader, bus,
                                   &(struct evbus_reader_options){.size = sizeof(struct evbus_reader_options),
                                                                  .patterns = &pattern,
                                                                  .n_patterns = 1,
                                                                  .from = EVBUS_FROM_EARLIEST}),
                 EVBUS_OK, "%s", evbus_message(bus));
    for (;; n++) {
        struct evbus_delivery delivery = {.size = sizeof delivery};
        int rc = evbus_reader_next(reader, &delivery, 0);
        if (rc == EVBUS_ETIMEOUT)
            break;
        cr_assert_eq(rc, EVBUS_OK, "%s", evbus_message(bus));
        cr_assert_eq(archive_seq(delivery.payload), n, "event %u is not there, %u comes", n,
                     archive_seq(delivery.payload));
    }
    if (out_lost != NULL)
        *out_lost = evbus_reader_lost(reader);
    evbus_reader_close(reader);
    return n;
}

struct evbus_subscription *archive_join(struct evbus *bus, const char *group)
{
    struct evbus_subscription *sub = NULL;
    cr_assert_eq(evbus_subscribe(
                     &sub, bus,
                     &(struct evbus_subscribe_options){.size = sizeof(struct evbus_subscribe_options), .group = group}),
                 EVBUS_OK, "%s", evbus_message(bus));
    return sub;
}

unsigned archive_receive(struct evbus_subscription *sub, struct evbus_delivery *out)
{
    *out = (struct evbus_delivery){.size = sizeof *out};
    cr_assert_eq(evbus_receive(sub, out, 10 * CLOCK_NS_PER_S), EVBUS_OK, "%s", evbus_message(NULL));
    return archive_seq(out->payload);
}

struct ring *archive_ring(const struct evbus *bus, const char *log)
{
    for (uint32_t l = 0; l < memory_n_logs(&bus->memory); l++)
        if (strcmp(bus->memory.logs[l].name, log) == 0)
            return &bus->memory.logs[l].rings[0];
    cr_assert_fail("no log %s", log);
    return NULL;
}

struct writer *archive_writer(struct evbus *bus, uint32_t number)
{
    struct writer *writer = NULL;
    struct error err = {""};
    cr_assert_eq(writer_open(&writer, &bus->memory, &bus->log, number, &err), EVBUS_OK, "%s", err.text);
    return writer;
}

enum writer_did archive_look(struct writer *writer)
{
    uint64_t due_ns = UINT64_MAX;
    return writer_look(writer, clock_mono_ns(), &due_ns);
}
