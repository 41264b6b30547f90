/* backend_file.c: a broker that is one file: for tests, demos, and to show what behind backend.h is Redis' and what is
 * not.
 *
 *     ask, send, trim   wait in a queue until service(): there all is done in order, synced once, and answered
 *     listen, more      each listener has a place in the log; service() gives out what stands behind it
 *     the log           file_log.c: what is appended when, and why that is exactly once; a line: file_line.c
 *
 * An id is <made>-<line's offset>-<index in it>: a log that was removed and made anew has higher ones, and ids of the
 * old are known for what they are: reset. Nothing is ever removed: trimmed() says so, and reports are of no use.
 *
 * Away it is when the folder is gone or the disk has failed. Inotify wakes us when anybody appends, or takes the log
 * away. Checked by tests/broker/conformance.c and test_file.c. */
#include "config.h"
#include "file_log.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#define PREFIX     "file:"
#define GIVEN_MAX  256                  /* entries in one arrived() */
#define FIELDS_MAX 256                  /* of one entry; what a foreign program has more is left out */
#define SCAN_BYTES ((uint64_t)16 << 20) /* in one service(), while the log is being opened */

enum request_kind { ASK, APPEND, TRIM };

struct request {
    struct request *next;
    enum request_kind kind;
    uint64_t ticket;
    struct file_batch batch; /* ASK: its events are streams alone. TRIM: log is the stream */
    enum backend_result result;
    char why[FILE_LOG_WHY];
};

struct listener {
    struct listener *next;
    char stream[MARK_STREAM_SIZE];
    uint64_t made, offset, index; /* which log; which line; in it: what comes next */
    bool wants;
    bool was_told; /* that nothing is there now */
};

struct given {
    struct backend_entry entries[GIVEN_MAX];
    char ids[GIVEN_MAX][64];
    struct entry_field fields[GIVEN_MAX][FIELDS_MAX];
};

struct file {
    struct backend base;
    const struct config *config;
    const char *origin;
    const struct backend_callbacks *callbacks;
    void *context;

    struct file_log log;
    bool is_here;
    char told[FILE_LOG_WHY]; /* why it is away, as told last */
    uint64_t retry_ms;
    uint64_t delay_ms;

    struct entry entry;              /* the last event */
    struct request *batch;           /* that is being made */
    struct request *queue, **queued; /* the first, and where the next goes */
    struct listener *listeners;
    struct given *given;
    char *texts; /* decoded ones of what is given */
    size_t texts_cap;
};

static void *must(void *memory)
{
    if (memory == NULL)
        abort(); /* see file_line.c */
    return memory;
}

static uint64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* --- requests ----------------------------------------------------------------------------------------------------- */

static struct request *new_request(enum request_kind kind, const char *log, uint32_t partition)
{
    struct request *request = must(calloc(1, sizeof *request));
    request->kind = kind;
    request->batch.partition = partition;
    snprintf(request->batch.log, sizeof request->batch.log, "%s", log);
    return request;
}

static struct file_event *new_event(struct file_batch *batch, const char *stream)
{
    size_t n = batch->n_events;
    if ((n & (n - 1)) == 0) /* a power of two, or 0: it is full */
        batch->events = must(realloc(batch->events, (n > 0 ? 2 * n : 1) * sizeof *batch->events));
    struct file_event *event = &batch->events[batch->n_events++];
    *event = (struct file_event){.at = batch->text.len};
    snprintf(event->stream, sizeof event->stream, "%s", stream);
    return event;
}

static void free_request(struct request *request)
{
    if (request == NULL)
        return;
    free(request->batch.events);
    free(request->batch.text.at);
    free(request);
}

static void enqueue(struct file *file, struct request *request)
{
    *file->queued = request;
    file->queued = &request->next;
}

static void answer_marks(struct file *file, const struct request *request)
{
    const struct file_batch *batch = &request->batch;
    size_t n = request->result == BACKEND_OK ? batch->n_events : 0;
    struct backend_mark *marks = must(calloc(n > 0 ? n : 1, sizeof *marks));
    char end[64] = "";
    if (file->log.scanned > 0) /* what comes next stands at `scanned` */
        snprintf(end, sizeof end, "%" PRIu64 "-%" PRIu64 "-0", file->log.made, file->log.scanned - 1);
    for (size_t i = 0; i < n; i++) {
        const char *stream = batch->events[i].stream;
        const struct file_mark *mark = file_log_mark(&file->log, file->origin, batch->partition, stream);
        marks[i] = (struct backend_mark){
            .topic = file->config->layout == CONFIG_LAYOUT_LOG ? NULL : stream,
            .position = mark->position,
            .epoch = mark->epoch,
            .incarnation = mark->incarnation,
            .end = end,
        };
    }
    file->callbacks->marks(file->context, batch->log, batch->partition, request->result, marks, n, request->why);
    free(marks);
}

static void answer(struct file *file, const struct request *request)
{
    static const struct backend_trimmed nothing = {.kept_from = "", .kept_for = "ever"};
    if (request->kind == ASK)
        answer_marks(file, request);
    else if (request->kind == APPEND)
        file->callbacks->appended(file->context, request->ticket, request->result, request->why);
    else if (request->result == BACKEND_OK)
        file->callbacks->trimmed(file->context, request->batch.log, &nothing);
}

static void answer_all(struct file *file, struct request *first)
{
    for (struct request *request = first, *next; request != NULL; request = next) {
        answer(file, request);
        next = request->next;
        free_request(request);
    }
}

/* All that waits, in order; synced once; then the answers. Callbacks may put new ones into the queue. Faults: lose()
 * answers. */
static void serve_requests(struct file *file)
{
    struct request *first = file->queue;
    for (struct request *request = first; request != NULL; request = request->next) {
        if (request->kind == APPEND)
            request->result = file_log_append(&file->log, file->origin, &request->batch, request->why);
        if (file->log.fault[0] != '\0')
            return;
    }
    if (!file_log_sync(&file->log))
        return;
    file->delay_ms = 0;
    file->queue = NULL;
    file->queued = &file->queue;
    answer_all(file, first);
}

/* What became of all that was under way nobody knows. We try again later, by and by more rarely. */
static void lose(struct file *file)
{
    struct request *first = file->queue;
    uint32_t jitter = 0;
    file_log_close(&file->log);
    (void)getrandom(&jitter, sizeof jitter, GRND_NONBLOCK);
    file->delay_ms = file->delay_ms == 0 ? 50 : file->delay_ms < 2500 ? file->delay_ms * 2 : 5000;
    file->retry_ms = now_ms() + file->delay_ms / 2 + jitter % (file->delay_ms / 2 + 1);
    file->is_here = false;
    file->queue = NULL;
    file->queued = &file->queue;
    for (struct request *request = first; request != NULL; request = request->next) {
        request->result = BACKEND_AWAY;
        memcpy(request->why, file->log.fault, sizeof request->why);
    }
    answer_all(file, first);
    if (strcmp(file->log.fault, file->told) != 0) {
        memcpy(file->told, file->log.fault, sizeof file->told);
        file->callbacks->state(file->context, false, file->told);
    }
    file->log.fault[0] = '\0';
}

/* --- listeners ---------------------------------------------------------------------------------------------------- */

/* A position of a log that is no more, or of what is not there any more. */
static bool is_from_elsewhere(const struct file *file, const struct listener *listener)
{
    return (listener->made != file->log.made || listener->offset > file->log.scanned) &&
           (listener->offset != 0 || listener->index != 0);
}

/* Gathers what is of its stream in the next chunk. *next: where it goes on behind it. false: fault. */
static bool gather(struct file *file, const struct listener *listener, struct listener *next, size_t *out_n)
{
    struct slice lines, line, entry;
    char quoted[MARK_STREAM_SIZE + 2];
    *out_n = 0;
    *next = *listener;
    if (!file_log_read(&file->log, listener->offset, &lines))
        return false;
    if (file->texts_cap < lines.len) {
        free(file->texts);
        file->texts_cap = 2 * lines.len;
        file->texts = must(malloc(file->texts_cap));
    }
    char *texts = file->texts;
    size_t quoted_len = (size_t)snprintf(quoted, sizeof quoted, "\"%s\"", listener->stream);
    for (struct slice rest = lines; file_log_line(&rest, &line);) {
        uint64_t offset = listener->offset + (uint64_t)(line.at - lines.at), index = 0;
        if (memmem(line.at, line.len, quoted, quoted_len) != NULL && line_is_whole(line) &&
            !file_log_ignores(&file->log, offset))
            for (const char *at = NULL; line_entry(line, &at, &entry); index++) {
                if ((offset == listener->offset && index < listener->index) || !line_is_of(entry, listener->stream))
                    continue;
                if (*out_n == GIVEN_MAX) {
                    next->offset = offset;
                    next->index = index;
                    return true;
                }
                size_t i = (*out_n)++;
                snprintf(file->given->ids[i], sizeof file->given->ids[i], "%" PRIu64 "-%" PRIu64 "-%" PRIu64,
                         file->log.made, offset, index);
                file->given->entries[i] = (struct backend_entry){
                    .id = file->given->ids[i],
                    .fields = file->given->fields[i],
                    .n_fields = line_fields(entry, file->given->fields[i], FIELDS_MAX, &texts),
                };
            }
        next->offset = offset + line.len + 1;
        next->index = 0;
    }
    return true;
}

/* One arrived() at most. */
static void serve_listener(struct file *file, struct listener *listener)
{
    struct listener next;
    size_t n;
    if (is_from_elsewhere(file, listener)) {
        listener->offset = listener->index = 0;
        listener->made = file->log.made;
        file->callbacks->reset(file->context, listener->stream, "");
    }
    listener->made = file->log.made;
    if (!listener->wants || !gather(file, listener, &next, &n))
        return;
    if (n > 0) {
        listener->wants = listener->was_told = false;
        if (file->callbacks->arrived(file->context, listener->stream, file->given->entries, n)) {
            listener->offset = next.offset;
            listener->index = next.index;
        }
        return;
    }
    listener->offset = next.offset;
    listener->index = next.index;
    if (listener->offset == file->log.scanned && !listener->was_told) {
        listener->was_told = true;
        (void)file->callbacks->arrived(file->context, listener->stream, NULL, 0);
    }
}

static bool has_work(const struct file *file, const struct listener *listener)
{
    return is_from_elsewhere(file, listener) ||
           (listener->wants && (listener->offset < file->log.scanned || !listener->was_told));
}

static void read_id(const char *id, uint64_t out[3])
{
    for (unsigned i = 0; i < 3; i++) {
        char *end;
        out[i] = strtoull(id, &end, 10);
        id = end + (*end == '-');
    }
}

/* --- the class ---------------------------------------------------------------------------------------------------- */

static struct file *of(struct backend *backend)
{
    return (struct file *)backend;
}

static int file_open(struct backend **out, const struct config *config, const char *origin,
                     const struct backend_callbacks *callbacks, void *context, char *error)
{
    if (strncmp(config->broker, PREFIX, strlen(PREFIX)) != 0 || config->broker[strlen(PREFIX)] == '\0') {
        snprintf(error, EVBUS_ERROR_MAX, "broker \"%.200s\" names no folder; write file:FOLDER", config->broker);
        return EVBUS_EINVAL;
    }
    struct file *file = must(calloc(1, sizeof *file));
    file->base.class = &backend_file;
    file->config = config;
    file->origin = origin;
    file->callbacks = callbacks;
    file->context = context;
    file->queued = &file->queue;
    file->given = must(malloc(sizeof *file->given));
    file_log_init(&file->log, config->broker + strlen(PREFIX));
    *out = &file->base;
    return EVBUS_OK;
}

static void file_close(struct backend *backend)
{
    struct file *file = of(backend);
    file_log_end(&file->log);
    free_request(file->batch);
    for (struct request *request = file->queue, *next; request != NULL; request = next) {
        next = request->next;
        free_request(request);
    }
    for (struct listener *listener = file->listeners, *next; listener != NULL; listener = next) {
        next = listener->next;
        free(listener);
    }
    free(file->texts);
    free(file->given);
    free(file);
}

static size_t file_fds(struct backend *backend, struct pollfd *fds, size_t cap, int *inout_timeout_ms)
{
    struct file *file = of(backend);
    int timeout_ms = *inout_timeout_ms;
    if (file->log.fd < 0) {
        uint64_t now = now_ms(), left_ms = file->retry_ms > now ? file->retry_ms - now : 0;
        if (timeout_ms < 0 || left_ms < (uint64_t)timeout_ms)
            timeout_ms = (int)left_ms;
    }
    bool is_busy = file->log.fd >= 0 && (!file->is_here || file->queue != NULL);
    for (const struct listener *listener = file->listeners; listener != NULL && file->is_here;
         listener = listener->next)
        is_busy = is_busy || has_work(file, listener);
    *inout_timeout_ms = is_busy ? 0 : timeout_ms;
    if (file->log.bell < 0 || cap == 0)
        return 0;
    fds[0] = (struct pollfd){.fd = file->log.bell, .events = POLLIN};
    return 1;
}

static void file_service(struct backend *backend, const struct pollfd *fds, size_t n)
{
    struct file *file = of(backend);
    struct file_log *log = &file->log;
    char events[4096];
    bool is_all = false;
    (void)fds;
    (void)n;
    if (log->fd < 0 && now_ms() < file->retry_ms)
        return;
    while (log->bell >= 0 && read(log->bell, events, sizeof events) > 0)
        ; /* that it rang is all */
    bool is_open = log->fd >= 0 ? file_log_look(log) : file_log_open(log);
    if (is_open && file_log_scan(log, file->is_here ? UINT64_MAX : SCAN_BYTES, &is_all) && is_all && !file->is_here) {
        file->is_here = true;
        file->told[0] = '\0';
        file->callbacks->state(file->context, true, "");
    }
    if (file->is_here && log->fault[0] == '\0' && file->queue != NULL)
        serve_requests(file);
    for (struct listener *listener = file->listeners; listener != NULL && file->is_here && log->fault[0] == '\0';
         listener = listener->next)
        serve_listener(file, listener);
    if (log->fault[0] != '\0')
        lose(file);
}

static bool file_ask(struct backend *backend, const char *log, uint32_t partition, const char *const *topics, size_t n)
{
    struct file *file = of(backend);
    if (!file->is_here)
        return false;
    struct request *request = new_request(ASK, log, partition);
    if (file->config->layout == CONFIG_LAYOUT_LOG)
        new_event(&request->batch, log);
    for (size_t i = 0; i < n && file->config->layout == CONFIG_LAYOUT_TOPIC; i++)
        new_event(&request->batch, topics[i]);
    enqueue(file, request);
    return true;
}

static bool file_begin(struct backend *backend, const char *log, uint32_t partition, uint64_t epoch,
                       uint64_t incarnation)
{
    struct file *file = of(backend);
    free_request(file->batch);
    file->batch = NULL;
    if (!file->is_here)
        return false;
    file->batch = new_request(APPEND, log, partition);
    file->batch->batch.epoch = epoch;
    file->batch->batch.incarnation = incarnation;
    return true;
}

static bool file_add(struct backend *backend, const struct evbus_delivery *delivery, uint64_t prev)
{
    struct file *file = of(backend);
    if (file->batch == NULL)
        return false;
    struct file_batch *batch = &file->batch->batch;
    size_t n = batch->n_events, len = batch->text.len;
    if (n >= file->config->batch_events && n > 0)
        return false;
    struct file_event *event = new_event(batch,
                                         file->config->layout == CONFIG_LAYOUT_LOG ? delivery->log : delivery->topic);
    event->position = delivery->position;
    event->prev = prev;
    entry_write(delivery, file->origin, prev, &file->entry);
    line_put_entry(&batch->text, event->stream, &file->entry);
    event->len = batch->text.len - len;
    if (batch->text.len <= file->config->batch_bytes || n == 0) /* one goes, however large it is */
        return true;
    batch->n_events = n;
    batch->text.len = len;
    return false;
}

static bool file_send(struct backend *backend, uint64_t ticket)
{
    struct file *file = of(backend);
    struct request *batch = file->batch;
    file->batch = NULL;
    if (batch == NULL || !file->is_here) {
        free_request(batch);
        return false;
    }
    batch->ticket = ticket;
    enqueue(file, batch);
    return true;
}

static struct listener *listener_of(struct file *file, const char *stream)
{
    struct listener *listener = file->listeners;
    while (listener != NULL && strcmp(listener->stream, stream) != 0)
        listener = listener->next;
    return listener;
}

static int file_listen(struct backend *backend, const char *stream, const char *id)
{
    struct file *file = of(backend);
    struct listener *listener = listener_of(file, stream);
    uint64_t place[3];
    if (listener == NULL) {
        listener = must(calloc(1, sizeof *listener));
        snprintf(listener->stream, sizeof listener->stream, "%s", stream);
        listener->next = file->listeners;
        file->listeners = listener;
    }
    read_id(id, place);
    listener->made = place[0];
    listener->offset = place[1];
    listener->index = id[0] != '\0' ? place[2] + 1 : 0;
    listener->wants = listener->was_told = false;
    return EVBUS_OK;
}

static void file_more(struct backend *backend, const char *stream)
{
    struct listener *listener = listener_of(of(backend), stream);
    if (listener != NULL)
        listener->wants = true;
}

static int file_id_compare(const char *left, const char *right)
{
    uint64_t of_left[3], of_right[3];
    read_id(left, of_left);
    read_id(right, of_right);
    for (unsigned i = 0; i < 3; i++)
        if (of_left[i] != of_right[i])
            return of_left[i] < of_right[i] ? -1 : 1;
    return (left[0] != '\0') - (right[0] != '\0');
}

/* Nothing goes, so nobody has to be waited for. */
static void file_report(struct backend *backend, const char *stream, const char *id)
{
    (void)backend;
    (void)stream;
    (void)id;
}

static void file_trim(struct backend *backend, const char *stream)
{
    if (of(backend)->is_here)
        enqueue(of(backend), new_request(TRIM, stream, 0));
}

const struct backend_class backend_file = {
    .name = "file",
    .is_by_line = true,
    .open = file_open,
    .close = file_close,
    .fds = file_fds,
    .service = file_service,
    .ask = file_ask,
    .begin = file_begin,
    .add = file_add,
    .send = file_send,
    .listen = file_listen,
    .more = file_more,
    .id_compare = file_id_compare,
    .report = file_report,
    .trim = file_trim,
};
