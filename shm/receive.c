/* receive.c: the next event of a group, and what became of it.
 *
 *     poll the shares by turns; nothing: spin for the bus's spin time, then sleep on the bell, at most until an entry falls due.
 *     A finish may take the next event along, as the next look would: then nothing is polled.
 *     What the group still needs is told to the rings now and then, and before each sleep.
 * Checked by tests/unit/test_subscribe.c. */
#include "member.h"

#include "clock.h"
#include "span.h"

#include <stdlib.h>
#include <string.h>

#define SLEEP_MAX_NS     (250 * CLOCK_NS_PER_MS)
#define UNSETTLED_NS     (10 * CLOCK_NS_PER_MS) /* while a partition is still to be taken or given */
#define ROUNDS_PER_LOOK  64
#define EVENTS_PER_ROUND 64 /* after so many the members are looked at again */
#define EVENTS_PER_TURN  16 /* of one share, before the next one is looked at first */
static_assert(EVENTS_PER_ROUND % EVENTS_PER_TURN == 0, "who chains to the end of a turn is not late for a round");

/* The version that was chosen, raised where that is to be. As member_show(). */
static int give_version(struct evbus_subscription *sub, struct hand *hand, struct evbus_delivery *out)
{
    const struct version_choice *choice = &hand->item.choice;
    const struct evbus_version *chosen = &out->versions[0];
    size_t len = 0;
    for (size_t i = 1; i < out->n_versions; i++)
        if (out->versions[i].major == choice->from.major && out->versions[i].minor == choice->from.minor)
            chosen = &out->versions[i];
    out->version_major = chosen->major;
    out->version_minor = chosen->minor;
    out->payload = chosen->payload;
    out->payload_len = chosen->payload_len;
    if (choice->to_major == 0)
        return EVBUS_DONE;
    int rc = upcasters_raise(sub->upcasters, hand->topic, chosen, choice->to_major, hand->payload_max, &hand->raised,
                             &len, hand->error);
    if (rc != EVBUS_OK)
        return rc == EVBUS_EAGAIN ? EVBUS_RELEASE : SHARE_NO_VERSION;
    out->version_major = choice->to_major;
    out->version_minor = 0;
    out->payload = hand->raised;
    out->payload_len = len;
    return EVBUS_DONE;
}

/* The name of its event's topic, which is there already where the one before it had the same. */
static inline void show_topic(struct hand *hand)
{
    const struct share *share = hand->item.share;
    const struct frame *frame = &hand->item.frame;
    bool is_replay = (frame->flags & FRAME_REPLAY) != 0;
    if (!is_replay && hand->topic_log == share->log && hand->topic_id == frame->topic)
        return;
    share_topic(share, frame, hand->topic);
    hand->topic_log = share->log;
    hand->topic_id = is_replay ? 0 : frame->topic;
}

int member_show(struct evbus_subscription *sub, struct hand *hand)
{
    const struct item *item = &hand->item;
    const struct frame *frame = &item->frame;
    if (!hand->is_plain) /* else it has what each event has, which is set below */
        hand->shown = (struct evbus_delivery){
            .size = sizeof hand->shown,
            .topic = hand->topic,
            .service = hand->service,
            .token = hand,
            .defer_ns = &hand->item.defer_ns,
        };
    hand->is_plain = frame->area_len == 0 && item->n_replays == 0;
    hand->shown.log = item->share->ring->name;
    hand->shown.partition = item->share->ring->partition;
    hand->shown.position = item->running.pos;
    hand->shown.attempt = item->running.attempts;
    hand->error[0] = '\0';
    hand->item.defer_ns = 0;
    if (frame->publisher != hand->publisher || hand->service[0] == '\0')
        memory_publisher_name(&sub->bus->memory, frame->publisher, hand->service);
    hand->publisher = frame->publisher;
    show_topic(hand);
    delivery_fill(frame, &hand->texts, &hand->shown);
    if (item->n_replays > 0)
        hand->shown.replayed = item->n_replays;
    bool is_as_published = frame->n_versions == 1 && item->choice.to_major == 0;
    return is_as_published ? EVBUS_DONE : give_version(sub, hand, &hand->shown);
}

/* --- receiving ------------------------------------------------------------------------------------------------------------ */

/* The k-th share was asked for an event. */
static void note_step(struct evbus_subscription *sub, size_t k, enum share_step step, uint64_t now_ns, bool idle)
{
    struct share *share = sub->shares[k];
    if (step == SHARE_LOST) {
        share->held = false;
        sub->is_settled = false;
    }
    share->n_since_low += step == SHARE_EVENT;
    if (step != SHARE_LOST && share_has_news(share, now_ns, idle))
        share_tell_low(share, true);
}

/* It has given one into the hand. */
static void note_event(struct evbus_subscription *sub, size_t k, struct hand *hand)
{
    bool is_over = sub->n_events % EVENTS_PER_TURN == EVENTS_PER_TURN - 1;
    if (hand->item.probe != 0) /* of a group that pauses, every partition has its turn */
        is_over = true;
    sub->turn = is_over ? (k + 1 < sub->n_shares ? k + 1 : 0) : k;
    sub->n_events++;
    sub->n_of_run++;
    hand->payload_max = sub->payload_max;
    atomic_store_explicit(&hand->item.is_used, true, memory_order_relaxed);
}

/* One look over the shares by turns. EVBUS_OK: *out is in a handler; EVBUS_EAGAIN. */
static int poll_shares(struct evbus_subscription *sub, bool look, uint64_t now_ns, uint64_t *out_due_ns,
                       struct hand **out, struct error *err)
{
    struct hand *hand = member_free_hand(sub, err);
    if (hand == NULL)
        return EVBUS_ENOSPC;
    for (size_t i = 0; i < sub->n_shares; i++) {
        size_t k = sub->turn + i < sub->n_shares ? sub->turn + i : sub->turn + i - sub->n_shares;
        struct share *share = sub->shares[k];
        if (!share->held || (!look && share_is_quiet(share)))
            continue;
        enum share_step step = share_next(share, &hand->item, look, now_ns, out_due_ns, err);
        note_step(sub, k, step, now_ns, look && step == SHARE_NOTHING);
        if (step != SHARE_EVENT)
            continue;
        note_event(sub, k, hand);
        *out = hand;
        return EVBUS_OK;
    }
    return EVBUS_EAGAIN;
}

static void say_idle(struct evbus_subscription *sub)
{
    for (size_t i = 0; i < sub->n_shares; i++)
        if (sub->shares[i]->held)
            share_tell_low(sub->shares[i], true);
}

static int sleep_on_bell(struct evbus_subscription *sub, uint64_t now_ns, uint64_t left_ns, struct hand **out,
                         struct error *err)
{
    struct memory *memory = &sub->bus->memory;
    const struct slot *self = &memory->control->slots[sub->of.slot];
    uint64_t due_ns = UINT64_MAX;
    int rc = listener_join(&sub->thread->listener, memory, sub->of.slot, sub->wanted, err);
    if (rc != EVBUS_OK)
        return rc;
    say_idle(sub);
    uint32_t bell = doorbell_read(self);
    listener_set(&sub->thread->listener, memory, sub->wanted);
    atomic_thread_fence(memory_order_seq_cst); /* edge DOORBELL, to: the member that sleeps */
    rc = poll_shares(sub, true, now_ns, &due_ns, out, err);
    if (rc == EVBUS_EAGAIN && due_ns > now_ns && !memory_is_retired(memory) &&
        group_changes(memory, sub->of.group) == sub->changes &&
        atomic_load_explicit(&sub->stop, memory_order_acquire) == 0) {
        uint64_t cap = due_ns - now_ns < SLEEP_MAX_NS ? due_ns - now_ns : SLEEP_MAX_NS;
        if (!sub->is_settled && cap > UNSETTLED_NS)
            cap = UNSETTLED_NS;
        doorbell_sleep(self, bell, clock_left(left_ns, 0, cap));
    }
    listener_clear(&sub->thread->listener, memory, sub->wanted);
    return rc;
}

/* Now. The exact time takes as long as all the rest of a look: it is for who finds nothing, and where a handler's time is limited. */
static uint64_t begin_look(struct evbus_subscription *sub)
{
    if (sub->of.retry->handler_timeout_ns == 0)
        return clock_coarse_ns();
    uint64_t now = clock_mono_ns();
    member_say_alive(sub, now); /* or a backlog of slow events would look like a hung handler */
    return now;
}

int member_receive(struct evbus_subscription *sub, uint64_t timeout_ns, struct hand **out, struct error *err)
{
    int rc = member_check_thread(sub, err);
    if (rc != EVBUS_OK)
        return rc;
    uint64_t now = begin_look(sub);
    uint64_t deadline = UINT64_MAX;
    uint64_t spin_until = UINT64_MAX;
    bool is_spinning = bus_spin_ns(sub->bus) != 0 && timeout_ns != 0;
    const struct slot *self = &sub->bus->memory.control->slots[sub->of.slot];
    for (unsigned round = 0;; round++) {
        uint64_t due_ns = UINT64_MAX;
        /* A look takes the producers' lines; but no share may be seen by its stamps alone while another one always has something. */
        bool look = !is_spinning || round % ROUNDS_PER_LOOK == ROUNDS_PER_LOOK - 1 ||
                    (round == 0 && sub->n_shares > 1 && sub->n_events % EVENTS_PER_TURN == 0);
        if (round == 0 || look) {
            now = round == 0 ? now : clock_mono_ns();
            if (sub->n_events >= EVENTS_PER_ROUND || round > 0 || !sub->is_settled ||
                group_changes(&sub->bus->memory, sub->of.group) != sub->changes)
                rc = member_round(sub, now, err);
            if (rc != EVBUS_OK)
                return rc;
        }
        rc = poll_shares(sub, look, now, &due_ns, out, err);
        if (rc != EVBUS_EAGAIN)
            return rc;
        rc = EVBUS_OK;
        if (atomic_load_explicit(&sub->stop, memory_order_acquire) != 0)
            return EVBUS_EAGAIN;
        if (round == 0) {
            now = clock_mono_ns();
            deadline = clock_deadline(now, timeout_ns);
            spin_until = clock_deadline(now, bus_spin_ns(sub->bus));
            if (is_spinning)
                bus_end_run(sub->bus, &sub->n_of_run);
        }
        clock_relax();
        if (!look)
            continue;
        if ((rc = bus_check_names(sub->bus, now, err)) != EVBUS_OK)
            return rc;
        if (round > 0 && now >= deadline && due_ns > now) /* what is due is part of what is there */
            return EVBUS_ETIMEOUT;
        if (round > 0 && due_ns > now && now >= spin_until) {
            uint32_t bell = doorbell_read(self);
            rc = sleep_on_bell(sub, now, deadline - now, out, err);
            if (rc != EVBUS_EAGAIN)
                return rc;
            rc = EVBUS_OK;
            /* Nobody rang: a look, and back to sleep. Else more may come, and who is awake a while needs no bell for it. */
            if (doorbell_read(self) == bell)
                round = ROUNDS_PER_LOOK - 2;
        }
    }
}

EVBUS_API int evbus_receive(struct evbus_subscription *sub, struct evbus_delivery *out_event, uint64_t timeout_ns)
{
    struct error *err = error_of_thread();
    struct hand *hand;
    if (sub == NULL || out_event == NULL || out_event->size > 4096)
        return error_set(err, EVBUS_EINVAL,
                         sub == NULL         ? "subscription is NULL"
                         : out_event == NULL ? "out_event is NULL"
                                             : "delivery.size must be sizeof the struct, or 0");
    uint64_t deadline = sub->upcasters != NULL ? clock_deadline(clock_mono_ns(), timeout_ns) : 0;
    int outcome;
    int rc = member_receive(sub, timeout_ns, &hand, err);
    while (rc == EVBUS_OK && (outcome = member_show(sub, hand)) != EVBUS_DONE) {
        rc = member_refuse(hand, outcome, &sub->thread->claim, err);
        if (rc == EVBUS_OK || rc == EVBUS_EFENCED) { /* the next one, then */
            uint64_t now = clock_mono_ns();
            rc = member_receive(sub, deadline > now ? deadline - now : 0, &hand, err);
        }
    }
    if (rc == EVBUS_OK) {
        span_received(sub->bus, sub->of.name, &hand->shown);
        delivery_give(&hand->shown, out_event);
    } else if (rc == EVBUS_ETIMEOUT || rc == EVBUS_EAGAIN)
        rc = error_set(err, EVBUS_ETIMEOUT, "no event came in time");
    return rc;
}

static void set_free(struct hand *hand)
{
    if (hand->raised != NULL) {
        free(hand->raised);
        hand->raised = NULL;
    }
    atomic_store_explicit(&hand->item.is_used, false, memory_order_release);
}

int member_refuse(struct hand *hand, int outcome, struct claim *claim, struct error *err)
{
    int rc = share_finish(&hand->item, outcome, hand->error, claim, err);
    set_free(hand);
    return rc;
}

int member_finish(struct evbus_subscription *sub, struct hand *hand, enum evbus_outcome outcome, const char *error,
                  struct claim *claim, struct error *err)
{
    int rc = share_finish(&hand->item, (int)outcome, error, claim, err);
    span_settled(sub->bus, sub->of.name, &hand->shown, outcome, error, rc);
    set_free(hand);
    return rc;
}

/* Is the same share's next event what a look around would find, and nothing else to be done first? A hook is told of a finish before the
 * next event is taken: what it does is not to be charged to that. */
static bool may_go_on(const struct evbus_subscription *sub, const struct share *share)
{
    return sub->bus->hook == NULL && sub->n_events % EVENTS_PER_TURN != 0 && sub->shares[sub->turn] == share &&
           sub->is_settled && group_changes(&sub->bus->memory, sub->of.group) == sub->changes &&
           !memory_is_retired(&sub->bus->memory) && atomic_load_explicit(&sub->stop, memory_order_acquire) == 0;
}

int member_finish_and_receive(struct evbus_subscription *sub, struct hand *hand, struct hand **out, struct error *err)
{
    struct hand *next = may_go_on(sub, hand->item.share) ? member_free_hand(sub, err) : NULL;
    *out = NULL;
    if (next == NULL)
        return member_finish(sub, hand, EVBUS_DONE, hand->error, &sub->thread->claim, err);
    int rc;
    size_t k = sub->turn;
    uint64_t now_ns = begin_look(sub);
    enum share_step step = share_finish_and_next(&hand->item, &next->item, now_ns, &rc, err);
    note_step(sub, k, step, now_ns, false);
    if (step == SHARE_EVENT) {
        note_event(sub, k, next);
        *out = next;
    }
    set_free(hand);
    return rc;
}

EVBUS_API int evbus_finish(struct evbus_subscription *sub, const struct evbus_delivery *event,
                           enum evbus_outcome outcome, const char *error)
{
    struct error *err = error_of_thread();
    if (sub == NULL || event == NULL || event->token == NULL || (unsigned)outcome > EVBUS_DEFER)
        return error_set(err, EVBUS_EINVAL, "%s",
                         sub == NULL            ? "subscription is NULL"
                         : event == NULL        ? "event is NULL"
                         : event->token == NULL ? "event.token is NULL: it did not come from evbus_receive()"
                                                : "outcome is no enum evbus_outcome");
    struct hand *hand = event->token;
    if (!atomic_load_explicit(&hand->item.is_used, memory_order_acquire) || hand->item.running.pos != event->position ||
        hand->item.running.attempts != event->attempt || hand->item.share->ring->partition != event->partition ||
        hand->item.share->ring->name != event->log)
        return error_set(err, EVBUS_EINVAL, "the event is finished already");
    struct bus_thread *thread;
    int rc = bus_check(sub->bus, err);
    if (rc == EVBUS_OK)
        rc = bus_thread(sub->bus, &thread, err);
    return rc == EVBUS_OK ? member_finish(sub, hand, outcome, error, &thread->claim, err) : rc;
}
