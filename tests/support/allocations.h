/* allocations.h: counts what the calling thread allocates, and what the process has not freed; lets the n-th allocation fail.
 * For one file of a test's program: it defines malloc() and its kin, so the C library and jansson call them, too. Under
 * ThreadSanitizer, which must be asked before anybody else, hooks count, and none fails. */
#ifndef ALLOCATIONS_H
#define ALLOCATIONS_H

#include "sanitizer.h"

#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>

static _Thread_local volatile unsigned n_allocations; /* malloc() is not expected to change it */

#if HAS_TSAN
#define CAN_FAIL_ALLOCATIONS 0
int __sanitizer_install_malloc_and_free_hooks(void (*)(const volatile void *, size_t), void (*)(const volatile void *));

static void on_malloc(const volatile void *at, size_t len)
{
    (void)at;
    (void)len;
    n_allocations++;
}

static void on_free(const volatile void *at)
{
    (void)at;
}

__attribute__((unused)) static void count_allocations(void)
{
    __sanitizer_install_malloc_and_free_hooks(on_malloc, on_free);
}
#else
#define CAN_FAIL_ALLOCATIONS 1
#if HAS_ASAN
#define REAL(name) __interceptor_##name
#else
#define REAL(name) __libc_##name
#endif
void *REAL(malloc)(size_t len);
void *REAL(calloc)(size_t n, size_t len);
void *REAL(realloc)(void *at, size_t len);
void *REAL(memalign)(size_t alignment, size_t len);
void REAL(free)(void *at);

/* They are called before a sanitizer's memory is there. */
#define BARE __attribute__((no_sanitize("address", "undefined")))

static _Atomic long n_unfreed;        /* blocks of all threads */
static _Atomic long allocations_left; /* of all threads, until one fails; 0: none does */

__attribute__((unused)) static void count_allocations(void)
{
}

#if HAS_ASAN /* does not survive that what it allocates itself in a new thread fails */
static pthread_t failing_thread;
#define MAY_FAIL() pthread_equal(failing_thread, pthread_self())
#else
#define MAY_FAIL() true
#endif

/* The n-th allocation from here on fails, whichever thread makes it (AddressSanitizer: this one); 0: none. false: the last one that was asked for has not
 * come. */
__attribute__((unused)) static bool fail_allocation(long n)
{
#if HAS_ASAN
    failing_thread = pthread_self();
#endif
    return atomic_exchange(&allocations_left, n) <= 0;
}

BARE static bool is_failing(void)
{
    n_allocations++;
    long left = MAY_FAIL() ? atomic_load(&allocations_left) : 0;
    while (left > 0 && !atomic_compare_exchange_weak(&allocations_left, &left, left == 1 ? -1 : left - 1))
        ;
    return left == 1;
}

BARE static void *allocated(void *at)
{
    if (at == NULL)
        errno = ENOMEM;
    else
        atomic_fetch_add(&n_unfreed, 1);
    return at;
}

BARE void *malloc(size_t len)
{
    return allocated(is_failing() ? NULL : REAL(malloc)(len));
}

BARE void *calloc(size_t n, size_t len)
{
    return allocated(is_failing() ? NULL : REAL(calloc)(n, len));
}

BARE void *realloc(void *at, size_t len)
{
    void *moved = is_failing() ? NULL : REAL(realloc)(at, len);
    if (at == NULL)
        return allocated(moved);
    if (moved == NULL && len != 0)
        errno = ENOMEM;
    if (moved == NULL && len == 0)
        atomic_fetch_sub(&n_unfreed, 1);
    return moved;
}

BARE void *memalign(size_t alignment, size_t len)
{
    return allocated(is_failing() ? NULL : REAL(memalign)(alignment, len));
}

BARE void *aligned_alloc(size_t alignment, size_t len)
{
    return memalign(alignment, len);
}

BARE int posix_memalign(void **out, size_t alignment, size_t len)
{
    void *at = memalign(alignment, len);
    if (at != NULL)
        *out = at;
    return at != NULL ? 0 : ENOMEM;
}

BARE void free(void *at)
{
    if (at != NULL)
        atomic_fetch_sub(&n_unfreed, 1);
    REAL(free)(at);
}
#endif

#endif
