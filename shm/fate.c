/* fate.c: what became of an event that groups gave up: its letters, and what was done about them.
 *
 * The ids of letters follow from where the event stands (deadletter.c), letters and resolutions have the same: so they are found as any
 * id is (find.c), in their order, and letters.c says what they come to. Checked by tests/unit/test_history.c. */
#include "fate.h"

#include "area.h"

#include <string.h>

void fate_want(struct fate *fate, const uint8_t id[16])
{
    for (size_t i = 0; i < fate->n_ids; i++)
        if (memcmp(fate->ids[i].bytes, id, 16) == 0)
            return;
    if (fate->n_ids < FATE_LETTERS_MAX)
        memcpy(fate->ids[fate->n_ids++].bytes, id, 16);
}

static int see(void *context, const struct find_hit *hit)
{
    struct fate *fate = context;
    struct area_source source = {.n_replays = 0};
    area_source(hit->frame, &source); /* older letters have none, and no replays */
    if (hit->header->kind == FRAME_DEAD && fate->n_deaths < FATE_DEATHS_MAX)
        fate->deaths[fate->n_deaths++] = (struct fate_death){
            .which = hit->which, .n = source.n_replays, .pos = hit->pos, .at_ns = hit->frame->timestamp_ns};
    return letters_note(&fate->letters, fate->memory, hit->pos, (const uint64_t *)hit->header, fate->err);
}

int fate_look(struct fate *fate, bool *out_damaged)
{
    struct memory_log *dlq = memory_internal_log(fate->memory, MEMORY_DLQ_LOG);
    return dlq == NULL || fate->n_ids == 0
               ? EVBUS_OK
               : find_in(fate->memory, dlq, 0, fate->ids, fate->n_ids, see, fate, out_damaged, fate->err);
}

void fate_end(struct fate *fate)
{
    letters_free(&fate->letters);
}

const struct letters_row *fate_letter(const struct fate *fate, const uint8_t id[16])
{
    const struct letters_row *row = letters_find(&fate->letters, id);
    return row != NULL && row->pos != LETTERS_NONE ? row : NULL;
}

const struct fate_death *fate_death(const struct fate *fate, const uint8_t id[16], uint32_t n)
{
    const struct fate_death *last = NULL;
    for (size_t i = 0; i < fate->n_deaths; i++)
        if (fate->deaths[i].n == n && memcmp(fate->ids[fate->deaths[i].which].bytes, id, 16) == 0)
            last = &fate->deaths[i];
    return last;
}

static int show(void *context, const struct find_hit *hit)
{
    struct record *record = context;
    struct settled settled;
    if (!settled_parse(hit->frame, &settled))
        return EVBUS_OK;
    record_begin(record, "settled", 2);
    record_word(record, "what", settled.what == SETTLED_REPLAYED ? "replayed" : "discarded");
    record_number(record, "n", settled.n);
    record_time(record, "at", settled.at_ns);
    record_word(record, "service", settled.service);
    record_word(record, "user", settled.user);
    record_word(record, "host", settled.host);
    record_number(record, "pid", (uint64_t)settled.pid);
    record_word(record, "reason", settled.reason);
    record_position(record, "letter", settled.letter);
    record_end(record);
    return EVBUS_OK;
}

int fate_show_settled(struct fate *fate, const uint8_t id[16], struct record *record)
{
    struct memory_log *dlq = memory_internal_log(fate->memory, MEMORY_DLQ_LOG);
    struct find_id wanted;
    bool is_damaged = false;
    memcpy(wanted.bytes, id, sizeof wanted.bytes);
    return dlq != NULL ? find_in(fate->memory, dlq, 0, &wanted, 1, show, record, &is_damaged, fate->err) : EVBUS_OK;
}
