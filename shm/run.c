/* run.c: handle a group's events until it is stopped.
 *
 * One thread receives, handles, finishes; where the next event of the same partition is there by then, its finish takes that along
 * (share_next.c), until it is another partition's turn. With threads = n the caller's thread (the lease thread) hands out and n - 1
 * threads of the call handle, each finishes its own event by one CAS and rings the lease thread's bell; they end with the call.
 * Stopped, it begins nothing more, waits for its handlers, and leaves those that take too long: each run that it abandons is ended
 * by the lease thread (share_finish.c), so that its handler's finish is too late; then the member leaves, and others have its partitions at
 * once. The threads that are left are joined by evbus_unsubscribe().
 * Checked by tests/unit/test_subscribe.c, under ThreadSanitizer too. */
#include "member.h"

#include "clock.h"
#include "futex.h"
#include "span.h"

#include <inttypes.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>

#define STOP_TIMEOUT_NS (25 * CLOCK_NS_PER_S)

/* out_next: NULL; or the lease thread's, in evbus_run(): the event that was taken by this one's finish, NULL for none. */
static int handle(struct evbus_subscription *sub, struct hand *hand, struct bus_thread *thread, struct hand **out_next,
                  struct error *err)
{
    const struct evbus_delivery *outer = thread->handling; /* a handler may run another subscription */
    struct span_of_group span = {.group = sub->of.name, .event = &hand->shown};
    int shown = member_show(sub, hand);
    if (shown != EVBUS_DONE)
        return member_refuse(hand, shown, &thread->claim, err);
    span_received(sub->bus, sub->of.name, &hand->shown);
    span_begin(sub->bus, &span);
    thread->handling = &hand->shown; /* what it publishes follows from that */
    enum evbus_outcome outcome = sub->handler(sub->context, &hand->shown, hand->error);
    thread->handling = outer;
    if ((unsigned)outcome > EVBUS_DEFER)
        outcome = EVBUS_RETRY;
    hand->error[EVBUS_ERROR_MAX] = '\0';
    span_end(sub->bus, &span, outcome, hand->error);
    if (out_next != NULL && outcome == EVBUS_DONE)
        return member_finish_and_receive(sub, hand, out_next, err);
    return member_finish(sub, hand, outcome, hand->error, &thread->claim, err);
}

static int run_one(struct evbus_subscription *sub, uint64_t timeout_ns, struct error *err)
{
    struct hand *hand;
    int rc = member_receive(sub, timeout_ns, &hand, err);
    if (rc == EVBUS_OK)
        rc = handle(sub, hand, sub->thread, NULL, err);
    return rc == EVBUS_EFENCED ? EVBUS_OK : rc; /* it is somebody else's: we go on */
}

/* Those that are there, one after the other, until the shares are to be looked at again. */
static int run_some(struct evbus_subscription *sub, struct error *err)
{
    struct hand *hand;
    int rc = member_receive(sub, UINT64_MAX, &hand, err);
    while (rc == EVBUS_OK && hand != NULL) {
        struct hand *next = NULL;
        rc = handle(sub, hand, sub->thread, &next, err);
        rc = rc == EVBUS_EFENCED ? EVBUS_OK : rc;
        hand = next;
    }
    return rc;
}

EVBUS_API int evbus_run_once(struct evbus_subscription *sub, uint64_t timeout_ns)
{
    struct error *err = error_of_thread();
    if (sub == NULL || sub->handler == NULL)
        return error_set(err, EVBUS_EINVAL, sub == NULL ? "subscription is NULL" : "the subscription has no handler");
    int rc = run_one(sub, timeout_ns, err);
    if (rc == EVBUS_EAGAIN || rc == EVBUS_ETIMEOUT)
        rc = error_set(err, EVBUS_ETIMEOUT, "no event came in time");
    return rc;
}

static void *worker_of(void *context)
{
    struct worker *worker = context;
    struct evbus_subscription *sub = worker->of;
    struct error *err = error_of_thread();
    struct bus_thread *thread = NULL;
    prctl(PR_SET_NAME, "evbus-handler");
    worker->rc = bus_thread(sub->bus, &thread, worker->err);
    atomic_store_explicit(&worker->state, WORKER_IDLE, memory_order_release);
    futex_wake(&worker->state, 1);
    for (;;) {
        uint32_t state = atomic_load_explicit(&worker->state, memory_order_acquire);
        if (state == WORKER_IDLE) {
            futex_wait(&worker->state, WORKER_IDLE, (struct timespec){.tv_sec = 3600});
            continue;
        }
        if (state == WORKER_STOP) {
            atomic_store_explicit(&worker->is_over, true, memory_order_release);
            return NULL;
        }
        handle(sub, worker->hand, thread, NULL, err);
        uint32_t has_hand = WORKER_HAS_HAND;
        atomic_compare_exchange_strong_explicit(&worker->state, &has_hand, WORKER_IDLE, memory_order_acq_rel,
                                                memory_order_relaxed);
        doorbell_ring_slot(&sub->bus->memory.control->slots[sub->of.slot]);
    }
}

static struct worker *idle_worker(struct evbus_subscription *sub, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        if (atomic_load_explicit(&sub->workers[i].state, memory_order_acquire) == WORKER_IDLE)
            return &sub->workers[i];
    return NULL;
}

/* Until a worker is idle, or a millisecond: entries may fall due, and the members be told that we live. */
static void wait_for_worker(struct evbus_subscription *sub, unsigned n)
{
    const struct slot *self = &sub->bus->memory.control->slots[sub->of.slot];
    uint32_t bell = doorbell_read(self);
    if (idle_worker(sub, n) == NULL)
        doorbell_sleep(self, bell, (struct timespec){.tv_nsec = 10000000});
}

static int hand_out(struct evbus_subscription *sub, unsigned n, struct error *err)
{
    int rc = EVBUS_OK;
    while (atomic_load_explicit(&sub->stop, memory_order_acquire) == 0 && rc == EVBUS_OK) {
        struct worker *worker = idle_worker(sub, n);
        struct hand *hand;
        if (worker == NULL) {
            uint64_t now = clock_mono_ns();
            wait_for_worker(sub, n);
            rc = member_round(sub, now, err);
            for (size_t i = 0; rc == EVBUS_OK && sub->of.retry->handler_timeout_ns != 0 && i < sub->n_shares; i++)
                if (sub->shares[i]->held)
                    share_watch(sub->shares[i], now);
            continue;
        }
        rc = member_receive(sub, 50 * CLOCK_NS_PER_MS, &hand, err);
        if (rc == EVBUS_OK && atomic_load_explicit(&sub->stop, memory_order_acquire) != 0) {
            share_put_back(&hand->item); /* it came as we were stopped */
            atomic_store_explicit(&hand->item.is_used, false, memory_order_release);
        } else if (rc == EVBUS_OK) {
            worker->hand = hand;
            atomic_store_explicit(&worker->state, WORKER_HAS_HAND, memory_order_release);
            futex_wake(&worker->state, 1);
        } else if (rc == EVBUS_ETIMEOUT || rc == EVBUS_EAGAIN) {
            rc = EVBUS_OK;
        }
    }
    return rc;
}

/* Starts one, and waits until it has its place on the bus. */
static int start_worker(struct worker *worker, struct evbus_subscription *sub, struct error *err)
{
    worker->of = sub;
    worker->err = err;
    atomic_store_explicit(&worker->is_over, false, memory_order_relaxed);
    atomic_store_explicit(&worker->state, WORKER_BEGINS, memory_order_relaxed);
    int number = pthread_create(&worker->thread, NULL, worker_of, worker);
    if (number != 0)
        return error_set(err, EVBUS_EIO, "cannot start a handler's thread: %s%s", strerror(number), error_mend(number));
    while (atomic_load_explicit(&worker->state, memory_order_acquire) == WORKER_BEGINS)
        futex_wait(&worker->state, WORKER_BEGINS, (struct timespec){.tv_sec = 1});
    if (worker->rc == EVBUS_OK)
        return EVBUS_OK;
    atomic_store_explicit(&worker->state, WORKER_STOP, memory_order_release);
    futex_wake(&worker->state, 1);
    pthread_join(worker->thread, NULL);
    return worker->rc;
}

static bool has_busy(const struct evbus_subscription *sub, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        if (atomic_load_explicit(&sub->workers[i].state, memory_order_acquire) != WORKER_IDLE)
            return true;
    return false;
}

/* Until no handler runs, or the time is over; those that take longer than the group allows are fenced meanwhile. */
static void await_workers(struct evbus_subscription *sub, unsigned n, uint64_t timeout_ns)
{
    const struct slot *self = &sub->bus->memory.control->slots[sub->of.slot];
    uint64_t deadline = clock_deadline(clock_mono_ns(), timeout_ns);
    for (;;) {
        uint64_t now = clock_mono_ns();
        uint32_t bell = doorbell_read(self);
        if (!has_busy(sub, n) || now >= deadline)
            return;
        member_say_alive(sub, now);
        for (size_t i = 0; sub->of.retry->handler_timeout_ns != 0 && i < sub->n_shares; i++)
            if (sub->shares[i]->held)
                share_watch(sub->shares[i], now);
        doorbell_sleep(self, bell, clock_left(deadline, now, 10 * CLOCK_NS_PER_MS));
    }
}

/* What has lost its race against its handler's finish is finished in a moment. */
static void await_finishes(struct evbus_subscription *sub)
{
    const struct slot *self = &sub->bus->memory.control->slots[sub->of.slot];
    for (int round = 0; round < 100; round++) {
        bool is_running = false;
        uint32_t bell = doorbell_read(self);
        for (size_t i = 0; i < sub->n_shares; i++)
            is_running = is_running || (sub->shares[i]->held && share_is_running(sub->shares[i]));
        if (!is_running)
            return;
        doorbell_sleep(self, bell, (struct timespec){.tv_nsec = 10000000});
    }
}

/* The idle ones end; a busy one ends behind its handler, whenever that is. Returns how many those are. */
static unsigned end_workers(struct evbus_subscription *sub, unsigned n)
{
    unsigned n_left = 0;
    for (unsigned i = 0; i < n; i++) {
        struct worker *worker = &sub->workers[i];
        bool is_busy = atomic_exchange_explicit(&worker->state, WORKER_STOP, memory_order_acq_rel) == WORKER_HAS_HAND;
        futex_wake(&worker->state, 1);
        atomic_store_explicit(&worker->is_left, is_busy, memory_order_relaxed);
        n_left += is_busy;
        if (!is_busy)
            pthread_join(worker->thread, NULL);
    }
    return n_left;
}

static int leave_handlers(struct evbus_subscription *sub, unsigned n_left, uint64_t timeout_ns, struct error *err)
{
    for (struct hand *hand = sub->hands; hand != NULL; hand = hand->next)
        if (atomic_load_explicit(&hand->item.is_used, memory_order_acquire))
            share_abandon(&hand->item);
    await_finishes(sub);
    member_leave(sub, sub->thread);
    return error_set(err, EVBUS_ETIMEOUT,
                     "%u handlers of group %s still run %" PRIu64
                     " ms after it was stopped: their events are released, and what they return changes nothing",
                     n_left, sub->of.name, timeout_ns / CLOCK_NS_PER_MS);
}

bool member_join_left(struct evbus_subscription *sub, bool wait)
{
    for (unsigned i = 0; i < MEMBER_THREADS_MAX; i++) {
        struct worker *worker = &sub->workers[i];
        if (!atomic_load_explicit(&worker->is_left, memory_order_relaxed))
            continue;
        if (!wait && !atomic_load_explicit(&worker->is_over, memory_order_acquire))
            return false;
        pthread_join(worker->thread, NULL);
        atomic_store_explicit(&worker->is_left, false, memory_order_relaxed);
    }
    return true;
}

static int run_with_workers(struct evbus_subscription *sub, unsigned n, uint64_t stop_timeout_ns, struct error *err)
{
    unsigned n_started = 0;
    int rc = member_check_thread(sub, err);
    sigset_t all;
    sigset_t before;
    sigfillset(&all); /* signals are for the host's own threads */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    while (n_started < n && rc == EVBUS_OK)
        if ((rc = start_worker(&sub->workers[n_started], sub, err)) == EVBUS_OK)
            n_started++;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc == EVBUS_OK)
        rc = hand_out(sub, n, err);
    await_workers(sub, n_started, stop_timeout_ns);
    unsigned n_left = end_workers(sub, n_started);
    return n_left == 0 ? rc : leave_handlers(sub, n_left, stop_timeout_ns, err);
}

EVBUS_API int evbus_run(struct evbus_subscription *sub, const struct evbus_run_options *given)
{
    struct error *err = error_of_thread();
    struct evbus_run_options options = {0};
    int rc = sub != NULL && sub->handler != NULL
                 ? EVBUS_OK
                 : error_set(err, EVBUS_EINVAL,
                             sub == NULL ? "subscription is NULL" : "the subscription has no handler");
    if (rc == EVBUS_OK && given != NULL)
        rc = bus_take_struct(&options, sizeof options, given, given->size, "struct evbus_run_options", err);
    if (rc == EVBUS_OK && options.threads > MEMBER_THREADS_MAX)
        rc = error_set(err, EVBUS_EINVAL, "options.threads is %u; at most %d are allowed", options.threads,
                       MEMBER_THREADS_MAX);
    if (rc == EVBUS_OK && !member_join_left(sub, false))
        rc = error_set(err, EVBUS_EBUSY, "handlers of group %s that an earlier evbus_run() has left still run",
                       sub->of.name);
    if (rc != EVBUS_OK)
        return rc;
    if (options.threads > 1) {
        rc = run_with_workers(sub, options.threads - 1,
                              options.stop_timeout_ns != 0 ? options.stop_timeout_ns : STOP_TIMEOUT_NS, err);
    } else {
        while (rc == EVBUS_OK && atomic_load_explicit(&sub->stop, memory_order_acquire) == 0) {
            rc = run_some(sub, err);
            if (rc == EVBUS_ETIMEOUT || rc == EVBUS_EAGAIN)
                rc = EVBUS_OK;
        }
    }
    atomic_store_explicit(&sub->stop, 0, memory_order_release);
    return rc;
}

EVBUS_API void evbus_stop(struct evbus_subscription *sub)
{
    atomic_store_explicit(&sub->stop, 1, memory_order_release);
    if (sub->of.slot != 0)
        doorbell_ring_slot(&sub->bus->memory.control->slots[sub->of.slot]);
}
