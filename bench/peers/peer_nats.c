/* peer_nats.c: NATS JetStream with file storage, by the C client over TCP to this host, with a nats-server of the benchmark's own.
 *
 *   send     js_Publish(): returns with the server's acknowledgement
 *   put      js_PublishAsync(), at most UNDER_WAY without one; what the server refuses is an error
 *   receive  a durable push consumer, explicit acks, at most ACKS_OPEN of them open; each message is handled and acknowledged
 *   files    in the folder of the bus's journal. The server tells before they are synced: it does that every two minutes (sync_interval) */
#include "daemon.h"
#include "peers.h"

#include <errno.h>
#include <nats/nats.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

enum { UNDER_WAY = 1024, ACKS_OPEN = 4096, PATIENCE_MS = PATIENCE_NS / 1000000 };

struct server {
    struct daemon daemon;
    char folder[600];
    int port;
};

struct stream {
    natsConnection *connection;
    jsCtx *js;
    natsSubscription *subscription; /* NULL: it does not receive */
    const char *writes;
    _Atomic unsigned n_refused;
};

static const char *topic(int to)
{
    return to == 0 ? "bench.pong.sent" : "bench.ping.sent";
}

/* --- nats-server -------------------------------------------------------------------------------------------------- */

/* One that nobody has now; the server binds it at once. */
static int free_port(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool is_found = fd >= 0 && bind(fd, (const struct sockaddr *)&address, sizeof address) == 0 &&
                    getsockname(fd, (struct sockaddr *)&address, &len) == 0;
    if (fd >= 0)
        close(fd);
    return is_found ? ntohs(address.sin_port) : 0;
}

static bool answers(int port)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons((uint16_t)port)};
    char info[5] = "";
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool does = fd >= 0 && connect(fd, (const struct sockaddr *)&address, sizeof address) == 0 &&
                recv(fd, info, sizeof info - 1, MSG_WAITALL) == sizeof info - 1 && strcmp(info, "INFO") == 0;
    if (fd >= 0)
        close(fd);
    return does;
}

static int begin(struct peer_job *job)
{
    char program[512], port[16];
    int status;
    struct server *server = calloc(1, sizeof *server);
    if (server == NULL)
        return fails("no memory");
    job->state = server;
    server->daemon.end_signal = SIGINT; /* after SIGTERM its exit code is 1 */
    snprintf(server->folder, sizeof server->folder, "%s/nats", own_bus_folder());
    if (mkdir(server->folder, 0700) != 0)
        return fails("%s: %s", server->folder, strerror(errno));
    server->port = free_port();
    snprintf(port, sizeof port, "%d", server->port);
    program_find(job->peer->program, program, sizeof program);
    const char *const words[] = {program,       "--addr",      "127.0.0.1",    "--port", port,
                                 "--jetstream", "--store_dir", server->folder, NULL};
    if (daemon_start(&server->daemon, words, server->folder, "nats-server") != 0)
        return 1;
    for (uint64_t since = now_ns(); !answers(server->port); usleep(1000))
        if (daemon_has_ended(&server->daemon, &status) || now_ns() - since > PATIENCE_NS)
            return daemon_fails(&server->daemon, "nats-server does not answer; it");
    return 0;
}

static int end(struct peer_job *job)
{
    struct server *server = job->state;
    int rc = 0;
    if (server != NULL) {
        rc = daemon_stop(&server->daemon, "nats-server");
        folder_remove(server->folder);
    }
    free(server);
    return rc;
}

/* --- sides -------------------------------------------------------------------------------------------------------- */

static int refused(const char *what, natsStatus status)
{
    return fails("NATS: %s: %s: %s", what, natsStatus_GetText(status), nats_GetLastError(NULL));
}

static void note_refusal(jsCtx *js, jsPubAckErr *error, void *closure)
{
    struct stream *stream = closure;
    (void)js;
    (void)error;
    stream->n_refused++;
}

/* Side 0 makes the stream, side 1 waits until it is there. */
static natsStatus make_stream(const struct peer_side *side, jsCtx *js)
{
    const char *subjects[] = {topic(0), topic(1)};
    jsStreamConfig config;
    jsStreamInfo *info = NULL;
    natsStatus status;
    jsStreamConfig_Init(&config);
    config.Name = "BENCH";
    config.Subjects = subjects;
    config.SubjectsLen = 2;
    config.Storage = js_FileStorage;
    if (side->index == 0) {
        status = js_AddStream(&info, js, &config, NULL, NULL);
    } else {
        uint64_t since = now_ns();
        while ((status = js_GetStreamInfo(&info, js, config.Name, NULL, NULL)) == NATS_NOT_FOUND &&
               now_ns() - since < PATIENCE_NS)
            usleep(1000);
    }
    jsStreamInfo_Destroy(info);
    return status;
}

static natsStatus subscribe(const struct peer_side *side, struct stream *stream)
{
    jsSubOptions options;
    jsSubOptions_Init(&options);
    options.Stream = "BENCH";
    options.Config.Durable = side->index == 0 ? "ping" : "pong";
    options.Config.AckPolicy = js_AckExplicit;
    options.Config.MaxAckPending = ACKS_OPEN;
    return js_SubscribeSync(&stream->subscription, stream->js, topic(side->index), NULL, &options, NULL);
}

static int open_side(struct peer_side *side)
{
    const struct server *server = side->job->state;
    struct stream *stream = calloc(1, sizeof *stream);
    char url[64];
    jsOptions options;
    natsStatus status;
    if (stream == NULL)
        return fails("no memory");
    side->state = stream;
    stream->writes = topic(1 - side->index);
    snprintf(url, sizeof url, "nats://127.0.0.1:%d", server->port);
    jsOptions_Init(&options);
    options.PublishAsync.MaxPending = UNDER_WAY;
    options.PublishAsync.StallWait = PATIENCE_MS;
    options.PublishAsync.ErrHandler = note_refusal;
    options.PublishAsync.ErrHandlerClosure = stream;
    if ((status = natsConnection_ConnectTo(&stream->connection, url)) != NATS_OK)
        return refused(url, status);
    if ((status = natsConnection_JetStream(&stream->js, stream->connection, &options)) != NATS_OK ||
        (status = make_stream(side, stream->js)) != NATS_OK)
        return refused("the stream", status);
    bool receives = side->job->aim == PEER_ROUND_TRIP || side->index == 1;
    if (receives && (status = subscribe(side, stream)) != NATS_OK)
        return refused("the consumer", status);
    return 0;
}

/* The last acknowledgements go out. */
static void close_side(struct peer_side *side)
{
    struct stream *stream = side->state;
    natsConnection_Flush(stream->connection);
    natsSubscription_Destroy(stream->subscription);
    jsCtx_Destroy(stream->js);
    natsConnection_Destroy(stream->connection);
}

static int send_one(struct peer_side *side, const void *event, size_t len)
{
    struct stream *stream = side->state;
    natsStatus status = js_Publish(NULL, stream->js, stream->writes, event, (int)len, NULL, NULL);
    return status == NATS_OK ? 0 : refused("publish", status);
}

static int put(struct peer_side *side, const void *event, size_t len)
{
    struct stream *stream = side->state;
    natsStatus status = js_PublishAsync(stream->js, stream->writes, event, (int)len, NULL);
    return status == NATS_OK ? 0 : refused("publish", status);
}

static int flush(struct peer_side *side)
{
    struct stream *stream = side->state;
    jsPubOptions options;
    jsPubOptions_Init(&options);
    options.MaxWait = PATIENCE_MS;
    natsStatus status = js_PublishAsyncComplete(stream->js, &options);
    if (status != NATS_OK || stream->n_refused > 0)
        return refused("not all that was published was taken", status);
    return 0;
}

static int receive(struct peer_side *side, bool waits)
{
    struct stream *stream = side->state;
    natsMsg *message = NULL;
    natsStatus status = natsSubscription_NextMsg(&message, stream->subscription, waits ? PATIENCE_MS : 1);
    if (status == NATS_TIMEOUT && !waits)
        return PEER_NOTHING;
    if (status != NATS_OK)
        return refused("no message", status);
    int rc = side->take(side, natsMsg_GetData(message), (size_t)natsMsg_GetDataLength(message));
    if (rc == 0 && (status = natsMsg_Ack(message, NULL)) != NATS_OK)
        rc = refused("ack", status);
    natsMsg_Destroy(message);
    return rc;
}

const struct peer peer_nats = {.name = "NATS JetStream, file",
                               .program = "nats-server",
                               .package = "nats-server",
                               .can_block = true,
                               .has_helper = true,
                               .begin = begin,
                               .end = end,
                               .open = open_side,
                               .close = close_side,
                               .send = send_one,
                               .put = put,
                               .flush = flush,
                               .receive = receive};
