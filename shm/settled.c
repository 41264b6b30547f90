/* settled.c: what was done about a dead letter, by whom and when.
 *
 * A frame of kind SETTLED on the topic where the letter stands, with the letter's id: so the topic is its own audit trail, and whoever
 * looks for the id finds both. Its payload is JSON for people; what decides stands in the header area (area.h):
 *
 *     AREA_SOURCE   n_replays: how often it has been replayed by now    AREA_LETTER   which of the letters of this id it is of
 *
 * Who counts is letters.c, who writes in which order replay.c. Checked by tests/unit/test_letters.c. */
#include "settled.h"

#include "area.h"
#include "clock.h"
#include "envelope.h"
#include "json.h"
#include "partition.h"
#include "uuid7.h"

#include <inttypes.h>
#include <jansson.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *const names[] = {[SETTLED_REPLAYED] = "replayed", [SETTLED_DISCARDED] = "discarded"};

void settled_by_us(const char *service, struct settled *out)
{
    char room[4096];
    struct passwd found, *user = NULL;
    out->at_ns = clock_wall_ns();
    out->pid = getpid();
    out->uid = getuid();
    snprintf(out->service, sizeof out->service, "%s", service);
    if (gethostname(out->host, sizeof out->host - 1) != 0)
        out->host[0] = '\0';
    if (getpwuid_r(getuid(), &found, room, sizeof room, &user) != 0 || user == NULL ||
        strlen(user->pw_name) >= sizeof out->user || !json_is_utf8(user->pw_name, strlen(user->pw_name)))
        snprintf(out->user, sizeof out->user, "%u", (unsigned)getuid());
    else
        snprintf(out->user, sizeof out->user, "%s", user->pw_name);
}

static char *text_of(const struct deadletter *of, const uint8_t id[16], const struct settled *settled)
{
    char id_text[37];
    char at[32];
    uuid7_format(id, id_text);
    envelope_time_format(settled->at_ns, at);
    json_t *root = json_pack("{s:s,s:s,s:s,s:i,s:{s:s,s:s,s:I,s:s,s:I},s:s,s:s}", "deadLetterId", id_text, "group",
                             of->group_name, "what", names[settled->what], "n", (int)settled->n, "by", "service",
                             settled->service, "user", settled->user, "uid", (json_int_t)settled->uid, "host",
                             settled->host, "pid", (json_int_t)settled->pid, "at", at, "reason", settled->reason);
    char *text = root != NULL ? json_dumps(root, JSON_COMPACT) : NULL;
    json_decref(root);
    return text;
}

int settled_publish(struct memory *memory, struct claim *claim, const struct deadletter *of, const uint8_t id[16],
                    const struct settled *settled, uint64_t *out_pos, uint64_t *out_end, struct error *err)
{
    struct memory_log *log = memory_internal_log(memory, MEMORY_DLQ_LOG);
    struct area area;
    char *text = text_of(of, id, settled);
    deadletter_area(of, id, &area);
    area_add(&area, AREA_LETTER, &settled->letter, sizeof settled->letter);
    struct frame frame = {
        .kind = FRAME_SETTLED,
        .timestamp_ns = settled->at_ns,
        .topic = (uint16_t)of->topic_id,
        .key_hash = of->event->key_hash,
        .key = of->event->key,
        .key_len = of->event->key_len,
        .area = area.bytes,
        .area_len = (uint16_t)area.len,
        .major = 1,
        .payload = text,
        .payload_len = text != NULL ? (uint32_t)strlen(text) : 0,
    };
    memcpy(frame.id, id, sizeof frame.id);
    uint32_t n_cells = frame_cells(frame.key_len, area.len, frame.payload_len);
    uint64_t *buffer = text != NULL ? malloc((size_t)n_cells * CELL_BYTES) : NULL;
    int rc;
    if (log == NULL)
        rc = error_set(err, EVBUS_ECORRUPT, "bus %s has lost its log of dead letters; run `evbus doctor`", memory->bus);
    else if (buffer == NULL)
        rc = error_no_memory(err, "the resolution of a dead letter");
    else if (n_cells > log->rings[0].frame_cells_max)
        rc = error_set(err, EVBUS_EINVAL, "the resolution of a dead letter fits no frame of %s", log->name);
    else {
        frame_build(&frame, buffer);
        rc = partition_append(&log->rings[0], claim, buffer, n_cells, &(struct partition_wait){.memory = memory},
                              out_pos, err);
    }
    if (rc == EVBUS_OK) {
        *out_end = *out_pos + n_cells;
        partition_make_room(memory, &log->rings[0], *out_pos);
    }
    free(buffer);
    free(text);
    return rc;
}

bool settled_counts(const struct frame *frame, enum settled_what *out_what, uint32_t *out_n, uint64_t *out_letter)
{
    struct area_source source;
    const char *slice;
    size_t len;
    char what[16] = "";
    if (frame->kind != FRAME_SETTLED || !area_source(frame, &source) ||
        !json_check(frame->payload, frame->payload_len, NULL) ||
        !json_member(frame->payload, frame->payload_len, "what", &slice, &len) ||
        json_string_decode(slice, len, what, sizeof what - 1) < 0)
        return false;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strcmp(what, names[i]) == 0) {
            *out_what = (enum settled_what)i;
            *out_n = source.n_replays;
            *out_letter = area_number(frame, AREA_LETTER);
            return true;
        }
    return false;
}

bool settled_parse(const struct frame *frame, struct settled *out)
{
    struct settled settled = {.at_ns = frame->timestamp_ns};
    const char *service, *user, *host, *reason;
    json_int_t pid, uid;
    if (!settled_counts(frame, &settled.what, &settled.n, &settled.letter))
        return false;
    json_t *root = json_loadb(frame->payload, frame->payload_len, JSON_REJECT_DUPLICATES, NULL);
    bool is_whole = root != NULL &&
                    json_unpack(root, "{s:{s:s,s:s,s:I,s:s,s:I},s:s}", "by", "service", &service, "user", &user, "uid",
                                &uid, "host", &host, "pid", &pid, "reason", &reason) == 0;
    if (is_whole) {
        snprintf(settled.service, sizeof settled.service, "%s", service);
        snprintf(settled.user, sizeof settled.user, "%s", user);
        snprintf(settled.host, sizeof settled.host, "%s", host);
        snprintf(settled.reason, sizeof settled.reason, "%s", reason);
        settled.pid = pid;
        settled.uid = uid;
        *out = settled;
    }
    json_decref(root);
    return is_whole;
}
