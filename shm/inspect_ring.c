/* inspect_ring.c: what stands in one ring.
 *
 * Words are walked twice from released to tail, and on over what has been claimed at the tail: to count the frames, then to show.
 * Where no evbus wrote a word the walk goes on at the next cell whose word is of its lap and fits, and tells how much lies between;
 * a length never leads beyond the ring, so a walk looks at each cell once. When tail and released do not fit each other, words
 * confirm one of them. A committed word counts as a frame when its header says the same position and length.
 * Checked by tests/unit/test_inspect.c. */
#include "inspect_ring.h"

#include "frame.h"
#include "ring.h"
#include "uuid7.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static uint64_t words_at(const struct remains_ring *ring)
{
    return ring->at + sizeof(struct ring_head);
}

static uint64_t cell_at(const struct remains_ring *ring, uint64_t pos)
{
    uint64_t n_cells = ring->log->n_cells;
    return words_at(ring) + n_cells * sizeof(uint64_t) + (pos & (n_cells - 1)) * CELL_BYTES;
}

static uint64_t lap_of(const struct remains_ring *ring, uint64_t pos)
{
    return pos / ring->log->n_cells + 1;
}

static bool fits(const struct remains_ring *ring, uint64_t pos, uint32_t n_cells)
{
    uint64_t capacity = ring->log->n_cells;
    return n_cells >= 1 && n_cells <= FRAME_CELLS_MAX && n_cells <= capacity / 4 &&
           (pos & (capacity - 1)) + n_cells <= capacity;
}

static bool look_at_header(const struct remains_ring *ring, uint64_t pos, struct frame_header *out)
{
    return image_look(ring->log->file, &ring->of->cells, cell_at(ring, pos), out, sizeof *out);
}

static const char *kind_name(uint8_t kind)
{
    static const char *const names[] = {"none", "event", "pad", "names", "gap", "dead letter", "settled", "note"};
    return kind < sizeof names / sizeof names[0] ? names[kind] : "unknown";
}

static void topic(struct record *out, const struct remains_log *log, uint32_t id)
{
    const char *name = remains_topic(log, id);
    if (name != NULL)
        record_text(out, "topic", name, NAME_BYTES);
    else
        record_none(out, "topic");
}

static void publisher(struct record *out, const struct remains_ring *ring, uint32_t id)
{
    const struct publisher *found = &ring->of->control->publisher_names[id % PUBLISHERS_MAX];
    record_number(out, "publisher", id);
    if (id != 0 && remains_u32(&found->id) == id) {
        uint64_t name[SERVICE_BYTES / 8];
        for (size_t i = 0; i < SERVICE_BYTES / 8; i++)
            name[i] = remains_u64(&found->service[i]);
        record_text(out, "published_by", (const char *)name, SERVICE_BYTES);
    } else {
        record_none(out, "published_by");
    }
}

/* --- words --------------------------------------------------------------------------------------------------------------- */

/* What stands at a position. */
struct seen {
    uint64_t word;
    uint64_t until;      /* the next position to look at */
    const char *state;   /* in words */
    const char *differs; /* NULL: nothing */
    bool is_frame;       /* committed, and sound */
    bool is_end;         /* not claimed yet: nothing comes behind it */
};

static bool look_at_word(const struct remains_ring *ring, uint64_t pos, uint64_t *out_word)
{
    uint64_t index = pos & (ring->log->n_cells - 1);
    return image_look(ring->log->file, &ring->of->words, words_at(ring) + index * sizeof(uint64_t), out_word,
                      sizeof *out_word);
}

static bool is_sound(const struct remains_ring *ring, uint64_t pos, uint64_t its_word)
{
    bool is_open = word_state(its_word) == WORD_CLAIMED || word_state(its_word) == WORD_CANCELLED;
    return word_lap(its_word) == lap_of(ring, pos) && fits(ring, pos, word_cells(its_word)) &&
           (!is_open || word_slot(its_word) != 0);
}

static struct seen see(const struct remains_ring *ring, uint64_t pos, uint64_t limit)
{
    static const char *const states[] = {"claimed", "committed", "pad", "cancelled"};
    struct seen seen = {.until = pos + 1};
    if (!look_at_word(ring, pos, &seen.word)) {
        seen.state = "not there";
        seen.differs = "the file ends before it";
        seen.until = limit;
        return seen;
    }
    if (is_sound(ring, pos, seen.word)) {
        struct frame_header header;
        seen.until = pos + word_cells(seen.word);
        seen.state = states[word_state(seen.word)];
        if (word_state(seen.word) != WORD_COMMITTED)
            return seen;
        if (!look_at_header(ring, pos, &header))
            seen.differs = "the file ends before its header";
        else if (header.position != pos || header.n_cells != word_cells(seen.word))
            seen.differs = "no evbus wrote its header";
        seen.is_frame = seen.differs == NULL;
        return seen;
    }
    seen.is_end = pos >= ring->tail && word_lap(seen.word) < lap_of(ring, pos);
    seen.state = "none";
    seen.differs = "no evbus wrote these words";
    for (uint64_t next; seen.until < limit; seen.until++) /* on to the next that fits */
        if (!look_at_word(ring, seen.until, &next) || is_sound(ring, seen.until, next))
            break;
    return seen;
}

static void show_word(struct record *out, const struct remains_ring *ring, uint64_t pos, const struct seen *seen)
{
    struct frame_header header;
    record_begin(out, "word", 2);
    record_text(out, "log", ring->log->file->part, NAME_BYTES);
    record_number(out, "partition", ring->partition);
    record_position(out, "position", pos);
    record_word(out, "state", seen->state);
    record_number(out, "cells", seen->until - pos);
    if (seen->differs != NULL) {
        record_hex(out, "word", seen->word);
        record_word(out, "differs", seen->differs);
    } else if (word_state(seen->word) == WORD_CLAIMED || word_state(seen->word) == WORD_CANCELLED) {
        remains_tell_who(ring->of, out, word_slot(seen->word)); /* nobody else has the slot before it is a pad */
    }
    if (seen->is_frame && look_at_header(ring, pos, &header)) {
        publisher(out, ring, header.publisher);
        record_word(out, "kind", kind_name(header.kind));
        topic(out, ring->log, header.topic);
        record_time(out, "timestamp", header.timestamp_ns);
    }
    if (pos >= ring->tail)
        record_flag(out, "beyond_tail", true); /* its claimant has not moved the tail, and nobody has helped */
    record_end(out);
}

static void show_left_out(struct record *out, const struct remains_ring *ring, uint64_t from, uint64_t until,
                          uint64_t n)
{
    record_begin(out, "left_out", 2);
    record_text(out, "log", ring->log->file->part, NAME_BYTES);
    record_number(out, "partition", ring->partition);
    record_position(out, "position", from);
    record_position(out, "until", until);
    record_number(out, "frames", n);
    record_end(out);
}

/* Where the words stand, when tail and released do not fit each other: which of them do words confirm? */
static void find_words(const struct remains_ring *ring, uint64_t *out_from, uint64_t *out_limit)
{
    uint64_t found;
    uint64_t capacity = ring->log->n_cells;
    *out_from = ring->released;
    if (!look_at_word(ring, ring->released, &found) || !is_sound(ring, ring->released, found))
        *out_from = ring->tail < capacity ? 0 : ring->tail <= POSITION_LIMIT ? ring->tail - capacity : ring->released;
    *out_limit = *out_from + capacity;
}

static void show_words(struct record *out, const struct remains_ring *ring, uint64_t ends)
{
    uint64_t from = ring->released;
    uint64_t limit = from + ring->log->n_cells;
    uint64_t n = 0;
    if (ring->tail < from || ring->tail > limit)
        find_words(ring, &from, &limit);
    for (uint64_t pos = from; pos < limit; n++) {
        struct seen seen = see(ring, pos, pos < ring->tail && ring->tail < limit ? ring->tail : limit);
        if (seen.is_end)
            break;
        pos = seen.until;
    }
    ring->of->words.of = ring->of->cells.of = NULL; /* read anew */
    uint64_t i = 0;
    uint64_t n_left_out = 0;
    uint64_t left_out_from = from;
    uint64_t pos = from;
    for (; pos < limit && out->rc == 0; i++) {
        struct seen seen = see(ring, pos, pos < ring->tail && ring->tail < limit ? ring->tail : limit);
        if (seen.is_end)
            break;
        if (seen.is_frame && ends != UINT32_MAX && i >= ends && i + ends < n) {
            left_out_from = n_left_out++ == 0 ? pos : left_out_from;
        } else {
            if (n_left_out > 0)
                show_left_out(out, ring, left_out_from, pos, n_left_out);
            n_left_out = 0;
            show_word(out, ring, pos, &seen);
        }
        pos = seen.until;
    }
    if (n_left_out > 0) /* there were more when we counted */
        show_left_out(out, ring, left_out_from, pos, n_left_out);
}

/* --- a frame ------------------------------------------------------------------------------------------------------- */

/* Its bytes as they lie there, when they do not make a frame. */
static void show_raw(struct record *out, const struct remains_ring *ring, uint64_t pos)
{
    unsigned char raw[RECORD_SHOWN_MAX];
    uint64_t left = (ring->log->n_cells - (pos & (ring->log->n_cells - 1))) * CELL_BYTES;
    size_t len = left < sizeof raw ? (size_t)left : sizeof raw;
    record_bytes(out, "bytes_hex", "bytes", raw, image_read(ring->log->file, cell_at(ring, pos), raw, len));
}

/* The frame whole, in memory of our own; NULL: it is not, *out_what says why. To be freed. */
static uint64_t *read_frame(const struct remains_ring *ring, uint64_t pos, struct frame_header *header,
                            struct frame *out_frame, struct error *out_what)
{
    size_t len = (size_t)header->n_cells * CELL_BYTES;
    uint64_t *copy = fits(ring, pos, header->n_cells) ? malloc(len) : NULL;
    if (copy == NULL) {
        error_set(out_what, EVBUS_ECORRUPT, "a header of %u cells, which fit no frame here", header->n_cells);
        return NULL;
    }
    if (image_read(ring->log->file, cell_at(ring, pos), copy, len) != len) {
        error_set(out_what, EVBUS_ECORRUPT, "the file ends inside it");
    } else {
        memcpy(copy, header, sizeof *header); /* as it was bounded, whoever writes there meanwhile */
        if (frame_parse(copy, out_frame, out_what) == EVBUS_OK)
            return copy;
    }
    free(copy);
    return NULL;
}

bool inspect_frame(const struct remains_ring *ring, uint64_t pos, struct record *out)
{
    uint64_t its_word;
    struct frame_header header;
    struct frame frame = {.kind = FRAME_EVENT};
    struct error what = {""};
    bool has_word = look_at_word(ring, pos, &its_word);
    bool is_there = look_at_header(ring, pos, &header);
    if ((!has_word || word_lap(its_word) != lap_of(ring, pos)) && (!is_there || header.position != pos))
        return false;
    uint64_t *copy = is_there ? read_frame(ring, pos, &header, &frame, &what) : NULL;
    if (!is_there)
        error_set(&what, EVBUS_ECORRUPT, "the file ends before it");
    else if (copy != NULL && header.position != pos)
        error_set(&what, EVBUS_ECORRUPT, "its cells hold a frame of position %" PRIu64, header.position);
    char id[37];
    uuid7_format(header.id, id);
    record_begin(out, "frame", 2);
    record_text(out, "log", ring->log->file->part, NAME_BYTES);
    record_number(out, "partition", ring->partition);
    record_position(out, "position", pos);
    record_hex(out, "word", its_word);
    record_hex(out, "stamp", header.stamp);
    record_word(out, "stamped",
                header.stamp == (ring->head.salt ^ (2 * pos + 1)) ? "committed"
                : header.stamp == (ring->head.salt ^ (2 * pos))   ? "written"
                                                                  : "otherwise");
    record_position(out, "own_position", header.position);
    record_number(out, "format", header.format);
    record_word(out, "kind", kind_name(header.kind));
    record_hex(out, "flags", header.flags);
    record_number(out, "cells", header.n_cells);
    record_number(out, "topic_id", header.topic);
    topic(out, ring->log, header.topic);
    publisher(out, ring, header.publisher);
    record_word(out, "id", id);
    record_time(out, "timestamp", header.timestamp_ns);
    record_hex(out, "key_hash", header.key_hash);
    record_number(out, "area_len", header.area_len);
    if (copy != NULL) {
        record_bytes(out, "key_hex", "key", frame.key, frame.key_len);
        record_number(out, "version_major", frame.major);
        record_number(out, "version_minor", frame.minor);
        record_number(out, "payload_len", frame.payload_len);
        record_bytes(out, "payload_hex", "payload", frame.payload, frame.payload_len);
    } else {
        show_raw(out, ring, pos);
    }
    if (what.text[0] != '\0')
        record_word(out, "differs", what.text);
    record_end(out);
    free(copy);
    return true;
}

/* --- the ring ------------------------------------------------------------------------------------------------------- */

static void show_lows(struct record *out, const struct remains_ring *ring)
{
    for (uint32_t i = 0; i < LOWS_MAX && out->rc == 0; i++) {
        uint64_t low = remains_u64(&ring->head.lows[i]);
        if (LOW_BEHIND(low) == 0)
            continue;
        uint64_t pos = LOW_BEHIND(low) - 1;
        record_begin(out, "low", 2);
        record_text(out, "log", ring->log->file->part, NAME_BYTES);
        record_number(out, "partition", ring->partition);
        record_position(out, "position", pos);
        record_position(out, "behind", ring->tail > pos ? ring->tail - pos : 0);
        if (i >= PINS_MAX) {
            char name[SERVICE_BYTES];
            remains_group_name(ring->of, i - PINS_MAX, name);
            record_word(out, "group", name);
            record_number(out, "epoch", LOW_TAG(low));
        } else {
            uint32_t owner = remains_u32(&ring->log->head->pin_owners[i]);
            record_number(out, "pin", i);
            if (owner != 0 && PIN_SLOT(owner) == 0)
                record_flag(out, "for_ever", true); /* the log of dead letters */
            else
                remains_tell_who(ring->of, out, PIN_SLOT(owner));
        }
        record_end(out);
    }
}

/* Cells that are left out of each lap. */
static void show_fences(struct record *out, const struct remains_ring *ring)
{
    for (uint32_t i = 0; i < FENCES_MAX && out->rc == 0; i++) {
        uint64_t entry = remains_u64(&ring->head.fences[i]);
        if (entry == 0)
            continue;
        record_begin(out, "fence", 2);
        record_text(out, "log", ring->log->file->part, NAME_BYTES);
        record_number(out, "partition", ring->partition);
        record_number(out, "cell", FENCE_CELL(entry));
        record_number(out, "cells", FENCE_CELLS(entry));
        remains_tell_who(ring->of, out, FENCE_SLOT(entry));
        record_end(out);
    }
}

void inspect_ring(const struct remains_ring *ring, uint32_t n_words, struct record *out)
{
    uint64_t capacity = ring->log->n_cells;
    uint64_t used = ring->tail > ring->released ? ring->tail - ring->released : 0;
    bool is_sane = ring->tail >= ring->released && used <= capacity && ring->tail <= POSITION_LIMIT + FRAME_CELLS_MAX;
    record_begin(out, "partition", 1);
    record_text(out, "log", ring->log->file->part, NAME_BYTES);
    record_number(out, "partition", ring->partition);
    record_number(out, "cells", capacity);
    record_position(out, "tail", ring->tail);
    record_position(out, "released", ring->released);
    record_number(out, "generation", RELEASED_GENERATION(remains_u64(&ring->head.released)));
    record_position(out, "used", used);
    record_number(out, "full", remains_u64(&ring->head.full));
    record_number(out, "cancels", remains_u64(&ring->head.cancels));
    record_number(out, "buried", remains_u64(&ring->head.buried));
    record_number(out, "fences", remains_u64(&ring->head.fences_ever));
    record_flag(out, "waited_for", remains_u32(&ring->head.space_wanted) != 0);
    record_end(out);
    if (!is_sane)
        record_differs(out, 2,
                       "%s/%u: tail %" PRIu64 " and released %" PRIu64 " do not fit a ring of %" PRIu64 " cells",
                       ring->log->file->part, ring->partition, ring->tail, ring->released, capacity);
    show_lows(out, ring);
    show_fences(out, ring);
    show_words(out, ring, n_words);
}
