/* cell.h: a cell's eight words between private memory and memory that others read or write meanwhile.
 *
 * In     word by word: a frame has just been built of pieces of several sizes, and a wider load of them would wait until they have
 *        left the store buffer. Written out, as a loop over atomics stays a loop. What was copied in one piece, two words at a time.
 * Out    two words at a time, one vector of SSE2 or NEON: each aligned word of it is loaded whole, as by a relaxed atomic, which C11
 *        has for no more than one word. ThreadSanitizer gets the atomics, or it would know nothing of them.
 * The order comes from the fences and the CASes around it (ring.c). */
#ifndef EVBUS_CELL_H
#define EVBUS_CELL_H

#include "layout.h"

#include <string.h>

#if defined(__SANITIZE_THREAD__)
#define CELL_BY_WORDS 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define CELL_BY_WORDS 1
#endif
#endif

/* Asks for a line that we are about to write: it comes while we do something else. */
static inline void cell_expect(const volatile void *line)
{
#if defined(__x86_64__)
    __asm__ volatile("prefetchw %0" : : "m"(*(const volatile char *)line)); /* gcc's builtin asks for it to read only */
#else
    __builtin_prefetch((const void *)(uintptr_t)line, 1);
#endif
}

static inline void cell_store(_Atomic uint64_t *to, const uint64_t *from)
{
    atomic_store_explicit(&to[0], from[0], memory_order_relaxed);
    atomic_store_explicit(&to[1], from[1], memory_order_relaxed);
    atomic_store_explicit(&to[2], from[2], memory_order_relaxed);
    atomic_store_explicit(&to[3], from[3], memory_order_relaxed);
    atomic_store_explicit(&to[4], from[4], memory_order_relaxed);
    atomic_store_explicit(&to[5], from[5], memory_order_relaxed);
    atomic_store_explicit(&to[6], from[6], memory_order_relaxed);
    atomic_store_explicit(&to[7], from[7], memory_order_relaxed);
}

/* Likewise, of bytes that were copied in one piece. */
static inline void cell_store_pairs(_Atomic uint64_t *to, const uint64_t *from)
{
#ifdef CELL_BY_WORDS
    cell_store(to, from);
#else
    typedef uint64_t pair __attribute__((vector_size(16), may_alias));
    volatile pair *at = (volatile pair *)(uintptr_t)to;
    pair a, b, c, d;
    memcpy(&a, &from[0], sizeof a);
    memcpy(&b, &from[2], sizeof b);
    memcpy(&c, &from[4], sizeof c);
    memcpy(&d, &from[6], sizeof d);
    at[0] = a;
    at[1] = b;
    at[2] = c;
    at[3] = d;
#endif
}

static inline void cell_load(uint64_t *to, const _Atomic uint64_t *from)
{
#ifdef CELL_BY_WORDS
    for (int i = 0; i < CELL_WORDS; i++)
        to[i] = atomic_load_explicit(&from[i], memory_order_relaxed);
#else
    typedef uint64_t pair __attribute__((vector_size(16), may_alias));
    const volatile pair *at = (const volatile pair *)(uintptr_t)from;
    pair a = at[0], b = at[1], c = at[2], d = at[3];
    memcpy(&to[0], &a, sizeof a);
    memcpy(&to[2], &b, sizeof b);
    memcpy(&to[4], &c, sizeof c);
    memcpy(&to[6], &d, sizeof d);
#endif
}
static_assert(CELL_WORDS == 8, "written out");

#endif
