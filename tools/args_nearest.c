/* args_nearest.c: what somebody meant who mistyped it. */
#include "args_nearest.h"

#include <string.h>

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* How many letters must be put in, taken out, changed or swapped with their neighbour to make a into b. */
static size_t distance(const char *a, const char *b)
{
    enum { LEN_MAX = 40 };
    size_t d[LEN_MAX + 1][LEN_MAX + 1], a_len = strlen(a), b_len = strlen(b);
    if (a_len > LEN_MAX || b_len > LEN_MAX)
        return LEN_MAX;
    for (size_t i = 0; i <= a_len; ++i)
        for (size_t j = 0; j <= b_len; ++j) {
            if (i == 0 || j == 0) {
                d[i][j] = i + j;
                continue;
            }
            d[i][j] = least(least(d[i - 1][j], d[i][j - 1]) + 1, d[i - 1][j - 1] + (a[i - 1] != b[j - 1]));
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                d[i][j] = least(d[i][j], d[i - 2][j - 2] + 1);
        }
    return d[a_len][b_len];
}

void args_nearest(const char *word, const char *candidate, const char **best, size_t *best_distance)
{
    size_t word_len = strlen(word), edits = distance(word, candidate);
    if (word_len >= 3 && strncmp(word, candidate, word_len) == 0)
        edits = 1; /* somebody abbreviates */
    if (edits <= 1 + word_len / 4 && edits < word_len && (*best == NULL || edits < *best_distance)) {
        *best = candidate;
        *best_distance = edits;
    }
}
