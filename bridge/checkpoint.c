/* checkpoint.c: how far out and in are, kept in the bus for whoever leads next.
 *
 *     {"v":1, "parts":[["lomash.orders", 0, "<out until>", "<in until>", {"<topic>": "<last>", ...}, "<out from>"], ...],
 *      "streams":{"<stream>": "<id>", ...}, "marks":{"<stream>": {"<bus>": {"<partition>": "<position>", ...}, ...}, ...}}
 *
 *     out until   everything of ours before it is out; `last` is the last event of each stream until then; what stands before
 *                 `out from` was never to go out
 *     in until    the partition's tail at that moment: what was brought in before it, streams and marks tell; what came behind it says it itself.
 *                 As long as ingress is not settled, as the checkpoint before has it
 *
 *   order    taken: egress, ingress and tails, at one moment of our only thread; all partitions on disk up to those tails; kept
 *            (evbus_mirror_save); then partitions need not be kept before the lesser of the two; then the broker is told how far we have read
 *
 * Why that is enough. Until it is kept nothing is given up, here or at the broker. When it is kept, what it says of the bus is on disk, so no power
 * cut can make it say too much. A new leader finds the last one, and everything behind its positions.
 * Positions are texts: they are 48 bits, and JSON's numbers end at 53. Checked by tests/broker/test_bridge.c. */
#include "checkpoint.h"

#include "now.h"
#include "say.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uuid.h>

#define LOOK_NS  (20 * NS_PER_MS) /* between two looks whether it is on disk */
#define AGAIN_NS NS_PER_S

/* One partition, as it was when the checkpoint was taken. */
struct place {
    char log[128];
    uint32_t partition;
    uint64_t out, in, began;
    json_t *topics;
};

struct checkpoint {
    struct evbus_mirror *mirror;
    struct egress *egress;
    struct ingress *ingress;
    uint64_t interval_ns;
    uint64_t due_ns;
    struct place *places; /* of the one that is taken; NULL: none is */
    size_t n_places;
    json_t *streams, *marks;
    char *text;
    bool is_last;         /* it was taken when nothing more was to come */
    char *kept;           /* the text that was kept last */
    json_t *kept_streams; /* likewise; NULL: none */
    json_t *recalled;     /* parts, as they were when we began to lead; NULL: none */
};

int checkpoint_open(struct checkpoint **out, struct evbus_mirror *mirror, struct egress *egress,
                    struct ingress *ingress, uint64_t interval_ns)
{
    struct checkpoint *checkpoint = calloc(1, sizeof *checkpoint);
    if (checkpoint == NULL)
        return EVBUS_ENOSPC;
    checkpoint->mirror = mirror;
    checkpoint->egress = egress;
    checkpoint->ingress = ingress;
    checkpoint->interval_ns = interval_ns;
    *out = checkpoint;
    return EVBUS_OK;
}

static void drop(struct checkpoint *checkpoint)
{
    for (size_t i = 0; i < checkpoint->n_places; i++)
        json_decref(checkpoint->places[i].topics);
    free(checkpoint->places);
    checkpoint->places = NULL;
    checkpoint->n_places = 0;
    json_decref(checkpoint->streams);
    json_decref(checkpoint->marks);
    checkpoint->streams = checkpoint->marks = NULL;
    free(checkpoint->text);
    checkpoint->text = NULL;
}

void checkpoint_close(struct checkpoint *checkpoint)
{
    if (checkpoint == NULL)
        return;
    drop(checkpoint);
    json_decref(checkpoint->recalled);
    json_decref(checkpoint->kept_streams);
    free(checkpoint->kept);
    free(checkpoint);
}

/* --- take -------------------------------------------------------------------------------------------------------------------- */

static json_t *number(uint64_t value)
{
    char text[24];
    snprintf(text, sizeof text, "%" PRIu64, value);
    return json_string(text);
}

static bool read_number(const json_t *value, uint64_t *out)
{
    const char *text = json_string_value(value);
    char *end;
    if (text == NULL || text[0] < '0' || text[0] > '9')
        return false;
    *out = strtoull(text, &end, 10);
    return *end == '\0';
}

static const json_t *saved_part(const json_t *parts, const char *log, uint32_t partition)
{
    for (size_t i = 0; i < json_array_size(parts); i++) {
        const json_t *part = json_array_get(parts, i);
        const char *name = json_string_value(json_array_get(part, 0));
        if (name != NULL && strcmp(name, log) == 0 &&
            json_integer_value(json_array_get(part, 1)) == (json_int_t)partition)
            return part;
    }
    return NULL;
}

static uint64_t in_of(const struct checkpoint *checkpoint, const struct evbus_mirror_part *part)
{
    uint64_t in = part->held;
    if (checkpoint->ingress == NULL || ingress_is_settled(checkpoint->ingress))
        return part->tail;
    (void)read_number(json_array_get(saved_part(checkpoint->recalled, part->log, part->partition), 3), &in);
    return in;
}

static int add_place(void *context, const struct evbus_mirror_part *part)
{
    struct checkpoint *checkpoint = context;
    struct place *places = realloc(checkpoint->places, (checkpoint->n_places + 1) * sizeof *places);
    if (places == NULL)
        return EVBUS_ENOSPC;
    checkpoint->places = places;
    struct place *place = &places[checkpoint->n_places++];
    *place = (struct place){
        .partition = part->partition, .out = part->tail, .in = in_of(checkpoint, part), .topics = json_object()};
    snprintf(place->log, sizeof place->log, "%s", part->log);
    return EVBUS_OK;
}

static struct place *find(struct checkpoint *checkpoint, const char *log, uint32_t partition)
{
    for (size_t i = 0; i < checkpoint->n_places; i++)
        if (checkpoint->places[i].partition == partition && strcmp(checkpoint->places[i].log, log) == 0)
            return &checkpoint->places[i];
    return NULL;
}

static void add_out(void *context, const struct egress_place *out)
{
    struct place *place = find(context, out->log, out->partition);
    if (place != NULL) {
        place->out = out->at;
        place->began = out->began;
    }
}

static void add_topic(void *context, const struct egress_place *out, const char *topic, uint64_t last)
{
    struct place *place = find(context, out->log, out->partition);
    if (place != NULL)
        json_object_set_new(place->topics, topic, number(last));
}

static void add_stream(void *context, const char *stream, const char *id)
{
    json_object_set_new(((struct checkpoint *)context)->streams, stream, json_string(id));
}

/* The object of this name in another one; made where it is not there. */
static json_t *object_in(json_t *object, const char *name)
{
    if (json_object_get(object, name) == NULL)
        json_object_set_new(object, name, json_object());
    return json_object_get(object, name);
}

static void add_mark(void *context, const char *stream, const uint8_t bus[16], uint32_t partition, uint64_t position)
{
    char name[37], key[16];
    json_t *of_stream = object_in(((struct checkpoint *)context)->marks, stream);
    uuid_unparse_lower(bus, name);
    snprintf(key, sizeof key, "%" PRIu32, partition);
    json_object_set_new(object_in(of_stream, name), key, number(position));
}

/* NULL: no memory. */
static char *text_of(const struct checkpoint *checkpoint)
{
    json_t *parts = json_array();
    for (size_t i = 0; i < checkpoint->n_places; i++) {
        const struct place *place = &checkpoint->places[i];
        json_array_append_new(parts, json_pack("[s,i,o,o,O,o]", place->log, (int)place->partition, number(place->out),
                                               number(place->in), place->topics, number(place->began)));
    }
    json_t *root = json_pack("{s:i,s:o,s:O,s:O}", "v", 1, "parts", parts, "streams", checkpoint->streams, "marks",
                             checkpoint->marks);
    char *text = root != NULL ? json_dumps(root, JSON_COMPACT) : NULL;
    json_decref(root);
    return text;
}

static void take(struct checkpoint *checkpoint)
{
    checkpoint->streams = json_object();
    checkpoint->marks = json_object();
    if (evbus_mirror_parts(checkpoint->mirror, add_place, checkpoint) != EVBUS_OK) {
        drop(checkpoint);
        return;
    }
    if (checkpoint->egress != NULL)
        egress_tell(checkpoint->egress, add_out, add_topic, checkpoint);
    if (checkpoint->ingress != NULL)
        ingress_tell(checkpoint->ingress, add_stream, add_mark, checkpoint);
    checkpoint->text = text_of(checkpoint);
    if (checkpoint->text == NULL || (checkpoint->kept != NULL && strcmp(checkpoint->kept, checkpoint->text) == 0))
        drop(checkpoint);
}

/* --- keep -------------------------------------------------------------------------------------------------------------------- */

static int is_on_disk(void *context, const struct evbus_mirror_part *part)
{
    const struct place *place = find(context, part->log, part->partition);
    return place == NULL || part->synced >= place->in ? EVBUS_OK : 1;
}

static int give_up(struct checkpoint *checkpoint)
{
    int rc = EVBUS_OK;
    for (size_t i = 0; i < checkpoint->n_places && rc == EVBUS_OK; i++) {
        const struct place *place = &checkpoint->places[i];
        rc = evbus_mirror_advance(checkpoint->mirror, place->log, place->partition,
                                  place->out < place->in ? place->out : place->in);
        if (rc == EVBUS_ENOTFOUND || rc == EVBUS_EINVAL)
            rc = EVBUS_OK;
    }
    return rc;
}

int checkpoint_pump(struct checkpoint *checkpoint, uint64_t now, bool is_last, uint64_t *inout_due_ns,
                    void (*is_kept)(void *context, const char *stream, const char *id), void *context)
{
    if (checkpoint->text == NULL && (is_last || now >= checkpoint->due_ns)) {
        take(checkpoint);
        checkpoint->is_last = is_last;
        checkpoint->due_ns = now + checkpoint->interval_ns;
    }
    uint64_t due = checkpoint->due_ns;
    int rc = EVBUS_OK;
    if (checkpoint->text != NULL && evbus_mirror_parts(checkpoint->mirror, is_on_disk, checkpoint) != EVBUS_OK) {
        due = now + LOOK_NS;
    } else if (checkpoint->text != NULL) {
        rc = evbus_mirror_save(checkpoint->mirror, checkpoint->text, strlen(checkpoint->text));
        if (rc == EVBUS_OK)
            rc = give_up(checkpoint);
        if (rc == EVBUS_OK) {
            const char *stream;
            json_t *id;
            json_object_foreach(checkpoint->streams, stream, id) is_kept(context, stream, json_string_value(id));
            json_decref(checkpoint->kept_streams);
            checkpoint->kept_streams = json_incref(checkpoint->streams);
            free(checkpoint->kept);
            checkpoint->kept = checkpoint->text;
            checkpoint->text = NULL;
        } else if (rc != EVBUS_EFENCED) {
            say(EVBUS_LOG_WARNING, "cannot keep a checkpoint, again in a moment",
                SAY(say_text("why", evbus_message(NULL))));
            due = checkpoint->due_ns = now + AGAIN_NS;
            rc = EVBUS_OK;
        }
        drop(checkpoint);
        if (is_last && !checkpoint->is_last && rc == EVBUS_OK) { /* of what has come since that one was taken */
            take(checkpoint);
            checkpoint->is_last = true;
            due = now;
        }
    }
    *inout_due_ns = due < *inout_due_ns ? due : *inout_due_ns;
    return rc;
}

struct tell {
    const struct checkpoint *checkpoint;
    void (*stream)(void *context, const char *stream, const char *id);
    void *context;
};

static void tell_kept(void *context, const char *stream)
{
    const struct tell *tell = context;
    const char *id = json_string_value(json_object_get(tell->checkpoint->kept_streams, stream));
    tell->stream(tell->context, stream, id != NULL ? id : "");
}

void checkpoint_tell_streams(const struct checkpoint *checkpoint,
                             void (*stream)(void *context, const char *stream, const char *id), void *context)
{
    struct tell tell = {.checkpoint = checkpoint, .stream = stream, .context = context};
    ingress_tell_names(checkpoint->ingress, tell_kept, &tell);
}

bool checkpoint_is_due(const struct checkpoint *checkpoint)
{
    return checkpoint->text != NULL;
}

/* --- recall -------------------------------------------------------------------------------------------------------------------- */

struct recall {
    struct checkpoint *checkpoint;
    const json_t *parts; /* NULL: nothing was kept */
};

static int ignore(void *context, const struct evbus_delivery *event)
{
    (void)context;
    (void)event;
    return EVBUS_OK;
}

/* How far out a partition is, as its checkpoint says; place->log and place->partition are set. */
static int tell_out(const json_t *saved, struct egress_place *place, struct checkpoint_out *out)
{
    const char *topic;
    json_t *last;
    if (!read_number(json_array_get(saved, 2), &place->at) || !read_number(json_array_get(saved, 5), &place->began))
        return EVBUS_ECORRUPT;
    out->place(out->context, place);
    json_object_foreach(json_array_get(saved, 4), topic, last)
    {
        uint64_t position;
        if (!read_number(last, &position))
            return EVBUS_ECORRUPT;
        out->topic(out->context, place, topic, position);
    }
    return EVBUS_OK;
}

static void recall_place(void *context, const struct egress_place *place)
{
    egress_recall(context, place);
}

static void recall_topic(void *context, const struct egress_place *place, const char *topic, uint64_t last)
{
    egress_recall_topic(context, place->log, place->partition, topic, last);
}

/* A partition that was not there when the checkpoint was taken: everything that the bus holds for us. */
static int recall_part(void *context, const struct evbus_mirror_part *part)
{
    struct recall *recall = context;
    struct checkpoint *checkpoint = recall->checkpoint;
    const json_t *saved = saved_part(recall->parts, part->log, part->partition);
    uint64_t in = part->held;
    if (saved != NULL && !read_number(json_array_get(saved, 3), &in))
        return EVBUS_ECORRUPT;
    if (checkpoint->egress != NULL) {
        struct egress_place place = {
            .log = part->log, .partition = part->partition, .at = part->held, .began = part->held};
        struct checkpoint_out out = {.place = recall_place, .topic = recall_topic, .context = checkpoint->egress};
        int rc = EVBUS_OK;
        if (saved != NULL)
            rc = tell_out(saved, &place, &out);
        else
            egress_recall(checkpoint->egress, &place);
        if (rc != EVBUS_OK)
            return rc;
    }
    return evbus_mirror_brought(checkpoint->mirror, part->log, part->partition, in,
                                checkpoint->ingress != NULL ? ingress_has : ignore, checkpoint->ingress);
}

/* The marks of one bus in one stream. */
static int recall_bus(struct ingress *ingress, const char *stream, const char *bus, json_t *partitions)
{
    const char *partition;
    json_t *mark;
    uint8_t uuid[16];
    if (uuid_parse(bus, uuid) != 0)
        return EVBUS_ECORRUPT;
    json_object_foreach(partitions, partition, mark)
    {
        uint64_t position;
        if (!read_number(mark, &position))
            return EVBUS_ECORRUPT;
        ingress_recall_mark(ingress, stream, uuid, (uint32_t)strtoul(partition, NULL, 10), position);
    }
    return EVBUS_OK;
}

static int recall_ingress(struct ingress *ingress, const json_t *root)
{
    const char *stream, *bus;
    json_t *id, *buses, *partitions;
    int rc = EVBUS_OK;
    json_object_foreach(json_object_get(root, "streams"), stream, id)
        ingress_recall(ingress, stream, json_string_value(id) != NULL ? json_string_value(id) : "");
    json_object_foreach(json_object_get(root, "marks"), stream, buses) json_object_foreach(buses, bus, partitions)
        rc = rc == EVBUS_OK ? recall_bus(ingress, stream, bus, partitions) : rc;
    return rc;
}

int checkpoint_recall(struct checkpoint *checkpoint)
{
    const char *text;
    size_t len;
    json_t *root = NULL;
    drop(checkpoint);
    free(checkpoint->kept);
    checkpoint->kept = NULL;
    int rc = evbus_mirror_load(checkpoint->mirror, &text, &len);
    if (rc == EVBUS_OK) {
        root = json_loadb(text, len, 0, NULL);
        rc = json_integer_value(json_object_get(root, "v")) == 1 ? EVBUS_OK : EVBUS_ECORRUPT;
    } else if (rc == EVBUS_ENOTFOUND) {
        rc = EVBUS_OK;
    }
    if (rc == EVBUS_OK && root != NULL && checkpoint->ingress != NULL)
        rc = recall_ingress(checkpoint->ingress, root);
    struct recall recall = {.checkpoint = checkpoint, .parts = json_object_get(root, "parts")};
    if (rc == EVBUS_OK)
        rc = evbus_mirror_parts(checkpoint->mirror, recall_part, &recall);
    json_decref(checkpoint->recalled);
    checkpoint->recalled = json_incref(json_object_get(root, "parts"));
    json_decref(checkpoint->kept_streams);
    checkpoint->kept_streams = json_incref(json_object_get(root, "streams"));
    json_decref(root);
    return rc;
}

/* --- look ---------------------------------------------------------------------------------------------------------------------- */

/* The last text that stands on a mirror's own topic; NULL: none does. To be freed. */
static int read_last(struct evbus *bus, const char *topic, char **out_text, size_t *out_len)
{
    struct evbus_reader *reader = NULL;
    char *text = NULL;
    int rc = evbus_reader_open(&reader, bus,
                               &(struct evbus_reader_options){.size = sizeof(struct evbus_reader_options),
                                                              .patterns = &topic,
                                                              .n_patterns = 1,
                                                              .from = EVBUS_FROM_EARLIEST});
    while (rc == EVBUS_OK) {
        struct evbus_delivery event = {.size = sizeof event};
        rc = evbus_reader_next(reader, &event, 0);
        if (rc == EVBUS_ECORRUPT) { /* a frame: of a note, or of what is not the last one */
            rc = EVBUS_OK;
            continue;
        }
        if (rc != EVBUS_OK)
            break;
        free(text);
        text = malloc(event.payload_len);
        if (text == NULL)
            rc = EVBUS_ENOSPC;
        else
            memcpy(text, event.payload, *out_len = event.payload_len);
    }
    evbus_reader_close(reader);
    if (rc == EVBUS_ETIMEOUT)
        rc = EVBUS_OK;
    if (rc == EVBUS_OK)
        *out_text = text;
    else
        free(text);
    return rc;
}

int checkpoint_look(struct evbus *bus, const char *topic, struct checkpoint_out *out)
{
    char *text = NULL;
    size_t len = 0;
    int rc = read_last(bus, topic, &text, &len);
    if (rc != EVBUS_OK || text == NULL)
        return rc;
    json_t *root = json_loadb(text, len, 0, NULL);
    const json_t *parts = json_object_get(root, "parts");
    if (json_integer_value(json_object_get(root, "v")) != 1)
        rc = EVBUS_ECORRUPT;
    for (size_t i = 0; i < json_array_size(parts) && rc == EVBUS_OK; i++) {
        const json_t *saved = json_array_get(parts, i);
        struct egress_place place = {.log = json_string_value(json_array_get(saved, 0)),
                                     .partition = (uint32_t)json_integer_value(json_array_get(saved, 1))};
        rc = place.log != NULL ? tell_out(saved, &place, out) : EVBUS_ECORRUPT;
    }
    json_decref(root);
    free(text);
    return rc;
}
