/* writer.c: the keeper's files: what is committed in the rings is appended to the journal, and brought to disk.
 *
 *     words in memory      journaled   CAS, of our term, when it is written  [FILE]
 *                          synced      CAS, after fdatasync
 *                          ceiling     CAS, after its mark is on disk
 *
 *   term     the seat's number stands in each of the three words. A new keeper first puts its own there, then reads; from then on
 *            nothing that the one before does can move them, however late it wakes. What that one still appends are the same bytes at
 *            the same offsets: a word that is COMMITTED, PAD or CANCELLED never changes between these sorts [J3, J4, J5]
 *   copy     what is written, out of the ring or read back: copier.c [J4a]
 *   late     a term that finds a later one's number gives up; a draft is made before its maker looks at the term, and removed by the
 *            next term after it has stamped: so no file of a deposed keeper ever gets a name
 *   start    at `synced`: what the one before wrote behind that is read back, checked and written again through our own descriptor,
 *            since an error of its fdatasync would not be told to us [J4c]
 *   failed   fdatasync: what it should have brought to disk may be gone from the page cache, and a second one would say that all is
 *            well. So the file is made anew beside, all of it, synced, and takes the name. Until then `synced` stands still [J4d]
 *   ceiling  no position at or behind it is used before a higher one is on disk [J1]
 *   order    a file is synced before the next one is begun: `synced` needs one descriptor. What is appended sets out for the disk
 *            behind the append, so that little is left to the sync, in which nothing is appended; who is told what failed is that sync
 *
 * Why that is enough. journaled is moved after the bytes are in the page cache, so whoever is overtaken in the ring finds them there
 * [FILE]; released never passes it, nor in a log whose readers wait for the disk `synced` (ring.c): so what a failed sync may have
 * lost is still in the ring there. Elsewhere it is read back; what cannot be is told by `not_synced` to who waits for it.
 * [keeps DURABLE] Rules R3 J1-J5. Checked by tests/model/keeper.pml, tests/unit/test_writer.c and tests/crash/test_journal.c. */
#include "writer.h"

#include "clock.h"
#include "copier.h"
#include "doorbell.h"
#include "futex.h"
#include "partition.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LOOK_CELLS     (UINT64_C(1) << 16)      /* 4 MiB of one partition, before the others are looked at */
#define BEHIND_CELLS   (UINT64_C(1) << 13)      /* 512 KiB: what is appended sets out for the disk in such pieces */
#define SYNC_NS        (200 * CLOCK_NS_PER_MS)  /* what is appended is on disk after so long, though nobody waits */
#define MARK_NS        (1000 * CLOCK_NS_PER_MS) /* and how far that is, so often */
#define RETRY_FIRST_NS (50 * CLOCK_NS_PER_MS)   /* after a failure; then doubled */
#define RETRY_MOST_NS  (5 * CLOCK_NS_PER_S)

struct part {
    struct ring *ring;
    struct log_head *head;
    struct segment_place place;
    struct segment segment;
    uint32_t mark;        /* its entry among the marks */
    uint64_t pos;         /* all before it is written by us, or was synced when we began */
    uint64_t begun;       /* all before it has set out for the disk, or is there */
    uint64_t due_ns;      /* when it must be synced; 0: all of it is */
    struct copier copier; /* its `unseen`: of what is written and not synced, where readers wait for that */
    bool has_failed_sync; /* the file must be made anew */
    uint64_t retry_ns;    /* after a failure: not before */
    uint64_t pause_ns;
};

struct writer {
    struct memory *memory;
    struct log *log;
    struct term term;
    struct marks marks;
    bool has_new_marks; /* written, not synced */
    uint64_t mark_ns;   /* when they are */
    unsigned n_woken;   /* by the last look: who waited for the disk */
    struct part *parts[LOGS_MAX];
    uint32_t n_logs;
    uint32_t n_marks;
    uint64_t *buffer; /* COPIER_ROOM */
};

struct term writer_term(const struct writer *writer)
{
    return writer->term;
}

unsigned writer_n_woken(const struct writer *writer)
{
    return writer->n_woken;
}

static uint16_t tag_of(const struct writer *writer)
{
    return (uint16_t)writer->term.number;
}

/* --- words of our term ------------------------------------------------------------------------------------------------------ */

/* false: somebody else keeps. Never backwards. */
static bool move(const struct writer *writer, _Atomic uint64_t *word, uint64_t pos)
{
    uint64_t seen = atomic_load_explicit(word, memory_order_acquire);
    while (TERM_NUMBER(seen) == tag_of(writer) && TERM_POSITION(seen) < pos)
        if (atomic_compare_exchange_weak_explicit(word, &seen, TERM_WORD(pos, tag_of(writer)), memory_order_acq_rel,
                                                  memory_order_acquire)) /* edge FILE, from: what is written */
            return true;
    return TERM_NUMBER(seen) == tag_of(writer);
}

/* Is it of a term behind ours? Numbers go round after 65,536 terms. */
static bool is_later(uint64_t word, uint16_t tag)
{
    return (int16_t)(uint16_t)(TERM_NUMBER(word) - tag) > 0;
}

/* false: a later term has stamped it: we have slept since we were elected. */
static bool stamp(const struct writer *writer, _Atomic uint64_t *word, uint64_t *out_pos)
{
    uint64_t seen = atomic_load_explicit(word, memory_order_acquire);
    do
        if (is_later(seen, tag_of(writer)))
            return false;
    while (!atomic_compare_exchange_weak_explicit(word, &seen, TERM_WORD(TERM_POSITION(seen), tag_of(writer)),
                                                  memory_order_acq_rel, memory_order_acquire));
    *out_pos = TERM_POSITION(seen);
    return true;
}

/* --- failures ----------------------------------------------------------------------------------------------------------------- */

/* How many slept. */
static unsigned wake_waiters(const struct part *part)
{
    struct ring_head *head = part->ring->head;
    atomic_thread_fence(memory_order_seq_cst); /* edge SYNC, from: `synced`, or a failure */
    if (atomic_load_explicit(&head->sync_wanted, memory_order_relaxed) == 0)
        return 0;
    atomic_store_explicit(&head->sync_wanted, 0, memory_order_relaxed);
    atomic_fetch_add_explicit(&head->sync, 1, memory_order_release);
    return futex_wake(&head->sync, INT_MAX);
}

/* Told when it begins, and when it is over. */
static void failed(struct writer *writer, struct part *part, uint64_t now_ns, int rc, const struct error *err)
{
    uint32_t before = atomic_exchange_explicit(&part->ring->head->write_failed, (uint32_t)-rc, memory_order_release);
    part->pause_ns = part->pause_ns == 0 ? RETRY_FIRST_NS : 2 * part->pause_ns;
    if (part->pause_ns > RETRY_MOST_NS)
        part->pause_ns = RETRY_MOST_NS;
    part->retry_ns = now_ns + part->pause_ns;
    if (before == 0)
        log_line(writer->log, LOG_JOURNAL, EVBUS_LOG_ERROR, "state=failed log=%s partition=%u reason=\"%s\"",
                 part->ring->name, part->ring->partition, err->text);
    wake_waiters(part);
}

static void went_well(struct writer *writer, struct part *part)
{
    part->pause_ns = 0;
    if (atomic_load_explicit(&part->ring->head->write_failed, memory_order_relaxed) == 0)
        return;
    atomic_store_explicit(&part->ring->head->write_failed, 0, memory_order_release);
    log_line(writer->log, LOG_JOURNAL, EVBUS_LOG_WARNING, "state=writing log=%s partition=%u", part->ring->name,
             part->ring->partition);
}

/* --- files -------------------------------------------------------------------------------------------------------------------- */

/* What the ids in a log mean, for a segment's header: {"topics":{"1":"lomash.orders.created"},"publishers":{"7":"web"}}. */
static int names_of(const struct memory *memory, const struct log_head *head, char **out_text, size_t *out_len,
                    struct error *err)
{
    size_t room = 64 + (size_t)TOPICS_MAX * (NAME_BYTES + 16) + (size_t)PUBLISHERS_MAX * (SERVICE_BYTES + 20);
    char *text = malloc(room);
    if (text == NULL)
        return error_no_memory(err, "the names in a segment's header");
    uint32_t n_topics = atomic_load_explicit(&head->n_topics, memory_order_acquire);
    size_t at = (size_t)snprintf(text, room, "{\"topics\":{");
    for (uint32_t i = 0; i < n_topics && i < TOPICS_MAX; i++)
        at += (size_t)snprintf(text + at, room - at, "%s\"%u\":\"%.127s\"", i > 0 ? "," : "", i + 1, head->topics[i]);
    at += (size_t)snprintf(text + at, room - at, "},\"publishers\":{");
    uint32_t last = atomic_load_explicit(&memory->control->publishers, memory_order_acquire);
    bool is_first = true;
    for (uint32_t id = last > PUBLISHERS_MAX ? last - PUBLISHERS_MAX + 1 : 1; id != 0 && id <= last; id++) {
        char service[SERVICE_BYTES];
        memory_publisher_name(memory, id, service);
        if (service[0] == '\0')
            continue;
        at += (size_t)snprintf(text + at, room - at, "%s\"%u\":\"%.63s\"", is_first ? "" : ",", id, service);
        is_first = false;
    }
    at += (size_t)snprintf(text + at, room - at, "}}");
    *out_text = text;
    *out_len = at;
    return EVBUS_OK;
}

/* A log's folder and a partition's: as who made the bus's wants it. */
static int make_folders(const struct memory *memory, const struct part *part, struct error *err)
{
    struct stat bus;
    char folder[FILE_PATH_MAX], identity[FILE_PATH_MAX];
    file_path(identity, memory->state.folder, "bus"); /* else the bus has been removed */
    if (memory_is_retired(memory) || access(identity, F_OK) != 0 || stat(memory->state.folder, &bus) != 0)
        return file_failed(err, memory->state.folder, "the bus is not there any more", ENOENT);
    file_path(folder, memory->state.folder, part->ring->name);
    int rc = file_make_folder(folder, bus.st_mode & 0777, bus.st_gid, err);
    if (rc == EVBUS_OK)
        rc = file_make_folder(part->place.folder, bus.st_mode & 0777, bus.st_gid, err);
    if (rc == EVBUS_OK) /* whoever made them may have died before they were on disk */
        rc = file_sync_folder(folder, err);
    return rc == EVBUS_OK ? file_sync_folder(memory->state.folder, err) : rc;
}

static bool lies_in(const struct segment *segment, uint64_t pos)
{
    return segment->fd >= 0 && pos >= segment->base && pos - segment->base < segment->n_cells;
}

/* A file that is damaged gets another name; nothing is deleted. */
static bool put_aside(struct writer *writer, struct part *part, uint64_t base, struct error *err)
{
    char path[FILE_PATH_MAX], aside[FILE_PATH_MAX + 16];
    segment_path(&part->place, base, path);
    snprintf(aside, sizeof aside, "%s.damaged", path);
    log_line(writer->log, LOG_JOURNAL, EVBUS_LOG_ERROR, "state=damaged log=%s partition=%u kept=%s reason=\"%s\"",
             part->ring->name, part->ring->partition, aside, err->text);
    return rename(path, aside) == 0;
}

/* The file of part->pos is open for writing. The one before it is synced by now. */
static int open_segment(struct writer *writer, struct part *part, struct error *err)
{
    const struct ring_head *head = part->ring->head;
    uint64_t base = part->pos & ~(part->place.n_cells - 1);
    char *names = NULL;
    size_t names_len = 0;
    if (lies_in(&part->segment, part->pos))
        return EVBUS_OK;
    segment_close(&part->segment);
    int rc = make_folders(writer->memory, part, err);
    if (rc == EVBUS_OK)
        rc = names_of(writer->memory, part->head, &names, &names_len, err);
    if (rc != EVBUS_OK)
        return rc;
    uint64_t prev_end = base == head->start ? head->prev_end : base;
    rc = segment_create(&part->segment, &part->place, base, prev_end, names, names_len, err);
    if (rc == EVBUS_ECORRUPT &&
        put_aside(writer, part, base, err)) /* its header is rotten: what is in it is kept for people */
        rc = segment_create(&part->segment, &part->place, base, prev_end, names, names_len, err);
    free(names);
    return rc;
}

static enum writer_did sync_part(struct writer *writer, struct part *part, uint64_t now_ns);

/* Appends what is there, one run; *out_more: there may be more. */
static enum writer_did append(struct writer *writer, struct part *part, uint64_t now_ns, bool *out_more)
{
    struct error err = {""};
    size_t n = 0;
    *out_more = false;
    if (part->segment.fd >= 0 && !lies_in(&part->segment, part->pos)) {
        enum writer_did did = sync_part(writer, part, now_ns);
        if (did != WRITER_WROTE)
            return did;
    }
    uint64_t end = (part->pos & ~(part->place.n_cells - 1)) + part->place.n_cells;
    enum copier_got got = copier_run(&part->copier, part->pos, end, writer->buffer, &n, &err);
    if (got == COPIER_NOTHING)
        return WRITER_IDLE;
    int rc = got == COPIER_FAILED ? EVBUS_EIO : open_segment(writer, part, &err);
    if (rc == EVBUS_OK)
        rc = segment_write(&part->segment, part->pos, writer->buffer, n, &err);
    if (rc != EVBUS_OK) {
        failed(writer, part, now_ns, rc, &err);
        return WRITER_IDLE;
    }
    part->pos += n;
    if (part->due_ns == 0)
        part->due_ns = now_ns + SYNC_NS;
    if (!part->has_failed_sync)
        went_well(writer, part);
    *out_more = move(writer, &part->ring->head->journaled, part->pos);
    if (part->pos - part->begun >= BEHIND_CELLS) {
        segment_begin_sync(&part->segment, part->begun, part->pos - part->begun);
        part->begun = part->pos;
    }
    return *out_more ? WRITER_WROTE : WRITER_DEPOSED;
}

/* After a failed fdatasync: the whole file anew, from what is on disk for sure, then from the ring; what is neither there nor in the
 * old file is a gap. It takes the old one's name when all of it is on disk. */
static int make_anew(struct writer *writer, struct part *part, struct error *err)
{
    struct segment draft;
    uint64_t synced = ring_synced(part->ring);
    uint64_t pos = synced > part->segment.base ? synced : part->segment.base;
    int rc = segment_draft(&draft, &part->segment, err);
    if (rc != EVBUS_OK)
        return rc;
    if (TERM_NUMBER(atomic_load_explicit(&part->ring->head->synced, memory_order_acquire)) != tag_of(writer))
        rc = error_set(err, EVBUS_EFENCED, "somebody else keeps"); /* who has removed our drafts, but for this one */
    if (rc == EVBUS_OK)
        rc = segment_copy(&draft, &part->segment, pos, err);
    while (rc == EVBUS_OK && pos < part->pos) {
        size_t n = 0;
        enum copier_got got = copier_run(&part->copier, pos, part->pos, writer->buffer, &n, err);
        if (got == COPIER_NOTHING)
            rc = error_set(err, EVBUS_EIO, "%s at %" PRIu64 ": cannot be made anew", part->segment.path, pos);
        else
            rc = got == COPIER_FAILED ? EVBUS_EIO : segment_write(&draft, pos, writer->buffer, n, err);
        pos += n;
    }
    journal_reader_close(&part->copier.back); /* it reads the old one */
    return segment_take_place(&draft, &part->segment, rc, err);
}

/* Where this life has nothing on disk yet: the end of the one before. */
static uint64_t synced_mark(const struct ring *ring)
{
    uint64_t synced = ring_synced(ring);
    return synced == ring->head->start ? ring->head->prev_end : synced;
}

static void note_mark(struct writer *writer, struct part *part)
{
    struct mark mark = {
        .partition = part->ring->partition,
        .ceiling = TERM_POSITION(atomic_load_explicit(&part->ring->head->ceiling, memory_order_relaxed)),
        .synced = synced_mark(part->ring)};
    memcpy(mark.log, part->head->name, sizeof mark.log);
    if (marks_write(&writer->marks, part->mark, &mark, false, NULL) == EVBUS_OK) /* it may lag [J2] */
        writer->has_new_marks = true;
}

/* WRITER_WROTE: all that was appended is on disk. */
static enum writer_did sync_part(struct writer *writer, struct part *part, uint64_t now_ns)
{
    struct error err = {""};
    struct ring *ring = part->ring;
    if (part->due_ns == 0)
        return WRITER_WROTE;
    if (now_ns < part->retry_ns)
        return WRITER_IDLE;
    int rc = part->has_failed_sync ? make_anew(writer, part, &err) : segment_sync(&part->segment, &err);
    if (rc != EVBUS_OK) {
        if (!part->has_failed_sync && !ring->is_visible_synced) /* the ring may have no copy any more */
            copier_say_lost(ring, ring_released(ring));
        part->has_failed_sync = true;
        failed(writer, part, now_ns, rc, &err);
        return WRITER_IDLE;
    }
    part->has_failed_sync = false;
    part->due_ns = 0;
    part->begun = part->pos;
    atomic_fetch_add_explicit(&ring->head->syncs, 1, memory_order_relaxed);
    if (!move(writer, &ring->head->synced, part->pos)) /* edge SYNC, from: what is on disk */
        return WRITER_DEPOSED;
    went_well(writer, part);
    writer->n_woken += wake_waiters(part);
    if (ring->is_visible_synced)
        doorbell_ring(part->head, writer->memory->control->slots, &part->copier.unseen);
    memset(&part->copier.unseen, 0, sizeof part->copier.unseen);
    return WRITER_WROTE;
}

/* Positions up to a whole step ahead may be in use before anybody needs them. */
static enum writer_did keep_ceiling(struct writer *writer, struct part *part, uint64_t now_ns)
{
    struct error err = {""};
    struct ring_head *head = part->ring->head;
    uint64_t ceiling = TERM_POSITION(atomic_load_explicit(&head->ceiling, memory_order_acquire));
    uint64_t tail = ring_tail(part->ring);
    if (ceiling >= tail && ceiling - tail >= MARKS_STEP / 2)
        return WRITER_IDLE;
    struct mark mark = {.partition = part->ring->partition,
                        .ceiling = (tail > ceiling ? tail : ceiling) + MARKS_STEP,
                        .synced = synced_mark(part->ring)};
    memcpy(mark.log, part->head->name, sizeof mark.log);
    int rc = marks_write(&writer->marks, part->mark, &mark, true, &err);
    if (rc != EVBUS_OK) {
        failed(writer, part, now_ns, rc, &err);
        return WRITER_IDLE;
    }
    return move(writer, &head->ceiling, mark.ceiling) ? WRITER_WROTE : WRITER_DEPOSED;
}

static int add_logs(struct writer *writer, struct error *err);

/* --- looks -------------------------------------------------------------------------------------------------------------------- */

static enum writer_did look_at(struct writer *writer, struct part *part, uint64_t now_ns, uint64_t *out_due_ns)
{
    bool has_written = false;
    if (now_ns < part->retry_ns) {
        if (part->retry_ns < *out_due_ns)
            *out_due_ns = part->retry_ns;
        return WRITER_IDLE;
    }
    enum writer_did did = keep_ceiling(writer, part, now_ns);
    /* files without a mark are taken for damage (recover.c) */
    if (TERM_POSITION(atomic_load_explicit(&part->ring->head->ceiling, memory_order_acquire)) == 0)
        return did;
    uint64_t until = ring_tail(part->ring); /* no further: producers may be as fast as we are, and others wait for us */
    uint64_t most = part->pos + LOOK_CELLS;
    for (bool more = did != WRITER_DEPOSED; more && part->pos < until && part->pos < most;) {
        did = append(writer, part, now_ns, &more);
        has_written = has_written || did == WRITER_WROTE;
    }
    if (part->pos >= most)
        *out_due_ns = now_ns;
    if (part->copier.back.segment.fd >= 0 && ring_released(part->ring) <= part->pos)
        journal_reader_close(&part->copier.back);
    if (did == WRITER_DEPOSED || part->due_ns == 0 || now_ns < part->retry_ns)
        return did == WRITER_DEPOSED ? did : has_written ? WRITER_WROTE : WRITER_IDLE;
    struct ring_head *head = part->ring->head;
    if (part->ring->is_visible_synced || atomic_load_explicit(&head->sync_wanted, memory_order_acquire) != 0 ||
        now_ns >= part->due_ns) {
        if ((did = sync_part(writer, part, now_ns)) == WRITER_WROTE) {
            has_written = true;
            if (now_ns >= writer->mark_ns)
                note_mark(writer, part);
        }
    } else if (part->due_ns < *out_due_ns) {
        *out_due_ns = part->due_ns;
    }
    return did == WRITER_DEPOSED ? did : has_written ? WRITER_WROTE : WRITER_IDLE;
}

enum writer_did writer_look(struct writer *writer, uint64_t now_ns, uint64_t *out_due_ns)
{
    enum writer_did did = WRITER_IDLE;
    writer->n_woken = 0;
    if (add_logs(writer, NULL) ==
        EVBUS_EFENCED) /* else the next look tries again: nothing of a log is released before */
        return WRITER_DEPOSED;
    for (uint32_t l = 0; l < writer->n_logs; l++)
        for (uint32_t p = 0; writer->parts[l] != NULL && p < writer->memory->logs[l].n_partitions; p++) {
            enum writer_did found = look_at(writer, &writer->parts[l][p], now_ns, out_due_ns);
            if (found == WRITER_DEPOSED)
                return found;
            did = found == WRITER_WROTE ? found : did;
        }
    if (now_ns >= writer->mark_ns) {
        writer->mark_ns = now_ns + MARK_NS;
        if (writer->has_new_marks)
            file_sync(writer->marks.fd, writer->marks.path, NULL);
        writer->has_new_marks = false;
    }
    return did;
}

/* Appends and syncs until all of a partition that was claimed when we began is on disk. */
static enum writer_did sync_up_to(struct writer *writer, struct part *part, uint64_t until, uint64_t now_ns)
{
    uint64_t due_ns = UINT64_MAX;
    while (ring_synced(part->ring) < until) {
        uint64_t before = part->pos;
        enum writer_did did = look_at(writer, part, now_ns, &due_ns);
        if (did != WRITER_DEPOSED)
            did = sync_part(writer, part, now_ns);
        if (did != WRITER_WROTE)
            return did;
        if (part->pos == before && ring_synced(part->ring) < until)
            return WRITER_IDLE; /* a claim stands in the way, or its file cannot be written */
    }
    return WRITER_WROTE;
}

enum writer_did writer_sync_all(struct writer *writer)
{
    enum writer_did did = add_logs(writer, NULL) == EVBUS_OK ? WRITER_WROTE : WRITER_IDLE;
    uint64_t now_ns = clock_mono_ns();
    for (uint32_t l = 0; l < writer->n_logs; l++)
        for (uint32_t p = 0; writer->parts[l] != NULL && p < writer->memory->logs[l].n_partitions; p++) {
            struct part *part = &writer->parts[l][p];
            enum writer_did found = sync_up_to(writer, part, ring_tail(part->ring), now_ns);
            if (found == WRITER_DEPOSED)
                return found;
            did = found == WRITER_IDLE ? found : did;
        }
    return did;
}

void writer_end(struct writer *writer)
{
    if (writer_sync_all(writer) == WRITER_DEPOSED)
        return;
    for (uint32_t l = 0; l < writer->n_logs; l++)
        for (uint32_t p = 0; writer->parts[l] != NULL && p < writer->memory->logs[l].n_partitions; p++)
            note_mark(writer, &writer->parts[l][p]);
    if (writer->has_new_marks)
        file_sync(writer->marks.fd, writer->marks.path, NULL);
}

/* --- a term ------------------------------------------------------------------------------------------------------------------- */

/* Drafts of keepers that are dead or deposed. */
static void sweep(const struct part *part)
{
    char path[FILE_PATH_MAX];
    int rc = EVBUS_OK;
    DIR *dir = opendir(part->place.folder);
    if (dir == NULL)
        return;
    for (struct dirent *entry; (entry = file_next_name(dir, part->place.folder, &rc, NULL)) != NULL;) {
        if (!file_has_ending(entry->d_name, ".tmp"))
            continue;
        file_path(path, part->place.folder, entry->d_name);
        unlink(path);
    }
    closedir(dir);
}

/* One more log: our term in its words, its marks in our file. */
static int add_log(struct writer *writer, uint32_t l, const struct mark *marks, size_t n_marks, struct error *err)
{
    struct memory_log *log = &writer->memory->logs[l];
    if (!log->rings[0].has_journal)
        return EVBUS_OK;
    struct part *parts = calloc(log->n_partitions, sizeof *parts);
    if (parts == NULL)
        return error_no_memory(err, "the journal of %s", log->name);
    int rc = EVBUS_OK;
    for (uint32_t p = 0; p < log->n_partitions && rc == EVBUS_OK; p++) {
        struct part *part = &parts[p];
        struct ring_head *head = log->rings[p].head;
        *part = (struct part){
            .ring = &log->rings[p], .head = log->head, .segment = SEGMENT_NONE, .mark = writer->n_marks + p};
        partition_place(writer->memory, part->ring, &part->place);
        part->copier = (struct copier){.ring = part->ring, .log = writer->log, .segment_cells = part->place.n_cells};
        journal_reader_init(&part->copier.back, &part->place);
        uint64_t ceiling, journaled;
        if (!stamp(writer, &head->ceiling, &ceiling) || !stamp(writer, &head->journaled, &journaled) ||
            !stamp(writer, &head->synced, &part->pos)) {
            rc = error_set(err, EVBUS_EFENCED, "somebody else keeps the bus by now");
            break;
        }
        part->begun = part->pos;
        sweep(part); /* after the stamps: whoever made them cannot give them a name any more */
        const struct mark *found = marks_find(marks, n_marks, log->name, p);
        if (marks != NULL && (found == NULL ? ceiling != 0 : found->ceiling < ceiling))
            rc = error_set(err, EVBUS_ECONFLICT,
                           "%s is older than the bus in memory: %s/%u may use positions up to %" PRIu64
                           ", the folder knows %" PRIu64
                           ". Put the right folder back; or end the bus's processes and rm "
                           "/dev/shm/evbus.%s.* to go on from this one",
                           writer->memory->state.folder, log->name, p, ceiling, found != NULL ? found->ceiling : 0,
                           writer->memory->bus);
        struct mark mark = {.partition = p, .ceiling = ceiling, .synced = synced_mark(part->ring)};
        memcpy(mark.log, log->head->name, sizeof mark.log);
        if (rc == EVBUS_OK && ceiling != 0)
            rc = marks_write(&writer->marks, part->mark, &mark, false, err);
    }
    if (rc != EVBUS_OK) {
        free(parts);
        return rc;
    }
    writer->parts[l] = parts;
    writer->n_marks += log->n_partitions;
    return EVBUS_OK;
}

static int add_logs(struct writer *writer, struct error *err)
{
    int rc = EVBUS_OK;
    while (rc == EVBUS_OK && writer->n_logs < memory_n_logs(writer->memory))
        if ((rc = add_log(writer, writer->n_logs, NULL, 0, err)) == EVBUS_OK)
            writer->n_logs++;
    return rc;
}

/* Whose marks add_log() writes, at least: a ceiling only rises. */
static uint32_t count_ceilings(const struct memory *memory)
{
    uint32_t n = 0;
    for (uint32_t l = 0; l < memory_n_logs(memory); l++)
        for (uint32_t p = 0; memory->logs[l].rings[0].has_journal && p < memory->logs[l].n_partitions; p++)
            n += TERM_POSITION(atomic_load_explicit(&memory->logs[l].rings[p].head->ceiling, memory_order_acquire)) !=
                 0;
    return n;
}

int writer_open(struct writer **out_writer, struct memory *memory, struct log *log, uint32_t number, struct error *err)
{
    struct mark *marks = NULL;
    size_t n_marks = 0;
    const uint8_t *uuid = memory->control->uuid;
    struct writer *writer = calloc(1, sizeof *writer);
    if (writer == NULL)
        return error_no_memory(err, "the journal's writer");
    writer->memory = memory;
    writer->log = log;
    writer->term = (struct term){.incarnation = memory->control->incarnation, .number = number};
    writer->marks = MARKS_NONE;
    writer->buffer = malloc(COPIER_ROOM * CELL_BYTES);
    int rc = writer->buffer != NULL ? marks_load(memory->state.folder, uuid, &marks, &n_marks, err)
                                    : error_no_memory(err, "the journal's writer");
    if (rc == EVBUS_OK && n_marks == 0)
        rc = error_set(err, EVBUS_ECONFLICT,
                       "%s has lost its marks, which tell what positions are in use: put it back as it was, or end the "
                       "bus's processes and `evbus -b %s rm`",
                       memory->state.folder, memory->bus);
    if (rc == EVBUS_OK)
        rc = marks_create(&writer->marks, memory->state.folder, uuid, writer->term, count_ceilings(memory), err);
    for (uint32_t l = 0; rc == EVBUS_OK && l < memory_n_logs(memory); l++)
        if ((rc = add_log(writer, l, marks, n_marks, err)) == EVBUS_OK)
            writer->n_logs = l + 1;
    if (rc == EVBUS_OK)
        rc = file_sync(writer->marks.fd, writer->marks.path, err);
    free(marks);
    if (rc != EVBUS_OK) {
        if (writer->marks.fd >= 0)
            unlink(writer->marks.path);
        writer_close(writer);
        return rc;
    }
    marks_drop_others(memory->state.folder, writer->term, NULL); /* else they stand there: what is higher counts */
    *out_writer = writer;
    return EVBUS_OK;
}

void writer_close(struct writer *writer)
{
    if (writer == NULL)
        return;
    for (uint32_t l = 0; l < LOGS_MAX; l++) {
        for (uint32_t p = 0; writer->parts[l] != NULL && p < writer->memory->logs[l].n_partitions; p++) {
            segment_close(&writer->parts[l][p].segment);
            journal_reader_close(&writer->parts[l][p].copier.back);
        }
        free(writer->parts[l]);
    }
    marks_close(&writer->marks);
    free(writer->buffer);
    free(writer);
}
