/* letters.c: a dead letter as text.
 *
 *     TIME STATE GROUP CAUSE TOPIC PLACE KEY DEADLETTERID replays ERROR      a line: what was said last stands at its end
 *
 * For programs an object with the letter in it, as it stands in its log: who reads lomash.dlq.* reads this. Raw CR and LF between
 * tokens of a payload become blanks, so that a line is a letter. */
#include "letters.h"
#include "output.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static const char *state_name(enum evbus_dead_letter_state state)
{
    static const char *const names[] = {"-", "open", "quarantined", "replayed", "discarded"};
    return (unsigned)state < sizeof names / sizeof names[0] ? names[state] : "unknown";
}

static void print_word(const char *text, size_t len)
{
    if (len == 0)
        (void)printf("-");
    else
        print_plain(text, len);
}

static void print_place(const struct evbus_dead_letter *letter)
{
    if (letter->stream != NULL) {
        print_plain(letter->stream, strlen(letter->stream));
        (void)printf("@");
        print_plain(letter->entry, strlen(letter->entry));
        return;
    }
    print_plain(letter->log, strlen(letter->log));
    (void)printf("/%" PRIu32 "@%" PRIu64, letter->partition, letter->position);
}

int letters_print_line(const struct evbus_dead_letter *letter)
{
    char when[32], id[37];
    const char *error = letter->error[0] != '\0' ? letter->error
                        : letter->n_attempts > 0 ? letter->attempts[letter->n_attempts - 1].error
                                                 : "";
    format_time(letter->at_ns, when);
    format_id(letter->id, id);
    (void)printf("%s %s %s %s ", when, state_name(letter->state), letter->group, letter->cause);
    print_plain(letter->topic, strlen(letter->topic));
    (void)printf(" ");
    print_place(letter);
    (void)printf(" ");
    print_word(letter->event->key, letter->event->key_len);
    (void)printf(" %s", id);
    if (letter->n_replays > 0)
        (void)printf(" replays=%" PRIu32, letter->n_replays);
    (void)printf(" ");
    print_word(error, strlen(error));
    (void)printf("\n");
    return 0;
}

static void print_field(const char *name)
{
    (void)printf("%-12s ", name);
}

static void print_text_field(const char *name, const char *text)
{
    print_field(name);
    print_word(text, strlen(text));
    (void)printf("\n");
}

static void print_attempts(const struct evbus_dead_letter *letter)
{
    char when[32];
    (void)printf("\nattempts:%s\n", letter->n_attempts == 0 ? " none is kept" : "");
    for (size_t i = 0; i < letter->n_attempts; ++i) {
        const struct evbus_dead_letter_attempt *attempt = &letter->attempts[i];
        format_time(attempt->at_ns, when);
        (void)printf("    %" PRIu32 "  %s  ", attempt->n, when);
        print_word(attempt->member, strlen(attempt->member));
        (void)printf("  %" PRIu64 " ms  %s  ", attempt->ms, attempt->cause);
        print_word(attempt->error, strlen(attempt->error));
        (void)printf("\n");
    }
}

static void print_versions(const struct evbus_delivery *event)
{
    for (size_t i = 0; i < event->n_versions; ++i) {
        char name[24];
        (void)snprintf(name, sizeof name, "payload %u.%u", event->versions[i].major, event->versions[i].minor);
        print_field(name);
        print_payload(event->versions[i].payload, event->versions[i].payload_len);
        (void)printf("\n");
    }
}

static void print_event(const struct evbus_delivery *event)
{
    char when[32], id[37];
    (void)printf("\n");
    format_id(event->id, id);
    print_text_field("eventId", id);
    format_time(event->timestamp_ns, when);
    print_text_field("published", when);
    print_text_field("by", event->service);
    print_field("key");
    print_word(event->key, event->key_len);
    (void)printf("\n");
    if (event->traceparent != NULL)
        print_text_field("traceparent", event->traceparent);
    if (event->correlation_id != NULL)
        print_text_field("correlation", event->correlation_id);
    if (event->causation_id != NULL)
        print_text_field("causation", event->causation_id);
    print_versions(event);
}

static void print_settled(const struct evbus_dead_letter *letter)
{
    char when[32];
    bool is_open = letter->state == EVBUS_LETTER_OPEN || letter->state == EVBUS_LETTER_QUARANTINED;
    if (letter->settled_ns == 0)
        return;
    format_time(letter->settled_ns, when);
    print_field(is_open ? "before" : "settled");
    (void)printf("%s by user ", when);
    print_word(letter->settled_user, strlen(letter->settled_user));
    (void)printf(", service ");
    print_word(letter->settled_service, strlen(letter->settled_service));
    (void)printf(", process %" PRId64 " on ", letter->settled_pid);
    print_word(letter->settled_host, strlen(letter->settled_host));
    (void)printf("\n");
    if (letter->settled_reason[0] != '\0')
        print_text_field("reason", letter->settled_reason);
}

int letters_print_all(const struct evbus_dead_letter *letter)
{
    char when[32], id[37];
    format_id(letter->id, id);
    format_time(letter->at_ns, when);
    print_text_field("deadLetterId", id);
    print_text_field("state", state_name(letter->state));
    print_text_field("group", letter->group);
    print_text_field("topic", letter->topic);
    print_field(letter->stream != NULL ? "entry at" : "event at");
    print_place(letter);
    (void)printf("\n");
    print_text_field("cause", letter->cause);
    if (letter->error[0] != '\0')
        print_text_field("error", letter->error);
    print_text_field("given up", when);
    print_field("replays");
    (void)printf("%" PRIu32 "\n", letter->n_replays);
    print_settled(letter);
    print_attempts(letter);
    print_event(letter->event);
    return 0;
}

static void print_settled_json(const struct evbus_dead_letter *letter)
{
    char when[32];
    if (letter->settled_ns == 0) {
        (void)printf("null");
        return;
    }
    format_time(letter->settled_ns, when);
    (void)printf("{\"at\":\"%s\",\"by\":{\"service\":", when);
    print_json(letter->settled_service, strlen(letter->settled_service));
    (void)printf(",\"user\":");
    print_json(letter->settled_user, strlen(letter->settled_user));
    (void)printf(",\"host\":");
    print_json(letter->settled_host, strlen(letter->settled_host));
    (void)printf(",\"pid\":%" PRId64 "},\"reason\":", letter->settled_pid);
    print_json(letter->settled_reason, strlen(letter->settled_reason));
    (void)printf("}");
}

int letters_print_json(const struct evbus_dead_letter *letter)
{
    char when[32];
    format_time(letter->at_ns, when);
    (void)printf("{\"state\":\"%s\",\"at\":\"%s\",\"replays\":%" PRIu32 ",\"key\":", state_name(letter->state), when,
                 letter->n_replays);
    print_json(letter->event->key, letter->event->key_len);
    (void)printf(",\"settled\":");
    print_settled_json(letter);
    (void)printf(",\"letter\":");
    print_payload(letter->json, letter->json_len);
    (void)printf("}\n");
    return 0;
}

int letters_print_text(const struct evbus_dead_letter *letter)
{
    print_payload(letter->json, letter->json_len);
    (void)printf("\n");
    return 0;
}

void letters_print_done(const struct evbus_dead_letter *letter, const char *what)
{
    char id[37];
    format_id(letter->id, id);
    (void)printf("%s %s %s ", what, id, letter->group);
    print_plain(letter->topic, strlen(letter->topic));
    (void)printf(" ");
    print_place(letter);
    (void)printf(" ");
    print_word(letter->event->key, letter->event->key_len);
    if (letter->skipped != NULL)
        (void)printf(": %s", letter->skipped);
    (void)printf("\n");
}

void letters_print_done_json(const struct evbus_dead_letter *letter, const char *what)
{
    char id[37], event_id[37];
    format_id(letter->id, id);
    format_id(letter->event->id, event_id);
    (void)printf("{\"what\":\"%s\",\"deadLetterId\":\"%s\",\"eventId\":\"%s\",\"group\":\"%s\",\"topic\":", what, id,
                 event_id, letter->group);
    print_json(letter->topic, strlen(letter->topic));
    (void)printf(",\"key\":");
    print_json(letter->event->key, letter->event->key_len);
    (void)printf(",\"replays\":%" PRIu32, letter->n_replays);
    if (letter->skipped != NULL) {
        (void)printf(",\"why\":");
        print_json(letter->skipped, strlen(letter->skipped));
    }
    (void)printf("}\n");
}
