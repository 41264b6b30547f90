/* topics.c: the topics of a bus, looked up by every publish.
 *
 * A hash table that never changes, read under RCU: a look-up takes no lock and writes no line that others read. When the catalogue's
 * generation in shared memory has changed (one load of a quiet line per publish), the first thread to see it makes a new
 * table beside the old one, exchanges the pointer, waits for the readers of the old one, and frees it; the others go on with
 * the old one meanwhile.
 *
 *     the other text -> generation + 1 (release)    whoever applies a catalogue          [edge CATALOGUE]
 *     generation, its text, generation              whoever reads it: the same twice, or again
 *
 * A thread that publishes the topic that it published last finds it in memory of its own, by the same generation.
 *
 * liburcu-bp: we live in other people's threads, which register themselves. synchronize_rcu() instead of call_rcu(): so
 * liburcu starts no thread of its own. The table is ours and not liburcu's, which aborts the process where memory ends.
 * ThreadSanitizer does not see into liburcu: the grace period is told to it by hand.
 * Checked by tests/unit/test_topics.c. */
#include "topics.h"

#include "topic.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <urcu/urcu-bp.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#if defined(__SANITIZE_THREAD__)
#define HAS_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define HAS_TSAN 1
#endif
#endif
#ifdef HAS_TSAN
void __tsan_acquire(void *);
void __tsan_release(void *);
#define GRACE_FROM(topics) __tsan_release(topics)
#define GRACE_TO(topics)   __tsan_acquire(topics)
#else
#define GRACE_FROM(topics) (void)(topics)
#define GRACE_TO(topics)   (void)(topics)
#endif

struct entry {
    char name[NAME_BYTES];
    const struct catalogue_topic *topic; /* in the table's catalogue */
    struct topics_place place;
    bool may_publish;
};

/* All of one generation. */
struct table {
    struct catalogue *catalogue;
    struct entry *entries;
    uint32_t *buckets;  /* entry + 1; 0: none. The next one that is free where it is taken */
    uint32_t n_buckets; /* a power of two, more than twice the entries */
    uint32_t generation;
};

struct topics {
    struct memory *memory;
    char service[SERVICE_BYTES];
    struct table *_Atomic current;
    _Atomic uint32_t seen;  /* generation that current is of */
    pthread_mutex_t reload; /* one thread makes the next table */
};

int topics_copy_text(const struct memory *memory, char **out_text, size_t *out_len, uint32_t *out_generation,
                     struct error *err)
{
    struct control *control = memory->control;
    char *text = malloc(CATALOGUE_BYTES + 1);
    if (text == NULL)
        return error_no_memory(err, "the catalogue");
    for (int tries = 0; tries < 1000; tries++) {
        uint32_t generation = atomic_load_explicit(&control->generation, memory_order_acquire); /* edge CATALOGUE, to */
        uint32_t which = generation % 2;
        uint32_t len = atomic_load_explicit(&control->catalogue_len[which], memory_order_relaxed);
        if (len > CATALOGUE_BYTES)
            break;

        memcpy(text, control->catalogue[which], len);
        atomic_thread_fence(memory_order_acquire);
        if (atomic_load_explicit(&control->generation, memory_order_relaxed) != generation)
            continue;
        text[len] = '\0';
        *out_text = text;
        *out_len = len;
        *out_generation = generation;
        return EVBUS_OK;
    }
    free(text);
    return error_set(err, EVBUS_ECORRUPT, "bus %s: its catalogue's length or generation is damaged; run `evbus doctor`",
                     memory->bus);
}

static void free_table(struct table *table)
{
    if (table == NULL)
        return;
    catalogue_free(table->catalogue);
    free(table->buckets);
    free(table->entries);
    free(table);
}

/* Where a name stands, or would. */
static uint32_t *bucket_of(const struct table *table, const char *name)
{
    uint32_t at = (uint32_t)XXH3_64bits(name, strlen(name)) & (table->n_buckets - 1);
    while (table->buckets[at] != 0 && strcmp(table->entries[table->buckets[at] - 1].name, name) != 0)
        at = (at + 1) & (table->n_buckets - 1);
    return &table->buckets[at];
}

static int fill_table(const struct topics *topics, struct table *table, struct error *err)
{
    size_t n = table->catalogue->n_topics;
    table->entries = calloc(n != 0 ? n : 1, sizeof *table->entries);
    table->n_buckets = 64;
    while (table->n_buckets <= 2 * n)
        table->n_buckets *= 2;
    table->buckets = calloc(table->n_buckets, sizeof *table->buckets);
    if (table->entries == NULL || table->buckets == NULL)
        return error_no_memory(err, "%zu topics", n);
    const char *service = topics->service[0] != '\0' ? topics->service : NULL;
    for (size_t i = 0; i < n; i++) {
        struct entry *entry = &table->entries[i];
        entry->topic = &table->catalogue->topics[i];
        uint32_t log;
        uint32_t id;
        if (!memory_find_topic(topics->memory, entry->topic->name, &log, &id))
            continue; /* not made on this bus */
        entry->place.log = &topics->memory->logs[log];
        entry->place.id = (uint16_t)id;
        memcpy(entry->name, entry->topic->name, strlen(entry->topic->name) + 1);
        entry->place.payload_max = table->catalogue->payload_max;
        entry->may_publish = catalogue_may_publish(table->catalogue, entry->topic, service);
        *bucket_of(table, entry->name) = (uint32_t)i + 1;
    }
    return EVBUS_OK;
}

static int make_table(const struct topics *topics, struct table **out_table, struct error *err)
{
    char *text;
    size_t len;
    struct table *table = calloc(1, sizeof *table);
    if (table == NULL)
        return error_no_memory(err, "the topics");
    int rc = topics_copy_text(topics->memory, &text, &len, &table->generation, err);
    if (rc == EVBUS_OK) {
        rc = catalogue_parse(text, len, &table->catalogue, err);
        free(text);
    }
    if (rc == EVBUS_OK) /* logs are there before the text that names them */
        rc = memory_map_new_logs(topics->memory, err);
    if (rc == EVBUS_OK)
        rc = fill_table(topics, table, err);
    if (rc != EVBUS_OK) {
        free_table(table);
        return rc;
    }
    *out_table = table;
    return EVBUS_OK;
}

int topics_open(struct topics **out_topics, struct memory *memory, const char *service, struct error *err)
{
    struct topics *topics = calloc(1, sizeof *topics);
    if (topics == NULL)
        return error_no_memory(err, "the topics");
    topics->memory = memory;
    strncpy(topics->service, service != NULL ? service : "", sizeof topics->service - 1);
    pthread_mutex_init(&topics->reload, NULL);
    struct table *table;
    int rc = make_table(topics, &table, err);
    if (rc != EVBUS_OK) {
        free(topics);
        return rc;
    }
    atomic_store_explicit(&topics->seen, table->generation, memory_order_relaxed);
    atomic_store_explicit(&topics->current, table, memory_order_release);
    *out_topics = topics;
    return EVBUS_OK;
}

void topics_close(struct topics *topics)
{
    if (topics == NULL)
        return;
    free_table(atomic_load_explicit(&topics->current, memory_order_acquire));
    pthread_mutex_destroy(&topics->reload);
    free(topics);
}

static int reload(struct topics *topics, uint32_t generation, struct error *err)
{
    int rc = EVBUS_OK;
    struct table *old = NULL;
    pthread_mutex_lock(&topics->reload);
    if (atomic_load_explicit(&topics->current, memory_order_acquire)->generation != generation) {
        struct table *table;
        rc = make_table(topics, &table, err);
        if (rc == EVBUS_OK) {
            atomic_store_explicit(&topics->seen, table->generation, memory_order_relaxed);
            old = atomic_exchange_explicit(&topics->current, table, memory_order_acq_rel);
        }
    }
    pthread_mutex_unlock(&topics->reload);
    if (old != NULL) {
        urcu_bp_synchronize_rcu();
        GRACE_TO(topics);
        free_table(old);
    }
    return rc;
}

int topics_enter_thread(struct error *err)
{
    const size_t room = 256 * 1024; /* what liburcu may map at once: its record of a thousand threads has half of it */
    void *probe = mmap(NULL, room, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (probe == MAP_FAILED)
        return error_no_memory(err, "a thread's place among the readers of topics");
    munmap(probe, room);
    urcu_bp_read_lock(); /* it registers the thread; where it finds no memory for that, it aborts the process */
    urcu_bp_read_unlock();
    return EVBUS_OK;
}

static int denied(const struct topics *topics, const struct entry *entry, struct error *err)
{
    char who[256] = "";
    for (size_t i = 0; i < entry->topic->n_producers; i++) {
        size_t len = strlen(who);
        snprintf(who + len, sizeof who - len, "%s%s", i == 0 ? "" : ", ", entry->topic->producers[i]);
    }
    if (topics->service[0] == '\0')
        return error_set(err, EVBUS_EDENIED,
                         "topic %s: say which service publishes (.service, --as or EVBUS_SERVICE); these may: %s",
                         entry->name, who);
    return error_set(err, EVBUS_EDENIED, "topic %s: service %s may not publish it; these may: %s", entry->name,
                     topics->service, who);
}

static int unknown(const struct topics *topics, const char *topic, struct error *err)
{
    int rc = topic_check(topic, err);
    return rc != EVBUS_OK
               ? rc
               : error_set(err, EVBUS_ENOTFOUND,
                           "topic %s is not in the catalogue of bus %s; `evbus catalogue show` lists what is", topic,
                           topics->memory->bus);
}

/* Apart from topics_find(), so that a publish on the same topic again pays for nothing of it. */
static __attribute__((noinline)) int look_up(struct topics *topics, uint32_t generation, const char *topic,
                                             struct topics_recent *recent, struct topics_place *out_place,
                                             struct error *err)
{
    int rc = EVBUS_OK;
    struct topics_recent none;
    bool is_brought = recent == NULL;
    if (is_brought)
        recent = &none;
    recent->is_reading = true;
    atomic_signal_fence(memory_order_seq_cst);
    urcu_bp_read_lock();
    const struct table *table = atomic_load_explicit(&topics->current, memory_order_acquire);
    if (table->generation != generation) {
        GRACE_FROM(topics);
        urcu_bp_read_unlock();
        if ((rc = reload(topics, generation, err)) != EVBUS_OK) {
            recent->is_reading = false;
            return rc;
        }
        urcu_bp_read_lock();
        table = atomic_load_explicit(&topics->current, memory_order_acquire);
    }
    uint32_t found = *bucket_of(table, topic);
    if (found == 0) {
        rc = unknown(topics, topic, err);
    } else {
        const struct entry *entry = &table->entries[found - 1];
        if (entry->may_publish || is_brought) {
            recent->generation = 0; /* first and last: a longjmp may come between any two of these */
            atomic_signal_fence(memory_order_seq_cst);
            *out_place = recent->place = entry->place;
            memcpy(recent->name, entry->name, sizeof recent->name);
            atomic_signal_fence(memory_order_seq_cst);
            recent->generation = table->generation;
        } else {
            rc = denied(topics, entry, err);
        }
    }
    GRACE_FROM(topics);
    urcu_bp_read_unlock();
    atomic_signal_fence(memory_order_seq_cst);
    recent->is_reading = false;
    return rc;
}

int topics_find(struct topics *topics, const char *topic, struct topics_recent *recent, struct topics_place *out_place,
                struct error *err)
{
    uint32_t generation = atomic_load_explicit(&topics->memory->control->generation, memory_order_acquire);
    if (recent == NULL || recent->generation != generation || strcmp(recent->name, topic) != 0)
        return look_up(topics, generation, topic, recent, out_place, err);
    *out_place = recent->place; /* names a log, which is there as long as the bus */
    return EVBUS_OK;
}

void topics_abandon(struct topics_recent *recent)
{
    if (recent->is_reading && urcu_bp_read_ongoing())
        urcu_bp_read_unlock();
    recent->is_reading = false;
}

/* The newest catalogue, until urcu_bp_read_unlock(). */
static const struct catalogue *enter_catalogue(struct topics *topics)
{
    uint32_t generation = atomic_load_explicit(&topics->memory->control->generation, memory_order_acquire);
    if (atomic_load_explicit(&topics->seen, memory_order_relaxed) != generation)
        reload(topics, generation, NULL); /* a service that only consumes hears of changes here */
    urcu_bp_read_lock();
    return atomic_load_explicit(&topics->current, memory_order_acquire)->catalogue;
}

static void leave_catalogue(struct topics *topics) /* not const: the sanitizer is told of it */
{
    GRACE_FROM(topics);
    urcu_bp_read_unlock();
}

static const struct catalogue_group *group_in(const struct catalogue *catalogue, const char *group)
{
    for (size_t i = 0; i < catalogue->n_groups; i++)
        if (strcmp(catalogue->groups[i].name, group) == 0)
            return &catalogue->groups[i];
    return NULL;
}

struct retry topics_retry(struct topics *topics, const char *group)
{
    struct retry retry = retry_default;
    const struct catalogue_group *found = group_in(enter_catalogue(topics), group);
    if (found != NULL) {
        retry.n_waits = found->n_retry;
        memcpy(retry.waits_ns, found->retry_ns, sizeof retry.waits_ns);
        retry.handler_timeout_ns = found->handler_timeout_ns;
        retry.parks = found->parks;
        retry.outage_events = found->outage_events;
    }
    leave_catalogue(topics);
    return retry;
}

struct version_accepts topics_accepts(struct topics *topics, const char *group, size_t *out_payload_max)
{
    struct version_accepts accepts = {.n = 0};
    const struct catalogue *catalogue = enter_catalogue(topics);
    const struct catalogue_group *found = group_in(catalogue, group);
    if (found != NULL)
        accepts = found->accepts;
    *out_payload_max = catalogue->payload_max;
    leave_catalogue(topics);
    return accepts;
}
