/* verify.c: is what stands at the broker what stands in the journal?
 *
 *     which     partitions: of the mirror (evbus_mirrors); streams: of the topics that the config fits
 *     noted     how far out each is, as the last checkpoint says
 *     marks     the broker's, each with the end of its stream at that moment
 *     there     all entries of each stream, from its beginning to that end, or to where nothing is; those of our own origin
 *     here      all events of a plain reader, from the oldest that is kept to the tails as they are by then; those that were published here
 *     again     where something is missing, or does not join: where does each stream begin by now? Then `here` once more
 *     which     entries belong to the first difference of each partition
 *
 * Why that is enough. Each step sees at least what the one before has seen: what is noted is at the broker, what is at the broker is in the bus. So
 * whatever happens meanwhile is younger than what is compared (compare.c), and whoever leads need not know of us: we open no mirror, lead nothing, and
 * send nothing but questions. One of them has an effect: a mark that is gone while its stream is there is found again, as for the bridge
 * itself (marks.lua).
 * A trim may overtake the reading of a stream, which then has a gap. It takes beginnings away and nothing else: so what stands behind the first entry that is
 * found later, from the beginning on, stood there all the time that we read, and what of it we have not seen is missing.
 * Memory: 16 bytes for each entry of ours at the broker, and of each partition that differs one event.
 * Checked by tests/broker/test_verify.c. */
#include "verify.h"

#include "bridge.h"
#include "checkpoint.h"
#include "now.h"
#include "topics.h"

#include <evbus/admin.h>
#include <evbus/mirror.h>
#include <inttypes.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uuid.h>

#define FDS_MAX    8
#define TOPICS_MAX 256 /* of a log */
/* With so many events in a row that are too young, times the partitions, the reader has looked at each of them, by turns, and in none of them is an
 * older one left. */
#define YOUNG_MAX 1024

struct stream {
    char name[128]; /* a topic, or with layout=log a log */
    char log[128];
    struct compare_part *parts; /* of its log: they stand side by side */
    struct compare_lane *lanes; /* of each */
    uint32_t n_parts;
    char end[COMPARE_ID_SIZE]; /* the last of its lanes' */
    bool is_read;
    size_t n_stray;
    char stray[COMPARE_ID_SIZE]; /* the first */
};

struct verify {
    struct config config; /* a copy: we read, whether the bridge does or not */
    const struct verify_options *options;
    char *error;
    struct evbus *bus;
    struct topics topics;
    struct compare_part *parts;
    size_t n_parts;
    struct stream *streams;
    size_t n_streams;
    char origin[37];
    char checkpoint[300]; /* the topic of the mirror's own */
    const struct backend_class *class;
    struct backend *backend;
    bool is_here;
    char why[EVBUS_ERROR_MAX]; /* what is wrong with the broker, as told last */
    uint64_t heard_ns;         /* when it has brought us forward, last */
    size_t asked;              /* of which partition the marks are to come */
    bool is_asked;
    enum reading { GATHER, BEGINNINGS, EXPLAIN } reading; /* what entries are read for */
    int rc;                                               /* of a callback */
    int damaged;                                          /* EVBUS_ECORRUPT, EVBUS_EIO: not all could be read here */
};

__attribute__((format(printf, 3, 4))) static int fail(struct verify *verify, int rc, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    (void)vsnprintf(verify->error, EVBUS_ERROR_MAX, format, args);
    va_end(args);
    return rc;
}

static int no_memory(struct verify *verify)
{
    return fail(verify, EVBUS_ENOSPC, "no memory");
}

static int fail_of_bus(struct verify *verify, int rc)
{
    return fail(verify, rc, "%s", evbus_message(NULL));
}

/* --- which partitions and streams ----------------------------------------------------------------------------------- */

static int add_part(struct verify *verify, const struct evbus_mirror_part *seen)
{
    struct compare_part *parts = realloc(verify->parts, (verify->n_parts + 1) * sizeof *parts);
    if (parts == NULL)
        return no_memory(verify);
    verify->parts = parts;
    struct compare_part *part = &parts[verify->n_parts++];
    *part = (struct compare_part){.partition = seen->partition, .is_by_line = verify->class->is_by_line};
    (void)snprintf(part->log, sizeof part->log, "%s", seen->log);
    return EVBUS_OK;
}

static bool is_ours(const struct verify *verify, const struct evbus_mirror_stat *stat)
{
    return strcmp(stat->name, verify->config.name) == 0;
}

static int add_parts(void *context, const struct evbus_mirror_stat *stat)
{
    struct verify *verify = context;
    int rc = EVBUS_OK;
    for (size_t i = 0; is_ours(verify, stat) && i < stat->n_parts && rc == EVBUS_OK; i++)
        rc = add_part(verify, &stat->parts[i]);
    return rc;
}

static struct compare_part *find_part(const struct verify *verify, const char *log, uint32_t partition)
{
    for (size_t i = 0; i < verify->n_parts; i++)
        if (verify->parts[i].partition == partition && strcmp(verify->parts[i].log, log) == 0)
            return &verify->parts[i];
    return NULL;
}

static struct stream *find_stream(const struct verify *verify, const char *name)
{
    for (size_t i = 0; i < verify->n_streams; i++)
        if (strcmp(verify->streams[i].name, name) == 0)
            return &verify->streams[i];
    return NULL;
}

static bool is_by_log(const struct verify *verify)
{
    return verify->config.layout == CONFIG_LAYOUT_LOG;
}

static int add_stream(struct verify *verify, const struct topics_one *topic)
{
    const char *name = is_by_log(verify) ? topic->log : topic->topic;
    struct compare_part *parts = find_part(verify, topic->log, 0);
    if (parts == NULL || find_stream(verify, name) != NULL) /* a log that the mirror has not seen yet */
        return EVBUS_OK;
    struct stream *streams = realloc(verify->streams, (verify->n_streams + 1) * sizeof *streams);
    if (streams == NULL)
        return no_memory(verify);
    verify->streams = streams;
    struct stream *stream = &streams[verify->n_streams];
    *stream = (struct stream){.parts = parts};
    (void)snprintf(stream->name, sizeof stream->name, "%s", name);
    (void)snprintf(stream->log, sizeof stream->log, "%s", topic->log);
    while (parts + stream->n_parts < verify->parts + verify->n_parts &&
           strcmp(parts[stream->n_parts].log, topic->log) == 0)
        stream->n_parts++;
    stream->lanes = calloc(stream->n_parts, sizeof *stream->lanes);
    if (stream->lanes == NULL)
        return no_memory(verify);
    verify->n_streams++;
    return EVBUS_OK;
}

static int list(struct verify *verify)
{
    int rc = evbus_mirrors(verify->bus, add_parts, verify);
    if (rc < 0)
        return verify->error[0] != '\0' ? rc : fail_of_bus(verify, rc);
    if (verify->n_parts == 0)
        return fail(verify, EVBUS_ENOTFOUND, "bus %s has no mirror %s: no bridge of this config has run on it yet",
                    verify->config.bus, verify->config.name);
    rc = topics_read(verify->bus, &verify->config, &verify->topics);
    if (rc != EVBUS_OK)
        return fail_of_bus(verify, rc);
    for (size_t i = 0; i < verify->topics.n && rc == EVBUS_OK; i++)
        rc = add_stream(verify, &verify->topics.all[i]);
    if (rc == EVBUS_OK && verify->n_streams == 0)
        return fail(verify, EVBUS_ENOTFOUND, "no topic of bus %s is mirrored: see the key topics", verify->config.bus);
    /* a namespace is one segment */
    (void)snprintf(verify->checkpoint, sizeof verify->checkpoint, "%.*s.evbus.bridge-%s",
                   (int)strcspn(verify->parts[0].log, "."), verify->parts[0].log, verify->config.name);
    return rc;
}

/* --- what is noted -------------------------------------------------------------------------------------------------- */

static int note_held(void *context, const struct evbus_mirror_stat *stat)
{
    struct verify *verify = context;
    for (size_t i = 0; is_ours(verify, stat) && i < stat->n_parts; i++) {
        struct compare_part *part = find_part(verify, stat->parts[i].log, stat->parts[i].partition);
        if (part != NULL)
            part->began = part->out = stat->parts[i].held;
    }
    return EVBUS_OK;
}

static void note_place(void *context, const struct egress_place *place)
{
    struct compare_part *part = find_part(context, place->log, place->partition);
    if (part != NULL) {
        part->began = place->began;
        part->out = place->at;
    }
}

static struct compare_lane *lane_of(const struct stream *stream, uint64_t partition)
{
    return partition < stream->n_parts ? &stream->lanes[partition] : NULL;
}

/* topic "": of the log's stream. */
static void note_topic(void *context, const struct egress_place *place, const char *topic, uint64_t last)
{
    struct verify *verify = context;
    const struct stream *stream = find_stream(verify, topic[0] != '\0' ? topic : place->log);
    struct compare_lane *lane = stream != NULL && (topic[0] == '\0') == is_by_log(verify)
                                    ? lane_of(stream, place->partition)
                                    : NULL;
    if (lane != NULL)
        lane->last = last;
}

static int note(struct verify *verify)
{
    struct checkpoint_out out = {.place = note_place, .topic = note_topic, .context = verify};
    int rc = evbus_mirrors(verify->bus, note_held, verify);
    if (rc == EVBUS_OK)
        rc = checkpoint_look(verify->bus, verify->checkpoint, &out);
    if (rc == EVBUS_ECORRUPT)
        return fail(verify, rc, "what the bridge has noted on %s cannot be read", verify->checkpoint);
    return rc == EVBUS_OK ? EVBUS_OK : fail_of_bus(verify, rc);
}

/* --- what the broker says ------------------------------------------------------------------------------------------- */

static void told_state(void *context, bool is_here, const char *why)
{
    struct verify *verify = context;
    verify->is_here = is_here;
    verify->is_asked = verify->is_asked && is_here;
    (void)snprintf(verify->why, sizeof verify->why, "%s", why != NULL ? why : "");
}

static void take_mark(struct verify *verify, struct stream *stream, uint32_t partition, const struct backend_mark *mark)
{
    struct compare_lane *lane = lane_of(stream, partition);
    lane->mark = mark->position;
    (void)snprintf(lane->end, sizeof lane->end, "%s", mark->end);
    if (verify->class->id_compare(lane->end, stream->end) > 0)
        memcpy(stream->end, lane->end, sizeof stream->end);
}

static void told_marks(void *context, const char *log, uint32_t partition, enum backend_result result,
                       const struct backend_mark *marks, size_t n, const char *why)
{
    struct verify *verify = context;
    verify->is_asked = false;
    if (result == BACKEND_AWAY)
        return; /* asked again; a broker that comes and goes has said nothing */
    if (result != BACKEND_OK) {
        verify->rc = fail(verify, EVBUS_EIO, "the broker does not tell its marks of %s/%" PRIu32 ": %s", log, partition,
                          why != NULL ? why : "");
        return;
    }
    verify->heard_ns = now_ns();
    for (size_t i = 0; i < n; i++) {
        struct stream *stream = find_stream(verify, marks[i].topic != NULL ? marks[i].topic : log);
        if (stream != NULL && partition < stream->n_parts)
            take_mark(verify, stream, partition, &marks[i]);
    }
    verify->asked++;
}

static void told_appended(void *context, uint64_t ticket, enum backend_result result, const char *why)
{
    (void)context, (void)ticket, (void)result, (void)why; /* we append nothing */
}

static void told_trimmed(void *context, const char *stream, const struct backend_trimmed *trimmed)
{
    (void)context, (void)stream, (void)trimmed; /* nor do we trim */
}

static void told_reset(void *context, const char *stream, const char *id)
{
    struct verify *verify = context;
    (void)id;
    verify->rc = fail(verify, EVBUS_EAGAIN, "the broker has lost entries of stream %s while it was read; verify again",
                      stream);
}

static void take_stray(struct stream *stream, const struct backend_entry *entry)
{
    if (stream->n_stray++ == 0)
        (void)snprintf(stream->stray, sizeof stream->stray, "%s", entry->id);
}

static bool take_entry(struct verify *verify, struct stream *stream, const struct backend_entry *entry)
{
    const struct entry_field *origin = compare_field(entry, "origin");
    uint64_t partition = 0, position = 0, prev = UINT64_MAX;
    if (origin == NULL || origin->value_len != strlen(verify->origin) ||
        memcmp(origin->value, verify->origin, origin->value_len) != 0)
        return true;
    struct compare_lane *lane = compare_number(compare_field(entry, "partition"), &partition)
                                    ? lane_of(stream, partition)
                                    : NULL;
    if (lane == NULL || !compare_number(compare_field(entry, "position"), &position) || position == 0) {
        if (verify->reading == GATHER && verify->class->id_compare(entry->id, stream->end) <= 0)
            take_stray(stream, entry);
        return true;
    }
    if (verify->class->id_compare(entry->id, lane->end) > 0)
        return true;
    struct compare_part *part = &stream->parts[partition];
    if (verify->reading == BEGINNINGS) {
        lane->first = lane->first == 0 ? position : lane->first;
        return true;
    }
    if (verify->reading == EXPLAIN) {
        compare_explain(part, stream->name, lane, entry, position);
        return true;
    }
    (void)compare_number(compare_field(entry, "prev"), &prev);
    return compare_entry(part, lane, stream->name, entry, position, prev);
}

/* Has each of its lanes begun? */
static bool has_begun(const struct stream *stream)
{
    uint32_t n = 0;
    while (n < stream->n_parts && stream->lanes[n].first != 0)
        n++;
    return n == stream->n_parts;
}

static bool told_arrived(void *context, const char *name, const struct backend_entry *entries, size_t n)
{
    struct verify *verify = context;
    struct stream *stream = find_stream(verify, name);
    verify->heard_ns = now_ns();
    if (stream == NULL || stream->is_read || verify->rc != EVBUS_OK)
        return true;
    for (size_t i = 0; i < n; i++)
        if (!take_entry(verify, stream, &entries[i])) {
            verify->rc = no_memory(verify);
            return true;
        }
    stream->is_read = n == 0 || verify->class->id_compare(entries[n - 1].id, stream->end) >= 0 ||
                      (verify->reading == BEGINNINGS && has_begun(stream));
    if (!stream->is_read)
        verify->class->more(verify->backend, name);
    return true;
}

static const struct backend_callbacks callbacks = {.state = told_state,
                                                   .marks = told_marks,
                                                   .appended = told_appended,
                                                   .arrived = told_arrived,
                                                   .reset = told_reset,
                                                   .trimmed = told_trimmed};

/* --- waiting for it ------------------------------------------------------------------------------------------------- */

static int turn(struct verify *verify)
{
    struct pollfd fds[FDS_MAX];
    uint64_t now = now_ns(), until = verify->heard_ns + verify->options->timeout_ns;
    if (until < verify->heard_ns)
        until = UINT64_MAX;
    if (now >= until)
        return fail(verify, EVBUS_EIO,
                    "the broker %.200s says nothing: %.200s; --timeout waits longer than %" PRIu64 " ms",
                    verify->config.broker, verify->why[0] != '\0' ? verify->why : "it does not answer",
                    verify->options->timeout_ns / NS_PER_MS);
    uint64_t left_ms = (until - now + NS_PER_MS - 1) / NS_PER_MS;
    int timeout_ms = left_ms < 1000 ? (int)left_ms : 1000;
    size_t n = verify->class->fds(verify->backend, fds, FDS_MAX, &timeout_ms);
    if (poll(fds, (nfds_t)n, timeout_ms) < 0)
        for (size_t i = 0; i < n; i++)
            fds[i].revents = 0; /* a signal; what is ready is ready the next time, too */
    verify->class->service(verify->backend, fds, n);
    return verify->rc;
}

/* What the streams of a partition are called, and how many. */
static size_t topics_of(const struct verify *verify, const struct compare_part *part, const char *out[TOPICS_MAX])
{
    size_t n = 0;
    for (size_t i = 0; i < verify->n_streams && n < TOPICS_MAX; i++)
        if (strcmp(verify->streams[i].log, part->log) == 0)
            out[n++] = verify->streams[i].name;
    return n;
}

static int ask_all(struct verify *verify)
{
    const char *topics[TOPICS_MAX];
    int rc = EVBUS_OK;
    verify->heard_ns = now_ns();
    verify->asked = 0;
    verify->is_asked = false;
    while (rc == EVBUS_OK && verify->asked < verify->n_parts) {
        const struct compare_part *part = &verify->parts[verify->asked];
        size_t n = topics_of(verify, part, topics);
        if (n == 0) { /* none of its topics fits the config */
            verify->asked++;
            continue;
        }
        if (verify->is_here && !verify->is_asked)
            verify->is_asked = verify->class->ask(verify->backend, part->log, part->partition,
                                                  is_by_log(verify) ? NULL : topics, n);
        rc = turn(verify);
    }
    return rc;
}

static int read_all(struct verify *verify, enum reading reading)
{
    int rc = EVBUS_OK;
    verify->reading = reading;
    for (size_t i = 0; i < verify->n_streams; i++) {
        struct stream *stream = &verify->streams[i];
        stream->is_read = stream->end[0] == '\0';
        if (stream->is_read)
            continue;
        if (verify->class->listen(verify->backend, stream->name, "") != EVBUS_OK)
            return fail(verify, EVBUS_ENOSPC, "stream %s cannot be read: no memory", stream->name);
        verify->class->more(verify->backend, stream->name);
    }
    verify->heard_ns = now_ns();
    for (size_t i = 0; i < verify->n_streams; i++)
        while (rc == EVBUS_OK && !verify->streams[i].is_read)
            rc = turn(verify);
    return rc;
}

/* --- here ----------------------------------------------------------------------------------------------------------- */

static int note_oldest(void *context, const struct evbus_mirror_stat *stat)
{
    struct verify *verify = context;
    for (size_t i = 0; is_ours(verify, stat) && i < stat->n_parts; i++) {
        struct compare_part *part = find_part(verify, stat->parts[i].log, stat->parts[i].partition);
        if (part == NULL)
            continue;
        part->oldest = stat->parts[i].oldest;
        if (part->tail == 0)
            part->tail = stat->parts[i].tail;
    }
    return EVBUS_OK;
}

static int take_event(struct verify *verify, struct compare_part *part, const struct evbus_delivery *event)
{
    const char *name = is_by_log(verify) ? event->log : event->topic;
    const struct stream *stream = find_stream(verify, name);
    if (event->origin != NULL)
        compare_pass(part, event->position, event->lost > 0);
    else if (!compare_event(part, stream != NULL ? lane_of(stream, event->partition) : NULL, name, verify->origin,
                            event))
        return no_memory(verify);
    return EVBUS_OK;
}

/* Until nothing is left that is older than the tails. */
static int read_events(struct verify *verify, struct evbus_reader *reader)
{
    uint64_t n_young = 0;
    while (n_young < YOUNG_MAX * (verify->n_parts + 1)) {
        struct evbus_delivery event = {.size = sizeof event};
        int rc = evbus_reader_next(reader, &event, 0);
        if (rc == EVBUS_ETIMEOUT)
            break;
        if (rc == EVBUS_ECORRUPT) { /* told as lost with the next one */
            verify->damaged = rc;
            (void)fail_of_bus(verify, rc);
            continue;
        }
        if (rc != EVBUS_OK)
            return fail_of_bus(verify, rc);
        struct compare_part *part = find_part(verify, event.log, event.partition);
        if (part == NULL || event.position >= part->tail) {
            n_young++;
            continue;
        }
        n_young = 0;
        if ((rc = take_event(verify, part, &event)) != EVBUS_OK)
            return rc;
    }
    return EVBUS_OK;
}

static int open_reader(struct verify *verify, struct evbus_reader **out)
{
    const char *patterns[CONFIG_TOPICS_MAX];
    for (size_t i = 0; i < verify->config.n_topics; i++)
        patterns[i] = verify->config.topics[i];
    return evbus_reader_open(out, verify->bus,
                             &(struct evbus_reader_options){.size = sizeof(struct evbus_reader_options),
                                                            .patterns = verify->config.n_topics != 0 ? patterns : NULL,
                                                            .n_patterns = verify->config.n_topics,
                                                            .from = EVBUS_FROM_EARLIEST});
}

static int compare_all(struct verify *verify)
{
    struct evbus_reader *reader = NULL;
    verify->damaged = EVBUS_OK;
    verify->error[0] = '\0';
    for (size_t i = 0; i < verify->n_parts; i++)
        compare_begin(&verify->parts[i]);
    int rc = open_reader(verify, &reader);
    if (rc == EVBUS_OK)
        rc = evbus_mirrors(verify->bus, note_oldest, verify); /* behind the opening: what it begins with may be older */
    if (rc != EVBUS_OK)
        (void)fail_of_bus(verify, rc);
    if (rc == EVBUS_OK)
        rc = read_events(verify, reader);
    evbus_reader_close(reader);
    if (rc == EVBUS_OK && (rc = evbus_mirrors(verify->bus, note_oldest, verify)) != EVBUS_OK)
        (void)fail_of_bus(verify, rc);
    for (size_t i = 0; i < verify->n_parts; i++)
        compare_end(&verify->parts[i]);
    return rc;
}

/* --- all of it ------------------------------------------------------------------------------------------------------ */

static size_t n_different(const struct verify *verify)
{
    size_t n = 0;
    for (size_t i = 0; i < verify->n_parts; i++)
        n += verify->parts[i].first.what != COMPARE_SAME;
    return n;
}

static size_t n_stray(const struct verify *verify)
{
    size_t n = 0;
    for (size_t i = 0; i < verify->n_streams; i++)
        n += verify->streams[i].n_stray;
    return n;
}

static bool is_any_doubtful(const struct verify *verify)
{
    for (size_t i = 0; i < verify->n_parts; i++)
        if (verify->parts[i].n_doubtful > 0)
            return true;
    return false;
}

static int look_again(struct verify *verify)
{
    for (size_t i = 0; i < verify->n_parts; i++)
        compare_again(&verify->parts[i]);
    for (size_t i = 0; i < verify->n_streams; i++)
        for (uint32_t p = 0; p < verify->streams[i].n_parts; p++)
            verify->streams[i].lanes[p].first = 0;
    int rc = read_all(verify, BEGINNINGS);
    for (size_t i = 0; i < verify->n_streams; i++)
        for (uint32_t p = 0; p < verify->streams[i].n_parts; p++)
            if (verify->streams[i].lanes[p].first == 0) /* all of it is gone */
                verify->streams[i].lanes[p].first = UINT64_MAX;
    return rc == EVBUS_OK ? compare_all(verify) : rc;
}

static int look(struct verify *verify)
{
    int rc = note(verify);
    if (rc == EVBUS_OK)
        rc = ask_all(verify);
    if (rc == EVBUS_OK)
        rc = read_all(verify, GATHER);
    if (rc == EVBUS_OK)
        rc = compare_all(verify);
    return rc == EVBUS_OK && is_any_doubtful(verify) ? look_again(verify) : rc;
}

static int explain(struct verify *verify)
{
    bool wants_more = false;
    for (size_t i = 0; i < verify->n_parts; i++)
        wants_more = wants_more || compare_wants_more(&verify->parts[i]);
    return wants_more ? read_all(verify, EXPLAIN) : EVBUS_OK;
}

static void print(const struct verify *verify)
{
    bool json = verify->options->json;
    verify_print_head(json);
    for (size_t i = 0; i < verify->n_parts; i++)
        verify_print_part(&verify->parts[i], json);
    for (size_t i = 0; i < verify->n_streams; i++)
        if (verify->streams[i].n_stray > 0)
            verify_print_stray(verify->streams[i].name, verify->streams[i].stray, verify->streams[i].n_stray, json);
    verify_print_sum(verify->parts, verify->n_parts, n_stray(verify), json);
}

static int open_all(struct verify *verify)
{
    char error[EVBUS_ERROR_MAX + 1] = "";
    struct evbus_stat stat = {.size = sizeof stat};
    int rc = evbus_open(&verify->bus, &(struct evbus_options){.size = sizeof(struct evbus_options),
                                                              .bus = verify->config.bus,
                                                              .keeper = EVBUS_KEEPER_NEVER});
    if (rc != EVBUS_OK)
        return fail_of_bus(verify, rc);
    rc = evbus_stat(verify->bus, &stat);
    if (rc != EVBUS_OK)
        return fail_of_bus(verify, rc);
    uuid_unparse_lower(stat.uuid, verify->origin);
    rc = list(verify);
    if (rc != EVBUS_OK)
        return rc;
    rc = verify->class->open(&verify->backend, &verify->config, verify->origin, &callbacks, verify, error);
    return rc == EVBUS_OK ? EVBUS_OK : fail(verify, rc, "%s", error);
}

static void close_all(struct verify *verify)
{
    if (verify->backend != NULL)
        verify->class->close(verify->backend);
    evbus_close(verify->bus);
    topics_free(&verify->topics);
    for (size_t i = 0; i < verify->n_parts; i++)
        compare_forget(&verify->parts[i]);
    for (size_t i = 0; i < verify->n_streams; i++)
        free(verify->streams[i].lanes);
    free(verify->parts);
    free(verify->streams);
    config_wipe(&verify->config);
    free(verify);
}

int verify_run(const struct config *config, const struct verify_options *options, char *error)
{
    struct verify *verify = calloc(1, sizeof *verify);
    error[0] = '\0';
    if (verify == NULL) {
        (void)snprintf(error, EVBUS_ERROR_MAX, "no memory");
        return EVBUS_ENOSPC;
    }
    verify->config = *config;
    verify->config.in = true;
    verify->options = options;
    verify->error = error;
    verify->class = bridge_backend_class(config);
    int rc = open_all(verify);
    if (rc == EVBUS_OK)
        rc = look(verify);
    if (rc == EVBUS_OK)
        rc = explain(verify);
    if (rc == EVBUS_OK) {
        print(verify);
        rc = verify->damaged != EVBUS_OK                      ? verify->damaged
             : n_different(verify) > 0 || n_stray(verify) > 0 ? EVBUS_ENOTFOUND
                                                              : EVBUS_OK;
    }
    close_all(verify);
    return rc;
}
