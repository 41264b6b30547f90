/* peer_zmq.c: ZeroMQ over ipc://, a PUSH and a PULL socket each way, as it comes: 1,000 messages may wait at either end (ZMQ_SNDHWM, ZMQ_RCVHWM),
 * then zmq_send() waits. A context has a thread for the sockets' input and output, which sleeps in epoll between two events: spinning in
 * zmq_recv() would only take its processor away, so it is not measured. */
#include "peers.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zmq.h>

struct sockets {
    void *context, *reads, *writes;
    char buffer[PAYLOAD_MAX + 1]; /* longer than was sent is seen */
};

/* state: the folder. */
static int begin(struct peer_job *job)
{
    char folder[] = "/tmp/evbus-bench-XXXXXX";
    if (mkdtemp(folder) == NULL)
        return fails("%s: cannot make it", folder);
    job->state = strdup(folder);
    return job->state != NULL ? 0 : fails("no memory");
}

static int end(struct peer_job *job)
{
    for (int to = 0; job->state != NULL && to < 2; to++) {
        char path[64];
        snprintf(path, sizeof path, "%s/%d", (const char *)job->state, to);
        unlink(path);
    }
    if (job->state != NULL)
        rmdir(job->state);
    free(job->state);
    return 0;
}

static int open_side(struct peer_side *side)
{
    char endpoint[64];
    struct sockets *sockets = calloc(1, sizeof *sockets);
    if (sockets == NULL || (sockets->context = zmq_ctx_new()) == NULL)
        return fails("no memory");
    side->state = sockets;
    sockets->reads = zmq_socket(sockets->context, ZMQ_PULL);
    sockets->writes = zmq_socket(sockets->context, ZMQ_PUSH);
    snprintf(endpoint, sizeof endpoint, "ipc://%s/%d", (const char *)side->job->state, side->index);
    if (sockets->reads == NULL || sockets->writes == NULL || zmq_bind(sockets->reads, endpoint) != 0)
        return fails("%s: %s", endpoint, zmq_strerror(zmq_errno()));
    snprintf(endpoint, sizeof endpoint, "ipc://%s/%d", (const char *)side->job->state, 1 - side->index);
    return zmq_connect(sockets->writes, endpoint) == 0 ? 0 : fails("%s: %s", endpoint, zmq_strerror(zmq_errno()));
}

/* What was sent last may still be in here: the end of the context waits until it has gone. */
static void close_side(struct peer_side *side)
{
    struct sockets *sockets = side->state;
    zmq_close(sockets->writes);
    zmq_close(sockets->reads);
    zmq_ctx_term(sockets->context);
}

static int send_one(struct peer_side *side, const void *event, size_t len)
{
    const struct sockets *sockets = side->state;
    return zmq_send(sockets->writes, event, len, 0) == (int)len ? 0 : fails("zmq_send: %s", zmq_strerror(zmq_errno()));
}

static int receive(struct peer_side *side, bool waits)
{
    struct sockets *sockets = side->state;
    int n = zmq_recv(sockets->reads, sockets->buffer, sizeof sockets->buffer, waits ? 0 : ZMQ_DONTWAIT);
    if (n < 0)
        return zmq_errno() == EAGAIN ? PEER_NOTHING : fails("zmq_recv: %s", zmq_strerror(zmq_errno()));
    return side->take(side, sockets->buffer, (size_t)n);
}

const struct peer peer_zmq = {.name = "ZeroMQ ipc",
                              .can_block = true,
                              .has_helper = true,
                              .begin = begin,
                              .end = end,
                              .open = open_side,
                              .close = close_side,
                              .send = send_one,
                              .receive = receive};
