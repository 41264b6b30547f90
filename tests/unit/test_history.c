/* test_history.c: an event is found by its id, in memory and in files, and what became of it is told. */
#include <evbus/history.h>

#include "archive.h"
#include "await.h"
#include "clock.h"
#include "fixture.h"
#include "index.h"
#include "partition.h"
#include "shown.h"
#include "uuid7.h"

#include <criterion/criterion.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* --- find ---------------------------------------------------------------------------------------------------------------- */

struct found {
    unsigned n;
    char topic[64];
    char service[64];
    char key[64];
    char payload[64];
    uint32_t partition;
    uint64_t position;
};

static int keep(void *context, const struct evbus_delivery *event)
{
    struct found *found = context;
    found->n++;
    snprintf(found->topic, sizeof found->topic, "%s", event->topic);
    snprintf(found->service, sizeof found->service, "%s", event->service);
    snprintf(found->key, sizeof found->key, "%s", event->key);
    snprintf(found->payload, sizeof found->payload, "%s", (const char *)event->payload);
    found->partition = event->partition;
    found->position = event->position;
    return EVBUS_OK;
}

static int find(struct evbus *bus, const uint8_t id[16], struct found *out)
{
    *out = (struct found){.n = 0};
    return evbus_find(bus, id, keep, out);
}

static struct evbus_receipt publish(struct evbus *bus, const char *key, const char *payload)
{
    struct evbus_receipt receipt = {.size = sizeof receipt};
    cr_assert_eq(evbus_publish(bus,
                               &(struct evbus_event){.size = sizeof(struct evbus_event),
                                                     .topic = "test.a.one",
                                                     .key = key,
                                                     .payload = payload,
                                                     .timeout_ns = 10 * CLOCK_NS_PER_S},
                               &receipt),
                 EVBUS_OK, "%s", evbus_message(bus));
    return receipt;
}

Test(history, an_event_is_found_where_it_stands)
{
    struct archive archive = archive_make((struct archive_options){.keeper = true});
    struct evbus_receipt receipts[600];
    struct found found;
    for (unsigned i = 0; i < 600; i++) { /* more than the ring has, and than a file has */
        char payload[600], key[16];
        snprintf(payload, sizeof payload, "{\"seq\":%u,\"pad\":\"%0500u\"}", i, 0);
        snprintf(key, sizeof key, "k%u", i);
        receipts[i] = publish(archive.bus, key, payload);
    }
    for (unsigned i = 0; i < 600; i++) {
        char begin[32], key[16];
        cr_assert_eq(find(archive.bus, receipts[i].id, &found), EVBUS_OK, "event %u: %s", i,
                     evbus_message(archive.bus));
        snprintf(begin, sizeof begin, "{\"seq\":%u,", i);
        snprintf(key, sizeof key, "k%u", i);
        cr_assert_eq(found.n, 1u, "event %u: %u times", i, found.n);
        cr_expect_eq(strncmp(found.payload, begin, strlen(begin)), 0, "event %u: %s", i, found.payload);
        cr_expect_str_eq(found.topic, "test.a.one");
        cr_expect_str_eq(found.service, "tester");
        cr_expect_str_eq(found.key, key);
        cr_expect_eq(found.position, receipts[i].position);
    }
    cr_expect_gt(folder_count(&archive.folder, ".idx"), 0u);
    evbus_close(archive.bus);
}

Test(history, an_event_of_an_earlier_life_is_found_with_who_published_it)
{
    struct archive archive = archive_make((struct archive_options){.keeper = true});
    struct found found;
    struct evbus_receipt first = publish(archive.bus, "k", "{\"seq\":1}");
    const struct ring *ring = archive_ring(archive.bus, "test.a");
    cr_assert(await_that(ring_synced(ring) == ring_tail(ring)));
    evbus_close(archive.bus);
    for (int life = 0; life < 2; life++) {
        archive_forget_memory(&archive);
        cr_assert_not_null(archive.bus = archive_open(&archive, true), "%s", evbus_message(NULL));
        cr_assert_eq(find(archive.bus, first.id, &found), EVBUS_OK, "%s", evbus_message(archive.bus));
        cr_expect_eq(found.n, 1u);
        cr_expect_str_eq(found.service, "tester");
        cr_expect_str_eq(found.payload, "{\"seq\":1}");
        publish(archive.bus, "k", "{\"seq\":2}");
        ring = archive_ring(archive.bus, "test.a");
        cr_assert(await_that(ring_synced(ring) == ring_tail(ring)));
        evbus_close(archive.bus);
    }
}

Test(history, an_id_that_was_published_twice_is_found_twice)
{
    struct archive archive = archive_make((struct archive_options){.keeper = true});
    struct found found;
    struct evbus_event event = {.size = sizeof event,
                                .topic = "test.a.one",
                                .key = "k",
                                .payload = "1",
                                .id = {1, 2, 3, 4, 5, 6, 0x47, 8, 0x89}};
    for (int i = 0; i < 2; i++)
        cr_assert_eq(evbus_publish(archive.bus, &event, NULL), EVBUS_OK, "%s", evbus_message(archive.bus));
    cr_expect_eq(find(archive.bus, event.id, &found), EVBUS_OK);
    cr_expect_eq(found.n, 2u);
    evbus_close(archive.bus);
}

Test(history, an_event_that_is_not_kept_is_told)
{
    struct archive archive = archive_make((struct archive_options){.keeper = true});
    static const uint8_t id[16] = {1, 2, 3, 4, 5, 6, 0x47, 8, 0x89};
    struct found found;
    publish(archive.bus, "k", "1");
    cr_expect_eq(find(archive.bus, id, &found), EVBUS_ENOTFOUND);
    cr_expect_not_null(strstr(evbus_message(archive.bus), "01020304-0506-4708-8900-000000000000"), "%s",
                       evbus_message(archive.bus));
    cr_expect_eq(evbus_find(archive.bus, NULL, keep, &found), EVBUS_EINVAL);
    cr_expect_eq(evbus_find(archive.bus, id, NULL, &found), EVBUS_EINVAL);
    evbus_close(archive.bus);
}

Test(history, an_event_of_a_log_without_a_journal_is_found_while_it_is_in_memory)
{
    struct fixture f = fixture_make((struct fixture_options){0});
    struct found found;
    struct evbus_receipt receipt = publish(f.bus, "k", "1");
    cr_expect_eq(find(f.bus, receipt.id, &found), EVBUS_OK, "%s", evbus_message(f.bus));
    cr_expect_eq(found.n, 1u);
    fixture_end(&f);
}

/* Bytes that this process has read so far, from files. */
static uint64_t bytes_read(void)
{
    unsigned long long n = 0;
    FILE *file = fopen("/proc/self/io", "re");
    cr_assert_not_null(file);
    cr_assert_eq(fscanf(file, "rchar: %llu", &n), 1);
    fclose(file);
    return n;
}

/* 256 MiB; under a sanitizer or valgrind less. */
Test(history, finding_an_event_reads_little_of_much, .timeout = 280)
{
    const uint64_t wanted = getenv("EVBUS_SLOW") != NULL || getenv("EVBUS_QUICK") != NULL ? 16 << 20 : 256 << 20;
    struct archive archive = archive_make((struct archive_options){.ring = "256KiB", .keeper = true});
    static char payload[3901];
    struct evbus_receipt first = {0}, middle = {0}, last = {0};
    struct found found;
    memset(payload, '1', sizeof payload - 1);
    const struct ring *ring = archive_ring(archive.bus, "test.a");
    for (uint64_t n = 0; n < wanted; n = ring_tail(ring) * CELL_BYTES) {
        last = publish(archive.bus, "k", payload);
        first = n == 0 ? last : first;
        middle = n < wanted / 2 ? last : middle;
    }
    cr_assert(await_that(ring_synced(ring) == ring_tail(ring)));
    const uint64_t segment = segment_cells(ring->capacity) * CELL_BYTES;
    const uint64_t n_segments = wanted / segment + 2;
    cr_assert_eq(find(archive.bus, first.id, &found), EVBUS_OK); /* makes the indexes that the keeper had no time for */
    const struct evbus_receipt *rows[] = {&first, &middle, &last};
    for (size_t i = 0; i < 3; i++) {
        uint64_t before = bytes_read();
        cr_assert_eq(find(archive.bus, rows[i]->id, &found), EVBUS_OK, "%s", evbus_message(archive.bus));
        uint64_t n = bytes_read() - before;
        cr_expect_eq(found.n, 1u);
        /* twice, for the event and for who published it: a header of each file and of its index, and the last file */
        uint64_t most = 2 * (n_segments * 3 * 4096 + segment + (1 << 20)) + 64 * 4096;
        cr_expect_leq(n, most, "%" PRIu64 " bytes of %" PRIu64 ", at most %" PRIu64, n, wanted, most);
        fprintf(stderr, "found: %" PRIu64 " bytes read of %" PRIu64 "\n", n, wanted);
    }
    evbus_close(archive.bus);
}

Test(history, the_keeper_makes_the_indexes_of_files_that_are_finished)
{
    struct archive archive = archive_make((struct archive_options){.keeper = true});
    char payload[600];
    snprintf(payload, sizeof payload, "{\"pad\":\"%0550u\"}", 0);
    for (unsigned i = 0; i < 1500; i++)
        publish(archive.bus, "k", payload);
    size_t n = folder_count(&archive.folder, ".seg");
    cr_assert_gt(n, 3u);
    cr_expect(await_that(folder_count(&archive.folder, ".idx") >= n - 4), "%zu indexes of %zu files",
              folder_count(&archive.folder, ".idx"), n); /* four logs have a last one */
    evbus_close(archive.bus);
}

/* --- why ----------------------------------------------------------------------------------------------------------------- */

static struct shown told;

static const struct shown *why(struct evbus *bus, const uint8_t id[16])
{
    shown_forget(&told);
    cr_assert_eq(evbus_why(bus, id, shown_keep, &told), EVBUS_OK, "%s", evbus_message(bus));
    return &told;
}

static struct evbus_delivery receive(struct evbus_subscription *sub)
{
    struct evbus_delivery delivery = {.size = sizeof delivery};
    cr_assert_eq(evbus_receive(sub, &delivery, 5 * CLOCK_NS_PER_S), EVBUS_OK);
    return delivery;
}

/* All that was published? */
static bool is_on_disk(const struct evbus *bus)
{
    for (uint32_t l = 0; l < memory_n_logs(&bus->memory); l++) {
        const struct ring *ring = &bus->memory.logs[l].rings[0];
        if (ring_synced(ring) != ring_tail(ring))
            return false;
    }
    return true;
}

#define EXPECT(shown, part) shown_expect(shown, "%s", part)

Test(history, why_tells_who_published_an_event_and_how_far_each_group_is)
{
    struct archive archive = archive_make((struct archive_options){.keeper = true});
    char wanted[200], host[65] = "";
    struct evbus_receipt first = publish(archive.bus, "k", "1");
    struct evbus_receipt second = publish(archive.bus, "k", "2");
    struct evbus_receipt other = publish(archive.bus, "other", "3");
    gethostname(host, sizeof host - 1);
    const struct shown *text = why(archive.bus, first.id);
    snprintf(wanted, sizeof wanted,
             "event topic=test.a.one log=test.a partition=0 position=%" PRIu64 " key=k timestamp=", first.position);
    EXPECT(text, wanted);
    snprintf(wanted, sizeof wanted, " service=tester host=%s pid=%d in_memory=1\n", host, (int)getpid());
    EXPECT(text, wanted);
    EXPECT(text, "group group=team state=waiting ahead=");
    struct evbus_subscription *sub = archive_join(archive.bus, "team");
    struct evbus_delivery delivery = receive(sub);
    struct evbus_delivery of_other = receive(sub);
    EXPECT(why(archive.bus, first.id), "group group=team state=running attempts=1 member=tester since=");
    EXPECT(why(archive.bus, other.id), "group group=team state=running attempts=1 member=tester since=");
    snprintf(wanted, sizeof wanted, "group group=team state=held behind=%" PRIu64 "\n", first.position);
    EXPECT(why(archive.bus, second.id), wanted);
    cr_assert_eq(evbus_finish(sub, &of_other, EVBUS_DONE, NULL), EVBUS_OK);
    cr_assert_eq(evbus_finish(sub, &delivery, EVBUS_RETRY, "no connection"), EVBUS_OK);
    EXPECT(why(archive.bus, other.id), "group group=team state=done\n");
    text = why(archive.bus, first.id);
    EXPECT(text, "group group=team state=retrying attempts=1 due=");
    EXPECT(text, "attempt n=1 at=");
    EXPECT(text, " cause=failed error=no connection\n");
    EXPECT(why(archive.bus, second.id), wanted);
    evbus_unsubscribe(sub);
    evbus_close(archive.bus);
}

Test(history, why_tells_of_each_attempt_of_a_dead_event)
{
    struct archive archive = archive_make((struct archive_options){.keeper = true});
    char error[32], wanted[64];
    struct evbus_receipt receipt = publish(archive.bus, "k", "1");
    struct evbus_subscription *sub = archive_join(archive.bus, "team");
    clock_freeze();
    for (int i = 1; i <= 3; i++) {
        struct evbus_delivery delivery = {.size = sizeof delivery};
        cr_assert(await_that(evbus_receive(sub, &delivery, 0) == EVBUS_OK));
        snprintf(error, sizeof error, "try %d failed", i);
        cr_assert_eq(evbus_finish(sub, &delivery, EVBUS_RETRY, error), EVBUS_OK);
        clock_advance(20 * CLOCK_NS_PER_S);
    }
    struct evbus_delivery none = {.size = sizeof none};
    cr_assert_eq(evbus_receive(sub, &none, 0), EVBUS_ETIMEOUT);
    for (int life = 0; life < 2; life++) {
        const struct shown *text = why(archive.bus, receipt.id);
        EXPECT(text, "group group=team state=dead deadLetterId=");
        for (int i = 1; i <= 3; i++) {
            snprintf(wanted, sizeof wanted, "attempt n=%d at=", i);
            EXPECT(text, wanted);
            snprintf(wanted, sizeof wanted, "error=try %d failed\n", i);
            EXPECT(text, wanted);
        }
        if (life == 0) { /* also after a restart of the host */
            clock_release();
            evbus_unsubscribe(sub);
            cr_assert(await_that(is_on_disk(archive.bus)));
            evbus_close(archive.bus); /* its keeper ends its term: all is on disk, and saved */
            archive_forget_memory(&archive);
            cr_assert_not_null(archive.bus = archive_open(&archive, false), "%s", evbus_message(NULL));
        }
    }
    evbus_close(archive.bus);
}

Test(history, why_tells_that_a_dead_event_waits_again_where_its_group_was_moved_back)
{
    struct archive archive = archive_make((struct archive_options){.keeper = true});
    struct evbus_receipt receipt = publish(archive.bus, "k", "1");
    struct evbus_subscription *sub = archive_join(archive.bus, "team");
    struct evbus_delivery delivery = receive(sub);
    cr_assert_eq(evbus_finish(sub, &delivery, EVBUS_REJECT, "never"), EVBUS_OK);
    struct evbus_delivery none = {.size = sizeof none};
    cr_assert_eq(evbus_receive(sub, &none, 0), EVBUS_ETIMEOUT);
    evbus_unsubscribe(sub);
    EXPECT(why(archive.bus, receipt.id), "group group=team state=dead ");
    cr_assert_eq(evbus_group_seek(archive.bus,
                                  &(struct evbus_seek_options){.size = sizeof(struct evbus_seek_options),
                                                               .group = "team",
                                                               .from = EVBUS_FROM_EARLIEST},
                                  NULL, NULL),
                 EVBUS_OK, "%s", evbus_message(archive.bus));
    EXPECT(why(archive.bus, receipt.id), "group group=team state=waiting ");
    EXPECT(&told, "cause=rejected error=never\n");
    evbus_close(archive.bus);
}

Test(history, why_tells_of_a_handler_that_took_too_long)
{
    struct fixture f = fixture_make((struct fixture_options){
        .catalogue = "{\"namespace\":\"test\",\"open\":true,\"tests\":true,\"topics\":{\"test.a.one\":{\"groups\":"
                     "[\"team\"]}},\"groups\":{\"team\":{\"handler_timeout\":\"30s\"}},\"defaults\":{\"partitions\":1,"
                     "\"ring\":\"64KiB\"}}"});
    struct evbus_receipt receipt = publish(f.bus, "k", "1");
    struct evbus_subscription *sub = archive_join(f.bus, "team");
    struct evbus_delivery delivery = receive(sub);
    struct evbus_delivery none = {.size = sizeof none};
    clock_freeze();
    clock_advance(31 * CLOCK_NS_PER_S);
    cr_assert_eq(evbus_receive(sub, &none, 0), EVBUS_ETIMEOUT);
    cr_expect_eq(delivery.position, receipt.position);
    const struct shown *text = why(f.bus, receipt.id);
    EXPECT(text, "state=retrying attempts=1 due=");
    EXPECT(text, "attempt n=1 at=");
    EXPECT(text, " member=tester ms=31");
    EXPECT(text, " cause=timeout error=\n");
    clock_release();
    evbus_unsubscribe(sub);
    fixture_end(&f);
}

Test(history, why_tells_that_an_event_was_published_before_the_group_began)
{
    struct archive archive = archive_make((struct archive_options){.keeper = true});
    const char *pattern = "test.a.one";
    struct evbus_receipt first = publish(archive.bus, "k", "1");
    cr_assert_eq(evbus_group_add(archive.bus, &(struct evbus_group_options){.size = sizeof(struct evbus_group_options),
                                                                            .group = "late",
                                                                            .patterns = &pattern,
                                                                            .n_patterns = 1,
                                                                            .from = EVBUS_FROM_LATEST}),
                 EVBUS_OK, "%s", evbus_message(archive.bus));
    struct evbus_receipt second = publish(archive.bus, "k", "2");
    EXPECT(why(archive.bus, first.id), "group group=late state=before\n");
    EXPECT(why(archive.bus, second.id), "group group=late state=waiting ahead=0\n");
    cr_assert_eq(evbus_group_seek(archive.bus,
                                  &(struct evbus_seek_options){.size = sizeof(struct evbus_seek_options),
                                                               .group = "late",
                                                               .from = EVBUS_FROM_EARLIEST},
                                  NULL, NULL),
                 EVBUS_OK, "%s", evbus_message(archive.bus));
    EXPECT(why(archive.bus, first.id), "group group=late state=waiting ahead=");
    evbus_close(archive.bus);
}
