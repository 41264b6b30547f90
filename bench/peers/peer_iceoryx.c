/* peer_iceoryx.c: Eclipse iceoryx 2.0 by its C binding: a publisher and a subscriber each way, and a RouDi of the benchmark's own.
 *
 *   memory   RouDi makes it, of chunks of CHUNK bytes: enough for both queues and what is on loan, little, as RouDi touches all of it
 *   send     loan a chunk, write the event into it, publish it. Zero copy spares nothing with 64 or 512 bytes that the sender has anyway
 *   full     a queue holds QUEUE chunks (its most). Both ends say WAIT_FOR_CONSUMER, else the oldest would be lost
 *   sleep    a wait set, which the subscriber's events ring
 *
 * A RouDi must not know a process that has ended without a word, or it asks a number that may be somebody else's to end; it is told by the
 * library's destructors, so a side leaves by exit(). One RouDi per host is possible: where one runs, this fails and says so. */
#include "daemon.h"
#include "peers.h"

#include <iceoryx_binding_c/log.h>
#include <iceoryx_binding_c/publisher.h>
#include <iceoryx_binding_c/runtime.h>
#include <iceoryx_binding_c/subscriber.h>
#include <iceoryx_binding_c/wait_set.h>

#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { QUEUE = 256, CHUNK = 512, CHUNKS = 4096 };

struct roudi {
    struct daemon daemon;
    char folder[64];
};

struct ports {
    iox_pub_storage_t publisher_at;
    iox_sub_storage_t subscriber_at;
    iox_ws_storage_t wait_set_at;
    iox_pub_t publisher;
    iox_sub_t subscriber;
    iox_ws_t wait_set;
};

/* --- RouDi -------------------------------------------------------------------------------------------------------- */

static bool says(const char *path, const char *text)
{
    char line[512];
    bool does = false;
    FILE *in = fopen(path, "r");
    while (in != NULL && !does && fgets(line, sizeof line, in) != NULL)
        does = strstr(line, text) != NULL;
    if (in != NULL)
        fclose(in);
    return does;
}

static int start(struct roudi *roudi)
{
    char path[128];
    int status;
    snprintf(path, sizeof path, "%s/config.toml", roudi->folder);
    FILE *out = fopen(path, "w");
    if (out == NULL)
        return fails("%s: cannot make it", path);
    fprintf(out, "[general]\nversion = 1\n[[segment]]\n[[segment.mempool]]\nsize = %d\ncount = %d\n", CHUNK, CHUNKS);
    if (fclose(out) != 0)
        return fails("%s: cannot write it", path);
    const char *const words[] = {"iox-roudi", "-c", path, "-m", "off", NULL};
    if (daemon_start(&roudi->daemon, words, roudi->folder, "roudi") != 0)
        return 1;
    for (uint64_t since = now_ns(); !says(roudi->daemon.log, "RouDi is ready"); usleep(1000))
        if (daemon_has_ended(&roudi->daemon, &status) || now_ns() - since > PATIENCE_NS)
            return daemon_fails(&roudi->daemon, "iox-roudi does not come up; it");
    return 0;
}

static int begin(struct peer_job *job)
{
    struct roudi *roudi = calloc(1, sizeof *roudi);
    if (roudi == NULL)
        return fails("no memory");
    job->state = roudi;
    snprintf(roudi->folder, sizeof roudi->folder, "/tmp/evbus-bench-XXXXXX");
    return mkdtemp(roudi->folder) != NULL ? start(roudi) : fails("%s: cannot make it", roudi->folder);
}

static int end(struct peer_job *job)
{
    struct roudi *roudi = job->state;
    int rc = 0;
    if (roudi != NULL) {
        rc = daemon_stop(&roudi->daemon, "iox-roudi");
        folder_remove(roudi->folder);
    }
    free(roudi);
    return rc;
}

/* --- sides -------------------------------------------------------------------------------------------------------- */

static const char *way(int to)
{
    return to == 0 ? "to ping" : "to pong";
}

/* Both ways know each other: what is published before would go nowhere. */
static int connect(const struct peer_side *side, const struct ports *ports)
{
    for (uint64_t since = now_ns(); iox_sub_get_subscription_state(ports->subscriber) != SubscribeState_SUBSCRIBED ||
                                    (side->job->aim != PEER_SEND && !iox_pub_has_subscribers(ports->publisher));
         sched_yield())
        if (now_ns() - since > PATIENCE_NS)
            return fails("iceoryx: the sides do not find each other");
    return 0;
}

static int open_side(struct peer_side *side)
{
    char name[64];
    iox_pub_options_t sending;
    iox_sub_options_t receiving;
    struct ports *ports = calloc(1, sizeof *ports);
    if (ports == NULL)
        return fails("no memory");
    side->state = ports;
    snprintf(name, sizeof name, "evbus-bench-%d", (int)getpid());
    iox_set_loglevel(Iceoryx_LogLevel_Warn);
    iox_runtime_init(name);
    iox_pub_options_init(&sending);
    sending.subscriberTooSlowPolicy = ConsumerTooSlowPolicy_WAIT_FOR_CONSUMER;
    iox_sub_options_init(&receiving);
    receiving.queueCapacity = QUEUE;
    receiving.queueFullPolicy = QueueFullPolicy_BLOCK_PRODUCER;
    ports->publisher = iox_pub_init(&ports->publisher_at, "evbus", "bench", way(1 - side->index), &sending);
    ports->subscriber = iox_sub_init(&ports->subscriber_at, "evbus", "bench", way(side->index), &receiving);
    if (!side->job->spins) {
        ports->wait_set = iox_ws_init(&ports->wait_set_at);
        if (iox_ws_attach_subscriber_state(ports->wait_set, ports->subscriber, SubscriberState_HAS_DATA, 0, NULL) !=
            WaitSetResult_SUCCESS)
            return fails("iceoryx: the wait set takes no subscriber");
    }
    return connect(side, ports);
}

static void close_side(struct peer_side *side)
{
    struct ports *ports = side->state;
    if (ports->wait_set != NULL)
        iox_ws_deinit(ports->wait_set);
    iox_sub_deinit(ports->subscriber);
    iox_pub_deinit(ports->publisher);
    exit(0);
}

static int send_one(struct peer_side *side, const void *event, size_t len)
{
    const struct ports *ports = side->state;
    void *chunk;
    enum iox_AllocationResult rc = iox_pub_loan_chunk(ports->publisher, &chunk, (uint32_t)len);
    if (rc != AllocationResult_SUCCESS)
        return fails("iceoryx: no chunk: %d", (int)rc);
    memcpy(chunk, event, len);
    iox_pub_publish_chunk(ports->publisher, chunk);
    return 0;
}

static int receive(struct peer_side *side, bool waits)
{
    struct ports *ports = side->state;
    const void *chunk;
    iox_notification_info_t who;
    uint64_t n_missed;
    enum iox_ChunkReceiveResult rc;
    while ((rc = iox_sub_take_chunk(ports->subscriber, &chunk)) == ChunkReceiveResult_NO_CHUNK_AVAILABLE && waits)
        iox_ws_wait(ports->wait_set, &who, 1, &n_missed);
    if (rc != ChunkReceiveResult_SUCCESS)
        return rc == ChunkReceiveResult_NO_CHUNK_AVAILABLE ? PEER_NOTHING : fails("iceoryx: take: %d", (int)rc);
    /* A chunk's header has the size of its payload; it is what we were told to send. */
    int taken = side->take(side, chunk, side->job->len);
    iox_sub_release_chunk(ports->subscriber, chunk);
    return taken;
}

const struct peer peer_iceoryx = {.name = "iceoryx",
                                  .program = "iox-roudi",
                                  .package = "iceoryx",
                                  .can_spin = true,
                                  .can_block = true,
                                  .begin = begin,
                                  .end = end,
                                  .open = open_side,
                                  .close = close_side,
                                  .send = send_one,
                                  .receive = receive};
