/* nearest.c: the name that was probably meant.
 *
 * Whoever mistypes a key, topic or group gets the name back that is fewest letters away: one letter added, dropped,
 * changed, or swapped with its neighbour counts 1 (Damerau's distance, in the variant that touches no letter twice).
 * More than a third of the letters off is no typing mistake, so nothing is proposed then.
 *
 *              p r o d u c e r s       row[i][j] = distance of the first i letters of one and j of the other:
 *            0 1 2 3 4 5 6 7 8 9       from above +1, from the left +1, from the corner +1 (or +0 if equal),
 *          p 1 0 1 2 ...               from two up and two left +1 if the last two letters are swapped:
 *          o 2 1 1 1 ...               three rows are enough
 *
 * Only on the way to an error message, so simple and slow. Checked by tests/unit/test_catalogue.c. */
#include "nearest.h"

#include <stdio.h>
#include <string.h>

enum { LETTERS_MAX = 127 }; /* longer names get no proposal */

static unsigned smaller(unsigned a, unsigned b)
{
    return a < b ? a : b;
}

static unsigned distance(const char *a, size_t a_len, const char *b, size_t b_len)
{
    unsigned row[3][LETTERS_MAX + 1] = {{0}};
    for (unsigned j = 0; j <= b_len; j++)
        row[0][j] = j;
    for (unsigned i = 1; i <= a_len; i++) {
        unsigned *now = row[i % 3], *before = row[(i + 2) % 3], *two_before = row[(i + 1) % 3];
        now[0] = i;
        for (unsigned j = 1; j <= b_len; j++) {
            now[j] = smaller(smaller(before[j], now[j - 1]) + 1, before[j - 1] + (a[i - 1] != b[j - 1]));
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                now[j] = smaller(now[j], two_before[j - 2] + 1);
        }
    }
    return row[a_len % 3][b_len];
}

void nearest_try(struct nearest *nearest, const char *candidate)
{
    size_t wanted_len = strlen(nearest->wanted), len = strlen(candidate);
    if (wanted_len > LETTERS_MAX || len > LETTERS_MAX)
        return;
    unsigned d = distance(nearest->wanted, wanted_len, candidate, len);
    if (d <= 1 + len / 3 && d < len && (nearest->name == NULL || d < nearest->distance)) {
        nearest->name = candidate;
        nearest->distance = d;
    }
}

const char *nearest_text(const struct nearest *nearest, char *buffer)
{
    buffer[0] = '\0';
    if (nearest->name != NULL)
        snprintf(buffer, NEAREST_TEXT_MAX, "; did you mean \"%s\"?", nearest->name);
    return buffer;
}
