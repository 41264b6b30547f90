/* ingress.c: what happened elsewhere comes in, once, in order.
 *
 *     an entry    of our own origin: we have sent it: left out
 *                 of another bus: at or below that partition's mark, or brought in since the checkpoint: left out
 *                 of no bus (a program that is no evbus): brought in since the checkpoint: left out
 *                 no event, or none that this bus takes: a dead letter of bridge-<name>
 *                 its `prev` is behind that partition's mark: events are missing, see below
 *                 else it is published here, with its origin and its id at the broker in its frame
 *
 * Why that is enough. Entries of a stream are taken in order, and what was taken stands in the bus in order: so all that must be known is
 * where we stand. A checkpoint says it of some moment, and the frames themselves of everything since: whoever leads next reads both
 * before he takes the first entry (evbus_mirror_brought), and no leader before him can bring in anything from then on. So progress and data
 * cannot disagree, whatever is killed, and whatever the power cut has left of the frames: what it took away is not among them, and
 * is read again from the checkpoint's id.
 * Until all that a new leader has read so has passed him once more in its stream, his checkpoints say of the bus what the one that he has
 * recalled says (ingress_is_settled): streams and marks know of an entry when it passes, not before. What does not pass is lost at the broker: when
 * nothing more stands in the stream it counts as passed, for its own bus may send it again.
 * The broker may have an event twice (its tail was lost, and sent again): the marks are by origin and position, not by the broker's ids. Ids that
 * it has given and lost are no ids any more: reset() tells where to go on.
 *
 * Missing. The broker cannot always tell: what is put into a stream in the millisecond in which it was emptied gets ids that we have read. But an entry
 * says the position of the one before it, of the same partition in the same stream, which is what a mark is of:
 *
 *     ids that we have read              behind them
 *     [a 12] [b 7] [a 14] ...  id   |   [a 16, prev 14], and our mark of a is 10
 *
 *   order    what stands before that entry is brought in, and the entry itself is not taken; the stream is heard from its beginning; what it has at or
 *            before `id` is looked at once more: what is behind a mark comes in, what has no mark (foreign programs', no events) was dealt with;
 *            behind `id` it goes on as ever
 * Until then `id` does not move, and so the entry that tells of the gap is behind every checkpoint: who is killed in between leaves it to the next leader
 * to see it again, and what has come in by then passes him as it is looked for. Nothing of that partition can have been taken that is behind the gap, so
 * the order is kept. The stream itself may have the gap (it was trimmed before we came, or an entry was removed, or was too large to be read):
 * a gap is known by mark and `prev`, and is looked for once; the same one again is believed. So a hole costs one reading, and one
 * that is half filled another. A bus of which we know no mark has a gap in front where the stream was trimmed before we came: that is read for once
 * as well, from the beginning to its first entry. A stream that has many holes would be read as often: after FRUITLESS readings in a row that
 * found nothing its gaps are believed, but for one a minute. Where a checkpoint had no room for all marks (MARKS_TOLD), one that is not known
 * says nothing, and there is no gap before it.
 * An event whose id was read, behind which nothing of its partition follows, is missing until something does; of foreign programs' nobody can tell.
 * Nothing of another bus is sent on: every host reads it from the broker by itself.
 * Checked by tests/broker/test_bridge.c, test_bridge_gap.c, test_bridge_death.c, test_hosts.c. */
#include "ingress.h"

#include "now.h"
#include "say.h"
#include "table.h"

#include <evbus/admin.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uuid.h>

#define TOGETHER     128 /* events that are brought in by one call */
#define AGAIN_NS     (50 * NS_PER_MS)
#define REJECTED_MAX (160 * 1024) /* bytes of an entry's fields that its dead letter shows */
#define ID_SIZE      64
#define MARKS_TOLD   2000
#define FRUITLESS    16 /* readings of a stream anew that find nothing, in a row: then one in BELIEVED_NS */
#define BELIEVED_NS  (60 * NS_PER_S)

enum { TO_PASS = 1, PASSED = 2 };

enum reading {
    ONWARD,
    ANEW_WANTED, /* events are missing: from its beginning, as soon as the backend can be told */
    ANEW         /* it has been told, and what comes stands at or before `id` */
};

struct stream {
    char name[128];
    char id[ID_SIZE]; /* of the last entry that was taken; "": none */
    enum reading reading;
    bool has_found;        /* in this reading anew */
    unsigned n_fruitless;  /* readings anew in a row that found nothing */
    uint64_t fruitless_ns; /* when the last of them ended */
    bool is_heard;         /* the backend reads it for us */
    uint64_t due_ns;       /* something could not be taken: more is asked for then; 0: it is not so */
    size_t n_to_pass;      /* of those brought in since the checkpoint: have not passed since we lead */
};

/* How far a partition of another bus has come in by a stream. */
struct mark {
    uint32_t stream; /* its index */
    uint32_t partition;
    uint8_t bus[16];
    uint64_t position;
    uint64_t taken;   /* likewise, those among them that are being brought in just now */
    uint64_t brought; /* the last one since the checkpoint; 0: none */
    uint64_t used;    /* which of all entries spoke of it last */
    uint64_t gap_from,
        gap_to; /* the gap for which the stream was read anew last: from `taken` to an entry's `prev`; 0, 0: none */
};

struct ingress {
    struct evbus_mirror *mirror;
    const struct config *config;
    struct metrics *metrics;
    uint8_t origin[16];
    char origin_text[UUID_STR_LEN];
    struct backend *backend; /* NULL: we do not lead */
    bool is_fenced;
    struct stream *streams;
    size_t n_streams;
    struct mark *marks;
    size_t n_marks;
    size_t n_recalled;    /* of them, from a checkpoint */
    struct table mark_of; /* -> index in marks */
    uint64_t n_looked;    /* entries that speak of one */
    struct table
        brought; /* since the checkpoint that was recalled: by origin and position, and by the broker's id; -> TO_PASS, PASSED */
    struct entry_event *events;
    struct evbus_event *together;
};

/* --- streams and marks ----------------------------------------------------------------------------------------------------- */

int ingress_open(struct ingress **out, struct evbus_mirror *mirror, const struct config *config,
                 const uint8_t origin[16], struct metrics *metrics)
{
    struct ingress *ingress = calloc(1, sizeof *ingress);
    if (ingress == NULL)
        return EVBUS_ENOSPC;
    ingress->mirror = mirror;
    ingress->config = config;
    ingress->metrics = metrics;
    memcpy(ingress->origin, origin, sizeof ingress->origin);
    uuid_unparse_lower(origin, ingress->origin_text);
    ingress->events = calloc(TOGETHER, sizeof *ingress->events);
    ingress->together = calloc(TOGETHER, sizeof *ingress->together);
    if (ingress->events == NULL || ingress->together == NULL) {
        ingress_close(ingress);
        return EVBUS_ENOSPC;
    }
    *out = ingress;
    return EVBUS_OK;
}

void ingress_close(struct ingress *ingress)
{
    if (ingress == NULL)
        return;
    table_free(&ingress->mark_of);
    table_free(&ingress->brought);
    free(ingress->streams);
    free(ingress->marks);
    free(ingress->events);
    free(ingress->together);
    free(ingress);
}

static struct stream *find(const struct ingress *ingress, const char *name)
{
    for (size_t i = 0; i < ingress->n_streams; i++)
        if (strcmp(ingress->streams[i].name, name) == 0)
            return &ingress->streams[i];
    return NULL;
}

static struct stream *find_or_make(struct ingress *ingress, const char *name)
{
    struct stream *found = find(ingress, name);
    if (found != NULL)
        return found;
    struct stream *streams = realloc(ingress->streams, (ingress->n_streams + 1) * sizeof *streams);
    if (streams == NULL)
        return NULL;
    ingress->streams = streams;
    found = &streams[ingress->n_streams++];
    *found = (struct stream){0};
    snprintf(found->name, sizeof found->name, "%s", name);
    return found;
}

static void hear(struct ingress *ingress, struct stream *stream)
{
    if (stream->is_heard || ingress->backend == NULL)
        return;
    stream->is_heard = ingress->backend->class->listen(ingress->backend, stream->name, stream->id) == EVBUS_OK;
    if (stream->is_heard)
        ingress->backend->class->more(ingress->backend, stream->name);
}

int ingress_look(struct ingress *ingress, const struct topics *topics)
{
    bool is_log = ingress->config->layout == CONFIG_LAYOUT_LOG;
    for (size_t i = 0; i < topics->n; i++) {
        struct stream *stream = find_or_make(ingress, is_log ? topics->all[i].log : topics->all[i].topic);
        if (stream == NULL)
            return EVBUS_ENOSPC;
        hear(ingress, stream);
    }
    return EVBUS_OK;
}

static struct table_key key_of_mark(uint32_t stream, const uint8_t bus[16], uint32_t partition)
{
    uint8_t bytes[24];
    memcpy(bytes, bus, 16);
    memcpy(bytes + 16, &stream, 4);
    memcpy(bytes + 20, &partition, 4);
    return table_key(bytes, sizeof bytes);
}

/* NULL: no memory. */
static struct mark *mark_of(struct ingress *ingress, const struct stream *stream, const uint8_t bus[16],
                            uint32_t partition)
{
    uint32_t index = (uint32_t)(stream - ingress->streams);
    struct table_key key = key_of_mark(index, bus, partition);
    const uint64_t *found = table_get(&ingress->mark_of, key);
    if (found != NULL)
        return &ingress->marks[*found];
    struct mark *marks = realloc(ingress->marks, (ingress->n_marks + 1) * sizeof *marks);
    if (marks == NULL)
        return NULL;
    ingress->marks = marks;
    if (!table_put(&ingress->mark_of, key, ingress->n_marks))
        return NULL;
    struct mark *mark = &marks[ingress->n_marks++];
    *mark = (struct mark){.stream = index, .partition = partition};
    memcpy(mark->bus, bus, sizeof mark->bus);
    return mark;
}

void ingress_recall(struct ingress *ingress, const char *stream, const char *id)
{
    struct stream *found = find_or_make(ingress, stream);
    if (found != NULL)
        snprintf(found->id, sizeof found->id, "%s", id);
}

void ingress_recall_mark(struct ingress *ingress, const char *stream, const uint8_t bus[16], uint32_t partition,
                         uint64_t position)
{
    struct stream *found = find_or_make(ingress, stream);
    struct mark *mark = found != NULL ? mark_of(ingress, found, bus, partition) : NULL;
    ingress->n_recalled++;
    if (mark != NULL)
        mark->position = mark->taken = position;
}

static int by_use(const void *left, const void *right)
{
    const struct mark *a = left, *b = right;
    return a->used < b->used ? 1 : a->used > b->used ? -1 : 0;
}

/* A checkpoint has no room for more. Of whose events nothing came for longest nothing is told: the stream's id says that they are in, unless
 * the broker loses them, and their bus sends them again. */
static uint64_t least_use_told(const struct ingress *ingress)
{
    if (ingress->n_marks <= MARKS_TOLD)
        return 0;
    struct mark *marks = malloc(ingress->n_marks * sizeof *marks);
    if (marks == NULL)
        return UINT64_MAX;
    memcpy(marks, ingress->marks, ingress->n_marks * sizeof *marks);
    qsort(marks, ingress->n_marks, sizeof *marks, by_use);
    uint64_t least = marks[MARKS_TOLD - 1].used;
    free(marks);
    return least;
}

/* Then it may have come in, although we know nothing of it. */
static bool may_be_untold(const struct ingress *ingress, const struct mark *mark)
{
    return mark->taken == 0 && ingress->n_recalled >= MARKS_TOLD;
}

void ingress_tell(struct ingress *ingress, void (*stream)(void *context, const char *stream, const char *id),
                  void (*mark)(void *context, const char *stream, const uint8_t bus[16], uint32_t partition,
                               uint64_t position),
                  void *context)
{
    for (size_t i = 0; i < ingress->n_streams; i++)
        if (ingress->streams[i].id[0] != '\0')
            stream(context, ingress->streams[i].name, ingress->streams[i].id);
    uint64_t least = least_use_told(ingress);
    for (size_t i = 0; i < ingress->n_marks; i++)
        if (ingress->marks[i].used >= least)
            mark(context, ingress->streams[ingress->marks[i].stream].name, ingress->marks[i].bus,
                 ingress->marks[i].partition, ingress->marks[i].position);
}

void ingress_tell_names(struct ingress *ingress, void (*stream)(void *context, const char *stream), void *context)
{
    for (size_t i = 0; i < ingress->n_streams; i++)
        stream(context, ingress->streams[i].name);
}

/* --- what has come in since the checkpoint ------------------------------------------------------------------------------------ */

static bool is_nobodys(const uint8_t bus[16])
{
    static const uint8_t nobody[16];
    return memcmp(bus, nobody, sizeof nobody) == 0;
}

/* An event of a bus is known by topic, origin and position: a topic is of one log there. */
static struct table_key key_of_origin(const char *topic, const struct evbus_origin *origin)
{
    uint8_t bytes[28 + 128];
    size_t len = strnlen(topic, 128);
    memcpy(bytes, origin->bus, 16);
    memcpy(bytes + 16, &origin->position, 8);
    memcpy(bytes + 24, &origin->partition, 4);
    memcpy(bytes + 28, topic, len);
    return table_key(bytes, 28 + len);
}

/* One of no bus by its topic and the broker's id. */
static struct table_key key_of_id(const char *topic, const char *id)
{
    char bytes[128 + 1 + ID_SIZE];
    int len = snprintf(bytes, sizeof bytes, "%.127s %.63s", topic, id);
    return table_key(bytes, (size_t)len);
}

static struct table_key key_of(const char *topic, const struct evbus_origin *origin)
{
    return is_nobodys(origin->bus) ? key_of_id(topic, origin->broker_id != NULL ? origin->broker_id : "")
                                   : key_of_origin(topic, origin);
}

int ingress_has(void *context, const struct evbus_delivery *event)
{
    struct ingress *ingress = context;
    const struct evbus_origin *origin = event->origin;
    struct table_key key = key_of(event->topic, origin);
    struct stream *stream = find_or_make(ingress,
                                         ingress->config->layout == CONFIG_LAYOUT_LOG ? event->log : event->topic);
    if (stream == NULL)
        return EVBUS_ENOSPC;
    if (table_get(&ingress->brought, key) != NULL)
        return EVBUS_OK; /* it is told again where a catalogue has changed */
    if (!table_put(&ingress->brought, key, TO_PASS))
        return EVBUS_ENOSPC;
    stream->n_to_pass++;
    if (is_nobodys(origin->bus))
        return EVBUS_OK;
    struct mark *mark = mark_of(ingress, stream, origin->bus, origin->partition);
    if (mark == NULL)
        return EVBUS_ENOSPC;
    if (origin->position > mark->brought)
        mark->brought = origin->position;
    return EVBUS_OK;
}

/* Nothing more stands in the stream now: what has not passed is not there. */
static void all_have_passed(struct ingress *ingress, struct stream *stream)
{
    uint32_t index = (uint32_t)(stream - ingress->streams);
    for (size_t i = 0; stream->n_to_pass > 0 && i < ingress->n_marks; i++)
        if (ingress->marks[i].stream == index && ingress->marks[i].brought > ingress->marks[i].position)
            ingress->marks[i].position = ingress->marks[i].taken = ingress->marks[i].brought;
    stream->n_to_pass = 0;
}

bool ingress_is_settled(const struct ingress *ingress)
{
    for (size_t i = 0; i < ingress->n_streams; i++)
        if (ingress->streams[i].n_to_pass > 0)
            return false;
    return true;
}

/* --- lead ------------------------------------------------------------------------------------------------------------------------ */

void ingress_lead(struct ingress *ingress, struct backend *backend)
{
    ingress->backend = backend;
    ingress->is_fenced = false;
    for (size_t i = 0; i < ingress->n_streams; i++) {
        ingress->streams[i].due_ns = 0;
        hear(ingress, &ingress->streams[i]);
    }
}

void ingress_stand_by(struct ingress *ingress)
{
    ingress->backend = NULL; /* the bridge closes it: what it reads for us is nothing any more */
    for (size_t i = 0; i < ingress->n_streams; i++)
        ingress->streams[i] = (struct stream){.name = "", .is_heard = false};
    ingress->n_streams = 0;
    ingress->n_marks = 0;
    ingress->n_recalled = 0;
    table_free(&ingress->mark_of);
    table_free(&ingress->brought);
}

bool ingress_is_fenced(const struct ingress *ingress)
{
    return ingress->is_fenced;
}

/* More of it; from its beginning, if that is wanted. */
static void ask_for_more(struct ingress *ingress, struct stream *stream, uint64_t now)
{
    const struct backend_class *class = ingress->backend->class;
    stream->due_ns = 0;
    if (stream->reading == ANEW_WANTED) {
        if (class->listen(ingress->backend, stream->name, "") != EVBUS_OK) {
            stream->due_ns = now + AGAIN_NS;
            return;
        }
        stream->reading = ANEW;
    }
    class->more(ingress->backend, stream->name);
}

void ingress_pump(struct ingress *ingress, uint64_t now, uint64_t *inout_due_ns)
{
    for (size_t i = 0; ingress->backend != NULL && i < ingress->n_streams; i++) {
        struct stream *stream = &ingress->streams[i];
        if (stream->due_ns != 0 && stream->due_ns <= now)
            ask_for_more(ingress, stream, now);
        if (stream->due_ns != 0 && stream->due_ns < *inout_due_ns)
            *inout_due_ns = stream->due_ns;
    }
}

/* --- what is no event ------------------------------------------------------------------------------------------------------------- */

static bool is_text(const char *bytes, size_t len)
{
    json_t *text = json_stringn(bytes, len);
    bool is = text != NULL;
    json_decref(text);
    return is;
}

/* Bytes that are no UTF-8, as \xNN. */
static json_t *shown(const char *bytes, size_t len)
{
    if (is_text(bytes, len))
        return json_stringn(bytes, len);
    char *hex = malloc(2 * len + 3);
    if (hex == NULL)
        return NULL;
    memcpy(hex, "0x", 2);
    for (size_t i = 0; i < len; i++)
        snprintf(hex + 2 + 2 * i, 3, "%02x", (unsigned char)bytes[i]);
    json_t *text = json_stringn(hex, 2 + 2 * len);
    free(hex);
    return text;
}

/* {"stream":...,"id":...,"fields":[[name, value], ...]}, of the fields no more than the room; to be freed. NULL: no memory. */
static char *show(const struct stream *stream, const struct backend_entry *entry, size_t room)
{
    json_t *fields = json_array();
    size_t left = room;
    size_t n_left_out = 0;
    for (size_t i = 0; i < entry->n_fields; i++) {
        const struct entry_field *field = &entry->fields[i];
        size_t need = 6 * (field->name_len + field->value_len) + strlen("[\"\",\"\"],"); /* at most: \u0000 */
        if (need > left) {
            n_left_out++;
            continue;
        }
        left -= need;
        json_array_append_new(
            fields, json_pack("[o,o]", shown(field->name, field->name_len), shown(field->value, field->value_len)));
    }
    json_t *root = json_pack("{s:s,s:s,s:o,s:I}", "stream", stream->name, "id", entry->id, "fields", fields,
                             "fieldsLeftOut", (json_int_t)n_left_out);
    char *text = root != NULL ? json_dumps(root, JSON_COMPACT) : NULL;
    json_decref(root);
    return text;
}

/* EVBUS_OK, or what evbus_mirror_reject() says. */
static int reject(struct ingress *ingress, const struct stream *stream, const struct backend_entry *entry,
                  const char *topic, const char *why)
{
    uint8_t id[16];
    struct table_key key = key_of_id(stream->name, entry->id);
    memcpy(id, &key, sizeof id);
    id[6] = (uint8_t)((id[6] & 0x0f) | 0x80); /* a UUID of version 8: made of something else */
    id[8] = (uint8_t)((id[8] & 0x3f) | 0x80);
    struct evbus_mirror_rejected rejected = {
        .size = sizeof rejected,
        .stream = stream->name,
        .entry = entry->id,
        .topic = topic,
        .why = why,
    };
    memcpy(rejected.id, id, sizeof id);
    int rc = EVBUS_EINVAL;
    for (size_t room = REJECTED_MAX; rc == EVBUS_EINVAL; room /= 4) { /* rings may be small: then less of it is shown */
        char *text = show(stream, entry, room);
        if (text == NULL)
            return EVBUS_ENOSPC;
        rejected.what = text;
        rejected.what_len = strlen(text);
        rc = evbus_mirror_reject(ingress->mirror, &rejected);
        free(text);
        if (room == 0)
            break;
    }
    if (rc == EVBUS_OK) {
        ingress->metrics->in_rejected++;
        say(EVBUS_LOG_WARNING, "an entry is no event for this bus: it is a dead letter",
            SAY(say_text("stream", stream->name), say_text("id", entry->id), say_text("why", why)));
    }
    return rc;
}

/* --- entries ------------------------------------------------------------------------------------------------------------------------ */

/* What is taken together: events, and up to which entry. */
struct load {
    struct stream *stream;
    size_t n;                                 /* events */
    const struct backend_entry *of[TOGETHER]; /* the entry of each */
    const char *id; /* of the last entry that was looked at: when the load is in, it is taken; NULL: none */
};

static void is_taken(const struct ingress *ingress, struct stream *stream, const char *id)
{
    bool is_old = stream->reading == ANEW && ingress->backend->class->id_compare(id, stream->id) <= 0;
    if (!is_old)
        snprintf(stream->id, sizeof stream->id, "%s", id);
}

/* One of the load is done with: it is in, or a dead letter. */
static void pass(struct ingress *ingress, const struct load *load, size_t i)
{
    const struct entry_event *event = &ingress->events[i];
    struct mark *mark = event->is_foreign ? NULL
                                          : mark_of(ingress, load->stream, event->origin.bus, event->origin.partition);
    if (mark != NULL && event->origin.position > mark->position)
        mark->position = event->origin.position;
    is_taken(ingress, load->stream, load->of[i]->id);
}

/* Those of the load are in. */
static void note(struct ingress *ingress, const struct load *load, size_t from, size_t until)
{
    for (size_t i = from; i < until; i++) {
        ingress->metrics->in_events++;
        ingress->metrics->in_bytes += ingress->events[i].event.payload_len;
        pass(ingress, load, i);
    }
}

static bool is_the_events_fault(int rc)
{
    return rc == EVBUS_EINVAL || rc == EVBUS_ENOTFOUND || rc == EVBUS_EDENIED;
}

/* One after the other: what the bus does not take is a dead letter. EVBUS_OK: all of it is done. */
static int unload_singly(struct ingress *ingress, struct load *load)
{
    for (size_t i = 0; i < load->n; i++) {
        size_t n;
        int rc = evbus_mirror_bring(ingress->mirror, &ingress->together[i], 1, &n);
        if (is_the_events_fault(rc)) {
            char why[EVBUS_ERROR_MAX + 1];
            snprintf(why, sizeof why, "%.*s", EVBUS_ERROR_MAX, evbus_message(NULL));
            rc = reject(ingress, load->stream, load->of[i], rc == EVBUS_ENOTFOUND ? NULL : ingress->together[i].topic,
                        why);
            if (rc == EVBUS_OK)
                pass(ingress, load, i);
        } else if (rc == EVBUS_OK) {
            note(ingress, load, i, i + 1);
        }
        if (rc != EVBUS_OK)
            return rc;
    }
    return EVBUS_OK;
}

/* EVBUS_OK: all of it is in. */
static int unload(struct ingress *ingress, struct load *load)
{
    size_t n = 0;
    int rc = EVBUS_OK;
    uint64_t start = now_ns();
    for (size_t i = 0; i < load->n; i++)
        ingress->together[i] = ingress->events[i].event;
    if (load->n > 0) {
        rc = evbus_mirror_bring(ingress->mirror, ingress->together, load->n, &n);
        note(ingress, load, 0, n);
        if (is_the_events_fault(rc) && n == 0) /* they are all checked before the first is published */
            rc = unload_singly(ingress, load);
        metrics_time(&ingress->metrics->bring, now_ns() - start);
    }
    if (rc == EVBUS_OK && load->id != NULL)
        is_taken(ingress, load->stream, load->id);
    ingress->is_fenced = ingress->is_fenced || rc == EVBUS_EFENCED;
    load->n = 0;
    load->id = NULL;
    return rc;
}

enum fate { TAKE, LEAVE_OUT, REJECT, MISSING };

/* Behind the mark something is missing, for which nobody has looked yet. */
static bool is_missing(const struct ingress *ingress, const struct mark *mark, const struct entry_event *event)
{
    if (event->prev <= mark->taken || may_be_untold(ingress, mark))
        return false;
    const struct stream *stream = &ingress->streams[mark->stream];
    bool is_believed = stream->n_fruitless >= FRUITLESS && now_ns() < stream->fruitless_ns + BELIEVED_NS;
    if (!is_believed && (event->prev != mark->gap_to || mark->taken != mark->gap_from))
        return true;
    if (mark->taken != 0)
        say(EVBUS_LOG_WARNING, "events of another host are not there any more",
            SAY(say_text("stream", stream->name), say_number("partition", mark->partition),
                say_number("behind", mark->taken), say_number("up_to", event->prev)));
    return false;
}

/* As our own egress writes it: known before all of it is read, for where much goes out as much comes back. What says our
 * origin in another way is found by look_at(). */
static bool is_our_own(const struct ingress *ingress, const struct backend_entry *entry)
{
    static const char name[] = "origin";
    const struct entry_field *field = &entry->fields[ENTRY_ORIGIN];
    return entry->n_fields > ENTRY_ORIGIN && field->name_len == sizeof name - 1 &&
           memcmp(field->name, name, sizeof name - 1) == 0 && field->value_len == sizeof ingress->origin_text - 1 &&
           memcmp(field->value, ingress->origin_text, field->value_len) == 0;
}

/* is_old: we have read it already, and look once more for what is missing. */
static enum fate look_at(struct ingress *ingress, struct stream *stream, const struct backend_entry *entry, bool is_old,
                         struct entry_event *event, char *why)
{
    if (is_our_own(ingress, entry)) {
        ingress->metrics->in_own++;
        return LEAVE_OUT;
    }
    if (!entry_read(entry->fields, entry->n_fields, event, why))
        return REJECT;
    if (ingress->config->layout == CONFIG_LAYOUT_TOPIC && strcmp(event->topic, stream->name) != 0) {
        snprintf(why, EVBUS_ERROR_MAX, "eventType is %.127s, and the stream is %.127s: XADD it there", event->topic,
                 stream->name);
        return REJECT;
    }
    if (!event->is_foreign && memcmp(event->origin.bus, ingress->origin, sizeof ingress->origin) == 0) {
        ingress->metrics->in_own++;
        return LEAVE_OUT;
    }
    event->origin.broker_id = entry->id;
    struct mark *mark = event->is_foreign ? NULL : mark_of(ingress, stream, event->origin.bus, event->origin.partition);
    bool is_behind = mark != NULL && (event->origin.position > mark->taken || mark->taken == 0);
    if (mark != NULL)
        mark->used = ++ingress->n_looked;
    if (is_behind && is_missing(ingress, mark, event)) /* also of one that is in: a power cut may have left it alone */
        return MISSING;
    struct table_key key = key_of(event->topic, &event->origin);
    const uint64_t *brought = table_get(&ingress->brought, key);
    bool is_here = brought != NULL || (mark != NULL && !is_behind);
    if (brought != NULL && *brought == TO_PASS) {
        table_put(&ingress->brought, key, PASSED);
        if (stream->n_to_pass > 0)
            stream->n_to_pass--;
    }
    if (brought != NULL && is_behind)
        mark->position = mark->taken = event->origin.position;
    if (is_here || (is_old && (mark == NULL || may_be_untold(ingress, mark)))) {
        ingress->metrics->in_repeated++;
        return LEAVE_OUT;
    }
    if (mark != NULL)
        mark->taken = event->origin.position;
    return TAKE;
}

static bool cannot(struct ingress *ingress, struct stream *stream, int rc)
{
    if (rc != EVBUS_EFENCED)
        say(EVBUS_LOG_WARNING, "cannot take events in, again in a moment",
            SAY(say_text("stream", stream->name), say_text("why", evbus_message(NULL))));
    for (size_t i = 0; i < ingress->n_marks; i++) /* they come again */
        ingress->marks[i].taken = ingress->marks[i].position;
    stream->due_ns = now_ns() + AGAIN_NS;
    ingress->is_fenced = ingress->is_fenced || rc == EVBUS_EFENCED;
    return false;
}

/* What came before the entry is in. */
static bool read_anew(struct ingress *ingress, struct stream *stream, const struct backend_entry *entry,
                      const struct entry_event *event)
{
    struct mark *mark = mark_of(ingress, stream, event->origin.bus, event->origin.partition);
    if (mark == NULL)
        return cannot(ingress, stream, EVBUS_ENOSPC);
    ingress->metrics->in_gaps++;
    say(mark->taken != 0 ? EVBUS_LOG_WARNING : EVBUS_LOG_INFO,
        "events of another host are missing, the stream is read anew",
        SAY(say_text("stream", stream->name), say_number("partition", mark->partition),
            say_number("behind", mark->taken), say_number("up_to", event->prev), say_text("id", entry->id)));
    mark->gap_from = mark->taken;
    mark->gap_to = event->prev;
    stream->has_found = false;
    stream->reading = ANEW_WANTED;
    stream->due_ns = now_ns();
    return false;
}

static void go_onward(struct stream *stream)
{
    if (stream->reading == ANEW) {
        stream->n_fruitless = stream->has_found ? 0 : stream->n_fruitless + 1;
        stream->fruitless_ns = now_ns();
    }
    stream->reading = ONWARD;
}

bool ingress_arrived(struct ingress *ingress, const char *name, const struct backend_entry *entries, size_t n)
{
    struct stream *stream = find(ingress, name);
    if (stream == NULL || ingress->backend == NULL)
        return false;
    bool is_log = ingress->config->layout == CONFIG_LAYOUT_LOG;
    struct load load = {.stream = stream};
    bool is_old = stream->id[0] != '\0';
    for (size_t i = 0; i < n; i++) {
        char why[EVBUS_ERROR_MAX + 1] = "";
        int rc = EVBUS_OK;
        is_old = is_old && ingress->backend->class->id_compare(entries[i].id, stream->id) <= 0; /* they are in order */
        if (is_old && stream->reading != ANEW)
            continue; /* taken when it came before */
        if (!is_old && stream->reading == ANEW) {
            if ((rc = unload(ingress, &load)) != EVBUS_OK)
                return cannot(ingress, stream, rc);
            go_onward(stream);
        }
        struct entry_event *event = &ingress->events[load.n];
        enum fate fate = look_at(ingress, stream, &entries[i], is_old, event, why);
        if (fate == REJECT && is_old)
            fate = LEAVE_OUT; /* its dead letter is there */
        if (fate == REJECT || fate == MISSING)
            rc = unload(ingress, &load);
        if (fate == MISSING && rc == EVBUS_OK)
            return read_anew(ingress, stream, &entries[i], event);
        if (fate == REJECT && rc == EVBUS_OK)
            rc = reject(ingress, stream, &entries[i], is_log ? NULL : stream->name, why);
        if (rc != EVBUS_OK)
            return cannot(ingress, stream, rc);
        load.id = entries[i].id;
        if (fate == TAKE) {
            load.of[load.n++] = &entries[i];
            stream->has_found = stream->has_found || is_old;
        }
        if ((load.n == TOGETHER || i + 1 == n) && (rc = unload(ingress, &load)) != EVBUS_OK)
            return cannot(ingress, stream, rc);
    }
    if (n == 0)
        go_onward(stream); /* what stood at `id` is not there any more */
    if (n > 0)
        ingress->backend->class->more(ingress->backend, stream->name);
    else
        all_have_passed(ingress, stream);
    return true;
}

void ingress_reset(struct ingress *ingress, const char *name, const char *id)
{
    struct stream *stream = find(ingress, name);
    if (stream == NULL)
        return;
    ingress->metrics->in_resets++;
    say(EVBUS_LOG_WARNING, "the stream began anew at the broker",
        SAY(say_text("stream", name), say_text("was_read_to", stream->id), say_text("goes_on_behind", id)));
    snprintf(stream->id, sizeof stream->id, "%s", id);
    stream->n_fruitless = 0;
    if (stream->reading == ANEW)
        stream->reading = ONWARD; /* all that stands behind it is to be taken */
}
