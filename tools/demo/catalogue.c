/* catalogue.c: the demo's catalogue: the shipped one, so the ADR's 17 topics, producers and groups, with these changes
 * only:
 *
 *     groups.notification-service.retry    200 ms and 400 ms instead of 1 s and 10 s: nobody likes to wait in a demo
 *     here                                 which of the services live on this host, where there are two
 *     defaults.ring                        512 KiB instead of 1 MiB, and payload_max to fit: half the memory
 *     defaults.partitions                  of two hosts 2 instead of 4: two buses take no more than one
 *     topics.lomash.content.blog.published one more group, sitemap: only in the one that is applied while all runs */
#include "conductor.h"

#include <evbus/admin.h>

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

/* Steals value. */
static bool set(json_t *root, const char *object, const char *name, json_t *value)
{
    json_t *found = json_object_get(root, object);
    return json_object_set_new(json_is_object(found) ? found : NULL, name, value) == 0;
}

static json_t *here(const struct demo *demo)
{
    const char *const *name = demo->act->hosts[demo->host].here;
    json_t *names = name != NULL ? json_array() : json_pack("[s]", "*");
    for (; name != NULL && *name != NULL; name++)
        if (json_array_append_new(names, json_string(*name)) != 0) {
            json_decref(names);
            return NULL;
        }
    return names;
}

char *demo_catalogue(const struct demo *demo, bool has_sitemap)
{
    json_t *root = json_loads(evbus_shipped_catalogue(), 0, NULL);
    json_t *notification = json_object_get(json_object_get(root, "groups"), group_names[NOTIFICATION]);
    json_t *posts = json_object_get(json_object_get(root, "topics"), topic_names[POSTS]);
    char *text = NULL;
    bool is_good = json_object_set_new(root, "here", here(demo)) == 0 &&
                   set(root, "defaults", "ring", json_string("512KiB")) &&
                   set(root, "defaults", "payload_max", json_string("64KiB")) &&
                   set(root, "defaults", "partitions", json_integer(demo->act->n_partitions)) &&
                   json_object_set_new(notification, "retry", json_pack("[ss]", "200ms", "400ms")) == 0;
    if (is_good && has_sitemap)
        is_good = json_array_append_new(json_object_get(posts, "groups"), json_string(group_names[SITEMAP])) == 0;
    if (is_good)
        text = json_dumps(root, JSON_INDENT(2));
    if (text == NULL)
        complain("the shipped catalogue is not what it was when the demo was written");
    json_decref(root);
    return text;
}
