/* reader.c: a plain reader: all events of the topics it wants, from its own place on; it consumes nothing.
 *
 *     evbus_reader_next
 *       poll   the partitions by turns, up to 16 events in a row of one of them; a run of them that ends: bus_end_run()
 *       spin   until the bus's spin time is over; every 64th round the words are looked at, too
 *       sleep  bell, bits, fence, look at the words again, futex (doorbell.c); at most as long as the patience with a claim
 *
 * A pin is a low per partition, held by the slot of the thread that used the reader last. What is given out lies in private
 * memory and was checked after it was copied. Checked by tests/unit/test_reader.c and tests/crash/test_readers.c. */
#include "reader.h"
#include "burial.h"
#include "bus.h"
#include "clock.h"
#include "delivery.h"
#include "fd.h"
#include "partition.h"
#include "retire.h"
#include "topic.h"

#include <stdlib.h>
#include <string.h>

#define TURN_EVENTS     16 /* of one partition, before the others are looked at */
#define ROUNDS_PER_LOOK 64
#define SLEEP_MAX_NS    (250 * CLOCK_NS_PER_MS)

/* One log that is read. */
struct reader_log {
    struct memory_log *log;
    char (*names)[NAME_BYTES]; /* of its topics, by id - 1; our copy */
    uint32_t pin;              /* index among the log's pins, or CURSOR_NO_PIN */
    uint32_t pin_owner;        /* what stands there while it is ours */
};

struct evbus_reader {
    struct evbus *bus;
    struct topic_set wanted[LOGS_MAX]; /* by the log's index; empty: not read */
    struct reader_log logs[LOGS_MAX];  /* likewise */
    struct cursor *cursors;
    struct reader_log **cursor_logs; /* of each cursor */
    size_t n_cursors;
    size_t turn;        /* cursor to look at first */
    unsigned n_of_turn; /* events that it has given in a row */
    unsigned turn_max;
    unsigned n_of_run; /* events since the last time that there was none */
    uint64_t *buffer;  /* the frame that was given out last, and a cell for its NUL */
    uint64_t lost;
    uint64_t pin_thread; /* number of the thread that holds our pins; 0: we have none */
    uint32_t publisher;  /* whose name stands in service; 0: nobody's */
    char service[SERVICE_BYTES];
    struct delivery_texts texts;
    struct fd *fd;
};

/* --- open and close ---------------------------------------------------------------------------------------------------- */

/* The bus's own logs are read only by who names them: lomash.dlq.*, not lomash.*.* */
static bool fits(const struct memory_log *log, const char *pattern, const char *topic)
{
    size_t len = strlen(log->name);
    if (topic[0] == '\0' || (memory_is_internal(log) && (strncmp(pattern, log->name, len) != 0 || pattern[len] != '.')))
        return false;
    return topic_matches(pattern, topic);
}

static int want_topics(struct evbus_reader *reader, const struct evbus_reader_options *options, struct error *err)
{
    bool has_match[64] = {false};
    size_t n_patterns = options->patterns != NULL ? options->n_patterns : 0;
    if (n_patterns > 64)
        return error_set(err, EVBUS_EINVAL, "%zu patterns; at most 64 are allowed", n_patterns);
    for (size_t i = 0; i < n_patterns; i++) {
        int rc = options->patterns[i] != NULL ? topic_pattern_check(options->patterns[i], err)
                                              : error_set(err, EVBUS_EINVAL, "patterns[%zu] is NULL", i);
        if (rc != EVBUS_OK)
            return rc;
    }
    for (uint32_t l = 0; l < memory_n_logs(&reader->bus->memory); l++) {
        const struct memory_log *log = &reader->bus->memory.logs[l];
        uint32_t n = atomic_load_explicit(&log->head->n_topics, memory_order_acquire);
        if (n > TOPICS_MAX)
            return error_set(err, EVBUS_ECORRUPT, "log %s says it has %u topics; run `evbus doctor`", log->name, n);
        reader->logs[l].pin = CURSOR_NO_PIN;
        reader->logs[l].names = calloc(TOPICS_MAX, sizeof *reader->logs[l].names);
        if (reader->logs[l].names == NULL)
            return error_no_memory(err, "the names of topics");
        for (uint32_t t = 0; t < n; t++) {
            char *name = reader->logs[l].names[t];
            memcpy(name, log->head->topics[t], NAME_BYTES - 1);
            bool is_wanted = n_patterns == 0 && !memory_is_internal(log) && name[0] != '\0';
            for (size_t i = 0; i < n_patterns; i++)
                if (fits(log, options->patterns[i], name))
                    is_wanted = has_match[i] = true;
            if (is_wanted)
                topic_set_add(&reader->wanted[l], t + 1);
        }
    }
    for (size_t i = 0; i < n_patterns; i++)
        if (!has_match[i])
            return error_set(err, EVBUS_ENOTFOUND,
                             "pattern %s fits no topic of bus %s; `evbus catalogue show` lists them",
                             options->patterns[i], reader->bus->memory.bus);
    return EVBUS_OK;
}

static int take_pin(struct memory_log *log, uint32_t slot, struct reader_log *out, struct error *err)
{
    uint32_t number = atomic_fetch_add_explicit(&log->head->pin_numbers, 1, memory_order_relaxed);
    for (uint32_t i = 0; i < PINS_MAX; i++) {
        uint32_t nobody = 0;
        if (atomic_compare_exchange_strong_explicit(&log->head->pin_owners[i], &nobody, PIN_OWNER(number, slot),
                                                    memory_order_acq_rel, memory_order_relaxed)) {
            out->pin = i;
            out->pin_owner = PIN_OWNER(number, slot);
            return EVBUS_OK;
        }
    }
    return error_set(err, EVBUS_ELIMIT, "log %s has %d pinning readers, no more fit: read without .pin", log->name,
                     PINS_MAX);
}

static bool is_read(const struct evbus_reader *reader, uint32_t log)
{
    return !topic_set_is_empty(&reader->wanted[log]);
}

static int make_cursors(struct evbus_reader *reader, const struct bus_thread *thread,
                        const struct evbus_reader_options *options, struct error *err)
{
    struct memory *memory = &reader->bus->memory;
    size_t n = 0;
    for (uint32_t l = 0; l < memory_n_logs(memory); l++)
        n += is_read(reader, l) ? memory->logs[l].n_partitions : 0;
    reader->cursors = calloc(n != 0 ? n : 1, sizeof *reader->cursors);
    reader->cursor_logs = calloc(n != 0 ? n : 1, sizeof(struct reader_log *));
    reader->buffer = malloc(((size_t)FRAME_CELLS_MAX + 1) * CELL_BYTES);
    if (reader->cursors == NULL || reader->cursor_logs == NULL || reader->buffer == NULL)
        return error_no_memory(err, "a reader of %zu partitions", n);
    for (uint32_t l = 0; l < memory_n_logs(memory); l++) {
        if (!is_read(reader, l))
            continue;
        struct memory_log *log = &memory->logs[l];
        reader->logs[l].log = log;
        memory_prefault(log);
        int rc = options->pin ? take_pin(log, thread->claim.slot, &reader->logs[l], err) : EVBUS_OK;
        if (rc != EVBUS_OK)
            return rc;
        for (uint32_t p = 0; p < log->n_partitions; p++) {
            struct cursor *cursor = &reader->cursors[reader->n_cursors];
            struct ring *ring = &log->rings[p];
            uint64_t wish = options->from == EVBUS_FROM_LATEST ? ring_tail(ring) : 0;
            uint64_t start = reader->logs[l].pin != CURSOR_NO_PIN ? ring_pin(ring, reader->logs[l].pin, wish)
                             : wish != 0                          ? wish
                                                                  : ring_oldest(ring);
            if (options->from == EVBUS_FROM_TIME &&
                (rc = partition_first(memory, ring, start, options->from_time_ns, UINT64_MAX, &start, err)) != EVBUS_OK)
                return rc;
            *cursor = (struct cursor){
                .ring = ring,
                .memory = memory,
                .wanted = &reader->wanted[l],
                .from_time_ns = options->from == EVBUS_FROM_TIME ? options->from_time_ns : 0,
                .pin = reader->logs[l].pin,
            };
            atomic_store_explicit(&cursor->pos, start, memory_order_relaxed);
            reader->cursor_logs[reader->n_cursors++] = &reader->logs[l];
        }
    }
    return EVBUS_OK;
}

EVBUS_API int evbus_reader_open(struct evbus_reader **out_reader, struct evbus *bus,
                                const struct evbus_reader_options *given)
{
    struct error *err = error_of_thread();
    struct evbus_reader_options options = {0};
    struct bus_thread *thread;
    int rc = bus_check(bus, err);
    if (rc == EVBUS_OK && out_reader == NULL)
        rc = error_set(err, EVBUS_EINVAL, "out_reader is NULL");
    if (rc == EVBUS_OK && given != NULL)
        rc = bus_take_struct(&options, sizeof options, given, given->size, "struct evbus_reader_options", err);
    if (rc == EVBUS_OK && (unsigned)options.from > EVBUS_FROM_TIME)
        rc = error_set(err, EVBUS_EINVAL, "options.from is %d, which is no enum evbus_from", (int)options.from);
    if (rc == EVBUS_OK)
        rc = bus_thread(bus, &thread, err);
    if (rc != EVBUS_OK)
        return rc;
    struct evbus_reader *reader = calloc(1, sizeof *reader);
    if (reader == NULL)
        return error_no_memory(err, "a reader");
    reader->bus = bus;
    for (int l = 0; l < LOGS_MAX; l++)
        reader->logs[l].pin = CURSOR_NO_PIN;
    reader->turn_max = TURN_EVENTS;
    reader->pin_thread = options.pin ? thread->number : 0;
    rc = want_topics(reader, &options, err);
    if (rc == EVBUS_OK)
        rc = make_cursors(reader, thread, &options, err);
    if (rc != EVBUS_OK) {
        evbus_reader_close(reader);
        return rc;
    }
    *out_reader = reader;
    return EVBUS_OK;
}

static void free_pins(struct evbus_reader *reader)
{
    for (int l = 0; l < LOGS_MAX; l++)
        if (reader->logs[l].pin != CURSOR_NO_PIN)
            burial_free_pin(&reader->bus->memory.logs[l], reader->logs[l].pin, reader->logs[l].pin_owner);
}

EVBUS_API void evbus_reader_close(struct evbus_reader *reader)
{
    if (reader == NULL)
        return;
    bool is_ours = bus_check(reader->bus, NULL) != EVBUS_EFORKED;
    fd_stop(reader->fd, is_ours);
    if (is_ours)
        free_pins(reader);
    for (int l = 0; l < LOGS_MAX; l++)
        free(reader->logs[l].names);
    for (size_t i = 0; i < reader->n_cursors; i++)
        cursor_close(&reader->cursors[i]);
    free(reader->cursors);
    free(reader->cursor_logs);
    free(reader->buffer);
    free(reader);
}

/* --- one event --------------------------------------------------------------------------------------------------------- */

/* The publisher's name, as long as it is in memory. */
static const char *service_of(struct evbus_reader *reader, uint32_t publisher)
{
    if (publisher == reader->publisher)
        return reader->service;
    reader->publisher = publisher;
    memory_publisher_name(&reader->bus->memory, publisher, reader->service);
    return reader->service;
}

static const char *topic_of(struct reader_log *log, uint16_t id)
{
    char *name = log->names[id - 1];
    if (name[0] == '\0') /* made after we were opened */
        memcpy(name, log->log->head->topics[id - 1], NAME_BYTES - 1);
    return name;
}

static void give_out(struct evbus_reader *reader, size_t at, const struct frame *frame, struct evbus_delivery *out)
{
    struct cursor *cursor = &reader->cursors[at];
    size_t size = out->size;
    bool is_ours = size == 0 || size == sizeof *out; /* else the caller's struct is of another version */
    struct evbus_delivery other;
    struct evbus_delivery *delivery = is_ours ? out : &other;
    *delivery = (struct evbus_delivery){
        .size = size,
        .topic = topic_of(reader->cursor_logs[at], frame->topic),
        .service = service_of(reader, frame->publisher),
        .log = cursor->ring->name,
        .partition = cursor->ring->partition,
        .position = ((const struct frame_header *)reader->buffer)->position,
        .lost = cursor->lost,
    };
    delivery_fill(frame, &reader->texts, delivery);
    if (!is_ours)
        delivery_give(&other, out);
    reader->lost += cursor->lost;
    cursor->lost = 0;
}

/* One round over the partitions. EVBUS_OK: *out is an event; EVBUS_EAGAIN: nothing; EVBUS_ECORRUPT; EVBUS_EIO. */
static int poll_all(struct evbus_reader *reader, bool look, struct evbus_delivery *out, uint64_t *out_wait_ns,
                    struct error *err)
{
    if (reader->n_of_turn >= reader->turn_max) {
        reader->n_of_turn = 0;
        reader->turn = reader->turn + 1 < reader->n_cursors ? reader->turn + 1 : 0;
    }
    size_t at = reader->turn;
    for (size_t i = 0; i < reader->n_cursors; i++) {
        struct frame frame;
        enum cursor_found found = cursor_next(&reader->cursors[at], reader->buffer, look, &frame, out_wait_ns, err);
        if (found == CURSOR_CORRUPT || found == CURSOR_FAILED) {
            reader->turn = at + 1 < reader->n_cursors ? at + 1 : 0; /* one damaged partition starves no other */
            reader->n_of_turn = 0;
            return found == CURSOR_CORRUPT ? EVBUS_ECORRUPT : EVBUS_EIO;
        }
        if (found == CURSOR_EVENT) {
            reader->n_of_turn = at == reader->turn ? reader->n_of_turn + 1 : 1;
            reader->turn = at;
            reader->n_of_run++;
            give_out(reader, at, &frame, out);
            return EVBUS_OK;
        }
        at = at + 1 < reader->n_cursors ? at + 1 : 0;
    }
    return EVBUS_EAGAIN;
}

/* --- where it stands, for a mirror ---------------------------------------------------------------------------------------- */

static struct cursor *cursor_of(struct evbus_reader *reader, const struct ring *ring)
{
    for (size_t i = 0; i < reader->n_cursors; i++)
        if (reader->cursors[i].ring == ring)
            return &reader->cursors[i];
    return NULL;
}

bool reader_go_to(struct evbus_reader *reader, const struct ring *ring, uint64_t position)
{
    struct cursor *cursor = cursor_of(reader, ring);
    if (cursor == NULL)
        return false;
    bool is_parked = position == READER_PARKED;
    uint64_t oldest = ring_oldest(ring);
    cursor_close(cursor);
    cursor->lost = 0;
    cursor->blocked = (struct ring_blocked){0};
    if (!is_parked) {
        cursor->lost = position < oldest ? oldest - position : 0;
        atomic_store_explicit(&cursor->pos, position < oldest ? oldest : position, memory_order_relaxed);
    }
    atomic_store_explicit(&cursor->retry_ns, is_parked ? UINT64_MAX : 0, memory_order_relaxed);
    return true;
}

void reader_want_what_comes(struct evbus_reader *reader)
{
    for (size_t i = 0; i < reader->n_cursors; i++) {
        struct reader_log *log = reader->cursor_logs[i];
        size_t l = (size_t)(log - reader->logs);
        for (uint32_t t = 0; t < TOPICS_MAX; t++)
            if (log->names[t][0] == '\0')
                topic_set_add(&reader->wanted[l], t + 1);
    }
}

void reader_set_turn(struct evbus_reader *reader, unsigned n_events)
{
    reader->turn_max = n_events;
}

uint64_t reader_position(struct evbus_reader *reader, const struct ring *ring)
{
    const struct cursor *cursor = cursor_of(reader, ring);
    if (cursor == NULL || atomic_load_explicit(&cursor->retry_ns, memory_order_relaxed) == UINT64_MAX)
        return READER_PARKED;
    return cursor_pos(cursor);
}

/* --- waiting ----------------------------------------------------------------------------------------------------------- */

/* Our pins belong to the thread that uses the reader now. */
static int take_over_pins(struct evbus_reader *reader, const struct bus_thread *thread, struct error *err)
{
    uint32_t slot = thread->claim.slot;
    for (uint32_t l = 0; l < memory_n_logs(&reader->bus->memory); l++) {
        struct reader_log *log = &reader->logs[l];
        uint32_t before = log->pin_owner;
        uint32_t ours = before - PIN_SLOT(before) + slot;
        if (!is_read(reader, l))
            continue;
        if (log->pin != CURSOR_NO_PIN &&
            atomic_compare_exchange_strong_explicit(&log->log->head->pin_owners[log->pin], &before, ours,
                                                    memory_order_acq_rel, memory_order_relaxed)) {
            log->pin_owner = ours;
            continue;
        }
        log->pin = CURSOR_NO_PIN; /* its thread has ended, the place may be somebody else's: pin anew what is left */
        int rc = take_pin(log->log, slot, log, err);
        for (size_t i = 0; i < reader->n_cursors; i++) {
            if (reader->cursor_logs[i] != log)
                continue;
            reader->cursors[i].pin = log->pin;
            if (rc == EVBUS_OK)
                ring_pin(reader->cursors[i].ring, log->pin, cursor_pos(&reader->cursors[i]));
        }
        if (rc != EVBUS_OK)
            return rc; /* the next call tries again */
    }
    reader->pin_thread = thread->number;
    return EVBUS_OK;
}

/* Producers in a full ring may wait for the last cells that we have read. */
static void say_idle(struct evbus_reader *reader)
{
    for (size_t i = 0; i < reader->n_cursors; i++)
        if (reader->cursors[i].pin != CURSOR_NO_PIN)
            ring_pin_move(reader->cursors[i].ring, reader->cursors[i].pin, cursor_pos(&reader->cursors[i]), true);
}

/* Sleeps until there may be something. EVBUS_EAGAIN then; EVBUS_OK: *out is an event that came just before. */
static int sleep_on_bell(struct evbus_reader *reader, struct bus_thread *thread, uint64_t left_ns,
                         struct evbus_delivery *out, struct error *err)
{
    struct memory *memory = &reader->bus->memory;
    const struct slot *self = &memory->control->slots[thread->claim.slot];
    uint64_t wait_ns = left_ns < SLEEP_MAX_NS ? left_ns : SLEEP_MAX_NS;
    int rc = listener_join(&thread->listener, memory, thread->claim.slot, reader->wanted, err);
    if (rc != EVBUS_OK)
        return rc;
    say_idle(reader);
    uint32_t bell = doorbell_read(self);
    listener_set(&thread->listener, memory, reader->wanted);
    atomic_thread_fence(memory_order_seq_cst); /* edge DOORBELL, to: the reader that sleeps */
    rc = poll_all(reader, true, out, &wait_ns, err);
    if (rc == EVBUS_EAGAIN && !memory_is_retired(memory))
        doorbell_sleep(self, bell, clock_left(wait_ns, 0, SLEEP_MAX_NS));
    listener_clear(&thread->listener, memory, reader->wanted);
    return rc;
}

static int wait_and_poll(struct evbus_reader *reader, struct bus_thread *thread, uint64_t timeout_ns,
                         struct evbus_delivery *out, struct error *err)
{
    uint64_t spin_ns = bus_spin_ns(reader->bus);
    const struct slot *self = &reader->bus->memory.control->slots[thread->claim.slot];
    uint64_t now = clock_mono_ns();
    uint64_t deadline = clock_deadline(now, timeout_ns);
    uint64_t spin_until = clock_deadline(now, spin_ns);
    bus_end_run(reader->bus, &reader->n_of_run);
    for (unsigned round = 1;; round++) {
        uint64_t wait_ns = UINT64_MAX;
        bool look = spin_ns == 0 || round % ROUNDS_PER_LOOK == 0;
        int rc = poll_all(reader, look, out, &wait_ns, err);
        if (rc != EVBUS_EAGAIN)
            return rc;
        clock_relax();
        if (!look)
            continue;
        now = clock_mono_ns();
        if (now >= deadline)
            return EVBUS_ETIMEOUT;
        if ((rc = bus_check_names(reader->bus, now, err)) != EVBUS_OK)
            return rc;
        if (now >= spin_until) {
            uint32_t bell = doorbell_read(self);
            if ((rc = sleep_on_bell(reader, thread, deadline - now, out, err)) != EVBUS_EAGAIN)
                return rc;
            if (doorbell_read(self) == bell) /* as member_receive() */
                round = ROUNDS_PER_LOOK - 1;
        }
        say_idle(reader);
    }
}

EVBUS_API int evbus_reader_next(struct evbus_reader *reader, struct evbus_delivery *out_delivery, uint64_t timeout_ns)
{
    struct error *err = error_of_thread();
    struct bus_thread *thread;
    if (reader == NULL || out_delivery == NULL || out_delivery->size > 4096)
        return error_set(err, EVBUS_EINVAL,
                         reader == NULL         ? "reader is NULL"
                         : out_delivery == NULL ? "out_delivery is NULL"
                                                : "delivery.size must be sizeof the struct, or 0");
    int rc = bus_check(reader->bus, err);
    if (rc == EVBUS_OK)
        rc = bus_thread(reader->bus, &thread, err);
    if (rc == EVBUS_OK && reader->pin_thread != 0 && reader->pin_thread != thread->number)
        rc = take_over_pins(reader, thread, err);
    if (rc != EVBUS_OK)
        return rc;
    uint64_t wait_ns;
    do {
        wait_ns = UINT64_MAX;
        /* The words, too, where the next partition has its turn: it may stand at one without a stamp, while others always have something. */
        bool look = timeout_ns == 0 || (reader->n_cursors > 1 && reader->n_of_turn >= reader->turn_max);
        rc = poll_all(reader, look, out_delivery, &wait_ns, err);
    } while (rc == EVBUS_EAGAIN && wait_ns == 0); /* much in files that we do not want: there is more to look at */
    if (rc == EVBUS_EAGAIN && timeout_ns != 0)
        rc = wait_and_poll(reader, thread, timeout_ns, out_delivery, err);
    if (rc == EVBUS_EAGAIN || rc == EVBUS_ETIMEOUT) {
        static const char nothing[] = "no event came in time"; /* not formatted: a poll with timeout 0 is a hot path */
        memcpy(err->text, nothing, sizeof nothing);
        rc = EVBUS_ETIMEOUT;
        if (timeout_ns == 0) /* who polls never waits */
            retire_is_gone(&reader->bus->memory, clock_coarse_ns());
        say_idle(reader);
        if (reader->fd != NULL)
            fd_arm(reader->fd);
    }
    return rc;
}

EVBUS_API int evbus_fd(struct evbus_reader *reader, int *out_fd)
{
    struct error *err = error_of_thread();
    if (reader == NULL || out_fd == NULL)
        return error_set(err, EVBUS_EINVAL, "%s is NULL", reader == NULL ? "reader" : "out_fd");
    int rc = bus_check(reader->bus, err);
    if (rc == EVBUS_OK && reader->fd == NULL)
        rc = fd_start(&reader->fd, &reader->bus->memory,
                      (struct fd_target){reader->cursors, reader->n_cursors, reader->wanted}, err);
    if (rc == EVBUS_OK)
        *out_fd = fd_number(reader->fd);
    return rc;
}

EVBUS_API uint64_t evbus_reader_lost(const struct evbus_reader *reader)
{
    uint64_t sum = reader->lost;
    for (size_t i = 0; i < reader->n_cursors; i++)
        sum += reader->cursors[i].lost;
    return sum;
}
