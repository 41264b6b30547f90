/* letters.c: which dead letters there are, and which of them are open.
 *
 * The log of dead letters is read once, in its order, and a row is kept of each id: about 130 bytes, so a million of letters takes
 * 130 MB for as long as somebody looks, ten thousand nothing worth a word. No text is looked at but that of letters that have no
 * header area (older ones).
 *
 *     DEAD, n replays before it      opens the row; but not one that is a repetition: P10 publishes a letter twice after a crash,
 *                                    with the note of the same last attempt
 *     SETTLED, n                     closes it, where no letter has come that died in the n-th replay or later
 *
 * So a resolution that is written late, by who completes another one's work, closes nothing that came after its replay. An event that
 * was moved back to (group seek) and dies once more has another note, and is open again. Checked by tests/unit/test_letters.c. */
#include "letters.h"

#include "area.h"
#include "clock.h"
#include "json.h"
#include "letter.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#define PAUSE_NS 100000 /* 0.1 ms: between two looks at a claim that stands in the way */

/* --- reading a log ------------------------------------------------------------------------------------------------ */

bool letters_clear_way(struct ring *ring, uint64_t pos, struct ring_blocked *blocked)
{
    uint64_t word;
    uint64_t wait_ns = UINT64_MAX;
    if (ring_look(ring, pos, &word) != RING_CLAIMED)
        return false;
    ring_clear_claim(ring, pos, word, blocked, &wait_ns);
    return true;
}

int letters_walk(struct memory *memory, struct ring *ring, uint64_t from, uint64_t *buffer,
                 int (*each)(void *context, uint64_t pos, const uint64_t *frame), void *context, uint64_t *out_end,
                 struct error *err)
{
    struct partition_past *past = NULL;
    struct ring_blocked blocked = {0};
    uint64_t pos = from;
    uint64_t until = ring_tail(ring);
    int rc = EVBUS_OK;
    while (rc == EVBUS_OK && pos < until) {
        uint64_t next = pos;
        int found = partition_fetch(&past, memory, ring, pos, buffer, &next, err);
        if (found < 0)
            rc = found;
        else if (found == PARTITION_NOTHING && letters_clear_way(ring, pos, &blocked)) {
            nanosleep(&(struct timespec){.tv_nsec = PAUSE_NS}, NULL);
            continue;
        } else if (found == PARTITION_FRAME)
            rc = each(context, pos, buffer);
        if (rc != EVBUS_OK || found == PARTITION_NOTHING || next <= pos)
            break;
        pos = next;
    }
    partition_past_close(past);
    *out_end = pos;
    return rc;
}

/* --- rows --------------------------------------------------------------------------------------------------------- */

static size_t place_of(const struct letters *letters, const uint8_t id[16])
{
    uint64_t hash;
    memcpy(&hash, id, sizeof hash); /* ids are hashes */
    size_t at = (size_t)hash & (letters->n_places - 1);
    while (letters->places[at] != 0 && memcmp(letters->rows[letters->places[at] - 1].id, id, 16) != 0)
        at = (at + 1) & (letters->n_places - 1);
    return at;
}

struct letters_row *letters_find(const struct letters *letters, const uint8_t id[16])
{
    size_t at = letters->n_places > 0 ? place_of(letters, id) : 0;
    return letters->n_places > 0 && letters->places[at] != 0 ? &letters->rows[letters->places[at] - 1] : NULL;
}

static bool grow(struct letters *letters)
{
    size_t cap = letters->cap != 0 ? letters->cap * 2 : 256;
    struct letters_row *rows = realloc(letters->rows, cap * sizeof *rows);
    if (rows == NULL)
        return false;
    letters->rows = rows;
    uint32_t *places = calloc(cap * 2, sizeof *places);
    if (places == NULL)
        return false;
    free(letters->places);
    letters->places = places;
    letters->n_places = cap * 2;
    letters->cap = cap;
    for (size_t i = 0; i < letters->n; i++)
        letters->places[place_of(letters, letters->rows[i].id)] = (uint32_t)(i + 1);
    return true;
}

/* The row of an id, a new one where there is none. */
static struct letters_row *row_of(struct letters *letters, const uint8_t id[16])
{
    struct letters_row *row = letters_find(letters, id);
    if (row != NULL || (letters->n == letters->cap && !grow(letters)))
        return row;
    row = &letters->rows[letters->n++];
    *row = (struct letters_row){.pos = LETTERS_NONE, .settled = LETTERS_NONE};
    memcpy(row->id, id, sizeof row->id);
    letters->places[place_of(letters, id)] = (uint32_t)letters->n;
    return row;
}

static uint32_t log_index(const struct memory *memory, const char *name)
{
    for (uint32_t l = 0; l < memory_n_logs(memory); l++)
        if (strcmp(memory->logs[l].name, name) == 0)
            return l;
    return UINT32_MAX;
}

/* What is in the header area, or, of an older letter, in the text. false: in neither. */
static bool source_of(const struct frame *frame, struct area_source *out_source, struct area_death *out_death)
{
    struct letter letter;
    if (area_source(frame, out_source) && area_death(frame, out_death))
        return true;
    if (letter_parse(frame, &letter, NULL) != EVBUS_OK)
        return false;
    *out_source = (struct area_source){
        .position = letter.position, .partition = letter.partition, .n_replays = letter.n_replays};
    memcpy(out_source->log, letter.log, sizeof out_source->log);
    *out_death = (struct area_death){.position = letter.position, .timestamp_ns = letter.event.timestamp_ns};
    return true;
}

static void note_dead(struct letters_row *row, const struct memory *memory, uint64_t pos, const struct frame *frame,
                      const struct area_source *source, const struct area_death *death)
{
    if (row->pos != LETTERS_NONE && death->note != 0 && row->note == death->note)
        return; /* the same death, told again [P10] */
    if (!row->is_open)
        row->opened = pos;
    row->is_open = true;
    row->pos = pos;
    row->at_ns = frame->timestamp_ns;
    row->note = death->note;
    row->entry = death->position;
    row->topic = frame->topic;
    row->n_dead = source->n_replays;
    if (row->n_replays < source->n_replays)
        row->n_replays = source->n_replays;
    row->position = source->position;
    row->partition = source->partition;
    row->log = log_index(memory, source->log);
}

/* Its letter is not kept any more: where the event stands, as the resolution has it. */
static void note_place(struct letters_row *row, const struct memory *memory, const struct frame *frame)
{
    struct area_source source;
    if (row->pos != LETTERS_NONE || !area_source(frame, &source))
        return;
    row->topic = frame->topic;
    row->position = row->entry = source.position;
    row->partition = source.partition;
    row->log = log_index(memory, source.log);
}

static void note_settled(struct letters_row *row, uint64_t pos, enum settled_what what, uint32_t n)
{
    row->settled = pos;
    row->is_discarded = what == SETTLED_DISCARDED;
    if (row->n_replays < n)
        row->n_replays = n;
    if (row->n_settled < n)
        row->n_settled = n;
    if (what == SETTLED_DISCARDED || row->n_dead < n)
        row->is_open = false;
}

int letters_note(struct letters *letters, const struct memory *memory, uint64_t pos, const uint64_t *cells,
                 struct error *err)
{
    struct frame frame;
    struct area_source source;
    struct area_death death;
    enum settled_what what = SETTLED_REPLAYED;
    uint32_t n = 0;
    uint64_t letter;
    if (frame_parse(cells, &frame, NULL) != EVBUS_OK)
        return EVBUS_OK; /* damaged: `evbus doctor` tells */
    bool is_dead = frame.kind == FRAME_DEAD && source_of(&frame, &source, &death);
    if (!is_dead && !settled_counts(&frame, &what, &n, &letter))
        return EVBUS_OK;
    struct letters_row *row = row_of(letters, frame.id);
    if (row == NULL)
        return error_no_memory(err, "%zu dead letters", letters->n);
    if (is_dead) {
        note_dead(row, memory, pos, &frame, &source, &death);
    } else {
        note_place(row, memory, &frame);
        note_settled(row, pos, what, n);
    }
    return EVBUS_OK;
}

struct reading {
    const struct memory *memory;
    struct letters *letters;
    struct error *err;
};

static int note(void *context, uint64_t pos, const uint64_t *frame)
{
    struct reading *reading = context;
    return letters_note(reading->letters, reading->memory, pos, frame, reading->err);
}

int letters_read(struct memory *memory, struct letters *out, struct error *err)
{
    struct letters letters = {.rows = NULL};
    struct reading reading = {memory, &letters, err};
    struct memory_log *log = memory_internal_log(memory, MEMORY_DLQ_LOG);
    if (log == NULL)
        return error_set(err, EVBUS_ECORRUPT, "bus %s has lost its log of dead letters; run `evbus doctor`",
                         memory->bus);
    uint64_t *buffer = malloc((size_t)LETTER_CELLS_MAX * CELL_BYTES);
    int rc = buffer != NULL ? letters_walk(memory, &log->rings[0], ring_oldest(&log->rings[0]), buffer, note, &reading,
                                           &letters.end, err)
                            : error_no_memory(err, "a dead letter");
    free(buffer);
    if (rc != EVBUS_OK) {
        letters_free(&letters);
        return rc;
    }
    *out = letters;
    return EVBUS_OK;
}

void letters_free(struct letters *letters)
{
    free(letters->rows);
    free(letters->places);
    *letters = (struct letters){.rows = NULL};
}
