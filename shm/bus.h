/* bus.h: the handle, its threads, open and close. See bus.c. */
#ifndef EVBUS_BUS_H
#define EVBUS_BUS_H

#include "area.h"
#include "keeper.h"
#include "listener.h"
#include "log.h"
#include "memory.h"
#include "partition.h"
#include "retire.h"
#include "topics.h"
#include "uuid7.h"

struct evbus {
    struct memory memory;
    struct log log;
    struct topics *topics;
    struct keeper *keeper;
    char service[SERVICE_BYTES]; /* "": nobody */
    enum evbus_wait wait;
    uint64_t spin_ns;
    evbus_hook *hook; /* NULL: nobody */
    void *hook_context;
    uint32_t publisher;   /* our id on this bus; 0: we publish nothing */
    const uint8_t *alive; /* a page of its own that a forked child sees as zero [B8] */
    pthread_key_t key;    /* -> struct bus_thread */
    bool has_key;
    _Atomic uint64_t n_threads;                       /* that ever had a record */
    _Atomic uint32_t refs;                            /* the handle, and each thread that has a record */
    _Atomic bool announced[LOGS_MAX][PARTITIONS_MAX]; /* our NAMES frame is there */
    pthread_mutex_t admin_mutex;                      /* what the calls of admin.h give out */
    char *catalogue_text;                             /* likewise */
    void *stat_rows;                                  /* likewise */
};

/* What one thread has on one bus. */
struct bus_thread {
    struct evbus *bus;
    struct error *err;          /* its message: error_of_thread(), which is slow to find */
    uint64_t number;            /* of all that this handle ever had, from 1 */
    struct claim claim;         /* .slot is ours */
    struct partition_wait wait; /* how a publish waits for room; timeout_ns and fence are the call's */
    struct topics_recent recent;
    struct uuid7_state uuid;
    uint64_t *frame; /* room for the largest frame: built here, then copied into the ring */
    struct listener listener;
    uintptr_t inside;                      /* where the frame of the publish that is under way ends; 0: none [R11] */
    const struct evbus_delivery *handling; /* what the thread's handler is at; NULL: nothing */
    uint64_t span;                         /* of trace: the last span id's state; 0: none was made */
    struct area area;                      /* the header area of the event that is published */
    struct frame_version more[FRAME_VERSIONS_MAX - 1]; /* its versions beside the first */
};

static inline bool bus_is_alive(const struct evbus *bus)
{
    return *(const volatile uint8_t *)bus->alive == 1;
}

/* The calling thread's record, where nothing stands against its use, as most often; NULL: bus_check() and bus_thread() tell more. */
static inline struct bus_thread *bus_ready_thread(const struct evbus *bus)
{
    return bus != NULL && bus_is_alive(bus) && !memory_is_retired(&bus->memory) ? pthread_getspecific(bus->key) : NULL;
}

/* May this process use the handle, and is the bus still there? Where it is not, somebody else may bring it back from here on.
 * EVBUS_OK, EVBUS_EFORKED, EVBUS_ESTALE, EVBUS_EINVAL. */
int bus_check(struct evbus *bus, struct error *err);

/* Is it still there? Once a second its names are looked at, too: for who may wait or go on for long. now_ns: monotonic.
 * EVBUS_OK, EVBUS_ESTALE. */
static inline int bus_check_names(struct evbus *bus, uint64_t now_ns, struct error *err)
{
    return retire_is_gone(&bus->memory, now_ns) ? bus_check(bus, err) : EVBUS_OK;
}

/* The calling thread's record, with a slot; made by its first call. */
int bus_thread(struct evbus *bus, struct bus_thread **out_thread, struct error *err);

/* Copies a caller's struct of this or an older version into one of ours, zeroes behind it; refuses fields of a newer one
 * that are set. given_size 0: as large as ours. */
int bus_take_struct(void *out, size_t our_size, const void *given, size_t given_size, const char *name,
                    struct error *err);

/* How long to spin before sleeping, ns; UINT64_MAX: never sleep. */
uint64_t bus_spin_ns(const struct evbus *bus);

/* A reader or member has received so many events in a row, and finds none now. After 16 or more, who spins leaves the lines alone for 4 us
 * before it polls again: a producer that is just writing the next event keeps them, and throughput gains half (measured); a single event is
 * not delayed by it. */
void bus_end_run(const struct evbus *bus, unsigned *inout_n_events);

#endif
