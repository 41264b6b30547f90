/* allocations.h: counts what the calling thread allocates, from count_allocations() on. For one file of a test's program: it
 * defines malloc(), or a sanitizer's hooks. */
#ifndef ALLOCATIONS_H
#define ALLOCATIONS_H

#include <stdlib.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define HAS_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define HAS_SANITIZER 1
#endif
#endif

static _Thread_local volatile unsigned n_allocations; /* malloc() is not expected to change it */

#ifdef HAS_SANITIZER
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

static void count_allocations(void)
{
    __sanitizer_install_malloc_and_free_hooks(on_malloc, on_free);
}
#else
void *__libc_malloc(size_t len);
void *__libc_calloc(size_t n, size_t len);
void *__libc_realloc(void *at, size_t len);

void *malloc(size_t len)
{
    n_allocations++;
    return __libc_malloc(len);
}

void *calloc(size_t n, size_t len)
{
    n_allocations++;
    return __libc_calloc(n, len);
}

void *realloc(void *at, size_t len)
{
    n_allocations++;
    return __libc_realloc(at, len);
}

static void count_allocations(void)
{
}
#endif

#endif
