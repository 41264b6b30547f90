/* content.c: content-service publishes two blog posts: one before anybody makes a sitemap, one when somebody does.
 *
 * It does the same both times. That a group was added in between it learns from nobody; only the demo's conductor
 * gives it a cue for the second post. */
#include "service.h"

#include <stdio.h>
#include <string.h>

#define LOOK_NS (10 * NS_PER_MS)

static const struct post {
    const char *slug;
    const char *title;
} posts[N_POSTS] = {
    {"how-we-season-oak", "How we season oak"},
    {"a-kitchen-for-a-narrow-room", "A kitchen for a narrow room"},
};

static bool publish_post(struct service *service, const struct post *post)
{
    char text[512];
    int len = snprintf(text, sizeof text, "{\"slug\":\"%s\",\"title\":\"%s\",\"author\":\"Lomash Wood\"}", post->slug,
                       post->title);
    return len > 0 && (size_t)len < sizeof text && service_publish(service, POSTS, post->slug, text, (size_t)len);
}

static bool publish(struct service *service)
{
    if (!publish_post(service, &posts[0]))
        return false;
    while (!atomic_load(&service->board->sitemap_runs))
        sleep_until(monotonic_ns() + LOOK_NS);
    return publish_post(service, &posts[1]);
}

const struct service_kind content_service = {
    .name = "content-service",
    .group = N_GROUPS,
    .publish = publish,
};
