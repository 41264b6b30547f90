/* deadletters.c: letters as their callers see them, and which of them are meant.
 *
 * What the log says is read first, all of it (letters.c); then each letter's frame is read again, at its position, and shown. So
 * nothing is consumed, and what comes meanwhile is for the next look. A letter that is damaged, or has gone, is left out.
 * Checked by tests/unit/test_letters.c, tests/cli/test_dlq.sh. */
#include "deadletters.h"

#include "topic.h"

#include <stdlib.h>
#include <string.h>

static int check_filter(const struct evbus_dead_letters_filter *filter, struct error *err)
{
    if ((unsigned)filter->state > EVBUS_LETTER_DISCARDED)
        return error_set(err, EVBUS_EINVAL, "filter.state is %d, which is no enum evbus_dead_letter_state",
                         (int)filter->state);
    bool is_cause = filter->cause == NULL;
    for (int cause = CAUSE_FAILED; cause < CAUSES && !is_cause; cause++)
        is_cause = strcmp(filter->cause, pending_cause_name((enum pending_cause)cause)) == 0;
    if (!is_cause)
        return error_set(err, EVBUS_EINVAL,
                         "cause \"%.40s\": there are failed, crashed, timeout, rejected, no_version and expired",
                         filter->cause);
    return filter->topic != NULL ? topic_pattern_check(filter->topic, err) : EVBUS_OK;
}

int deadletters_begin(struct deadletters **out_look, struct evbus *bus, const struct evbus_dead_letters_filter *given,
                      struct error *err)
{
    struct deadletters *look = calloc(1, sizeof *look);
    if (look == NULL)
        return error_no_memory(err, "dead letters");
    int rc = given != NULL ? bus_take_struct(&look->filter, sizeof look->filter, given, given->size,
                                             "struct evbus_dead_letters_filter", err)
                           : EVBUS_OK;
    if (rc == EVBUS_OK)
        rc = check_filter(&look->filter, err);
    if (rc == EVBUS_OK)
        rc = memory_map_new_logs(&bus->memory, err);
    look->memory = &bus->memory;
    look->log = memory_internal_log(&bus->memory, MEMORY_DLQ_LOG);
    look->buffer = malloc((size_t)LETTER_CELLS_MAX * CELL_BYTES);
    look->cells = malloc((size_t)LETTER_CELLS_MAX * CELL_BYTES);
    if (rc == EVBUS_OK && (look->buffer == NULL || look->cells == NULL))
        rc = error_no_memory(err, "dead letters");
    if (rc == EVBUS_OK)
        rc = letters_read(look->memory, &look->letters, err);
    if (rc != EVBUS_OK)
        deadletters_end(look);
    else
        *out_look = look;
    return rc;
}

void deadletters_end(struct deadletters *look)
{
    if (look == NULL)
        return;
    letters_free(&look->letters);
    partition_past_close(look->past);
    free(look->buffer);
    free(look->cells);
    free(look);
}

static enum evbus_dead_letter_state state_of(const struct letters_row *row)
{
    if (row->is_open)
        return row->n_replays >= DEADLETTERS_REPLAYS_MAX ? EVBUS_LETTER_QUARANTINED : EVBUS_LETTER_OPEN;
    return row->is_discarded ? EVBUS_LETTER_DISCARDED : EVBUS_LETTER_REPLAYED;
}

/* What can be told without reading it. */
static bool may_be_meant(const struct evbus_dead_letters_filter *filter, const struct letters_row *row)
{
    enum evbus_dead_letter_state state = state_of(row);
    if (row->pos == LETTERS_NONE || (filter->state != 0 && filter->state != state))
        return false;
    if (!row->is_open && !filter->with_settled && filter->state == 0)
        return false;
    return row->at_ns >= filter->from_ns && (filter->to_ns == 0 || row->at_ns < filter->to_ns);
}

static bool is_meant(const struct evbus_dead_letters_filter *filter, const struct letter *letter)
{
    if (filter->group != NULL && strcmp(filter->group, letter->group) != 0)
        return false;
    if (filter->topic != NULL && !topic_matches(filter->topic, letter->topic))
        return false;
    if (filter->cause != NULL && strcmp(filter->cause, letter->cause) != 0)
        return false;
    if (filter->key != NULL && (strlen(filter->key) != letter->event.key_len ||
                                memcmp(filter->key, letter->event.key, letter->event.key_len) != 0))
        return false;
    return !filter->has_id || memcmp(filter->id, letter->id, sizeof filter->id) == 0 ||
           memcmp(filter->id, letter->event.id, sizeof filter->id) == 0;
}

/* The frame at a position into a buffer, parsed. *out_is_there: it is, and whole. */
static int fetch(struct deadletters *look, uint64_t pos, uint64_t *buffer, struct frame *out, bool *out_is_there,
                 struct error *err)
{
    uint64_t next;
    int found = partition_fetch(&look->past, look->memory, &look->log->rings[0], pos, buffer, &next, err);
    *out_is_there = found == PARTITION_FRAME && frame_parse(buffer, out, NULL) == EVBUS_OK;
    return found < 0 ? found : EVBUS_OK;
}

static void show_event(struct deadletters *look)
{
    struct letter *letter = &look->letter;
    struct frame frame;
    look->event = (struct evbus_delivery){.size = sizeof look->event,
                                          .topic = letter->topic,
                                          .service = look->service,
                                          .log = look->shown.log,
                                          .partition = look->shown.partition,
                                          .position = look->shown.position};
    memory_publisher_name(look->memory, letter->event.publisher, look->service);
    letter->event.area = letter->area.bytes;
    letter->event.area_len = (uint16_t)letter->area.len;
    uint32_t n_cells = frame_cells_of(&letter->event);
    frame_build(&letter->event, look->cells);
    struct frame_header *header = (struct frame_header *)look->cells;
    header->n_cells = (uint16_t)n_cells;
    if (frame_parse(look->cells, &frame, NULL) == EVBUS_OK)
        delivery_fill(&frame, &look->texts, &look->event);
}

static void show_attempts(struct deadletters *look)
{
    look->shown.attempts = look->shown_attempts;
    look->shown.n_attempts = letter_attempts(&look->letter, look->attempts);
    for (size_t i = 0; i < look->shown.n_attempts; i++) {
        const struct letter_attempt *from = &look->attempts[i];
        look->shown_attempts[i] = (struct evbus_dead_letter_attempt){.n = from->n,
                                                                     .at_ns = from->at_ns,
                                                                     .ms = from->ms,
                                                                     .member = from->member,
                                                                     .cause = from->cause,
                                                                     .error = from->error};
    }
}

static void show_settled(struct deadletters *look)
{
    look->shown.settled_ns = look->settled.at_ns;
    look->shown.settled_service = look->settled.service;
    look->shown.settled_user = look->settled.user;
    look->shown.settled_host = look->settled.host;
    look->shown.settled_pid = look->settled.pid;
    look->shown.settled_reason = look->settled.reason;
}

static void show(struct deadletters *look, const struct letters_row *row)
{
    const struct letter *letter = &look->letter;
    bool is_ours = letter->stream[0] == '\0';
    look->shown = (struct evbus_dead_letter){
        .size = sizeof look->shown,
        .state = state_of(row),
        .error = letter->error,
        .group = letter->group,
        .topic = letter->topic,
        .log = is_ours ? letter->log : "",
        .partition = is_ours ? letter->partition : 0,
        .position = is_ours ? letter->position : 0,
        .stream = is_ours ? NULL : letter->stream,
        .entry = is_ours ? NULL : letter->entry,
        .cause = letter->cause,
        .at_ns = letter->at_ns,
        .letter_position = row->pos,
        .n_replays = row->n_replays,
        .event = &look->event,
        .json = look->frame.payload,
        .json_len = look->frame.payload_len,
    };
    memcpy(look->shown.id, letter->id, sizeof look->shown.id);
    show_attempts(look);
    show_settled(look);
    show_event(look);
    *((char *)(uintptr_t)look->frame.payload + look->frame.payload_len) = '\0';
}

int deadletters_look(struct deadletters *look, const struct letters_row *row, bool *out_is_meant, struct error *err)
{
    bool is_there = false;
    struct frame resolution;
    *out_is_meant = false;
    if (!may_be_meant(&look->filter, row))
        return EVBUS_OK;
    look->settled = (struct settled){.what = SETTLED_REPLAYED};
    int rc = EVBUS_OK;
    if (row->settled != LETTERS_NONE) /* into the event's buffer, which is needed later */
        rc = fetch(look, row->settled, look->cells, &resolution, &is_there, err);
    if (is_there)
        settled_parse(&resolution, &look->settled);
    if (rc == EVBUS_OK)
        rc = fetch(look, row->pos, look->buffer, &look->frame, &is_there, err);
    if (rc != EVBUS_OK || !is_there || letter_parse(&look->frame, &look->letter, NULL) != EVBUS_OK ||
        !is_meant(&look->filter, &look->letter))
        return rc;
    show(look, row);
    *out_is_meant = true;
    return EVBUS_OK;
}

EVBUS_API int evbus_dead_letters(struct evbus *bus, const struct evbus_dead_letters_filter *filter,
                                 int (*each)(void *context, const struct evbus_dead_letter *letter), void *context)
{
    struct error *err = error_of_thread();
    struct deadletters *look = NULL;
    int rc = bus_check(bus, err);
    if (rc == EVBUS_OK && each == NULL)
        rc = error_set(err, EVBUS_EINVAL, "each is NULL");
    if (rc == EVBUS_OK)
        rc = deadletters_begin(&look, bus, filter, err);
    for (size_t i = 0; rc == EVBUS_OK && i < look->letters.n; i++) {
        bool is_meant;
        rc = deadletters_look(look, &look->letters.rows[i], &is_meant, err);
        if (rc == EVBUS_OK && is_meant)
            rc = each(context, &look->shown);
    }
    deadletters_end(look);
    return rc;
}
