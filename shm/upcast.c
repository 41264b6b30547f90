/* upcast.c: a payload of one major version made into one of the next, by functions of the consumer.
 *
 *     1.4  --1 -> 2-->  2.0  --2 -> 3-->  3.0      each result is looked at as if it were published: one JSON text, not too long
 *
 * They are a member's own and never in shared memory: two members of a group may have different ones, as old and new code run side
 * by side. They run in the thread that handles, before its handler, at each attempt anew: so they must be pure.
 * What an upcaster says it cannot do ends the event, as no other attempt could end otherwise; what the host cannot do now (ENOMEM,
 * EAGAIN) does not. Checked by tests/unit/test_upcast.c. */
#include "upcast.h"

#include "json.h"
#include "layout.h"
#include "topic.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct upcaster {
    char topic[NAME_BYTES]; /* "": every topic that has no other */
    uint16_t from_major;
    evbus_upcast *upcast;
    void *context;
};

struct upcasters {
    size_t n;
    struct upcaster list[];
};

static int check(const struct evbus_upcaster *given, size_t at, struct error *err)
{
    const struct evbus_upcaster *one = &given[at];
    struct error fault;
    if (one->upcast == NULL)
        return error_set(err, EVBUS_EINVAL, "options.upcasters[%zu].upcast is NULL", at);
    if (one->from_major == 0 || one->from_major == UINT16_MAX)
        return error_set(err, EVBUS_EINVAL, "options.upcasters[%zu].from_major is %u; 1 to 65534 are allowed", at,
                         one->from_major);
    if (one->topic != NULL && topic_check(one->topic, &fault) != EVBUS_OK)
        return error_set(err, EVBUS_EINVAL, "options.upcasters[%zu]: %s", at, fault.text);
    for (size_t k = 0; k < at; k++)
        if (given[k].from_major == one->from_major &&
            strcmp(given[k].topic != NULL ? given[k].topic : "", one->topic != NULL ? one->topic : "") == 0)
            return error_set(err, EVBUS_EINVAL, "options.upcasters[%zu] and [%zu] are both of major version %u of %s",
                             k, at, one->from_major, one->topic != NULL ? one->topic : "every topic");
    return EVBUS_OK;
}

int upcasters_make(const struct evbus_upcaster *given, size_t n, struct upcasters **out, struct error *err)
{
    if (n > UPCASTERS_MAX || given == NULL)
        return error_set(err, EVBUS_EINVAL, "options.upcasters: %zu upcasters; at most %d are allowed", n,
                         UPCASTERS_MAX);
    for (size_t i = 0; i < n; i++) {
        int rc = check(given, i, err);
        if (rc != EVBUS_OK)
            return rc;
    }
    struct upcasters *upcasters = calloc(1, sizeof *upcasters + n * sizeof upcasters->list[0]);
    if (upcasters == NULL)
        return error_no_memory(err, "upcasters");
    upcasters->n = n;
    for (size_t i = 0; i < n; i++) {
        struct upcaster *one = &upcasters->list[i];
        snprintf(one->topic, sizeof one->topic, "%s", given[i].topic != NULL ? given[i].topic : "");
        one->from_major = given[i].from_major;
        one->upcast = given[i].upcast;
        one->context = given[i].context;
    }
    *out = upcasters;
    return EVBUS_OK;
}

void upcasters_free(struct upcasters *upcasters)
{
    free(upcasters);
}

/* The topic's own, else that of every topic; NULL: there is none. */
static const struct upcaster *find(const struct upcasters *upcasters, const char *topic, uint16_t major)
{
    const struct upcaster *found = NULL;
    for (size_t i = 0; i < upcasters->n; i++) {
        const struct upcaster *one = &upcasters->list[i];
        bool is_own = strcmp(one->topic, topic) == 0;
        if (one->from_major == major && (is_own || (found == NULL && one->topic[0] == '\0')))
            found = one;
    }
    return found;
}

struct of_topic {
    const struct upcasters *upcasters;
    const char *topic;
};

static bool can_raise(const void *context, uint16_t major)
{
    const struct of_topic *of = context;
    return find(of->upcasters, of->topic, major) != NULL;
}

bool upcasters_choose(const struct upcasters *upcasters, const struct version_accepts *accepts, const char *topic,
                      const struct version *published, unsigned n_published, struct version_choice *out)
{
    struct of_topic of = {upcasters, topic};
    return version_choose(accepts, published, n_published, upcasters != NULL ? can_raise : NULL, &of, out);
}

/* One step. *out_payload is as upcasters_raise() has it. */
static int raise_once(const struct upcaster *one, const struct evbus_version *from, size_t payload_max,
                      char **out_payload, size_t *out_len, char why[EVBUS_ERROR_MAX + 1])
{
    char said[EVBUS_ERROR_MAX + 1] = "";
    struct json_fault fault;
    size_t len = 0;
    int before = errno;
    errno = 0;
    char *payload = one->upcast(one->context, from, &len, said);
    int number = errno;
    errno = before;
    said[EVBUS_ERROR_MAX] = '\0';
    if (payload == NULL && (number == ENOMEM || number == EAGAIN))
        return EVBUS_EAGAIN;
    int n = snprintf(why, EVBUS_ERROR_MAX + 1, "upcaster %u -> %u: ", from->major, from->major + 1);
    size_t room = (size_t)(EVBUS_ERROR_MAX + 1 - n);
    if (payload == NULL) {
        snprintf(why + n, room, "%.*s", (int)room - 1, said[0] != '\0' ? said : "it cannot, and does not say why");
        return EVBUS_EINVAL;
    }
    if (len == 0)
        len = strlen(payload);
    if (len > payload_max)
        snprintf(why + n, room, "its payload has %zu bytes; the catalogue's payload_max is %zu", len, payload_max);
    else if (!json_check(payload, len, &fault))
        snprintf(why + n, room, "its payload is not JSON: %s at byte %zu", fault.what, fault.at);
    else
        why[0] = '\0';
    char *ended = why[0] == '\0' ? realloc(payload, len + 1) : NULL;
    if (ended == NULL) {
        free(payload);
        return why[0] == '\0' ? EVBUS_EAGAIN : EVBUS_EINVAL;
    }
    ended[len] = '\0';
    *out_payload = ended;
    *out_len = len;
    return EVBUS_OK;
}

int upcasters_raise(const struct upcasters *upcasters, const char *topic, const struct evbus_version *from,
                    uint16_t to_major, size_t payload_max, char **out_payload, size_t *out_len,
                    char why[EVBUS_ERROR_MAX + 1])
{
    struct evbus_version at = *from;
    char *made = NULL;
    int rc = EVBUS_OK;
    while (at.major < to_major && rc == EVBUS_OK) {
        char *next = NULL;
        size_t len = 0;
        const struct upcaster *one = find(upcasters, topic, at.major);
        if (one == NULL) /* chosen by a name of its topic that has been scribbled on since */
            rc = EVBUS_EAGAIN;
        else
            rc = raise_once(one, &at, payload_max, &next, &len, why);
        free(made);
        made = next;
        at = (struct evbus_version){.major = (uint16_t)(at.major + 1), .payload = next, .payload_len = len};
    }
    if (rc != EVBUS_OK)
        return rc;
    *out_payload = made;
    *out_len = at.payload_len;
    return EVBUS_OK;
}
