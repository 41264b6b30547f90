/* bus.c: the handle, its threads, open and close.
 *
 *     evbus_open   memory, topics, a page that a fork wipes, a key for threads, the keeper's candidate
 *     a thread's   first call takes a slot and memory for frames: from then on nothing is allocated
 *     its end      the key's destructor settles an open claim and gives the slot back. Without one (SYS_exit, kill) the
 *                  kernel says that it is dead and somebody buries it
 *     evbus_close  ends the keeper and the closer's record. The memory stays mapped while any thread of the process has a
 *                  slot: its robust mutex lies there, and the kernel walks it when the thread ends [B7]. Only its owner
 *                  gives a slot back
 *     fork         the child has no mapping (MADV_DONTFORK) and sees the page `alive` as zero (MADV_WIPEONFORK, which works
 *                  without pthread_atfork, so for raw clone too): EVBUS_EFORKED [B8]
 * Checked by tests/unit/test_bus.c, tests/crash/test_threads.c. */
#include "bus.h"

#include "burial.h"
#include "clock.h"
#include "recover.h"
#include "retire.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <urcu/urcu-bp.h>

#define SPIN_DEFAULT_NS (20 * CLOCK_NS_PER_US)
#define BACK_NS         (10 * CLOCK_NS_PER_S) /* for somebody else who brings the bus back, or still has its old memory */
#define BACK_ROUND_NS   (10 * CLOCK_NS_PER_MS)
#define RUN_EVENTS      16
#define PAUSE_NS        (4 * CLOCK_NS_PER_US)

int bus_take_struct(void *out, size_t our_size, const void *given, size_t given_size, const char *name,
                    struct error *err)
{
    if (given_size == 0)
        given_size = our_size;
    if (given_size > 4096)
        return error_set(err, EVBUS_EINVAL, "%s.size is %zu: it must be sizeof the struct, or 0", name, given_size);
    memset(out, 0, our_size);
    memcpy(out, given, given_size < our_size ? given_size : our_size);
    for (size_t i = our_size; i < given_size; i++)
        if (((const unsigned char *)given)[i] != 0)
            return error_set(err, EVBUS_EINVAL, "%s sets a field that libevbus %s does not know: use a newer library",
                             name, evbus_version());
    return EVBUS_OK;
}

void bus_end_run(const struct evbus *bus, unsigned *inout_n_events)
{
    bool was_run = *inout_n_events >= RUN_EVENTS;
    *inout_n_events = 0;
    if (!was_run || bus_spin_ns(bus) <= PAUSE_NS)
        return;
    uint64_t until = clock_mono_ns() + PAUSE_NS;
    while (clock_mono_ns() < until)
        clock_relax();
}

uint64_t bus_spin_ns(const struct evbus *bus)
{
    switch (bus->wait) {
    case EVBUS_WAIT_SPIN:
        return UINT64_MAX;
    case EVBUS_WAIT_BLOCK:
        return 0;
    default:
        return bus->spin_ns;
    }
}

/* Whoever brings the bus back waits for our lock. */
static int stale(struct evbus *bus, struct error *err)
{
    if (bus->keeper == NULL) /* else its thread does, when it has ceased to write there */
        state_let_go(&bus->memory.state);
    return error_set(err, EVBUS_ESTALE, "bus %s was removed or made anew: close this handle and open again",
                     bus->memory.bus);
}

/* Apart from bus_check(), as begin_thread() from bus_thread(): what each call comes through is so short that the compiler puts it there. */
static __attribute__((noinline)) int refuse(struct evbus *bus, struct error *err)
{
    if (bus == NULL)
        return error_set(err, EVBUS_EINVAL, "the bus is NULL: evbus_open() makes it");
    if (!bus_is_alive(bus))
        return error_set(err, EVBUS_EFORKED, "this handle was opened by the parent process: open one after fork()");
    return stale(bus, err);
}

int bus_check(struct evbus *bus, struct error *err)
{
    return bus != NULL && bus_is_alive(bus) && !memory_is_retired(&bus->memory) ? EVBUS_OK : refuse(bus, err);
}

/* --- the end of a handle ------------------------------------------------------------------------------------------ */

static void free_bus(struct evbus *bus)
{
    bool alive = bus->alive == NULL || bus_is_alive(bus);
    if (bus->has_key)
        pthread_key_delete(bus->key);
    topics_close(bus->topics);
    if (!alive) { /* a forked child: the mappings are not there, and something else may be */
        bus->memory.control_region.base = NULL;
        witness_forget(&bus->memory.witness);
        state_forget(&bus->memory.state);
        for (uint32_t i = 0; i < memory_n_logs(&bus->memory); i++)
            bus->memory.logs[i].region.base = NULL;
    }
    memory_close(&bus->memory);
    if (bus->alive != NULL)
        munmap((void *)(uintptr_t)bus->alive, 1);
    free(bus->catalogue_text);
    free(bus->stat_rows);
    pthread_mutex_destroy(&bus->admin_mutex);
    pthread_mutex_destroy(&bus->log.mutex);
    free(bus);
}

static void drop(struct evbus *bus)
{
    if (atomic_fetch_sub_explicit(&bus->refs, 1, memory_order_acq_rel) == 1)
        free_bus(bus);
}

/* By the thread itself: the key's destructor, or evbus_close(). */
static void end_thread(void *context)
{
    struct bus_thread *thread = context;
    struct evbus *bus = thread->bus;
    if (bus_is_alive(bus) && thread->claim.slot != 0) {
        ring_abandon(&thread->claim);
        burial_leave_slot(&bus->memory, thread->claim.slot);
    }
    uuid7_close(&thread->uuid);
    free(thread->frame);
    free(thread);
    drop(bus);
}

EVBUS_API void evbus_close(struct evbus *bus)
{
    if (bus == NULL)
        return;
    if (bus_is_alive(bus))
        keeper_stop(bus->keeper);
    struct bus_thread *thread = pthread_getspecific(bus->key);
    if (thread != NULL) {
        pthread_setspecific(bus->key, NULL);
        end_thread(thread);
    }
    drop(bus);
}

/* --- a thread ------------------------------------------------------------------------------------------------------ */

static __attribute__((noinline)) int begin_thread(struct evbus *bus, struct bus_thread **out_thread, struct error *err)
{
    struct bus_thread *thread = calloc(1, sizeof *thread);
    if (thread == NULL)
        return error_no_memory(err, "a thread's record");
    thread->bus = bus;
    thread->err = error_of_thread();
    thread->wait = (struct partition_wait){.spin_ns = bus_spin_ns(bus), .has_points = true, .memory = &bus->memory};
    thread->frame = malloc((size_t)FRAME_CELLS_MAX *
                           CELL_BYTES); /* of any log, also one that is added; untouched pages cost nothing */
    int rc = EVBUS_OK;
    int number = 0;
    if (thread->frame == NULL)
        rc = error_no_memory(err, "a frame of %u cells", FRAME_CELLS_MAX);
    else
        rc = topics_enter_thread(err);
    if (rc == EVBUS_OK)
        rc = burial_take_slot(&bus->memory, bus->service, &thread->claim.slot, err);
    if (rc == EVBUS_OK && (number = pthread_setspecific(bus->key, thread)) != 0) {
        burial_leave_slot(&bus->memory, thread->claim.slot);
        rc = error_no_memory(err, "a thread's place");
    }
    if (rc != EVBUS_OK) {
        free(thread->frame);
        free(thread);
        return rc;
    }
    atomic_fetch_add_explicit(&bus->refs, 1, memory_order_relaxed);
    thread->number = atomic_fetch_add_explicit(&bus->n_threads, 1, memory_order_relaxed) + 1;
    *out_thread = thread;
    return EVBUS_OK;
}

int bus_thread(struct evbus *bus, struct bus_thread **out_thread, struct error *err)
{
    struct bus_thread *thread = pthread_getspecific(bus->key);
    if (thread == NULL)
        return begin_thread(bus, out_thread, err);
    *out_thread = thread;
    return EVBUS_OK;
}

/* --- open ---------------------------------------------------------------------------------------------------------- */

static void protect_rcu_from_fork(void)
{
    pthread_atfork(urcu_bp_before_fork, urcu_bp_after_fork_parent, urcu_bp_after_fork_child);
}

static int make_alive_page(struct evbus *bus, struct error *err)
{
    void *page = mmap(NULL, 1, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED || madvise(page, (size_t)sysconf(_SC_PAGESIZE), MADV_WIPEONFORK) != 0) {
        int rc = error_set(err, EVBUS_EIO, "a page that fork() wipes (Linux 4.14): %s%s", strerror(errno),
                           error_mend(errno));
        if (page != MAP_FAILED)
            munmap(page, 1);
        return rc;
    }
    *(uint8_t *)page = 1;
    bus->alive = page;
    return EVBUS_OK;
}

/* Our id on this bus, under which readers find our name. */
static void register_publisher(struct evbus *bus)
{
    struct control *control = bus->memory.control;
    uint32_t id = atomic_fetch_add_explicit(&control->publishers, 1, memory_order_relaxed) + 1;
    struct publisher *publisher = &control->publisher_names[id % PUBLISHERS_MAX];
    uint64_t name[SERVICE_BYTES / 8];
    memcpy(name, bus->service, sizeof name);
    atomic_store_explicit(&publisher->id, 0, memory_order_relaxed);
    atomic_thread_fence(memory_order_release);
    for (size_t i = 0; i < SERVICE_BYTES / 8; i++)
        atomic_store_explicit(&publisher->service[i], name[i], memory_order_relaxed);
    atomic_store_explicit(&publisher->id, id, memory_order_release); /* edge NAME, from: the publisher's name */
    bus->publisher = id;
}

static int prepare(struct evbus *bus, const struct evbus_options *options, struct error *err)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, protect_rcu_from_fork);
    const char *service = bus->service[0] != '\0' ? bus->service : NULL;
    int rc = topics_open(&bus->topics, &bus->memory, service, err);
    if (rc == EVBUS_OK)
        rc = make_alive_page(bus, err);
    if (rc != EVBUS_OK)
        return rc;
    int number = pthread_key_create(&bus->key, end_thread);
    if (number != 0)
        return error_set(err, EVBUS_ELIMIT, "no thread-specific key is left in this process (%s): close other handles",
                         strerror(number));
    bus->has_key = true;
    if (service != NULL)
        register_publisher(bus);
    burial_ask_all(&bus->memory); /* all who knew this bus may have died [B10] */
    burial_sweep(&bus->memory);
    if (options->keeper == EVBUS_KEEPER_VOLUNTEER)
        rc = keeper_start(&bus->keeper, &bus->memory, bus->service, bus->wait != EVBUS_WAIT_BLOCK ? bus->spin_ns : 0,
                          &bus->log, err);
    return rc;
}

/* A bus that has lost its memory comes back from its folder. Of several who come at the same time one does that, the others wait. */
static int open_memory(struct evbus *bus, const char *name, struct error *err)
{
    uint64_t deadline = clock_mono_ns() + BACK_NS;
    for (;;) {
        struct error why = {""};
        int rc = memory_open(&bus->memory, name, err);
        if (rc != EVBUS_ENOBUS && rc != EVBUS_ESTALE && rc != EVBUS_EBUSY)
            return rc;
        int back = recover_bus(name, &bus->log, &why);
        if (back == EVBUS_ENOTFOUND && rc != EVBUS_EBUSY)
            return rc; /* as memory_open() says */
        if (back == EVBUS_ENOTFOUND)
            back = EVBUS_EBUSY; /* its maker has the folder's lock for a moment longer */
        if (back != EVBUS_OK && ((back != EVBUS_EBUSY && back != EVBUS_EDUPLICATE) || clock_mono_ns() >= deadline)) {
            *err = why;
            return back;
        }
        if (back != EVBUS_OK)
            nanosleep(&(struct timespec){.tv_nsec = BACK_ROUND_NS}, NULL);
    }
}

static int take_service(struct evbus *bus, const char *service, struct error *err)
{
    if (service == NULL)
        service = getenv("EVBUS_SERVICE");
    if (service == NULL)
        return EVBUS_OK;
    size_t len = strlen(service);
    if (len < 1 || len >= SERVICE_BYTES)
        return error_set(err, EVBUS_EINVAL, "options.service has %zu bytes; 1..%d are allowed", len, SERVICE_BYTES - 1);
    if (strspn(service, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.") != len)
        return error_set(err, EVBUS_EINVAL, "options.service is \"%s\": letters, digits and - _ . are allowed",
                         service);
    memcpy(bus->service, service, len);
    return EVBUS_OK;
}

EVBUS_API int evbus_open(struct evbus **out_bus, const struct evbus_options *given)
{
    struct error *err = error_of_thread();
    struct evbus_options options = {0};
    int rc = given == NULL ? EVBUS_OK
                           : bus_take_struct(&options, sizeof options, given, given->size, "struct evbus_options", err);
    if (rc != EVBUS_OK)
        return rc;
    if (out_bus == NULL)
        return error_set(err, EVBUS_EINVAL, "out_bus is NULL");
    if ((unsigned)options.wait > EVBUS_WAIT_BLOCK || (unsigned)options.keeper > EVBUS_KEEPER_NEVER ||
        (unsigned)options.log_level > EVBUS_LOG_DEBUG)
        return error_set(err, EVBUS_EINVAL,
                         "options.wait, .keeper or .log_level has a value that its enum does not have");
    const char *name = memory_bus_name(options.bus);
    struct evbus *bus = calloc(1, sizeof *bus);
    if (bus == NULL)
        return error_no_memory(err, "a handle");
    bus->memory.control_region = REGION_NONE;
    bus->wait = options.wait;
    bus->spin_ns = options.spin_ns;
    bus->hook = options.hook;
    bus->hook_context = options.hook_context;
    if (bus->spin_ns == 0 && sysconf(_SC_NPROCESSORS_ONLN) > 1)
        bus->spin_ns = SPIN_DEFAULT_NS;
    atomic_store_explicit(&bus->refs, 1, memory_order_relaxed);
    pthread_mutex_init(&bus->admin_mutex, NULL);
    log_init(&bus->log, options.log, options.log_context, options.log_level);
    rc = take_service(bus, options.service, err);
    if (rc == EVBUS_OK)
        rc = open_memory(bus, name, err);
    if (rc == EVBUS_OK)
        rc = prepare(bus, &options, err);
    if (rc != EVBUS_OK) {
        free_bus(bus);
        return rc;
    }
    *out_bus = bus;
    return EVBUS_OK;
}
