/* share_entry.h: what the files of a share have in common: its entries, as the lease's holder sees them. See share_next.c. */
#ifndef EVBUS_SHARE_ENTRY_H
#define EVBUS_SHARE_ENTRY_H

#include "point.h"
#include "share.h"
#include "topic.h"

#define SHARE_RETRY_NS UINT64_C(1000000000) /* until files that cannot be read are tried again */

/* Those of all partitions of a log stand together, entry 0 of each first, then entry 1: most have one in hand at a time, so one page
 * has all that is ever touched. */
static inline struct share_own *share_own(const struct share *share, uint32_t i)
{
    return &share->own[(size_t)i * share->n_beside];
}

/* A side field: private for us, shared for whoever takes over. */
static inline void share_set_side(struct share *share, uint32_t i, uint64_t time_ns, uint64_t note)
{
    struct share_own *own = share_own(share, i);
    atomic_store_explicit(&own->time_ns, time_ns, memory_order_relaxed);
    atomic_store_explicit(&own->note, note, memory_order_relaxed);
    atomic_store_explicit(&share->part->side[i].time_ns, time_ns, memory_order_relaxed);
    atomic_store_explicit(&share->part->side[i].note, note, memory_order_relaxed);
}

static inline uint64_t share_time(const struct share *share, uint32_t i)
{
    return atomic_load_explicit(&share_own(share, i)->time_ns, memory_order_relaxed);
}

static inline uint64_t share_note(const struct share *share, uint32_t i)
{
    return atomic_load_explicit(&share_own(share, i)->note, memory_order_relaxed);
}

static inline struct pending share_entry(const struct share *share, uint32_t i)
{
    return pending_load(share->part, i, share->moved_to);
}

static inline struct pending share_emptied(const struct pending *from)
{
    return (struct pending){.epoch = from->epoch};
}

static inline uint64_t share_key(const struct frame *frame)
{
    return topic_key_hash(frame->key, frame->key_len, frame->id);
}

static inline bool share_is_ours(const struct share *share, const struct frame_header *header)
{
    return header->kind == FRAME_EVENT && cursor_wants(&share->cursor, header->topic);
}

static inline void share_count(struct share *share, enum pending_cause cause)
{
    atomic_fetch_add_explicit(&share->part->n_causes[cause], 1, memory_order_relaxed);
}

/* An entry's word may be the same in two runs of its event: an attempt that was taken back is made again. So each run has a number, in
 * memory that is ours alone, and is ended once: by its handler, or by the lease thread, too late for the handler [P8]. */
static inline bool share_end_run(struct share *share, uint32_t i, uint64_t run)
{
    return (run & 1) == 0 && atomic_compare_exchange_strong_explicit(&share_own(share, i)->run, &run, run | 1,
                                                                     memory_order_acq_rel, memory_order_relaxed);
}

/* Likewise, of a handler that the lease thread runs itself: nobody else ends it then, so no locked operation is needed. */
static inline bool share_end_own_run(struct share *share, uint32_t i, uint64_t run)
{
    struct share_own *own = share_own(share, i);
    if (atomic_load_explicit(&own->run, memory_order_relaxed) != run)
        return false;
    atomic_store_explicit(&own->run, run | 1, memory_order_release);
    return true;
}

static inline bool share_end_any_run(struct share *share, uint32_t i)
{
    return share_end_run(share, i, atomic_load_explicit(&share_own(share, i)->run, memory_order_acquire));
}

/* --- share_read.c --------------------------------------------------------------------------------------------------------- */

enum share_read {
    SHARE_READ_EVENT,
    SHARE_READ_LOST,  /* for good */
    SHARE_READ_FAILED /* now: the files cannot be read */
};

/* A committed frame copied and parsed, from the ring or the files. */
enum share_read share_read(struct share *share, uint64_t pos, uint64_t *buffer, struct frame *out);

/* --- share_outage.c: while the group pauses ------------------------------------------------------------------------------- */

bool share_is_paused(const struct share *share);

/* An attempt has failed. true: that is charged. */
bool share_is_own_fault(const struct share *share, const struct retry *retry, uint64_t pos, enum pending_cause cause,
                        const char *error);
/* An event is done. That may end a pause: then all are told. */
void share_tell_resumed(const struct share *share);
static inline void share_tell_success(const struct share *share)
{
    if (share->of->outage != NULL && outage_succeeded(share->of->outage))
        share_tell_resumed(share);
}

/* What the lease thread's chain has done since it told so last: one counting for many, which whoever is killed may owe. */
static inline void share_tell_chained(struct share *share)
{
    if (share->n_chained != 0)
        atomic_fetch_add_explicit(&share->part->n_done, share->n_chained, memory_order_relaxed);
    share->n_chained = 0;
}

/* An event is done, as its word says by now. */
static inline void share_tell_done(struct share *share)
{
    point_pass(POINT_GROUP_FINISHED, NULL);
    atomic_fetch_add_explicit(&share->part->n_done, 1, memory_order_relaxed); /* by any thread, and by who is fenced */
    share_tell_success(share);
}

/* probe 0: none. */
void share_end_probe(const struct share *share, uint64_t probe, bool has_failed, uint64_t now_ns);

/* The pause is over: what has failed is tried again within a second, not after its wait. */
void share_make_due(struct share *share, uint64_t now_ns);

/* --- share_dead.c: what becomes of the dead, and of what follows them -------------------------------------------------------- */

/* The id of the letter that would be made of it. */
void share_letter_id(const struct share *share, const struct frame *frame, uint64_t pos, uint8_t out_id[16]);

/* Its letter, then as if it were done; or its key waits until somebody settles the letter. false: the word has changed. */
bool share_bury_event(struct share *share, uint32_t i, const struct pending *dead, uint64_t *buffer, uint64_t now_ns);

/* Has somebody settled its letter? Replayed: it is tried again where it stands, before what waits behind it. false: we are fenced. */
bool share_look_at_parked(struct share *share, uint32_t i, const struct pending *parked, uint64_t now_ns);

/* How often an event has been replayed where it stands: it was parked. */
uint32_t share_replays(const struct share *share, const struct frame *frame, uint64_t pos);

/* An event of the key is a dead letter that nobody has settled: the handler is told. */
void share_mark_gap_if(struct share *share, struct item *item);
static inline void share_mark_gap(struct share *share, struct item *item)
{
    const struct gaps *gaps = share->of->gaps;
    if (gaps != NULL && (gaps_has_news(gaps) || !gaps_is_empty(gaps)))
        share_mark_gap_if(share, item);
}

/* --- share_unfit.c: what no handler gets ----------------------------------------------------------------------------------- */

static inline bool share_accepts_all(const struct share *share)
{
    return share->of->accepts == NULL || share->of->accepts->n == 0;
}

static inline void share_choose_lowest(struct item *item)
{
    item->choice = (struct version_choice){.from = {item->frame.major, item->frame.minor}};
}

/* May a handler get this event at all? Asked each time that one is about to. CAUSE_NONE: it may. why: more than the cause says. */
enum pending_cause share_judge(const struct share *share, struct item *item, char *why, size_t why_cap);
static inline enum pending_cause share_unfit(const struct share *share, struct item *item, char *why, size_t why_cap)
{
    if (item->frame.area_len != 0 || !share_accepts_all(share))
        return share_judge(share, item, why, why_cap);
    share_choose_lowest(item);
    return CAUSE_NONE;
}

/* It may not: dead, and no attempt is made of it. from: its entry, TAKEN or WAIT. false: we are fenced. */
bool share_end_unhandled(struct share *share, uint32_t i, const struct pending *from, const uint8_t *id,
                         enum pending_cause cause, const char *why, uint64_t now_ns);

#endif
