/* board.c: the demo's board: mapped by each process, sampled into, read at the end.
 *
 * A process that is killed between an effect and its count is no reason to count wrong: the event comes again, and is
 * counted then. So what is handled is a set, not a sum.
 *
 * A process that is killed between taking a sample's place and writing it leaves a zero there; percentile() passes it.
 * With every time kept, a percentile is what it says: sort, and look. Nothing is rounded into classes. */
#include "board.h"

#include "service.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

const char *const topic_names[N_TOPICS] = {
    "lomash.orders.created",
    "lomash.payments.succeeded",
    "lomash.bookings.created",
    "lomash.content.blog.published",
};
const char *const group_names[N_GROUPS] = {
    "product-service", "customer-service", "notification-service", "analytics-service", "sitemap",
};

enum topic topic_of(const char *name)
{
    int topic = 0;
    while (topic < N_TOPICS && strcmp(name, topic_names[topic]) != 0)
        topic++;
    return (enum topic)topic;
}

struct board *board_open(const char *dir)
{
    char path[PATH_BYTES];
    void *at = MAP_FAILED;
    int fd = path_in(path, dir, "board") ? open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600) : -1;
    if (fd >= 0 && ftruncate(fd, (off_t)sizeof(struct board)) == 0)
        at = mmap(NULL, sizeof(struct board), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (at == MAP_FAILED)
        complain("%s/board: %s", dir, strerror(errno));
    if (fd >= 0)
        (void)close(fd);
    return at == MAP_FAILED ? NULL : at;
}

void board_close(struct board *board)
{
    if (board != NULL)
        (void)munmap(board, sizeof *board);
}

/* Of a UUID, the half that is random but for its two highest bits, which are not both 0. */
static uint64_t half_of(const uint8_t id[16])
{
    uint64_t half = 0;
    for (int i = 8; i < 16; i++)
        half = half << 8 | id[i];
    return half;
}

/* The place where it is, or where it would be. */
static _Atomic uint64_t *find(struct flow *flow, uint64_t half)
{
    uint64_t i = half % EVENTS_MAX;
    while (value(&flow->done[i]) != 0 && value(&flow->done[i]) != half)
        i = (i + 1) % EVENTS_MAX;
    return &flow->done[i];
}

bool flow_has(struct flow *flow, const uint8_t id[16])
{
    return value(find(flow, half_of(id))) != 0;
}

bool flow_add(struct flow *flow, const uint8_t id[16])
{
    uint64_t half = half_of(id);
    uint64_t none = 0;
    while (!atomic_compare_exchange_strong(find(flow, half), &none, half)) {
        if (none == half)
            return false;
        none = 0; /* somebody took the place: on to the next */
    }
    return true;
}

uint64_t flow_handled(struct flow *flow)
{
    uint64_t n = 0;
    for (size_t i = 0; i < EVENTS_MAX; i++)
        n += value(&flow->done[i]) != 0;
    return n;
}

void sample(struct samples *samples, uint64_t ns)
{
    uint32_t i = atomic_fetch_add_explicit(&samples->n, 1, memory_order_relaxed);
    if (i < SAMPLES_MAX)
        atomic_store_explicit(&samples->ns[i], ns != 0 ? ns : 1, memory_order_relaxed);
}

void samples_between(const struct samples *samples, uint32_t from, uint32_t to, struct samples *out)
{
    uint32_t n = atomic_load_explicit(&samples->n, memory_order_relaxed);
    n = n < SAMPLES_MAX ? n : SAMPLES_MAX;
    memset(out, 0, sizeof *out);
    for (uint32_t i = from; i < to && i < n; i++) {
        uint64_t ns = atomic_load_explicit(&samples->ns[i], memory_order_relaxed);
        if (ns != 0) /* a place that was never written */
            sample(out, ns);
    }
}

static int by_size(const void *a, const void *b)
{
    uint64_t left = *(const uint64_t *)a;
    uint64_t right = *(const uint64_t *)b;
    return (left > right) - (left < right);
}

uint64_t percentile(struct samples *const *lists, size_t n, unsigned p)
{
    uint64_t *all = malloc(n * SAMPLES_MAX * sizeof *all);
    size_t len = 0;
    if (all == NULL)
        return 0;
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < SAMPLES_MAX; k++) {
            uint64_t ns = value(&lists[i]->ns[k]);
            if (ns != 0)
                all[len++] = ns;
        }
    qsort(all, len, sizeof *all, by_size);
    uint64_t found = len == 0 ? 0 : all[(len * p + 99) / 100 - 1];
    free(all);
    return found;
}
