/* redis_resolve.c: a host's addresses, without waiting for them.
 *
 * getaddrinfo() waits for name servers, up to tens of seconds, when the network is down, which is when a bridge
 * connects anew; meanwhile the bridge must lead, and answer its watchdog. It cannot be broken off. So a thread of its
 * own asks, once for each try; it writes its answer, then raises `is_done`, then makes the eventfd readable. Who
 * starts it and the thread both hold it, and whoever lets go last frees it: a try that was given up costs nobody
 * anything. An address in digits is answered at once, without a thread. */
#include "redis_resolve.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

struct redis_resolve {
    _Atomic int holders;
    _Atomic bool is_done;
    int fd;
    int error;
    struct addrinfo *addresses;
    char port[8];
    char host[];
};

static void let_go(struct redis_resolve *resolve)
{
    if (atomic_fetch_sub_explicit(&resolve->holders, 1, memory_order_acq_rel) > 1)
        return;
    if (resolve->addresses != NULL)
        freeaddrinfo(resolve->addresses);
    if (resolve->fd >= 0)
        close(resolve->fd);
    free(resolve);
}

static void ask(struct redis_resolve *resolve, int flags)
{
    const struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = flags};
    resolve->error = getaddrinfo(resolve->host, resolve->port, &hints, &resolve->addresses);
}

static void tell(struct redis_resolve *resolve)
{
    const uint64_t one = 1;
    atomic_store_explicit(&resolve->is_done, true, memory_order_release);
    if (write(resolve->fd, &one, sizeof one) < 0) /* an eventfd that nobody has written to takes it */
        abort();
}

static void *be_asker(void *context)
{
    struct redis_resolve *resolve = context;
    ask(resolve, AI_ADDRCONFIG | AI_NUMERICSERV);
    tell(resolve);
    let_go(resolve);
    return NULL;
}

/* Signals are for the main thread. */
static bool start_thread(struct redis_resolve *resolve)
{
    sigset_t all, before;
    pthread_attr_t attributes;
    pthread_t thread;
    if (pthread_attr_init(&attributes) != 0)
        return false;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    atomic_store_explicit(&resolve->holders, 2, memory_order_relaxed); /* pthread_create() orders it */
    bool is_started = pthread_create(&thread, &attributes, be_asker, resolve) == 0;
    if (!is_started)
        atomic_store_explicit(&resolve->holders, 1, memory_order_relaxed);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    return is_started;
}

struct redis_resolve *redis_resolve_start(const char *host, const char *port)
{
    size_t len = strlen(host);
    if (strlen(port) >= sizeof((struct redis_resolve *)0)->port)
        return NULL;
    struct redis_resolve *resolve = calloc(1, sizeof *resolve + len + 1);
    if (resolve == NULL)
        return NULL;
    memcpy(resolve->host, host, len + 1);
    memcpy(resolve->port, port, strlen(port) + 1);
    atomic_store_explicit(&resolve->holders, 1, memory_order_relaxed);
    resolve->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (resolve->fd < 0) {
        let_go(resolve);
        return NULL;
    }
    ask(resolve, AI_NUMERICHOST | AI_NUMERICSERV);
    if (resolve->error == 0)
        tell(resolve);
    else if (!start_thread(resolve)) {
        let_go(resolve);
        return NULL;
    }
    return resolve;
}

int redis_resolve_fd(const struct redis_resolve *resolve)
{
    return resolve->fd;
}

bool redis_resolve_take(struct redis_resolve *resolve, struct addrinfo **out_addresses, int *out_error)
{
    if (!atomic_load_explicit(&resolve->is_done, memory_order_acquire))
        return false;
    *out_addresses = resolve->addresses;
    *out_error = resolve->error;
    resolve->addresses = NULL;
    return true;
}

void redis_resolve_end(struct redis_resolve *resolve)
{
    if (resolve != NULL)
        let_go(resolve);
}
