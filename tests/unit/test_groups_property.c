/* test_groups_property.c: random schedules of a group against a plain model of what a group promises.
 *
 *     a member is given an event      it is not in anybody's hands and has not ended; every earlier event of its key has ended;
 *                                     its attempt is one more than those that were charged
 *     it is finished                  DONE: ended. RETRY: charged, the third: dead. REJECT: charged, dead. RELEASE: nothing
 *     a member leaves                 what it had in hand was not charged
 *     a dead letter                   of an event that is dead, once, and it tells each attempt that was charged
 *     at last                         every event has ended, once; the counters agree; the ring holds nothing for the group
 *
 * [guards ORDER] [guards ONE-HOLDER] Rules P1 P2 P4. EVBUS_SEED=n runs one schedule again; a schedule prints its seed when it
 * fails. Waits are real, of a millisecond: so a schedule's course is not the same each time, what must hold is. */
#include "await.h"
#include "bus.h"
#include "doorbell.h"
#include "fixture.h"
#include "group.h"

#include <criterion/criterion.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MS UINT64_C(1000000)
#define S  UINT64_C(1000000000)

enum { KEYS = 20, EVENTS = 60, MEMBERS = 4, HANDS = 16, ATTEMPTS = 3, PER_BUS = 20 };

struct chance {
    uint64_t state;
};

static uint32_t any(struct chance *chance, uint32_t n)
{
    chance->state = chance->state * UINT64_C(6364136223846793005) + 1442695040888963407;
    return (uint32_t)((chance->state >> 33) % n);
}

/* --- the model ------------------------------------------------------------------------------------------------------------ */

enum state { WAITS, IN_HAND, DONE, DEAD, TOLD }; /* TOLD: dead, and its letter has been seen */

struct told {
    enum state state;
    int key; /* -1: none */
    uint32_t n_charged;
    int member; /* IN_HAND: whose */
};

struct model {
    uint64_t seed;
    uint64_t base; /* number of the first event */
    struct told events[EVENTS];
    unsigned n;
    unsigned n_ended;
    uint64_t n_done, n_dead, n_redelivered; /* since the group was made */
    bool failed;
    char what[256];
};

__attribute__((format(printf, 2, 3))) static void wrong(struct model *model, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    if (!model->failed)
        vsnprintf(model->what, sizeof model->what, format, args);
    va_end(args);
    model->failed = true;
}

static struct told *event_of(struct model *model, const struct evbus_delivery *got)
{
    uint64_t number = strtoull(got->payload, NULL, 10);
    if (number >= model->base && number < model->base + model->n)
        return &model->events[number - model->base];
    wrong(model, "event %" PRIu64 " is of an earlier schedule", number);
    return NULL;
}

static void model_receive(struct model *model, const struct evbus_delivery *got, int member)
{
    struct told *event = event_of(model, got);
    if (event == NULL)
        return;
    unsigned i = (unsigned)(event - model->events);
    if (event->state != WAITS)
        wrong(model, "event %u is given to member %d in state %d (member %d)", i, member, (int)event->state,
              event->member);
    if (got->attempt != event->n_charged + 1)
        wrong(model, "event %u: attempt %u after %u", i, got->attempt, event->n_charged);
    for (unsigned k = 0; k < i && event->key >= 0; k++)
        if (model->events[k].key == event->key && model->events[k].state <= IN_HAND)
            wrong(model, "event %u passes event %u of its key %d, which is %s", i, k, event->key,
                  model->events[k].state == IN_HAND ? "in hand" : "waiting");
    model->n_redelivered += got->attempt > 1;
    event->state = IN_HAND;
    event->member = member;
}

static void model_finish(struct model *model, const struct evbus_delivery *got, enum evbus_outcome outcome)
{
    struct told *event = event_of(model, got);
    if (event == NULL)
        return;
    event->state = WAITS;
    if (outcome == EVBUS_DONE)
        event->state = DONE;
    else if (outcome != EVBUS_RELEASE && (++event->n_charged == ATTEMPTS || outcome == EVBUS_REJECT))
        event->state = DEAD;
    model->n_ended += event->state >= DONE;
    model->n_done += event->state == DONE;
    model->n_dead += event->state == DEAD;
}

static void model_leave(struct model *model, int member)
{
    for (unsigned i = 0; i < model->n; i++)
        if (model->events[i].state == IN_HAND && model->events[i].member == member)
            model->events[i].state = WAITS;
}

static void model_letter(struct model *model, const char *letter)
{
    struct evbus_delivery got = {.payload = strstr(letter, "\"payload\":")};
    got.payload = got.payload != NULL ? (const char *)got.payload + 10 : "x";
    struct told *event = event_of(model, &got);
    if (event == NULL)
        return;
    if (event->state != DEAD)
        wrong(model, "a dead letter of event %u in state %d", (unsigned)(event - model->events), (int)event->state);
    event->state = TOLD;
    unsigned n = 0;
    for (const char *at = letter; (at = strstr(at, "{\"n\":")) != NULL; at++)
        if (strtoul(at + 5, NULL, 10) != ++n)
            wrong(model, "event %u: attempt %u is not told: %s", (unsigned)(event - model->events), n, letter);
    if (n != event->n_charged)
        wrong(model, "event %u: %u attempts are told, %u were charged: %s", (unsigned)(event - model->events), n,
              event->n_charged, letter);
}

/* --- the bus ------------------------------------------------------------------------------------------------------------------ */

struct in_hand {
    struct evbus_delivery event; /* token NULL: free */
    int member;
};

struct bed {
    struct fixture f;
    struct evbus_reader *letters;
    struct evbus *buses[MEMBERS];
    struct evbus_subscription *subs[MEMBERS]; /* NULL: not a member */
    struct in_hand hands[HANDS];
    uint64_t next_number;
};

static struct bed *bed_make(struct chance *chance)
{
    static const char *const rings[] = {"4KiB", "4KiB", "8KiB", "16KiB"};
    static const char *const letters[] = {"test.dlq.*"};
    struct bed *bed = calloc(1, sizeof *bed);
    char text[512];
    snprintf(text, sizeof text,
             "{\"namespace\":\"test\",\"open\":true,\"tests\":true,\"defaults\":{\"partitions\":%u,\"ring\":\"%s\","
             "\"retry\":[\"1ms\",\"1ms\"]},\"topics\":{\"test.a.one\":{\"groups\":[\"mailer\"]},\"test.a.two\":{},"
             "\"test.z.large\":{}},\"logs\":{\"test.z\":{\"ring\":\"128KiB\",\"partitions\":1}}}",
             1 + any(chance, 3), rings[any(chance, 4)]);
    bed->f = fixture_make((struct fixture_options){.catalogue = text, .wait = EVBUS_WAIT_BLOCK});
    for (int i = 0; i < MEMBERS; i++)
        cr_assert_eq(evbus_open(&bed->buses[i], &(struct evbus_options){.size = sizeof(struct evbus_options),
                                                                        .bus = bed->f.name,
                                                                        .service = "member",
                                                                        .keeper = EVBUS_KEEPER_NEVER,
                                                                        .wait = EVBUS_WAIT_BLOCK}),
                     EVBUS_OK);
    struct memory_log *dlq = memory_internal_log(&bed->f.bus->memory, MEMORY_DLQ_LOG);
    ring_unpin(&dlq->rings[0], 0); /* whoever reads the letters here settles them */
    cr_assert_eq(evbus_reader_open(&bed->letters, bed->f.bus,
                                   &(struct evbus_reader_options){.size = sizeof(struct evbus_reader_options),
                                                                  .patterns = letters,
                                                                  .n_patterns = 1,
                                                                  .pin = true}),
                 EVBUS_OK);
    return bed;
}

static void bed_end(struct bed *bed)
{
    for (int i = 0; i < MEMBERS; i++) {
        evbus_unsubscribe(bed->subs[i]);
        evbus_close(bed->buses[i]);
    }
    evbus_reader_close(bed->letters);
    fixture_end(&bed->f);
    free(bed);
}

static void read_letters(struct bed *bed, struct model *model)
{
    struct evbus_delivery got = {.size = sizeof got};
    while (evbus_reader_next(bed->letters, &got, 0) == EVBUS_OK)
        model_letter(model, got.payload);
}

static void publish(struct bed *bed, struct model *model, struct chance *chance)
{
    char payload[400];
    char key[8];
    int k = any(chance, 12) == 0 ? -1 : (int)any(chance, any(chance, 2) == 0 ? 3 : KEYS);
    struct evbus_event event = {.size = sizeof event, .topic = "test.a.one", .payload = payload};
    if (model->n == EVENTS)
        return;
    int len = snprintf(payload, sizeof payload, "%" PRIu64, bed->next_number);
    event.payload_len = (size_t)len + any(chance, any(chance, 4) == 0 ? 300 : 10);
    memset(payload + len, ' ', sizeof payload - (size_t)len);
    snprintf(key, sizeof key, "key-%d", k);
    if (k >= 0)
        event.key = key;
    if (any(chance, 8) == 0)
        event.topic = "test.a.two"; /* nobody wants it */
    model->events[model->n] = (struct told){.key = k, .member = -1};
    int rc = evbus_publish(bed->f.bus, &event, NULL);
    if (rc == EVBUS_OK && strcmp(event.topic, "test.a.one") == 0) {
        model->n++;
        bed->next_number++;
    } else if (rc != EVBUS_OK && rc != EVBUS_EFULL) {
        wrong(model, "publish: %d, %s", rc, evbus_message(NULL));
    }
}

static void join(struct bed *bed, struct model *model, int member)
{
    int rc = evbus_subscribe(
        &bed->subs[member], bed->buses[member],
        &(struct evbus_subscribe_options){.size = sizeof(struct evbus_subscribe_options), .group = "mailer"});
    if (rc != EVBUS_OK)
        wrong(model, "member %d cannot join: %d, %s", member, rc, evbus_message(NULL));
}

static void leave(struct bed *bed, struct model *model, int member)
{
    model_leave(model, member);
    for (int i = 0; i < HANDS; i++)
        if (bed->hands[i].event.token != NULL && bed->hands[i].member == member)
            bed->hands[i].event.token = NULL;
    evbus_unsubscribe(bed->subs[member]);
    bed->subs[member] = NULL;
}

static int receive(struct bed *bed, struct model *model, int member, uint64_t timeout_ns)
{
    int i = 0;
    while (i < HANDS && bed->hands[i].event.token != NULL)
        i++;
    if (i == HANDS || bed->subs[member] == NULL)
        return EVBUS_EAGAIN;
    struct evbus_delivery got = {.size = sizeof got};
    int rc = evbus_receive(bed->subs[member], &got, timeout_ns);
    if (rc == EVBUS_OK) {
        model_receive(model, &got, member);
        bed->hands[i] = (struct in_hand){got, member};
    } else if (rc != EVBUS_ETIMEOUT) {
        wrong(model, "receive: %d, %s", rc, evbus_message(NULL));
    }
    return rc;
}

static void finish(struct bed *bed, struct model *model, int i, enum evbus_outcome outcome)
{
    struct in_hand *hand = &bed->hands[i];
    if (hand->event.token == NULL)
        return;
    struct evbus_delivery got = hand->event;
    hand->event.token = NULL;
    model_finish(model, &got, outcome); /* its payload ends with the call */
    int rc = evbus_finish(bed->subs[hand->member], &got, outcome, outcome == EVBUS_DONE ? NULL : "by chance");
    if (rc != EVBUS_OK)
        wrong(model, "finish of member %d: %d, %s", hand->member, rc, evbus_message(NULL));
}

static enum evbus_outcome outcome_of(struct chance *chance)
{
    static const enum evbus_outcome outcomes[] = {EVBUS_DONE,  EVBUS_DONE,  EVBUS_DONE,  EVBUS_DONE,   EVBUS_DONE,
                                                  EVBUS_RETRY, EVBUS_RETRY, EVBUS_RETRY, EVBUS_REJECT, EVBUS_RELEASE};
    return outcomes[any(chance, sizeof outcomes / sizeof outcomes[0])];
}

static void step(struct bed *bed, struct model *model, struct chance *chance)
{
    int member = (int)any(chance, MEMBERS);
    uint32_t what = any(chance, 100);
    if (what < 35)
        publish(bed, model, chance);
    else if (what < 65)
        receive(bed, model, member, 0);
    else if (what < 94)
        finish(bed, model, (int)any(chance, HANDS), outcome_of(chance));
    else if (bed->subs[member] == NULL)
        join(bed, model, member);
    else if (what >= 97)
        leave(bed, model, member);
}

/* --- at last --------------------------------------------------------------------------------------------------------------------- */

static int keep_stat(void *context, const struct evbus_group_stat *group)
{
    if (strcmp(group->group, "mailer") == 0)
        *(struct evbus_group_stat *)context = *group;
    return 0;
}

/* What the group holds of partition p: cells. */
static uint64_t held(const struct bed *bed, uint32_t p)
{
    const struct memory *memory = &bed->f.bus->memory;
    const struct ring *ring = &memory->logs[0].rings[p];
    uint32_t index = group_low_index(group_find(memory, "mailer"));
    return ring_tail(ring) - (LOW_BEHIND(atomic_load(&ring->head->lows[index])) - 1);
}

/* Members that only look tell an eighth of the ring at a time; one that waits tells all. */
static void check_what_is_held(struct bed *bed, struct model *model, bool wait)
{
    const struct memory_log *log = &bed->f.bus->memory.logs[0];
    for (uint32_t p = 0; p < log->n_partitions; p++) {
        for (int i = 0; i < 50 && wait && held(bed, p) != 0 && !model->failed; i++)
            for (int m = 0; m < MEMBERS; m++)
                receive(bed, model, m, MS);
        uint64_t n = held(bed, p);
        if (n > (wait ? 0 : log->rings[p].capacity / 8))
            wrong(model, "%" PRIu64 " cells of partition %u are held, and all is done", n, p);
    }
}

static void check_the_end(struct bed *bed, struct model *model)
{
    struct evbus_group_stat stat = {0};
    evbus_groups(bed->f.bus, keep_stat, &stat);
    for (unsigned i = 0; i < model->n; i++)
        if (model->events[i].state != DONE && model->events[i].state != TOLD)
            wrong(model, "event %u ends in state %d", i, (int)model->events[i].state);
    if (stat.done != model->n_done || stat.dead_letters != model->n_dead || stat.redelivered != model->n_redelivered)
        wrong(model, "done %" PRIu64 " of %" PRIu64 ", dead %" PRIu64 " of %" PRIu64 ", again %" PRIu64 " of %" PRIu64,
              stat.done, model->n_done, stat.dead_letters, model->n_dead, stat.redelivered, model->n_redelivered);
    if (stat.n_pending != 0)
        wrong(model, "%u are pending", stat.n_pending);
}

static void drain(struct bed *bed, struct model *model, struct chance *chance)
{
    uint64_t until = await_now_ms() + AWAIT_MS / 2;
    unsigned n_bad = any(chance, 40); /* chances to fail that are left */
    while (model->n_ended < model->n && !model->failed) {
        bool is_served = false;
        for (int m = 0; m < MEMBERS; m++)
            is_served = is_served || bed->subs[m] != NULL;
        if (!is_served)
            join(bed, model, (int)any(chance, MEMBERS));
        bool came = false;
        for (int m = 0; m < MEMBERS; m++)
            came = receive(bed, model, m, 0) == EVBUS_OK || came;
        for (int i = 0; i < HANDS; i++) {
            enum evbus_outcome outcome = n_bad > 0 ? outcome_of(chance) : EVBUS_DONE;
            if (bed->hands[i].event.token == NULL || (came && any(chance, 3) == 0))
                continue;
            n_bad -= outcome != EVBUS_DONE;
            finish(bed, model, i, outcome);
        }
        if (!came)
            await_pause();
        read_letters(bed, model);
        if (await_now_ms() > until)
            wrong(model, "%u of %u events have ended, and no more come", model->n_ended, model->n);
    }
    for (int round = 0; round < 3 && !model->failed; round++) { /* letters, and whatever is due to another now */
        for (int m = 0; m < MEMBERS; m++)
            if (bed->subs[m] != NULL && receive(bed, model, m, 0) == EVBUS_OK)
                wrong(model, "an event comes that has ended");
        read_letters(bed, model);
    }
}

static void run_schedule(struct bed *bed, struct model *model, uint64_t seed)
{
    struct chance chance = {seed};
    model->seed = seed;
    model->base = bed->next_number;
    model->n = model->n_ended = 0;
    unsigned n_steps = 50 + any(&chance, 250);
    for (unsigned i = 0; i < n_steps && !model->failed; i++) {
        step(bed, model, &chance);
        if (i % 32 == 0)
            read_letters(bed, model);
    }
    drain(bed, model, &chance);
    if (!model->failed) {
        check_the_end(bed, model);
        check_what_is_held(bed, model, any(&chance, 8) == 0);
    }
    cr_assert_not(model->failed, "EVBUS_SEED=%" PRIu64 ": %s", seed, model->what);
    for (int m = 0; m < MEMBERS && any(&chance, 2) == 0; m++)
        if (bed->subs[m] != NULL)
            leave(bed, model, m);
}

static uint64_t first_seed(void)
{
    const char *given = getenv("EVBUS_SEED");
    return given != NULL ? strtoull(given, NULL, 10) : 0;
}

Test(groups_property, any_schedule_keeps_what_a_group_promises, .timeout = 120)
{
    uint64_t given = first_seed();
    unsigned n = given != 0 ? PER_BUS : getenv("EVBUS_QUICK") != NULL ? 200 : 2000;
    uint64_t seed = given != 0 ? given : 1;
    fprintf(stderr, "EVBUS_SEED=%" PRIu64 ", %u schedules\n", seed, n);
    for (unsigned i = 0; i < n; i += PER_BUS) {
        struct chance chance = {seed + i};
        struct bed *bed = bed_make(&chance);
        struct model model = {0};
        for (unsigned k = 0; k < PER_BUS; k++) /* on a bus with a past */
            run_schedule(bed, &model, seed + i + k);
        bed_end(bed);
    }
}

/* --- in threads ------------------------------------------------------------------------------------------------------------------ */

struct shop {
    pthread_mutex_t mutex; /* of the model */
    struct model model;
    struct chance chance;
    _Atomic bool stop;
};

struct clerk {
    struct shop *shop;
    struct evbus *bus;
    int number;
    unsigned threads;               /* handlers at once; 0: one event after the other, by evbus_run_once() */
    struct evbus_subscription *sub; /* under the mutex; NULL: none */
};

static enum evbus_outcome serve(void *context, const struct evbus_delivery *event, char *error)
{
    struct clerk *clerk = context;
    struct shop *shop = clerk->shop;
    pthread_mutex_lock(&shop->mutex);
    model_receive(&shop->model, event, clerk->number);
    enum evbus_outcome outcome = outcome_of(&shop->chance);
    bool is_slow = any(&shop->chance, 8) == 0;
    pthread_mutex_unlock(&shop->mutex);
    if (is_slow)
        await_pause();
    strcpy(error, "by chance");
    pthread_mutex_lock(&shop->mutex);
    model_finish(&shop->model, event, outcome);
    if (clerk->threads != 0 && any(&shop->chance, 60) == 0)
        evbus_stop(clerk->sub);
    pthread_mutex_unlock(&shop->mutex);
    return outcome;
}

static void *come_and_go(void *context)
{
    struct clerk *clerk = context;
    struct shop *shop = clerk->shop;
    while (!atomic_load(&shop->stop)) {
        struct evbus_subscription *sub;
        pthread_mutex_lock(&shop->mutex);
        unsigned n = 1 + any(&shop->chance, 40);
        pthread_mutex_unlock(&shop->mutex);
        int rc = evbus_subscribe(
            &sub, clerk->bus,
            &(struct evbus_subscribe_options){
                .size = sizeof(struct evbus_subscribe_options), .group = "mailer", .handler = serve, .context = clerk});
        pthread_mutex_lock(&shop->mutex);
        clerk->sub = rc == EVBUS_OK ? sub : NULL;
        bool is_late = atomic_load(&shop->stop);
        pthread_mutex_unlock(&shop->mutex);
        if (rc == EVBUS_OK && clerk->threads != 0 && !is_late)
            rc = evbus_run(
                sub, &(struct evbus_run_options){.size = sizeof(struct evbus_run_options), .threads = clerk->threads});
        for (unsigned i = 0; i < n && rc == EVBUS_OK && clerk->threads == 0; i++)
            if ((rc = evbus_run_once(sub, 2 * MS)) == EVBUS_ETIMEOUT)
                rc = EVBUS_OK;
        pthread_mutex_lock(&shop->mutex);
        clerk->sub = NULL;
        if (rc != EVBUS_OK)
            wrong(&shop->model, "member %d: %d, %s", clerk->number, rc, evbus_message(NULL));
        pthread_mutex_unlock(&shop->mutex);
        evbus_unsubscribe(sub);
    }
    return NULL;
}

static void run_shop(uint64_t seed, unsigned n_rounds, unsigned n_threads)
{
    struct chance chance = {seed};
    struct bed *bed = bed_make(&chance);
    struct shop shop = {.mutex = PTHREAD_MUTEX_INITIALIZER, .chance = {seed ^ 0xabcdef}};
    struct model *model = &shop.model;
    struct clerk clerks[3];
    pthread_t threads[3];
    for (int i = 0; i < 3; i++) {
        clerks[i] = (struct clerk){&shop, bed->buses[i], i, n_threads, NULL};
        cr_assert_eq(pthread_create(&threads[i], NULL, come_and_go, &clerks[i]), 0);
    }
    for (unsigned round = 0; round < n_rounds && !model->failed; round++) {
        pthread_mutex_lock(&shop.mutex);
        model->base = bed->next_number;
        model->n = model->n_ended = 0;
        pthread_mutex_unlock(&shop.mutex);
        bool is_over = false;
        for (uint64_t until = await_now_ms() + AWAIT_MS; !is_over && await_now_ms() < until;) {
            pthread_mutex_lock(&shop.mutex);
            for (int i = 0; i < 6; i++)
                publish(bed, model, &chance);
            read_letters(bed, model);
            is_over = model->failed || (model->n == EVENTS && model->n_ended == EVENTS);
            for (unsigned i = 0; i < model->n && !model->failed; i++)
                is_over = is_over && model->events[i].state != DEAD;
            pthread_mutex_unlock(&shop.mutex);
            await_pause();
        }
        if (!is_over)
            wrong(model, "%u of %u events have ended, and no more come", model->n_ended, model->n);
    }
    pthread_mutex_lock(&shop.mutex);
    atomic_store(&shop.stop, true);
    for (int i = 0; i < 3; i++)
        if (n_threads != 0 && clerks[i].sub != NULL)
            evbus_stop(clerks[i].sub);
    pthread_mutex_unlock(&shop.mutex);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    if (!model->failed) {
        join(bed, model, 3);
        cr_expect_eq(receive(bed, model, 3, 5 * MS), EVBUS_ETIMEOUT);
        check_the_end(bed, model);
        check_what_is_held(bed, model, true);
    }
    cr_assert_not(model->failed, "EVBUS_SEED=%" PRIu64 ": %s", seed, model->what);
    bed_end(bed);
}

static void run_shops(unsigned n_threads)
{
    uint64_t given = first_seed();
    bool is_quick = getenv("EVBUS_QUICK") != NULL;
    unsigned n = given != 0 ? 1 : is_quick ? 3 : 12;
    uint64_t seed = given != 0 ? given : 1;
    fprintf(stderr, "EVBUS_SEED=%" PRIu64 "\n", seed);
    for (unsigned i = 0; i < n; i++)
        run_shop(seed + i, 8, n_threads);
}

Test(groups_property, members_that_come_and_go_in_threads_keep_it_too, .timeout = 120)
{
    run_shops(0);
}

Test(groups_property, members_with_several_handlers_keep_it_too, .timeout = 120)
{
    run_shops(4);
}
