/* test_groups_property.c: random schedules of a group against a plain model of what a group promises.
 *
 *     a member is given an event      it is not in anybody's hands and has not ended; every earlier event of its key has ended;
 *                                     its attempt is one more than those that were charged; not before its wait is over; nothing
 *                                     of its partition is in another member's hands
 *     it is finished                  DONE: ended. RETRY: charged, the third: dead. REJECT: charged, dead. RELEASE, DEFER: nothing
 *     a member leaves                 what it had in hand was not charged
 *     a member dies                   what it had in hand was charged, and is next in hand with nothing else of its partition; if
 *                                     it was so already, and its attempts are spent: dead. Nothing else was charged
 *     its time is over                no handler gets it any more: dead, and that is no attempt
 *     many fail, and none is done     so many different ones as its catalogue says: none is charged from that one on, and one event is
 *                                     given at a time; until one is done, then what has failed comes at once
 *     a dead letter                   of an event that is dead, once, with its cause; it tells each attempt that was finished badly
 *     at last                         every event has ended, once; the counters agree; the ring holds nothing for the group
 *
 * [guards ORDER] [guards ONE-HOLDER] [guards OUTAGE] Rules P1 P2 P4 P7. Time stands still, and goes on by steps of the schedule: the waits are the
 * catalogue's real ones, and nobody waits. A schedule that fails prints the seed of its bus: EVBUS_SEED=n runs that bus again, step
 * by step the same.
 * Under a sanitizer no member dies: it leaves. A thread that ends by the raw system call leaves memory behind, and ThreadSanitizer
 * waiting for it. */
#include "await.h"
#include "burial.h"
#include "bus.h"
#include "child.h"
#include "clock.h"
#include "doorbell.h"
#include "fixture.h"
#include "group.h"
#include "pending.h"
#include "sanitizer.h"
#include "slot.h"

#include <criterion/criterion.h>
#include <evbus/testing.h>
#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

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

static uint64_t some_time(struct chance *chance)
{
    static const uint64_t most[] = {2, MS, S / 5, 2 * S, 13 * S};
    return any(chance, 1000) * (most[any(chance, sizeof most / sizeof most[0])] / 1000) + any(chance, 2);
}

/* --- the model ------------------------------------------------------------------------------------------------------------ */

enum stage { WAITS, IN_HAND, DONE, DEAD, TOLD }; /* TOLD: dead, and its letter has been seen */

struct told {
    enum stage state;
    int key; /* -1: none */
    uint32_t n_charged;
    uint32_t n_crashes;     /* of those */
    uint32_t noted;         /* a bit for each attempt that was finished badly, or crashed */
    int member;             /* IN_HAND: whose */
    uint32_t partition;     /* IN_HAND: of which */
    bool is_alone;          /* its member died with it: its next attempt is alone in its partition */
    const char *cause;      /* DEAD: why */
    uint64_t not_before_ns; /* WAITS: until then at least */
    bool is_deferred;       /* WAITS: its handler has said until when */
    bool is_probe;          /* IN_HAND: given while the group pauses */
    uint64_t since_ns;      /* IN_HAND */
    uint64_t expires_ns;    /* 0: never. Wall clock: from then on no handler gets it */
};

static bool is_over(const struct told *event)
{
    return event->expires_ns != 0 && clock_wall_ns() >= event->expires_ns;
}

struct model {
    uint64_t seed;
    uint64_t base; /* number of the first event */
    struct told events[EVENTS];
    unsigned n;
    unsigned n_ended;
    uint64_t n_done, n_dead, n_redelivered; /* since the group was made */
    uint64_t n_causes[EVBUS_CAUSES];        /* likewise: attempts that ended badly */
    uint64_t n_crashes, n_alone,
        n_crashed;             /* members that died; attempts alone; events dead of it: that we test at all */
    unsigned outage;           /* so many different events that fail pause the group; 0: never */
    uint64_t failed_since[16]; /* those since one was done: numbers */
    unsigned n_failed_since;
    bool is_paused;
    uint64_t n_pauses, n_held; /* pauses; failures in them: that we test at all */
    bool is_in_threads;        /* time goes on between a member's look at it and ours */
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

/* Waits are 1 s and 10 s, less a fifth. */
static uint64_t least_wait(uint32_t n_charged)
{
    return (n_charged < 2 ? S : 10 * S) / 5 * 4;
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
    if (is_over(event))
        wrong(model, "event %u: attempt %u comes when its time is over", i, got->attempt);
    if (clock_mono_ns() < event->not_before_ns)
        wrong(model, "event %u: attempt %u comes %" PRIu64 " ms too early", i, got->attempt,
              (event->not_before_ns - clock_mono_ns()) / MS);
    for (unsigned k = 0; k < model->n; k++) {
        const struct told *other = &model->events[k];
        if (k < i && event->key >= 0 && other->key == event->key && other->state <= IN_HAND &&
            !(other->state == WAITS && is_over(other))) /* it may be dead: its letter will tell */
            wrong(model, "event %u passes event %u of its key %d, which is %s", i, k, event->key,
                  other->state == IN_HAND ? "in hand" : "waiting");
        if (k == i || other->state != IN_HAND || other->partition != got->partition)
            continue;
        if (other->member != member)
            wrong(model, "members %d and %d have events %u and %u of partition %u in hand", other->member, member, k, i,
                  got->partition);
        if (other->is_alone || event->is_alone)
            wrong(model, "event %u is to be alone in partition %u, and event %u is given beside it",
                  other->is_alone ? k : i, got->partition, other->is_alone ? i : k);
    }
    for (unsigned k = 0; k < model->n && model->is_paused; k++)
        if (model->events[k].state == IN_HAND && model->events[k].is_probe &&
            clock_mono_ns() < model->events[k].since_ns + 60 * S)
            wrong(model, "the group pauses, and event %u is given beside event %u", i, k);
    event->is_probe = model->is_paused;
    event->since_ns = clock_mono_ns();
    model->n_redelivered += got->attempt > 1;
    model->n_alone += event->is_alone;
    event->state = IN_HAND;
    event->member = member;
    event->partition = got->partition;
}

static void model_end(struct model *model, struct told *event, enum stage state, const char *cause)
{
    event->state = state;
    event->cause = cause;
    model->n_ended++;
    model->n_done += state == DONE;
    model->n_dead += state == DEAD;
}

/* What a handler that puts an event off says: 0 where it says nothing. Longer than the group's waits, and shorter. */
static uint64_t deferred_for(const struct evbus_delivery *got)
{
    static const uint64_t delays[] = {0, 1, 300 * MS, 25 * S, 3600 * S};
    return delays[(got->position / 8 + got->attempt) % (sizeof delays / sizeof delays[0])];
}

/* An event has been done. */
static void model_success(struct model *model)
{
    for (unsigned i = 0; i < model->n && model->is_paused; i++) {
        model->events[i].is_probe = false;
        if (!model->events[i].is_deferred)
            model->events[i].not_before_ns = 0;
    }
    model->n_failed_since = 0;
    model->is_paused = false;
}

/* One has failed. Is that charged? */
static bool model_failure(struct model *model, const struct told *event)
{
    uint64_t number = model->base + (uint64_t)(event - model->events);
    bool is_new = true;
    for (unsigned i = 0; i < model->n_failed_since; i++)
        is_new = is_new && model->failed_since[i] != number;
    if (model->outage != 0 && !model->is_paused && is_new) {
        model->failed_since[model->n_failed_since++] = number;
        model->is_paused = model->n_failed_since == model->outage;
        model->n_pauses += model->is_paused;
    }
    model->n_held += model->is_paused;
    return !model->is_paused;
}

static void model_finish(struct model *model, const struct evbus_delivery *got, enum evbus_outcome outcome)
{
    struct told *event = event_of(model, got);
    if (event == NULL)
        return;
    event->state = WAITS;
    event->is_deferred = outcome == EVBUS_DEFER && deferred_for(got) != 0;
    event->not_before_ns = clock_mono_ns() + least_wait(1);
    if (outcome == EVBUS_DONE) {
        model_end(model, event, DONE, NULL);
        model_success(model);
    } else if (outcome == EVBUS_RETRY && !model_failure(model, event)) {
        event->not_before_ns = clock_mono_ns();
    } else if (outcome == EVBUS_DEFER) {
        event->not_before_ns = clock_mono_ns() + (deferred_for(got) != 0 ? deferred_for(got) : least_wait(1));
    } else if (outcome != EVBUS_RELEASE) {
        event->noted |= 1U << ++event->n_charged;
        event->is_alone = false;
        model->n_causes[outcome == EVBUS_REJECT ? EVBUS_CAUSE_REJECTED : EVBUS_CAUSE_FAILED]++;
        event->not_before_ns = clock_mono_ns() + least_wait(event->n_charged);
        if (outcome == EVBUS_REJECT || event->n_charged >= ATTEMPTS)
            model_end(model, event, DEAD, outcome == EVBUS_REJECT ? "rejected" : "failed");
    }
}

static void model_leave(struct model *model, int member)
{
    for (unsigned i = 0; i < model->n; i++)
        if (model->events[i].state == IN_HAND && model->events[i].member == member) {
            model->events[i].state = WAITS;
            model->events[i].not_before_ns = clock_mono_ns() + least_wait(1);
        }
}

static void model_crash(struct model *model, int member)
{
    model->n_crashes++;
    for (unsigned i = 0; i < model->n; i++) {
        struct told *event = &model->events[i];
        if (event->state != IN_HAND || event->member != member)
            continue;
        event->noted |= 1U << ++event->n_charged;
        event->n_crashes++;
        model->n_causes[EVBUS_CAUSE_CRASHED]++;
        event->not_before_ns = 0;
        if (event->is_alone && event->n_charged >= ATTEMPTS) {
            model_end(model, event, DEAD, "crashed");
            model->n_crashed++;
        } else {
            event->state = WAITS;
            event->is_alone = true;
        }
    }
}

static void model_letter(struct model *model, const char *letter)
{
    struct evbus_delivery got = {.payload = strstr(letter, "\"payload\":")};
    got.payload = got.payload != NULL ? (const char *)got.payload + 10 : "x";
    struct told *event = event_of(model, &got);
    if (event == NULL)
        return;
    if (event->state == WAITS && is_over(event)) {
        model_end(model, event, DEAD, "expired");
        model->n_causes[EVBUS_CAUSE_EXPIRED]++;
    }
    if (event->state != DEAD)
        wrong(model, "a dead letter of event %u in state %d", (unsigned)(event - model->events), (int)event->state);
    else if (strstr(letter, "\"cause\":\"") == NULL ||
             strncmp(strstr(letter, "\"cause\":\"") + 9, event->cause, strlen(event->cause)) != 0)
        wrong(model, "event %u is dead because it was %s: %s", (unsigned)(event - model->events), event->cause, letter);
    event->state = TOLD;
    uint32_t noted = 0;
    for (const char *at = letter; (at = strstr(at, "{\"n\":")) != NULL; at++) {
        uint32_t bit = 1U << (strtoul(at + 5, NULL, 10) & 31);
        if (bit <= noted)
            wrong(model, "event %u: its attempts are out of order: %s", (unsigned)(event - model->events), letter);
        noted |= bit;
    }
    if (noted != event->noted)
        wrong(model, "event %u: attempts %#x are told, %#x ended badly (bits): %s", (unsigned)(event - model->events),
              noted, event->noted, letter);
    if (event->n_crashes == 0 && strcmp(event->cause, "failed") == 0 && noted != 0xe)
        wrong(model, "event %u is dead after attempts %#x (bits), not after three: %s",
              (unsigned)(event - model->events), noted, letter);
}

/* --- the bus ------------------------------------------------------------------------------------------------------------------ */

struct in_hand {
    struct evbus_delivery event; /* token NULL: free */
    int member;
};

/* A member on a thread of its own, which does as it is told, and may die. */
enum order { SUBSCRIBE, RECEIVE, FINISH, LEAVE, DIE };

struct mortal {
    pthread_t thread;
    bool is_there; /* false: the member is of the main thread */
    sem_t ordered, done;
    enum order order;
    struct evbus *bus;
    struct evbus_subscription **sub;
    uint32_t slot;
    struct evbus_delivery event;
    uint64_t timeout_ns;
    enum evbus_outcome outcome;
    int rc;
    char message[256];
};

struct bed {
    struct fixture f;
    struct evbus_reader *letters;
    struct evbus *buses[MEMBERS];
    struct evbus_subscription *subs[MEMBERS]; /* NULL: not a member */
    struct mortal mortals[MEMBERS];
    struct in_hand hands[HANDS];
    uint64_t next_number;
};

static struct fixture make_bus(struct chance *chance, bool may_pause)
{
    static const unsigned outages[] = {0, 2, 3, 5};
    static const char *const rings[] = {"4KiB", "4KiB", "8KiB", "16KiB"};
    static const char *const timeouts[] = {"",
                                           ",\"handler_timeout\":\"7d\""}; /* the second: never idle about the dead */
    char text[512];
    snprintf(text, sizeof text,
             "{\"namespace\":\"test\",\"open\":true,\"tests\":true,\"defaults\":{\"partitions\":%u,\"ring\":\"%s\","
             "\"retry\":[\"1s\",\"10s\"]%s,\"outage\":%u},\"topics\":{\"test.a.one\":{\"groups\":[\"mailer\"]},\"test."
             "a.two\":{},"
             "\"test.z.large\":{}},\"logs\":{\"test.z\":{\"ring\":\"128KiB\",\"partitions\":1}}}",
             1 + any(chance, 3), rings[any(chance, 4)], timeouts[any(chance, 2)],
             may_pause ? outages[any(chance, 4)] : 0);
    struct fixture f = fixture_make((struct fixture_options){.catalogue = text, .wait = EVBUS_WAIT_BLOCK});
    struct memory_log *dlq = memory_internal_log(&f.bus->memory, MEMORY_DLQ_LOG);
    ring_unpin(&dlq->rings[0], 0); /* whoever reads the letters here settles them */
    return f;
}

/* Of this process's own handles. NULL: something cannot be opened. */
static struct bed *bed_open(const struct fixture *f)
{
    static const char *const letters[] = {"test.dlq.*"};
    struct bed *bed = calloc(1, sizeof *bed);
    int rc = bed != NULL ? EVBUS_OK : EVBUS_ENOSPC;
    struct evbus_options options = {.size = sizeof options,
                                    .bus = f->name,
                                    .service = "member",
                                    .keeper = EVBUS_KEEPER_NEVER,
                                    .wait = EVBUS_WAIT_BLOCK};
    for (int i = 0; i < MEMBERS && rc == EVBUS_OK; i++)
        rc = evbus_open(&bed->buses[i], &options);
    if (rc == EVBUS_OK) {
        bed->f = *f;
        rc = evbus_open(&bed->f.bus, &options);
    }
    if (rc == EVBUS_OK)
        rc = evbus_reader_open(
            &bed->letters, bed->f.bus,
            &(struct evbus_reader_options){
                .size = sizeof(struct evbus_reader_options), .patterns = letters, .n_patterns = 1, .pin = true});
    if (rc == EVBUS_OK)
        return bed;
    fprintf(stderr, "bed: %s\n", evbus_message(NULL));
    return NULL;
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
    for (int i = 0; i < 16; i++) /* without a key it chooses the partition */
        event.id[i] = (uint8_t)any(chance, 256);
    event.id[6] = (uint8_t)((event.id[6] & 0x0f) | 0x70);
    event.id[8] = (uint8_t)((event.id[8] & 0x3f) | 0x80);
    if (any(chance, 8) == 0)
        event.topic = "test.a.two"; /* nobody wants it */
    if (!model->is_in_threads && any(chance, 10) == 0)
        event.expires_at_ns = clock_wall_ns() + some_time(chance);
    model->events[model->n] = (struct told){.key = k, .member = -1, .expires_ns = event.expires_at_ns};
    int rc = evbus_publish(bed->f.bus, &event, NULL);
    if (rc == EVBUS_OK && strcmp(event.topic, "test.a.one") == 0) {
        model->n++;
        bed->next_number++;
    } else if (rc != EVBUS_OK && rc != EVBUS_EFULL) {
        wrong(model, "publish: %d, %s", rc, evbus_message(NULL));
    }
}

static int subscribe(struct evbus_subscription **sub, struct evbus *bus)
{
    return evbus_subscribe(
        sub, bus, &(struct evbus_subscribe_options){.size = sizeof(struct evbus_subscribe_options), .group = "mailer"});
}

static void *be_mortal(void *context)
{
    struct mortal *self = context;
    struct bus_thread *thread;
    for (;;) {
        sem_wait(&self->ordered);
        switch (self->order) {
        case SUBSCRIBE:
            self->rc = subscribe(self->sub, self->bus);
            if (self->rc == EVBUS_OK && (self->rc = bus_thread(self->bus, &thread, NULL)) == EVBUS_OK)
                self->slot = thread->claim.slot;
            break;
        case RECEIVE:
            self->rc = evbus_receive(*self->sub, &self->event, self->timeout_ns);
            break;
        case FINISH:
            self->rc = evbus_finish(*self->sub, &self->event, self->outcome, "by chance");
            break;
        case LEAVE:
            evbus_unsubscribe(*self->sub);
            return NULL;
        case DIE:
            syscall(SYS_exit, 0);
        }
        if (self->rc != EVBUS_OK)
            snprintf(self->message, sizeof self->message, "%s", evbus_message(NULL));
        sem_post(&self->done);
    }
}

static int order(struct mortal *mortal, enum order what)
{
    mortal->order = what;
    sem_post(&mortal->ordered);
    if (what == LEAVE || what == DIE) {
        mortal->is_there = false;
        if (what == LEAVE)
            pthread_join(mortal->thread, NULL);
        return EVBUS_OK;
    }
    sem_wait(&mortal->done);
    return mortal->rc;
}

static const char *message_of(const struct bed *bed, int member)
{
    return bed->mortals[member].is_there ? bed->mortals[member].message : evbus_message(NULL);
}

static void join(struct bed *bed, struct model *model, int member, bool is_mortal)
{
    struct mortal *mortal = &bed->mortals[member];
    int rc;
    if (is_mortal) {
        *mortal = (struct mortal){.is_there = true, .bus = bed->buses[member], .sub = &bed->subs[member]};
        sem_init(&mortal->ordered, 0, 0);
        sem_init(&mortal->done, 0, 0);
        if (pthread_create(&mortal->thread, NULL, be_mortal, mortal) != 0)
            abort();
        rc = order(mortal, SUBSCRIBE);
    } else {
        rc = subscribe(&bed->subs[member], bed->buses[member]);
    }
    if (rc != EVBUS_OK)
        wrong(model, "member %d cannot join: %d, %s", member, rc, message_of(bed, member));
}

static void drop_hands(struct bed *bed, int member)
{
    for (int i = 0; i < HANDS; i++)
        if (bed->hands[i].event.token != NULL && bed->hands[i].member == member)
            bed->hands[i].event.token = NULL;
    bed->subs[member] = NULL;
}

static void leave(struct bed *bed, struct model *model, int member)
{
    model_leave(model, member);
    if (bed->mortals[member].is_there)
        order(&bed->mortals[member], LEAVE);
    else
        evbus_unsubscribe(bed->subs[member]);
    drop_hands(bed, member);
}

/* Its subscription is lost, as a dead process's is. Its thread is never joined: glibc would give its stack to the next thread,
 * and with it the thread-specific values that no destructor has cleared. */
static void die(struct bed *bed, struct model *model, int member)
{
    if (!bed->mortals[member].is_there)
        return;
    if (HAS_SANITIZER) {
        leave(bed, model, member);
        return;
    }
    model_crash(model, member);
    order(&bed->mortals[member], DIE);
    if (!await_that(slot_is_dead(&bed->f.bus->memory.control->slots[bed->mortals[member].slot])))
        wrong(model, "member %d has ended, and its slot is not dead", member);
    drop_hands(bed, member);
}

static void bed_close(struct bed *bed)
{
    for (int i = 0; i < MEMBERS; i++) {
        if (bed->mortals[i].is_there)
            order(&bed->mortals[i], LEAVE);
        else
            evbus_unsubscribe(bed->subs[i]);
        evbus_close(bed->buses[i]);
    }
    evbus_reader_close(bed->letters);
    evbus_close(bed->f.bus);
    free(bed);
}

static int receive(struct bed *bed, struct model *model, int member, uint64_t timeout_ns)
{
    int i = 0;
    while (i < HANDS && bed->hands[i].event.token != NULL)
        i++;
    if (i == HANDS || bed->subs[member] == NULL)
        return EVBUS_EAGAIN;
    struct evbus_delivery got = {.size = sizeof got};
    struct mortal *mortal = &bed->mortals[member];
    int rc;
    if (mortal->is_there) {
        mortal->event = got;
        mortal->timeout_ns = timeout_ns;
        rc = order(mortal, RECEIVE);
        got = mortal->event;
    } else {
        rc = evbus_receive(bed->subs[member], &got, timeout_ns);
    }
    if (rc == EVBUS_OK) {
        model_receive(model, &got, member);
        bed->hands[i] = (struct in_hand){got, member};
    } else if (rc != EVBUS_ETIMEOUT) {
        wrong(model, "receive: %d, %s", rc, message_of(bed, member));
    }
    return rc;
}

struct passing {
    struct bed *bed;
    _Atomic bool is_over;
};

/* Time goes on as soon as somebody sleeps. */
static void *pass_time(void *context)
{
    struct passing *passing = context;
    const struct log_head *head = passing->bed->f.bus->memory.logs[0].head;
    while (!atomic_load(&passing->is_over)) {
        uint64_t sleeping = 0;
        for (size_t i = 0; i < SLEEPERS_MAX / 64; i++)
            sleeping |= atomic_load(&head->sleeping[i]);
        if (sleeping != 0)
            evbus_test_clock_advance(passing->bed->f.bus, MS);
        sched_yield();
    }
    return NULL;
}

/* It has slept: only then a member tells all that it does not need. */
static int wait_for_event(struct bed *bed, struct model *model, int member)
{
    struct passing passing = {.bed = bed};
    pthread_t thread;
    if (pthread_create(&thread, NULL, pass_time, &passing) != 0)
        abort();
    int rc = receive(bed, model, member, MS);
    atomic_store(&passing.is_over, true);
    pthread_join(thread, NULL);
    return rc;
}

/* by_main: a mortal's event is finished by another thread than its own, as a handler's thread does. */
static void finish(struct bed *bed, struct model *model, int i, enum evbus_outcome outcome, bool by_main)
{
    struct in_hand *hand = &bed->hands[i];
    if (hand->event.token == NULL)
        return;
    struct evbus_delivery got = hand->event;
    struct mortal *mortal = &bed->mortals[hand->member];
    hand->event.token = NULL;
    model_finish(model, &got, outcome); /* its payload ends with the call */
    if (outcome == EVBUS_DEFER && deferred_for(&got) != 0)
        evbus_defer(&got, deferred_for(&got));
    mortal->event = got;
    mortal->outcome = outcome;
    int rc = mortal->is_there && !by_main ? order(mortal, FINISH)
                                          : evbus_finish(bed->subs[hand->member], &got, outcome, "by chance");
    if (rc != EVBUS_OK)
        wrong(model, "finish of member %d: %d, %s", hand->member, rc, message_of(bed, hand->member));
}

static enum evbus_outcome outcome_of(struct chance *chance)
{
    static const enum evbus_outcome outcomes[] = {EVBUS_DONE,  EVBUS_DONE,   EVBUS_DONE,    EVBUS_DONE,
                                                  EVBUS_DONE,  EVBUS_DONE,   EVBUS_RETRY,   EVBUS_RETRY,
                                                  EVBUS_RETRY, EVBUS_REJECT, EVBUS_RELEASE, EVBUS_DEFER};
    return outcomes[any(chance, sizeof outcomes / sizeof outcomes[0])];
}

/* An event that runs alone is the one that kills its member: now and then again. */
static bool is_deadly(struct bed *bed, struct model *model, struct chance *chance, const struct in_hand *hand)
{
    const struct told *event = hand->event.token != NULL ? event_of(model, &hand->event) : NULL;
    return event != NULL && event->is_alone && bed->mortals[hand->member].is_there && any(chance, 2) == 0;
}

static void finish_or_die(struct bed *bed, struct model *model, struct chance *chance, int i)
{
    enum evbus_outcome outcome = outcome_of(chance);
    if (is_deadly(bed, model, chance, &bed->hands[i]))
        die(bed, model, bed->hands[i].member);
    else
        finish(bed, model, i, outcome, any(chance, 4) == 0);
}

static void step(struct bed *bed, struct model *model, struct chance *chance)
{
    int member = (int)any(chance, MEMBERS);
    uint32_t what = any(chance, 1000);
    if (what < 320)
        publish(bed, model, chance);
    else if (what < 600)
        receive(bed, model, member, 0);
    else if (what < 830)
        finish_or_die(bed, model, chance, (int)any(chance, HANDS));
    else if (what < 900)
        clock_advance(some_time(chance));
    else if (what < 910)
        burial_sweep(&bed->f.bus->memory); /* as a keeper does */
    else if (bed->subs[member] == NULL)
        join(bed, model, member, any(chance, 2) == 0);
    else if (what >= 980)
        leave(bed, model, member);
    else if (what >= 950)
        die(bed, model, member);
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
                wait_for_event(bed, model, m);
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
    for (int i = 0; i < EVBUS_CAUSES; i++)
        if (stat.attempts_failed[i] != model->n_causes[i])
            wrong(model, "%" PRIu64 " attempts of cause %d are counted, %" PRIu64 " were made", stat.attempts_failed[i],
                  i, model->n_causes[i]);
    if (stat.n_pending != 0)
        wrong(model, "%u are pending", stat.n_pending);
}

/* When the next entry falls due, as its side says; a second from now if none does. */
static uint64_t next_due(const struct bed *bed)
{
    const struct memory *memory = &bed->f.bus->memory;
    uint64_t now = clock_mono_ns();
    uint64_t due = UINT64_MAX;
    for (uint32_t p = 0; p < memory->logs[0].n_partitions; p++) {
        struct group_part *part = memory_part(&memory->logs[0], p, group_find(memory, "mailer"));
        for (uint32_t i = 0; i < PENDING_MAX; i++) {
            uint64_t time = atomic_load(&part->side[i].time_ns);
            if (pending_load(part, i, pending_cursor(part)).state == PENDING_WAIT && time > now && time < due)
                due = time;
        }
    }
    return due != UINT64_MAX ? due : now + S;
}

static bool is_served(const struct bed *bed)
{
    bool is_served = false;
    for (int m = 0; m < MEMBERS; m++)
        is_served = is_served || bed->subs[m] != NULL;
    return is_served;
}

static unsigned n_to_tell(const struct model *model)
{
    unsigned n = 0;
    for (unsigned i = 0; i < model->n; i++)
        n += model->events[i].state == DEAD;
    return n;
}

static void drain(struct bed *bed, struct model *model, struct chance *chance)
{
    unsigned n_bad = any(chance, 40); /* chances to fail that are left */
    unsigned n_idle = 0;
    while ((model->n_ended < model->n || n_to_tell(model) > 0) && !model->failed) {
        if (!is_served(bed))
            join(bed, model, (int)any(chance, MEMBERS), any(chance, 2) == 0);
        bool came = false;
        for (int m = 0; m < MEMBERS; m++)
            came = receive(bed, model, m, 0) == EVBUS_OK || came;
        if (n_bad > 0 && any(chance, 12) == 0) {
            die(bed, model, (int)any(chance, MEMBERS));
            n_bad--;
        }
        for (int i = 0; i < HANDS; i++) {
            enum evbus_outcome outcome = n_bad > 0 ? outcome_of(chance) : EVBUS_DONE;
            if (bed->hands[i].event.token == NULL || (came && any(chance, 3) == 0))
                continue;
            n_bad -= outcome != EVBUS_DONE;
            finish(bed, model, i, outcome, any(chance, 4) == 0);
        }
        n_idle = came ? 0 : n_idle + 1;
        if (n_idle > 1)
            clock_advance(next_due(bed) - clock_mono_ns());
        if (n_idle % 4 == 3)
            burial_sweep(&bed->f.bus->memory);
        read_letters(bed, model);
        if (n_idle > 200)
            wrong(model, "%u of %u events have ended, %u of them are to be told, and no more come", model->n_ended,
                  model->n, n_to_tell(model));
    }
    if (!is_served(bed))
        join(bed, model, 0, false);
    burial_sweep(&bed->f.bus->memory); /* what the dead held is held until somebody takes it over */
    for (int round = 0; round < 3 && !model->failed; round++) { /* whatever is due to another now */
        clock_advance(13 * S);
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
    for (int m = 0; !model->failed && m < MEMBERS && any(&chance, 2) == 0; m++)
        if (bed->subs[m] != NULL)
            leave(bed, model, m);
}

static uint64_t first_seed(void)
{
    const char *given = getenv("EVBUS_SEED");
    return given != NULL ? strtoull(given, NULL, 10) : 0;
}

/* Time is the same each time. */
static void freeze_at(uint64_t ns)
{
    clock_freeze();
    clock_advance(ns - clock_mono_ns());
}

struct bus_of_schedules {
    struct fixture f;
    uint64_t seed;
    struct counts {
        _Atomic uint64_t n_crashes, n_alone, n_crashed, n_dead, n_done, n_pauses, n_held;
    } * counts;
};

/* In a child: what the dead had on the heap is lost. */
static int run_schedules(void *context)
{
    struct bus_of_schedules *of = context;
    struct model model = {0};
    freeze_at(1000000000 * S);
    struct bed *bed = bed_open(&of->f);
    if (bed == NULL)
        return 2;
    model.outage = topics_retry(bed->f.bus->topics, "mailer").outage_events;
    for (unsigned k = 0; k < PER_BUS && !model.failed; k++) /* on a bus with a past */
        run_schedule(bed, &model, of->seed + k);
    atomic_fetch_add(&of->counts->n_crashes, model.n_crashes);
    atomic_fetch_add(&of->counts->n_alone, model.n_alone);
    atomic_fetch_add(&of->counts->n_crashed, model.n_crashed);
    atomic_fetch_add(&of->counts->n_dead, model.n_dead);
    atomic_fetch_add(&of->counts->n_done, model.n_done);
    atomic_fetch_add(&of->counts->n_pauses, model.n_pauses);
    atomic_fetch_add(&of->counts->n_held, model.n_held);
    if (model.failed) {
        fprintf(stderr, "EVBUS_SEED=%" PRIu64 ", schedule %" PRIu64 ": %s\n", of->seed, model.seed, model.what);
        return 1;
    }
    bed_close(bed);
    return 0;
}

Test(groups_property, any_schedule_keeps_what_a_group_promises, .timeout = 120)
{
    uint64_t given = first_seed();
    unsigned n = given != 0 ? PER_BUS : getenv("EVBUS_SLOW") != NULL ? 100 : getenv("EVBUS_QUICK") != NULL ? 200 : 2000;
    uint64_t seed = given != 0 ? given : 1;
    struct counts *counts = child_shared(sizeof *counts);
    fprintf(stderr, "EVBUS_SEED=%" PRIu64 ", %u schedules\n", seed, n);
    for (unsigned i = 0; i < n; i += PER_BUS) {
        struct chance chance = {seed + i};
        struct bus_of_schedules of = {make_bus(&chance, true), seed + i, counts};
        struct child child = child_start(run_schedules, &of);
        int status = child_join(&child);
        cr_assert_eq(status, 0, "EVBUS_SEED=%" PRIu64 " fails, status %d: see above", seed + i, status);
        fixture_end(&of.f);
    }
    fprintf(stderr,
            "%" PRIu64 " members died; %" PRIu64 " attempts were alone; %" PRIu64 " events done, %" PRIu64
            " dead, %" PRIu64 " of them by crashes; %" PRIu64 " pauses, %" PRIu64 " failures in them\n",
            atomic_load(&counts->n_crashes), atomic_load(&counts->n_alone), atomic_load(&counts->n_done),
            atomic_load(&counts->n_dead), atomic_load(&counts->n_crashed), atomic_load(&counts->n_pauses),
            atomic_load(&counts->n_held));
    if (!HAS_SANITIZER && given == 0)
        cr_expect(atomic_load(&counts->n_alone) > 0 && atomic_load(&counts->n_held) > 0,
                  "the schedules have become harmless");
}

/* --- in threads ------------------------------------------------------------------------------------------------------------------ */

struct shop {
    pthread_mutex_t mutex; /* of the model */
    struct model model;
    struct chance chance;
    _Atomic bool stop;
    _Atomic unsigned n_gone;
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
    if (outcome == EVBUS_DEFER && deferred_for(event) != 0)
        evbus_defer(event, deferred_for(event));
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
            rc = evbus_run(sub, &(struct evbus_run_options){.size = sizeof(struct evbus_run_options),
                                                            .threads = clerk->threads,
                                                            .stop_timeout_ns = UINT64_MAX}); /* time flies here */
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
    atomic_fetch_add(&shop->n_gone, 1);
    return NULL;
}

/* Time goes on for all who sleep. */
static void go_on(struct bed *bed, struct chance *chance)
{
    evbus_test_clock_advance(bed->f.bus, 2 * MS + some_time(chance));
    await_pause();
}

static void run_shop(uint64_t seed, unsigned n_rounds, unsigned n_threads)
{
    struct chance chance = {seed};
    struct fixture f = make_bus(&chance, false);
    freeze_at(1000000000 * S);
    struct bed *bed = bed_open(&f);
    cr_assert_not_null(bed);
    struct shop shop = {
        .mutex = PTHREAD_MUTEX_INITIALIZER, .model = {.is_in_threads = true}, .chance = {seed ^ 0xabcdef}};
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
            go_on(bed, &chance);
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
    while (atomic_load(&shop.n_gone) < 3)
        go_on(bed, &chance);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    if (!model->failed) {
        join(bed, model, 3, false);
        clock_advance(13 * S);
        cr_expect_eq(wait_for_event(bed, model, 3), EVBUS_ETIMEOUT);
        check_the_end(bed, model);
        check_what_is_held(bed, model, true);
    }
    cr_assert_not(model->failed, "EVBUS_SEED=%" PRIu64 ": %s", seed, model->what);
    bed_close(bed);
    clock_release();
    fixture_end(&f);
}

static void run_shops(unsigned n_threads)
{
    uint64_t given = first_seed();
    bool is_quick = getenv("EVBUS_QUICK") != NULL;
    unsigned n = given != 0 ? 1 : is_quick ? 1 : getenv("EVBUS_SOAK") != NULL ? 12 : 4; /* some seconds each */
    uint64_t seed = given != 0 ? given : 1;
    fprintf(stderr, "EVBUS_SEED=%" PRIu64 "\n", seed);
    for (unsigned i = 0; i < n; i++)
        run_shop(seed + i, 8, n_threads);
}

Test(groups_property, members_that_come_and_go_in_threads_keep_it_too, .timeout = 240)
{
    run_shops(0);
}

Test(groups_property, members_with_several_handlers_keep_it_too, .timeout = 240)
{
    run_shops(4);
}
