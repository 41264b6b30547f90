/* redis_error.c: what a Redis' error means for us.
 *
 * An error begins with its name. Where a script could not go on, Redis 6.2 wraps it: "ERR Error running script (call
 * to f_...): @user_script:12: -OOM ..."; so a name behind a `-` counts, too. Nothing that is answered by an error has
 * been done: the script looks at all before it writes, and moves back what it must (append.lua). Checked by
 * tests/broker/test_redis_append.c and test_redis_away.c, each row by the Redis that says it. */
#include "redis_error.h"

#include <stdio.h>
#include <string.h>

static const struct redis_error table[] = {
    {"EVBUS-FENCED", BACKEND_FENCED, false, NULL},
    {"EVBUS-GAP", BACKEND_GAP, false, NULL},
    {"NOAUTH", BACKEND_REFUSED, true, "set user and password_file"},
    {"WRONGPASS", BACKEND_REFUSED, true, "look at user and password_file, and at ACL GETUSER there"},
    {"NOPERM", BACKEND_REFUSED, false, "give the user the rights in evbus-bridge.acl"},
    {"ERR The user executing the script", BACKEND_REFUSED, false, "give the user the rights in evbus-bridge.acl"},
    {"LOADING", BACKEND_REFUSED, true, "it reads its data: nothing to do but wait"},
    {"READONLY", BACKEND_REFUSED, true, "this is a replica; the bridge needs the master"},
    {"MASTERDOWN", BACKEND_REFUSED, true, "this is a replica without its master; the bridge needs the master"},
    {"OOM", BACKEND_REFUSED, false, "raise maxmemory there, or let the bridge trim more (trim_age)"},
    {"MISCONF", BACKEND_REFUSED, false, "it cannot save to its disk: look at its log"},
    {"NOREPLICAS", BACKEND_REFUSED, false, "it has fewer replicas than min-replicas-to-write"},
    {"BUSY", BACKEND_REFUSED, false, "a script of somebody's runs there too long: SCRIPT KILL ends it"},
    {"NOSCRIPT", BACKEND_REFUSED, false, "its scripts were flushed; ours is loaded again"},
    {"WRONGTYPE", BACKEND_REFUSED, false, "RENAME or DEL that key"},
    {"CLUSTERDOWN", BACKEND_REFUSED, true, "look at CLUSTER INFO there"},
    {"TRYAGAIN", BACKEND_REFUSED, false, NULL},
    {"MOVED", BACKEND_REFUSED, false,
     "in this Redis Cluster the log's slot is on another node: connect the bridge to that"},
    {"ASK", BACKEND_REFUSED, false, "the log's slot is just moving to another node of the Cluster"},
    {"CROSSSLOT", BACKEND_REFUSED, false, "on a Redis Cluster set layout = log"},
};

static const struct redis_error unknown = {"ERR", BACKEND_REFUSED, false, NULL};

static bool begins_so(const char *text, const char *name)
{
    size_t len = strlen(name);
    return strncmp(text, name, len) == 0 && (text[len] == ' ' || text[len] == '\0');
}

/* Where the error itself begins: what a script wraps around it is left out. */
static const char *inner(const char *text)
{
    if (strncmp(text, "ERR Error running script", 24) != 0)
        return text;
    const char *dash = strstr(text, ": -");
    return dash != NULL ? dash + 3 : text;
}

const struct redis_error *redis_error_find(const char *text)
{
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
        if (begins_so(inner(text), table[i].name))
            return &table[i];
    return &unknown;
}

void redis_error_tell(const char *text, char *why)
{
    const struct redis_error *error = redis_error_find(text);
    const char *from = inner(text);
    const char *script = strstr(from, " script: ");
    size_t len = script != NULL ? (size_t)(script - from) : strlen(from);
    while (len > 0 && (from[len - 1] == '.' || from[len - 1] == ',' || from[len - 1] == ' '))
        len--;
    snprintf(why, EVBUS_ERROR_MAX, "%.*s%s%s", (int)(len < 300 ? len : 300), from, error->mend != NULL ? "; " : "",
             error->mend != NULL ? error->mend : "");
}
