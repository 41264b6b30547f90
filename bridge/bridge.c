/* bridge.c: a bus, a mirror of it, a broker, and what goes between them.
 *
 *     stands by     evbus_mirror_lead() four times a second, for the leader may die; no connection to the broker
 *     leads         recall (checkpoint.c), then the broker is opened; then by turns: lead | catalogue | backend | egress | ingress |
 *                   checkpoint | trim
 *     leads no more closes the broker at once, and stands by: whoever leads now goes on where the bus and the broker say that we are
 *
 * One thread: none of the parts need know when another one is at it. Nothing here blocks but the publish of a checkpoint on a slow disk.
 * Checked by tests/broker/test_bridge.c. */
#include "bridge.h"

#include "checkpoint.h"
#include "egress.h"
#include "ingress.h"
#include "now.h"
#include "say.h"
#include "topics.h"

#include <evbus/admin.h>
#include <evbus/mirror.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uuid.h>

#define LEAD_NS      (250 * NS_PER_MS)
#define CATALOGUE_NS NS_PER_S /* and whether we still lead: bus and broker tell who is fenced when it matters */
#define REPORT_NS    (60 * NS_PER_S)

struct bridge {
    struct evbus *bus;
    const struct config *config;
    struct metrics *metrics;
    struct health *health;
    struct evbus_mirror *mirror;
    int mirror_fd;
    const struct backend_class *class;
    struct backend *backend; /* NULL: we stand by */
    struct egress *egress;   /* NULL: nothing goes that way */
    struct ingress *ingress;
    struct checkpoint *checkpoint;
    struct topics topics;
    size_t n_parts;
    uint8_t origin[16];
    char origin_text[37];
    uint64_t incarnation;
    uint64_t epoch;
    bool leads;
    bool wants_events; /* egress could send more */
    bool is_paused;
    bool is_ending;
    bool is_drained;                                    /* ... and what was there is out, and on the record */
    uint64_t due_ns;                                    /* the next turn is */
    uint64_t lead_ns, catalogue_ns, report_ns, trim_ns; /* when each is due */
    size_t trim_next;
};

/* --- open and close --------------------------------------------------------------------------------------------------------- */

const struct backend_class *bridge_backend_class(const struct config *config)
{
    return strncmp(config->broker, "file:", 5) == 0 ? &backend_file : &backend_redis;
}

static int open_mirror(struct bridge *bridge)
{
    const struct config *config = bridge->config;
    const char *patterns[CONFIG_TOPICS_MAX];
    for (size_t i = 0; i < config->n_topics; i++)
        patterns[i] = config->topics[i];
    int rc = evbus_mirror_open(&bridge->mirror, bridge->bus,
                               &(struct evbus_mirror_options){.size = sizeof(struct evbus_mirror_options),
                                                              .name = config->name,
                                                              .patterns = config->n_topics != 0 ? patterns : NULL,
                                                              .n_patterns = config->n_topics,
                                                              .from = config->start == CONFIG_START_EARLIEST
                                                                          ? EVBUS_FROM_EARLIEST
                                                                          : EVBUS_FROM_LATEST});
    if (rc == EVBUS_OK)
        rc = evbus_mirror_fd(bridge->mirror, &bridge->mirror_fd);
    if (rc == EVBUS_OK)
        rc = evbus_mirror_origin(bridge->mirror, bridge->origin, &bridge->incarnation);
    if (rc != EVBUS_OK)
        say(EVBUS_LOG_ERROR, "the bus cannot be mirrored", SAY(say_text("why", evbus_message(NULL))));
    uuid_unparse_lower(bridge->origin, bridge->origin_text);
    return rc;
}

int bridge_open(struct bridge **out, struct evbus *bus, const struct config *config, struct metrics *metrics,
                struct health *health)
{
    struct bridge *bridge = calloc(1, sizeof *bridge);
    if (bridge == NULL)
        return EVBUS_ENOSPC;
    *bridge = (struct bridge){.bus = bus,
                              .config = config,
                              .metrics = metrics,
                              .health = health,
                              .class = bridge_backend_class(config),
                              .mirror_fd = -1};
    int rc = open_mirror(bridge);
    if (rc == EVBUS_OK && config->out)
        rc = egress_open(&bridge->egress, bridge->mirror, config, metrics);
    if (rc == EVBUS_OK && config->in)
        rc = ingress_open(&bridge->ingress, bridge->mirror, config, bridge->origin, metrics);
    if (rc == EVBUS_OK)
        rc = checkpoint_open(&bridge->checkpoint, bridge->mirror, bridge->egress, bridge->ingress,
                             config->checkpoint_ns);
    if (rc != EVBUS_OK) {
        bridge_close(bridge);
        return rc;
    }
    *out = bridge;
    return EVBUS_OK;
}

static void stand_by(struct bridge *bridge)
{
    if (bridge->egress != NULL)
        egress_stand_by(bridge->egress);
    if (bridge->ingress != NULL)
        ingress_stand_by(bridge->ingress);
    if (bridge->backend != NULL)
        bridge->class->close(bridge->backend);
    bridge->backend = NULL;
    bridge->leads = bridge->health->leads = false;
    bridge->metrics->leader = bridge->metrics->connected = 0;
}

void bridge_close(struct bridge *bridge)
{
    if (bridge == NULL)
        return;
    stand_by(bridge);
    checkpoint_close(bridge->checkpoint);
    egress_close(bridge->egress);
    ingress_close(bridge->ingress);
    evbus_mirror_close(bridge->mirror);
    topics_free(&bridge->topics);
    free(bridge);
}

/* --- what the backend says ---------------------------------------------------------------------------------------------------- */

static void state(void *context, bool is_here, const char *why)
{
    struct bridge *bridge = context;
    bool was_here = bridge->health->is_broker_here;
    if (is_here && why != NULL)
        say(EVBUS_LOG_WARNING, "something is wrong at the broker", SAY(say_text("why", why)));
    else if (is_here)
        say(EVBUS_LOG_INFO, "the broker is here", SAY(say_text("broker", bridge->config->broker)));
    else
        say(EVBUS_LOG_WARNING, "the broker is away", /* by its why: another reason is another thing, and told at once */
            SAY(say_text("why", why != NULL ? why : ""), say_text("broker", bridge->config->broker)));
    bridge->health->is_broker_here = is_here;
    bridge->report_ns = 0;
    if (was_here != is_here)
        bridge->health->broker_since_ns = now_ns();
    snprintf(bridge->health->broker_why, sizeof bridge->health->broker_why, "%s", why != NULL ? why : "");
    bridge->metrics->connected = is_here;
    if (is_here && !was_here)
        bridge->metrics->connects++;
    if (!is_here && !was_here)
        bridge->metrics->connect_failures++;
    if (bridge->egress != NULL)
        egress_state(bridge->egress, is_here);
}

static void marks(void *context, const char *log, uint32_t partition, enum backend_result result,
                  const struct backend_mark *found, size_t n, const char *why)
{
    struct bridge *bridge = context;
    if (bridge->egress != NULL)
        egress_marks(bridge->egress, log, partition, result, found, n, why);
}

static void appended(void *context, uint64_t ticket, enum backend_result result, const char *why)
{
    struct bridge *bridge = context;
    if (bridge->egress != NULL)
        egress_appended(bridge->egress, ticket, result, why);
}

static bool arrived(void *context, const char *stream, const struct backend_entry *entries, size_t n)
{
    struct bridge *bridge = context;
    return bridge->ingress != NULL && ingress_arrived(bridge->ingress, stream, entries, n);
}

static void reset(void *context, const char *stream, const char *id)
{
    struct bridge *bridge = context;
    if (bridge->ingress != NULL)
        ingress_reset(bridge->ingress, stream, id);
}

static void trimmed(void *context, const char *stream, const struct backend_trimmed *what)
{
    struct bridge *bridge = context;
    bridge->metrics->trims++;
    bridge->metrics->trimmed_entries += what->n;
    if (what->dropped != NULL) {
        bridge->metrics->dropped_hosts++;
        say(EVBUS_LOG_WARNING, "a host has reported nothing for too long, and is not waited for any more",
            SAY(say_text("stream", stream), say_text("host", what->dropped)));
    }
    if (what->n > 0)
        say(EVBUS_LOG_DEBUG, "entries that nobody needs are gone",
            SAY(say_text("stream", stream), say_number("entries", what->n),
                say_text("kept_from", what->kept_from != NULL ? what->kept_from : ""),
                say_text("kept_for", what->kept_for != NULL ? what->kept_for : "")));
}

static const struct backend_callbacks callbacks = {
    .state = state, .marks = marks, .appended = appended, .arrived = arrived, .reset = reset, .trimmed = trimmed};

/* --- lead ------------------------------------------------------------------------------------------------------------------------ */

static int count_part(void *context, const struct evbus_mirror_part *part)
{
    (void)part;
    ++*(size_t *)context;
    return EVBUS_OK;
}

static int ignore(void *context, const struct evbus_delivery *event)
{
    (void)context;
    (void)event;
    return EVBUS_OK;
}

/* What is in it we have brought in ourselves: but the mirror wants to have read it. */
static int brought_part(void *context, const struct evbus_mirror_part *part)
{
    struct bridge *bridge = context;
    return evbus_mirror_brought(bridge->mirror, part->log, part->partition, part->held, ignore, NULL);
}

/* What the catalogue has by now. is_leading: partitions that have come since we lead have still to be read. */
static int look_at_catalogue(struct bridge *bridge, bool is_leading)
{
    size_t n_parts = 0;
    int rc = topics_read(bridge->bus, bridge->config, &bridge->topics);
    if (rc == EVBUS_OK)
        rc = evbus_mirror_parts(bridge->mirror, count_part, &n_parts);
    if (rc == EVBUS_OK && is_leading && n_parts != bridge->n_parts && bridge->ingress != NULL)
        rc = evbus_mirror_parts(bridge->mirror, brought_part, bridge);
    if (rc != EVBUS_OK)
        return rc;
    bridge->n_parts = n_parts;
    if (bridge->egress != NULL)
        rc = egress_look(bridge->egress, &bridge->topics);
    if (rc == EVBUS_OK && bridge->ingress != NULL)
        rc = ingress_look(bridge->ingress, &bridge->topics);
    return rc;
}

static int cannot_lead(struct bridge *bridge, int rc)
{
    say(EVBUS_LOG_ERROR, "cannot lead",
        SAY(say_text("mirror", bridge->config->name), say_text("why", evbus_message(NULL))));
    stand_by(bridge);
    return rc;
}

static int begin_to_lead(struct bridge *bridge)
{
    char error[EVBUS_ERROR_MAX + 1] = "";
    int rc = look_at_catalogue(bridge, false);
    if (rc == EVBUS_OK)
        rc = checkpoint_recall(bridge->checkpoint);
    if (rc != EVBUS_OK)
        return cannot_lead(bridge, rc);
    bridge->health->is_broker_here = false;
    bridge->health->broker_since_ns = now_ns();
    rc = bridge->class->open(&bridge->backend, bridge->config, bridge->origin_text, &callbacks, bridge, error);
    if (rc != EVBUS_OK) {
        say(EVBUS_LOG_ERROR, "the broker cannot be used",
            SAY(say_text("broker", bridge->config->broker), say_text("why", error)));
        stand_by(bridge);
        return rc;
    }
    bridge->leads = bridge->health->leads = true;
    bridge->metrics->leader = 1;
    bridge->metrics->epoch = bridge->epoch;
    if (bridge->egress != NULL)
        egress_lead(bridge->egress, bridge->backend, bridge->epoch, bridge->incarnation);
    if (bridge->ingress != NULL)
        ingress_lead(bridge->ingress, bridge->backend);
    say(EVBUS_LOG_INFO, "leads", SAY(say_text("mirror", bridge->config->name), say_number("epoch", bridge->epoch)));
    return EVBUS_OK;
}

/* Paused, whoever leads keeps that right, and lets go of the broker. */
static bool look_whether_paused(struct bridge *bridge)
{
    bool is_paused = evbus_mirror_is_paused(bridge->mirror);
    if (is_paused != bridge->is_paused) {
        say(EVBUS_LOG_WARNING, is_paused ? "paused by an operator" : "goes on",
            SAY(say_text("mirror", bridge->config->name)));
        stand_by(bridge);
    }
    bridge->is_paused = bridge->health->is_paused = is_paused;
    bridge->metrics->paused = is_paused;
    return is_paused;
}

/* EVBUS_OK, whether we lead or not. */
static int lead(struct bridge *bridge)
{
    uint64_t epoch;
    int rc = evbus_mirror_lead(bridge->mirror, &epoch);
    if (rc == EVBUS_OK &&
        (rc = evbus_mirror_fd(bridge->mirror, &bridge->mirror_fd)) != EVBUS_OK) /* a new catalogue, a new one */
        return rc;
    if (rc == EVBUS_OK && look_whether_paused(bridge))
        return EVBUS_OK;
    if (rc == EVBUS_OK && bridge->leads && epoch == bridge->epoch)
        return EVBUS_OK;
    if (bridge->leads)
        say(EVBUS_LOG_WARNING, "leads no more",
            SAY(say_text("mirror", bridge->config->name), say_text("why", evbus_message(NULL))));
    stand_by(bridge);
    if (rc == EVBUS_OK) {
        bridge->epoch = epoch;
        return begin_to_lead(bridge);
    }
    if (rc == EVBUS_EBUSY)
        say(EVBUS_LOG_INFO, "stands by",
            SAY(say_text("mirror", bridge->config->name), say_text("why", evbus_message(NULL))));
    return rc == EVBUS_EBUSY || rc == EVBUS_EFENCED ? EVBUS_OK : rc;
}

/* --- turns ------------------------------------------------------------------------------------------------------------------------- */

static void report(void *context, const char *stream, const char *id)
{
    struct bridge *bridge = context;
    bridge->class->report(bridge->backend, stream, id);
}

/* Trim waits for whoever has reported within host_timeout: also where nothing comes. */
static void report_all(struct bridge *bridge, uint64_t now)
{
    uint64_t interval_ns = bridge->config->host_timeout_ns / 4;
    if (bridge->ingress == NULL || !bridge->health->is_broker_here || now < bridge->report_ns)
        return;
    checkpoint_tell_streams(bridge->checkpoint, report, bridge);
    bridge->report_ns = now + (interval_ns < REPORT_NS ? interval_ns : REPORT_NS);
}

/* One stream after the other, so that no turn is long. */
static void trim(struct bridge *bridge, uint64_t now)
{
    size_t n = bridge->topics.n;
    if (bridge->config->trim_age_ns == 0 || n == 0 || now < bridge->trim_ns || !bridge->health->is_broker_here)
        return;
    const struct topics_one *one = &bridge->topics.all[bridge->trim_next++ % n];
    bool is_log = bridge->config->layout == CONFIG_LAYOUT_LOG;
    bridge->class->trim(bridge->backend, is_log ? one->log : one->topic);
    bridge->trim_ns = now + bridge->config->trim_interval_ns / n;
}

/* What is due. *out_due_ns: when the next is. */
static int turn(struct bridge *bridge, uint64_t now, uint64_t *out_due_ns)
{
    int rc = EVBUS_OK;
    bool is_fenced = (bridge->egress != NULL && egress_is_fenced(bridge->egress)) ||
                     (bridge->ingress != NULL && ingress_is_fenced(bridge->ingress));
    if (now >= bridge->lead_ns || is_fenced) {
        char why[HEALTH_WHY_MAX];
        if ((rc = lead(bridge)) != EVBUS_OK)
            return rc;
        bridge->lead_ns = now + (bridge->leads ? CATALOGUE_NS : LEAD_NS);
        if (bridge->egress != NULL && bridge->leads)
            egress_look_at_lag(bridge->egress, now);
        (void)health_is_ready(bridge->health, now, why);
        evbus_mirror_describe(bridge->mirror, why);
    }
    *out_due_ns = bridge->lead_ns;
    bridge->wants_events = bridge->is_drained = false;
    if (!bridge->leads)
        return EVBUS_OK;
    if (now >= bridge->catalogue_ns) {
        bridge->catalogue_ns = now + CATALOGUE_NS;
        if ((rc = look_at_catalogue(bridge, true)) != EVBUS_OK)
            return rc;
    }
    if (bridge->egress != NULL)
        bridge->wants_events = egress_pump(bridge->egress, now, out_due_ns, &rc);
    if (rc != EVBUS_OK)
        return rc;
    if (bridge->ingress != NULL)
        ingress_pump(bridge->ingress, now, out_due_ns);
    rc = checkpoint_pump(bridge->checkpoint, now, bridge->is_ending, out_due_ns, report, bridge);
    if (rc == EVBUS_EFENCED) {
        bridge->lead_ns = 0;
        rc = EVBUS_OK;
    }
    bool is_out = bridge->egress == NULL || !bridge->health->is_broker_here ||
                  (bridge->wants_events && egress_is_idle(bridge->egress));
    bridge->is_drained = is_out && !checkpoint_is_due(bridge->checkpoint);
    report_all(bridge, now);
    trim(bridge, now);
    return rc;
}

size_t bridge_fds(struct bridge *bridge, struct pollfd *fds, size_t cap, int *inout_timeout_ms)
{
    size_t n = 0;
    if (bridge->backend != NULL)
        n = bridge->class->fds(bridge->backend, fds, cap - 1, inout_timeout_ms);
    if (bridge->wants_events && n < cap)
        fds[n++] = (struct pollfd){.fd = bridge->mirror_fd, .events = POLLIN};
    uint64_t now = now_ns();
    uint64_t due = bridge->due_ns;
    int left_ms = due <= now ? 0 : (int)((due - now + NS_PER_MS - 1) / NS_PER_MS);
    if (*inout_timeout_ms < 0 || left_ms < *inout_timeout_ms)
        *inout_timeout_ms = left_ms;
    return n;
}

int bridge_service(struct bridge *bridge, const struct pollfd *fds, size_t n)
{
    if (bridge->backend != NULL)
        bridge->class->service(bridge->backend, fds, n);
    bridge->due_ns = UINT64_MAX;
    int rc = turn(bridge, now_ns(), &bridge->due_ns);
    if (rc != EVBUS_OK)
        say(EVBUS_LOG_ERROR, "the bus cannot be used", SAY(say_text("why", evbus_message(NULL))));
    return rc;
}

bool bridge_is_drained(struct bridge *bridge)
{
    bool was_ending = bridge->is_ending;
    bridge->is_ending = true;
    return was_ending && (!bridge->leads || bridge->is_drained); /* not before a turn that knows of it */
}
