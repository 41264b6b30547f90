/* fd.c: a descriptor that becomes readable when a reader may have something to read.
 *
 * An eventfd cannot be rung by another process that does not have it, so a thread of ours, `evbus-fd`, sleeps on a bell on
 * the reader's behalf and writes the eventfd.
 *
 *     reader                                   evbus-fd
 *     finds nothing: reads the eventfd         sleeps on `armed`
 *     armed = 1, wakes it                      sets its bits, full fence, looks from the reader's positions on
 *     polls                                    something, or its bell: writes the eventfd, armed = 0
 *
 * Nothing is lost: the look after the bits is the one of doorbell.c. Readable may be too often (a claim, a frame of another
 * topic), never too seldom. Checked by tests/unit/test_fd.c. */
#include "fd.h"

#include "burial.h"
#include "clock.h"
#include "futex.h"
#include "listener.h"
#include "retire.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <unistd.h>

enum { FD_IDLE = 0, FD_ARMED = 1, FD_STOP = 2 };

struct fd {
    struct memory *memory;
    struct fd_target target;
    int number;
    pthread_t thread;
    uint32_t slot;
    struct listener listener;
    _Atomic uint32_t state;   /* private futex */
    _Atomic uint32_t started; /* 1: `rc` is set */
    int rc;                   /* has it its places? */
    struct error err;
};

static bool is_ready(const struct fd *fd)
{
    if (retire_is_gone(fd->memory, clock_mono_ns()))
        return true;
    for (size_t i = 0; i < fd->target.n_cursors; i++)
        if (cursor_is_ready(&fd->target.cursors[i]))
            return true;
    return false;
}

static void watch(struct fd *fd)
{
    const struct slot *self = &fd->memory->control->slots[fd->slot];
    for (;;) {
        uint32_t state = atomic_load_explicit(&fd->state, memory_order_acquire);
        if (state == FD_STOP)
            return;
        if (state == FD_IDLE) {
            futex_wait(&fd->state, FD_IDLE, (struct timespec){.tv_sec = 3600});
            continue;
        }
        uint32_t bell = doorbell_read(self);
        listener_set(&fd->listener, fd->memory, fd->target.wanted);
        atomic_thread_fence(memory_order_seq_cst); /* edge DOORBELL, to: the thread that sleeps for the reader */
        bool ready = is_ready(fd);
        if (!ready) {
            struct futex_watch watches[2] = {{&fd->state, FD_ARMED}, {&self->bell, bell}};
            futex_wait_any(watches, 2, (struct timespec){.tv_nsec = 250000000});
            ready = is_ready(fd);
        }
        listener_clear(&fd->listener, fd->memory, fd->target.wanted);
        uint32_t armed = FD_ARMED;
        if (!ready)
            continue;
        eventfd_write(fd->number, 1); /* before we are idle: a drain in between reads it, or is done once more */
        atomic_compare_exchange_strong_explicit(&fd->state, &armed, FD_IDLE, memory_order_acq_rel,
                                                memory_order_relaxed);
    }
}

static void *thread_of(void *context)
{
    struct fd *fd = context;
    prctl(PR_SET_NAME, "evbus-fd");
    fd->rc = burial_take_slot(fd->memory, "evbus-fd", &fd->slot, &fd->err);
    bool has_slot = fd->rc == EVBUS_OK;
    if (has_slot)
        fd->rc = listener_join(&fd->listener, fd->memory, fd->slot, fd->target.wanted, &fd->err);
    atomic_store_explicit(&fd->started, 1, memory_order_release);
    futex_wake(&fd->started, 1);
    if (fd->rc == EVBUS_OK)
        watch(fd);
    if (has_slot)
        burial_leave_slot(fd->memory, fd->slot); /* with its places */
    return NULL;
}

int fd_start(struct fd **out_fd, struct memory *memory, struct fd_target target, struct error *err)
{
    struct fd *fd = calloc(1, sizeof *fd);
    if (fd == NULL)
        return error_no_memory(err, "a descriptor's thread");
    fd->memory = memory;
    fd->target = target;
    atomic_store_explicit(&fd->state, FD_ARMED, memory_order_relaxed);
    fd->number = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int number = fd->number < 0 ? errno : 0;
    if (number == 0) {
        sigset_t all;
        sigset_t before;
        sigfillset(&all); /* signals are for the host's own threads */
        pthread_sigmask(SIG_SETMASK, &all, &before);
        number = pthread_create(&fd->thread, NULL, thread_of, fd);
        pthread_sigmask(SIG_SETMASK, &before, NULL);
    }
    if (number != 0) {
        if (fd->number >= 0)
            close(fd->number);
        free(fd);
        return error_set(err, EVBUS_EIO, "cannot make a descriptor and its thread, evbus-fd: %s%s", strerror(number),
                         error_mend(number));
    }
    while (atomic_load_explicit(&fd->started, memory_order_acquire) == 0)
        futex_wait(&fd->started, 0, (struct timespec){.tv_sec = 1});
    if (fd->rc != EVBUS_OK) {
        int rc = fd->rc;
        *err = fd->err;
        fd_stop(fd, true);
        return rc;
    }
    *out_fd = fd;
    return EVBUS_OK;
}

int fd_number(const struct fd *fd)
{
    return fd->number;
}

void fd_arm(struct fd *fd)
{
    eventfd_t value;
    if (atomic_load_explicit(&fd->state, memory_order_acquire) != FD_IDLE)
        return;
    eventfd_read(fd->number, &value);
    atomic_store_explicit(&fd->state, FD_ARMED, memory_order_release);
    futex_wake(&fd->state, 1);
}

void fd_stop(struct fd *fd, bool alive)
{
    if (fd == NULL)
        return;
    if (alive) {
        atomic_store_explicit(&fd->state, FD_STOP, memory_order_release);
        futex_wake(&fd->state, 1);
        pthread_join(fd->thread, NULL);
    }
    close(fd->number);
    free(fd);
}
