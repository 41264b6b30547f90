/* compare.c: one partition here and at the broker, event by event.
 *
 *     there   of each entry its position and a hash of all its fields: 16 bytes; sorted by position when all have come
 *     here    events in the order of positions: each meets its entries, or none; what lies between two events met nobody
 *
 *     no entry   of an event   before what was to go out, or before its stream's first: trimmed   up to the mark: MISSING
 *                              behind the mark: LOST where the bridge knows that it was there, else behind
 *     no event   for an entry  before what is kept here: retired                                  else UNKNOWN
 *     both       more than one entry: TWICE; another field: DIFFERS; behind the mark: BEYOND; behind a later one: ORDER
 *
 * Why that is enough. The mark and the stream's end are of one moment (backend.h), so what stands there up to that end is a piece of the partition's
 * events of that stream, from the first that was not trimmed to the mark: anything else is a difference, whatever has been published, appended or
 * trimmed since. A stream's beginning can go at any time, and nobody keeps how far it did: so what is missing there is taken for trimmed.
 * `prev` follows from the entry before it, so it is looked at there, and is in no hash. What the journal has lost (event->lost) nobody can
 * compare: nothing is said of entries that stand there.
 * Of two that differ, which field it is needs both: of the first difference alone the event is kept, and all entries are read once more.
 * Checked by tests/broker/test_verify.c. */
#include "compare.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#define POSITION  ((UINT64_C(1) << 48) - 1)
#define IS_LATE   (UINT64_C(1) << 61) /* it stands behind a later one */
#define IS_ASTRAY (UINT64_C(1) << 62) /* its `prev` is not the one before it */
#define IS_BEYOND (UINT64_C(1) << 63) /* of the mark */

struct compare_seen {
    uint64_t place; /* position, and what is wrong with it */
    uint64_t hash;
};

const char *compare_name(enum compare_what what)
{
    static const char *const names[] = {
        [COMPARE_SAME] = "same",   [COMPARE_MISSING] = "missing", [COMPARE_LOST] = "lost",
        [COMPARE_TWICE] = "twice", [COMPARE_UNKNOWN] = "unknown", [COMPARE_DIFFERS] = "differs",
        [COMPARE_ORDER] = "order", [COMPARE_BEYOND] = "beyond",
    };
    return names[what];
}

/* --- fields --------------------------------------------------------------------------------------------------------- */

static bool is_named(const struct entry_field *field, const char *name)
{
    return strlen(name) == field->name_len && memcmp(name, field->name, field->name_len) == 0;
}

const struct entry_field *compare_field(const struct backend_entry *entry, const char *name)
{
    for (size_t i = 0; i < entry->n_fields; i++)
        if (is_named(&entry->fields[i], name))
            return &entry->fields[i];
    return NULL;
}

bool compare_number(const struct entry_field *field, uint64_t *out)
{
    uint64_t number = 0;
    if (field == NULL || field->value_len == 0 || field->value_len > 15) /* 48 bits have no more digits */
        return false;
    for (size_t i = 0; i < field->value_len; i++) {
        if (field->value[i] < '0' || field->value[i] > '9')
            return false;
        number = 10 * number + (uint64_t)(field->value[i] - '0');
    }
    if (number > POSITION)
        return false;
    *out = number;
    return true;
}

static uint64_t hash_bytes(const void *bytes, size_t len, uint64_t before)
{
    return XXH3_64bits_withSeed(bytes, len, before);
}

static bool is_blank(char byte)
{
    return byte == ' ' || byte == '\t' || byte == '\r' || byte == '\n';
}

/* Of a payload as a broker has it that keeps it in a line. */
static uint64_t hash_line(const char *text, size_t len, uint64_t before)
{
    for (; len > 0 && is_blank(*text); text++)
        len--;
    while (len > 0 && is_blank(text[len - 1]))
        len--;
    XXH3_state_t state = {0};
    XXH3_64bits_reset_withSeed(&state, before);
    while (len > 0) {
        size_t n = 0;
        while (n < len && text[n] != '\r' && text[n] != '\n')
            n++;
        XXH3_64bits_update(&state, text, n);
        if (n < len)
            XXH3_64bits_update(&state, " ", 1);
        text += n + (n < len);
        len -= n + (n < len);
    }
    return XXH3_64bits_digest(&state);
}

static uint64_t hash_field(const struct entry_field *field, bool is_by_line, uint64_t before)
{
    static const char payload[] = "payload";
    uint64_t hash = hash_bytes(field->name, field->name_len, before);
    bool is_payload = field->name_len >= sizeof payload - 1 && memcmp(field->name, payload, sizeof payload - 1) == 0;
    return is_by_line && is_payload ? hash_line(field->value, field->value_len, hash)
                                    : hash_bytes(field->value, field->value_len, hash);
}

/* Of all fields in their order, and of where they stand. */
static uint64_t hash_fields(const char *stream, const struct entry_field *fields, size_t n, bool is_by_line)
{
    uint64_t hash = hash_bytes(stream, strlen(stream), 0);
    for (size_t i = 0; i < n; i++)
        if (!is_named(&fields[i], "prev"))
            hash = hash_field(&fields[i], is_by_line, hash);
    return hash;
}

static uint64_t hash_on(uint64_t before, uint64_t place, uint64_t hash)
{
    const uint64_t both[] = {place, hash};
    return hash_bytes(both, sizeof both, before);
}

/* --- there ---------------------------------------------------------------------------------------------------------- */

bool compare_entry(struct compare_part *part, struct compare_lane *lane, const char *stream,
                   const struct backend_entry *entry, uint64_t position, uint64_t prev)
{
    if (part->n_seen == part->room) {
        size_t room = part->room != 0 ? 2 * part->room : 64;
        struct compare_seen *seen = realloc(part->seen, room * sizeof *seen);
        if (seen == NULL)
            return false;
        part->seen = seen;
        part->room = room;
    }
    struct compare_seen *seen = &part->seen[part->n_seen++];
    *seen = (struct compare_seen){.place = position,
                                  .hash = hash_fields(stream, entry->fields, entry->n_fields, part->is_by_line)};
    if (position <= lane->most)
        seen->place |= IS_LATE;
    else if (lane->most != 0 && prev != lane->most)
        seen->place |= IS_ASTRAY;
    if (position > lane->mark)
        seen->place |= IS_BEYOND;
    if (lane->first == 0)
        lane->first = position;
    if (position > lane->most)
        lane->most = position;
    return true;
}

static int by_position(const void *left, const void *right)
{
    uint64_t of_left = ((const struct compare_seen *)left)->place & POSITION;
    uint64_t of_right = ((const struct compare_seen *)right)->place & POSITION;
    return (of_left > of_right) - (of_left < of_right);
}

void compare_begin(struct compare_part *part)
{
    if (part->n_seen > 0)
        qsort(part->seen, part->n_seen, sizeof *part->seen, by_position);
}

/* --- here ----------------------------------------------------------------------------------------------------------- */

static void note(struct compare_part *part, enum compare_what what, uint64_t position)
{
    if (part->first.what == COMPARE_SAME)
        part->first = (struct compare_difference){.what = what, .position = position};
}

/* Of the first that is there nobody knows whether its `prev` is right. */
static bool is_astray(const struct compare_seen *seen, const struct compare_lane *lane)
{
    return (seen->place & IS_ASTRAY) != 0 && lane != NULL && (seen->place & POSITION) > lane->first;
}

static void count_there(struct compare_part *part, const struct compare_lane *lane, const struct compare_seen *seen)
{
    uint64_t place = is_astray(seen, lane) ? seen->place : seen->place & ~IS_ASTRAY;
    part->there.n++;
    part->there.hash = hash_on(part->there.hash, place, seen->hash);
}

/* Entries before a position that have met no event. has_lost: the journal does not say what was there. */
static void leave_behind(struct compare_part *part, uint64_t position, bool has_lost)
{
    for (; part->at < part->n_seen && (part->seen[part->at].place & POSITION) < position; part->at++) {
        const struct compare_seen *seen = &part->seen[part->at];
        if (has_lost || (seen->place & POSITION) < part->oldest) {
            part->n_retired++;
            continue;
        }
        count_there(part, NULL, seen);
        note(part, COMPARE_UNKNOWN, seen->place & POSITION);
    }
}

void compare_pass(struct compare_part *part, uint64_t position, bool has_lost)
{
    leave_behind(part, position, has_lost);
    part->passed = position;
}

static const struct entry_field *copy_field(struct entry_field *field, char **inout_to)
{
    memcpy(*inout_to, field->value, field->value_len);
    field->value = *inout_to;
    *inout_to += field->value_len;
    return field;
}

/* The first difference is an event of ours: kept until it is explained. */
static bool keep(struct compare_part *part, const char *stream, const struct entry *ours)
{
    struct compare_difference *first = &part->first;
    size_t len = 0;
    for (size_t i = 0; i < ours->n; i++)
        len += ours->fields[i].value_len;
    first->ours = malloc(sizeof *first->ours);
    first->texts = malloc(len + 1);
    if (first->ours == NULL || first->texts == NULL)
        return false;
    memcpy(first->ours, ours, sizeof *ours); /* its values lie elsewhere: */
    char *to = first->texts;
    for (size_t i = 0; i < ours->n; i++)
        copy_field(&first->ours->fields[i], &to);
    snprintf(first->stream, sizeof first->stream, "%s", stream);
    snprintf(first->event_id, sizeof first->event_id, "%.*s", (int)ours->fields[0].value_len, ours->fields[0].value);
    return true;
}

/* What its entry says of it, or its entries. */
static enum compare_what judge(struct compare_part *part, const struct compare_lane *lane, size_t n, uint64_t hash)
{
    const struct compare_seen *seen = &part->seen[part->at];
    if (n > 1)
        return COMPARE_TWICE;
    if (seen->hash != hash)
        return COMPARE_DIFFERS;
    if ((seen->place & IS_BEYOND) != 0)
        return COMPARE_BEYOND;
    if ((seen->place & IS_LATE) != 0)
        return COMPARE_ORDER;
    if (!is_astray(seen, lane))
        return COMPARE_SAME;
    part->n_doubtful++;
    return COMPARE_DIFFERS;
}

/* Why it has no entry. SAME: that is as it should be. */
static enum compare_what judge_absent(struct compare_part *part, const struct compare_lane *lane, uint64_t position)
{
    bool was_to_go = lane != NULL && position >= part->began;
    if (lane == NULL || position > lane->mark) {
        if (was_to_go && position <= lane->last)
            return COMPARE_LOST;
        part->n_behind += position >= part->out;
        return COMPARE_SAME;
    }
    if (was_to_go && lane->first != 0 && position >= lane->first) {
        part->n_doubtful++;
        return COMPARE_MISSING;
    }
    part->n_trimmed += was_to_go;
    return COMPARE_SAME;
}

bool compare_event(struct compare_part *part, const struct compare_lane *lane, const char *stream, const char *origin,
                   const struct evbus_delivery *event)
{
    uint64_t position = event->position;
    compare_pass(part, position, event->lost > 0);
    size_t n = 0;
    while (part->at + n < part->n_seen && (part->seen[part->at + n].place & POSITION) == position)
        n++;
    if (position < part->oldest) {
        part->n_retired += n;
        part->at += n;
        return true;
    }
    enum compare_what what = COMPARE_SAME;
    if (n == 0 && (what = judge_absent(part, lane, position)) == COMPARE_SAME)
        return true;
    struct entry ours;
    ours.second_behind = 0;
    entry_write(event, origin, 0, &ours);
    uint64_t hash = hash_fields(stream, ours.fields, ours.n, part->is_by_line);
    part->here.n++;
    part->here.hash = hash_on(part->here.hash, position, hash);
    if (n > 0)
        what = judge(part, lane, n, hash);
    for (size_t i = 0; i < n; i++)
        count_there(part, lane, &part->seen[part->at++]);
    if (what == COMPARE_SAME || part->first.what != COMPARE_SAME)
        return true;
    note(part, what, position);
    part->first.mark = lane != NULL ? lane->mark : 0;
    return keep(part, stream, &ours);
}

void compare_end(struct compare_part *part)
{
    leave_behind(part, UINT64_MAX, false);
}

void compare_again(struct compare_part *part)
{
    free(part->first.ours);
    free(part->first.texts);
    part->first = (struct compare_difference){0};
    part->at = 0;
    part->passed = 0;
    part->here.n = part->here.hash = part->there.n = part->there.hash = 0;
    part->n_doubtful = part->n_behind = part->n_trimmed = part->n_retired = 0;
}

/* --- what is it? ---------------------------------------------------------------------------------------------------- */

bool compare_wants_more(const struct compare_part *part)
{
    return part->first.what != COMPARE_SAME && part->first.what != COMPARE_MISSING && part->first.what != COMPARE_LOST;
}

static size_t behind_prev(const struct entry_field *fields, size_t n, size_t at)
{
    while (at < n && is_named(&fields[at], "prev"))
        at++;
    return at;
}

/* The first field in which they differ. */
static void tell_field(struct compare_difference *first, bool is_by_line, const char *stream,
                       const struct backend_entry *entry)
{
    const struct entry_field *wrong = NULL;
    size_t l = 0, r = 0;
    if (strcmp(stream, first->stream) != 0) {
        snprintf(first->field, sizeof first->field, "stream");
        return;
    }
    for (; wrong == NULL; l++, r++) {
        l = behind_prev(first->ours->fields, first->ours->n, l);
        r = behind_prev(entry->fields, entry->n_fields, r);
        const struct entry_field *ours = l < first->ours->n ? &first->ours->fields[l] : NULL;
        const struct entry_field *theirs = r < entry->n_fields ? &entry->fields[r] : NULL;
        if (ours == NULL && theirs == NULL)
            break;
        if (ours == NULL || theirs == NULL)
            wrong = ours != NULL ? ours : theirs;
        else if (hash_field(ours, is_by_line, 0) != hash_field(theirs, is_by_line, 0))
            wrong = ours;
    }
    snprintf(first->field, sizeof first->field, "%.*s", wrong != NULL ? (int)wrong->name_len : 4,
             wrong != NULL ? wrong->name : "prev");
}

void compare_explain(struct compare_part *part, const char *stream, const struct compare_lane *lane,
                     const struct backend_entry *entry, uint64_t position)
{
    struct compare_difference *first = &part->first;
    if (position != first->position || !compare_wants_more(part))
        return;
    size_t i = first->ids[0][0] == '\0' ? 0 : 1;
    if (first->ids[i][0] == '\0')
        snprintf(first->ids[i], sizeof first->ids[i], "%s", entry->id);
    if (first->ours == NULL && i == 0) {
        const struct entry_field *id = compare_field(entry, "eventId");
        snprintf(first->stream, sizeof first->stream, "%s", stream);
        first->mark = lane->mark;
        if (id != NULL)
            snprintf(first->event_id, sizeof first->event_id, "%.*s",
                     id->value_len < sizeof first->event_id ? (int)id->value_len : 0, id->value);
    }
    if (first->what == COMPARE_DIFFERS && first->field[0] == '\0')
        tell_field(first, part->is_by_line, stream, entry);
}

void compare_forget(struct compare_part *part)
{
    struct compare_part fresh = {.partition = part->partition, .is_by_line = part->is_by_line};
    memcpy(fresh.log, part->log, sizeof fresh.log);
    free(part->seen);
    free(part->first.ours);
    free(part->first.texts);
    *part = fresh;
}
