/* peer_evbus.c: evbus, by the loops that measure the others. The caller gives id and time and says that its payload is JSON, as the others look into
 * none.
 *
 *   reader   nothing is kept of what was read. Pinned, so that it loses nothing
 *   group    the one member of a group that takes, handles and acknowledges each event, as a service does: a stream in evbus_run(), an answer
 *            by evbus_run_once()
 *   put      evbus_publish_batch() of BATCH
 *   disk     with ack disk: publish() returns once the event is synced, a batch once all of it is; of BATCH_DISK, as many as others may have
 *            under way
 *
 * Streams that do not spin wait as services do by default (EVBUS_WAIT_HYBRID). A full ring keeps senders waiting (timeout_ns).
 * Each measurement has a bus of its own; whether it remembers is up to the benchmark. */
#include "peers.h"

#include <stdlib.h>
#include <string.h>

enum { BATCH = 32, BATCH_DISK = 256 };

struct kind {
    bool is_group;
    enum evbus_ack ack;
    size_t batch;
};

struct bus {
    struct evbus *bus;
    struct evbus_reader *reader;
    struct evbus_subscription *subscription;
    int rc;   /* of the last take */
    size_t n; /* put, and not published */
    struct evbus_event event;
    struct evbus_event events[BATCH_DISK];
    char payloads[BATCH_DISK][PAYLOAD_MAX];
};

static const char *topic(int to)
{
    return to == 0 ? "bench.pong.sent" : "bench.ping.sent";
}

static int begin(struct peer_job *job)
{
    (void)job;
    return own_bus_anew();
}

static enum evbus_outcome handle(void *context, const struct evbus_delivery *delivery, char *error)
{
    struct peer_side *side = context;
    struct bus *bus = side->state;
    (void)error;
    bus->rc = delivery->attempt == 1 ? side->take(side, delivery->payload, delivery->payload_len)
                                     : fails("evbus: attempt %u of an event", delivery->attempt);
    if (side->job->aim == PEER_STREAM && (bus->rc != 0 || side->is_last))
        evbus_stop(bus->subscription);
    return EVBUS_DONE;
}

static int open_side(struct peer_side *side)
{
    const struct peer_job *job = side->job;
    const struct kind *kind = job->peer->variant;
    const struct variant variant = {.payload_len = job->len, .envelope = READY};
    bool receives = job->aim == PEER_ROUND_TRIP || side->index == 1;
    struct bus *bus = calloc(1, sizeof *bus);
    if (bus == NULL)
        return fails("no memory");
    side->state = bus;
    bus->bus = own_bus_open(job->spins                    ? EVBUS_WAIT_SPIN
                            : job->aim == PEER_ROUND_TRIP ? EVBUS_WAIT_BLOCK
                                                          : EVBUS_WAIT_HYBRID);
    if (bus->bus == NULL)
        return 1;
    if (receives && kind->is_group)
        bus->subscription = own_bus_join(bus->bus, side->index == 0 ? "ping" : "pong", topic(side->index), handle,
                                         side);
    else if (receives)
        bus->reader = own_bus_read(bus->bus, topic(side->index), true);
    if (receives && bus->subscription == NULL && bus->reader == NULL)
        return 1;
    bus->event = event_make(&variant, topic(1 - side->index), NULL);
    bus->event.timeout_ns = PATIENCE_NS;
    bus->event.ack = kind->ack;
    return 0;
}

static void close_side(struct peer_side *side)
{
    struct bus *bus = side->state;
    evbus_reader_close(bus->reader);
    evbus_unsubscribe(bus->subscription);
    evbus_close(bus->bus);
}

static struct evbus_event *next_event(struct bus *bus, const void *payload)
{
    static const struct variant variant = {.envelope = READY};
    event_next(&bus->event, &variant);
    bus->event.payload = payload;
    return &bus->event;
}

static int send_one(struct peer_side *side, const void *event, size_t len)
{
    struct bus *bus = side->state;
    (void)len;
    int rc = evbus_publish(bus->bus, next_event(bus, event), NULL);
    return rc == EVBUS_OK ? 0 : fails("publish: %s: %s", evbus_strerror(rc), evbus_message(bus->bus));
}

static int flush(struct peer_side *side)
{
    struct bus *bus = side->state;
    int rc = bus->n > 0 ? evbus_publish_batch(bus->bus, bus->events, bus->n, NULL, NULL) : EVBUS_OK;
    bus->n = 0;
    return rc == EVBUS_OK ? 0 : fails("publish: %s: %s", evbus_strerror(rc), evbus_message(bus->bus));
}

static int put(struct peer_side *side, const void *event, size_t len)
{
    struct bus *bus = side->state;
    const struct kind *kind = side->job->peer->variant;
    bus->events[bus->n] = *next_event(bus, memcpy(bus->payloads[bus->n], event, len));
    return ++bus->n < kind->batch ? 0 : flush(side);
}

static int receive(struct peer_side *side, bool waits)
{
    struct bus *bus = side->state;
    struct evbus_delivery delivery = {.size = sizeof delivery};
    uint64_t timeout_ns = waits ? PATIENCE_NS : 0;
    int rc = bus->subscription == NULL                ? evbus_reader_next(bus->reader, &delivery, timeout_ns)
             : waits && side->job->aim == PEER_STREAM ? evbus_run(bus->subscription, NULL)
                                                      : evbus_run_once(bus->subscription, timeout_ns);
    if (rc == EVBUS_ETIMEOUT && !waits)
        return PEER_NOTHING;
    if (rc != EVBUS_OK)
        return fails("no event: %s: %s", evbus_strerror(rc), evbus_message(bus->bus));
    if (bus->subscription != NULL)
        return bus->rc;
    return delivery.lost == 0 ? side->take(side, delivery.payload, delivery.payload_len)
                              : fails("evbus: events were lost");
}

#define EVBUS_PEER(NAME, KIND)                                                                                    \
    .name = NAME, .variant = &KIND, .can_spin = true, .can_block = true, .waits_spinning = true, .is_ours = true, \
    .begin = begin, .open = open_side, .close = close_side, .send = send_one, .put = put, .flush = flush,         \
    .receive = receive

static const struct kind reader = {.batch = BATCH};
static const struct kind group = {.is_group = true, .batch = BATCH};
static const struct kind disk = {.is_group = true, .ack = EVBUS_ACK_DISK, .batch = BATCH_DISK};

const struct peer peer_evbus = {EVBUS_PEER("evbus", reader)};
const struct peer peer_evbus_group = {EVBUS_PEER("evbus group", group)};
const struct peer peer_evbus_journal = {EVBUS_PEER("evbus group, journal", group), .has_helper = true};
const struct peer peer_evbus_disk = {EVBUS_PEER("evbus group, ack disk", disk), .has_helper = true, .is_synced = true};
