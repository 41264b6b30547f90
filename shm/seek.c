/* seek.c: a group goes back, or on, to another position.
 *
 *   who      one at a time, who has the admin's hold; in each partition it is the lease's holder, as any member is
 *   order    leases of all partitions. In each: low pinned at the oldest that is kept [P11], then the target is looked for. What would
 *            be lost is known now, and does not change any more: refused, or
 *            in each: CAS seek {0, e} -> {target + 1, e}; take the lease from ourselves, e + 1, which finishes it (lease.c): entries
 *            emptied, cursor, start, seek {0, e + 1}
 *            in each: low to what is needed, lease given; then the members are told
 *
 * Why that is enough. Until `seek` is set nothing has changed but the low, which keeps too much: the next holder moves it on. From
 * then on the seek is done for everybody, whoever dies: who takes the lease next finishes it before he looks at cursor or entries,
 * and our own way through is the same code, so there is one order and each test of a seek tests it [P12]. The low is pinned before
 * the target is promised, and moved behind the cursor: so nothing from the target on is released or retired [P11, R8].
 * A member that lives is fenced by the first lease: it stores by CAS with its epoch, and every one fails; a low that it tells late
 * fails, too, since it looks at its lease between its stamp and its store (share_tell_low). What its handlers have in hand then is
 * finished by nobody (EVBUS_EFENCED) and may come again beside them. It takes the lease again by its next round.
 * Partitions are moved one after the other: killed half way, some are moved and some are not, each of them whole.
 * A saved state is of before or behind it, never in the middle: pending.c, saved.c.
 * [keeps ORDER] Rules P11 P12. Checked by tests/unit/test_seek.c, tests/crash/test_seek.c. */
#include "seek.h"

#include "partition.h"
#include "slot.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define NOTHING_HELD UINT32_MAX /* more than any epoch */
#define TRIES_MAX    100        /* at a lease that goes from hand to hand */

static struct group_part *part_of(const struct seek_part *part, uint32_t group)
{
    return memory_part(part->log, part->partition, group);
}

static struct ring *ring_of(const struct seek_part *part)
{
    return &part->log->rings[part->partition];
}

/* --- which partitions, and where to --------------------------------------------------------------------------------- */

static int list(struct memory *memory, const struct seek_plan *plan, struct seek_part **out_parts, size_t *out_n,
                struct error *err)
{
    const char *name = memory->control->groups[plan->group].name;
    size_t n = 0;
    struct seek_part *parts = calloc((size_t)LOGS_MAX * PARTITIONS_MAX, sizeof *parts);
    if (parts == NULL)
        return error_no_memory(err, "the partitions of a group");
    for (uint32_t l = 0; l < memory_n_logs(memory); l++) {
        struct memory_log *log = &memory->logs[l];
        struct topic_set topics = group_topics(log, plan->group);
        if (topic_set_is_empty(&topics) || (plan->log != NULL && strcmp(plan->log, log->name) != 0))
            continue;
        if (plan->log == NULL && memory_is_internal(log)) /* replays: what comes again comes from its own log */
            continue;
        if (plan->has_partition && plan->partition >= log->n_partitions) {
            free(parts);
            return error_set(err, EVBUS_EINVAL, "log %s has partitions 0..%u, not %u", log->name, log->n_partitions - 1,
                             plan->partition);
        }
        for (uint32_t p = 0; p < log->n_partitions; p++)
            if (!plan->has_partition || plan->partition == p)
                parts[n++] = (struct seek_part){.log = log, .partition = p, .epoch = NOTHING_HELD};
    }
    if (n == 0) {
        free(parts);
        return plan->log != NULL
                   ? error_set(err, EVBUS_ENOTFOUND,
                               "group %.63s receives nothing of log %.127s; `evbus group show %.63s` lists its topics",
                               name, plan->log, name)
                   : error_set(err, EVBUS_ENOTFOUND, "group %.63s receives no topic", name);
    }
    *out_parts = parts;
    *out_n = n;
    return EVBUS_OK;
}

/* What it has here, and where it is to go, of what is kept from `oldest` on. */
static int find(const struct memory *memory, const struct seek_plan *plan, struct seek_part *part, uint64_t oldest,
                struct error *err)
{
    const struct ring *ring = ring_of(part);
    struct pending_view view;
    pending_look(part_of(part, plan->group), &view);
    uint64_t tail = ring_tail(ring);
    uint64_t to = plan->to == EVBUS_FROM_LATEST || oldest > tail ? tail : oldest;
    int rc = EVBUS_OK;
    if (plan->to == EVBUS_FROM_POSITION && plan->value > tail)
        return error_set(err, EVBUS_EINVAL, "%s/%u@%" PRIu64 " is beyond its tail, which is %" PRIu64, ring->name,
                         ring->partition, plan->value, tail);
    part->is_oldest = plan->to == EVBUS_FROM_POSITION && plan->value < oldest;
    if (plan->to == EVBUS_FROM_TIME)
        rc = partition_first(memory, ring, to, plan->value, UINT64_MAX, &to, err);
    if (plan->to == EVBUS_FROM_POSITION && plan->value > to) /* it may point into a frame */
        rc = partition_first(memory, ring, to, UINT64_MAX, plan->value, &to, err);
    part->from = view.cursor;
    part->to = to;
    part->cells = to > view.cursor ? ring_cells_between(ring, view.cursor, to)
                                   : ring_cells_between(ring, to, view.cursor);
    part->n_in_hand = part->n_dropped = 0;
    for (uint32_t i = 0; i < PENDING_MAX; i++) {
        struct pending found = pending_unpack(view.words[i], view.cursor);
        bool is_in_hand = found.state != PENDING_EMPTY && found.pos < view.cursor;
        part->n_in_hand += is_in_hand;
        part->n_dropped += is_in_hand && found.pos < to;
    }
    return rc;
}

int seek_look(struct memory *memory, const struct seek_plan *plan, struct seek_part **out_parts, size_t *out_n,
              struct error *err)
{
    struct seek_part *parts;
    size_t n;
    int rc = list(memory, plan, &parts, &n, err);
    if (rc != EVBUS_OK)
        return rc;
    for (size_t i = 0; i < n && rc == EVBUS_OK; i++)
        rc = find(memory, plan, &parts[i], ring_oldest(ring_of(&parts[i])), err);
    if (rc != EVBUS_OK) {
        free(parts);
        return rc;
    }
    *out_parts = parts;
    *out_n = n;
    return EVBUS_OK;
}

/* --- who may -------------------------------------------------------------------------------------------------------- */

static int refuse_for(const struct memory *memory, const struct seek_plan *plan, uint32_t slot, uint32_t n,
                      struct error *err)
{
    const char *name = memory->control->groups[plan->group].name;
    const struct slot *member = &memory->control->slots[slot];
    char service[SERVICE_BYTES] = "";
    memcpy(service, member->service, sizeof service - 1);
    return error_set(
        err, EVBUS_EBUSY,
        "group %.63s has %u living member%s, %s%s (process %d): stop %s first, or take its partitions away "
        "(--force), and what is in its handlers comes again",
        name, n, n == 1 ? "" : "s", n == 1 ? "" : "one is ", service[0] != '\0' ? service : "-",
        atomic_load_explicit(&member->pid, memory_order_relaxed), n == 1 ? "it" : "them");
}

/* What is not done and would never come. */
static int check_loss(const struct memory *memory, const struct seek_plan *plan, const struct seek_part *parts,
                      size_t n, struct error *err)
{
    uint64_t cells = 0;
    uint32_t n_dropped = 0;
    for (size_t i = 0; i < n; i++) {
        cells += parts[i].to > parts[i].from ? parts[i].cells : 0;
        n_dropped += parts[i].n_dropped;
    }
    if (plan->force || (cells == 0 && n_dropped == 0))
        return EVBUS_OK;
    return error_set(
        err, EVBUS_EBUSY,
        "group %.63s has not done what it would skip: %" PRIu64
        " cells that it has not taken, and %u events in hand, with what waits behind them: let a member do "
        "them first, or skip them (--force); --dry-run shows each partition",
        memory->control->groups[plan->group].name, cells, n_dropped);
}

/* --- the move ------------------------------------------------------------------------------------------------------- */

/* The lease, from nobody, the dead or ourselves; with force from whoever has it. */
static bool hold(const struct memory *memory, const struct seek_plan *plan, struct seek_part *part, uint32_t slot)
{
    struct group_part *shared = part_of(part, plan->group);
    for (int i = 0; i < TRIES_MAX; i++) {
        uint16_t epoch;
        uint32_t holder = lease_holder(shared);
        uint32_t from = plan->force || (holder == slot && part->epoch != NOTHING_HELD) ? holder : 0;
        if (lease_take(shared, memory->control->slots, slot, from, &epoch)) {
            part->epoch = epoch;
            return true;
        }
        if (from == 0 && holder != 0 && !slot_is_dead(&memory->control->slots[holder]))
            return false;
    }
    return false;
}

static int hold_all(const struct memory *memory, uint32_t slot, const struct seek_plan *plan, struct seek_part *parts,
                    size_t n, struct error *err)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t slots[MEMBERS_MAX];
        if (hold(memory, plan, &parts[i], slot))
            continue;
        uint32_t n_members = group_members(memory, plan->group, slots);
        return !plan->force && n_members > 0
                   ? refuse_for(memory, plan, slots[0], n_members, err)
                   : error_set(err, EVBUS_EBUSY, "%s/%u is taken by one after the other: try again", parts[i].log->name,
                               parts[i].partition);
    }
    return EVBUS_OK;
}

static int find_all(const struct memory *memory, const struct seek_plan *plan, struct seek_part *parts, size_t n,
                    struct error *err)
{
    int rc = EVBUS_OK;
    for (size_t i = 0; i < n && rc == EVBUS_OK; i++)
        rc = find(memory, plan, &parts[i], ring_pin(ring_of(&parts[i]), group_low_index(plan->group), 0), err);
    return rc;
}

/* From the CAS on it is done, whoever finishes it. false: the lease was taken from us before. */
static bool move(const struct memory *memory, const struct seek_plan *plan, struct seek_part *part, uint32_t slot)
{
    struct group_part *shared = part_of(part, plan->group);
    for (int i = 0; i < TRIES_MAX; i++) {
        uint64_t none = SEEK_NONE(part->epoch);
        if (atomic_compare_exchange_strong_explicit(&shared->seek, &none, SEEK_WORD(part->to, part->epoch),
                                                    memory_order_acq_rel, memory_order_relaxed)) {
            hold(memory, plan, part, slot);
            return true;
        }
        if (lease_holder(shared) != slot || !hold(memory, plan, part, slot)) /* who was fenced has stamped it late */
            return false;
    }
    return false;
}

/* The low to what is needed, and the lease is anybody's. */
static void let_go(const struct seek_plan *plan, struct seek_part *part, uint32_t slot)
{
    struct group_part *shared = part_of(part, plan->group);
    uint32_t low = group_low_index(plan->group);
    if (part->epoch == NOTHING_HELD)
        return;
    ring_stamp_low(ring_of(part), low, (uint16_t)part->epoch);
    if (lease_is_held(shared, (uint16_t)part->epoch, slot)) /* behind the stamp, as in share_tell_low() */
        ring_move_low(ring_of(part), low, (uint16_t)part->epoch, pending_low(shared), true);
    lease_give(shared, (uint16_t)part->epoch, slot);
}

int seek_move(struct memory *memory, uint32_t slot, const struct seek_plan *plan, struct seek_part **out_parts,
              size_t *out_n, struct error *err)
{
    struct seek_part *parts;
    uint32_t slots[MEMBERS_MAX];
    size_t n, n_moved = 0;
    int rc = list(memory, plan, &parts, &n, err);
    if (rc != EVBUS_OK)
        return rc;
    uint32_t n_members = group_members(memory, plan->group, slots);
    if (!plan->force && n_members > 0)
        rc = refuse_for(memory, plan, slots[0], n_members, err);
    if (rc == EVBUS_OK)
        rc = hold_all(memory, slot, plan, parts, n, err);
    if (rc == EVBUS_OK)
        rc = find_all(memory, plan, parts, n, err);
    if (rc == EVBUS_OK)
        rc = check_loss(memory, plan, parts, n, err);
    while (rc == EVBUS_OK && n_moved < n && move(memory, plan, &parts[n_moved], slot))
        n_moved++;
    if (rc == EVBUS_OK && n_moved < n)
        rc = error_set(err, EVBUS_EBUSY,
                       "%s/%u was taken away while it was moved; %zu of %zu partitions have been: try again",
                       parts[n_moved].log->name, parts[n_moved].partition, n_moved, n);
    bool was_held = parts[0].epoch != NOTHING_HELD;
    for (size_t i = 0; i < n; i++)
        let_go(plan, &parts[i], slot);
    if (was_held) /* some may have come meanwhile */
        group_tell_members(memory, plan->group);
    if (rc != EVBUS_OK) {
        free(parts);
        return rc;
    }
    *out_parts = parts;
    *out_n = n;
    return EVBUS_OK;
}
