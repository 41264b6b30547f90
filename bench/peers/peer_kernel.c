/* peer_kernel.c: what the kernel has itself: a pipe, a Unix stream socket, a POSIX message queue.
 *
 *   pipe    one each way. An event is one write() (at most PIPE_BUF: atomic); a reader takes up to READ_MAX in one read() and cuts it into events,
 *           which all have one length here: no frame is paid for
 *   stream  socketpair(), one socket for both ways; the same otherwise
 *   mq      one queue each way, as deep as the kernel lets everybody make one (fs.mqueue.msg_max, 10 where nobody has changed it); one call per
 *           event on both sides, as the interface has it
 *
 * Each blocks its sender when it is full. Spinning, the reading end is non-blocking and asked again and again. */
#include "peers.h"

#include <errno.h>
#include <fcntl.h>
#include <mqueue.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { READ_MAX = 65536, MQ_DEPTH = 10 };

/* --- pipe and stream ---------------------------------------------------------------------------------------------- */

/* reads[i], writes[i]: of side i. */
struct ends {
    int reads[2], writes[2];
};

struct bytes {
    int reads, writes;
    bool is_nonblocking;
    size_t n; /* in `buffer`, less than an event between two calls */
    char buffer[READ_MAX];
};

static int pipe_begin(struct peer_job *job)
{
    int to[2][2]; /* to side i */
    struct ends *ends = calloc(1, sizeof *ends);
    if (ends == NULL || pipe2(to[0], O_CLOEXEC) != 0 || pipe2(to[1], O_CLOEXEC) != 0)
        return fails("pipe: %s", strerror(errno));
    *ends = (struct ends){.reads = {to[0][0], to[1][0]}, .writes = {to[1][1], to[0][1]}};
    job->state = ends;
    return 0;
}

static int stream_begin(struct peer_job *job)
{
    int pair[2];
    struct ends *ends = calloc(1, sizeof *ends);
    if (ends == NULL || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0)
        return fails("socketpair: %s", strerror(errno));
    *ends = (struct ends){.reads = {pair[0], pair[1]}, .writes = {pair[0], pair[1]}};
    job->state = ends;
    return 0;
}

static int ends_end(struct peer_job *job)
{
    struct ends *ends = job->state;
    for (int i = 0; ends != NULL && i < 2; i++) {
        close(ends->reads[i]);
        if (ends->writes[i] != ends->reads[i])
            close(ends->writes[i]);
    }
    free(ends);
    return 0;
}

static int bytes_open(struct peer_side *side)
{
    const struct ends *ends = side->job->state;
    struct bytes *bytes = calloc(1, sizeof *bytes);
    if (bytes == NULL)
        return fails("no memory");
    bytes->reads = ends->reads[side->index];
    bytes->writes = ends->writes[side->index];
    side->state = bytes;
    return 0;
}

static int bytes_send(struct peer_side *side, const void *event, size_t len)
{
    const struct bytes *bytes = side->state;
    const char *at = event;
    while (len > 0) {
        ssize_t n = write(bytes->writes, at, len);
        if (n <= 0)
            return fails("%s: write: %s", side->job->peer->name, strerror(errno));
        at += n;
        len -= (size_t)n;
    }
    return 0;
}

/* Reads what is there behind what is left over. As peer->receive. */
static int fill_pipe(struct bytes *bytes, bool waits)
{
    if (!waits && !bytes->is_nonblocking)
        bytes->is_nonblocking = fcntl(bytes->reads, F_SETFL, O_NONBLOCK) == 0;
    ssize_t n = read(bytes->reads, bytes->buffer + bytes->n, READ_MAX - bytes->n);
    if (n > 0)
        bytes->n += (size_t)n;
    return n > 0 ? 0 : n < 0 && errno == EAGAIN ? PEER_NOTHING : fails("pipe: read: %s", strerror(errno));
}

static int fill_stream(struct bytes *bytes, bool waits)
{
    ssize_t n = recv(bytes->reads, bytes->buffer + bytes->n, READ_MAX - bytes->n, waits ? 0 : MSG_DONTWAIT);
    if (n > 0)
        bytes->n += (size_t)n;
    return n > 0 ? 0 : n < 0 && errno == EAGAIN ? PEER_NOTHING : fails("Unix stream: recv: %s", strerror(errno));
}

static int bytes_receive(struct peer_side *side, bool waits, int (*fill)(struct bytes *bytes, bool waits))
{
    struct bytes *bytes = side->state;
    size_t len = side->job->len, done = 0;
    while (bytes->n < len) {
        int rc = fill(bytes, waits);
        if (rc == PEER_NOTHING && bytes->n > 0)
            continue; /* the rest of it is on its way */
        if (rc != 0)
            return rc;
    }
    for (; bytes->n - done >= len; done += len)
        if (side->take(side, bytes->buffer + done, len) != 0)
            return 1;
    bytes->n -= done;
    memmove(bytes->buffer, bytes->buffer + done, bytes->n);
    return 0;
}

static int pipe_receive(struct peer_side *side, bool waits)
{
    return bytes_receive(side, waits, fill_pipe);
}

static int stream_receive(struct peer_side *side, bool waits)
{
    return bytes_receive(side, waits, fill_stream);
}

const struct peer peer_pipe = {.name = "pipe",
                               .can_spin = true,
                               .can_block = true,
                               .begin = pipe_begin,
                               .end = ends_end,
                               .open = bytes_open,
                               .send = bytes_send,
                               .receive = pipe_receive};

const struct peer peer_stream = {.name = "Unix stream",
                                 .can_spin = true,
                                 .can_block = true,
                                 .begin = stream_begin,
                                 .end = ends_end,
                                 .open = bytes_open,
                                 .send = bytes_send,
                                 .receive = stream_receive};

/* --- POSIX mq ----------------------------------------------------------------------------------------------------- */

struct queues {
    mqd_t reads, writes;
    char buffer[PAYLOAD_MAX];
};

static int mq_begin(struct peer_job *job)
{
    long depth = MQ_DEPTH;
    FILE *in = fopen("/proc/sys/fs/mqueue/msg_max", "r");
    if (in != NULL && fscanf(in, "%ld", &depth) != 1)
        depth = MQ_DEPTH;
    if (in != NULL)
        fclose(in);
    for (int to = 0; to < 2; to++) {
        struct mq_attr attributes = {.mq_maxmsg = depth, .mq_msgsize = (long)job->len};
        mqd_t queue = mq_open(job->names[to], O_CREAT | O_EXCL | O_RDWR, 0600, &attributes);
        if (queue == (mqd_t)-1)
            return fails("mq_open %s: %s", job->names[to], strerror(errno));
        mq_close(queue);
    }
    return 0;
}

static int mq_end(struct peer_job *job)
{
    for (int to = 0; to < 2; to++)
        mq_unlink(job->names[to]);
    return 0;
}

static int mq_open_side(struct peer_side *side)
{
    const struct peer_job *job = side->job;
    struct queues *queues = calloc(1, sizeof *queues);
    if (queues == NULL)
        return fails("no memory");
    queues->reads = mq_open(job->names[side->index], O_RDONLY | (job->spins ? O_NONBLOCK : 0));
    queues->writes = mq_open(job->names[1 - side->index], O_WRONLY);
    side->state = queues;
    return queues->reads != (mqd_t)-1 && queues->writes != (mqd_t)-1 ? 0 : fails("mq_open: %s", strerror(errno));
}

static int mq_send_one(struct peer_side *side, const void *event, size_t len)
{
    const struct queues *queues = side->state;
    return mq_send(queues->writes, event, len, 0) == 0 ? 0 : fails("mq_send: %s", strerror(errno));
}

static int mq_receive_one(struct peer_side *side, bool waits)
{
    struct queues *queues = side->state;
    struct mq_attr attributes;
    if (!waits && !side->job->spins && mq_getattr(queues->reads, &attributes) == 0 && attributes.mq_curmsgs == 0)
        return PEER_NOTHING;
    ssize_t n = mq_receive(queues->reads, queues->buffer, side->job->len, NULL);
    if (n < 0)
        return errno == EAGAIN ? PEER_NOTHING : fails("mq_receive: %s", strerror(errno));
    return side->take(side, queues->buffer, (size_t)n);
}

const struct peer peer_mq = {.name = "POSIX mq",
                             .can_spin = true,
                             .can_block = true,
                             .begin = mq_begin,
                             .end = mq_end,
                             .open = mq_open_side,
                             .send = mq_send_one,
                             .receive = mq_receive_one};
