/* decimal.h: numbers as texts. Each event that goes out has a dozen of them (positions, lengths), and printf() takes ten times as long:
 * it was two thirds of what the bridge did for an event. */
#ifndef EVBUS_BRIDGE_DECIMAL_H
#define EVBUS_BRIDGE_DECIMAL_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define DECIMAL_MAX 20 /* digits of UINT64_MAX */

/* No sign, no leading zero, no NUL behind it. Returns the end. */
static inline char *decimal_put(char *to, uint64_t number)
{
    char digits[DECIMAL_MAX], *first = digits + DECIMAL_MAX;
    do {
        *--first = (char)('0' + number % 10);
        number /= 10;
    } while (number != 0);
    size_t n = (size_t)(digits + DECIMAL_MAX - first);
    memcpy(to, first, n);
    return to + n;
}

/* With leading zeros; n_digits of them, and no more of the number. */
static inline char *decimal_put_padded(char *to, uint64_t number, unsigned n_digits)
{
    for (unsigned i = n_digits; i-- > 0; number /= 10)
        to[i] = (char)('0' + number % 10);
    return to + n_digits;
}

#endif
