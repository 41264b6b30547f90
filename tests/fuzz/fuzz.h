/* fuzz.h: what a target is, and how it says that it has found something.
 *
 * A target is one file with one function, which takes any bytes and returns; what must hold it checks by must(). With
 * -Dfuzz=true libFuzzer calls it with bytes of its own making, else replay.c with those of the corpus:
 * corpus/<target>/, one input a file. */
#ifndef FUZZ_H
#define FUZZ_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

/* Says what is wrong and aborts, when it is. */
__attribute__((format(printf, 2, 3))) static inline void must(bool holds, const char *format, ...)
{
    if (holds)
        return;
    va_list args;
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    abort();
}

/* A copy in memory of exactly its size, so that a sanitizer sees any step out of it; with a NUL behind it if asked. To
 * be freed. */
static inline void *fuzz_copy(const void *from, size_t len, bool with_nul)
{
    char *copy = malloc(len + with_nul > 0 ? len + with_nul : 1);
    if (copy == NULL)
        abort();
    if (len > 0)
        memcpy(copy, from, len);
    if (with_nul)
        copy[len] = '\0';
    return copy;
}

/* Reads all of it, so that a sanitizer sees what must not be read. */
static inline unsigned fuzz_read(const void *from, size_t len)
{
    static volatile unsigned sum;
    for (size_t i = 0; i < len; i++)
        sum += ((const unsigned char *)from)[i];
    return sum;
}

#endif
