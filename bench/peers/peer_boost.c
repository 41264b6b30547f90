/* peer_boost.c: Boost.Interprocess message_queue, one each way, DEPTH events deep. It copies in and out under a mutex in shared memory; its
 * sender waits when it is full. Spinning asks by try_receive(). */
#include "boost_queue.h"
#include "peers.h"

#include <stdlib.h>
#include <unistd.h>

enum { DEPTH = 1024 };

struct queues {
    struct boost_queue *reads, *writes;
    char buffer[PAYLOAD_MAX];
};

/* Of what is sent to side `to`. state: the parent's pid. */
static void queue_name(char *out, size_t size, const struct peer_job *job, int to)
{
    snprintf(out, size, "evbus-bench-boost-%d-%d", *(const pid_t *)job->state, to);
}

static int begin(struct peer_job *job)
{
    pid_t *pid = malloc(sizeof *pid);
    if (pid == NULL)
        return fails("no memory");
    *pid = getpid();
    job->state = pid;
    for (int to = 0; to < 2; to++) {
        char name[64];
        queue_name(name, sizeof name, job, to);
        if (!boost_queue_create(name, DEPTH, job->len))
            return fails("message_queue %s: cannot make it", name);
    }
    return 0;
}

static int end(struct peer_job *job)
{
    for (int to = 0; job->state != NULL && to < 2; to++) {
        char name[64];
        queue_name(name, sizeof name, job, to);
        boost_queue_remove(name);
    }
    free(job->state);
    return 0;
}

static int open_side(struct peer_side *side)
{
    char name[64];
    struct queues *queues = calloc(1, sizeof *queues);
    if (queues == NULL)
        return fails("no memory");
    queue_name(name, sizeof name, side->job, side->index);
    queues->reads = boost_queue_open(name);
    queue_name(name, sizeof name, side->job, 1 - side->index);
    queues->writes = boost_queue_open(name);
    side->state = queues;
    return queues->reads != NULL && queues->writes != NULL ? 0 : fails("message_queue %s: cannot open it", name);
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
