/* journal_throughput.c: how many events per second go through the journal to a group, beside a bare append?
 *
 *   evbus  1 or 2 producer processes publish as fast as they can, one by one or in batches, ack memory, on one topic of
 *          one partition; the keeper, a thread of one of the processes, appends; one member of a group, in evbus_run(),
 *          handles each event, compares each byte, and acknowledges. A first part is handled and journaled before time begins; it ends when the last
 *          event is acknowledged and `journaled` has come to the tail, as evbus_stat() has it.
 *   bare   A: one process, nobody else, no ring. It does with the same frames what the keeper does: copies each into a
 *          buffer, puts its CRC32C in, and calls pwrite per MiB; fdatasync when the oldest byte that is not synced is
 *          200 ms old. One file in the same folder. The frames are as long as those of the bus: how far `journaled`
 *          comes is held against it.
 *   files  the same, and an fdatasync per 16 MiB: the bus begins another file after 16 laps of the ring, of 1 MiB
 *          here, and has synced the one before by then. What is written sets out for the disk at once, as the keeper's does
 *   bytes  what stands in the files: whole cells of 64 bytes, header, key and paddings included, and the few cells
 *          that are left over at the end of each lap
 *
 * A may end before its first fdatasync: then it is what the page cache takes. What the disk takes is less, and shared
 * by all who write: stderr tells the fdatasyncs of each figure. Each begins with a bus of its own and empty files.
 * With a processor for each role and for the keeper, roles are pinned and spin. With fewer they are not pinned and
 * wait as services do by default, and the figure says "crowded"; the bare append is pinned.
 *
 * No time fails this program; an event that is lost, changed, out of its key's order or handled twice does. */
#include "own_bus.h"
#include "stream.h"

#include <evbus/admin.h>

#include <errno.h>
#include <fcntl.h>
#include <isa-l/crc.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PRODUCERS_MAX = 2, N_KEYS = 1000, KEY_LEN = 4 };

#define TOPIC      "bench.ping.sent"
#define LOG        "bench.ping"
#define CELL_BYTES 64
#define WRITE_MAX  (UINT64_C(1) << 20)
#define SYNC_NS    UINT64_C(200000000) /* these two as the keeper's */
#define FILE_BYTES (UINT64_C(16) << 20)

struct job {
    struct barrier is_ready, is_warm;
    const struct placement *placement;
    unsigned n_producers; /* 0: the bare append */
    bool has_files;       /* of it: an fdatasync per FILE_BYTES */
    bool is_batch;        /* of the producers: of STREAM_BATCH */
    bool is_crowded;
    struct variant variant;
    size_t n_warm, n; /* per producer */

    /* Found by the consumer or the bare append, without the first part. */
    uint64_t acked_ns; /* until the last event is acknowledged */
    uint64_t took_ns;  /* until it stands in a file, too */
    uint64_t bytes;    /* in files */
    uint64_t syncs;
    _Atomic uint64_t n_full;
};

/* A frame of ours in the bus and in its files: a header of a cell, the key, 8 bytes before the payload, each to a
 * multiple of 8; to a whole cell. */
static size_t frame_bytes(size_t payload_len)
{
    size_t n = CELL_BYTES + (KEY_LEN + 7) / 8 * 8 + 8 + (payload_len + 7) / 8 * 8;
    return (n + CELL_BYTES - 1) / CELL_BYTES * CELL_BYTES;
}

/* --- bare ------------------------------------------------------------------------------------------------------- */

struct file {
    int fd;
    uint64_t at;       /* bytes written */
    uint64_t synced;   /* of them on disk */
    uint64_t since_ns; /* when the first that is not was written; 0: all are */
    uint64_t n_syncs;
    size_t n; /* bytes in the buffer */
    unsigned char *buffer;
    bool has_files;
};

static int write_out(struct file *file)
{
    for (size_t done = 0; done < file->n;) {
        ssize_t n = pwrite(file->fd, file->buffer + done, file->n - done, (off_t)(file->at + done));
        if (n <= 0)
            return fails("bare append: pwrite: %s", strerror(errno));
        done += (size_t)n;
    }
    if (file->has_files) /* it sets out for the disk, as the keeper's does */
        sync_file_range(file->fd, (off_t)file->at, (off_t)file->n, SYNC_FILE_RANGE_WRITE);
    file->at += file->n;
    file->n = 0;
    uint64_t now = now_ns();
    if (file->since_ns == 0)
        file->since_ns = now;
    if (now - file->since_ns < SYNC_NS && (!file->has_files || file->at - file->synced < FILE_BYTES))
        return 0;
    if (fdatasync(file->fd) != 0)
        return fails("bare append: fdatasync: %s", strerror(errno));
    file->synced = file->at;
    file->since_ns = 0;
    file->n_syncs++;
    return 0;
}

static int append(struct file *file, struct payload *payload, size_t n)
{
    size_t len = frame_bytes(payload->len), payload_at = CELL_BYTES + 8 + 8;
    unsigned char frame[CELL_BYTES * 3 + PAYLOAD_MAX] = {0};
    int rc = 0;
    for (size_t i = 0; i < n && rc == 0; i++) {
        payload_next(payload);
        memcpy(frame + payload_at, payload->text, payload->len); /* as publish() does */
        unsigned char *to = file->buffer + file->n;
        memcpy(to, frame, len); /* as the keeper does */
        uint32_t crc = ~crc32_iscsi(to, (int)len, ~0u);
        memcpy(to, &crc, sizeof crc);
        file->n += len;
        if (file->n >= WRITE_MAX)
            rc = write_out(file);
    }
    return rc == 0 ? write_out(file) : rc;
}

static int be_bare(struct job *job)
{
    struct payload payload;
    char path[600];
    snprintf(path, sizeof path, "%s/bare", own_bus_folder());
    struct file file = {.fd = open(path, O_CREAT | O_TRUNC | O_RDWR | O_CLOEXEC, 0600),
                        .has_files = job->has_files,
                        .buffer = malloc(WRITE_MAX + CELL_BYTES * 3 + PAYLOAD_MAX)};
    if (file.fd < 0 || file.buffer == NULL)
        return fails("%s: cannot make it: %s", path, strerror(errno));
    payload_make(&payload, job->variant.payload_len, 0);
    placement_pin(job->placement, 0);
    if (append(&file, &payload, job->n_warm) != 0)
        return 1;
    uint64_t start = now_ns(), at = file.at, n_syncs = file.n_syncs;
    if (append(&file, &payload, job->n) != 0)
        return 1;
    job->took_ns = job->acked_ns = now_ns() - start;
    job->bytes = file.at - at;
    job->syncs = file.n_syncs - n_syncs;
    close(file.fd);
    free(file.buffer);
    return 0;
}

/* --- evbus ------------------------------------------------------------------------------------------------------ */

static enum evbus_wait wait_of(const struct job *job)
{
    return job->is_crowded ? EVBUS_WAIT_HYBRID : EVBUS_WAIT_SPIN;
}

static void join_in(struct job *job, int index)
{
    if (!job->is_crowded)
        placement_pin(job->placement, index);
    barrier_wait(&job->is_ready, job->n_producers + 1);
}

/* What the member's handler knows. An event is its producer's seq-th, from 1; its key's are seq, seq + N_KEYS, ... */
struct member {
    struct payload expected[PRODUCERS_MAX];
    uint64_t n_of[PRODUCERS_MAX][N_KEYS];
    struct evbus_subscription *subscription;
    unsigned n_producers;
    uint64_t n_due; /* then it stops */
    _Atomic uint64_t n_handled;
    _Atomic int rc;
};

static enum evbus_outcome handle(void *context, const struct evbus_delivery *delivery, char *error)
{
    struct member *member = context;
    const char *text = delivery->payload;
    (void)error;
    unsigned p = delivery->payload_len >= PAYLOAD_MIN ? payload_producer(text) : PRODUCERS_MAX;
    if (p >= member->n_producers) {
        member->rc = fails("an event that nobody has sent: %.*s", (int)delivery->payload_len, text);
        return EVBUS_DONE;
    }
    uint64_t seq = payload_seq(text);
    uint64_t *n_of = &member->n_of[p][seq % N_KEYS];
    payload_set_seq(&member->expected[p], text, delivery->payload_len);
    if (!payload_equals(&member->expected[p], delivery) || delivery->attempt != 1 || seq == 0 ||
        (unsigned)(delivery->key[0] - 'a') != p || strtoull(delivery->key + 1, NULL, 10) != seq % N_KEYS ||
        *n_of != (seq - 1) / N_KEYS) {
        member->rc = fails("attempt %u of an event of key %s that is not the one that was due: %.*s", delivery->attempt,
                           delivery->key, (int)delivery->payload_len, text);
        return EVBUS_DONE;
    }
    ++*n_of;
    uint64_t n = atomic_load_explicit(&member->n_handled, memory_order_relaxed) + 1;
    atomic_store_explicit(&member->n_handled, n, memory_order_relaxed);
    if (n == member->n_due)
        evbus_stop(member->subscription);
    return EVBUS_DONE;
}

static int handle_until(struct evbus *bus, struct member *member, uint64_t n)
{
    member->n_due = n;
    return own_bus_run(bus, member->subscription, &member->n_handled, n, &member->rc);
}

static int look(struct evbus *bus, struct evbus_partition_stat *out)
{
    struct evbus_stat stat = {.size = sizeof stat};
    int rc = evbus_stat(bus, &stat);
    if (rc != EVBUS_OK)
        return fails("evbus_stat: %s: %s", evbus_strerror(rc), evbus_message(bus));
    for (size_t i = 0; i < stat.n_partitions; i++)
        if (strcmp(stat.partitions[i].log, LOG) == 0) {
            *out = stat.partitions[i];
            return out->has_journal ? 0 : fails("%s has no journal", LOG);
        }
    return fails("%s is not there", LOG);
}

/* Until all that was published stands in files. */
static int await_journal(struct evbus *bus, struct evbus_partition_stat *out)
{
    for (uint64_t since = now_ns();;) {
        if (look(bus, out) != 0)
            return 1;
        if (out->journaled >= out->tail)
            return 0;
        if (now_ns() - since > PATIENCE_NS)
            return fails("journaled up to %llu of %llu: %s", (unsigned long long)out->journaled,
                         (unsigned long long)out->tail, evbus_strerror(out->write_failed));
        usleep(20);
    }
}

static int consume(struct job *job, int index)
{
    static struct member member;
    struct evbus_partition_stat before, after;
    member = (struct member){.n_producers = job->n_producers};
    struct evbus *bus = own_bus_open(wait_of(job));
    member.subscription = bus != NULL ? own_bus_join(bus, "members", TOPIC, handle, &member) : NULL;
    if (member.subscription == NULL)
        return 1;
    for (unsigned p = 0; p < job->n_producers; p++)
        payload_make(&member.expected[p], job->variant.payload_len, p);
    join_in(job, index);

    uint64_t n_warm = job->n_warm * job->n_producers, n = n_warm + job->n * job->n_producers;
    if (handle_until(bus, &member, n_warm) != 0 || await_journal(bus, &before) != 0)
        return 1;
    uint64_t start = now_ns();
    barrier_wait(&job->is_warm, job->n_producers + 1);
    if (handle_until(bus, &member, n) != 0)
        return 1;
    job->acked_ns = now_ns() - start;
    if (await_journal(bus, &after) != 0)
        return 1;
    job->took_ns = now_ns() - start;
    job->bytes = (after.journaled - before.journaled) * CELL_BYTES;
    job->syncs = after.syncs - before.syncs;

    if (evbus_run_once(member.subscription, 0) != EVBUS_ETIMEOUT)
        return fails("more events than the %llu that were sent, or one again", (unsigned long long)n);
    evbus_unsubscribe(member.subscription);
    evbus_close(bus);
    return 0;
}

static int produce(struct job *job, int index)
{
    unsigned p = (unsigned)index - 1;
    size_t step = job->is_batch ? STREAM_BATCH : 1;
    static struct payload count, payloads[STREAM_BATCH];
    struct evbus_event events[STREAM_BATCH];
    static char keys[N_KEYS][KEY_LEN + 1];
    struct evbus *bus = own_bus_open(wait_of(job));
    if (bus == NULL)
        return 1;
    for (unsigned k = 0; k < N_KEYS; k++)
        snprintf(keys[k], sizeof keys[k], "%c%03u", (char)('a' + p), k);
    payload_make(&count, job->variant.payload_len, p);
    for (size_t k = 0; k < step; k++) {
        payloads[k] = count;
        events[k] = event_make(&job->variant, TOPIC, payloads[k].text);
        events[k].key_len = KEY_LEN;
        if (job->variant.envelope == READY) { /* no two producers give the same, nor two places in a batch */
            events[k].id[5] = (uint8_t)k;
            events[k].id[7] = (uint8_t)index;
        }
    }
    join_in(job, index);
    for (size_t i = 0; i < job->n_warm + job->n; i += step) {
        for (size_t k = 0; k < step; k++) {
            payload_next(&count);
            payload_copy_seq(&payloads[k], &count);
            events[k].key = keys[(i + k + 1) % N_KEYS];
            event_next(&events[k], &job->variant);
        }
        if (stream_publish(bus, job->is_batch, events, step, &job->n_full) != 0)
            return 1;
        if (i + step == job->n_warm)
            barrier_wait(&job->is_warm, job->n_producers + 1);
    }
    evbus_close(bus);
    return 0;
}

static int role(void *shared, int index)
{
    struct job *job = shared;
    if (job->n_producers == 0)
        return be_bare(job);
    return index == 0 ? consume(job, index) : produce(job, index);
}

/* --- all of it -------------------------------------------------------------------------------------------------- */

/* What is measured, line by line of the table. All are told in the bare append before them. */
static const struct kind {
    unsigned n_producers; /* 0: the bare append */
    bool has_files, is_batch;
    struct variant variant;
} kinds[] = {
    {.variant = {300, READY}},
    {.has_files = true, .variant = {300, READY}},
    {.n_producers = 1, .variant = {300, READY}},
    {.n_producers = 1, .is_batch = true, .variant = {300, READY}},
    {.n_producers = 1, .variant = {300, FULL}},
    {.n_producers = 2, .variant = {300, READY}},
    {.variant = {512, READY}},
    {.has_files = true, .variant = {512, READY}},
    {.n_producers = 1, .variant = {512, READY}},
    {.n_producers = 1, .variant = {512, FULL}},
    {.n_producers = 2, .variant = {512, READY}},
};

static void name_figure(char *name, size_t cap, const struct kind *kind, bool is_crowded)
{
    if (kind->n_producers == 0)
        snprintf(name, cap, "bare append%s, %zu B", kind->has_files ? ", a sync per 16 MiB" : "",
                 kind->variant.payload_len);
    else
        snprintf(name, cap, "evbus journaled and acked, %u producer%s%s%s, %zu B, %s", kind->n_producers,
                 kind->n_producers == 1 ? "" : "s", kind->is_batch ? " in batches" : "", is_crowded ? " (crowded)" : "",
                 kind->variant.payload_len, envelope_name(kind->variant.envelope));
}

static void add_figures(const struct job *job, const char *name, size_t n_all, double *inout_bare,
                        const struct bench_options *options, struct table *table, int run)
{
    char other[BENCH_NAME_MAX], line[256];
    double took_ns = (double)job->took_ns, per_s = (double)n_all * 1e9 / took_ns;
    bool is_limit = job->n_producers == 0 && !job->has_files;
    if (is_limit)
        *inout_bare = per_s;
    figure_add(table_figure(table, name, UNIT_MILLIONS_PER_S, is_limit ? 0 : 'A'), per_s, *inout_bare, n_all);
    snprintf(other, sizeof other, "%.80s: bytes", name);
    figure_add(table_figure(table, other, UNIT_GIGABYTES_PER_S, 0), (double)job->bytes * 1e9 / took_ns, 0, n_all);
    snprintf(line, sizeof line, "acked after %.1f ms, journaled %.1f ms later, %llu fdatasyncs, %llu times EFULL",
             (double)job->acked_ns / 1e6, (took_ns - (double)job->acked_ns) / 1e6, (unsigned long long)job->syncs,
             (unsigned long long)atomic_load_explicit(&job->n_full, memory_order_relaxed));
    fprintf(stderr, "run %d: %s: %s\n", run + 1, name, line);
    if (options->raw != NULL)
        fprintf(options->raw, "%s\trun %d\tevents/s\t%.1f\t%s\n", name, run + 1, per_s, line);
}

static int measure(const struct kind *kind, double *inout_bare, const struct placement *placement,
                   const struct bench_options *options, struct table *table, int run)
{
    char name[BENCH_NAME_MAX], path[600];
    struct job *job = shared_new(sizeof *job);
    if (job == NULL)
        return fails("no memory");
    unsigned n_producers = kind->n_producers, n_roles = n_producers == 0 ? 1 : n_producers + 1;
    size_t n_all = options->quick ? 200000u : 400000u;
    job->placement = placement;
    job->n_producers = n_producers;
    job->has_files = kind->has_files;
    job->is_batch = kind->is_batch;
    job->is_crowded = n_producers != 0 && !placement_is_enough(placement, (int)n_roles + 1); /* the keeper, too */
    job->variant = kind->variant;
    job->n = n_all / (n_producers == 0 ? 1 : n_producers);
    job->n_warm = job->n / 8 / STREAM_BATCH * STREAM_BATCH; /* whole batches, as n */
    name_figure(name, sizeof name, kind, job->is_crowded);
    int rc = own_bus_anew();
    if (rc == 0)
        rc = children_run((int)n_roles, role, job);
    snprintf(path, sizeof path, "%s/bare", own_bus_folder());
    unlink(path);
    uint64_t bytes = n_all * frame_bytes(kind->variant.payload_len);
    if (rc == 0 && (job->bytes < bytes || job->bytes > bytes + bytes / 100))
        rc = fails("%s: %llu bytes in files, where the frames have %llu", name, (unsigned long long)job->bytes,
                   (unsigned long long)bytes);
    if (rc == 0 && job->took_ns == 0)
        rc = fails("%s: took no time", name);
    if (rc == 0)
        add_figures(job, name, n_all, inout_bare, options, table, run);
    shared_free(job, sizeof *job);
    return rc;
}

static int measure_all(const struct placement *placement, const struct bench_options *options, struct table *table)
{
    int rc = 0;
    for (int run = options->first_run; run < options->first_run + options->n_runs && rc == 0; run++) {
        double bare = 0;
        for (size_t k = 0; k < sizeof kinds / sizeof kinds[0] && rc == 0; k++)
            rc = measure(&kinds[k], &bare, placement, options, table, run);
    }
    return rc;
}

int main(int argc, char **argv)
{
    return own_bus_benchmark(argc, argv,
                             "How many events per second go through the journal to a group, beside a bare append?",
                             true, measure_all);
}
