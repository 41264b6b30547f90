/* verify_print.c: what verify.c has found, for people and for programs. */
#include "verify.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

/* --- for people ----------------------------------------------------------------------------------------------------- */

void verify_print_head(bool json)
{
    if (!json)
        (void)printf("%-28s %10s %10s %16s %16s %9s %9s %9s\n", "PARTITION", "BROKER", "JOURNAL", "HASH THERE",
                     "HASH HERE", "BEHIND", "TRIMMED", "RETIRED");
}

/* What stands at the broker may be anything. */
static void print_safe(const char *text)
{
    for (; *text != '\0'; text++)
        (void)putchar(*text >= ' ' && *text <= '~' ? *text : '?');
}

static void print_difference(const struct compare_part *part)
{
    const struct compare_difference *first = &part->first;
    (void)printf("  %s: %s/%" PRIu32 "@%" PRIu64 " ", compare_name(first->what), part->log, part->partition,
                 first->position);
    print_safe(first->event_id);
    (void)printf(" ");
    switch (first->what) {
    case COMPARE_SAME:
        break;
    case COMPARE_MISSING:
        (void)printf("is not in stream ");
        break;
    case COMPARE_LOST:
        (void)printf("is not there any more, and a bridge sends it again: stream ");
        break;
    case COMPARE_TWICE:
        (void)printf("stands twice in stream ");
        break;
    case COMPARE_UNKNOWN:
        (void)printf("is not in the journal, and in stream ");
        break;
    case COMPARE_DIFFERS:
        (void)printf("has another ");
        print_safe(first->field[0] != '\0' ? first->field : "field");
        (void)printf(" in stream ");
        break;
    case COMPARE_ORDER:
        (void)printf("stands behind a later one in stream ");
        break;
    case COMPARE_BEYOND:
        (void)printf("stands behind the mark, %" PRIu64 ", so it would be sent again: stream ", first->mark);
        break;
    }
    print_safe(first->stream);
    for (size_t i = 0; i < 2 && first->ids[i][0] != '\0'; i++) {
        (void)printf("%s", i == 0 ? ", entry " : " and ");
        print_safe(first->ids[i]);
    }
    (void)printf("\n");
}

static void print_part(const struct compare_part *part)
{
    char name[160];
    (void)snprintf(name, sizeof name, "%s/%" PRIu32, part->log, part->partition);
    (void)printf("%-28s %10" PRIu64 " %10" PRIu64 " %016" PRIx64 " %016" PRIx64 " %9" PRIu64 " %9" PRIu64 " %9" PRIu64
                 "\n",
                 name, part->there.n, part->here.n, part->there.hash, part->here.hash, part->n_behind, part->n_trimmed,
                 part->n_retired);
    if (part->first.what != COMPARE_SAME)
        print_difference(part);
}

/* --- for programs --------------------------------------------------------------------------------------------------- */

static void print_line(json_t *object)
{
    char *text = object != NULL ? json_dumps(object, JSON_COMPACT) : NULL;
    if (text != NULL)
        (void)printf("%s\n", text);
    free(text);
    json_decref(object);
}

/* NULL where it is no UTF-8: JSON has no words for it. */
static json_t *text_of(const char *text)
{
    json_t *value = json_string(text);
    return value != NULL ? value : json_null();
}

static json_t *number(uint64_t value)
{
    char text[24];
    (void)snprintf(text, sizeof text, "%" PRIu64, value);
    return json_string(text);
}

static json_t *sum_of(uint64_t n, uint64_t hash)
{
    char text[24];
    (void)snprintf(text, sizeof text, "%016" PRIx64, hash);
    return json_pack("{s:I,s:s}", "events", (json_int_t)n, "hash", text);
}

static json_t *difference_of(const struct compare_difference *first)
{
    json_t *ids = json_array();
    for (size_t i = 0; i < 2 && first->ids[i][0] != '\0'; i++)
        json_array_append_new(ids, text_of(first->ids[i]));
    json_t *object = json_pack("{s:s,s:o,s:o,s:o,s:o}", "what", compare_name(first->what), "position",
                               number(first->position), "eventId", text_of(first->event_id), "stream",
                               text_of(first->stream), "entries", ids);
    if (first->what == COMPARE_DIFFERS)
        json_object_set_new(object, "field", text_of(first->field));
    if (first->what == COMPARE_BEYOND)
        json_object_set_new(object, "mark", number(first->mark));
    return object;
}

static void print_part_json(const struct compare_part *part)
{
    bool is_same = part->first.what == COMPARE_SAME;
    json_t *object = json_pack("{s:s,s:I,s:b,s:o,s:o,s:I,s:I,s:I}", "log", part->log, "partition",
                               (json_int_t)part->partition, "same", is_same, "broker",
                               sum_of(part->there.n, part->there.hash), "journal",
                               sum_of(part->here.n, part->here.hash), "behind", (json_int_t)part->n_behind, "trimmed",
                               (json_int_t)part->n_trimmed, "retired", (json_int_t)part->n_retired);
    if (!is_same)
        json_object_set_new(object, "difference", difference_of(&part->first));
    print_line(object);
}

/* --- either --------------------------------------------------------------------------------------------------------- */

void verify_print_part(const struct compare_part *part, bool json)
{
    if (json)
        print_part_json(part);
    else
        print_part(part);
}

void verify_print_stray(const char *stream, const char *id, size_t n, bool json)
{
    if (json) {
        print_line(json_pack("{s:o,s:b,s:I,s:o}", "stream", text_of(stream), "same", 0, "stray", (json_int_t)n, "entry",
                             text_of(id)));
        return;
    }
    (void)printf("stray: %zu %s of stream %s, the first ", n, n == 1 ? "entry" : "entries", stream);
    print_safe(id);
    (void)printf(", %s this bus as origin, and no partition and position that it has\n", n == 1 ? "names" : "name");
}

void verify_print_sum(const struct compare_part *parts, size_t n_parts, size_t n_stray, bool json)
{
    uint64_t n_events = 0, n_behind = 0;
    size_t n_different = 0;
    for (size_t i = 0; i < n_parts; i++) {
        n_events += parts[i].there.n;
        n_behind += parts[i].n_behind;
        n_different += parts[i].first.what != COMPARE_SAME;
    }
    if (json)
        return;
    if (n_different == 0 && n_stray == 0)
        (void)printf("the same: %" PRIu64 " events in %zu partitions", n_events, n_parts);
    else
        (void)printf("not the same: %zu of %zu partitions, %zu stray entries", n_different, n_parts, n_stray);
    if (n_behind > 0)
        (void)printf("; %" PRIu64 " are still to go out", n_behind);
    (void)printf("\n");
}
