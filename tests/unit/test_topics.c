/* test_topics.c: the topics that a publish looks up, and a catalogue that changes while others publish.
 *
 * A new catalogue is applied here as layout.h says: text, then generation + 1. Readers copy the text between two looks at
 * the generation; a text is written over in one piece only where no thread reads it, or in place of as many blanks. */
#include "topics.h"

#include "await.h"
#include "bus.h"
#include "fixture.h"
#include "sanitizer.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define N(rows) (sizeof(rows) / sizeof(rows)[0])
#define S       UINT64_C(1000000000)

static bool is_quick(void)
{
    return getenv("EVBUS_QUICK") != NULL;
}

#define CATALOGUE(more, who)                                                                                 \
    "{\"namespace\":\"test\",\"tests\":true,\"defaults\":{\"partitions\":1,\"ring\":\"64KiB\"},\"topics\":{" \
    "\"test.a.one\":{\"producers\":[" who "]},\"test.a.two\":{\"producers\":[\"tester\"]}," more             \
    "\"test.b.one\":{\"producers\":[\"shop\",\"billing\"]}}}"

/* Of the same length: publishers may look while one takes the other's place. */
static const char without_us[] = CATALOGUE("", "\"shop\"         ");
static const char with_us[] = CATALOGUE("", "\"shop\",\"tester\"");
static_assert(sizeof without_us == sizeof with_us, "only blanks differ");

static void apply(struct evbus *bus, const char *text)
{
    struct control *control = bus->memory.control;
    uint32_t generation = atomic_load(&control->generation) + 1;
    memcpy(control->catalogue[generation % 2], text, strlen(text));
    atomic_store_explicit(&control->catalogue_len[generation % 2], (uint32_t)strlen(text), memory_order_relaxed);
    atomic_store_explicit(&control->generation, generation, memory_order_release);
}

static int publish(struct evbus *bus, const char *topic)
{
    return evbus_publish(
        bus,
        &(struct evbus_event){.size = sizeof(struct evbus_event), .topic = topic, .payload = "1", .timeout_ns = 10 * S},
        NULL);
}

static void says(const char *fragment)
{
    cr_expect_not_null(strstr(evbus_message(NULL), fragment), "the message does not say \"%s\": %s", fragment,
                       evbus_message(NULL));
}

Test(topics, a_topic_is_found_with_its_log_and_its_id)
{
    struct fixture f = fixture_make((struct fixture_options){0});
    static const struct {
        const char *topic, *log;
    } rows[] = {{"test.a.one", "test.a"}, {"test.a.two", "test.a"}, {"test.b.one", "test.b"}};
    for (size_t i = 0; i < N(rows); i++) {
        struct topics_place place;
        struct topics_recent recent = {0};
        struct error err = {""};
        cr_assert_eq(topics_find(f.bus->topics, rows[i].topic, &recent, &place, &err), EVBUS_OK, "%s", err.text);
        cr_expect_str_eq(place.log->head->name, rows[i].log);
        cr_expect(place.id >= 1 && place.id <= 2);
        cr_expect_str_eq(place.log->head->topics[place.id - 1], rows[i].topic);
        cr_expect_eq(place.payload_max, 16056u, "what the ring of 64 KiB holds");
    }
    fixture_end(&f);
}

Test(topics, what_is_not_there_is_told_apart_from_what_is_no_topic)
{
    static const struct {
        const char *topic;
        enum evbus_code code;
        const char *says;
    } rows[] = {
        {"test.a.three", EVBUS_ENOTFOUND, "not in the catalogue of bus test-"},
        {"test.c.one", EVBUS_ENOTFOUND, "test.c.one"},
        {"lomash.orders.created", EVBUS_ENOTFOUND, "evbus catalogue show"},
        {"test.a", EVBUS_EINVAL, "2 segments"},
        {"test.a.one ", EVBUS_EINVAL, "0x20"},
        {"test.a.One", EVBUS_EINVAL, "'O'"},
    };
    struct fixture f = fixture_make((struct fixture_options){0});
    for (size_t i = 0; i < N(rows); i++) {
        cr_expect_eq(publish(f.bus, rows[i].topic), rows[i].code, "%s", rows[i].topic);
        says(rows[i].says);
    }
    fixture_end(&f);
}

Test(topics, who_may_not_is_denied_by_name)
{
    struct fixture f = fixture_make((struct fixture_options){.catalogue = without_us});
    cr_expect_eq(publish(f.bus, "test.a.one"), EVBUS_EDENIED);
    says("service tester may not publish it; these may: shop");
    cr_expect_eq(publish(f.bus, "test.b.one"), EVBUS_EDENIED);
    says("these may: shop, billing");
    cr_expect_eq(publish(f.bus, "test.a.two"), EVBUS_OK);
    fixture_end(&f);
}

Test(topics, a_new_catalogue_is_seen_by_the_next_publish)
{
    struct fixture f = fixture_make((struct fixture_options){.catalogue = without_us});
    for (int round = 0; round < 50; round++) {
        cr_assert_eq(publish(f.bus, "test.a.one"), EVBUS_EDENIED, "round %d", round);
        apply(f.bus, with_us);
        cr_assert_eq(publish(f.bus, "test.a.one"), EVBUS_OK, "round %d: %s", round, evbus_message(f.bus));
        apply(f.bus, without_us);
    }
    fixture_end(&f);
}

Test(topics, a_topic_that_a_new_catalogue_leaves_out_is_not_found)
{
    static const char less[] = "{\"namespace\":\"test\",\"tests\":true,\"open\":true,\"defaults\":{\"partitions\":1,"
                               "\"ring\":\"64KiB\"},\"topics\":{\"test.a.one\":{}}}";
    struct fixture f = fixture_make((struct fixture_options){.catalogue = without_us});
    apply(f.bus, less);
    cr_expect_eq(publish(f.bus, "test.a.one"), EVBUS_OK, "it is open now: %s", evbus_message(f.bus));
    cr_expect_eq(publish(f.bus, "test.a.two"), EVBUS_ENOTFOUND);
    cr_expect_eq(publish(f.bus, "test.b.one"), EVBUS_ENOTFOUND);
    fixture_end(&f);
}

Test(topics, a_topic_whose_log_was_never_made_is_not_found)
{
    static const char more[] = CATALOGUE("\"test.new.one\":{\"producers\":[\"tester\"]},", "\"tester\"");
    struct fixture f = fixture_make((struct fixture_options){.catalogue = without_us});
    apply(f.bus, more);
    cr_expect_eq(publish(f.bus, "test.new.one"), EVBUS_ENOTFOUND);
    says("test.new.one");
    cr_expect_eq(publish(f.bus, "test.a.one"), EVBUS_OK, "the rest of it counts: %s", evbus_message(f.bus));
    fixture_end(&f);
}

Test(topics, a_topic_that_was_added_to_a_log_can_be_published_and_read_at_once)
{
    static const char more[] = CATALOGUE("\"test.a.new\":{\"producers\":[\"tester\"]},", "\"tester\"");
    struct fixture f = fixture_make((struct fixture_options){.catalogue = without_us});
    struct evbus_reader *reader;
    cr_assert_eq(publish(f.bus, "test.a.new"), EVBUS_ENOTFOUND);
    struct log_head *head =
        f.bus->memory.logs[0].head; /* as layout.h says: the name, then their number, then the text */
    cr_assert_str_eq(head->name, "test.a");
    strcpy(head->topics[2], "test.a.new");
    atomic_store_explicit(&head->n_topics, 3, memory_order_release);
    apply(f.bus, more);
    const char *const patterns[] = {"test.a.new"};
    cr_assert_eq(
        evbus_reader_open(&reader, f.bus, &(struct evbus_reader_options){.patterns = patterns, .n_patterns = 1}),
        EVBUS_OK, "%s", evbus_message(f.bus));
    cr_expect_eq(publish(f.bus, "test.a.new"), EVBUS_OK, "%s", evbus_message(f.bus));
    struct evbus_delivery got = {.size = sizeof got};
    cr_assert_eq(evbus_reader_next(reader, &got, S), EVBUS_OK);
    cr_expect_str_eq(got.topic, "test.a.new");
    evbus_reader_close(reader);
    fixture_end(&f);
}

Test(topics, a_reader_of_all_knows_the_name_of_a_topic_that_came_later_if_it_is_given_it)
{
    static const char more[] = CATALOGUE("\"test.a.new\":{\"producers\":[\"tester\"]},", "\"tester\"");
    struct fixture f = fixture_make((struct fixture_options){.catalogue = without_us});
    struct evbus_reader *reader;
    struct evbus_delivery got = {.size = sizeof got};
    cr_assert_eq(evbus_reader_open(&reader, f.bus, NULL), EVBUS_OK);
    struct log_head *head = f.bus->memory.logs[0].head;
    strcpy(head->topics[2], "test.a.new");
    atomic_store_explicit(&head->n_topics, 3, memory_order_release);
    apply(f.bus, more);
    cr_assert_eq(publish(f.bus, "test.a.new"), EVBUS_OK);
    cr_assert_eq(publish(f.bus, "test.a.two"), EVBUS_OK);
    int rc = evbus_reader_next(reader, &got, S);
    cr_assert_eq(rc, EVBUS_OK);
    if (strcmp(got.topic, "test.a.two") != 0) /* it may have it or not, but never without its name */
        cr_expect_str_eq(got.topic, "test.a.new");
    evbus_reader_close(reader);
    fixture_end(&f);
}

Test(topics, a_catalogue_that_does_not_parse_stops_publishing_until_it_is_mended)
{
    struct fixture f = fixture_make((struct fixture_options){.catalogue = without_us});
    apply(f.bus, "{\"namespace\":\"test\"");
    for (int i = 0; i < 3; i++)
        cr_expect_eq(publish(f.bus, "test.a.two"), EVBUS_ECATALOGUE);
    says("line 1");
    apply(f.bus, without_us);
    cr_expect_eq(publish(f.bus, "test.a.two"), EVBUS_OK, "%s", evbus_message(f.bus));
    for (int i = 0; i < 2; i++)
        atomic_store(&f.bus->memory.control->catalogue_len[i], CATALOGUE_BYTES + 1);
    atomic_fetch_add(&f.bus->memory.control->generation, 1);
    cr_expect_eq(publish(f.bus, "test.a.two"), EVBUS_ECORRUPT);
    says("evbus doctor");
    fixture_end(&f);
}

struct publisher_thread {
    struct evbus *bus;
    _Atomic bool stop;
    _Atomic unsigned n_allowed, n_denied;
    int wrong; /* an answer that nobody may get */
};

static void *publish_on(void *context)
{
    struct publisher_thread *self = context;
    while (!atomic_load(&self->stop) && self->wrong == EVBUS_OK) {
        int rc = publish(self->bus, "test.a.one");
        if (rc == EVBUS_OK)
            atomic_fetch_add(&self->n_allowed, 1);
        else if (rc == EVBUS_EDENIED)
            atomic_fetch_add(&self->n_denied, 1);
        else
            self->wrong = rc;
        if (rc == EVBUS_OK && (rc = publish(self->bus, "test.a.two")) != EVBUS_OK)
            self->wrong = rc;
    }
    return NULL;
}

/* Under ThreadSanitizer the text's bytes would be a race that layout.h allows (copy, then look at the generation again): so
 * there the text stays and only the generation moves. */

Test(topics, threads_publish_on_while_the_catalogue_changes, .timeout = 60)
{
    struct fixture f = fixture_make((struct fixture_options){.catalogue = without_us});
    struct publisher_thread publishers[4];
    pthread_t threads[N(publishers)];
    for (size_t i = 0; i < N(publishers); i++) {
        publishers[i] = (struct publisher_thread){.bus = f.bus};
        pthread_create(&threads[i], NULL, publish_on, &publishers[i]);
    }
    for (int round = 0; round < (is_quick() ? 100 : 500); round++) {
#if HAS_TSAN
        atomic_fetch_add_explicit(&f.bus->memory.control->generation, 2, memory_order_release); /* the same text */
#else
        apply(f.bus, round % 2 == 0 ? with_us : without_us);
#endif
        unsigned before = atomic_load(&publishers[0].n_allowed) + atomic_load(&publishers[0].n_denied);
        cr_assert(await_that(atomic_load(&publishers[0].n_allowed) + atomic_load(&publishers[0].n_denied) > before),
                  "round %d: a publisher stands still", round);
    }
    unsigned n_allowed = 0, n_denied = 0;
    for (size_t i = 0; i < N(publishers); i++) {
        atomic_store(&publishers[i].stop, true);
        pthread_join(threads[i], NULL);
        cr_expect_eq(publishers[i].wrong, EVBUS_OK, "publisher %zu got %d", i, publishers[i].wrong);
        n_allowed += publishers[i].n_allowed;
        n_denied += publishers[i].n_denied;
    }
    cr_expect_gt(n_denied, 0u);
#if !HAS_TSAN
    cr_expect_gt(n_allowed, 0u);
#else
    cr_expect_eq(n_allowed, 0u);
#endif
    fixture_end(&f);
}
