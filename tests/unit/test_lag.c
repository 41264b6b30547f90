/* test_lag.c: how far a group is behind, in events: counted as far as that is cheap, and said where it was not. */
#include "archive.h"
#include "fixture.h"
#include "lag.h"

#include <criterion/criterion.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define S UINT64_C(1000000000)

struct wanted {
    const char *group;
    struct evbus_group_stat stat;
    struct evbus_group_part_stat parts[8];
};

static int keep(void *context, const struct evbus_group_stat *group)
{
    struct wanted *wanted = context;
    if (strcmp(group->group, wanted->group) != 0)
        return 0;
    wanted->stat = *group;
    for (size_t i = 0; i < group->n_parts && i < 8; i++)
        wanted->parts[i] = group->parts[i];
    return 0;
}

static struct wanted stat_of(struct evbus *bus, const char *group)
{
    struct wanted wanted = {.group = group};
    cr_assert_eq(evbus_groups(bus, keep, &wanted), EVBUS_OK, "%s", evbus_message(bus));
    cr_assert_not_null(wanted.stat.group, "no group %s", group);
    return wanted;
}

static void make_group(struct evbus *bus, const char *group, const char *pattern)
{
    cr_assert_eq(evbus_group_add(bus, &(struct evbus_group_options){.size = sizeof(struct evbus_group_options),
                                                                    .group = group,
                                                                    .patterns = &pattern,
                                                                    .n_patterns = 1,
                                                                    .from = EVBUS_FROM_EARLIEST}),
                 EVBUS_OK, "%s", evbus_message(bus));
}

static void publish(struct evbus *bus, const char *topic, const char *key, uint64_t timestamp_ns)
{
    cr_assert_eq(
        evbus_publish(
            bus, &(struct evbus_event){.topic = topic, .key = key, .payload = "1", .timestamp_ns = timestamp_ns}, NULL),
        EVBUS_OK, "%s", evbus_message(bus));
}

Test(lag, events_of_the_groups_topics_are_counted_in_each_partition)
{
    struct fixture f = fixture_make((struct fixture_options){.partitions = 3});
    uint64_t n_of[3] = {0};
    make_group(f.bus, "mailer", "test.a.one");
    for (unsigned i = 0; i < 60; i++) {
        struct evbus_receipt receipt = {.size = sizeof receipt};
        char key[16];
        snprintf(key, sizeof key, "%u", i);
        cr_assert_eq(
            evbus_publish(f.bus, &(struct evbus_event){.topic = "test.a.one", .key = key, .payload = "1"}, &receipt),
            EVBUS_OK);
        n_of[receipt.partition]++;
        publish(f.bus, "test.a.two", key, 0);
        publish(f.bus, "test.b.one", key, 0);
    }
    struct wanted wanted = stat_of(f.bus, "mailer");
    cr_expect_eq(wanted.stat.lag_events, 60u);
    cr_expect_not(wanted.stat.is_lag_estimated);
    cr_assert_eq(wanted.stat.n_parts, 4u, "and that of its replays");
    for (unsigned p = 0; p < 3; p++) {
        cr_expect_eq(wanted.parts[p].partition, p);
        cr_expect_eq(wanted.parts[p].lag_events, n_of[p]);
        cr_expect_not(wanted.parts[p].is_lag_estimated);
    }
    cr_expect_str_eq(wanted.parts[0].log, "test.a");
    fixture_end(&f);
}

Test(lag, an_event_of_another_topic_makes_no_group_late)
{
    struct fixture f = fixture_make((struct fixture_options){0});
    make_group(f.bus, "mailer", "test.a.one");
    publish(f.bus, "test.a.two", NULL, 1 * S);
    struct wanted wanted = stat_of(f.bus, "mailer");
    cr_expect_eq(wanted.stat.lag_events, 0u);
    cr_expect_eq(wanted.stat.oldest_ns, 0u, "nothing waits for it");
    fixture_end(&f);
}

Test(lag, the_first_event_of_its_own_is_found_behind_many_of_others)
{
    struct fixture f = fixture_make((struct fixture_options){0});
    make_group(f.bus, "mailer", "test.a.one");
    for (int i = 0; i < 200; i++)
        publish(f.bus, "test.a.two", NULL, 0);
    publish(f.bus, "test.a.one", NULL, 1 * S);
    struct wanted wanted = stat_of(f.bus, "mailer");
    cr_expect_eq(wanted.stat.lag_events, 1u);
    cr_expect_gt(wanted.stat.oldest_ns, 86400 * S, "it is of 1970");
    cr_expect_eq(wanted.parts[0].oldest_ns, wanted.stat.oldest_ns);
    fixture_end(&f);
}

Test(lag, what_is_claimed_and_not_committed_is_no_event)
{
    struct fixture f = fixture_make((struct fixture_options){0});
    struct claim claim = {0};
    struct bus_thread *thread;
    struct error err = {""};
    make_group(f.bus, "mailer", "test.a.one");
    publish(f.bus, "test.a.one", NULL, 0);
    cr_assert_eq(bus_thread(f.bus, &thread, &err), EVBUS_OK);
    claim.slot = thread->claim.slot;
    cr_assert_eq(ring_claim(&f.bus->memory.logs[0].rings[0], 5, &claim, &err), EVBUS_OK, "%s", err.text);
    publish(f.bus, "test.a.one", NULL, 0);
    cr_expect_eq(stat_of(f.bus, "mailer").stat.lag_events, 2u);
    ring_abandon(&claim);
    cr_expect_eq(stat_of(f.bus, "mailer").stat.lag_events, 2u, "nor is a pad");
    fixture_end(&f);
}

Test(lag, beyond_65536_frames_in_a_ring_it_is_estimated_and_said_to_be)
{
    struct fixture f = fixture_make((struct fixture_options){.ring = "16MiB"});
    make_group(f.bus, "mailer", "test.a.one");
    for (int i = 0; i < 40000; i++) {
        publish(f.bus, "test.a.one", NULL, 0);
        publish(f.bus, "test.a.two", NULL, 0);
        if (i == 32700)
            cr_expect_not(stat_of(f.bus, "mailer").stat.is_lag_estimated, "all of it was counted");
    }
    struct wanted wanted = stat_of(f.bus, "mailer");
    cr_expect(wanted.stat.is_lag_estimated && wanted.parts[0].is_lag_estimated);
    cr_expect(wanted.stat.lag_events > 39900 && wanted.stat.lag_events < 40100, "%" PRIu64, wanted.stat.lag_events);
    fixture_end(&f);
}

/* n events of 2 KB for the group "team", which is absent; the ring holds the last 8. */
static struct archive behind(struct writer **out_writer, unsigned n)
{
    struct archive archive = archive_make((struct archive_options){0});
    *out_writer = archive_writer(archive.bus, 1);
    for (unsigned i = 0; i < n; i++) {
        cr_assert_eq(archive_publish(archive.bus, "test.a.one", i, 2000), EVBUS_OK, "%s", evbus_message(archive.bus));
        archive_look(*out_writer);
    }
    return archive;
}

static void end(struct archive *archive, struct writer *writer)
{
    writer_close(writer);
    evbus_close(archive->bus);
    evbus_remove(archive->name);
}

Test(lag, what_lies_in_files_is_counted_there)
{
    struct writer *writer;
    struct archive archive = behind(&writer, 1000);
    struct wanted wanted = stat_of(archive.bus, "team");
    cr_expect_eq(wanted.stat.lag_events, 1000u);
    cr_expect_not(wanted.stat.is_lag_estimated);
    end(&archive, writer);
}

Test(lag, beyond_4_mib_of_files_it_is_estimated_and_said_to_be)
{
    struct writer *writer;
    struct archive archive = behind(&writer, 4000);
    struct wanted wanted = stat_of(archive.bus, "team");
    cr_expect(wanted.stat.is_lag_estimated);
    cr_expect(wanted.stat.lag_events > 3980 && wanted.stat.lag_events < 4020, "%" PRIu64, wanted.stat.lag_events);
    end(&archive, writer);
}

Test(lag, without_its_files_a_bound_is_told_as_an_estimate)
{
    struct writer *writer;
    struct archive archive = behind(&writer, 1000);
    struct topic_set topics = {0};
    struct lag lag;
    topic_set_add(&topics, 1); /* test.a.one */
    lag_count(&archive.bus->memory, archive_ring(archive.bus, "test.a"), &topics, 0, NULL, &lag);
    cr_expect(lag.is_estimated);
    cr_expect(lag.events > 900 && lag.events < 1100, "as dense as what the ring has: %" PRIu64, lag.events);
    end(&archive, writer);
}
