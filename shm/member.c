/* member.c: which partitions of its group a member holds.
 *
 *     round   who are the members?  partition k of the group is due to living member k mod m: give what is not ours and not in a
 *             handler, take what is and is free, or its holder dead, or hung beyond the handler timeout
 *
 * Every member computes the same from the same table, so partitions are shared fairly without anybody deciding; who sees the
 * table a moment later loses a CAS. A change rings all members. A share that is to be given takes no more.
 * [keeps ONE-HOLDER] Checked by tests/unit/test_subscribe.c, tests/crash/test_groups.c. */
#include "member.h"

#include "clock.h"
#include "slot.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define LOOK_NS (250 * CLOCK_NS_PER_MS)

/* --- hands ---------------------------------------------------------------------------------------------------------------- */

struct hand *member_free_hand(struct evbus_subscription *sub, struct error *err)
{
    for (struct hand *hand = sub->hands; hand != NULL; hand = hand->next)
        if (!atomic_load_explicit(&hand->item.is_used, memory_order_acquire))
            return hand;
    struct hand *hand = calloc(1, sizeof *hand);
    if (hand != NULL && (hand->item.buffer = malloc(((size_t)FRAME_CELLS_MAX + 1) * CELL_BYTES)) == NULL) {
        free(hand);
        hand = NULL;
    }
    if (hand == NULL) {
        error_no_memory(err, "an event");
        return NULL;
    }
    hand->next = sub->hands;
    sub->hands = hand;
    return hand;
}

int member_read_settings(struct evbus_subscription *sub, struct error *err)
{
    struct settings_of *read = calloc(1, sizeof *read);
    if (read == NULL)
        return error_no_memory(err, "a group's settings");
    read->retry = topics_retry(sub->bus->topics, sub->of.name);
    read->accepts = topics_accepts(sub->bus->topics, sub->of.name, &sub->payload_max);
    if (sub->accepts.n != 0)
        read->accepts = sub->accepts;
    if (sub->settings != NULL && memcmp(&sub->settings->retry, &read->retry, sizeof read->retry) == 0 &&
        memcmp(&sub->settings->accepts, &read->accepts, sizeof read->accepts) == 0) {
        free(read);
        return EVBUS_OK;
    }
    read->next = sub->settings;
    sub->settings = read;
    sub->of.retry = &read->retry;
    sub->of.accepts = &read->accepts;
    return EVBUS_OK;
}

/* --- shares ------------------------------------------------------------------------------------------------------------- */

static size_t own_bytes(const struct memory_log *log)
{
    return (size_t)log->n_partitions * PENDING_MAX * sizeof(struct share_own);
}

/* Of all partitions of a log. What they know of entries is mapped: a page of it is there when it is written first, and a take asks for
 * nothing. NULL: no memory. */
static struct share *shares_new(const struct memory_log *log)
{
    struct share *shares = calloc(log->n_partitions, sizeof *shares);
    struct share_own *own = shares != NULL
                                ? mmap(NULL, own_bytes(log), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
                                : MAP_FAILED;
    if (own == MAP_FAILED) {
        free(shares);
        return NULL;
    }
    for (uint32_t p = 0; p < log->n_partitions; p++) {
        shares[p].own = &own[p];
        shares[p].n_beside = log->n_partitions;
    }
    return shares;
}

void member_free_shares(struct evbus_subscription *sub)
{
    for (uint32_t l = 0; l < LOGS_MAX; l++) {
        struct share *shares = sub->by_log[l];
        const struct memory_log *log = &sub->bus->memory.logs[l];
        for (uint32_t p = 0; shares != NULL && p < log->n_partitions; p++)
            share_close(&shares[p]);
        if (shares != NULL)
            munmap(shares->own, own_bytes(log));
        free(shares);
    }
    free(sub->shares);
}

/* Room for all of them in sub->shares. false: no memory. */
static bool has_places(struct evbus_subscription *sub)
{
    size_t n = 0;
    for (uint32_t l = 0; l < sub->n_logs; l++)
        n += sub->bus->memory.logs[l].n_partitions;
    struct share **places = realloc(sub->shares, n * sizeof *places);
    if (places != NULL)
        sub->shares = places;
    return places != NULL;
}

/* Our shares of the group's logs, and of those that it has been given since. A share never moves: handlers point to it. */
int member_make_shares(struct evbus_subscription *sub, struct error *err)
{
    struct memory *memory = &sub->bus->memory;
    sub->n_logs = memory_n_logs(memory);
    if (!has_places(sub))
        return error_no_memory(err, "shares");
    sub->n_shares = 0;
    for (uint32_t l = 0; l < sub->n_logs; l++) {
        struct memory_log *log = &memory->logs[l];
        sub->wanted[l] = (struct topic_set){{0}};
        struct topic_set topics = group_topics(log, sub->of.group);
        if (topic_set_is_empty(&topics))
            continue;
        if (sub->by_log[l] == NULL && (sub->by_log[l] = shares_new(log)) == NULL)
            return error_no_memory(err, "the partitions of %s", log->name);
        if ((sub->takes >> l & 1) == 0)
            continue;
        memory_prefault(log);
        sub->wanted[l] = topics;
        for (uint32_t p = 0; p < log->n_partitions; p++) {
            struct share *share = &sub->by_log[l][p];
            if (share->of == NULL) { /* once: handlers read it */
                share->of = &sub->of;
                share->log = log;
                share->ring = &log->rings[p];
                share->part = memory_part(log, p, sub->of.group);
            }
            sub->shares[sub->n_shares++] = share;
        }
    }
    return EVBUS_OK;
}

/* A log's members at one look. */
struct members {
    uint32_t slots
        [MEMBERS_MAX]; /* who may hold its partitions: the living, in the table's order, those that hang left out */
    uint32_t n;
    uint32_t hung[MEMBERS_MAX]; /* their places in the table */
    uint32_t n_hung;
};

/* Its lease thread has not said for longer than a handler may take that it is alive. */
static bool hangs(const struct evbus_subscription *sub, uint32_t place, uint64_t now_ns)
{
    const struct member *member = &sub->bus->memory.control->groups[sub->of.group].members[place];
    uint64_t patience = sub->of.retry->handler_timeout_ns;
    uint64_t progress = atomic_load_explicit(&member->progress_ns, memory_order_relaxed);
    return patience != 0 && now_ns > progress && now_ns - progress > patience + CLOCK_NS_PER_S;
}

/* Places in the table that somebody has. */
static uint32_t taken_places(const struct evbus_subscription *sub, uint32_t out_places[MEMBERS_MAX])
{
    const struct group_entry *entry = &sub->bus->memory.control->groups[sub->of.group];
    uint32_t n = 0;
    for (uint32_t i = 0; i < MEMBERS_MAX; i++)
        if (atomic_load_explicit(&entry->members[i].owner, memory_order_acquire) != 0)
            out_places[n++] = i;
    return n;
}

static void look_at_members(struct evbus_subscription *sub, const uint32_t *places, uint32_t n_places, uint32_t log,
                            uint64_t now_ns, struct members *out)
{
    const struct memory *memory = &sub->bus->memory;
    const struct group_entry *entry = &memory->control->groups[sub->of.group];
    out->n = out->n_hung = 0;
    for (uint32_t k = 0; k < n_places; k++) {
        uint32_t i = places[k];
        uint32_t slot = PIN_SLOT(atomic_load_explicit(&entry->members[i].owner, memory_order_acquire));
        if (slot == 0 || slot_is_dead(&memory->control->slots[slot]) ||
            (atomic_load_explicit(&entry->members[i].logs, memory_order_relaxed) >> log & 1) == 0)
            continue;
        if (slot != sub->of.slot && hangs(sub, i, now_ns))
            out->hung[out->n_hung++] = i;
        else
            out->slots[out->n++] = slot;
    }
}

/* Whom we may take a lease from though he lives: a member that hangs in a handler, and ourselves (a damaged word has made us give
 * it up). The dead are told by lease_take(); everybody else gives it himself. */
static uint32_t may_take_from(const struct evbus_subscription *sub, const struct share *share,
                              const struct members *members)
{
    uint32_t holder = lease_holder(share->part);
    const struct group_entry *entry = &sub->bus->memory.control->groups[sub->of.group];
    for (uint32_t i = 0; i < members->n_hung; i++) /* we may have been stopped since: look once more */
        if (PIN_SLOT(atomic_load_explicit(&entry->members[members->hung[i]].owner, memory_order_acquire)) == holder &&
            hangs(sub, members->hung[i], clock_mono_ns()))
            return holder;
    return lease_is_held(share->part, share->epoch, share->of->slot) ? holder : 0;
}

/* One partition: is it due to us? Take or give it. */
static void settle(struct evbus_subscription *sub, struct share *share, const struct members *members, uint32_t due,
                   uint64_t *buffer)
{
    if (share->held && !lease_is_held(share->part, share->epoch, sub->of.slot))
        share->held = false; /* taken from us */
    share->leaving = share->held && due != sub->of.slot;
    if (share->leaving) {
        if (share_is_running(share)) {
            sub->is_settled = false; /* between events */
            return;
        }
        share_give(share);
        doorbell_ring_slot(&sub->bus->memory.control->slots[due]);
    } else if (!share->held && due == sub->of.slot) {
        uint32_t from = may_take_from(sub, share, members);
        if (!share_take(share, from, buffer))
            sub->is_settled = false; /* its holder gives it between two events, and rings */
    }
}

/* Gives what is others', takes what is ours and free. The k-th partition of the group is due to the k-th of a log's members. */
static int share_fairly(struct evbus_subscription *sub, uint64_t now_ns, struct error *err)
{
    uint32_t k = 0;
    uint32_t places[MEMBERS_MAX];
    uint32_t n_places = taken_places(sub, places); /* who joins now rings us */
    struct members members;
    struct hand *hand = member_free_hand(sub, err); /* for its buffer */
    if (hand == NULL)
        return EVBUS_ENOSPC;
    sub->is_settled = true;
    for (uint32_t l = 0; l < sub->n_logs; l++) {
        if (sub->by_log[l] == NULL)
            continue;
        look_at_members(sub, places, n_places, l, now_ns, &members);
        for (uint32_t p = 0; p < sub->bus->memory.logs[l].n_partitions; p++, k++)
            if ((sub->takes >> l & 1) != 0 && members.n > 0)
                settle(sub, &sub->by_log[l][p], &members, members.slots[k % members.n], hand->item.buffer);
    }
    return EVBUS_OK;
}

void member_say_alive(struct evbus_subscription *sub, uint64_t now_ns)
{
    struct group_entry *entry = &sub->bus->memory.control->groups[sub->of.group];
    atomic_store_explicit(&entry->members[sub->member].progress_ns, now_ns, memory_order_relaxed);
}

/* The lease thread tells that it is not hung, hears of changes, and shares fairly. */
int member_round(struct evbus_subscription *sub, uint64_t now_ns, struct error *err)
{
    struct memory *memory = &sub->bus->memory;
    struct group_entry *entry = &memory->control->groups[sub->of.group];
    sub->n_events = 0;
    member_say_alive(sub, now_ns);
    if (!group_is_live(memory, sub->of.group) ||
        atomic_load_explicit(&entry->members[sub->member].owner, memory_order_acquire) != sub->owner)
        return error_set(err, EVBUS_ENOTFOUND, "group %s has been removed", sub->of.name);
    uint32_t changes = group_changes(memory, sub->of.group);
    if (changes != sub->changes) {
        int rc = memory_map_new_logs(memory, err);
        if (rc == EVBUS_OK)
            rc = member_make_shares(sub, err);
        if (rc != EVBUS_OK)
            return rc;
        if ((rc = member_read_settings(sub, err)) != EVBUS_OK)
            return rc;
        sub->is_settled = false;
    }
    sub->changes = changes;
    /* Without a keeper nobody buries the dead, which would tell us: so look anyway, now and then. */
    if (!sub->is_settled || sub->of.retry->handler_timeout_ns != 0 || now_ns >= sub->looked_ns + LOOK_NS) {
        sub->looked_ns = now_ns;
        return share_fairly(sub, now_ns, err);
    }
    return EVBUS_OK;
}

/* The thread that calls becomes the lease thread: the one that has the group's leases under its slot. */
int member_check_thread(struct evbus_subscription *sub, struct error *err)
{
    struct bus_thread *thread;
    int rc = bus_check(sub->bus, err);
    if (rc == EVBUS_OK)
        rc = bus_thread(sub->bus, &thread, err);
    if (rc != EVBUS_OK || thread->number == sub->thread_number)
        return rc;
    for (struct hand *hand = sub->hands; hand != NULL; hand = hand->next)
        if (atomic_load_explicit(&hand->item.is_used, memory_order_acquire))
            return error_set(err, EVBUS_EBUSY,
                             "another thread has received events of group %s and not finished them yet", sub->of.name);
    if (sub->thread_number != 0) { /* the leases are that thread's */
        for (size_t i = 0; i < sub->n_shares; i++)
            if (sub->shares[i]->held)
                share_give(sub->shares[i]);
        group_leave(&sub->bus->memory, sub->of.group, sub->member, sub->owner);
    }
    sub->thread_number = 0;
    sub->thread = thread;
    sub->of.slot = thread->claim.slot;
    sub->of.claim = &thread->claim;
    sub->is_settled = false;
    rc = group_join(&sub->bus->memory, sub->of.group, sub->of.slot, sub->takes, &sub->member, &sub->owner, err);
    if (rc == EVBUS_OK) {
        sub->thread_number = thread->number;
        sub->of.place = sub->member;
        sub->of.owner = sub->owner;
    }
    return rc == EVBUS_ENOTFOUND ? error_set(err, rc, "group %s has been removed", sub->of.name) : rc;
}
