/* test_apply.c: a catalogue is applied while all runs: what it adds is there at once, what a bus cannot change is refused whole. */
#include "await.h"
#include "bus.h"
#include "fixture.h"
#include "group.h"

#include <criterion/criterion.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define N(rows) (sizeof(rows) / sizeof(rows)[0])
#define MS      UINT64_C(1000000)
#define S       UINT64_C(1000000000)

#define HEAD(partitions, ring)                                                                            \
    "{\"namespace\":\"test\",\"tests\":true,\"defaults\":{\"partitions\":" partitions ",\"ring\":\"" ring \
    "\",\"retry\":[\"10ms\",\"20ms\"]},"

static const char before[] = HEAD(
    "2", "64KiB") "\"topics\":{\"test.a.one\":{\"producers\":[\"tester\"],\"groups\":[\"mailer\",\"audit\"]},"
                  "\"test.b.one\":{\"producers\":[\"other\"],\"groups\":[\"mailer\"]}}}";

/* A topic in a log that is there, one in a new log, a group, a producer, waits. */
static const char after[] = HEAD(
    "2", "64KiB") "\"topics\":{\"test.a.one\":{\"producers\":[\"tester\"],\"groups\":[\"mailer\",\"audit\"]},"
                  "\"test.a.two\":{\"producers\":[\"tester\"],\"groups\":[\"mailer\",\"ledger\"]},"
                  "\"test.b.one\":{\"producers\":[\"other\",\"tester\"],\"groups\":[\"mailer\"]},"
                  "\"test.c.one\":{\"producers\":[\"tester\"],\"groups\":[\"mailer\",\"ledger\"]}},"
                  "\"groups\":{\"mailer\":{\"retry\":[]}}}";

static struct fixture bus_of(const char *catalogue)
{
    return fixture_make((struct fixture_options){.catalogue = catalogue});
}

static uint32_t apply(struct evbus *bus, const char *text)
{
    uint32_t n = 999;
    int rc = evbus_catalogue_apply(bus, text, 0, &n);
    cr_assert_eq(rc, EVBUS_OK, "%d: %s", rc, evbus_message(bus));
    return n;
}

static int publish_on(struct evbus *bus, const char *topic, const char *key, const char *payload)
{
    struct evbus_event event = {.size = sizeof event, .topic = topic, .key = key, .payload = payload, .timeout_ns = S};
    return evbus_publish(bus, &event, NULL);
}

static struct evbus_subscription *join(struct evbus *bus, const char *group)
{
    struct evbus_subscription *sub = NULL;
    int rc = evbus_subscribe(
        &sub, bus, &(struct evbus_subscribe_options){.size = sizeof(struct evbus_subscribe_options), .group = group});
    cr_assert_eq(rc, EVBUS_OK, "%d: %s", rc, evbus_message(bus));
    return sub;
}

static void receive_this(struct evbus_subscription *sub, const char *payload, enum evbus_outcome outcome)
{
    struct evbus_delivery got = {.size = sizeof got};
    int rc = evbus_receive(sub, &got, 10 * S);
    cr_assert_eq(rc, EVBUS_OK, "%s: %d, %s", payload, rc, evbus_message(NULL));
    cr_assert_str_eq(got.payload, payload);
    cr_assert_eq(evbus_finish(sub, &got, outcome, NULL), EVBUS_OK);
}

static void nothing(struct evbus_subscription *sub)
{
    struct evbus_delivery got = {.size = sizeof got};
    int rc = evbus_receive(sub, &got, 5 * MS);
    cr_assert_eq(rc, EVBUS_ETIMEOUT, "%d: %s", rc, rc == EVBUS_OK ? (const char *)got.payload : evbus_message(NULL));
}

struct counted {
    uint32_t n_groups;
    size_t n_topics;
    uint64_t dead_letters;
};

static int count_group(void *context, const struct evbus_group_stat *group)
{
    struct counted *counted = context;
    counted->n_groups++;
    counted->n_topics += group->n_topics;
    counted->dead_letters += group->dead_letters;
    return 0;
}

static struct counted count(struct evbus *bus)
{
    struct counted counted = {0};
    cr_assert_eq(evbus_groups(bus, count_group, &counted), EVBUS_OK);
    return counted;
}

Test(apply, what_is_new_is_counted_once)
{
    struct fixture f = bus_of(before);
    cr_expect_eq(apply(f.bus, before), 0u, "the same text");
    cr_expect_eq(apply(f.bus, after), 5u, "test.a.two, test.c.one, log test.c, group ledger, mailer's topics");
    cr_expect_eq(apply(f.bus, after), 0u, "again");
    const char *text;
    size_t len;
    cr_assert_eq(evbus_catalogue_text(f.bus, &text, &len), EVBUS_OK);
    cr_expect(len == strlen(after) && memcmp(text, after, len) == 0);
    struct counted counted = count(f.bus);
    cr_expect_eq(counted.n_groups, 3u);
    cr_expect_eq(counted.n_topics, 4u + 1 + 2, "mailer, audit, ledger");
    cr_expect_eq(evbus_catalogue_apply(f.bus, after, 0, NULL), EVBUS_OK, "the count is optional");
    fixture_end(&f);
}

Test(apply, everybody_publishes_and_receives_what_is_new)
{
    struct fixture f = bus_of(before);
    struct evbus *bystander = fixture_open(&f, "tester", EVBUS_KEEPER_NEVER);
    struct evbus_subscription *mailer = join(bystander, "mailer");
    cr_expect_eq(publish_on(bystander, "test.a.two", "k", "1"), EVBUS_ENOTFOUND);
    cr_expect_eq(publish_on(bystander, "test.b.one", "k", "1"), EVBUS_EDENIED);
    nothing(mailer);
    apply(f.bus, after);
    struct evbus *both[] = {bystander, f.bus};
    for (size_t i = 0; i < N(both); i++) {
        static const char *const topics[] = {"test.a.one", "test.a.two", "test.b.one", "test.c.one"};
        for (size_t t = 0; t < N(topics); t++) {
            cr_assert_eq(publish_on(both[i], topics[t], "k", "1"), EVBUS_OK, "%s: %s", topics[t],
                         evbus_message(both[i]));
            receive_this(mailer, "1", EVBUS_DONE);
        }
    }
    struct evbus_subscription *ledger = join(bystander, "ledger");
    for (int i = 0; i < 4; i++) /* test.a.two, test.c.one: from the first event on */
        receive_this(ledger, "1", EVBUS_DONE);
    nothing(ledger);
    evbus_unsubscribe(ledger);
    evbus_unsubscribe(mailer);
    evbus_close(bystander);
    fixture_end(&f);
}

Test(apply, a_group_that_is_new_misses_nothing_of_a_topic_that_is_new_and_starts_at_the_latest_of_others)
{
    struct fixture f = bus_of(before);
    cr_assert_eq(publish_on(f.bus, "test.a.one", "k", "\"old\""), EVBUS_OK);
    static const char text[] = HEAD("2",
                                    "64KiB") "\"topics\":{\"test.a.one\":{\"producers\":[\"tester\"],"
                                             "\"groups\":[\"mailer\",\"audit\",\"ledger\"]},"
                                             "\"test.b.one\":{\"producers\":[\"other\"],\"groups\":[\"mailer\"]}}}";
    apply(f.bus, text);
    cr_assert_eq(publish_on(f.bus, "test.a.one", "k", "\"new\""), EVBUS_OK);
    struct evbus_subscription *ledger = join(f.bus, "ledger");
    receive_this(ledger, "\"new\"", EVBUS_DONE);
    nothing(ledger);
    struct evbus_subscription *audit = join(f.bus, "audit");
    receive_this(audit, "\"old\"", EVBUS_DONE);
    receive_this(audit, "\"new\"", EVBUS_DONE);
    evbus_unsubscribe(audit);
    evbus_unsubscribe(ledger);
    fixture_end(&f);
}

Test(apply, what_a_bus_cannot_change_is_refused_by_name_and_nothing_is_changed)
{
    static const struct {
        const char *label;
        const char *text;
        const char *fragment;
    } rows[] = {
        {"no JSON", "{", ""},
        {"no catalogue", "{\"namespace\":\"test\"}", "topic"},
        {"partitions",
         HEAD("4", "64KiB") "\"topics\":{\"test.a.one\":{\"producers\":[\"tester\"],\"groups\":[\"mailer\",\"audit\"]},"
                            "\"test.a.two\":{\"producers\":[\"tester\"]},"
                            "\"test.b.one\":{\"producers\":[\"other\"],\"groups\":[\"mailer\"]}}}",
         "test.a"},
        {"ring",
         HEAD("2", "128KiB") "\"topics\":{\"test.a.one\":{\"producers\":[\"tester\"],\"groups\":[\"mailer\",\"audit\"]"
                             "},\"test.a.two\":{\"producers\":[\"tester\"]},"
                             "\"test.b.one\":{\"producers\":[\"other\"],\"groups\":[\"mailer\"]}}}",
         "test.a"},
        {"namespace",
         "{\"namespace\":\"prod\",\"tests\":true,\"topics\":{\"prod.a.one\":{\"producers\":[\"tester\"]}}}", "prod"},
        {"a topic that is gone",
         HEAD("2", "64KiB") "\"topics\":{\"test.a.one\":{\"producers\":[\"tester\"],\"groups\":[\"mailer\",\"audit\"]},"
                            "\"test.a.two\":{\"producers\":[\"tester\"]}}}",
         "test.b.one"},
        {"a group that is gone",
         HEAD("2", "64KiB") "\"topics\":{\"test.a.one\":{\"producers\":[\"tester\"],\"groups\":[\"mailer\"]},"
                            "\"test.a.two\":{\"producers\":[\"tester\"]},"
                            "\"test.b.one\":{\"producers\":[\"other\"],\"groups\":[\"mailer\"]}}}",
         "audit"},
    };
    struct fixture f = bus_of(before);
    uint32_t generation = atomic_load(&f.bus->memory.control->generation);
    for (size_t i = 0; i < N(rows); i++) {
        uint32_t n = 77;
        int rc = evbus_catalogue_apply(f.bus, rows[i].text, 0, &n);
        cr_expect_eq(rc, EVBUS_ECATALOGUE, "%s: %d", rows[i].label, rc);
        cr_expect_not_null(strstr(evbus_message(f.bus), rows[i].fragment), "%s: %s", rows[i].label,
                           evbus_message(f.bus));
        cr_expect_eq(n, 77u, "%s: untouched", rows[i].label);
        const char *text;
        size_t len;
        cr_assert_eq(evbus_catalogue_text(f.bus, &text, &len), EVBUS_OK);
        cr_expect(len == strlen(before) && memcmp(text, before, len) == 0, "%s", rows[i].label);
        cr_expect_eq(atomic_load(&f.bus->memory.control->generation), generation, "%s", rows[i].label);
        cr_expect_eq(count(f.bus).n_groups, 2u, "%s", rows[i].label);
        cr_expect_eq(publish_on(f.bus, "test.a.two", NULL, "1"), EVBUS_ENOTFOUND, "%s: a half of it", rows[i].label);
    }
    cr_expect_eq(apply(f.bus, before), 0u);
    cr_expect_eq(evbus_catalogue_apply(f.bus, NULL, 0, NULL), EVBUS_EINVAL);
    cr_expect_eq(evbus_catalogue_apply(NULL, before, 0, NULL), EVBUS_EINVAL);
    fixture_end(&f);
}

Test(apply, what_does_not_fit_is_refused_whole)
{
    struct fixture f = bus_of(before);
    static char text[65536];
    size_t at = (size_t)snprintf(text, sizeof text,
                                 HEAD("2", "64KiB") "\"topics\":{\"test.b.one\":{\"producers\":[\"other\"],\"groups\":["
                                                    "\"mailer\"]},\"test.a.new\":{\"producers\":[\"tester\"]},"
                                                    "\"test.a.one\":{\"producers\":[\"tester\"],\"groups\":[\"mailer\","
                                                    "\"audit\"");
    for (int i = 0; i < 63; i++)
        at += (size_t)snprintf(text + at, sizeof text - at, ",\"group-%d\"", i);
    snprintf(text + at, sizeof text - at, "]}}}");
    uint32_t n;
    cr_expect_eq(evbus_catalogue_apply(f.bus, text, 0, &n), EVBUS_ELIMIT, "65 groups");
    cr_expect_eq(count(f.bus).n_groups, 2u, "none of them is made");
    cr_expect_eq(publish_on(f.bus, "test.a.new", NULL, "1"), EVBUS_ENOTFOUND);
    uint32_t log;
    uint32_t id;
    cr_expect_not(memory_find_topic(&f.bus->memory, "test.a.new", &log, &id));
    fixture_end(&f);
}

Test(apply, a_group_that_was_removed_by_hand_comes_back_empty)
{
    struct fixture f = bus_of(before);
    cr_assert_eq(publish_on(f.bus, "test.a.one", "k", "\"old\""), EVBUS_OK);
    cr_assert_eq(evbus_group_remove(f.bus, "audit"), EVBUS_OK);
    cr_expect_eq(apply(f.bus, before), 1u);
    struct evbus_subscription *audit = join(f.bus, "audit");
    nothing(audit);
    cr_assert_eq(publish_on(f.bus, "test.a.one", "k", "\"new\""), EVBUS_OK);
    receive_this(audit, "\"new\"", EVBUS_DONE);
    evbus_unsubscribe(audit);
    fixture_end(&f);
}

Test(apply, an_ad_hoc_group_stays_as_it_is)
{
    static const char *const one[] = {"test.a.*"};
    struct fixture f = bus_of(before);
    struct evbus_group_options options = {.size = sizeof options, .group = "watch", .patterns = one, .n_patterns = 1};
    cr_assert_eq(evbus_group_add(f.bus, &options), EVBUS_OK);
    struct evbus_subscription *watch = join(f.bus, "watch");
    apply(f.bus, after);
    cr_assert_eq(publish_on(f.bus, "test.a.two", "k", "\"not asked for\""), EVBUS_OK);
    cr_assert_eq(publish_on(f.bus, "test.a.one", "k", "1"), EVBUS_OK);
    receive_this(watch, "1", EVBUS_DONE);
    nothing(watch);
    evbus_unsubscribe(watch);
    fixture_end(&f);
}

/* --- settings ----------------------------------------------------------------------------------------------------------- */

Test(apply, members_try_as_the_new_catalogue_says)
{
    struct fixture f = bus_of(before);
    struct evbus *consumer = fixture_open(&f, "consumer", EVBUS_KEEPER_NEVER); /* never publishes */
    struct evbus_subscription *mailer = join(consumer, "mailer");
    cr_assert_eq(publish_on(f.bus, "test.a.one", "a", "1"), EVBUS_OK);
    receive_this(mailer, "1", EVBUS_RETRY);
    receive_this(mailer, "1", EVBUS_DONE);
    apply(f.bus, after); /* mailer: no waits, one attempt */
    cr_assert_eq(publish_on(f.bus, "test.a.one", "a", "2"), EVBUS_OK);
    receive_this(mailer, "2", EVBUS_RETRY);
    nothing(mailer);
    cr_expect_eq(count(f.bus).dead_letters, 1u, "it was tried again");
    struct evbus_subscription *again = join(consumer, "audit");
    receive_this(again, "1", EVBUS_RETRY);
    receive_this(again, "1", EVBUS_DONE);
    evbus_unsubscribe(again);
    evbus_unsubscribe(mailer);
    evbus_close(consumer);
    fixture_end(&f);
}

Test(apply, who_joins_later_tries_as_the_new_catalogue_says)
{
    struct fixture f = bus_of(before);
    struct evbus *consumer = fixture_open(&f, "consumer", EVBUS_KEEPER_NEVER); /* opened before */
    apply(f.bus, after);
    struct evbus_subscription *mailer = join(consumer, "mailer");
    cr_assert_eq(publish_on(f.bus, "test.a.one", "a", "1"), EVBUS_OK);
    receive_this(mailer, "1", EVBUS_RETRY);
    nothing(mailer);
    cr_expect_eq(count(f.bus).dead_letters, 1u);
    evbus_unsubscribe(mailer);
    evbus_close(consumer);
    fixture_end(&f);
}

/* --- while all runs ------------------------------------------------------------------------------------------------------- */

enum { TOPICS = 6, KEYS = 8 };

struct busy {
    struct evbus *bus;
    struct evbus_subscription *sub;
    _Atomic unsigned n_known; /* of test.x0.one, test.x1.one ... */
    _Atomic bool stop;
    _Atomic unsigned n_published;
    _Atomic unsigned n_done;
    _Atomic unsigned n_wrong;
    unsigned last[TOPICS][KEYS];
};

static void *publish_on_all(void *context)
{
    struct busy *busy = context;
    char topic[32];
    char key[8];
    char payload[16];
    for (unsigned i = 1; !atomic_load(&busy->stop); i++) {
        snprintf(topic, sizeof topic, "test.x%u.one", i % atomic_load(&busy->n_known));
        snprintf(key, sizeof key, "%u", i % KEYS);
        snprintf(payload, sizeof payload, "%u", i);
        if (publish_on(busy->bus, topic, key, payload) == EVBUS_OK)
            atomic_fetch_add(&busy->n_published, 1);
        else
            atomic_fetch_add(&busy->n_wrong, 1);
        if (i % 16 == 0)
            await_pause();
    }
    return NULL;
}

static enum evbus_outcome see(void *context, const struct evbus_delivery *event, char *error)
{
    struct busy *busy = context;
    unsigned topic = (unsigned)(event->topic[6] - '0');
    unsigned key = (unsigned)strtoul(event->key, NULL, 10);
    unsigned number = (unsigned)strtoul(event->payload, NULL, 10);
    (void)error;
    if (topic >= TOPICS || key >= KEYS || number <= busy->last[topic][key])
        atomic_fetch_add(&busy->n_wrong, 1);
    else
        busy->last[topic][key] = number;
    atomic_fetch_add(&busy->n_done, 1);
    return EVBUS_DONE;
}

static void *consume_all(void *context)
{
    struct busy *busy = context;
    return (void *)(intptr_t)evbus_run(busy->sub, NULL);
}

static const char *catalogue_of(unsigned n_topics)
{
    static char text[4096];
    size_t at = (size_t)snprintf(text, sizeof text, "%s", HEAD("2", "16KiB") "\"open\":true,\"topics\":{");
    for (unsigned i = 0; i < n_topics; i++)
        at += (size_t)snprintf(text + at, sizeof text - at, "%s\"test.x%u.one\":{\"groups\":[\"mailer\"]}",
                               i == 0 ? "" : ",", i);
    snprintf(text + at, sizeof text - at, "}}");
    return text;
}

/* [guards ORDER] */
Test(apply, logs_are_added_while_threads_publish_and_consume)
{
    for (int keeper = 0; keeper <= 1; keeper++) {
        struct fixture f = bus_of(catalogue_of(1));
        struct busy busy = {.n_known = 1};
        pthread_t threads[2];
        void *rc;
        busy.bus = fixture_open(&f, "busy", keeper != 0 ? EVBUS_KEEPER_VOLUNTEER : EVBUS_KEEPER_NEVER);
        cr_assert_eq(evbus_subscribe(&busy.sub, busy.bus,
                                     &(struct evbus_subscribe_options){.size = sizeof(struct evbus_subscribe_options),
                                                                       .group = "mailer",
                                                                       .handler = see,
                                                                       .context = &busy}),
                     EVBUS_OK);
        cr_assert_eq(pthread_create(&threads[0], NULL, publish_on_all, &busy), 0);
        cr_assert_eq(pthread_create(&threads[1], NULL, consume_all, &busy), 0);
        for (unsigned n = 2; n <= TOPICS; n++) {
            unsigned seen = atomic_load(&busy.n_done);
            cr_assert(await_that(atomic_load(&busy.n_done) > seen + 50), "%u topics: %u done of %u", n - 1,
                      atomic_load(&busy.n_done), atomic_load(&busy.n_published));
            cr_assert_eq(apply(f.bus, catalogue_of(n)), 3u, "a topic, its log, the group's topics");
            atomic_store(&busy.n_known, n);
        }
        unsigned seen = atomic_load(&busy.n_done);
        cr_expect(await_that(atomic_load(&busy.n_done) > seen + 100));
        atomic_store(&busy.stop, true);
        pthread_join(threads[0], NULL);
        cr_expect(await_that(atomic_load(&busy.n_done) == atomic_load(&busy.n_published)), "%u of %u",
                  atomic_load(&busy.n_done), atomic_load(&busy.n_published));
        evbus_stop(busy.sub);
        pthread_join(threads[1], &rc);
        cr_expect_eq((intptr_t)rc, EVBUS_OK);
        cr_expect_eq(atomic_load(&busy.n_wrong), 0u, "refused, twice or out of order");
        evbus_unsubscribe(busy.sub);
        evbus_close(busy.bus);
        fixture_end(&f);
    }
}

Test(apply, a_bus_has_64_logs)
{
    struct fixture f = fixture_make((struct fixture_options){
        .catalogue = "{\"namespace\":\"test\",\"tests\":true,\"open\":true,\"defaults\":{\"partitions\":1,"
                     "\"ring\":\"4KiB\"},\"topics\":{\"test.x0.one\":{}}}"});
    for (unsigned n = 20; n <= 64; n += 43) { /* two are the bus's own: 62 fit, 63 do not */
        static char text[8192];
        size_t at = (size_t)snprintf(text, sizeof text,
                                     "{\"namespace\":\"test\",\"tests\":true,\"open\":true,\"defaults\":{\"partitions\""
                                     ":1,\"ring\":\"4KiB\"},\"topics\":{");
        for (unsigned i = 0; i < n; i++)
            at += (size_t)snprintf(text + at, sizeof text - at, "%s\"test.x%u.one\":{}", i == 0 ? "" : ",", i);
        snprintf(text + at, sizeof text - at, "}}");
        uint32_t n_changes;
        int rc = evbus_catalogue_apply(f.bus, text, 0, &n_changes);
        if (n == 63) {
            cr_expect_eq(rc, EVBUS_ELIMIT, "%d", rc);
            cr_expect_not_null(strstr(evbus_message(f.bus), "64"), "%s", evbus_message(f.bus));
            continue;
        }
        cr_assert_eq(rc, EVBUS_OK, "%u: %s", n, evbus_message(f.bus));
        cr_expect_eq(n_changes, 38u, "19 topics and their logs");
        cr_expect_eq(publish_on(f.bus, "test.x19.one", NULL, "1"), EVBUS_OK);
    }
    fixture_end(&f);
}

Test(apply, an_event_as_large_as_a_new_log_allows_goes_through)
{
    struct fixture f = fixture_make((struct fixture_options){.ring = "4KiB"});
    static const char text[] =
        "{\"namespace\":\"test\",\"tests\":true,\"open\":true,\"defaults\":{\"partitions\":1,\"ring\":\"4KiB\"},"
        "\"topics\":{\"test.a.one\":{},\"test.a.two\":{},\"test.b.one\":{},\"test.large.one\":{\"groups\":[\"mailer\"]"
        "}},\"logs\":{\"test.large\":{\"ring\":\"1MiB\"}}}";
    struct evbus *bystander = fixture_open(&f, "bystander", EVBUS_KEEPER_NEVER);
    cr_assert_eq(publish_on(bystander, "test.a.one", "k", "1"), EVBUS_OK); /* has its memory by now */
    apply(f.bus, text);
    struct evbus_subscription *mailer = join(bystander, "mailer");
    size_t len = 690; /* payload_max of the smallest ring */
    char *payload = malloc(len + 1);
    memset(payload, ' ', len);
    payload[0] = '1';
    payload[len] = '\0';
    int rc = publish_on(bystander, "test.large.one", "k", payload);
    cr_assert_eq(rc, EVBUS_OK, "%s", evbus_message(bystander));
    receive_this(mailer, payload, EVBUS_DONE);
    free(payload);
    evbus_unsubscribe(mailer);
    evbus_close(bystander);
    fixture_end(&f);
}
