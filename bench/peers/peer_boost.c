/* peer_boost.c: Boost.Interprocess message_queue, one each way, DEPTH events deep. It copies in and out under a mutex in shared memory; its
 * sender waits when it is full. Spinning asks by try_receive(). */
#include "boost_queue.h"
#include "peers.h"

#include <stdlib.h>

enum { DEPTH = 1024 };

struct queues {
    struct boost_queue *reads, *writes;
    char buffer[PAYLOAD_MAX];
};

static int begin(struct peer_job *job)
{
    for (int to = 0; to < 2; to++)
        if (!boost_queue_create(job->names[to], DEPTH, job->len))
            return fails("message_queue %s: cannot make it", job->names[to]);
    return 0;
}

static int end(struct peer_job *job)
{
    for (int to = 0; to < 2; to++)
        boost_queue_remove(job->names[to]);
    return 0;
}

static int open_side(struct peer_side *side)
{
    const struct peer_job *job = side->job;
    struct queues *queues = calloc(1, sizeof *queues);
    if (queues == NULL)
        return fails("no memory");
    queues->reads = boost_queue_open(job->names[side->index]);
    queues->writes = boost_queue_open(job->names[1 - side->index]);
    side->state = queues;
    return queues->reads != NULL && queues->writes != NULL ? 0 : fails("message_queue: cannot open it");
}

static int send_one(struct peer_side *side, const void *event, size_t len)
{
    const struct queues *queues = side->state;
    return boost_queue_send(queues->writes, event, len) ? 0 : fails("message_queue: send failed");
}

static int receive(struct peer_side *side, bool waits)
{
    struct queues *queues = side->state;
    long n = boost_queue_receive(queues->reads, queues->buffer, side->job->len, waits);
    if (n <= 0)
        return n == 0 ? PEER_NOTHING : fails("message_queue: receive failed");
    return side->take(side, queues->buffer, (size_t)n);
}

const struct peer peer_boost = {.name = "Boost message_queue",
                                .can_spin = true,
                                .can_block = true,
                                .begin = begin,
                                .end = end,
                                .open = open_side,
                                .send = send_one,
                                .receive = receive};
