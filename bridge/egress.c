/* egress.c: what is published here goes to the broker, once, in order.
 *
 *     a partition    waits -> asked -> flows -> (a batch fails) -> waits ...
 *       asked        the broker says its mark for each stream: of the last event of ours that it has
 *       flows        events behind the marks, each with its `prev`: the position of the event before it in the same stream
 *       fails        the partition is parked. What else of it is under way does not join the mark any more and fails as well; when all of it is
 *                    answered, the broker is asked again
 *
 *   out of a checkpoint we know: up to position `at` all was out, and then the last event of each stream was `last`. Where a mark is lower than
 *   that, the broker has lost our tail (failover), or all of it (flush): it is sent again from that mark on. Else we go on at `at`, and
 *   leave out what stands at or below the marks.
 *
 * Why that is enough. The broker appends a batch and moves the mark in one step, and only where the batch joins the mark: so what is there is a
 * beginning of the partition's events of that stream, whoever was killed or cut off when. `prev` follows from what we have read without
 * a gap since we were told the mark. Nothing that is behind `at` is given up by the bus (checkpoint.c), so what was lost behind a checkpoint is
 * still there to be sent again; what was lost before it is there as long as the journal keeps it, and what is not is told.
 * What was brought in from elsewhere is passed over: so there are no loops.
 * Checked by tests/broker/test_bridge.c, test_bridge_away.c, test_bridge_death.c. */
#include "egress.h"

#include "now.h"
#include "say.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RETRY_MIN_NS (50 * NS_PER_MS)
#define RETRY_MAX_NS (5 * NS_PER_S)
#define TOUCHED_MAX  32 /* streams of one batch */
#define ASK_AGAIN_NS (60 * NS_PER_S)
#define PASSED_MAX   4096 /* events that are read in one turn */

/* One stream of a partition: a topic's; with layout=log the log's. */
struct stream {
    char topic[128]; /* "": the log's */
    uint64_t out;    /* position of the last event that the broker has, as we know; 0: none */
    uint64_t sent;   /* likewise, of those that are under way as well */
};

enum state { WAITS, ASKED, FLOWS };

struct part {
    char log[128];
    uint32_t partition;
    struct stream *streams;
    size_t n_streams;
    enum state state;
    uint64_t due_ns;     /* WAITS: not before */
    unsigned n_failures; /* in a row */
    unsigned n_under_way;
    bool is_broken;     /* a batch has failed: those behind it count for nothing */
    bool has_at;        /* `at` says something */
    uint64_t at;        /* everything before it is out */
    uint64_t began;     /* what stands before it was never to go out */
    uint64_t asked_ns;  /* for its marks, last */
    uint64_t seen_tail; /* its end at seen_ns; once that is out, another is looked at */
    uint64_t seen_ns;
};

/* A batch that is under way, or is being filled. */
struct batch {
    uint64_t ticket;
    struct part *part; /* NULL: none */
    size_t n;
    uint64_t n_bytes;
    uint64_t last; /* position of its last event */
    uint64_t since_ns;
    size_t n_touched;
    struct {
        struct stream *stream;
        uint64_t position;
    } touched[TOUCHED_MAX];
};

struct egress {
    struct evbus_mirror *mirror;
    const struct config *config;
    struct metrics *metrics;
    struct backend *backend; /* NULL: we do not lead */
    uint64_t epoch, incarnation;
    bool is_here;
    bool is_fenced;
    struct part **parts;
    size_t n_parts;
    size_t found; /* which of them was looked for last */
    struct batch filling;
    struct batch *under_way;
    size_t n_under_way;
    uint64_t tickets;
};

/* --- partitions and streams ------------------------------------------------------------------------------------------------ */

int egress_open(struct egress **out, struct evbus_mirror *mirror, const struct config *config, struct metrics *metrics)
{
    struct egress *egress = calloc(1, sizeof *egress);
    if (egress != NULL)
        egress->under_way = calloc(CONFIG_BATCHES_MAX + 2, sizeof *egress->under_way); /* an event may make two full */
    if (egress == NULL || egress->under_way == NULL) {
        free(egress);
        return EVBUS_ENOSPC;
    }
    egress->mirror = mirror;
    egress->config = config;
    egress->metrics = metrics;
    *out = egress;
    return EVBUS_OK;
}

void egress_close(struct egress *egress)
{
    if (egress == NULL)
        return;
    for (size_t i = 0; i < egress->n_parts; i++) {
        free(egress->parts[i]->streams);
        free(egress->parts[i]);
    }
    free(egress->parts);
    free(egress->under_way);
    free(egress);
}

static bool is(const struct part *part, const char *log, uint32_t partition)
{
    return part->partition == partition && strcmp(part->log, log) == 0;
}

/* It is mostly the one that was asked for last, or the one behind it. */
static struct part *find(struct egress *egress, const char *log, uint32_t partition)
{
    for (size_t i = 0; i < egress->n_parts; i++) {
        size_t at = egress->found + i < egress->n_parts ? egress->found + i : egress->found + i - egress->n_parts;
        if (!is(egress->parts[at], log, partition))
            continue;
        egress->found = at;
        return egress->parts[at];
    }
    return NULL;
}

/* topic: with layout=log nobody looks at it. */
static struct stream *stream_of(const struct egress *egress, struct part *part, const char *topic)
{
    if (egress->config->layout == CONFIG_LAYOUT_LOG)
        topic = "";
    for (size_t i = 0; i < part->n_streams; i++)
        if (strcmp(part->streams[i].topic, topic) == 0)
            return &part->streams[i];
    return NULL;
}

static struct part *make(struct egress *egress, const char *log, uint32_t partition)
{
    struct part **parts = realloc(egress->parts, (egress->n_parts + 1) * sizeof(struct part *));
    if (parts == NULL)
        return NULL;
    egress->parts = parts;
    struct part *part = calloc(1, sizeof *part);
    if (part == NULL)
        return NULL;
    snprintf(part->log, sizeof part->log, "%s", log);
    part->partition = partition;
    parts[egress->n_parts++] = part;
    return part;
}

/* Batches that are under way point to streams: nothing is under way of a part that gets another one. */
static int add_stream(struct part *part, const char *topic)
{
    struct stream *streams = realloc(part->streams, (part->n_streams + 1) * sizeof *streams);
    if (streams == NULL)
        return EVBUS_ENOSPC;
    part->streams = streams;
    streams[part->n_streams] = (struct stream){0};
    snprintf(streams[part->n_streams].topic, sizeof streams->topic, "%s", topic);
    part->n_streams++;
    return EVBUS_OK;
}

struct look {
    struct egress *egress;
    const struct topics *topics;
};

static void park(struct egress *egress, struct part *part);

static int look_at_part(void *context, const struct evbus_mirror_part *seen)
{
    struct look *look = context;
    struct egress *egress = look->egress;
    struct part *part = find(egress, seen->log, seen->partition);
    if (part == NULL && (part = make(egress, seen->log, seen->partition)) == NULL)
        return EVBUS_ENOSPC;
    if (!part->has_at) {
        part->at = part->began = seen->held;
        part->has_at = true;
    }
    bool is_log = egress->config->layout == CONFIG_LAYOUT_LOG;
    for (size_t i = 0; i < look->topics->n; i++) {
        if (strcmp(look->topics->all[i].log, part->log) != 0 ||
            stream_of(egress, part, look->topics->all[i].topic) != NULL)
            continue;
        if (part->n_under_way > 0 || egress->filling.part == part) { /* when it has been answered */
            part->is_broken = true;
            park(egress, part);
            return EVBUS_OK;
        }
        int rc = add_stream(part, is_log ? "" : look->topics->all[i].topic);
        if (rc != EVBUS_OK)
            return rc;
        part->state = WAITS;
    }
    return EVBUS_OK;
}

int egress_look(struct egress *egress, const struct topics *topics)
{
    struct look look = {.egress = egress, .topics = topics};
    return evbus_mirror_parts(egress->mirror, look_at_part, &look);
}

void egress_recall(struct egress *egress, const struct egress_place *place)
{
    struct part *part = find(egress, place->log, place->partition);
    if (part != NULL && egress->backend == NULL) {
        part->at = place->at;
        part->began = place->began;
    }
}

void egress_recall_topic(struct egress *egress, const char *log, uint32_t partition, const char *topic, uint64_t last)
{
    struct part *part = find(egress, log, partition);
    struct stream *stream = part != NULL ? stream_of(egress, part, topic) : NULL;
    if (stream != NULL && egress->backend == NULL)
        stream->out = last;
}

void egress_tell(struct egress *egress, void (*place)(void *context, const struct egress_place *place),
                 void (*topic)(void *context, const struct egress_place *place, const char *topic, uint64_t last),
                 void *context)
{
    for (size_t i = 0; i < egress->n_parts; i++) {
        const struct part *part = egress->parts[i];
        struct egress_place shown = {
            .log = part->log, .partition = part->partition, .at = part->at, .began = part->began};
        place(context, &shown);
        for (size_t k = 0; k < part->n_streams; k++)
            if (part->streams[k].out != 0)
                topic(context, &shown, part->streams[k].topic, part->streams[k].out);
    }
}

/* --- the broker's marks ------------------------------------------------------------------------------------------------------ */

/* Nothing of it is read until the broker has told its marks. */
static void park(struct egress *egress, struct part *part)
{
    evbus_mirror_rewind(egress->mirror, part->log, part->partition, UINT64_MAX);
    if (part->state == FLOWS)
        part->state = WAITS;
}

static void fail(struct egress *egress, struct part *part, bool at_once)
{
    uint64_t wait_ns = RETRY_MIN_NS << (part->n_failures < 7 ? part->n_failures : 7);
    park(egress, part);
    if (egress->filling.part == part)
        egress->filling.part = NULL;
    part->is_broken = true;
    part->state = WAITS;
    part->due_ns = at_once && part->n_failures == 0 ? 0 : now_ns() + (wait_ns < RETRY_MAX_NS ? wait_ns : RETRY_MAX_NS);
    part->n_failures++;
}

static void ask(struct egress *egress, struct part *part)
{
    const char *topics[256];
    size_t n = 0;
    for (size_t i = 0; i < part->n_streams && n < sizeof topics / sizeof *topics; i++)
        topics[n++] = part->streams[i].topic;
    part->is_broken = false;
    if (egress->backend->class->ask(egress->backend, part->log, part->partition, topics, n))
        part->state = ASKED;
}

void egress_lead(struct egress *egress, struct backend *backend, uint64_t epoch, uint64_t incarnation)
{
    egress->backend = backend;
    egress->epoch = epoch;
    egress->incarnation = incarnation;
    egress->is_fenced = false;
    for (size_t i = 0; i < egress->n_parts; i++) {
        egress->parts[i]->state = WAITS;
        egress->parts[i]->due_ns = 0;
        egress->parts[i]->n_failures = 0;
    }
}

void egress_stand_by(struct egress *egress)
{
    for (size_t i = 0; i < egress->n_parts; i++) {
        park(egress, egress->parts[i]);
        egress->parts[i]->state = WAITS;
        egress->parts[i]->n_under_way = 0; /* the bridge closes the backend, which answers no more */
    }
    egress->filling.part = NULL;
    egress->n_under_way = 0;
    egress->metrics->out_under_way = 0;
    egress->backend = NULL;
}

bool egress_is_fenced(const struct egress *egress)
{
    return egress->is_fenced;
}

void egress_state(struct egress *egress, bool is_here)
{
    egress->is_here = is_here;
    if (!is_here)
        egress->filling.part = NULL;
    for (size_t i = 0; i < egress->n_parts; i++) {
        if (!is_here) { /* it may come back with less than it had */
            park(egress, egress->parts[i]);
            egress->parts[i]->state = WAITS;
        }
        if (egress->parts[i]->state == WAITS)
            egress->parts[i]->due_ns = 0;
    }
}

/* A mark that nothing of this bus can have made. */
static bool is_impossible(struct egress *egress, struct part *part, const struct backend_mark *mark, uint64_t tail)
{
    if (mark->position == 0 || (mark->position < tail && mark->incarnation <= egress->incarnation))
        return false;
    say(EVBUS_LOG_ERROR, "the broker has more of this bus than the bus itself",
        SAY(say_text("log", part->log), say_number("partition", part->partition), say_number("mark", mark->position),
            say_number("tail", tail), say_number("mark_incarnation", mark->incarnation),
            say_number("incarnation", egress->incarnation),
            say_text("mend",
                     "the bus is an older backup: nothing goes out, or ids would be used twice; make a new bus (evbus "
                     "init) and bring the backup's events over, or remove the marks evbus:*:mark:<origin>:* by hand")));
    return true;
}

struct bounds {
    const struct part *part;
    uint64_t oldest;
    uint64_t tail;
};

static int find_bounds(void *context, const struct evbus_mirror_part *seen)
{
    struct bounds *bounds = context;
    if (seen->partition != bounds->part->partition || strcmp(seen->log, bounds->part->log) != 0)
        return EVBUS_OK;
    bounds->oldest = seen->oldest;
    bounds->tail = seen->tail;
    return 1;
}

static void say_gap(const struct egress *egress, const struct part *part, const struct stream *stream, uint64_t mark)
{
    egress->metrics->out_gaps++;
    say(EVBUS_LOG_WARNING, "the broker has lost events of ours, they are sent again",
        SAY(say_text("stream", stream->topic[0] != '\0' ? stream->topic : part->log),
            say_number("partition", part->partition), say_number("from", mark), say_number("to", stream->out)));
}

/* Where a partition goes on, by what the broker has of it. */
static void go_on(struct egress *egress, struct part *part, const struct backend_mark *marks)
{
    struct bounds bounds = {.part = part};
    evbus_mirror_parts(egress->mirror, find_bounds, &bounds);
    uint64_t from = part->at;
    for (size_t i = 0; i < part->n_streams; i++)
        if (is_impossible(egress, part, &marks[i], bounds.tail)) {
            part->due_ns = now_ns() + RETRY_MAX_NS;
            part->state = WAITS;
            return;
        }
    for (size_t i = 0; i < part->n_streams; i++) {
        struct stream *stream = &part->streams[i];
        if (marks[i].position < stream->out) {
            say_gap(egress, part, stream, marks[i].position);
            uint64_t again = marks[i].position;
            if (again < part->began) /* what was before us is not sent, nor was it */
                again = part->began;
            from = again < from ? again : from;
        }
        stream->out = stream->sent = marks[i].position;
    }
    part->at = from; /* it is not out any more: whoever is cut off now, or leads next, goes on here as well */
    part->asked_ns = now_ns();
    if (evbus_mirror_rewind(egress->mirror, part->log, part->partition, from < bounds.tail ? from : bounds.tail) !=
        EVBUS_OK) {
        say(EVBUS_LOG_ERROR, "cannot read the bus",
            SAY(say_text("log", part->log), say_number("partition", part->partition),
                say_text("error", evbus_message(NULL))));
        fail(egress, part, false);
        return;
    }
    part->state = FLOWS;
}

void egress_marks(struct egress *egress, const char *log, uint32_t partition, enum backend_result result,
                  const struct backend_mark *marks, size_t n, const char *why)
{
    struct part *part = find(egress, log, partition);
    if (part == NULL || egress->backend == NULL || part->state != ASKED)
        return;
    if (result == BACKEND_OK && n == part->n_streams) {
        go_on(egress, part, marks);
        return;
    }
    if (result == BACKEND_REFUSED)
        say(EVBUS_LOG_WARNING, "the broker does not tell its marks",
            SAY(say_text("log", log), say_number("partition", partition), say_text("why", why != NULL ? why : "")));
    fail(egress, part, false);
}

/* --- batches ------------------------------------------------------------------------------------------------------------------ */

static void send(struct egress *egress)
{
    struct batch *batch = &egress->filling;
    struct part *part = batch->part;
    if (part == NULL)
        return;
    batch->ticket = ++egress->tickets;
    if (egress->backend->class->send(egress->backend, batch->ticket)) {
        part->n_under_way++;
        batch->since_ns = now_ns();
        egress->under_way[egress->n_under_way++] = *batch;
        egress->metrics->out_under_way = egress->n_under_way;
    } else {
        fail(egress, part, true);
    }
    batch->part = NULL;
}

/* It is one event more. */
static void note(struct batch *batch, struct stream *stream, const struct evbus_delivery *event)
{
    size_t i = 0;
    while (i < batch->n_touched && batch->touched[i].stream != stream)
        i++;
    if (i == batch->n_touched)
        batch->n_touched++;
    batch->touched[i].stream = stream;
    batch->touched[i].position = event->position;
    batch->n++;
    batch->n_bytes += event->payload_len;
    batch->last = event->position;
    stream->sent = event->position;
}

static bool begin(struct egress *egress, struct part *part)
{
    if (!egress->backend->class->begin(egress->backend, part->log, part->partition, egress->epoch, egress->incarnation))
        return false;
    egress->filling = (struct batch){.part = part, .since_ns = now_ns()};
    return true;
}

/* An event of a partition that flows. */
static void put(struct egress *egress, struct part *part, struct stream *stream, const struct evbus_delivery *event)
{
    struct batch *batch = &egress->filling;
    if (batch->part != NULL && (batch->part != part || batch->n_touched == TOUCHED_MAX))
        send(egress);
    if (batch->part == NULL && (part->is_broken || !begin(egress, part))) {
        fail(egress, part, true);
        return;
    }
    if (!egress->backend->class->add(egress->backend, event, stream->sent)) {
        bool was_empty = batch->n == 0;
        send(egress);
        if (was_empty || part->is_broken || !begin(egress, part) ||
            !egress->backend->class->add(egress->backend, event, stream->sent)) {
            if (was_empty)
                say(EVBUS_LOG_ERROR, "an event is larger than what the broker takes",
                    SAY(say_text("topic", event->topic), say_number("position", event->position),
                        say_number("bytes", event->payload_len)));
            batch->part = NULL;
            fail(egress, part, !was_empty);
            return;
        }
    }
    note(batch, stream, event);
    if (batch->n >= egress->config->batch_events || batch->n_bytes >= egress->config->batch_bytes)
        send(egress);
}

static void take(struct egress *egress, const struct evbus_delivery *event)
{
    struct part *part = find(egress, event->log, event->partition);
    if (part == NULL || part->state != FLOWS)
        return;
    if (event->lost > 0) {
        egress->metrics->out_lost_cells += event->lost;
        say(EVBUS_LOG_WARNING, "events were not kept until they could go out",
            SAY(say_text("log", event->log), say_number("partition", event->partition),
                say_number("cells", event->lost), say_number("before", event->position)));
    }
    if (event->origin != NULL)
        return;
    struct stream *stream = stream_of(egress, part, event->topic);
    if (stream == NULL) { /* a topic that is new: egress_look() comes */
        fail(egress, part, false);
        return;
    }
    if (event->position > stream->sent || stream->sent == 0)
        put(egress, part, stream, event);
}

/* Nothing of it is under way, and all that there is was read. */
static int note_idle(void *context, const struct evbus_mirror_part *seen)
{
    struct egress *egress = context;
    struct part *part = find(egress, seen->log, seen->partition);
    if (part != NULL && part->state == FLOWS && part->n_under_way == 0 && egress->filling.part != part &&
        seen->next != UINT64_MAX && seen->next > part->at)
        part->at = seen->next;
    return EVBUS_OK;
}

static void ask_all(struct egress *egress, uint64_t now, uint64_t *inout_due_ns)
{
    for (size_t i = 0; i < egress->n_parts; i++) {
        struct part *part = egress->parts[i];
        bool is_idle = part->n_under_way == 0 && egress->filling.part != part;
        if (part->state == FLOWS && is_idle && now - part->asked_ns >= ASK_AGAIN_NS) { /* emptied, it says nothing */
            park(egress, part);
            part->due_ns = 0;
        }
        if (part->state != WAITS || part->n_under_way > 0 || part->n_streams == 0)
            continue;
        if (part->due_ns > now)
            *inout_due_ns = part->due_ns < *inout_due_ns ? part->due_ns : *inout_due_ns;
        else
            ask(egress, part);
    }
}

bool egress_pump(struct egress *egress, uint64_t now, uint64_t *inout_due_ns, int *out_rc)
{
    struct batch *batch = &egress->filling;
    struct evbus_delivery event = {.size = sizeof event}; /* each read fills all of it */
    bool is_dry = false;
    *out_rc = EVBUS_OK;
    if (egress->backend == NULL || !egress->is_here)
        return false;
    ask_all(egress, now, inout_due_ns);
    unsigned n_read = 0;
    while (egress->n_under_way < egress->config->batches && !is_dry && n_read++ < PASSED_MAX) {
        int rc = evbus_mirror_next(egress->mirror, &event, 0);
        is_dry = rc == EVBUS_ETIMEOUT;
        if (rc == EVBUS_ECORRUPT || rc == EVBUS_EIO)
            say(EVBUS_LOG_ERROR, "cannot read an event", SAY(say_text("error", evbus_message(NULL))));
        else if (rc == EVBUS_OK)
            take(egress, &event);
        if (rc != EVBUS_OK && rc != EVBUS_ECORRUPT && !is_dry) {
            *out_rc = rc == EVBUS_EIO ? EVBUS_OK : rc;
            break;
        }
    }
    if (batch->part != NULL && is_dry) {
        uint64_t due = batch->since_ns + egress->config->linger_ns;
        if (egress->config->linger_ns == 0 || due <= now)
            send(egress);
        else
            *inout_due_ns = due < *inout_due_ns ? due : *inout_due_ns;
    }
    if (is_dry)
        evbus_mirror_parts(egress->mirror, note_idle, egress);
    if (n_read > PASSED_MAX) /* others have their turn */
        *inout_due_ns = now;
    return egress->n_under_way < egress->config->batches;
}

struct lag_look {
    struct egress *egress;
    uint64_t now;
    uint64_t lag_ns;
};

/* Events come all the time, so there may never be a moment when all is out: what counts is where the end was, and whether it is out by now. */
static int look_at_lag(void *context, const struct evbus_mirror_part *seen)
{
    struct lag_look *look = context;
    struct part *part = find(look->egress, seen->log, seen->partition);
    if (part == NULL)
        return EVBUS_OK;
    if (part->at >= part->seen_tail) {
        part->seen_tail = seen->tail;
        part->seen_ns = look->now;
    }
    uint64_t waited_ns = look->now - part->seen_ns + 1; /* 0 is for where nothing waits */
    if (part->at < seen->tail && waited_ns > look->lag_ns)
        look->lag_ns = waited_ns;
    return EVBUS_OK;
}

void egress_look_at_lag(struct egress *egress, uint64_t now)
{
    struct lag_look look = {.egress = egress, .now = now};
    if (evbus_mirror_parts(egress->mirror, look_at_lag, &look) == EVBUS_OK)
        egress->metrics->out_lag_ns = look.lag_ns;
}

bool egress_is_idle(const struct egress *egress)
{
    return egress->n_under_way == 0 && egress->filling.part == NULL;
}

/* --- what became of them ------------------------------------------------------------------------------------------------------- */

static void is_out(struct egress *egress, const struct batch *batch)
{
    struct part *part = batch->part;
    for (size_t i = 0; i < batch->n_touched; i++)
        batch->touched[i].stream->out = batch->touched[i].position;
    if (batch->last > part->at)
        part->at = batch->last;
    part->n_failures = 0;
    egress->metrics->out_events += batch->n;
    egress->metrics->out_bytes += batch->n_bytes;
    egress->metrics->out_batches++;
    metrics_time(&egress->metrics->append, now_ns() - batch->since_ns);
    evbus_mirror_told(egress->mirror, part->log, part->partition, batch->last);
}

static void is_not_out(struct egress *egress, const struct batch *batch, enum backend_result result, const char *why)
{
    struct part *part = batch->part;
    if (result == BACKEND_FENCED) {
        egress->is_fenced = true;
        egress->metrics->out_fenced++;
        say(EVBUS_LOG_WARNING, "the broker has heard of a later bridge of this bus",
            SAY(say_text("log", part->log), say_number("partition", part->partition),
                say_number("epoch", egress->epoch), say_text("why", why != NULL ? why : "")));
    }
    if (result == BACKEND_REFUSED) {
        egress->metrics->out_refused++;
        say(EVBUS_LOG_WARNING, "the broker refuses events",
            SAY(say_text("why", why != NULL ? why : ""), say_text("log", part->log),
                say_number("partition", part->partition)));
    }
    fail(egress, part, result == BACKEND_GAP || result == BACKEND_AWAY);
}

void egress_appended(struct egress *egress, uint64_t ticket, enum backend_result result, const char *why)
{
    size_t i = 0;
    while (i < egress->n_under_way && egress->under_way[i].ticket != ticket)
        i++;
    if (i == egress->n_under_way)
        return;
    struct batch batch = egress->under_way[i];
    memmove(&egress->under_way[i], &egress->under_way[i + 1], (egress->n_under_way - i - 1) * sizeof batch);
    egress->n_under_way--;
    egress->metrics->out_under_way = egress->n_under_way;
    batch.part->n_under_way--;
    if (batch.part->is_broken)
        return;
    if (result == BACKEND_OK)
        is_out(egress, &batch);
    else
        is_not_out(egress, &batch, result, why);
}
