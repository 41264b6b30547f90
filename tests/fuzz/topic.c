/* topic.c: the grammar of topics and patterns, and which topic a pattern fits, against the plainest code that says so.
 *
 * Input: a pattern, a line feed, a topic. */
#include "topic.h"

#include "fuzz.h"

enum { SEGMENTS = 64 };

/* A name in its pieces; as the grammar in topic.c's head says it, once more. */
struct pieces {
    char *text[SEGMENTS];
    int n;
};

static struct pieces cut(char *name)
{
    struct pieces pieces = {{NULL}, 0};
    for (char *at = name; at != NULL && pieces.n < SEGMENTS;) {
        char *dot = strchr(at, '.');
        pieces.text[pieces.n++] = at;
        if (dot != NULL)
            *dot++ = '\0';
        at = dot;
    }
    return pieces;
}

static bool is_word(const char *piece)
{
    return piece[0] >= 'a' && piece[0] <= 'z' &&
           strspn(piece, "abcdefghijklmnopqrstuvwxyz0123456789-") == strlen(piece);
}

static bool is_name(const struct pieces *pieces, bool is_pattern)
{
    bool is_open = is_pattern && strcmp(pieces->text[pieces->n - 1], "**") == 0;
    int n_words = is_open ? pieces->n - 1 : pieces->n;
    for (int i = 0; i < n_words; i++)
        if (!is_word(pieces->text[i]) && !(is_pattern && strcmp(pieces->text[i], "*") == 0))
            return false;
    return pieces->n <= 4 && (is_open || pieces->n >= 3);
}

static bool fits(const struct pieces *pattern, const struct pieces *topic)
{
    bool is_open = strcmp(pattern->text[pattern->n - 1], "**") == 0;
    int n_words = is_open ? pattern->n - 1 : pattern->n;
    if (is_open ? topic->n <= n_words : topic->n != n_words)
        return false;
    for (int i = 0; i < n_words; i++)
        if (strcmp(pattern->text[i], "*") != 0 && strcmp(pattern->text[i], topic->text[i]) != 0)
            return false;
    return true;
}

/* true: the grammar takes it, and so do we. */
static bool check(const char *name, bool is_pattern, struct pieces *out_pieces, char *scratch)
{
    struct error err = {""};
    int rc = is_pattern ? topic_pattern_check(name, &err) : topic_check(name, &err);
    strcpy(scratch, name);
    *out_pieces = cut(scratch);
    bool is_good = strlen(name) <= TOPIC_LEN_MAX && is_name(out_pieces, is_pattern);
    must(rc == (is_good ? EVBUS_OK : EVBUS_EINVAL), "%s %s: %d %s", is_pattern ? "pattern" : "topic", name, rc,
         err.text);
    must(is_good || err.text[0] != '\0', "%s: no message", name);
    return is_good;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    const uint8_t *feed = len > 0 ? memchr(data, '\n', len) : NULL;
    size_t pattern_len = feed != NULL ? (size_t)(feed - data) : len;
    size_t topic_at = feed != NULL ? pattern_len + 1 : len;
    char *pattern = fuzz_copy(data, pattern_len, true);
    char *topic = fuzz_copy(data + topic_at, len - topic_at, true);
    char *scratch = malloc(len + 2), *scratch_topic = malloc(len + 2);
    struct pieces pattern_pieces, topic_pieces;
    must(scratch != NULL && scratch_topic != NULL, "no memory");
    bool is_pattern = check(pattern, true, &pattern_pieces, scratch);
    bool is_topic = check(topic, false, &topic_pieces, scratch_topic);
    if (is_pattern && is_topic)
        must(topic_matches(pattern, topic) == fits(&pattern_pieces, &topic_pieces), "%s fits %s?", pattern, topic);
    if (is_topic) {
        char log[TOPIC_LEN_MAX + 1], wanted[TOPIC_LEN_MAX + 2];
        topic_log(topic, log);
        snprintf(wanted, sizeof wanted, "%s.%s", topic_pieces.text[0], topic_pieces.text[1]);
        must(strcmp(log, wanted) == 0, "the log of %s is %s", topic, log);
    }
    free(pattern);
    free(topic);
    free(scratch);
    free(scratch_topic);
    return 0;
}
