/* peers.c: the loops that measure every peer, ours among them. What differs stands in peer_*.c, a struct peer each.
 *
 *   round trip  as in latency.c: ping sends, pong takes it and sends the same bytes back, ping takes that. Half of it is one sample.
 *               Spinning, both sides ask again and again whether something is there. Blocking, each sleeps in the peer's own call, and ping
 *               lets SETTLE_NS pass between two round trips, so that the other side does sleep
 *   stream      side 0 sends as fast as it can; a full peer makes it wait, as nothing may be lost. Side 1 takes, compares each byte, and
 *               finishes each event where the peer knows that. Counted at side 1
 *   send        only side 0, and nobody listens: what it costs until the peer has taken it over
 *
 * The first tenth warms up and is not counted. Each measurement begins with a peer that has nothing in it: its queues, folders and daemons are
 * made for it and removed. Sides are processes, pinned to a processor each once the peer is open; where a thread of the peer's own or a daemon
 * works along and there is no processor for it, nothing is pinned. All come and go through two function pointers per event, a few ns that
 * everybody pays.
 *
 * No time fails it; an event that is lost, repeated, changed or out of order does. Who waits for one that never comes is ended by
 * SIGALRM, a minute after the last that did. */
#include "peers.h"

#include "daemon.h"

#include <string.h>
#include <unistd.h>

enum { ALARM_S = 60, ALARM_EVERY = 256 };

size_t peers_choose(const struct peer_choice *all, const struct peer **out, size_t cap)
{
    size_t n = 0;
    char path[512];
    for (; (all->peer != NULL || all->name != NULL) && n < cap; all++) {
        const struct peer *peer = all->peer;
        if (peer == NULL)
            fprintf(stderr, "left out: %s: its headers are missing (Debian: %s)\n", all->name, all->package);
        else if (peer->program != NULL && !program_find(peer->program, path, sizeof path))
            fprintf(stderr, "left out: %s: there is no %s (Debian: %s)\n", peer->name, peer->program, peer->package);
        else
            out[n++] = peer;
    }
    return n;
}

static unsigned n_sides(const struct peer_job *job)
{
    return job->aim == PEER_SEND ? 1 : 2;
}

static int side_open(struct peer_side *side, struct peer_job *job, int index, peer_take *take, struct samples *samples)
{
    *side = (struct peer_side){.job = job, .index = index, .take = take, .samples = samples};
    payload_make(&side->payload, job->len, 0);
    alarm(ALARM_S);
    if (job->peer->open(side) != 0)
        return 1;
    if (placement_is_enough(job->placement, job->peer->has_helper ? 3 : 2))
        placement_pin(job->placement, index);
    barrier_wait(&job->barrier, n_sides(job));
    return 0;
}

/* Still alive: a slow disk may take its time. */
static void move_alarm(struct peer_side *side)
{
    if (++side->n_moves % ALARM_EVERY == 0)
        alarm(ALARM_S);
}

static int side_next(struct peer_side *side)
{
    const struct peer *peer = side->job->peer;
    bool waits = !side->job->spins || peer->waits_spinning;
    int rc;
    move_alarm(side);
    while ((rc = peer->receive(side, waits)) == PEER_NOTHING)
        ;
    return rc;
}

static int side_send(struct peer_side *side)
{
    const struct peer *peer = side->job->peer;
    move_alarm(side);
    return (side->job->is_put ? peer->put : peer->send)(side, side->payload.text, side->payload.len);
}

/* Whoever is done stays until all are: what is sent may be lost with its sender (ZeroMQ does that now and then). Asleep, as the other still
 * measures. */
static void await_others(struct peer_job *job)
{
    alarm(0); /* the other has one */
    atomic_fetch_add_explicit(&job->n_done, 1, memory_order_acq_rel);
    while (atomic_load_explicit(&job->n_done, memory_order_acquire) < n_sides(job))
        usleep(1000);
}

static int side_close(struct peer_side *side)
{
    const struct peer *peer = side->job->peer;
    bool receives = side->job->aim == PEER_ROUND_TRIP || side->index == 1;
    if (receives && peer->receive(side, false) != PEER_NOTHING)
        return fails("%s: more events than were sent, or one again", peer->name);
    await_others(side->job);
    if (peer->close != NULL)
        peer->close(side);
    return 0;
}

static int check(const struct peer_side *side, const void *bytes, size_t len)
{
    if (len == side->payload.len && memcmp(bytes, side->payload.text, len) == 0)
        return 0;
    return fails("%s: another event than was due: found %.*s, due %.*s", side->job->peer->name, (int)len,
                 (const char *)bytes, (int)side->payload.len, side->payload.text);
}

/* --- round trip --------------------------------------------------------------------------------------------------- */

static int take_answer(struct peer_side *side, const void *bytes, size_t len)
{
    side->taken_ns = now_ns();
    return check(side, bytes, len);
}

static int ping(struct peer_job *job, struct samples *samples)
{
    struct peer_side side;
    if (side_open(&side, job, 0, take_answer, samples) != 0)
        return 1;
    uint64_t deadline = now_ns() + job->budget_ns;
    for (size_t i = 0; i < job->n_warm + job->n && side.taken_ns < deadline; i++) {
        payload_next(&side.payload);
        if (!job->spins)
            spin_until(now_ns() + SETTLE_NS);
        uint64_t sent = now_ns();
        if (side_send(&side) != 0 || side_next(&side) != 0)
            return 1;
        if (i >= job->n_warm)
            samples_add(side.samples, (side.taken_ns - sent) / 2);
    }
    payload_set_last(&side.payload);
    return side_send(&side) != 0 ? 1 : side_close(&side);
}

static int take_and_answer(struct peer_side *side, const void *bytes, size_t len)
{
    side->is_last = payload_is_last(bytes, len);
    if (side->is_last)
        return 0;
    if (side->job->peer->send(side, bytes, len) != 0)
        return 1;
    payload_next(&side->payload);
    return check(side, bytes, len);
}

static int pong(struct peer_job *job)
{
    struct peer_side side;
    if (side_open(&side, job, 1, take_and_answer, NULL) != 0)
        return 1;
    while (!side.is_last)
        if (side_next(&side) != 0)
            return 1;
    return side_close(&side);
}

/* --- stream ------------------------------------------------------------------------------------------------------- */

static int produce(struct peer_job *job)
{
    struct peer_side side;
    if (side_open(&side, job, 0, NULL, NULL) != 0)
        return 1;
    uint64_t since = now_ns();
    for (size_t i = 1; i <= job->n_warm + job->n; i++) {
        payload_next(&side.payload);
        if (side_send(&side) != 0)
            return 1;
        if (i == job->n_warm)
            since = now_ns();
    }
    if (job->is_put && job->peer->flush(&side) != 0)
        return 1;
    if (job->aim == PEER_SEND)
        job->took_ns = now_ns() - since;
    return side_close(&side);
}

static int take_next(struct peer_side *side, const void *bytes, size_t len)
{
    const struct peer_job *job = side->job;
    move_alarm(side);
    payload_next(&side->payload);
    if (++side->n_taken == job->n_warm)
        side->since_ns = now_ns();
    side->is_last = side->n_taken == job->n_warm + job->n;
    return check(side, bytes, len);
}

static int consume(struct peer_job *job)
{
    struct peer_side side;
    if (side_open(&side, job, 1, take_next, NULL) != 0)
        return 1;
    while (!side.is_last)
        if (side_next(&side) != 0)
            return 1;
    job->took_ns = now_ns() - side.since_ns;
    return side_close(&side);
}

/* --- both --------------------------------------------------------------------------------------------------------- */

struct task {
    struct peer_job *job;
    struct samples *samples;
};

static int role(void *arg, int index)
{
    struct task *task = arg;
    if (task->job->aim == PEER_ROUND_TRIP)
        return index == 0 ? ping(task->job, task->samples) : pong(task->job);
    return index == 0 ? produce(task->job) : consume(task->job);
}

static int job_run(struct peer_job *job, struct samples *samples)
{
    const struct peer *peer = job->peer;
    struct task task = {job, samples};
    for (int to = 0; to < 2; to++)
        snprintf(job->names[to], sizeof job->names[to], "/evbus-bench-%d-%d", (int)getpid(), to);
    int rc = peer->begin != NULL ? peer->begin(job) : 0;
    if (rc == 0)
        rc = children_run((int)n_sides(job), role, &task);
    if (peer->end != NULL && peer->end(job) != 0 && rc == 0)
        rc = 1;
    if (rc != 0)
        fails("%s: not measured", peer->name);
    return rc;
}

int peers_round_trip(const struct peer *peer, bool spins, size_t len, size_t n, const struct placement *placement,
                     struct samples *out)
{
    struct peer_job *job = shared_new(sizeof *job);
    if (job == NULL)
        return fails("no memory");
    job->placement = placement;
    job->peer = peer;
    job->spins = spins;
    job->len = len;
    job->n = n;
    job->n_warm = n / 10;
    job->budget_ns = 1500000000;
    int rc = job_run(job, out);
    shared_free(job, sizeof *job);
    return rc;
}

int peers_stream(const struct peer *peer, enum peer_aim aim, bool is_put, bool spins, size_t len, size_t n,
                 const struct placement *placement, double *out_per_s)
{
    struct peer_job *job = shared_new(sizeof *job);
    if (job == NULL)
        return fails("no memory");
    job->placement = placement;
    job->peer = peer;
    job->aim = aim;
    job->is_put = is_put && peer->put != NULL;
    job->spins = spins;
    job->len = len;
    job->n_warm = n / 10;
    job->n = n - job->n_warm;
    int rc = job_run(job, NULL);
    if (rc == 0 && job->took_ns == 0)
        rc = fails("%s: took no time", peer->name);
    if (rc == 0)
        *out_per_s = (double)job->n * 1e9 / (double)job->took_ns;
    shared_free(job, sizeof *job);
    return rc;
}
