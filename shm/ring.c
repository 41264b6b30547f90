/* ring.c: claim, write, commit, cancel, read. One partition, any number of producers and readers; no lock.
 *
 *     producer                                             reader at p
 *     1  p = tail; w = word[p]                             1  header[0] == STAMP(p)?  committed. Not for a while: the word
 *     2  lap(w) == lap(p): claimed: help tail on, again    2  copy the first cell, bound its length, copy the rest
 *     3  room? (released)                  edge GATE       3  acquire fence; released <= p, else it may have been
 *     4  CAS word: {older lap} -> CLAIMED, me, n              overwritten while we copied
 *     5  CAS tail -> p + n  (anybody may)                  4  the copy's own position is p
 *     6  bytes, header last, stamp = PRE(p)
 *     7  CAS word: CLAIMED -> COMMITTED    edge COMMIT     CLAIMED for longer than its patience: CAS -> CANCELLED, go on
 *     8  CAS stamp: PRE(p) -> STAMP(p), result ignored     CLAIMED by the dead: CAS -> PAD, go on
 *
 * Why that is enough.
 * WHOLE      Commit and cancel are CASes on one word: a frame is either committed by its writer after its last byte, or never
 *            seen. A reader that sees STAMP(p) or COMMITTED sees the bytes (edge COMMIT).
 * ONE-WRITER A position is claimed once: words never go back to an older lap. A cancelled claim's cells stay its writer's:
 *            `released` passes only COMMITTED and PAD words, and PAD is said by the writer itself, once it is proven dead, or
 *            once its cells are fenced off (fence.c).
 * NEVER-TORN A producer loads `released` (acquire) before it claims and has a release fence before its first byte; a reader
 *            that copied any such byte sees, after its acquire fence, a `released` beyond p [R14].
 * PROGRESS   Whose claim blocks is known from the word, with its length. Nobody waits for the dead or, for longer than their
 *            patience, for the stopped. A claim at tail is found by whoever comes next, who helps the tail on [R1].
 * A run is several frames by one claim: its word says CLAIMED with the length of all, the commit leaves in it the length of the first,
 * and from then on each is a frame like any other. The words and stamps of those behind the first are plain stores before the commit
 * [R20]: until then everybody who comes there stands at the first, and steps over all of them if it is cancelled; and the writer that
 * stores them late hits nobody, as no claim begins in cells that are its own, or fenced off for it. So all are seen or none, in their order.
 * The word decides, the stamp is only faster [R19]: readers poll it because it stands in a line that they need anyway and
 * that claims do not write. It is set by CAS: a writer that slept between 7 and 8 must not hit a reused cell. Payload never
 * touches the words: a claim's CAS on payload bytes would be open to ABA.
 *
 * `released` is {position, generation}: whoever moves it reads it before the pins and CASes the whole, a new pin stores its
 * low, then counts the generation up, then reads it again [R8]. It lags on purpose [R6].
 * Nothing from shared memory is trusted before it is bounded: EVBUS_ECORRUPT, never a crash or an endless loop.
 * [keeps WHOLE] [keeps ONE-WRITER] [keeps NEVER-TORN] [keeps PROGRESS]
 * Rules R1 R6-R8 R10-R14 R17 R19 R20. Checked by tests/model/{stamp,slots,release,pin}.pml and tests/crash/. */
#include "ring.h"

#include "cell.h"
#include "clock.h"
#include "fence.h"
#include "futex.h"
#include "slot.h"

#include <inttypes.h>
#include <limits.h>
#include <string.h>

size_t ring_bytes(uint64_t n_cells)
{
    return sizeof(struct ring_head) + (size_t)n_cells * (sizeof(uint64_t) + CELL_BYTES);
}

void ring_make(void *at, uint64_t salt)
{
    ((struct ring_head *)at)->salt = salt;
}

void ring_view(struct ring *out_ring, void *at, uint64_t n_cells, struct slot *slots, const char *name,
               uint32_t partition)
{
    struct ring_head *head = at;
    uint64_t quarter = n_cells / 4;
    uint32_t shift = (uint32_t)__builtin_ctzll(n_cells);
    uint64_t laps_end = ((UINT64_C(1) << WORD_LAP_BITS) - 2)
                        << shift; /* [R13]; beyond POSITION_LIMIT for 512 KiB and more */
    if (laps_end >> shift != (UINT64_C(1) << WORD_LAP_BITS) - 2)
        laps_end = UINT64_MAX;
    *out_ring = (struct ring){
        .head = head,
        .words = (_Atomic uint64_t *)(head + 1),
        .cells = (_Atomic uint64_t *)(head + 1) + n_cells,
        .slots = slots,
        .name = name,
        .partition = partition,
        .shift = shift,
        .capacity = n_cells,
        .salt = head->salt,
        .limit = POSITION_LIMIT < laps_end ? POSITION_LIMIT : laps_end,
        .frame_cells_max = quarter < FRAME_CELLS_MAX ? (uint32_t)quarter : FRAME_CELLS_MAX,
    };
}

static int corrupt(const struct ring *ring, uint64_t pos, uint64_t found, const char *what, struct error *err)
{
    return error_set(err, EVBUS_ECORRUPT, "%s/%u at %" PRIu64 ": %s (%#" PRIx64 "); run `evbus doctor`", ring->name,
                     ring->partition, pos, what, found);
}

/* Somebody claimed p: move the tail behind it, for all. false: its word has no possible length. */
static bool help_tail(struct ring *ring, uint64_t p, uint64_t word)
{
    if (!ring_is_length(ring, p, word_cells(word)))
        return false;
    uint64_t tail = p;
    atomic_compare_exchange_strong_explicit(&ring->head->tail, &tail, p + word_cells(word), memory_order_acq_rel,
                                            memory_order_relaxed);
    return true;
}

/* Where the next claim begins. */
struct front {
    uint64_t pos;
    _Atomic uint64_t *word_at;
    uint64_t word; /* as it stands there */
};

static inline struct front front_of(const struct ring *ring)
{
    struct front front = {.pos = atomic_load_explicit(&ring->head->tail, memory_order_acquire)};
    front.word_at = ring_word(ring, front.pos);
    front.word = atomic_load_explicit(front.word_at, memory_order_acquire);
    return front;
}

/* May n_cells there be claimed as they are, which is so most often? */
static inline bool is_free(const struct ring *ring, const struct front *front, uint32_t n_cells)
{
    uint64_t p = front->pos;
    uint64_t released = RELEASED_POSITION(
        atomic_load_explicit(&ring->head->released, memory_order_acquire)); /* edge GATE, to: the next writer */
    return word_lap(front->word) < ring_lap(ring, p) && p < ring->limit && released <= p &&
           p + n_cells <= released + ring->capacity && ring_index(ring, p) + n_cells <= ring->capacity &&
           atomic_load_explicit(&ring->head->fenced, memory_order_relaxed) == 0; /* after `released` was loaded [R5] */
}

/* What is claimed. */
struct stretch {
    uint32_t n_cells;
    bool is_pad;
    uint32_t pads_slot; /* nobody's, but of a pad in a fence's cells */
};

/* They may not. EVBUS_OK: as *inout_stretch says, they may; EVBUS_EAGAIN: it is another front now; else as ring_claim(). */
static int look_closer(struct ring *ring, const struct front *front, struct stretch *inout_stretch, struct error *err)
{
    uint32_t n_cells = inout_stretch->n_cells;
    uint64_t p = front->pos;
    uint64_t lap = ring_lap(ring, p);
    if (word_lap(front->word) == lap)
        return help_tail(ring, p, front->word) ? EVBUS_EAGAIN
                                               : corrupt(ring, p, front->word, "a claim of an impossible length", err);
    if (p >= ring->limit) {
        if (p < POSITION_LIMIT + FRAME_CELLS_MAX)
            return error_set(err, EVBUS_EEXHAUSTED, "%s/%u has used up its positions: make a new bus", ring->name,
                             ring->partition);
        return corrupt(ring, p, p, "an impossible tail", err);
    }
    uint64_t released = RELEASED_POSITION(
        atomic_load_explicit(&ring->head->released, memory_order_acquire)); /* edge GATE, to: the next writer */
    if (word_lap(front->word) > lap || released > p) /* then the tail has moved on since we read it */
        return ring_tail(ring) != p ? EVBUS_EAGAIN
                                    : corrupt(ring, p, front->word, "a tail that is behind its ring", err);
    uint64_t left = ring->capacity - ring_index(ring, p);
    if (n_cells > left) /* no frame crosses the end: a pad fills the rest */
        *inout_stretch = (struct stretch){.n_cells = (uint32_t)left, .is_pad = true};
    if (atomic_load_explicit(&ring->head->fenced, memory_order_relaxed) != 0 &&
        fence_meet(ring, p, &inout_stretch->n_cells,
                   &inout_stretch->pads_slot)) { /* after `released` was loaded [R5] */
        inout_stretch->is_pad = true;
        if (!fence_leaves_room(ring, n_cells))
            return EVBUS_EFULL;
    }
    if (p + inout_stretch->n_cells > released + ring->capacity) /* no more than needed: readers may be close behind */
        return ring_release(ring, ring->capacity / 8) ? EVBUS_EAGAIN : EVBUS_EFULL;
    return EVBUS_OK;
}

/* true: it is ours, or a pad, and the tail behind it. */
static inline bool take(struct ring *ring, const struct front *front, const struct stretch *stretch,
                        struct claim *claim)
{
    uint64_t p = front->pos;
    uint64_t word = front->word;
    uint64_t mine = stretch->is_pad ? word_make(ring_lap(ring, p), WORD_PAD, stretch->pads_slot, stretch->n_cells)
                                    : word_make(ring_lap(ring, p), WORD_CLAIMED, claim->slot, stretch->n_cells);
    claim->pos = p;
    claim->n_cells = claim->n_first = stretch->n_cells;
    claim->word_at = front->word_at;
    claim->word = mine;
    claim->cells = ring->cells + ring_index(ring, p) * CELL_WORDS;
    claim->ring = stretch->is_pad ? NULL : ring; /* before the claim: a longjmp out of here must find it [R11] */
    atomic_signal_fence(memory_order_seq_cst);
    if (!atomic_compare_exchange_strong_explicit(front->word_at, &word, mine, memory_order_acq_rel,
                                                 memory_order_relaxed)) {
        claim->ring = NULL;
        return false;
    }
    atomic_compare_exchange_strong_explicit(&ring->head->tail, &p, p + stretch->n_cells, memory_order_acq_rel,
                                            memory_order_relaxed);
    return true;
}

/* Apart from ring_claim(), whose first look most often finds free cells. */
static __attribute__((noinline)) int claim_on(struct ring *ring, uint32_t n_cells, struct claim *claim,
                                              struct error *err)
{
    for (;;) {
        struct front front = front_of(ring);
        struct stretch stretch = {.n_cells = n_cells};
        int rc = look_closer(ring, &front, &stretch, err);
        if (rc == EVBUS_OK && take(ring, &front, &stretch, claim) && !stretch.is_pad)
            return EVBUS_OK;
        if (rc != EVBUS_OK && rc != EVBUS_EAGAIN)
            return rc;
    }
}

int ring_claim(struct ring *ring, uint32_t n_cells, struct claim *claim, struct error *err)
{
    struct front front = front_of(ring);
    return is_free(ring, &front, n_cells) && take(ring, &front, &(struct stretch){.n_cells = n_cells}, claim)
               ? EVBUS_OK
               : claim_on(ring, n_cells, claim, err);
}

static inline void write_frame(_Atomic uint64_t *to, const uint64_t *frame, uint32_t n_cells, uint64_t pos,
                               uint64_t stamp)
{
    size_t last = (n_cells - 1) * (size_t)CELL_WORDS;
    for (size_t i = 2 * CELL_WORDS; i < last; i += CELL_WORDS) /* of most frames nothing but payload */
        cell_store_pairs(to + i, frame + i);
    if (last > CELL_WORDS)
        cell_store(to + last, frame + last);
    if (last > 0)
        cell_store(to + CELL_WORDS, frame + CELL_WORDS);
    const uint64_t header[CELL_WORDS] = {stamp, frame[1], pos, frame[3], frame[4], frame[5], frame[6], frame[7]};
    cell_store(to, header);
}

/* The frames of a run behind its first one, with their words and stamps: nobody comes to them before that one is committed [R20]. */
static void write_behind(const struct claim *claim, const uint64_t *frames)
{
    struct ring *ring = claim->ring;
    for (uint32_t at = claim->n_first; at < claim->n_cells;) {
        const uint64_t *frame = frames + at * (size_t)CELL_WORDS;
        uint32_t n_cells = ((const struct frame_header *)frame)->n_cells;
        uint64_t pos = claim->pos + at;
        write_frame(claim->cells + at * (size_t)CELL_WORDS, frame, n_cells, pos, ring_stamp(ring, pos));
        atomic_store_explicit(claim->word_at + at, word_make(ring_lap(ring, pos), WORD_COMMITTED, claim->slot, n_cells),
                              memory_order_relaxed);
        at += n_cells;
    }
}

/* By our own stores alone: what the kernel writes for a thread (io_uring, AIO) can come after its death, and nobody
 * outside is given a claim's cells to let it [B11]. */
void ring_write(const struct claim *claim, const uint64_t *frames)
{
    atomic_thread_fence(memory_order_release); /* edge GATE: no byte before `released` was read [R14] */
    write_frame(claim->cells, frames, claim->n_first, claim->pos, ring_pre(claim->ring, claim->pos));
    if (claim->n_first != claim->n_cells)
        write_behind(claim, frames);
}

/* Our claim is over without a commit: says that its cells are nobody's now. found: its word as we saw it last. false: it is
 * nothing that a claim of ours can have become. */
static bool say_pad(struct claim *claim, uint64_t found)
{
    struct ring *ring = claim->ring;
    uint64_t lap = ring_lap(ring, claim->pos);
    uint64_t pad = word_make(lap, WORD_PAD, 0, claim->n_cells);
    claim->ring = NULL;
    while (found == word_make(lap, WORD_CLAIMED, claim->slot, claim->n_cells) ||
           found == word_make(lap, WORD_CANCELLED, claim->slot, claim->n_cells))
        if (atomic_compare_exchange_strong_explicit(ring_word(ring, claim->pos), &found, pad, memory_order_release,
                                                    memory_order_relaxed))
            return true;
    if (found == pad) /* a publish that interrupted us gave it up */
        return true;
    if (word_state(found) != WORD_PAD || word_slot(found) != claim->slot || word_lap(found) < lap)
        return false;
    fence_end(ring, claim->pos, claim->slot); /* we were fenced */
    ring_wake_producers(ring);
    return true;
}

int ring_commit(struct claim *claim, struct error *err)
{
    struct ring *ring = claim->ring;
    struct slot *slot = &ring->slots[claim->slot];
    uint64_t word = claim->word;
    uint64_t committed = word_committed(word) - (claim->n_cells - claim->n_first); /* of its first frame alone */
    if (!atomic_compare_exchange_strong_explicit(claim->word_at, &word, committed, memory_order_release,
                                                 memory_order_relaxed)) { /* edge COMMIT, from */
        if (!say_pad(claim, word))
            return corrupt(ring, claim->pos, word, "the word of a claim has changed", err);
        atomic_fetch_add_explicit(&slot->cancels_in_row, 1, memory_order_relaxed);
        atomic_fetch_add_explicit(&slot->cancels, 1, memory_order_relaxed);
        return EVBUS_EAGAIN;
    }
    uint64_t pre = ring_pre(ring, claim->pos);
    atomic_compare_exchange_strong_explicit(claim->cells, &pre, ring_stamp(ring, claim->pos), memory_order_release,
                                            memory_order_relaxed); /* edge COMMIT, from: the frame's bytes */
    claim->ring = NULL;
    if (atomic_load_explicit(&slot->cancels_in_row, memory_order_relaxed) != 0)
        atomic_store_explicit(&slot->cancels_in_row, 0, memory_order_relaxed);
    return EVBUS_OK;
}

void ring_abandon(struct claim *claim)
{
    if (claim->ring != NULL)
        say_pad(claim, atomic_load_explicit(ring_word(claim->ring, claim->pos), memory_order_relaxed));
}

void ring_release_once(struct ring *ring, uint64_t word)
{
    /* The turn is named by where `released` stands, so it is free again as soon as that has moved. Whoever took it and
     * died or stopped costs nothing: a ring that is really full is released by whoever needs room, turn or not. */
    uint64_t turn = atomic_load_explicit(&ring->head->release_turn, memory_order_relaxed);
    if (turn != word + 1 && atomic_compare_exchange_strong_explicit(&ring->head->release_turn, &turn, word + 1,
                                                                    memory_order_relaxed, memory_order_relaxed))
        ring_release(ring, ring->capacity / 8);
}

unsigned ring_wake_producers(struct ring *ring)
{
    atomic_thread_fence(memory_order_seq_cst); /* edge SPACE, from: released, or a pin that moved */
    if (atomic_load_explicit(&ring->head->space_wanted, memory_order_relaxed) == 0)
        return 0;
    atomic_store_explicit(&ring->head->space_wanted, 0, memory_order_relaxed);
    atomic_fetch_add_explicit(&ring->head->space, 1, memory_order_release);
    return futex_wake(&ring->head->space, INT_MAX);
}

/* A reader stands beyond the tail. That is honest only while the tail has still to be helped over a claim. */
static bool is_set_back(const struct ring *ring, uint64_t tail)
{
    uint64_t word = atomic_load_explicit(ring_word(ring, tail), memory_order_acquire);
    return word_lap(word) != ring_lap(ring, tail) && ring_tail(ring) == tail;
}

enum ring_seen ring_look(const struct ring *ring, uint64_t pos, uint64_t *out_word)
{
    uint64_t word = atomic_load_explicit(ring_word(ring, pos), memory_order_acquire); /* edge COMMIT, to: the reader */
    uint64_t lap = ring_lap(ring, pos);
    uint64_t tail = pos;
    if (word_lap(word) <
        lap) { /* claims, and a run's words, come before whoever walks here: behind a tail beyond it none is older */
        tail = ring_tail(ring);
        word = atomic_load_explicit(ring_word(ring, pos), memory_order_acquire);
    }
    *out_word = word;
    if (word_lap(word) < lap && ring->has_journal && ring_released(ring) > pos)
        return RING_OVERTAKEN; /* of a life before this one: its words were never here */
    if (word_lap(word) < lap)
        return tail > pos || (tail < pos && is_set_back(ring, tail)) ? RING_CORRUPT : RING_NOTHING;
    if (word_lap(word) > lap || ring_released(ring) > pos)
        return ring_released(ring) > pos ? RING_OVERTAKEN : RING_CORRUPT;
    if (!ring_is_length(ring, pos, word_cells(word)))
        return RING_CORRUPT;
    switch (word_state(word)) {
    case WORD_CLAIMED:
        return word_slot(word) != 0 ? RING_CLAIMED : RING_CORRUPT;
    case WORD_COMMITTED:
        return RING_COMMITTED;
    default:
        return RING_SKIP;
    }
}

enum ring_seen ring_copy_header(const struct ring *ring, uint64_t pos, struct frame_header *out_header)
{
    ring_load(ring, pos, 0, 1, (uint64_t *)out_header);
    if (ring_is_overtaken(ring, pos))
        return RING_OVERTAKEN;
    return out_header->position == pos && ring_is_length(ring, pos, out_header->n_cells) ? RING_COMMITTED
                                                                                         : RING_CORRUPT;
}

enum ring_seen ring_copy_rest(const struct ring *ring, uint64_t pos, uint64_t *frame)
{
    ring_load(ring, pos, 1, ((const struct frame_header *)frame)->n_cells, frame);
    return ring_is_overtaken(ring, pos) ? RING_OVERTAKEN : RING_COMMITTED;
}

enum ring_seen ring_copy(const struct ring *ring, uint64_t pos, uint32_t n_cells, uint64_t *frame)
{
    const struct frame_header *header = (const struct frame_header *)frame;
    ring_load(ring, pos, 0, n_cells, frame);
    if (ring_is_overtaken(ring, pos))
        return RING_OVERTAKEN;
    return header->position == pos && header->n_cells == n_cells ? RING_COMMITTED : RING_CORRUPT;
}

uint64_t ring_patience_ns(const struct ring *ring, uint64_t word)
{
    uint32_t cancels = atomic_load_explicit(&ring->slots[word_slot(word)].cancels_in_row, memory_order_relaxed);
    return (CLOCK_NS_PER_MS + word_cells(word) * CLOCK_NS_PER_US) << (cancels < 6 ? cancels : 6);
}

bool ring_pad_if_dead(struct ring *ring, uint64_t pos, uint64_t word)
{
    if (!slot_is_dead(&ring->slots[word_slot(word)])) /* the word was read before: so it is the dead one's [B6] */
        return false;
    if (!atomic_compare_exchange_strong_explicit(ring_word(ring, pos), &word,
                                                 word_make(word_lap(word), WORD_PAD, 0, word_cells(word)),
                                                 memory_order_acq_rel, memory_order_relaxed))
        return false;
    atomic_fetch_add_explicit(&ring->head->buried, 1, memory_order_relaxed);
    return true;
}

void ring_cancel(struct ring *ring, uint64_t pos, uint64_t word)
{
    if (atomic_compare_exchange_strong_explicit(
            ring_word(ring, pos), &word, word_make(word_lap(word), WORD_CANCELLED, word_slot(word), word_cells(word)),
            memory_order_acq_rel, memory_order_relaxed))
        atomic_fetch_add_explicit(&ring->head->cancels, 1, memory_order_relaxed);
}

enum ring_cleared ring_clear_claim(struct ring *ring, uint64_t pos, uint64_t word, struct ring_blocked *blocked,
                                   uint64_t *out_wait_ns)
{
    if (ring_pad_if_dead(ring, pos, word))
        return RING_BURIED;
    uint64_t now = clock_mono_ns();
    uint64_t patience = ring_patience_ns(ring, word);
    if (blocked->since_ns == 0 || blocked->pos != pos)
        *blocked = (struct ring_blocked){.pos = pos, .since_ns = now};
    uint64_t waited = now - blocked->since_ns;
    if (waited < patience) {
        if (*out_wait_ns > patience - waited)
            *out_wait_ns = patience - waited;
        return RING_BLOCKED;
    }
    ring_cancel(ring, pos, word);
    blocked->since_ns = 0;
    return RING_CANCELLED;
}

uint64_t ring_behind_overtaken(const struct ring *ring, unsigned n_in_row)
{
    uint64_t pos = ring_released(ring);
    uint64_t half = n_in_row > 1 ? pos + (ring_tail(ring) - pos) / 2 : pos;
    while (pos < half) {
        uint64_t word;
        enum ring_seen seen = ring_look(ring, pos, &word);
        if (seen != RING_COMMITTED && seen != RING_SKIP)
            break;
        pos += word_cells(word);
    }
    return pos;
}

uint64_t ring_resync(const struct ring *ring, uint64_t pos)
{
    uint64_t tail = ring_tail(ring);
    uint64_t released = ring_released(ring);
    if (tail > POSITION_LIMIT + FRAME_CELLS_MAX || released > tail || tail - released > ring->capacity)
        return pos; /* the ring's own positions are damaged: stand still, and say so again */
    if (pos < released)
        return released;
    if (pos >= tail)
        return pos;
    for (uint64_t p = pos + 1; p < tail; p++) {
        uint64_t word;
        enum ring_seen seen = ring_look(ring, p, &word);
        if (seen == RING_SKIP || seen == RING_CLAIMED)
            return p;
        struct frame_header header;
        if (seen == RING_COMMITTED && ring_copy_header(ring, p, &header) == RING_COMMITTED)
            return p;
    }
    return tail > pos ? tail : pos;
}

/* Its owner will never read again. The low was read before: whoever has the place now is looked at, or is as dead [B6]. */
static bool is_pin_dead(const struct ring *ring, int index)
{
    if (ring->pin_owners == NULL || index >= PINS_MAX) /* a group needs it, whoever dies */
        return false;
    uint32_t owner = atomic_load_explicit(&ring->pin_owners[index], memory_order_acquire);
    if (owner == 0) /* an owner stands there before its pins do: this is one that has not been wiped yet */
        return true;
    return PIN_SLOT(owner) != 0 && slot_is_dead(&ring->slots[PIN_SLOT(owner)]);
}

uint64_t ring_needed_from(const struct ring *ring)
{
    uint64_t until = ring_tail(ring);
    for (int i = 0; i < LOWS_MAX; i++) {
        uint64_t low = LOW_BEHIND(
            atomic_load_explicit(&ring->head->lows[i], memory_order_acquire)); /* edge PIN, to: who releases */
        if (low != 0 && low - 1 < until && !is_pin_dead(ring, i))
            until = low - 1;
    }
    return until;
}

/* With a journal nobody needs the ring's copy of what is in the files; but where DISK was promised, a failed sync is made good
 * from it. And no position is used beyond what the marks say [J1]. */
static uint64_t journal_until(const struct ring *ring)
{
    uint64_t until = ring->is_visible_synced ? ring_synced(ring) : ring_journaled(ring);
    uint64_t ceiling = TERM_POSITION(atomic_load_explicit(&ring->head->ceiling, memory_order_acquire));
    uint64_t most = ceiling > ring->capacity ? ceiling - ring->capacity : 0;
    return until < most ? until : most;
}

bool ring_release(struct ring *ring, uint64_t step)
{
    uint64_t before = atomic_load_explicit(&ring->head->released, memory_order_acquire); /* before the pins [R8] */
    uint64_t from = RELEASED_POSITION(before);
    uint64_t until = ring->has_journal ? journal_until(ring) : ring_needed_from(ring); /* else it is found nowhere */
    uint64_t p = from;
    while (p < until && p < from + step) { /* a frame may be longer than a step */
        uint64_t word = atomic_load_explicit(ring_word(ring, p), memory_order_acquire);
        if (word_lap(word) != ring_lap(ring, p) || !ring_is_length(ring, p, word_cells(word)))
            break; /* somebody released it and it is in use again; or it is damaged, which its reader will tell */
        if (word_state(word) == WORD_CLAIMED || word_state(word) == WORD_CANCELLED) {
            if (!ring_pad_if_dead(ring, p, word) &&
                atomic_load_explicit(ring_word(ring, p), memory_order_acquire) == word &&
                (word_state(word) == WORD_CLAIMED || !fence_put(ring, p, word)))
                break; /* a living writer's */
            continue;
        }
        if (p + word_cells(word) > until)
            break;
        p += word_cells(word);
    }
    if (p == from)
        return atomic_load_explicit(&ring->head->released, memory_order_acquire) != before;
    if (atomic_compare_exchange_strong_explicit(
            &ring->head->released, &before, RELEASED(p, RELEASED_GENERATION(before)), memory_order_acq_rel,
            memory_order_relaxed)) /* edge GATE, from: all readers and writers below p */
        ring_wake_producers(ring);
    return true;
}

void ring_wait_for_room(struct ring *ring, uint64_t left_ns, struct ring_blocked *blocked)
{
    uint32_t seen = atomic_load_explicit(&ring->head->space, memory_order_acquire);
    atomic_store_explicit(&ring->head->space_wanted, 1, memory_order_relaxed);
    atomic_thread_fence(memory_order_seq_cst); /* edge SPACE, to: the producer that waits */
    if (ring_release(ring, ring->capacity / 8))
        return;
    uint64_t wait_ns = 10 * CLOCK_NS_PER_MS;
    uint64_t word, front = ring_released(ring);
    if (ring_look(ring, front, &word) ==
            RING_CLAIMED && /* the keeper and the readers may be as stopped as its writer */
        ring_clear_claim(ring, front, word, blocked, &wait_ns) != RING_BLOCKED)
        return;
    futex_wait(&ring->head->space, seen, clock_left(left_ns, 0, wait_ns));
}

uint64_t ring_pin(struct ring *ring, uint32_t index, uint64_t wish)
{
    /* what takes things away: the ring, or retention */
    _Atomic uint64_t *gate = ring->has_journal ? &ring->head->oldest : &ring->head->released;
    uint64_t word = atomic_load_explicit(gate, memory_order_acquire);
    do
        atomic_store_explicit(&ring->head->lows[index], RELEASED_POSITION(word) + 1, memory_order_release);
    while (!atomic_compare_exchange_weak_explicit(gate, &word,
                                                  RELEASED(RELEASED_POSITION(word), RELEASED_GENERATION(word) + 1),
                                                  memory_order_acq_rel, memory_order_acquire));
    uint64_t start = RELEASED_POSITION(word); /* whoever read the pins before ours has lost its CAS: this holds */
    if (start < wish)
        start = wish;
    atomic_store_explicit(&ring->head->lows[index], start + 1, memory_order_release);
    return start;
}

void ring_pin_move(struct ring *ring, uint32_t index, uint64_t pos, bool idle)
{
    uint64_t before = atomic_load_explicit(&ring->head->lows[index], memory_order_relaxed) - 1;
    if (pos != before)
        atomic_store_explicit(&ring->head->lows[index], pos + 1, memory_order_release); /* edge PIN, from: our copies */
    if (idle || (pos ^ before) >> (ring->shift - 3) != 0)                               /* an eighth is read */
        ring_wake_producers(ring);
}

void ring_stamp_low(struct ring *ring, uint32_t index, uint16_t tag)
{
    uint64_t word = atomic_load_explicit(&ring->head->lows[index], memory_order_acquire);
    while (LOW_BEHIND(word) != 0 && LOW_TAG(word) != tag &&
           !atomic_compare_exchange_weak_explicit(&ring->head->lows[index], &word, LOW_WORD(tag, LOW_BEHIND(word) - 1),
                                                  memory_order_acq_rel, memory_order_acquire)) {
    }
}

void ring_move_low(struct ring *ring, uint32_t index, uint16_t tag, uint64_t pos, bool idle)
{
    uint64_t word = atomic_load_explicit(&ring->head->lows[index], memory_order_relaxed);
    if (LOW_BEHIND(word) == 0 || LOW_TAG(word) != tag)
        return; /* somebody else's by now, or nobody's */
    uint64_t before = LOW_BEHIND(word) - 1;
    if (pos != before)
        atomic_compare_exchange_strong_explicit(&ring->head->lows[index], &word, LOW_WORD(tag, pos),
                                                memory_order_release,
                                                memory_order_relaxed); /* edge PIN, from: what was handled */
    if (idle || (pos ^ before) >> (ring->shift - 3) != 0)              /* an eighth is done */
        ring_wake_producers(ring);
}

void ring_unpin(struct ring *ring, uint32_t index)
{
    atomic_store_explicit(&ring->head->lows[index], 0, memory_order_release);
    ring_wake_producers(ring);
}
