/* replay.c: dead letters are replayed, or discarded.
 *
 *   who      one at a time, who has the hold `settler`; a dead holder's is taken [P13]
 *   order    what one before has left is completed: the log of replays is read, and each replay of a letter that is open, from the
 *            letter's own position on and of a number that is not on the record, gets its resolution
 *            then up to BATCH letters: each one's replay on <namespace>.replay.<group>, with its number and the position of its letter;
 *            where there is a journal, all of them on disk; then each one's resolution (SETTLED) on the log of dead letters
 *            behind it all: the log of dead letters need not keep what lies before the first open letter
 *
 * Why that is enough. A letter is replayed when its replay is committed; that it is on the record is only told later, by whoever comes
 * next if we are killed, before he replays anything. So nothing is replayed twice, and nothing is taken for replayed that is not: a
 * resolution on disk stands behind a replay on disk, so a power cut cannot leave the one without the other [J3].
 * A letter is not touched while its entry says DEAD: until its word has moved on it could be published once more, behind its
 * resolution [P10]. A number counts up per letter, and a replay names the letter's position: one of an earlier death (the group was moved
 * back since) completes nothing. A resolution closes only what died before its replay (letters.c).
 * Letters go in the order of their events' positions, all replays of a group have one partition, and a group holds keys there as anywhere:
 * so those of one key are handled one after the other, in that order.
 * A letter whose entry is parked is replayed where it stands: its resolution says so, and whoever has the lease, or takes it later,
 * reads that (gaps.c) and moves the word on (one that is damaged there goes by the log of replays: its letter has it still). So nobody
 * but the holder writes it, and a kill in between leaves nothing to be mended.
 * Without a journal the log of dead letters may be full of them, and then has no room for a resolution either: then its low moves behind
 * the letters that have been replayed first. Killed in between, their replays are all that tells of them; nothing is lost but the
 * record. Nobody's replay waits for an absent group: its cursor is moved over what is not its own (see pass_by).
 * Rules P10 P13. Checked by tests/unit/test_letters.c, tests/crash/test_replay.c. */
#include "burial.h"
#include "clock.h"
#include "deadletters.h"
#include "group.h"
#include "hold.h"
#include "json.h"
#include "lease.h"
#include "pending.h"
#include "point.h"
#include "slot.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define BATCH    64
#define SLICE_NS (50 * CLOCK_NS_PER_MS) /* between two looks whether we are to stop */

/* A letter whose replay is committed, and what its resolution will say. */
struct replayed {
    struct letters_row *row;
    uint32_t n;
    char group[SERVICE_BYTES];
    char topic[NAME_BYTES];
    char log[NAME_BYTES];
    uint32_t partition;
    uint64_t position;
    char key[FRAME_KEY_MAX];
    uint8_t key_len;
    uint32_t key_hash;
};

struct run {
    struct evbus *bus;
    struct memory *memory;
    struct claim *claim; /* NULL: a dry run */
    struct memory_log *replays;
    struct evbus_settle_options options;
    int (*each)(void *context, const struct evbus_dead_letter *letter);
    void *context;
    struct evbus_settle_result result;
    struct deadletters *look;
    uint64_t *buffer; /* a replay's frame */
    struct area area;
    struct settled settled;
    struct replayed batch[BATCH];
    size_t n_batch;
    uint64_t batch_pos, batch_end; /* of the log of replays */
    uint64_t record_end;           /* of the log of dead letters; 0: we have written nothing */
    uint64_t next_ns;              /* no replay before it: the rate */
    bool is_on_disk;               /* what others have replayed */
    struct error *err;
};

static bool is_stopped(struct run *run)
{
    if (run->options.stop != NULL && run->options.stop(run->context))
        run->result.is_stopped = true;
    return run->result.is_stopped;
}

/* --- letters and their entries ------------------------------------------------------------------------------------------ */

/* The group of a topic of dead letters. */
static void group_of(const struct run *run, uint16_t topic, char out[SERVICE_BYTES])
{
    char name[NAME_BYTES] = "";
    size_t front = strlen(run->look->log->name) + 1;
    out[0] = '\0';
    if (topic >= 1 && topic <= TOPICS_MAX)
        memcpy(name, run->look->log->head->topics[topic - 1], sizeof name - 1);
    if (strlen(name) > front && strlen(name) - front < SERVICE_BYTES)
        memcpy(out, name + front, strlen(name) - front + 1);
}

/* The log where the entry that died is. NULL: the bus has it no more. */
static const struct memory_log *log_of(const struct run *run, const struct letters_row *row, uint32_t *out_partition)
{
    const struct memory_log *log = row->n_dead > 0                         ? run->replays
                                   : row->log < memory_n_logs(run->memory) ? &run->memory->logs[row->log]
                                                                           : NULL;
    *out_partition = row->n_dead > 0 ? 0 : row->partition;
    return log != NULL && *out_partition < log->n_partitions ? log : NULL;
}

/* What the entry that died says now; EMPTY: nothing any more. DEAD: whoever has the lease could publish its letter once more. PARKED: its
 * key waits behind it, and it is replayed where it stands. */
static enum pending_state state_of(const struct run *run, const struct letters_row *row, uint32_t group)
{
    uint32_t partition;
    const struct memory_log *log = log_of(run, row, &partition);
    if (group == GROUP_NONE || log == NULL)
        return PENDING_EMPTY;
    const struct group_part *part = memory_part(log, partition, group);
    uint64_t cursor = pending_cursor(part);
    for (uint32_t i = 0; i < PENDING_MAX; i++) {
        struct pending found = pending_load(part, i, cursor);
        if ((found.state == PENDING_DEAD || found.state == PENDING_PARKED) && found.pos == row->entry)
            return found.state;
    }
    return PENDING_EMPTY;
}

/* Can what is parked be replayed where it stands? Not where it is damaged: its letter has it still. */
static bool is_readable(const struct run *run, const struct letters_row *row)
{
    uint32_t partition;
    const struct memory_log *log = log_of(run, row, &partition);
    struct partition_past *past = NULL;
    struct frame frame;
    uint64_t next;
    int found = log != NULL
                    ? partition_fetch(&past, run->memory, &log->rings[partition], row->entry, run->buffer, &next, NULL)
                    : PARTITION_LOST;
    partition_past_close(past);
    return found != PARTITION_LOST && (found != PARTITION_FRAME || frame_parse(run->buffer, &frame, NULL) == EVBUS_OK);
}

/* --- one resolution ------------------------------------------------------------------------------------------------------ */

/* Its entry is parked: whoever has the lease has not read yet how it was settled. */
static bool is_waited_for(const struct run *run, const struct letters_row *row)
{
    char group[SERVICE_BYTES];
    group_of(run, row->topic, group);
    return state_of(run, row, group_find(run->memory, group)) == PENDING_PARKED;
}

/* Nothing before the first letter that is open need be kept any more. is_full: nor what tells a member how what it has parked was settled;
 * it tries that again (share.c). */
static void move_low(struct run *run, bool is_full)
{
    const struct letters *letters = &run->look->letters;
    struct ring *ring = &run->look->log->rings[0];
    uint64_t low = letters->end;
    for (size_t i = 0; i < letters->n; i++)
        if (letters->rows[i].is_open && letters->rows[i].opened < low)
            low = letters->rows[i].opened;
    for (size_t i = 0; i < letters->n && !is_full; i++) {
        const struct letters_row *row = &letters->rows[i];
        uint64_t from = row->pos != LETTERS_NONE ? row->opened : row->settled;
        if (!row->is_open && from < low && is_waited_for(run, row))
            low = from;
    }
    if (low + 1 > LOW_BEHIND(atomic_load_explicit(&ring->head->lows[0], memory_order_acquire)))
        ring_pin_move(ring, 0, low, true);
}

static int settle(struct run *run, const struct replayed *replayed, enum settled_what what, uint64_t letter)
{
    struct letters_row *row = replayed->row;
    struct frame event = {.key = replayed->key, .key_len = replayed->key_len, .key_hash = replayed->key_hash};
    struct deadletter of = {.topic_id = row->topic,
                            .group_name = replayed->group,
                            .topic = replayed->topic,
                            .log = replayed->log,
                            .partition = replayed->partition,
                            .position = replayed->position,
                            .n_replays = replayed->n,
                            .event = &event};
    uint64_t pos;
    run->settled.at_ns = clock_wall_ns();
    run->settled.what = what;
    run->settled.n = replayed->n;
    run->settled.letter = letter;
    int rc = settled_publish(run->memory, run->claim, &of, row->id, &run->settled, &pos, &run->record_end, run->err);
    bool was_open = row->is_open;
    row->is_open = row->is_open && what == SETTLED_REPLAYED && row->n_dead >= replayed->n;
    if (rc == EVBUS_EFULL) {
        move_low(run, true);
        rc = settled_publish(run->memory, run->claim, &of, row->id, &run->settled, &pos, &run->record_end, run->err);
    }
    if (rc != EVBUS_OK) {
        row->is_open = was_open;
        return rc;
    }
    row->n_settled = replayed->n;
    row->n_replays = row->n_replays < replayed->n ? replayed->n : row->n_replays;
    row->is_discarded = what == SETTLED_DISCARDED;
    row->settled = pos;
    return EVBUS_OK;
}

static int await_disk(struct run *run, struct memory_log *log, uint64_t pos, uint64_t end)
{
    struct ring *ring = &log->rings[0];
    return ring->has_journal && end > 0 ? partition_await_disk(run->memory, ring, pos, end, false, run->err) : EVBUS_OK;
}

/* All of the batch on disk, then on the record. */
static int flush(struct run *run)
{
    int rc = run->n_batch > 0 ? await_disk(run, run->replays, run->batch_pos, run->batch_end) : EVBUS_OK;
    for (size_t i = 0; i < run->n_batch && rc == EVBUS_OK; i++)
        rc = settle(run, &run->batch[i], SETTLED_REPLAYED, run->batch[i].row->pos);
    run->n_batch = 0;
    return rc;
}

/* --- what one before has left -------------------------------------------------------------------------------------------- */

static int complete(void *context, uint64_t pos, const uint64_t *cells)
{
    struct run *run = context;
    struct frame frame;
    struct area_source source;
    (void)pos;
    if (frame_parse(cells, &frame, NULL) != EVBUS_OK || frame.kind != FRAME_EVENT ||
        (frame.flags & FRAME_REPLAY) == 0 || !area_source(&frame, &source))
        return EVBUS_OK;
    struct letters_row *row = letters_find(&run->look->letters, source.letter);
    uint64_t letter = area_number(&frame, AREA_LETTER);
    if (row == NULL || !row->is_open || letter < row->opened || source.n_replays <= row->n_settled)
        return EVBUS_OK;
    struct replayed replayed = {.row = row,
                                .n = source.n_replays,
                                .partition = source.partition,
                                .position = source.position,
                                .key_len = frame.key_len,
                                .key_hash = frame.key_hash};
    group_of(run, row->topic, replayed.group);
    area_text(&frame, AREA_TOPIC, replayed.topic, sizeof replayed.topic);
    memcpy(replayed.log, source.log, sizeof replayed.log);
    memcpy(replayed.key, frame.key, frame.key_len);
    run->result.n_completed++;
    if (run->claim == NULL) { /* as the record will say */
        row->is_open = row->n_dead >= replayed.n;
        row->n_settled = replayed.n;
        row->n_replays = row->n_replays < replayed.n ? replayed.n : row->n_replays;
        return EVBUS_OK;
    }
    int rc = EVBUS_OK;
    if (!run->is_on_disk)
        rc = await_disk(run, run->replays, pos, ring_tail(&run->replays->rings[0]));
    run->is_on_disk = rc == EVBUS_OK;
    return rc == EVBUS_OK ? settle(run, &replayed, SETTLED_REPLAYED, letter) : rc;
}

static int complete_all(struct run *run)
{
    struct ring *ring = &run->replays->rings[0];
    uint64_t end;
    uint64_t *buffer = malloc((size_t)LETTER_CELLS_MAX * CELL_BYTES);
    const char *reason = run->options.reason;
    snprintf(run->settled.reason, sizeof run->settled.reason, "%s",
             "put on the record by the run behind the one that replayed it");
    int rc = buffer != NULL ? letters_walk(run->memory, ring, ring_oldest(ring), buffer, complete, run, &end, run->err)
                            : error_no_memory(run->err, "a replay");
    snprintf(run->settled.reason, sizeof run->settled.reason, "%s", reason != NULL ? reason : "");
    free(buffer);
    return rc;
}

/* --- one replay ---------------------------------------------------------------------------------------------------------- */

/* Why nothing is done about a letter now; NULL: it can be. */
static const char *is_refused(const struct run *run, const struct letters_row *row, enum settled_what what,
                              uint32_t group, enum pending_state state)
{
    if (state == PENDING_DEAD)
        return "its group is not done with it yet: a member will be";
    if (what == SETTLED_DISCARDED)
        return NULL;
    if (run->look->letter.stream[0] != '\0')
        return "it is no event, but an entry at the broker: put it right there (XADD it anew), and discard this letter";
    if (group == GROUP_NONE)
        return "its group is not there any more: nobody would hear it";
    if (row->n_replays >= DEADLETTERS_REPLAYS_MAX && !run->options.force)
        return "it has been replayed 3 times already: --force replays it again";
    return NULL;
}

static void describe(const struct run *run, struct letters_row *row, uint32_t n, struct replayed *out)
{
    const struct letter *letter = &run->look->letter;
    *out = (struct replayed){.row = row,
                             .n = n,
                             .partition = letter->partition,
                             .position = letter->position,
                             .key_len = letter->event.key_len,
                             .key_hash = letter->event.key_hash};
    memcpy(out->group, letter->group, sizeof out->group);
    memcpy(out->topic, letter->topic, sizeof out->topic);
    memcpy(out->log, letter->log, sizeof out->log);
    if (letter->event.key_len > 0)
        memcpy(out->key, letter->event.key, letter->event.key_len);
}

/* An absent group that has come to the log of replays before us would hold its ring: what is not its own it needs not read. */
static void pass_by(const struct run *run, uint32_t group)
{
    struct ring *ring = &run->replays->rings[0];
    struct group_part *part = memory_part(run->replays, 0, group);
    struct partition_past *past = NULL;
    uint16_t epoch;
    uint32_t slot = run->claim->slot;
    uint32_t slots[MEMBERS_MAX];
    uint64_t *buffer = malloc((size_t)LETTER_CELLS_MAX * CELL_BYTES);
    const struct frame_header *header = (const struct frame_header *)buffer;
    if (buffer == NULL || !group_is_live(run->memory, group) || group_members(run->memory, group, slots) > 0 ||
        !lease_take(part, run->memory->control->slots, slot, 0, &epoch)) {
        free(buffer);
        return;
    }
    struct topic_set topics = group_topics(run->replays, group);
    uint64_t from = pending_cursor(part), pos = from, next;
    for (;;) {
        int found = partition_fetch(&past, run->memory, ring, pos, buffer, &next, NULL);
        bool is_own = found == PARTITION_FRAME && header->kind == FRAME_EVENT && header->topic >= 1 &&
                      header->topic <= TOPICS_MAX && topic_set_has(&topics, header->topic);
        if (found < 0 || found == PARTITION_NOTHING || is_own || next <= pos)
            break;
        pos = next;
    }
    partition_past_close(past);
    free(buffer);
    if (pos > from)
        pending_move_cursor(part, epoch, from, pos);
    ring_stamp_low(ring, group_low_index(group), epoch);
    if (lease_is_held(part, epoch, slot)) /* behind the stamp, as in share_tell_low() */
        ring_move_low(ring, group_low_index(group), epoch, pending_low(part), true);
    lease_give(part, epoch, slot);
}

/* Waits for room as a publish does, but so that we can be told to stop. */
static int append(struct run *run, uint32_t n_cells, uint64_t *out_pos)
{
    struct ring *ring = &run->replays->rings[0];
    uint64_t until = clock_deadline(clock_real_ns(), run->options.timeout_ns);
    for (bool is_first = true;; is_first = false) {
        struct partition_wait wait = {.timeout_ns = is_first ? 0 : SLICE_NS, .memory = run->memory};
        int rc = partition_append(ring, run->claim, run->buffer, n_cells, &wait, out_pos, run->err);
        if (rc != EVBUS_EFULL)
            return rc;
        if (is_first) {
            if ((rc = flush(run)) != EVBUS_OK)
                return rc;
            for (uint32_t g = 0; g < GROUPS_MAX; g++)
                pass_by(run, g);
        } else if (clock_real_ns() >= until || is_stopped(run)) {
            return EVBUS_EFULL;
        }
    }
}

static int publish(struct run *run, uint32_t group, const struct replayed *replayed)
{
    struct letter *letter = &run->look->letter;
    struct letters_row *row = replayed->row;
    struct deadletter of = {.topic = replayed->topic,
                            .log = replayed->log,
                            .partition = replayed->partition,
                            .position = replayed->position,
                            .n_replays = replayed->n};
    uint64_t pos;
    deadletter_area(&of, row->id, &run->area);
    area_add(&run->area, AREA_LETTER, &row->pos, sizeof row->pos);
    area_add_own(&run->area, &run->look->frame);
    letter->event.flags = FRAME_REPLAY;
    letter->event.topic = (uint16_t)run->memory->control->groups[group].replay_topic;
    letter->event.area = run->area.bytes;
    letter->event.area_len = (uint16_t)run->area.len;
    uint32_t n_cells = frame_cells_of(&letter->event);
    if (n_cells == 0 || n_cells > run->replays->rings[0].frame_cells_max)
        return error_set(run->err, EVBUS_EINVAL, "the event of a dead letter, %u cells, fits no frame of %s", n_cells,
                         run->replays->name);
    frame_build(&letter->event, run->buffer);
    int rc = append(run, n_cells, &pos);
    if (rc != EVBUS_OK)
        return rc;
    partition_wake(run->memory, run->replays, &run->replays->rings[0], letter->event.topic, pos);
    if (run->n_batch == 0)
        run->batch_pos = pos;
    run->batch_end = pos + n_cells;
    run->batch[run->n_batch++] = *replayed;
    return EVBUS_OK;
}

/* No faster than the rate. What is replayed by then is on the record while we wait. */
static int keep_rate(struct run *run)
{
    if (run->options.rate == 0)
        return EVBUS_OK;
    uint64_t now = clock_real_ns();
    int rc = run->next_ns > now ? flush(run) : EVBUS_OK;
    while (rc == EVBUS_OK && !is_stopped(run) && (now = clock_real_ns()) < run->next_ns) {
        struct timespec left = clock_left(run->next_ns, now, SLICE_NS);
        nanosleep(&left, NULL);
        rc = bus_check_names(run->bus, now, run->err);
    }
    run->next_ns = (run->next_ns > now ? run->next_ns : now) + CLOCK_NS_PER_S / run->options.rate;
    return rc;
}

/* --- all of them --------------------------------------------------------------------------------------------------------- */

static int show(struct run *run, const char *skipped, enum evbus_dead_letter_state state)
{
    run->look->shown.skipped = skipped;
    run->look->shown.state = state;
    return run->each != NULL ? run->each(run->context, &run->look->shown) : 0;
}

static int do_one(struct run *run, struct letters_row *row, enum settled_what what)
{
    struct replayed replayed;
    bool is_meant;
    int rc = row->is_open ? deadletters_look(run->look, row, &is_meant, run->err) : EVBUS_OK;
    if (rc != EVBUS_OK || !row->is_open || !is_meant)
        return rc;
    uint32_t group = group_find(run->memory, run->look->letter.group);
    enum pending_state state = state_of(run, row, group);
    const char *refused = is_refused(run, row, what, group, state);
    if (refused != NULL) {
        run->result.n_skipped++;
        return show(run, refused, run->look->shown.state);
    }
    if (run->claim == NULL) {
        run->result.n_done++;
        return show(run, NULL, run->look->shown.state);
    }
    if (what == SETTLED_REPLAYED && ((rc = keep_rate(run)) != EVBUS_OK || run->result.is_stopped))
        return rc;
    uint32_t n = row->n_replays + (what == SETTLED_REPLAYED);
    describe(run, row, n, &replayed);
    if (what == SETTLED_REPLAYED && (state != PENDING_PARKED || !is_readable(run, row)))
        rc = publish(run, group, &replayed);
    else
        rc = settle(run, &replayed, what, row->pos);
    if (state == PENDING_PARKED && rc == EVBUS_OK)
        group_tell_members(run->memory,
                           group); /* who has the lease sees what was settled, and goes on (share_dead.c) */
    if (rc == EVBUS_EFULL && run->result.is_stopped)
        return EVBUS_OK;
    if (rc != EVBUS_OK)
        return rc;
    run->result.n_done++;
    run->look->shown.n_replays = n;
    rc = show(run, NULL, what == SETTLED_REPLAYED ? EVBUS_LETTER_REPLAYED : EVBUS_LETTER_DISCARDED);
    bool is_full = run->n_batch == BATCH || !run->replays->rings[0].has_journal;
    int flushed = is_full ? flush(run) : EVBUS_OK;
    return rc != 0 ? rc : flushed;
}

static int by_position(const void *a, const void *b)
{
    const struct letters_row *left = *(struct letters_row *const *)a;
    const struct letters_row *right = *(struct letters_row *const *)b;
    if (left->log != right->log)
        return left->log < right->log ? -1 : 1;
    if (left->partition != right->partition)
        return left->partition < right->partition ? -1 : 1;
    if (left->position != right->position)
        return left->position < right->position ? -1 : 1;
    return left->topic < right->topic ? -1 : left->topic > right->topic;
}

static int do_all(struct run *run, enum settled_what what)
{
    struct letters *letters = &run->look->letters;
    struct letters_row **order = malloc((letters->n + 1) * sizeof(struct letters_row *));
    if (order == NULL)
        return error_no_memory(run->err, "%zu dead letters", letters->n);
    for (size_t i = 0; i < letters->n; i++)
        order[i] = &letters->rows[i];
    qsort(order, letters->n, sizeof(struct letters_row *), by_position);
    int rc = EVBUS_OK;
    for (size_t i = 0; i < letters->n && rc == EVBUS_OK && !run->result.is_stopped; i++) {
        if (!order[i]->is_open || is_stopped(run))
            continue;
        if (run->options.max != 0 && run->result.n_done >= run->options.max)
            run->result.is_stopped = true;
        else
            rc = do_one(run, order[i], what);
    }
    free(order);
    struct error why = *run->err;
    int flushed = flush(run); /* also what was replayed before something failed */
    if (rc == EVBUS_OK)
        rc = flushed;
    else
        *run->err = why;
    if (run->claim != NULL)
        move_low(run, false);
    if (rc == EVBUS_OK && run->record_end != 0)
        rc = await_disk(run, run->look->log, run->record_end - 1, run->record_end);
    return rc;
}

static int refuse_for(const struct run *run, uint32_t slot)
{
    const struct slot *holder = &run->memory->control->slots[slot <= SLOTS_MAX ? slot : 0];
    char service[SERVICE_BYTES] = "";
    memcpy(service, holder->service, sizeof service - 1);
    return error_set(
        run->err, EVBUS_EBUSY,
        "bus %s: %s (process %d) replays or discards dead letters: one at a time; where it is stopped, end "
        "it, and what it has replayed is not replayed again",
        run->memory->bus, service[0] != '\0' ? service : "somebody",
        atomic_load_explicit(&holder->pid, memory_order_relaxed));
}

static int take_hold(struct run *run)
{
    _Atomic uint32_t *settler = &run->memory->control->settler;
    struct bus_thread *thread;
    int rc = bus_thread(run->bus, &thread, run->err);
    if (rc != EVBUS_OK)
        return rc;
    uint32_t slot = thread->claim.slot;
    if (!hold_take(settler, run->memory->control->slots, slot)) {
        uint32_t holder = hold_slot(settler);
        burial_ask_one(run->memory, holder); /* the kernel may not have told its end */
        if (!hold_take(settler, run->memory->control->slots, slot))
            return refuse_for(run, holder);
    }
    run->claim = &thread->claim;
    return EVBUS_OK;
}

static int check(const struct evbus_settle_options *options, struct error *err)
{
    size_t len = options->reason != NULL ? strlen(options->reason) : 0;
    if (len > SETTLED_REASON_MAX || !json_is_utf8(options->reason, len))
        return error_set(err, EVBUS_EINVAL, "options.reason must be at most %d bytes of UTF-8", SETTLED_REASON_MAX);
    return EVBUS_OK;
}

static int run_as(struct run *run, enum settled_what what)
{
    int rc = check(&run->options, run->err);
    if (rc == EVBUS_OK)
        rc = memory_map_new_logs(run->memory, run->err);
    if (rc == EVBUS_OK && (run->replays = memory_internal_log(run->memory, MEMORY_REPLAY_LOG)) == NULL)
        rc = error_set(run->err, EVBUS_ECORRUPT, "bus %s has lost its log of replays; run `evbus doctor`",
                       run->memory->bus);
    if (rc == EVBUS_OK && (run->buffer = malloc((size_t)LETTER_CELLS_MAX * CELL_BYTES)) == NULL)
        rc = error_no_memory(run->err, "a replay");
    if (rc == EVBUS_OK && !run->options.dry_run)
        rc = take_hold(run);
    if (rc != EVBUS_OK)
        return rc;
    settled_by_us(run->bus->service, &run->settled); /* once: a user's name may be asked for far away */
    rc = deadletters_begin(&run->look, run->bus, run->options.filter, run->err);
    if (rc == EVBUS_OK)
        rc = complete_all(run);
    if (rc == EVBUS_OK)
        rc = do_all(run, what);
    if (run->claim != NULL)
        hold_leave(&run->memory->control->settler, run->claim->slot);
    deadletters_end(run->look);
    return rc;
}

static int settle_all(struct evbus *bus, const struct evbus_settle_options *given,
                      int (*each)(void *context, const struct evbus_dead_letter *letter), void *context,
                      struct evbus_settle_result *out, enum settled_what what)
{
    struct error *err = error_of_thread();
    int rc = bus_check(bus, err);
    if (rc == EVBUS_OK && out != NULL && out->size > 4096)
        rc = error_set(err, EVBUS_EINVAL, "result.size must be sizeof the struct, or 0");
    if (rc != EVBUS_OK)
        return rc;
    struct run *run = calloc(1, sizeof *run);
    if (run == NULL)
        return error_no_memory(err, "a replay");
    run->bus = bus;
    run->memory = &bus->memory;
    run->each = each;
    run->context = context;
    run->err = err;
    run->result.size = sizeof run->result;
    if (given != NULL)
        rc = bus_take_struct(&run->options, sizeof run->options, given, given->size, "struct evbus_settle_options",
                             err);
    if (rc == EVBUS_OK)
        rc = run_as(run, what);
    if (out != NULL) {
        size_t size = out->size != 0 && out->size < sizeof run->result ? out->size : sizeof run->result;
        size_t was = out->size;
        memcpy(out, &run->result, size);
        out->size = was;
    }
    free(run->buffer);
    free(run);
    return rc;
}

EVBUS_API int evbus_dead_letters_replay(struct evbus *bus, const struct evbus_settle_options *options,
                                        int (*each)(void *context, const struct evbus_dead_letter *letter),
                                        void *context, struct evbus_settle_result *result)
{
    return settle_all(bus, options, each, context, result, SETTLED_REPLAYED);
}

EVBUS_API int evbus_dead_letters_discard(struct evbus *bus, const struct evbus_settle_options *options,
                                         int (*each)(void *context, const struct evbus_dead_letter *letter),
                                         void *context, struct evbus_settle_result *result)
{
    return settle_all(bus, options, each, context, result, SETTLED_DISCARDED);
}
