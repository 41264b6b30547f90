/* witness.c: the second witness of a death: a byte that is locked as long as its process lives.
 *
 * The first witness, the robust mutex of a slot, can be lost: by exec of a thread that is not the leader [B2], by
 * process_mrelease [B3], by a thread that has unmapped it [B7]. The kernel's word then stays "locked" for ever.
 *
 *   take     a number from a counter in shared memory (+ 1); open the bus's control object anew; lock the byte of that
 *            offset (F_OFD_SETLK; it lies beyond the end of the file, where nobody minds); map a page of it; close the
 *            descriptor
 *   ask      through another open file (F_OFD_GETLK): is that byte free? And then: is our own held?
 *
 * Why that is enough. An OFD lock belongs to an open file, and lives as long as anybody refers to that. A descriptor is
 * a bad keeper: closefrom(3) closes it under a living process, fork() hands it to a child that outlives its parent
 * [B4]. A mapping goes when the memory does: after the last thread of the process has ended, however that came, or at
 * exec, whichever thread calls it. MADV_DONTFORK keeps it from children; those that fork() makes while we have the
 * descriptor open wait for it. So a byte that is free means that no thread of its process will ever store anything
 * again; and since no number is given twice, that stays true for ever: whoever says it late says nothing wrong. A byte
 * that is held means nothing: a child of a raw clone() may have it, and then its slots stay as they are until that
 * ends. The descriptor that we ask with may be closed by closefrom(3) in another thread, and be another file's at the
 * next moment: there every byte is free. So our own, which we know to be held, is asked for last; found free, nothing
 * was proven.
 * Rules B2 B3 B4 B7. Checked by tests/model/dead.pml, tests/unit/test_witness.c and tests/crash/test_deaths.c. */
#include "witness.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define NUMBERS_MAX INT64_C(0x3fffffffffffffff) /* an offset is signed, and a lock has a length */
#define TRIES       64                          /* only damage makes a second one necessary */

/* No fork() while a descriptor or a mapping could be inherited with the lock. Of the process, as its threads are. */
static pthread_mutex_t opening = PTHREAD_MUTEX_INITIALIZER;

static void before_fork(void)
{
    pthread_mutex_lock(&opening);
}

static void after_fork(void)
{
    pthread_mutex_unlock(&opening);
}

static void watch_forks(void)
{
    pthread_atfork(before_fork, after_fork, after_fork);
}

static struct flock byte_of(uint64_t number)
{
    return (struct flock){.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = (off_t)number, .l_len = 1};
}

/* The byte of a number that nobody has had. */
static int lock_byte(int fd, const char *name, _Atomic uint64_t *numbers, uint64_t *out_number, struct error *err)
{
    for (int i = 0; i < TRIES; i++) {
        uint64_t number = atomic_fetch_add_explicit(numbers, 1, memory_order_relaxed) + 1;
        if (number < 1 || number > NUMBERS_MAX)
            return error_set(err, EVBUS_ECORRUPT, "/dev/shm%s: it says that %#" PRIx64 " processes have attached", name,
                             number);
        struct flock byte = byte_of(number);
        int rc;
        do
            rc = fcntl(fd, F_OFD_SETLK, &byte);
        while (rc != 0 && errno == EINTR);
        if (rc == 0) {
            *out_number = number;
            return EVBUS_OK;
        }
        if (errno != EAGAIN && errno != EACCES)
            return error_set(err, EVBUS_EIO,
                             "/dev/shm%s: cannot lock a byte: %s; is it a tmpfs, with a kernel that knows OFD locks?",
                             name, strerror(errno));
    }
    return error_set(err, EVBUS_EIO, "/dev/shm%s: somebody has locked %d bytes of it: see lslocks", name, TRIES);
}

int witness_open(struct witness *out_witness, const struct region *region, const char *name, _Atomic uint64_t *numbers,
                 struct error *err)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    struct witness witness = {.page = MAP_FAILED};
    int fd = -1;
    pthread_once(&once, watch_forks);
    size_t len = (size_t)sysconf(_SC_PAGESIZE);
    sigset_t all;
    sigset_t before;
    sigfillset(&all); /* a handler that forks would wait for us */
    sigdelset(&all, SIGTRAP);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_mutex_lock(&opening);
    int rc = region_reopen(region, name, &fd, err);
    if (rc == EVBUS_OK) {
        witness.page = mmap(NULL, len, PROT_READ, MAP_SHARED, fd, 0);
        if (witness.page == MAP_FAILED || madvise(witness.page, len, MADV_DONTFORK) != 0)
            rc = error_set(err, EVBUS_ENOSPC, "/dev/shm%s: cannot map a page: %s%s", name, strerror(errno),
                           error_mend(errno));
    }
    if (rc == EVBUS_OK)
        rc = lock_byte(fd, name, numbers, &witness.number, err);
    if (fd >= 0)
        close(fd);
    if (rc != EVBUS_OK && witness.page != MAP_FAILED)
        munmap(witness.page, len);
    pthread_mutex_unlock(&opening);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc == EVBUS_OK)
        *out_witness = witness;
    return rc;
}

void witness_close(struct witness *witness)
{
    if (witness->page != NULL)
        munmap(witness->page, (size_t)sysconf(_SC_PAGESIZE));
    *witness = (struct witness){0};
}

void witness_forget(struct witness *witness)
{
    witness->page = NULL;
}

struct witness_asked witness_ask(const struct witness *own, const struct region *region, const char *name)
{
    return (struct witness_asked){.fd = region_descriptor(region, name), .own = own->number};
}

void witness_thank(struct witness_asked *asked)
{
    if (asked->fd >= 0)
        close(asked->fd);
    asked->fd = -1;
}

/* F_UNLCK: nobody holds it; -1: it cannot be told. */
static int holder_of(int fd, uint64_t number)
{
    struct flock byte = byte_of(number);
    return fcntl(fd, F_OFD_GETLK, &byte) == 0 ? byte.l_type : -1;
}

bool witness_says_gone(const struct witness_asked *asked, uint64_t number)
{
    if (asked->fd < 0 || number < 1 || number > NUMBERS_MAX || number == asked->own)
        return false;
    return holder_of(asked->fd, number) == F_UNLCK && holder_of(asked->fd, asked->own) == F_WRLCK;
}
