/* conformance.c: what every broker behind backend.h must do, sentence by sentence of its comments. See conformance.h.
 *
 * Random tests print their seed; EVBUS_SEED=<number> takes it back. */
#include "conformance.h"

#include "trial.h"

#include <criterion/criterion.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define N(rows) (sizeof(rows) / sizeof(rows)[0])
#define CLASS   (broker_kind.class)

/* The partition that most tests append to: created 10 <- 30 <- 40, cancelled 20 <- 50. Which of them come first changes
 * nothing. */
static const struct rig_event five[] = {
    {RIG_CREATED, 10, 0}, {RIG_CANCELLED, 20, 0}, {RIG_CREATED, 30, 10}, {RIG_CREATED, 40, 30}, {RIG_CANCELLED, 50, 20},
};

/* The same with layout=log, where they all follow each other. */
static const struct rig_event chain[] = {
    {RIG_CREATED, 10, 0},  {RIG_CANCELLED, 20, 10}, {RIG_CREATED, 30, 20},
    {RIG_CREATED, 40, 30}, {RIG_CANCELLED, 50, 40},
};

static void expect_marks(struct rig_bridge *bridge, uint32_t partition, const struct rig_mark *marks, size_t n)
{
    cr_assert_eq(rig_ask(bridge, partition), BACKEND_OK);
    cr_assert_eq(bridge->n_marks, n);
    for (size_t i = 0; i < n; i++) {
        const struct rig_mark *mark = &bridge->marks[i];
        cr_expect_str_eq(mark->topic, marks[i].topic);
        cr_expect(mark->position == marks[i].position && mark->epoch == marks[i].epoch &&
                      mark->incarnation == marks[i].incarnation,
                  "the mark of %s is %" PRIu64 ", epoch %" PRIu64 ", incarnation %" PRIu64, marks[i].topic,
                  mark->position, mark->epoch, mark->incarnation);
    }
}

/* --- append ------------------------------------------------------------------------------------------------------- */

Test(conformance, an_empty_broker_is_there_and_has_nothing_of_ours)
{
    struct rig rig = rig_make(CONFIG_LAYOUT_TOPIC);
    struct rig_bridge *bridge = rig_open(&rig, 1);
    cr_expect_eq(bridge->n_states, 1);
    cr_expect_not_null(CLASS->name);
    expect_marks(bridge, 3, (struct rig_mark[]){{RIG_CREATED, 0, 0, 0}, {RIG_CANCELLED, 0, 0, 0}}, 2);
    rig_expect_stream(&rig, RIG_CREATED, 3, NULL, 0);
    rig_end(&rig);
}

Test(conformance, a_batch_goes_to_the_streams_of_its_topics_in_order)
{
    struct rig rig = rig_make(CONFIG_LAYOUT_TOPIC);
    struct rig_bridge *bridge = rig_open(&rig, 1);
    cr_assert_eq(rig_append(bridge, 2, (struct rig_life){7, 3}, five, N(five)), BACKEND_OK);
    rig_expect_stream(&rig, RIG_CREATED, 2, five, N(five));
    rig_expect_stream(&rig, RIG_CANCELLED, 2, five, N(five));
    expect_marks(bridge, 2, (struct rig_mark[]){{RIG_CREATED, 40, 7, 3}, {RIG_CANCELLED, 50, 7, 3}}, 2);
    expect_marks(bridge, 1, (struct rig_mark[]){{RIG_CREATED, 0, 0, 0}, {RIG_CANCELLED, 0, 0, 0}}, 2);
    rig_end(&rig);
}

Test(conformance, with_layout_log_a_batch_goes_to_one_stream_in_order)
{
    struct rig rig = rig_make(CONFIG_LAYOUT_LOG);
    struct rig_bridge *bridge = rig_open(&rig, 1);
    expect_marks(bridge, 2, (struct rig_mark[]){{"", 0, 0, 0}}, 1);
    cr_assert_eq(rig_append(bridge, 2, RIG_FIRST, chain, 3), BACKEND_OK);
    cr_assert_eq(rig_append(bridge, 2, RIG_FIRST, chain + 3, 2), BACKEND_OK);
    rig_expect_stream(&rig, RIG_LOG, 2, chain, N(chain));
    expect_marks(bridge, 2, (struct rig_mark[]){{"", 50, 1, 1}}, 1);
    cr_expect_eq(rig_append(bridge, 2, RIG_FIRST, &(struct rig_event){RIG_CREATED, 70, 60}, 1), BACKEND_GAP);
    rig_expect_stream(&rig, RIG_LOG, 2, chain, N(chain));
    rig_end(&rig);
}

Test(conformance, marks_are_those_of_the_topics_that_were_asked_for_in_that_order)
{
    struct rig rig = rig_make(CONFIG_LAYOUT_TOPIC);
    struct rig_bridge *bridge = rig_open(&rig, 1);
    static const char *const topics[] = {RIG_REFUNDED, RIG_CANCELLED, RIG_CREATED};
    cr_assert_eq(rig_append(bridge, 0, RIG_FIRST, five, N(five)), BACKEND_OK);
    cr_assert(CLASS->ask(bridge->backend, RIG_LOG, 0, topics, 3));
    cr_assert(rig_until(&rig, bridge->n_marks_answers == 1));
    cr_assert_eq(bridge->n_marks, 3);
    cr_expect_str_eq(bridge->marks[0].topic, RIG_REFUNDED);
    cr_expect_eq(bridge->marks[0].position, 0);
    cr_expect_str_eq(bridge->marks[1].topic, RIG_CANCELLED);
    cr_expect_eq(bridge->marks[1].position, 50);
    cr_expect_str_eq(bridge->marks[2].topic, RIG_CREATED);
    cr_expect_eq(bridge->marks[2].position, 40);
    rig_end(&rig);
}

Test(conformance, a_mark_says_where_its_stream_ended_then)
{
    struct rig rig = rig_make(CONFIG_LAYOUT_TOPIC);
    struct rig_bridge *bridge = rig_open(&rig, 1);
    static const size_t n_before[] = {0, 1, 2}; /* entries of RIG_CREATED, when it was asked for the marks */
    char ends[N(n_before)][64];
    static const struct entry_field foreign[] = {{"eventId", 7, "0198c0de-0000-7000-8000-0123456789ab", 36}};
    for (size_t i = 0; i < N(ends); i++) {
        cr_assert_eq(rig_ask(bridge, i == 1 ? 0 : 1), BACKEND_OK); /* partitions share a stream, and so its end */
        memcpy(ends[i], bridge->ends[0], sizeof ends[i]);
        if (i == 0)
            cr_assert_eq(rig_append(bridge, 0, RIG_FIRST, five, 1), BACKEND_OK);
        else
            broker_kind.append(rig.broker, RIG_CREATED, foreign, N(foreign));
    }
    cr_assert_eq(rig_append(bridge, 0, RIG_FIRST, five + 2, 2), BACKEND_OK);
    struct rig_bridge *reader = rig_read_all(&rig, RIG_CREATED);
    const struct rig_stream *stream = &reader->streams[0];
    cr_assert_eq(stream->n, 5);
    for (size_t i = 0; i < N(ends); i++)
        for (size_t k = 0; k < stream->n; k++)
            cr_expect_eq(CLASS->id_compare(stream->entries[k].id, ends[i]) > 0, k >= n_before[i],
                         "entry %s, the %zuth; the stream's end was %s behind %zu", stream->entries[k].id, k + 1,
                         ends[i], n_before[i]);
    rig_close(reader);
    rig_end(&rig);
}

Test(conformance, a_batch_that_is_repeated_changes_nothing)
{
    struct rig rig = rig_make(CONFIG_LAYOUT_TOPIC);
    struct rig_bridge *bridge = rig_open(&rig, 1);
    for (unsigned i = 0; i < 3; i++)
        cr_assert_eq(rig_append(bridge, 0, RIG_FIRST, five, N(five)), BACKEND_OK);
    for (size_t i = 0; i < N(five); i++) /* whatever its events say of those before them */
        cr_assert_eq(rig_append(bridge, 0, RIG_FIRST, &five[i], 1), BACKEND_OK);
    cr_assert_eq(rig_append(bridge, 0, (struct rig_life){9, 9}, five, N(five)), BACKEND_OK);
    rig_expect_stream(&rig, RIG_CREATED, 0, five, N(five));
    rig_expect_stream(&rig, RIG_CANCELLED, 0, five, N(five));
    expect_marks(bridge, 0, (struct rig_mark[]){{RIG_CREATED, 40, 1, 1}, {RIG_CANCELLED, 50, 1, 1}}, 2);
    rig_end(&rig);
}

Test(conformance, of_a_batch_of_which_a_part_is_there_the_rest_is_appended)
{
    struct rig rig = rig_make(CONFIG_LAYOUT_TOPIC);
    struct rig_bridge *bridge = rig_open(&rig, 1);
    for (size_t n = 1; n <= N(five); n++)
        cr_assert_eq(rig_append(bridge, 0, (struct rig_life){n, 1}, five, n), BACKEND_OK);
    rig_expect_stream(&rig, RIG_CREATED, 0, five, N(five));
    rig_expect_stream(&rig, RIG_CANCELLED, 0, five, N(five));
    expect_marks(bridge, 0, (struct rig_mark[]){{RIG_CREATED, 40, 4, 1}, {RIG_CANCELLED, 50, 5, 1}}, 2);
    rig_end(&rig);
}

Test(conformance, partitions_and_buses_have_marks_of_their_own)
{
    struct rig rig = rig_make(CONFIG_LAYOUT_TOPIC);
    struct rig_bridge *one = rig_open(&rig, 1), *other = rig_open(&rig, 2);
    static const struct rig_event later[] = {{RIG_CREATED, 60, 40}};
    cr_assert_eq(rig_append(one, 0, RIG_FIRST, five, N(five)), BACKEND_OK);
    cr_assert_eq(rig_append(other, 0, (struct rig_life){5, 1}, five, N(five)), BACKEND_OK);
    cr_assert_eq(rig_append(one, 1, (struct rig_life){6, 1}, five, N(five)), BACKEND_OK);
    cr_assert_eq(rig_append(one, 0, RIG_FIRST, later, 1), BACKEND_OK);
    cr_expect_eq(broker_kind.count(rig.broker, RIG_CREATED), 10);
    cr_expect_eq(broker_kind.count(rig.broker, RIG_CANCELLED), 6);
    expect_marks(one, 0, (struct rig_mark[]){{RIG_CREATED, 60, 1, 1}, {RIG_CANCELLED, 50, 1, 1}}, 2);
    expect_marks(one, 1, (struct rig_mark[]){{RIG_CREATED, 40, 6, 1}, {RIG_CANCELLED, 50, 6, 1}}, 2);
    expect_marks(other, 0, (struct rig_mark[]){{RIG_CREATED, 40, 5, 1}, {RIG_CANCELLED, 50, 5, 1}}, 2);
    rig_end(&rig);
}

Test(conformance, numbers_beyond_a_double_are_kept_exactly)
{
    static const uint64_t top = (UINT64_C(1) << 48) - 3;
    static const struct rig_event high[] = {{RIG_CREATED, (UINT64_C(1) << 48) - 3, 0},
                                            {RIG_CREATED, (UINT64_C(1) << 48) - 2, (UINT64_C(1) << 48) - 3}};
    static const struct rig_life late = {(UINT64_C(1) << 53) + 1, UINT64_MAX - 1},
                                 before = {UINT64_C(1) << 53, UINT64_MAX - 1};
    struct rig rig = rig_make(CONFIG_LAYOUT_TOPIC);
    struct rig_bridge *bridge = rig_open(&rig, 1);
    cr_assert_eq(rig_append(bridge, UINT32_MAX, late, high, 1), BACKEND_OK);
    expect_marks(bridge, UINT32_MAX,
                 (struct rig_mark[]){{RIG_CREATED, top, late.epoch, late.incarnation}, {RIG_CANCELLED, 0, 0, 0}}, 2);
    cr_expect_eq(rig_append(bridge, UINT32_MAX, before, high, 2), BACKEND_FENCED);
    cr_expect_eq(rig_append(bridge, UINT32_MAX, late, high, 2), BACKEND_OK);
    rig_expect_stream(&rig, RIG_CREATED, UINT32_MAX, high, 2);
    rig_end(&rig);
}

/* --- fences ------------------------------------------------------------------------------------------------------- */

Test(conformance, an_older_bridge_of_the_bus_is_fenced)
{
    static const struct {
        const char *name;
        struct rig_life first, second;
        enum backend_result result;
    } rows[] = {
        {"the same", {5, 5}, {5, 5}, BACKEND_OK},
        {"a later epoch", {5, 5}, {6, 5}, BACKEND_OK},
        {"an earlier epoch", {5, 5}, {4, 5}, BACKEND_FENCED},
        {"a later life of the bus, where epochs begin anew", {5, 5}, {1, 6}, BACKEND_OK},
        {"an earlier life of the bus", {5, 5}, {6, 4}, BACKEND_FENCED},
        {"as numbers, not as texts", {9, 9}, {10, 9}, BACKEND_OK},
        {"as numbers, not as texts, back", {10, 9}, {9, 9}, BACKEND_FENCED},
        {"lives as numbers, not as texts", {1, 9}, {1, 10}, BACKEND_OK},
        {"lives as numbers, not as texts, back", {1, 10}, {2, 9}, BACKEND_FENCED},
    };
    struct rig rig = rig_make(CONFIG_LAYOUT_TOPIC);
    struct rig_bridge *first = rig_open(&rig, 1), *second = rig_open(&rig, 1);
    for (size_t i = 0; i < N(rows); i++) {
        uint32_t partition = (uint32_t)i;
        bool is_in = rows[i].result == BACKEND_OK;
        cr_assert_eq(rig_append(first, partition, rows[i].first, five, 2), BACKEND_OK);
        cr_expect_eq(rig_append(second, partition, rows[i].second, five, 4), rows[i].result, "%s", rows[i].name);
        cr_assert_eq(rig_ask(first, partition), BACKEND_OK);
        cr_expect_eq(first->marks[0].position, is_in ? 40 : 10, "%s", rows[i].name);
        cr_expect_eq(first->marks[0].epoch, is_in ? rows[i].second.epoch : rows[i].first.epoch, "%s", rows[i].name);
    }
    rig_end(&rig);
}

Test(conformance, a_fenced_batch_appends_nothing_to_any_of_its_streams)
{
    struct rig rig = rig_make(CONFIG_LAYOUT_TOPIC);
    struct rig_bridge *old = rig_open(&rig, 1), *new = rig_open(&rig, 1);
    cr_assert_eq(rig_append(old, 0, RIG_FIRST, five, 2), BACKEND_OK);
    cr_assert_eq(rig_append(new, 0, (struct rig_life){2, 1}, &(struct rig_event){RIG_CANCELLED, 25, 20}, 1),
                 BACKEND_OK);
    cr_expect_eq(rig_append(old, 0, RIG_FIRST, five, N(five)), BACKEND_FENCED, "of cancelled there is one of epoch 2");
    cr_expect_eq(rig_append(old, 0, RIG_FIRST, &five[1], 1), BACKEND_FENCED, "even if it is there");
    expect_marks(new, 0, (struct rig_mark[]){{RIG_CREATED, 10, 1, 1}, {RIG_CANCELLED, 25, 2, 1}}, 2);
    cr_expect_eq(broker_kind.count(rig.broker, RIG_CREATED), 1);
    cr_expect_eq(broker_kind.count(rig.broker, RIG_CANCELLED), 2);
    rig_end(&rig);
}

/* --- gaps --------------------------------------------------------------------------------------------------------- */

Test(conformance, a_batch_that_does_not_join_the_mark_is_a_gap)
{
    static const struct {
        const char *name;
        struct rig_event events[3];
        size_t n;
    } rows[] = {
        {"one is missing", {{RIG_CREATED, 40, 30}}, 1},
        {"it does not know of any before it", {{RIG_CREATED, 30, 0}}, 1},
        {"the one before it stands behind the mark", {{RIG_CREATED, 30, 15}}, 1},
        {"the one before it stands before the mark", {{RIG_CREATED, 30, 5}}, 1},
        {"in the second stream", {{RIG_CREATED, 30, 10}, {RIG_CANCELLED, 50, 40}}, 2},
        {"behind what is there", {{RIG_CREATED, 10, 0}, {RIG_CREATED, 40, 30}}, 2},
        {"in a stream that has nothing", {{RIG_REFUNDED, 60, 35}}, 1},
        {"in a stream that has nothing, the first of three",
         {{RIG_REFUNDED, 60, 35}, {RIG_CREATED, 61, 10}, {RIG_REFUNDED, 62, 60}},
         3},
    };
    struct rig rig = rig_make(CONFIG_LAYOUT_TOPIC);
    struct rig_bridge *bridge = rig_open(&rig, 1);
    cr_assert_eq(rig_append(bridge, 0, (struct rig_life){2, 1}, five, 2), BACKEND_OK);
    for (size_t i = 0; i < N(rows); i++) {
        cr_expect_eq(rig_append(bridge, 0, (struct rig_life){3, 1}, rows[i].events, rows[i].n), BACKEND_GAP, "%s",
                     rows[i].name);
        expect_marks(bridge, 0, (struct rig_mark[]){{RIG_CREATED, 10, 2, 1}, {RIG_CANCELLED, 20, 2, 1}}, 2);
    }
    cr_expect_eq(rig_append(bridge, 0, RIG_FIRST, rows[0].events, 1), BACKEND_FENCED, "fences come first");
    cr_expect_eq(broker_kind.count(rig.broker, RIG_REFUNDED), 0);
    cr_assert_eq(rig_append(bridge, 0, (struct rig_life){2, 1}, five + 2, 3), BACKEND_OK);
    rig_expect_stream(&rig, RIG_CREATED, 0, five, N(five));
    rig_expect_stream(&rig, RIG_CANCELLED, 0, five, N(five));
    rig_end(&rig);
}

Test(conformance, behind_a_gap_what_is_under_way_is_a_gap_too)
{
    struct rig rig = rig_make(CONFIG_LAYOUT_TOPIC);
    struct rig_bridge *bridge = rig_open(&rig, 1);
    static const struct rig_event other[] = {{RIG_CREATED, 11, 0}};
    cr_assert_eq(rig_append(bridge, 0, RIG_FIRST, five, 2), BACKEND_OK);
    rig_send(bridge, 0, RIG_FIRST, five + 3, 1); /* 30 is missing */
    rig_send(bridge, 0, RIG_FIRST, (struct rig_event[]){{RIG_CREATED, 60, 40}}, 1);
    rig_send(bridge, 1, RIG_FIRST, other, 1);
    rig_send(bridge, 0, RIG_FIRST, five + 2, 1);
    cr_expect_eq(rig_await(bridge, 5), BACKEND_OK);
    cr_assert(rig_until(&rig, bridge->n_answers == 5));
    static const enum backend_result results[] = {BACKEND_OK, BACKEND_GAP, BACKEND_GAP, BACKEND_OK, BACKEND_OK};
    for (size_t i = 0; i < N(results); i++)
        cr_expect_eq(bridge->answers[i].result, results[bridge->answers[i].ticket - 1], "ticket %" PRIu64,
                     bridge->answers[i].ticket);
    expect_marks(bridge, 0, (struct rig_mark[]){{RIG_CREATED, 30, 1, 1}, {RIG_CANCELLED, 20, 1, 1}}, 2);
    rig_end(&rig);
}

Test(conformance, a_broker_that_was_emptied_says_so_by_its_marks_and_is_filled_again)
{
    struct rig rig = rig_make(CONFIG_LAYOUT_TOPIC);
    struct rig_bridge *bridge = rig_open(&rig, 1);
    cr_assert_eq(rig_append(bridge, 0, RIG_FIRST, five, 4), BACKEND_OK);
    broker_kind.empty(rig.broker);
    cr_expect_eq(rig_append(bridge, 0, RIG_FIRST, five + 4, 1), BACKEND_GAP);
    cr_assert_eq(rig_ask(bridge, 0), BACKEND_OK);
    cr_expect(bridge->marks[0].position == 0 && bridge->marks[1].position == 0);
    cr_assert_eq(rig_append(bridge, 0, RIG_FIRST, five, N(five)), BACKEND_OK);
    rig_expect_stream(&rig, RIG_CREATED, 0, five, N(five));
    rig_expect_stream(&rig, RIG_CANCELLED, 0, five, N(five));
    rig_end(&rig);
}

/* --- batches ------------------------------------------------------------------------------------------------------ */

Test(conformance, batches_of_a_partition_are_answered_in_order)
{
    enum { BATCHES = 60, EACH = 5 };
    struct rig rig = rig_make(CONFIG_LAYOUT_TOPIC);
    struct rig_bridge *bridge = rig_open(&rig, 1);
    struct rig_event events[BATCHES * EACH];
    for (uint64_t i = 0; i < N(events); i++)
        events[i] = (struct rig_event){RIG_CREATED, 7 * (i + 1), 7 * i};
    for (size_t i = 0; i < BATCHES; i++)
        rig_send(bridge, 4, RIG_FIRST, events + i * EACH, EACH);
    cr_expect_eq(bridge->n_answers, 0, "nothing is answered outside service()");
    cr_assert(rig_until(&rig, bridge->n_answers == BATCHES));
    for (size_t i = 0; i < BATCHES; i++)
        cr_expect(bridge->answers[i].ticket == i + 1 && bridge->answers[i].result == BACKEND_OK);
    rig_expect_stream(&rig, RIG_CREATED, 4, events, N(events));
    rig_end(&rig);
}

static bool add(struct rig_bridge *bridge, uint64_t position, uint64_t prev)
{
    char text[64];
    struct evbus_version version;
    struct rig_event event = {RIG_CREATED, position, prev};
    struct evbus_delivery delivery = rig_delivery(&event, 0, text, &version);
    return CLASS->add(bridge->backend, &delivery, prev);
}

Test(conformance, a_batch_that_is_full_says_so_and_the_event_begins_the_next)
{
    struct rig rig = rig_make(CONFIG_LAYOUT_TOPIC);
    rig.config.batch_events = 3;
    struct rig_bridge *bridge = rig_open(&rig, 1);
    struct rig_event events[8];
    size_t n_batches = 0;
    for (uint64_t i = 0; i < N(events); i++)
        events[i] = (struct rig_event){RIG_CREATED, i + 1, i};
    cr_assert(CLASS->begin(bridge->backend, RIG_LOG, 0, 1, 1));
    for (uint64_t i = 0; i < N(events); i++) {
        if (add(bridge, i + 1, i))
            continue;
        cr_expect_eq(i % 3, 0, "event %" PRIu64 " does not fit", i);
        cr_expect(!add(bridge, i + 1, i), "nor does it at the second try");
        cr_assert(CLASS->send(bridge->backend, ++n_batches));
        cr_assert(CLASS->begin(bridge->backend, RIG_LOG, 0, 1, 1));
        cr_assert(add(bridge, i + 1, i));
    }
    cr_assert(CLASS->send(bridge->backend, ++n_batches));
    cr_expect_eq(n_batches, 3);
    cr_assert(rig_until(&rig, bridge->n_answers == 3));
    rig_expect_stream(&rig, RIG_CREATED, 0, events, N(events));
    rig_end(&rig);
}

Test(conformance, a_batch_is_full_by_its_bytes_too_but_one_event_always_fits)
{
    struct rig rig = rig_make(CONFIG_LAYOUT_TOPIC);
    rig.config.batch_bytes = 1;
    struct rig_bridge *bridge = rig_open(&rig, 1);
    cr_assert(CLASS->begin(bridge->backend, RIG_LOG, 0, 1, 1));
    cr_assert(add(bridge, 1, 0));
    cr_expect(!add(bridge, 2, 1));
    cr_assert(CLASS->send(bridge->backend, 1));
    cr_assert(CLASS->begin(bridge->backend, RIG_LOG, 0, 1, 1));
    cr_assert(add(bridge, 2, 1));
    cr_assert(CLASS->send(bridge->backend, 2));
    cr_assert(rig_until(&rig, bridge->n_answers == 2));
    rig_expect_stream(&rig, RIG_CREATED, 0, (struct rig_event[]){{RIG_CREATED, 1, 0}, {RIG_CREATED, 2, 1}}, 2);
    rig_end(&rig);
}

static void send_the_next(struct rig_bridge *bridge, const struct rig_answer *answer)
{
    cr_assert_eq(answer->result, BACKEND_OK);
    if (answer->ticket < N(five)) {
        static const char *const topics[] = {RIG_CREATED, RIG_CANCELLED};
        rig_send(bridge, 0, RIG_FIRST, &five[answer->ticket], 1);
        cr_assert(CLASS->ask(bridge->backend, RIG_LOG, 0, topics, 2));
        CLASS->more(bridge->backend, RIG_CREATED);
        CLASS->report(bridge->backend, RIG_CREATED, "");
    }
}

Test(conformance, callbacks_may_begin_add_send_ask_more_and_report)
{
    struct rig rig = rig_make(CONFIG_LAYOUT_TOPIC);
    struct rig_bridge *bridge = rig_open(&rig, 1);
    bridge->on_answer = send_the_next;
    rig_listen(bridge, RIG_CREATED, "");
    rig_send(bridge, 0, RIG_FIRST, five, 1);
    cr_assert(rig_until(&rig, bridge->n_answers == N(five) && bridge->n_marks_answers == N(five) - 1));
    rig_expect_stream(&rig, RIG_CREATED, 0, five, N(five));
    rig_end(&rig);
}

Test(conformance, a_backend_may_be_closed_at_any_moment)
{
    struct rig rig = rig_make(CONFIG_LAYOUT_TOPIC);
    rig_close(rig_open_away(&rig, 1)); /* never served */
    struct rig_bridge *bridge = rig_open(&rig, 1);
    rig_listen(bridge, RIG_CREATED, "");
    rig_send(bridge, 0, RIG_FIRST, five, 2);
    rig_send(bridge, 0, RIG_FIRST, five + 2, 3);
    cr_assert(CLASS->ask(bridge->backend, RIG_LOG, 0, (const char *const[]){RIG_CREATED}, 1));
    CLASS->trim(bridge->backend, RIG_CREATED);
    cr_assert(CLASS->begin(bridge->backend, RIG_LOG, 0, 1, 1));
    cr_assert(add(bridge, 60, 40));
    rig_close(bridge);
    rig_end(&rig);
}

/* --- reading ------------------------------------------------------------------------------------------------------ */

Test(conformance, a_listener_gets_one_portion_for_each_more)
{
    struct rig rig = rig_make(CONFIG_LAYOUT_TOPIC);
    struct rig_bridge *bridge = rig_open(&rig, 1);
    struct rig_stream *stream = rig_listen_once(bridge, RIG_CREATED, "");
    cr_assert_eq(rig_append(bridge, 0, RIG_FIRST, five, 2), BACKEND_OK);
    cr_assert_eq(rig_ask(bridge, 0), BACKEND_OK);
    cr_expect(stream->n_arrived == 0 && stream->n_empty == 0, "nobody has asked for more");
    CLASS->more(bridge->backend, RIG_CREATED);
    cr_assert(rig_until(&rig, stream->n_arrived == 1));
    cr_expect_eq(stream->n, 1);
    cr_assert_eq(rig_append(bridge, 0, RIG_FIRST, five + 2, 3), BACKEND_OK);
    cr_assert_eq(rig_ask(bridge, 0), BACKEND_OK);
    cr_expect_eq(stream->n_arrived, 1, "nobody has asked for more again");
    stream->is_asking = true;
    CLASS->more(bridge->backend, RIG_CREATED);
    CLASS->more(bridge->backend, RIG_CREATED); /* which changes nothing */
    cr_assert(rig_until(&rig, stream->n == 3));
    for (size_t i = 0, at = 0; i < N(five); i++)
        if (strcmp(five[i].topic, RIG_CREATED) == 0)
            rig_expect_entry(&stream->entries[at++], &five[i], 0);
    rig_end(&rig);
}

Test(conformance, that_nothing_is_there_is_told_and_what_comes_then_comes_by_itself)
{
    struct rig rig = rig_make(CONFIG_LAYOUT_TOPIC);
    struct rig_bridge *bridge = rig_open(&rig, 1);
    struct rig_stream *stream = rig_listen_once(bridge, RIG_CREATED, "");
    CLASS->more(bridge->backend, RIG_CREATED);
    cr_assert(rig_until(&rig, stream->n_empty == 1));
    cr_assert_eq(rig_append(bridge, 0, RIG_FIRST, five, 2), BACKEND_OK);
    cr_assert(rig_until(&rig, stream->n_arrived == 1));
    cr_expect_eq(stream->n_empty, 1);
    rig_expect_entry(&stream->entries[0], &five[0], 0);
    rig_end(&rig);
}

Test(conformance, a_listener_is_woken_by_what_others_append)
{
    struct rig rig = rig_make(CONFIG_LAYOUT_TOPIC);
    struct rig_bridge *writer = rig_open(&rig, 1), *reader = rig_open(&rig, 2);
    struct rig_stream *stream = rig_listen(reader, RIG_CREATED, "");
    cr_assert(rig_until(&rig, stream->is_at_end));
    for (size_t i = 0; i < N(five); i++)
        rig_send(writer, 0, RIG_FIRST, &five[i], 1);
    cr_assert(rig_until(&rig, stream->n == 3 && stream->is_at_end));
    cr_expect_str_eq(stream->entries[0].origin, writer->origin);
    static const struct entry_field foreign[] = {{"eventId", 7, "0198c0de-0000-7000-8000-0123456789ab", 36},
                                                 {"eventType", 9, RIG_CREATED, sizeof RIG_CREATED - 1},
                                                 {"timestamp", 9, "2026-02-01T09:30:00.123Z", 24},
                                                 {"version", 7, "1.0", 3},
                                                 {"payload", 7, "{\"total\":19.99}", 15}};
    broker_kind.append(rig.broker, RIG_CREATED, foreign, N(foreign));
    cr_assert(rig_until(&rig, stream->n == 4));
    cr_assert(stream->entries[3].is_event, "%s", stream->entries[3].error);
    cr_expect(stream->entries[3].is_foreign);
    cr_expect_str_eq(stream->entries[3].payload, "{\"total\":19.99}");
    rig_end(&rig);
}

Test(conformance, what_could_not_be_taken_comes_again_with_the_next_more)
{
    struct rig rig = rig_make(CONFIG_LAYOUT_TOPIC);
    struct rig_bridge *bridge = rig_open(&rig, 1);
    struct rig_stream *stream = rig_listen_once(bridge, RIG_CREATED, "");
    cr_assert_eq(rig_append(bridge, 0, RIG_FIRST, five, N(five)), BACKEND_OK);
    stream->is_refusing = true;
    for (unsigned i = 1; i <= 3; i++) {
        CLASS->more(bridge->backend, RIG_CREATED);
        cr_assert(rig_until(&rig, stream->n_arrived == i));
        cr_assert_eq(rig_ask(bridge, 0), BACKEND_OK);
        cr_expect_eq(stream->n_arrived, i, "not before the next more()");
    }
    stream->is_refusing = false;
    stream->is_asking = true;
    CLASS->more(bridge->backend, RIG_CREATED);
    cr_assert(rig_until(&rig, stream->n == 3));
    for (size_t i = 0, at = 0; i < N(five); i++)
        if (strcmp(five[i].topic, RIG_CREATED) == 0)
            rig_expect_entry(&stream->entries[at++], &five[i], 0);
    rig_end(&rig);
}

Test(conformance, reading_goes_on_behind_any_id_in_another_life_of_the_bridge)
{
    enum { EVENTS = 40 };
    struct rig rig = rig_make(CONFIG_LAYOUT_TOPIC);
    struct rig_bridge *bridge = rig_open(&rig, 1);
    struct rig_event events[EVENTS];
    for (uint64_t i = 0; i < EVENTS; i++)
        events[i] = (struct rig_event){RIG_CREATED, i + 1, i};
    cr_assert_eq(rig_append(bridge, 0, RIG_FIRST, events, 1), BACKEND_OK);
    cr_assert_eq(rig_append(bridge, 0, RIG_FIRST, events + 1, 20), BACKEND_OK);
    cr_assert_eq(rig_append(bridge, 0, RIG_FIRST, events + 21, EVENTS - 21), BACKEND_OK);
    struct rig_stream *all = rig_listen(bridge, RIG_CREATED, "");
    cr_assert(rig_until(&rig, all->n == EVENTS));
    for (size_t i = 0; i < EVENTS; i++) {
        cr_expect_gt(CLASS->id_compare(all->entries[i].id, ""), 0);
        cr_expect_lt(CLASS->id_compare("", all->entries[i].id), 0);
        cr_expect_eq(CLASS->id_compare(all->entries[i].id, all->entries[i].id), 0);
        for (size_t k = 0; k < i; k++) {
            cr_expect_lt(CLASS->id_compare(all->entries[k].id, all->entries[i].id), 0);
            cr_expect_gt(CLASS->id_compare(all->entries[i].id, all->entries[k].id), 0);
        }
    }
    for (size_t from = 0; from < EVENTS; from += 13) {
        struct rig_bridge *later = rig_open(&rig, 1);
        struct rig_stream *rest = rig_listen(later, RIG_CREATED, all->entries[from].id);
        cr_assert(rig_until(&rig, rest->n_empty > 0));
        cr_assert_eq(rest->n, EVENTS - from - 1);
        for (size_t i = 0; i < rest->n; i++) {
            rig_expect_entry(&rest->entries[i], &events[from + 1 + i], 0);
            cr_expect_str_eq(rest->entries[i].id, all->entries[from + 1 + i].id);
        }
        rig_close(later);
    }
    rig_end(&rig);
}

Test(conformance, listening_once_more_begins_at_the_other_id)
{
    struct rig rig = rig_make(CONFIG_LAYOUT_TOPIC);
    struct rig_bridge *bridge = rig_open(&rig, 1);
    struct rig_stream *stream = rig_listen(bridge, RIG_CREATED, "");
    cr_assert_eq(rig_append(bridge, 0, RIG_FIRST, five, N(five)), BACKEND_OK);
    cr_assert(rig_until(&rig, stream->n == 3 && stream->n_empty > 0));
    cr_assert_eq(CLASS->listen(bridge->backend, RIG_CREATED, stream->entries[0].id), EVBUS_OK);
    CLASS->more(bridge->backend, RIG_CREATED);
    cr_assert(rig_until(&rig, stream->n == 5));
    cr_expect_eq(stream->entries[3].position, 30);
    cr_expect_eq(stream->entries[4].position, 40);
    rig_end(&rig);
}

Test(conformance, hosts_see_what_each_of_them_has_appended)
{
    struct rig rig = rig_make(CONFIG_LAYOUT_TOPIC);
    struct rig_bridge *hosts[3];
    struct rig_stream *streams[3];
    for (unsigned i = 0; i < 3; i++) {
        hosts[i] = rig_open(&rig, i + 1);
        streams[i] = rig_listen(hosts[i], RIG_CREATED, "");
    }
    for (unsigned i = 0; i < 3; i++)
        for (size_t k = 0; k < N(five); k++)
            rig_send(hosts[i], i, RIG_FIRST, &five[k], 1);
    cr_assert(rig_until(&rig, streams[0]->n == 9 && streams[1]->n == 9 && streams[2]->n == 9));
    for (unsigned i = 0; i < 3; i++) {
        uint64_t last[3] = {0};
        for (size_t k = 0; k < 9; k++) {
            const struct rig_entry *entry = &streams[i]->entries[k];
            cr_assert(entry->is_event && entry->partition < 3, "%s", entry->error);
            cr_expect_str_eq(entry->origin, hosts[entry->partition]->origin);
            cr_expect_eq(entry->prev, last[entry->partition]);
            last[entry->partition] = entry->position;
            cr_expect_str_eq(entry->id, streams[0]->entries[k].id, "all see one order");
        }
    }
    rig_end(&rig);
}

/* --- what an entry says ------------------------------------------------------------------------------------------- */

struct expected {
    const struct evbus_delivery *event;
    size_t n_checked;
} expected;

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static bool is_payload(const struct evbus_version *version, const void *payload, size_t len)
{
    const char *is = payload, *was = version->payload;
    size_t was_len = version->payload_len;
    if (!CLASS->is_by_line)
        return len == was_len && memcmp(is, was, len) == 0;
    for (; was_len > 0 && is_blank(was[0]); was_len--)
        was++;
    while (was_len > 0 && is_blank(was[was_len - 1]))
        was_len--;
    for (size_t i = 0; i < len && len == was_len; i++)
        if (is[i] != was[i] && !(is[i] == ' ' && (was[i] == '\r' || was[i] == '\n')))
            return false;
    return len == was_len;
}

static void check_entry(struct rig_bridge *bridge, const struct backend_entry *entry)
{
    const struct evbus_delivery *was = expected.event;
    struct entry written = {0};
    struct entry_event *read = malloc(sizeof *read);
    char error[EVBUS_ERROR_MAX] = "";
    cr_assert_not_null(read);
    cr_assert(entry_read(entry->fields, entry->n_fields, read, error), "%s", error);
    const struct evbus_event *is = &read->event;
    cr_expect(memcmp(is->id, was->id, 16) == 0 && strcmp(is->topic, was->topic) == 0);
    cr_expect_eq(is->timestamp_ns, was->timestamp_ns);
    cr_expect(is->key_len == was->key_len && (is->key_len == 0 || memcmp(is->key, was->key, is->key_len) == 0));
    cr_expect_str_eq(is->traceparent, was->traceparent);
    cr_expect_str_eq(is->tracestate, was->tracestate);
    cr_expect_str_eq(is->correlation_id, was->correlation_id);
    cr_expect_str_eq(is->causation_id, was->causation_id);
    cr_expect_eq(is->expires_at_ns, was->expires_at_ns);
    cr_assert_eq(is->n_more_versions, was->n_versions - 1);
    cr_expect(is_payload(&was->versions[was->n_versions - 1], is->payload, is->payload_len), "%.*s",
              (int)is->payload_len, (const char *)is->payload);
    for (size_t i = 0; i < is->n_more_versions; i++)
        cr_expect(is_payload(&was->versions[was->n_versions - 2 - i], is->more_versions[i].payload,
                             is->more_versions[i].payload_len));
    entry_write(was, bridge->origin, 0, &written); /* and they stand there in the format's order */
    cr_assert_eq(entry->n_fields, written.n);
    for (size_t i = 0; i < written.n; i++)
        cr_expect(entry->fields[i].name_len == written.fields[i].name_len &&
                      memcmp(entry->fields[i].name, written.fields[i].name, written.fields[i].name_len) == 0,
                  "field %zu is %.*s", i, (int)entry->fields[i].name_len, entry->fields[i].name);
    expected.n_checked++;
    free(read);
}

Test(conformance, every_field_comes_back_as_it_was)
{
    enum { DEPTH = 128, LARGE = 240 * 1024 };
    static char deep[2 * DEPTH + 1], large[LARGE + 1];
    memset(deep, '[', DEPTH);
    memset(deep + DEPTH, ']', DEPTH);
    memset(large, 'x', LARGE);
    large[0] = large[LARGE - 1] = '"';
    const char *const payloads[] = {
        "null",
        "19.99",
        "-0",
        "1e2",
        "123456789012345678901234567890.10",
        "\"\\ud83d\\ude00 \\ud83d \\u0000 \\/ ä€😀 \\\"\"",
        "{\"a\":1,\"a\":1.10,\"payload\":{\"stream\":\"" RIG_CANCELLED "\"}}",
        "{\r\n\t\"a\" : [ ] }\n",
        "[\"" RIG_CANCELLED "\"]",
        deep,
        large,
    };
    struct rig rig = rig_make(CONFIG_LAYOUT_TOPIC);
    struct rig_bridge *bridge = rig_open(&rig, 1);
    struct rig_stream *stream = rig_listen(bridge, RIG_CREATED, "");
    bridge->on_entry = check_entry;
    for (size_t i = 0; i < N(payloads); i++) {
        const struct evbus_version versions[] = {
            {1, 0, "1", 1}, {1, 10, "\"\\n\"", 4}, {2, 0, payloads[i], strlen(payloads[i])}};
        const struct evbus_delivery event = {
            .size = sizeof event,
            .id = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, (uint8_t)i},
            .topic = RIG_CREATED,
            .service = "order-payment-service",
            .timestamp_ns = UINT64_C(1769938200123000000),
            .key = "k\0\x01\n\r\t\"\\/ä€😀\x7f",
            .key_len = 19,
            .log = RIG_LOG,
            .position = i + 1,
            .versions = versions,
            .n_versions = N(versions),
            .traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            .tracestate = "a=1,b=2",
            .correlation_id = "\"ä\\\n",
            .causation_id = "{}",
            .expires_at_ns = UINT64_C(1769938201000000000),
        };
        expected.event = &event;
        cr_assert(CLASS->begin(bridge->backend, RIG_LOG, 0, 1, 1));
        cr_assert(CLASS->add(bridge->backend, &event, i));
        cr_assert(CLASS->send(bridge->backend, i + 1));
        cr_assert_eq(rig_await(bridge, i + 1), BACKEND_OK);
        cr_assert(rig_until(&rig, stream->n == i + 1), "%s", payloads[i]);
    }
    cr_expect_eq(expected.n_checked, N(payloads));
    rig_end(&rig);
}

Test(conformance, what_a_foreign_program_has_put_there_comes_as_it_stands)
{
    struct rig rig = rig_make(CONFIG_LAYOUT_TOPIC);
    struct rig_bridge *bridge = rig_open(&rig, 1);
    struct rig_stream *stream = rig_listen(bridge, RIG_CREATED, "");
    static const struct entry_field odd[] = {{"", 0, "", 0}, {"a \"\\\n", 5, "\x01\"\\\t", 4}, {"payload", 7, "1", 1}};
    static const struct entry_field good[] = {{"payload", 7, "[ 1.10 ]", 8},
                                              {"colour", 6, "red", 3},
                                              {"timestamp", 9, "2026-02-01T10:30:00+01:00", 25},
                                              {"eventType", 9, RIG_CREATED, sizeof RIG_CREATED - 1},
                                              {"key", 3, "ä", 2},
                                              {"eventId", 7, "0198c0de-0000-7000-8000-0123456789ab", 36}};
    cr_assert_eq(rig_append(bridge, 0, RIG_FIRST, five, 1), BACKEND_OK);
    broker_kind.append(rig.broker, RIG_CREATED, odd, N(odd));
    broker_kind.append(rig.broker, RIG_CREATED, good, N(good));
    broker_kind.append(rig.broker, RIG_CANCELLED, good, N(good));
    cr_assert_eq(rig_append(bridge, 0, RIG_FIRST, five, N(five)), BACKEND_OK, "they change no mark");
    cr_assert(rig_until(&rig, stream->n == 5));
    rig_expect_entry(&stream->entries[0], &five[0], 0);
    cr_expect(!stream->entries[1].is_event && strncmp(stream->entries[1].error, "eventId is missing", 18) == 0, "%s",
              stream->entries[1].error);
    cr_assert(stream->entries[2].is_event, "%s", stream->entries[2].error);
    cr_expect(stream->entries[2].is_foreign && stream->entries[2].position == 0);
    cr_expect_str_eq(stream->entries[2].payload, "[ 1.10 ]");
    rig_expect_entry(&stream->entries[3], &five[2], 0);
    cr_expect_eq(broker_kind.count(rig.broker, RIG_CANCELLED), 3);
    rig_end(&rig);
}

/* --- away and back ------------------------------------------------------------------------------------------------ */

/* All from the mark on, again and again until it is there. */
static void fill(struct rig_bridge *bridge, uint32_t partition, const struct rig_event *events, size_t n)
{
    uint64_t until_ms = await_now_ms() + AWAIT_MS;
    while (await_now_ms() < until_ms) {
        cr_assert(rig_until(bridge->rig, bridge->is_here), "%s", bridge->why);
        if (rig_ask(bridge, partition) != BACKEND_OK)
            continue;
        uint64_t mark = bridge->marks[0].position;
        size_t from = 0;
        while (from < n && events[from].position <= mark)
            from++;
        if (from == n)
            return;
        size_t len = n - from < 50 ? n - from : 50;
        if (bridge->is_here)
            (void)rig_append(bridge, partition, RIG_FIRST, events + from, len);
    }
    cr_assert_fail("not all can be appended");
}

Test(conformance, when_the_broker_is_gone_what_is_under_way_is_answered_and_nothing_more_is_taken)
{
    enum { EVENTS = 100 };
    struct rig rig = rig_make(CONFIG_LAYOUT_TOPIC);
    struct rig_bridge *bridge = rig_open(&rig, 1);
    struct rig_stream *stream = rig_listen(bridge, RIG_CREATED, "");
    struct rig_event events[EVENTS];
    for (uint64_t i = 0; i < EVENTS; i++)
        events[i] = (struct rig_event){RIG_CREATED, i + 1, i};
    cr_assert_eq(rig_append(bridge, 0, RIG_FIRST, events, 10), BACKEND_OK);
    broker_kind.kill(rig.broker);
    for (size_t i = 1; i < 6; i++) /* it may know already that nobody is there */
        if (CLASS->begin(bridge->backend, RIG_LOG, 0, 1, 1)) {
            cr_assert(add(bridge, events[i * 10].position, events[i * 10].prev));
            bridge->n_tickets += CLASS->send(bridge->backend, bridge->n_tickets + 1);
        }
    bool is_asked = CLASS->ask(bridge->backend, RIG_LOG, 0, (const char *const[]){RIG_CREATED}, 1);
    cr_assert(rig_until(&rig, !bridge->is_here));
    cr_expect_eq(bridge->n_answers, bridge->n_tickets);
    for (size_t i = 1; i < bridge->n_answers; i++)
        cr_expect(bridge->answers[i].ticket == i + 1 && bridge->answers[i].result == BACKEND_AWAY);
    cr_expect(!is_asked || (bridge->n_marks_answers == 1 && bridge->marks_result == BACKEND_AWAY));
    cr_expect(!CLASS->begin(bridge->backend, RIG_LOG, 0, 1, 1));
    cr_expect(!CLASS->send(bridge->backend, 999));
    cr_expect(!CLASS->ask(bridge->backend, RIG_LOG, 0, (const char *const[]){RIG_CREATED}, 1));
    CLASS->more(bridge->backend, RIG_CREATED); /* which nobody answers now */
    CLASS->report(bridge->backend, RIG_CREATED, "");
    CLASS->trim(bridge->backend, RIG_CREATED);
    size_t n_states = bridge->n_states;

    broker_kind.restart(rig.broker);
    cr_assert(rig_until(&rig, bridge->is_here), "%s", bridge->why);
    cr_expect_eq(bridge->n_states, n_states + 1);
    for (size_t i = 0; i < bridge->n_answers; i++)
        cr_expect_neq(bridge->answers[i].ticket, 999);
    fill(bridge, 0, events, EVENTS);
    rig_expect_stream(&rig, RIG_CREATED, 0, events, EVENTS);
    cr_assert(rig_until(&rig, stream->n >= EVENTS), "the listener outlives it");
    cr_assert_eq(stream->n, EVENTS);
    for (size_t i = 0; i < EVENTS; i++)
        rig_expect_entry(&stream->entries[i], &events[i], 0);
    rig_end(&rig);
}

Test(conformance, a_broker_that_is_not_there_yet_is_waited_for)
{
    struct rig rig = rig_make(CONFIG_LAYOUT_TOPIC);
    broker_kind.kill(rig.broker);
    struct rig_bridge *bridge = rig_open_away(&rig, 1);
    struct rig_stream *stream = rig_listen(bridge, RIG_CREATED, "");
    cr_assert(rig_until(&rig, bridge->why[0] != '\0'));
    cr_expect(!bridge->is_here && !CLASS->begin(bridge->backend, RIG_LOG, 0, 1, 1));
    broker_kind.restart(rig.broker);
    cr_assert(rig_until(&rig, bridge->is_here));
    cr_assert_eq(rig_append(bridge, 0, RIG_FIRST, five, N(five)), BACKEND_OK);
    cr_assert(rig_until(&rig, stream->n == 3));
    rig_end(&rig);
}

Test(conformance, a_broker_that_comes_and_goes_has_each_event_once)
{
    enum { EVENTS = 400 };
    uint64_t state = trial_seed("conformance/a_broker_that_comes_and_goes_has_each_event_once");
    struct rig rig = rig_make(CONFIG_LAYOUT_TOPIC);
    struct rig_bridge *bridge = rig_open(&rig, 1), *reader = rig_open(&rig, 2);
    struct rig_stream *stream = rig_listen(reader, RIG_CREATED, "");
    struct rig_event events[EVENTS];
    for (uint64_t i = 0; i < EVENTS; i++)
        events[i] = (struct rig_event){RIG_CREATED, i + 1, i};
    for (unsigned round = 0; round < trial_count(6, 2); round++) {
        size_t n = EVENTS / 8 * (round + 1);
        cr_assert(rig_until(&rig, bridge->is_here));
        cr_assert_eq(rig_ask(bridge, 0), BACKEND_OK);
        for (size_t from = (size_t)bridge->marks[0].position, len; from < n && bridge->is_here; from += len) {
            len = 1 + trial_random(&state) % 9;
            len = len < n - from ? len : n - from;
            rig_send(bridge, 0, RIG_FIRST, events + from, len);
            if (trial_random(&state) % 4 == 0)
                rig_pump(&rig, 0);
        }
        broker_kind.kill(rig.broker);
        cr_assert(rig_until(&rig, !bridge->is_here && !reader->is_here && bridge->n_answers == bridge->n_tickets));
        broker_kind.restart(rig.broker);
    }
    fill(bridge, 0, events, EVENTS);
    cr_assert(rig_until(&rig, stream->n >= EVENTS));
    rig_expect_stream(&rig, RIG_CREATED, 0, events, EVENTS);
    cr_assert_eq(stream->n, EVENTS);
    for (size_t i = 0; i < EVENTS; i++)
        rig_expect_entry(&stream->entries[i], &events[i], 0);
    rig_end(&rig);
}

Test(conformance, a_listener_goes_on_in_a_broker_that_was_emptied)
{
    struct rig rig = rig_make(CONFIG_LAYOUT_TOPIC);
    struct rig_bridge *bridge = rig_open(&rig, 1);
    struct rig_stream *stream = rig_listen(bridge, RIG_CREATED, "");
    cr_assert_eq(rig_append(bridge, 0, RIG_FIRST, five, 4), BACKEND_OK);
    cr_assert(rig_until(&rig, stream->n == 3));
    broker_kind.empty(rig.broker);
    fill(bridge, 0, (struct rig_event[]){{RIG_CREATED, 60, 0}, {RIG_CREATED, 70, 60}}, 2);
    cr_assert(rig_until(&rig, stream->n >= 5));
    cr_assert_eq(stream->n, 5);
    cr_expect_eq(stream->entries[3].position, 60);
    cr_expect_eq(stream->entries[4].position, 70);
    rig_end(&rig);
}

/* --- much, and at random ------------------------------------------------------------------------------------------ */

struct plan {
    struct rig_event events[2000];
    size_t n;
    size_t n_of[2];
};

static void make_plan(struct plan *plan, uint64_t *state)
{
    static const char *const topics[] = {RIG_CREATED, RIG_CANCELLED};
    uint64_t position = 0, last[2] = {0};
    *plan = (struct plan){.n = trial_count(2000, 500)};
    for (size_t i = 0; i < plan->n; i++) {
        size_t topic = trial_random(state) % 2;
        position += 1 + trial_random(state) % 5;
        plan->events[i] = (struct rig_event){topics[topic], position, last[topic]};
        last[topic] = position;
        plan->n_of[topic]++;
    }
}

/* Batches of any length, some repeated, some that leave a gap: what is answered is what must be. */
static void append_at_random(struct rig_bridge *bridge, uint32_t partition, const struct plan *plan, uint64_t *state)
{
    size_t done = 0;
    while (done < plan->n) {
        size_t from = done - (trial_random(state) % 3 == 0 ? trial_random(state) % (done + 1) % 20 : 0);
        size_t len = 1 + trial_random(state) % 20;
        len = len < plan->n - from ? len : plan->n - from;
        bool is_far = trial_random(state) % 10 == 0 && done > 0 && done + 30 < plan->n;
        if (is_far) { /* at least one of its topic lies in between */
            struct rig_event lost = plan->events[done + 25];
            lost.prev = plan->events[done + 24].position;
            cr_assert_eq(rig_append(bridge, partition, RIG_FIRST, &lost, 1), BACKEND_GAP);
        }
        cr_assert_eq(rig_append(bridge, partition, RIG_FIRST, plan->events + from, len), BACKEND_OK);
        done = from + len > done ? from + len : done;
    }
}

Test(conformance, each_event_of_two_buses_is_there_once_and_in_order)
{
    uint64_t state = trial_seed("conformance/each_event_of_two_buses_is_there_once_and_in_order");
    static struct plan plans[2];
    struct rig rig = rig_make(CONFIG_LAYOUT_TOPIC);
    struct rig_bridge *bridges[2] = {rig_open(&rig, 1), rig_open(&rig, 2)};
    struct rig_stream *created = rig_listen(bridges[1], RIG_CREATED, "");
    for (unsigned i = 0; i < 2; i++) {
        make_plan(&plans[i], &state);
        append_at_random(bridges[i], 3, &plans[i], &state);
    }
    size_t n = plans[0].n_of[0] + plans[1].n_of[0];
    cr_assert(rig_until(&rig, created->n >= n));
    struct rig_bridge *reader = rig_read_all(&rig, RIG_CANCELLED);
    const struct rig_stream *streams[] = {created, &reader->streams[0]};
    for (unsigned topic = 0; topic < 2; topic++) {
        cr_assert_eq(streams[topic]->n, plans[0].n_of[topic] + plans[1].n_of[topic]);
        size_t at[2] = {0};
        for (size_t i = 0; i < streams[topic]->n; i++) {
            const struct rig_entry *entry = &streams[topic]->entries[i];
            unsigned bus = strcmp(entry->origin, bridges[1]->origin) == 0;
            const struct rig_event *event = &plans[bus].events[at[bus]];
            while (strcmp(event->topic, streams[topic]->name) != 0)
                event = &plans[bus].events[++at[bus]];
            rig_expect_entry(entry, event, 3);
            at[bus]++;
        }
    }
    rig_end(&rig);
}

/* --- trim --------------------------------------------------------------------------------------------------------- */

/* Trims again and again; true when it has come true. */
static bool trim_until(struct rig_bridge *bridge, bool (*is_so)(const struct rig_bridge *bridge))
{
    uint64_t until_ms = await_now_ms() + AWAIT_MS;
    while (await_now_ms() < until_ms) {
        size_t before = bridge->n_trimmed;
        CLASS->trim(bridge->backend, RIG_CREATED);
        cr_assert(rig_until(bridge->rig, bridge->n_trimmed > before), "trim is not answered");
        if (is_so(bridge))
            return true;
    }
    return false;
}

static bool is_always(const struct rig_bridge *bridge)
{
    (void)bridge;
    return true;
}

static bool have_two_gone(const struct rig_bridge *bridge)
{
    return bridge->trimmed >= 2;
}

static bool have_all_gone(const struct rig_bridge *bridge)
{
    return bridge->trimmed >= 3;
}

static bool is_one_dropped(const struct rig_bridge *bridge)
{
    return bridge->dropped[0] != '\0';
}

Test(conformance, a_broker_that_removes_nothing_says_so)
{
    if (broker_kind.has_trim)
        return; /* the tests that follow are its */
    struct rig rig = rig_make(CONFIG_LAYOUT_TOPIC);
    rig.config.trim_age_ns = 1;
    struct rig_bridge *bridge = rig_open(&rig, 1);
    struct rig_stream *stream = rig_listen(bridge, RIG_CREATED, "");
    cr_assert_eq(rig_append(bridge, 0, RIG_FIRST, five, N(five)), BACKEND_OK);
    cr_assert(rig_until(&rig, stream->n == 3));
    CLASS->report(bridge->backend, RIG_CREATED, stream->entries[2].id);
    cr_assert(trim_until(bridge, is_always));
    cr_expect_eq(bridge->trimmed, 0);
    cr_expect_str_eq(bridge->kept_for, "ever");
    rig_expect_stream(&rig, RIG_CREATED, 0, five, N(five));
    rig_end(&rig);
}

Test(conformance, what_every_host_has_done_with_goes_and_the_marks_stay)
{
    if (!broker_kind.has_trim)
        return; /* the test before is its */
    struct rig rig = rig_make(CONFIG_LAYOUT_TOPIC);
    rig.config.trim_age_ns = 1000000;
    struct rig_bridge *one = rig_open(&rig, 1), *other = rig_open(&rig, 2);
    struct rig_stream *stream = rig_listen(one, RIG_CREATED, "");
    cr_assert_eq(rig_append(one, 0, RIG_FIRST, five, N(five)), BACKEND_OK);
    cr_assert(rig_until(&rig, stream->n == 3));
    CLASS->report(other->backend, RIG_CREATED, stream->entries[1].id);
    cr_assert_eq(rig_ask(other, 0), BACKEND_OK); /* behind it */
    CLASS->report(one->backend, RIG_CREATED, stream->entries[2].id);
    cr_assert(trim_until(one, have_two_gone));
    cr_expect_eq(one->trimmed, 2);
    cr_expect_str_eq(one->kept_for, "host 4f0c2b7e-1c1d-4b52-9d3e-000000000002");
    cr_expect_eq(broker_kind.count(rig.broker, RIG_CREATED), 1);
    CLASS->report(other->backend, RIG_CREATED, stream->entries[2].id);
    cr_assert_eq(rig_ask(other, 0), BACKEND_OK);
    cr_assert(trim_until(one, have_all_gone));
    cr_expect_eq(broker_kind.count(rig.broker, RIG_CREATED), 0);
    cr_expect_eq(broker_kind.count(rig.broker, RIG_CANCELLED), 2);
    expect_marks(one, 0, (struct rig_mark[]){{RIG_CREATED, 40, 1, 1}, {RIG_CANCELLED, 50, 1, 1}}, 2);
    cr_assert_eq(rig_append(one, 0, RIG_FIRST, &(struct rig_event){RIG_CREATED, 60, 40}, 1), BACKEND_OK);
    cr_assert(rig_until(&rig, stream->n == 4));
    cr_expect_eq(stream->entries[3].position, 60);
    rig_end(&rig);
}

Test(conformance, what_is_young_stays_whoever_has_done_with_it)
{
    if (!broker_kind.has_trim)
        return;
    struct rig rig = rig_make(CONFIG_LAYOUT_TOPIC);
    struct rig_bridge *bridge = rig_open(&rig, 1);
    struct rig_stream *stream = rig_listen(bridge, RIG_CREATED, "");
    cr_assert_eq(rig_append(bridge, 0, RIG_FIRST, five, N(five)), BACKEND_OK);
    cr_assert(rig_until(&rig, stream->n == 3));
    CLASS->report(bridge->backend, RIG_CREATED, stream->entries[2].id);
    cr_assert(trim_until(bridge, is_always));
    cr_expect_eq(bridge->trimmed, 0);
    cr_expect_str_eq(bridge->kept_for, "age");
    cr_expect_eq(broker_kind.count(rig.broker, RIG_CREATED), 3);
    rig_end(&rig);
}

Test(conformance, a_host_that_is_silent_for_too_long_is_dropped_and_named)
{
    if (!broker_kind.has_trim)
        return;
    struct rig rig = rig_make(CONFIG_LAYOUT_TOPIC);
    rig.config.trim_age_ns = rig.config.host_timeout_ns = 1000000;
    struct rig_bridge *one = rig_open(&rig, 1), *silent = rig_open(&rig, 2);
    struct rig_stream *stream = rig_listen(one, RIG_CREATED, "");
    cr_assert_eq(rig_append(one, 0, RIG_FIRST, five, N(five)), BACKEND_OK);
    cr_assert(rig_until(&rig, stream->n == 3));
    CLASS->report(silent->backend, RIG_CREATED, stream->entries[0].id);
    cr_assert_eq(rig_ask(silent, 0), BACKEND_OK);
    cr_assert(trim_until(one, is_one_dropped));
    cr_expect_str_eq(one->dropped, silent->origin);
    cr_assert(trim_until(one, have_all_gone), "nobody waits for it any more");
    rig_end(&rig);
}
