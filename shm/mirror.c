/* mirror.c: what a bridge needs of a bus: read it out in order and hold what is not out yet; bring in what happened elsewhere, once.
 *
 *   who      the leader: one of all who have opened the mirror, whose word stands in its group's `leader` (hold.c)
 *   lead     take the word: from nobody or the dead; or, where its holder has made no progress for our patience, from him.
 *            Then the leases of the group's partitions; full fence; all partitions are read up to their tails: a claim that stands in the
 *            way is cancelled as by any reader
 *   bring    publish (partition.c): claim, bytes; full fence; is the word ours? No: the claim becomes a pad. Yes: commit
 *   advance  the group's cursor by CAS with the lease's epoch, then its low
 *   save     publish on <namespace>.evbus.<group> as `bring` does; then its cursor there goes to it: so it is held, and what stood before
 *            is not
 *
 * Why that is enough. What a leader brings in must not be brought in by the next one as well, wherever he was stopped. He changes
 * nothing but by commits, and before each commit, behind its claim, he looks at the word; who takes it from him writes the word first and
 * reads what is there behind it. Both have a full fence between: so either he sees that he leads no more, and commits nothing, or his claim
 * is seen. Then it is cancelled, and his commit fails, and he claims again, and looks again; or it was committed before, and is counted.
 * So nothing is brought in before all partitions were read in this leadership [keeps FENCE]. The dead commit no more.
 * Cursor and low carry the lease's epoch, as every group's [P3]. A word comes again after four million leaders.
 * What is out is known by the broker (its marks); the group's cursor only says what need not be kept. What is in is known by the bus: its
 * frames say where they come from, and the checkpoint, which a new leader reads first, says it of those before its positions.
 * [keeps FENCE] Checked by tests/model/mirror.pml, tests/unit/test_mirror.c, tests/crash/test_mirror.c. */
#include "burial.h"
#include "bus.h"
#include "clock.h"
#include "deadletter.h"
#include "delivery.h"
#include "futex.h"
#include "group.h"
#include "hold.h"
#include "json.h"
#include "lease.h"
#include "notes.h"
#include "partition.h"
#include "provide.h"
#include "publish_batch.h"
#include "reader.h"
#include "slot.h"
#include "topic.h"

#include <evbus/mirror.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define PATIENCE_NS  (10 * CLOCK_NS_PER_S)
#define NAME_MAX_LEN 32
#define TEXT_MAX     (200 * 1024)
#define ENTRY_BYTES  64 /* what a broker calls an entry, as text */
#define TURN_EVENTS  256
#define TRIES_MAX    100 /* at a lease that goes from hand to hand */

/* One partition of ours. */
struct part {
    struct memory_log *log;
    struct ring *ring;
    struct group_part *shared;
    bool is_held; /* by us, in this leadership */
    bool is_read; /* likewise: up to its tail */
    uint16_t epoch;
};

struct evbus_mirror {
    struct evbus *bus;
    struct evbus_reader *reader;
    char group_name[SERVICE_BYTES];
    uint32_t group;
    uint32_t save_topic;
    uint32_t generation; /* of the catalogue, as we have looked at it */
    char **patterns;     /* copies */
    size_t n_patterns;
    uint64_t patience_ns;
    uint64_t thread_number; /* of the thread that has opened it */
    uint32_t slot;
    uint32_t member, owner; /* our place in the group */
    struct part *parts;     /* of what is mirrored; then of checkpoints and of replays */
    size_t n_parts;
    struct part saves;
    struct part replays;
    uint32_t word; /* ours in `leader`; 0: we do not lead */
    uint32_t seen_word, seen_progress;
    uint64_t seen_ns;
    char *text; /* as load() gave it out */
    uint64_t *buffer;
};

static struct group_entry *entry_of(const struct evbus_mirror *mirror)
{
    return &mirror->bus->memory.control->groups[mirror->group];
}

static bool leads(const struct evbus_mirror *mirror)
{
    return mirror->word != 0 && atomic_load_explicit(&entry_of(mirror)->leader, memory_order_acquire) == mirror->word;
}

static int fenced(const struct evbus_mirror *mirror, struct error *err)
{
    return error_set(err, EVBUS_EFENCED, "another one leads the mirror %s", mirror->group_name);
}

/* --- its group and what it reads ------------------------------------------------------------------------------------------ */

/* The group is there, and has all topics that the catalogue has by now. from: where it begins, if it is made; and in logs that are new. */
static int find_or_make(struct evbus_mirror *mirror, enum evbus_from from, uint64_t from_time_ns, struct error *err)
{
    struct memory *memory = &mirror->bus->memory;
    struct topic_set covered[LOGS_MAX];
    int rc = group_lock(memory, mirror->slot, true, err);
    if (rc != EVBUS_OK)
        return rc;
    uint32_t n_logs = memory_n_logs(memory); /* all are mapped now */
    rc = group_cover(memory, (const char *const *)mirror->patterns, mirror->n_patterns, covered, err);
    struct group_plan plan = {
        .name = mirror->group_name,
        .flags = GROUP_AD_HOC | GROUP_MIRROR,
        .wanted = covered,
        .n_logs = n_logs,
        .from = from,
        .position = from_time_ns,
    };
    mirror->group = group_find(memory, mirror->group_name);
    if (rc == EVBUS_OK && mirror->group == GROUP_NONE) {
        uint32_t n_before = provide_n_dead_letter_topics(memory);
        rc = group_make(memory, &plan, &mirror->group, err);
        if (rc == EVBUS_OK)
            rc = provide_dead_letter_names(memory, n_before, mirror->slot, err);
    } else if (rc == EVBUS_OK && (entry_of(mirror)->flags & GROUP_MIRROR) == 0) {
        rc = error_set(err, EVBUS_EINVAL, "group %s is none of a mirror's: give the mirror another name",
                       mirror->group_name);
    } else if (rc == EVBUS_OK) {
        group_add_topics(memory, mirror->group, covered, n_logs,
                         from == EVBUS_FROM_LATEST ? EVBUS_FROM_LATEST : EVBUS_FROM_EARLIEST);
    }
    group_unlock(memory, mirror->slot);
    return rc;
}

static struct part part_of(const struct evbus_mirror *mirror, struct memory_log *log, uint32_t partition)
{
    memory_prefault(log);
    return (struct part){
        .log = log, .ring = &log->rings[partition], .shared = memory_part(log, partition, mirror->group)};
}

/* All partitions that the group has by now; those that we had keep their places. */
static int list_parts(struct evbus_mirror *mirror, struct error *err)
{
    struct memory *memory = &mirror->bus->memory;
    struct part *parts = calloc((size_t)LOGS_MAX * PARTITIONS_MAX, sizeof *parts);
    size_t n = 0;
    if (parts == NULL)
        return error_no_memory(err, "the partitions of a mirror");
    for (uint32_t l = 0; l < memory_n_logs(memory); l++) {
        struct memory_log *log = &memory->logs[l];
        struct topic_set topics = group_topics(log, mirror->group);
        for (uint32_t p = 0; p < log->n_partitions && !memory_is_internal(log) && !topic_set_is_empty(&topics); p++)
            parts[n++] = part_of(mirror, log, p);
    }
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < mirror->n_parts; k++)
            if (mirror->parts[k].ring == parts[i].ring)
                parts[i] = mirror->parts[k];
    free(mirror->parts);
    mirror->parts = parts;
    mirror->n_parts = n;
    return EVBUS_OK;
}

/* Reads all that is mirrored, from where the one before it stood; what is new gives nothing until it is rewound. */
static int open_reader(struct evbus_mirror *mirror, struct error *err)
{
    struct evbus_reader *reader = NULL;
    struct evbus_reader_options options = {
        .size = sizeof options, .patterns = (const char *const *)mirror->patterns, .n_patterns = mirror->n_patterns};
    int rc = evbus_reader_open(&reader, mirror->bus, &options);
    if (rc != EVBUS_OK)
        return err != NULL && err != error_of_thread() ? error_set(err, rc, "%s", evbus_message(NULL)) : rc;
    reader_set_turn(reader, TURN_EVENTS);
    reader_want_what_comes(reader);
    for (size_t i = 0; i < mirror->n_parts; i++)
        reader_go_to(reader, mirror->parts[i].ring,
                     mirror->reader != NULL ? reader_position(mirror->reader, mirror->parts[i].ring) : READER_PARKED);
    evbus_reader_close(mirror->reader);
    mirror->reader = reader;
    return EVBUS_OK;
}

static int hold(struct evbus_mirror *mirror, struct part *part, struct error *err);

/* The catalogue has changed, or we look at it for the first time. */
static int look_at_catalogue(struct evbus_mirror *mirror, enum evbus_from from, uint64_t from_time_ns,
                             struct error *err)
{
    struct memory *memory = &mirror->bus->memory;
    uint32_t generation = atomic_load_explicit(&memory->control->generation, memory_order_acquire);
    int rc = find_or_make(mirror, from, from_time_ns, err);
    if (rc == EVBUS_OK)
        rc = list_parts(mirror, err);
    if (rc == EVBUS_OK)
        rc = open_reader(mirror, err);
    for (size_t i = 0; i < mirror->n_parts && rc == EVBUS_OK && mirror->word != 0; i++)
        rc = mirror->parts[i].is_held ? EVBUS_OK : hold(mirror, &mirror->parts[i], err);
    if (rc == EVBUS_OK)
        mirror->generation = generation;
    return rc;
}

/* --- open and close ---------------------------------------------------------------------------------------------------------- */

static int check_name(const char *name, struct error *err)
{
    size_t len = name != NULL ? strnlen(name, NAME_MAX_LEN + 1) : 0;
    if (len == 0 || len > NAME_MAX_LEN || strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-") != len)
        return error_set(err, EVBUS_EINVAL, "options.name is %s%.40s%s; it must be 1..%d of a-z 0-9 -",
                         name != NULL ? "\"" : "", name != NULL ? name : "NULL", name != NULL ? "\"" : "",
                         NAME_MAX_LEN);
    return EVBUS_OK;
}

static int copy_patterns(struct evbus_mirror *mirror, const struct evbus_mirror_options *options, struct error *err)
{
    size_t n = options->patterns != NULL ? options->n_patterns : 0;
    if (n > 64)
        return error_set(err, EVBUS_EINVAL, "%zu patterns; at most 64 are allowed", n);
    mirror->patterns = calloc(n != 0 ? n : 1, sizeof *mirror->patterns);
    if (mirror->patterns == NULL)
        return error_no_memory(err, "the patterns of a mirror");
    for (size_t i = 0; i < n; i++) {
        int rc = options->patterns[i] != NULL ? topic_pattern_check(options->patterns[i], err)
                                              : error_set(err, EVBUS_EINVAL, "patterns[%zu] is NULL", i);
        if (rc != EVBUS_OK)
            return rc;
        if ((mirror->patterns[i] = strdup(options->patterns[i])) == NULL)
            return error_no_memory(err, "the patterns of a mirror");
        mirror->n_patterns = i + 1;
    }
    return EVBUS_OK;
}

static int join(struct evbus_mirror *mirror, struct error *err)
{
    struct memory *memory = &mirror->bus->memory;
    struct memory_log *notes = memory_internal_log(memory, MEMORY_NOTES_LOG);
    struct memory_log *replays = memory_internal_log(memory, MEMORY_REPLAY_LOG);
    mirror->save_topic = group_save_topic(memory, mirror->group);
    if (notes == NULL || replays == NULL || mirror->save_topic == 0)
        return error_set(err, EVBUS_ECORRUPT, "bus %s has lost a log of its own; run `evbus doctor`", memory->bus);
    mirror->saves = part_of(mirror, notes, 0);
    mirror->replays = part_of(mirror, replays, 0);
    return group_join(memory, mirror->group, mirror->slot, UINT64_MAX, &mirror->member, &mirror->owner, err);
}

EVBUS_API int evbus_mirror_open(struct evbus_mirror **out_mirror, struct evbus *bus,
                                const struct evbus_mirror_options *given)
{
    struct error *err = error_of_thread();
    struct evbus_mirror_options options = {0};
    struct bus_thread *thread;
    int rc = bus_check(bus, err);
    if (rc == EVBUS_OK && (out_mirror == NULL || given == NULL))
        rc = error_set(err, EVBUS_EINVAL, "%s is NULL", out_mirror == NULL ? "out_mirror" : "options");
    if (rc == EVBUS_OK)
        rc = bus_take_struct(&options, sizeof options, given, given->size, "struct evbus_mirror_options", err);
    if (rc == EVBUS_OK && (unsigned)options.from > EVBUS_FROM_TIME)
        rc = error_set(err, EVBUS_EINVAL, "options.from is %d: a mirror begins LATEST, EARLIEST or at a TIME",
                       (int)options.from);
    if (rc == EVBUS_OK && bus->service[0] == '\0')
        rc = error_set(err, EVBUS_EINVAL, "a mirror publishes: say who, by evbus_options.service");
    if (rc == EVBUS_OK)
        rc = check_name(options.name, err);
    if (rc == EVBUS_OK)
        rc = bus_thread(bus, &thread, err);
    if (rc != EVBUS_OK)
        return rc;
    struct evbus_mirror *mirror = calloc(1, sizeof *mirror);
    if (mirror == NULL || (mirror->buffer = malloc(((size_t)FRAME_CELLS_MAX + 1) * CELL_BYTES)) == NULL) {
        free(mirror);
        return error_no_memory(err, "a mirror");
    }
    mirror->bus = bus;
    mirror->group = GROUP_NONE;
    mirror->slot = thread->claim.slot;
    mirror->thread_number = thread->number;
    mirror->patience_ns = options.patience_ns != 0 ? options.patience_ns : PATIENCE_NS;
    snprintf(mirror->group_name, sizeof mirror->group_name, "bridge-%.32s", options.name);
    rc = copy_patterns(mirror, &options, err);
    if (rc == EVBUS_OK)
        rc = look_at_catalogue(mirror, options.from, options.from_time_ns, err);
    if (rc == EVBUS_OK)
        rc = join(mirror, err);
    if (rc != EVBUS_OK) {
        struct error kept = *err;
        evbus_mirror_close(mirror);
        *err = kept;
        return rc;
    }
    *out_mirror = mirror;
    return EVBUS_OK;
}

static void give_leases(struct evbus_mirror *mirror)
{
    for (size_t i = 0; i < mirror->n_parts + 2; i++) {
        struct part *part = i < mirror->n_parts    ? &mirror->parts[i]
                            : i == mirror->n_parts ? &mirror->saves
                                                   : &mirror->replays;
        if (part->is_held)
            lease_give(part->shared, part->epoch, mirror->slot);
        part->is_held = false;
    }
}

EVBUS_API void evbus_mirror_close(struct evbus_mirror *mirror)
{
    if (mirror == NULL)
        return;
    if (bus_check(mirror->bus, NULL) == EVBUS_OK && mirror->owner != 0) {
        give_leases(mirror);
        if (mirror->word != 0)
            hold_leave(&entry_of(mirror)->leader, mirror->slot);
        group_leave(&mirror->bus->memory, mirror->group, mirror->member, mirror->owner);
    }
    evbus_reader_close(mirror->reader);
    for (size_t i = 0; i < mirror->n_patterns; i++)
        free(mirror->patterns[i]);
    free(mirror->patterns);
    free(mirror->parts);
    free(mirror->text);
    free(mirror->buffer);
    free(mirror);
}

static int enter(struct evbus_mirror *mirror, struct bus_thread **out_thread, struct error *err)
{
    if (mirror == NULL)
        return error_set(err, EVBUS_EINVAL, "mirror is NULL");
    int rc = bus_check(mirror->bus, err);
    if (rc == EVBUS_OK)
        rc = bus_thread(mirror->bus, out_thread, err);
    if (rc == EVBUS_OK && (*out_thread)->number != mirror->thread_number)
        rc = error_set(err, EVBUS_EINVAL, "a mirror is used by the thread that has opened it");
    if (rc == EVBUS_OK && !group_is_live(&mirror->bus->memory, mirror->group))
        rc = error_set(err, EVBUS_ENOTFOUND, "group %s has been removed: open the mirror again", mirror->group_name);
    return rc;
}

static struct part *find(struct evbus_mirror *mirror, const char *log, uint32_t partition, struct error *err)
{
    for (size_t i = 0; log != NULL && i < mirror->n_parts; i++)
        if (mirror->parts[i].ring->partition == partition && strcmp(mirror->parts[i].log->name, log) == 0)
            return &mirror->parts[i];
    error_set(err, EVBUS_ENOTFOUND, "mirror %s has no partition %.127s/%u", mirror->group_name,
              log != NULL ? log : "NULL", partition);
    return NULL;
}

/* --- lead ---------------------------------------------------------------------------------------------------------------------- */

/* The lease, from nobody, the dead, or a leader that has been deposed. */
static int hold(struct evbus_mirror *mirror, struct part *part, struct error *err)
{
    const struct slot *slots = mirror->bus->memory.control->slots;
    for (int i = 0; i < TRIES_MAX; i++)
        if (lease_take(part->shared, slots, mirror->slot, lease_holder(part->shared), &part->epoch)) {
            ring_stamp_low(part->ring, group_low_index(mirror->group), part->epoch);
            part->is_held = true;
            part->is_read = false;
            return EVBUS_OK;
        }
    return error_set(err, EVBUS_EBUSY, "%s/%u of %s goes from hand to hand: try again", part->log->name,
                     part->ring->partition, mirror->group_name);
}

static int take_over(struct evbus_mirror *mirror, struct error *err)
{
    atomic_thread_fence(memory_order_seq_cst); /* edge FENCE, to: claims of whoever led before */
    int rc = hold(mirror, &mirror->saves, err);
    if (rc == EVBUS_OK)
        rc = hold(mirror, &mirror->replays, err);
    for (size_t i = 0; i < mirror->n_parts && rc == EVBUS_OK; i++)
        rc = hold(mirror, &mirror->parts[i], err);
    return rc;
}

/* Who led, and makes no progress, leads no more. */
static bool depose(struct evbus_mirror *mirror, uint32_t word)
{
    struct group_entry *entry = entry_of(mirror);
    uint32_t progress = atomic_load_explicit(&entry->progress, memory_order_acquire);
    uint64_t now_ns = clock_mono_ns();
    if (word != mirror->seen_word || progress != mirror->seen_progress) {
        mirror->seen_word = word;
        mirror->seen_progress = progress;
        mirror->seen_ns = now_ns;
        return false;
    }
    return now_ns - mirror->seen_ns >= mirror->patience_ns && hold_depose(&entry->leader, word, mirror->slot);
}

static int stand_by(const struct evbus_mirror *mirror, uint32_t word, struct error *err)
{
    const struct slot *leader = &mirror->bus->memory.control->slots[HOLD_SLOT(word)];
    char service[SERVICE_BYTES] = "";
    memcpy(service, leader->service, sizeof service - 1);
    return error_set(err, EVBUS_EBUSY, "%s of process %d leads the mirror %s", service[0] != '\0' ? service : "-",
                     atomic_load_explicit(&leader->pid, memory_order_relaxed), mirror->group_name);
}

/* EVBUS_OK: we lead from now on. */
static int try_to_lead(struct evbus_mirror *mirror, struct error *err)
{
    struct group_entry *entry = entry_of(mirror);
    const struct slot *slots = mirror->bus->memory.control->slots;
    uint32_t before = atomic_load_explicit(&entry->leader, memory_order_acquire);
    if (!hold_take(&entry->leader, slots, mirror->slot)) {
        if (HOLD_SLOT(before) != 0)
            burial_ask_one(&mirror->bus->memory, HOLD_SLOT(before));
        if (!depose(mirror, before))
            return stand_by(mirror, before, err);
        log_line(&mirror->bus->log, LOG_KEEPER, EVBUS_LOG_WARNING, "mirror=%s state=deposed slot=%u",
                 mirror->group_name, HOLD_SLOT(before));
    }
    mirror->word = atomic_load_explicit(&entry->leader, memory_order_acquire);
    if (HOLD_SLOT(mirror->word) != mirror->slot) { /* it has been taken from us already */
        uint32_t word = mirror->word;
        mirror->word = 0;
        return stand_by(mirror, word, err);
    }
    int rc = take_over(mirror, err);
    if (rc != EVBUS_OK) {
        give_leases(mirror);
        hold_leave(&entry->leader, mirror->slot);
        mirror->word = 0;
    }
    return rc;
}

/* Nothing that stands in the log of replays is for us: it need not be kept. */
static void pass_replays(struct evbus_mirror *mirror)
{
    struct part *part = &mirror->replays;
    uint64_t cursor = pending_cursor(part->shared);
    uint64_t tail = ring_tail(part->ring);
    if (cursor < tail && pending_move_cursor(part->shared, part->epoch, cursor, tail))
        ring_move_low(part->ring, group_low_index(mirror->group), part->epoch, tail, true);
}

EVBUS_API int evbus_mirror_lead(struct evbus_mirror *mirror, uint64_t *out_epoch)
{
    struct error *err = error_of_thread();
    struct bus_thread *thread;
    int rc = enter(mirror, &thread, err);
    if (rc != EVBUS_OK)
        return rc;
    struct control *control = mirror->bus->memory.control;
    struct group_entry *entry = entry_of(mirror);
    atomic_store_explicit(&entry->members[mirror->member].progress_ns, clock_mono_ns(), memory_order_relaxed);
    if (mirror->word != 0 && !leads(mirror)) {
        for (size_t i = 0; i < mirror->n_parts; i++)
            mirror->parts[i].is_held = false; /* they are the other's */
        mirror->saves.is_held = mirror->replays.is_held = false;
        mirror->word = 0;
        return fenced(mirror, err);
    }
    if (mirror->word == 0 && (rc = try_to_lead(mirror, err)) != EVBUS_OK)
        return rc;
    if (atomic_load_explicit(&control->generation, memory_order_acquire) != mirror->generation &&
        (rc = look_at_catalogue(mirror, EVBUS_FROM_EARLIEST, 0, err)) != EVBUS_OK) /* what is new is new as a whole */
        return rc;
    atomic_fetch_add_explicit(&entry->progress, 1, memory_order_release);
    pass_replays(mirror);
    if (out_epoch != NULL)
        *out_epoch = control->incarnation << 32 | HOLD_NUMBER(mirror->word);
    return EVBUS_OK;
}

EVBUS_API bool evbus_mirror_is_paused(struct evbus_mirror *mirror)
{
    return mirror != NULL && atomic_load_explicit(&entry_of(mirror)->paused, memory_order_relaxed) != 0;
}

EVBUS_API void evbus_mirror_describe(struct evbus_mirror *mirror, const char *text)
{
    uint64_t words[MIRROR_TEXT_BYTES / 8] = {0};
    if (mirror == NULL || text == NULL || !leads(mirror))
        return;
    memcpy(words, text, strnlen(text, MIRROR_TEXT_BYTES - 1));
    for (int i = 0; i < MIRROR_TEXT_BYTES / 8; i++)
        atomic_store_explicit(&entry_of(mirror)->told[i], words[i], memory_order_relaxed);
}

EVBUS_API int evbus_mirror_origin(struct evbus_mirror *mirror, uint8_t out_bus[16], uint64_t *out_incarnation)
{
    if (mirror == NULL || out_bus == NULL || out_incarnation == NULL)
        return error_set(error_of_thread(), EVBUS_EINVAL, "an argument is NULL");
    memcpy(out_bus, mirror->bus->memory.control->uuid, 16);
    *out_incarnation = mirror->bus->memory.control->incarnation;
    return EVBUS_OK;
}

/* --- out ------------------------------------------------------------------------------------------------------------------------ */

EVBUS_API int evbus_mirror_parts(struct evbus_mirror *mirror,
                                 int (*each)(void *context, const struct evbus_mirror_part *part), void *context)
{
    struct error *err = error_of_thread();
    struct bus_thread *thread;
    int rc = enter(mirror, &thread, err);
    for (size_t i = 0; rc == EVBUS_OK && i < mirror->n_parts; i++) {
        const struct part *part = &mirror->parts[i];
        uint64_t synced = part->ring->has_journal ? ring_synced(part->ring) : ring_tail(part->ring);
        struct evbus_mirror_part shown = {
            .size = sizeof shown,
            .log = part->log->name,
            .partition = part->ring->partition,
            .held = pending_cursor(part->shared),
            .oldest = ring_oldest(part->ring),
            .next = reader_position(mirror->reader, part->ring),
            .tail = ring_tail(part->ring),
            .synced = synced,
        };
        rc = each(context, &shown);
    }
    return rc;
}

/* Of a topic that is new to us: its name is there, as somebody has published on it. */
static bool is_ours(const struct evbus_mirror *mirror, const struct evbus_delivery *event)
{
    if (mirror->n_patterns == 0 ||
        atomic_load_explicit(&mirror->bus->memory.control->generation, memory_order_acquire) == mirror->generation)
        return true;
    for (size_t i = 0; i < mirror->n_patterns; i++)
        if (topic_matches(mirror->patterns[i], event->topic))
            return true;
    return false;
}

EVBUS_API int evbus_mirror_next(struct evbus_mirror *mirror, struct evbus_delivery *out_event, uint64_t timeout_ns)
{
    struct error *err = error_of_thread();
    struct bus_thread *thread;
    int rc = enter(mirror, &thread, err);
    if (rc != EVBUS_OK)
        return rc;
    do
        rc = evbus_reader_next(mirror->reader, out_event, timeout_ns);
    while (rc == EVBUS_OK && !is_ours(mirror, out_event));
    return rc;
}

EVBUS_API int evbus_mirror_fd(struct evbus_mirror *mirror, int *out_fd)
{
    struct error *err = error_of_thread();
    struct bus_thread *thread;
    int rc = enter(mirror, &thread, err);
    return rc == EVBUS_OK ? evbus_fd(mirror->reader, out_fd) : rc;
}

static int beyond(const struct part *part, uint64_t position, struct error *err)
{
    return error_set(err, EVBUS_EINVAL, "%s/%u@%" PRIu64 " is beyond its tail, which is %" PRIu64, part->log->name,
                     part->ring->partition, position, ring_tail(part->ring));
}

EVBUS_API int evbus_mirror_rewind(struct evbus_mirror *mirror, const char *log, uint32_t partition, uint64_t position)
{
    struct error *err = error_of_thread();
    struct bus_thread *thread;
    int rc = enter(mirror, &thread, err);
    struct part *part = rc == EVBUS_OK ? find(mirror, log, partition, err) : NULL;
    if (part == NULL)
        return rc != EVBUS_OK ? rc : EVBUS_ENOTFOUND;
    if (position != READER_PARKED && position > ring_tail(part->ring))
        return beyond(part, position, err);
    reader_go_to(mirror->reader, part->ring, position);
    return EVBUS_OK;
}

/* A partition of which something is told. */
static int find_ours(struct evbus_mirror *mirror, const char *log, uint32_t partition, uint64_t position,
                     struct part **out_part, struct error *err)
{
    struct bus_thread *thread;
    int rc = enter(mirror, &thread, err);
    struct part *part = rc == EVBUS_OK ? find(mirror, log, partition, err) : NULL;
    if (part == NULL)
        return rc != EVBUS_OK ? rc : EVBUS_ENOTFOUND;
    if (position > ring_tail(part->ring))
        return beyond(part, position, err);
    if (!leads(mirror) || !part->is_held)
        return fenced(mirror, err);
    *out_part = part;
    return EVBUS_OK;
}

/* Who waits for ack BROKER learns it. */
static void tell_mirrored(struct ring *ring, uint64_t position)
{
    struct ring_head *head = ring->head;
    uint64_t seen = atomic_load_explicit(&head->mirrored, memory_order_relaxed);
    while (seen < position)
        if (atomic_compare_exchange_weak_explicit(&head->mirrored, &seen, position, memory_order_release,
                                                  memory_order_relaxed))
            break;
    atomic_thread_fence(memory_order_seq_cst); /* edge MIRROR, from: what is at the broker */
    if (atomic_load_explicit(&head->mirror_wanted, memory_order_relaxed) == 0)
        return;
    atomic_store_explicit(&head->mirror_wanted, 0, memory_order_relaxed);
    atomic_fetch_add_explicit(&head->mirror, 1, memory_order_release);
    futex_wake(&head->mirror, INT_MAX);
}

EVBUS_API int evbus_mirror_told(struct evbus_mirror *mirror, const char *log, uint32_t partition, uint64_t position)
{
    struct error *err = error_of_thread();
    struct part *part;
    int rc = find_ours(mirror, log, partition, position, &part, err);
    if (rc == EVBUS_OK)
        tell_mirrored(part->ring, position + 1);
    return rc;
}

EVBUS_API int evbus_mirror_advance(struct evbus_mirror *mirror, const char *log, uint32_t partition, uint64_t position)
{
    struct error *err = error_of_thread();
    struct part *part;
    int rc = find_ours(mirror, log, partition, position, &part, err);
    if (rc != EVBUS_OK)
        return rc;
    uint64_t cursor = pending_cursor(part->shared);
    if (position <= cursor)
        return EVBUS_OK;
    if (!pending_move_cursor(part->shared, part->epoch, cursor, position))
        return fenced(mirror, err);
    ring_move_low(part->ring, group_low_index(mirror->group), part->epoch, position, true);
    return EVBUS_OK;
}

/* --- in ------------------------------------------------------------------------------------------------------------------------- */

static int check_is_read(const struct part *part, struct error *err)
{
    return part->is_read
               ? EVBUS_OK
               : error_set(err, EVBUS_EBUSY,
                           "%s/%u was not read up to its tail since we lead: evbus_mirror_brought() says what is in",
                           part->log->name, part->ring->partition);
}

EVBUS_API int evbus_mirror_bring(struct evbus_mirror *mirror, const struct evbus_event *events, size_t n,
                                 size_t *out_brought)
{
    struct error *err = error_of_thread();
    struct bus_thread *thread;
    size_t n_brought = 0;
    int rc = enter(mirror, &thread, err);
    if (rc == EVBUS_OK && events == NULL && n > 0)
        rc = error_set(err, EVBUS_EINVAL, "events is NULL");
    if (rc == EVBUS_OK && !leads(mirror))
        rc = fenced(mirror, err);
    if (rc == EVBUS_OK) {
        struct partition_fence fence = {.word = &entry_of(mirror)->leader, .value = mirror->word};
        for (size_t i = 0; i < mirror->n_parts && rc == EVBUS_OK; i++)
            rc = check_is_read(&mirror->parts[i], err);
        if (rc == EVBUS_OK)
            rc = publish_brought(mirror->bus, events, n, &fence, &n_brought);
    }
    if (out_brought != NULL)
        *out_brought = n_brought;
    return rc;
}

static void rest(uint64_t ns)
{
    struct timespec pause = {.tv_nsec = (long)(ns < CLOCK_NS_PER_MS ? ns : CLOCK_NS_PER_MS)};
    nanosleep(&pause, NULL);
}

/* The frame at *inout_pos, which goes behind it; a claim that stands there is waited for as by any reader. PARTITION_FRAME; PARTITION_NOTHING:
 * `until` is reached; or an error. */
static int next_frame(struct evbus_mirror *mirror, struct ring *ring, struct partition_past **inout_past,
                      uint64_t *inout_pos, uint64_t until, struct error *err)
{
    struct ring_blocked blocked = {0};
    while (*inout_pos < until) {
        uint64_t next = *inout_pos;
        uint64_t word;
        uint64_t wait_ns = CLOCK_NS_PER_MS;
        int rc = partition_fetch(inout_past, &mirror->bus->memory, ring, *inout_pos, mirror->buffer, &next, err);
        if (rc < 0)
            return rc;
        if (rc == PARTITION_NOTHING) {
            bool is_claimed = ring_look(ring, *inout_pos, &word) == RING_CLAIMED;
            if (!is_claimed || ring_clear_claim(ring, *inout_pos, word, &blocked, &wait_ns) == RING_BLOCKED)
                rest(wait_ns);
            continue; /* below the tail there is always something in the end */
        }
        *inout_pos = next;
        if (rc == PARTITION_FRAME)
            return rc;
    }
    return PARTITION_NOTHING;
}

EVBUS_API int evbus_mirror_brought(struct evbus_mirror *mirror, const char *log, uint32_t partition, uint64_t position,
                                   int (*each)(void *context, const struct evbus_delivery *event), void *context)
{
    struct error *err = error_of_thread();
    struct bus_thread *thread;
    struct partition_past *past = NULL;
    int rc = enter(mirror, &thread, err);
    struct part *part = rc == EVBUS_OK ? find(mirror, log, partition, err) : NULL;
    if (part == NULL)
        return rc != EVBUS_OK ? rc : EVBUS_ENOTFOUND;
    uint64_t until = ring_tail(part->ring);
    uint64_t oldest = ring_oldest(part->ring);
    for (uint64_t pos = position > oldest ? position : oldest; rc == EVBUS_OK;) {
        struct frame frame;
        int found = next_frame(mirror, part->ring, &past, &pos, until, err);
        if (found != PARTITION_FRAME) {
            rc = found < 0 ? found : EVBUS_OK;
            break;
        }
        if (frame_parse(mirror->buffer, &frame, NULL) != EVBUS_OK || frame.kind != FRAME_EVENT || frame.area_len == 0 ||
            frame.topic < 1 || frame.topic > TOPICS_MAX)
            continue;
        struct delivery_texts texts;
        char topic[NAME_BYTES] = "";
        memcpy(topic, part->log->head->topics[frame.topic - 1], sizeof topic - 1);
        struct evbus_delivery shown = {.size = sizeof shown,
                                       .topic = topic,
                                       .service = "",
                                       .log = part->log->name,
                                       .partition = partition,
                                       .position = ((const struct frame_header *)mirror->buffer)->position};
        delivery_fill(&frame, &texts, &shown);
        if (shown.origin != NULL)
            rc = each(context, &shown);
    }
    partition_past_close(past);
    part->is_read = part->is_read || (rc == EVBUS_OK && leads(mirror) && part->is_held);
    return rc;
}

/* --- checkpoints ------------------------------------------------------------------------------------------------------------------ */

EVBUS_API int evbus_mirror_save(struct evbus_mirror *mirror, const char *text, size_t len)
{
    struct error *err = error_of_thread();
    struct bus_thread *thread;
    int rc = enter(mirror, &thread, err);
    if (rc != EVBUS_OK)
        return rc;
    struct part *saves = &mirror->saves;
    if (text == NULL || len == 0 || len > TEXT_MAX)
        return error_set(err, EVBUS_EINVAL, "text has %zu bytes; 1..%d are allowed", text != NULL ? len : 0, TEXT_MAX);
    if (!leads(mirror) || !saves->is_held)
        return fenced(mirror, err);
    struct frame frame = {
        .kind = FRAME_EVENT,
        .timestamp_ns = clock_wall_ns(),
        .publisher = mirror->bus->publisher,
        .topic = (uint16_t)mirror->save_topic,
        .major = 1,
        .payload = text,
        .payload_len = (uint32_t)len,
    };
    uint64_t pos;
    uint32_t n_cells = frame_cells_of(&frame);
    struct partition_fence fence = {.word = &entry_of(mirror)->leader, .value = mirror->word};
    struct partition_wait wait = {.memory = &mirror->bus->memory, .fence = &fence};
    if (n_cells == 0 || n_cells > saves->ring->frame_cells_max)
        return error_set(err, EVBUS_EINVAL, "text has %zu bytes: more than fits a ring of %s", len, saves->log->name);
    rc = uuid7_make(&thread->uuid, frame.timestamp_ns, frame.id, err);
    if (rc != EVBUS_OK)
        return rc;
    frame_build(&frame, thread->frame);
    rc = partition_append(saves->ring, &thread->claim, thread->frame, n_cells, &wait, &pos, err);
    if (rc == EVBUS_OK && saves->ring->has_journal)
        rc = partition_await_disk(&mirror->bus->memory, saves->ring, pos, pos + n_cells, false, err);
    if (rc != EVBUS_OK)
        return rc;
    if (!pending_move_cursor(saves->shared, saves->epoch, pending_cursor(saves->shared), pos))
        return fenced(mirror, err);
    ring_move_low(saves->ring, group_low_index(mirror->group), saves->epoch, pos, true);
    return EVBUS_OK;
}

EVBUS_API int evbus_mirror_load(struct evbus_mirror *mirror, const char **out_text, size_t *out_len)
{
    struct error *err = error_of_thread();
    struct bus_thread *thread;
    struct partition_past *past = NULL;
    int rc = enter(mirror, &thread, err);
    if (rc != EVBUS_OK)
        return rc;
    struct ring *ring = mirror->saves.ring;
    uint64_t until = ring_tail(ring);
    uint64_t pos = pending_cursor(mirror->saves.shared);
    char *text = NULL;
    size_t len = 0;
    for (;;) {
        struct frame frame;
        int found = next_frame(mirror, ring, &past, &pos, until, err);
        if (found != PARTITION_FRAME) {
            rc = found < 0 ? found : EVBUS_OK;
            break;
        }
        if (frame_parse(mirror->buffer, &frame, NULL) != EVBUS_OK || frame.kind != FRAME_EVENT ||
            frame.topic != mirror->save_topic)
            continue;
        char *copy = realloc(text, frame.payload_len + 1);
        if (copy == NULL) {
            rc = error_no_memory(err, "a checkpoint");
            break;
        }
        text = copy;
        len = frame.payload_len;
        memcpy(text, frame.payload, len);
        text[len] = '\0';
    }
    partition_past_close(past);
    if (rc == EVBUS_OK && text == NULL)
        rc = error_set(err, EVBUS_ENOTFOUND, "mirror %s has kept nothing yet", mirror->group_name);
    if (rc != EVBUS_OK) {
        free(text);
        return rc;
    }
    free(mirror->text);
    mirror->text = text;
    *out_text = text;
    *out_len = len;
    return EVBUS_OK;
}

/* --- what is no event -------------------------------------------------------------------------------------------------------------- */

static int check_rejected(const struct evbus_mirror_rejected *rejected, struct error *err)
{
    static const uint8_t none[16];
    if (memcmp(rejected->id, none, sizeof none) == 0)
        return error_set(err, EVBUS_EINVAL, "rejected.id is all zero: it must be one of its own");
    if (rejected->what == NULL || rejected->what_len == 0 || rejected->what_len > TEXT_MAX)
        return error_set(err, EVBUS_EINVAL, "rejected.what has %zu bytes; 1..%d are allowed",
                         rejected->what != NULL ? rejected->what_len : 0, TEXT_MAX);
    if (rejected->stream == NULL || rejected->stream[0] == '\0' || strnlen(rejected->stream, NAME_BYTES) == NAME_BYTES)
        return error_set(err, EVBUS_EINVAL, "rejected.stream must have 1..%d bytes", NAME_BYTES - 1);
    if (rejected->entry == NULL || strnlen(rejected->entry, ENTRY_BYTES) == ENTRY_BYTES)
        return error_set(err, EVBUS_EINVAL, "rejected.entry must have at most %d bytes", ENTRY_BYTES - 1);
    return EVBUS_OK;
}

EVBUS_API int evbus_mirror_reject(struct evbus_mirror *mirror, const struct evbus_mirror_rejected *given)
{
    struct error *err = error_of_thread();
    struct bus_thread *thread;
    struct evbus_mirror_rejected rejected = {0};
    int rc = enter(mirror, &thread, err);
    if (rc == EVBUS_OK && given == NULL)
        rc = error_set(err, EVBUS_EINVAL, "rejected is NULL");
    if (rc == EVBUS_OK)
        rc = bus_take_struct(&rejected, sizeof rejected, given, given->size, "struct evbus_mirror_rejected", err);
    if (rc == EVBUS_OK)
        rc = check_rejected(&rejected, err);
    if (rc != EVBUS_OK)
        return rc;
    if (!leads(mirror))
        return fenced(mirror, err);
    struct memory *memory = &mirror->bus->memory;
    struct frame event = {
        .kind = FRAME_EVENT,
        .timestamp_ns = clock_wall_ns(),
        .publisher = mirror->bus->publisher,
        .major = 1,
        .n_versions = 1,
        .payload = rejected.what,
        .payload_len = (uint32_t)rejected.what_len,
    };
    memcpy(event.id, rejected.id, sizeof event.id);
    uint64_t position;
    memcpy(&position, rejected.id, sizeof position);
    position &= (UINT64_C(1) << POSITION_BITS) - 1; /* its letter's id follows from it */
    struct note note = {.cause = CAUSE_REJECTED, .at_ns = event.timestamp_ns, .slot = mirror->slot};
    snprintf(note.group, sizeof note.group, "%s", mirror->group_name);
    snprintf(note.log, sizeof note.log, "%s", mirror->saves.log->name);
    snprintf(note.member, sizeof note.member, "%s", mirror->bus->service);
    snprintf(note.error, sizeof note.error, "%s", rejected.why != NULL ? rejected.why : "");
    note.position = position;
    char own_topic[NAME_BYTES] = "";
    memcpy(own_topic, mirror->saves.log->head->topics[mirror->save_topic - 1], sizeof own_topic - 1);
    struct deadletter letter = {
        .topic_id = entry_of(mirror)->dlq_topic,
        .group_name = mirror->group_name,
        .topic = rejected.topic != NULL ? rejected.topic : own_topic,
        .stream = rejected.stream,
        .stream_entry = rejected.entry,
        .log = mirror->saves.log->name,
        .position = position,
        .entry = position,
        .cause = CAUSE_REJECTED,
        .note = notes_add(memory, &thread->claim, &note, rejected.id, 0),
        .event = &event,
    };
    return deadletter_publish(memory, &thread->claim, &letter, err);
}
